import { expect, test } from "vitest";

import { EVERYTHING, placeOf, queryOf, searchOf } from "./place";

test("an address and a place are the same in both directions", () => {
  const place = { ...EVERYTHING, q: 'apple sampler:"euler a" 你&=', board: "b", starred: true, image: "i", compare: ["a", "b"] };
  expect(placeOf(searchOf(place))).toEqual(place);
  expect(searchOf(EVERYTHING)).toBe("");
  expect(placeOf("")).toEqual(EVERYTHING);
});

test("what no address of ours says is left out", () => {
  expect(placeOf("?compare=a&starred=yes&odd=1")).toEqual(EVERYTHING);
});

test("what is opened does not change what is listed", () => {
  expect(queryOf({ ...EVERYTHING, q: "  cat ", image: "x", compare: ["a", "b"] })).toEqual({ q: "cat" });
  expect(queryOf({ ...EVERYTHING, trash: true, board: "b", job: "j", starred: true })).toEqual({ deleted: true, board: "b", job: "j", starred: true });
});
