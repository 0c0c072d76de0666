import { expect, test } from "vitest";

import { begun, changed, closed, redone, undone } from "./history";

test("changes are undone and redone one after the other", () => {
  const history = changed(changed(begun("a"), "b"), "c");
  const back = undone(undone(history));
  expect([back.present, undone(back).present]).toEqual(["a", "a"]);
  expect([redone(back).present, redone(redone(redone(back))).present]).toEqual(["b", "c"]);
});

test("a change after undoing ends what was undone", () => {
  const history = changed(undone(changed(begun("a"), "b")), "x");
  expect(redone(history)).toBe(history);
  expect(undone(history).present).toBe("a");
});

test("changes of one gesture are undone together, those of the next by themselves", () => {
  let history = begun(0);
  for (const value of [1, 2, 3]) history = changed(history, value, "drag");
  history = closed(history);
  for (const value of [4, 5]) history = changed(history, value, "drag");
  expect(undone(history).present).toBe(3);
  expect(undone(undone(history)).present).toBe(0);
});

test("changes without a tag stand alone, and what is the same is no change", () => {
  const history = changed(changed(begun(0), 1), 2);
  expect(undone(history).present).toBe(1);
  expect(changed(history, 2)).toBe(history);
});
