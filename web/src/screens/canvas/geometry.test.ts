import { expect, test } from "vitest";

import { around, dragged, draggedFrame, fitted, framed, gripAt, intersection, spanned, toCanvas, toWindow, zoomed } from "./geometry";

const BOX = { x: 10, y: 20, width: 100, height: 50 };

test("boxes meet, or do not", () => {
  expect(intersection(BOX, { x: 60, y: 0, width: 100, height: 40 })).toEqual({ x: 60, y: 20, width: 50, height: 20 });
  expect(intersection(BOX, { x: 110, y: 20, width: 5, height: 5 })).toBeNull();
  expect(around([BOX, { x: -5, y: 60, width: 10, height: 40 }])).toEqual({ x: -5, y: 20, width: 115, height: 80 });
  expect(around([])).toBeNull();
  expect(spanned({ x: 5, y: 9 }, { x: 2, y: 1 })).toEqual({ x: 2, y: 1, width: 3, height: 8 });
});

test("a frame lies at steps of eight, and is as large as a model can make", () => {
  expect(framed({ x: 3, y: -5, width: 130, height: 20 })).toEqual({ x: 0, y: -8, width: 128, height: 64 });
  expect(framed({ x: 4, y: 12, width: 9999, height: 131.9 })).toEqual({ x: 8, y: 16, width: 2048, height: 128 });
});

test("edges and corners are taken hold of within reach", () => {
  expect(gripAt(BOX, { x: 12, y: 18 }, 4)).toBe("nw");
  expect(gripAt(BOX, { x: 111, y: 45 }, 4)).toBe("e");
  expect(gripAt(BOX, { x: 60, y: 72 }, 4)).toBe("s");
  expect(gripAt(BOX, { x: 60, y: 45 }, 4)).toBe("inside");
  expect(gripAt(BOX, { x: 60, y: 80 }, 4)).toBeNull();
});

test("a dragged edge leaves the opposite one where it is", () => {
  expect(dragged(BOX, "nw", 10, 5)).toEqual({ x: 20, y: 25, width: 90, height: 45 });
  expect(dragged(BOX, "w", 500, 0, 16)).toEqual({ x: 94, y: 20, width: 16, height: 50 });
  expect(dragged(BOX, "se", -500, 7, 16)).toEqual({ x: 10, y: 20, width: 16, height: 57 });
  expect(dragged(BOX, "inside", 1, 2)).toEqual({ x: 11, y: 22, width: 100, height: 50 });
});

test("a dragged frame goes in steps of eight and keeps its other edges", () => {
  const frame = { x: 0, y: 0, width: 128, height: 128 };
  expect(draggedFrame(frame, "inside", 13, -3)).toEqual({ x: 16, y: 0, width: 128, height: 128 });
  expect(draggedFrame(frame, "w", 100, 0)).toEqual({ x: 64, y: 0, width: 64, height: 128 });
  expect(draggedFrame(frame, "s", 0, 9999)).toEqual({ x: 0, y: 0, width: 128, height: 2048 });
  expect(draggedFrame(frame, "nw", -60, -20)).toEqual({ x: -56, y: -16, width: 184, height: 144 });
});

test("zooming keeps what lies under the pointer there", () => {
  const view = { x: 30, y: -10, scale: 2 };
  const at = { x: 200, y: 100 };
  const before = toCanvas(view, at);
  const after = zoomed(view, 1.5, at);
  expect(after.scale).toBe(3);
  expect(toWindow(after, before)).toEqual(at);
  expect(zoomed(view, 1e9, at).scale).toBe(32);
  expect(zoomed(view, 1e-9, at).scale).toBe(0.05);
});

test("what is looked at lies in the middle and fits", () => {
  const view = fitted({ x: 100, y: 100, width: 400, height: 100 }, { width: 500, height: 500 }, 0.2);
  expect(view.scale).toBe(1);
  expect(toWindow(view, { x: 300, y: 150 })).toEqual({ x: 250, y: 250 });
});
