import { expect, test } from "vitest";

import { cellAt, written } from "./grid";

test("an axis without a name or values is none", () => {
  expect(written({ name: "", values: "1,2" })).toBeNull();
  expect(written({ name: "steps", values: " " })).toBeNull();
  expect(written({ name: "steps", values: "10,20" })).toBe("steps=10,20");
});

test("a cell is found by its place, in whichever order they are made", () => {
  const axis = { title: "", labels: [] };
  const grid = { x: axis, y: axis, z: axis, cells: [[1, 0, 0], [0, 0, 0]].map(([x = 0, y = 0, z = 0]) => ({ x, y, z, fields: {} })) };
  expect(cellAt(grid, 0, 0, 0)).toBe(1);
  expect(cellAt(grid, 1, 0, 0)).toBe(0);
  expect(cellAt(grid, 1, 1, 0)).toBeNull();
});
