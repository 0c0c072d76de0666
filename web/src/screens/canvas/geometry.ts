/** Places on the canvas: all in pixels of the canvas, of which a view shows a part. */
export interface Point {
  x: number;
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

export interface Box extends Point, Size {}

/** What a window shows: a point of the canvas is at `scale` times itself plus x, y. */
export interface View extends Point {
  scale: number;
}

/** Models make images in steps of so many pixels. */
export const STEP = 8;
export const LEAST_SIDE = 64;
export const MOST_SIDE = 2048;
const LEAST_SCALE = 0.05;
const MOST_SCALE = 32;

export type Grip = "inside" | "n" | "s" | "e" | "w" | "ne" | "nw" | "se" | "sw";

export function snap(value: number, step = STEP): number {
  return Math.round(value / step) * step;
}

function between(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

/** A side that a model can make. */
export function side(value: number): number {
  return between(snap(value), LEAST_SIDE, MOST_SIDE);
}

/** A frame at steps of eight pixels. */
export function framed(box: Box): Box {
  return { x: snap(box.x), y: snap(box.y), width: side(box.width), height: side(box.height) };
}

export function moved<T extends Point>(place: T, dx: number, dy: number): T {
  return { ...place, x: place.x + dx, y: place.y + dy };
}

export function intersection(a: Box, b: Box): Box | null {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.min(a.x + a.width, b.x + b.width) - x;
  const height = Math.min(a.y + a.height, b.y + b.height) - y;
  return width > 0 && height > 0 ? { x, y, width, height } : null;
}

/** The smallest box around several; null around none. */
export function around(boxes: readonly Box[]): Box | null {
  if (boxes.length === 0) return null;
  const x = Math.min(...boxes.map((box) => box.x));
  const y = Math.min(...boxes.map((box) => box.y));
  const right = Math.max(...boxes.map((box) => box.x + box.width));
  const bottom = Math.max(...boxes.map((box) => box.y + box.height));
  return { x, y, width: right - x, height: bottom - y };
}

export function holds(box: Box, point: Point): boolean {
  return point.x >= box.x && point.y >= box.y && point.x < box.x + box.width && point.y < box.y + box.height;
}

/** The box between two corners. */
export function spanned(a: Point, b: Point): Box {
  return { x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), width: Math.abs(a.x - b.x), height: Math.abs(a.y - b.y) };
}

export function equal(a: Box, b: Box): boolean {
  return a.x === b.x && a.y === b.y && a.width === b.width && a.height === b.height;
}

/** Which part of a box a point takes hold of: an edge or a corner within `reach`, or the inside; null beside it. */
export function gripAt(box: Box, point: Point, reach: number): Grip | null {
  const wide = { x: box.x - reach, y: box.y - reach, width: box.width + 2 * reach, height: box.height + 2 * reach };
  if (!holds(wide, point)) return null;
  const down = near(point.y, box.y, box.height, reach, "n", "s");
  const across = near(point.x, box.x, box.width, reach, "w", "e");
  const grip = `${down}${across}`;
  return grip === "" ? "inside" : (grip as Grip);
}

function near(value: number, start: number, length: number, reach: number, first: string, last: string): string {
  if (Math.abs(value - start) <= reach) return first;
  return Math.abs(value - start - length) <= reach ? last : "";
}

/** A box after one of its edges or corners, or all of it, was dragged so far; no side below `least`. */
export function dragged(box: Box, grip: Grip, dx: number, dy: number, least = 1): Box {
  if (grip === "inside") return moved(box, dx, dy);
  let { x, y, width, height } = box;
  if (grip.includes("e")) width = Math.max(width + dx, least);
  if (grip.includes("s")) height = Math.max(height + dy, least);
  if (grip.includes("w")) {
    const shift = Math.min(dx, width - least);
    x += shift;
    width -= shift;
  }
  if (grip.includes("n")) {
    const shift = Math.min(dy, height - least);
    y += shift;
    height -= shift;
  }
  return { x, y, width, height };
}

/** A frame whose edges follow a drag in steps of eight; the opposite edges stay. */
export function draggedFrame(frame: Box, grip: Grip, dx: number, dy: number): Box {
  const box = dragged(frame, grip, snap(dx), snap(dy), LEAST_SIDE);
  const width = side(box.width);
  const height = side(box.height);
  return {
    x: grip.includes("w") ? frame.x + frame.width - width : snap(box.x),
    y: grip.includes("n") ? frame.y + frame.height - height : snap(box.y),
    width,
    height,
  };
}

export function toCanvas(view: View, point: Point): Point {
  return { x: (point.x - view.x) / view.scale, y: (point.y - view.y) / view.scale };
}

export function toWindow(view: View, point: Point): Point {
  return { x: point.x * view.scale + view.x, y: point.y * view.scale + view.y };
}

/** The view zoomed by a factor; what lies at a point of the window stays there. */
export function zoomed(view: View, factor: number, at: Point): View {
  const scale = between(view.scale * factor, LEAST_SCALE, MOST_SCALE);
  const fixed = toCanvas(view, at);
  return { scale, x: at.x - fixed.x * scale, y: at.y - fixed.y * scale };
}

/** The view that shows a box in the middle of a window, with so much free around it. */
export function fitted(box: Box, window: Size, margin = 0.2, most = 4): View {
  const room = 1 - margin;
  const scale = between(Math.min((window.width * room) / box.width, (window.height * room) / box.height), LEAST_SCALE, most);
  return {
    scale,
    x: window.width / 2 - (box.x + box.width / 2) * scale,
    y: window.height / 2 - (box.y + box.height / 2) * scale,
  };
}
