import { expect, test } from "vitest";

import { between, extended, followed, MOST, moved, NOTHING, target, toggled } from "./selection";

test("an image is selected and let go", () => {
  const one = toggled(NOTHING, "a", 3);
  expect([...one.ids]).toEqual(["a"]);
  expect([one.active, one.anchor]).toEqual([3, 3]);
  expect([...toggled(toggled(one, "b", 5), "a", 3).ids]).toEqual(["b"]);
});

test("shift selects from where one stood, in both directions", () => {
  expect(between(2, 4)).toEqual([2, 3, 4]);
  expect(between(4, 2)).toEqual([4, 3, 2]);
  const start = moved(toggled(NOTHING, "x", 9), 2, "c");
  const first = extended(start, ["c", "d"], 3, "d");
  expect([[...first.ids], first.active, first.anchor]).toEqual([["c", "d"], 3, 2]);
  expect(extended(first, ["b"], 1, "b").anchor).toBe(2);
  expect(extended(NOTHING, ["b"], 1, "b").anchor).toBe(1);
});

test("where one stands goes along with its image", () => {
  const list = (ids: string[], settled = true) => ({ total: ids.length, settled, at: (at: number) => (ids[at] === undefined ? undefined : { id: ids[at] }), find: (id: string) => ids.indexOf(id) });
  const on = moved(NOTHING, 1, "b");
  expect(followed(on, list(["a", "b"]))).toBe(on);
  expect(followed(NOTHING, list(["a"]))).toBe(NOTHING);
  const shifted = followed(on, list(["new", "a", "b"]));
  expect([shifted.active, shifted.activeId, shifted.anchor, shifted.anchorId]).toEqual([2, "b", 2, "b"]);
  // Between two pages it is nowhere for a moment; once it is gone, the next one is stood on.
  expect(followed(on, list(["new", "a"], false))).toBe(on);
  expect(followed(on, list(["a", "c"])).activeId).toBe("c");
  expect(followed(on, list(["a"]))).toMatchObject({ active: 0, activeId: "" });
  expect(followed(moved(NOTHING, 0, ""), list(["a"])).activeId).toBe("a");
  expect(followed(on, list([]))).toEqual(NOTHING);
});

test("no more are selected than the server takes", () => {
  const ids = Array.from({ length: MOST + 5 }, (_, at) => String(at));
  const all = extended(NOTHING, ids, 0, "0");
  expect(all.ids.size).toBe(MOST);
  expect(toggled(all, "one more", 1).ids.size).toBe(MOST);
  expect(between(0, MOST + 50)).toHaveLength(MOST);
});

test("keys lead through the grid and not out of it", () => {
  // Ten images in rows of four, two rows high.
  const go = (key: string, from: number) => target(key, from, 4, 2, 10);
  expect([go("ArrowRight", 0), go("ArrowLeft", 0), go("ArrowRight", 9)]).toEqual([1, 0, 9]);
  expect([go("ArrowDown", 1), go("ArrowUp", 5), go("ArrowUp", 2)]).toEqual([5, 1, 2]);
  expect([go("ArrowDown", 7), go("ArrowDown", 8)]).toEqual([9, 8]);
  expect([go("PageDown", 0), go("PageUp", 9), go("Home", 5), go("End", 5)]).toEqual([8, 1, 0, 9]);
  expect([go("ArrowDown", -1), go("a", 3), target("Home", 0, 4, 2, 0)]).toEqual([0, null, null]);
});
