import type { Size } from "./geometry";

/** Grey images, a byte a pixel, row by row: what a mask shows, where nothing lies. */
export type Grey = Uint8ClampedArray;

/** Alpha below this is nothing: an edge that was drawn smoothly is still there. */
const THERE = 16;

/** The alpha of an image of four bytes a pixel. */
export function alphaOf(rgba: Uint8ClampedArray): Grey {
  const found = new Uint8ClampedArray(rgba.length / 4);
  for (let at = 0; at < found.length; at++) found[at] = rgba[at * 4 + 3] ?? 0;
  return found;
}

/** 255 where nothing lies. */
export function emptyPart(alpha: Grey): Grey {
  return alpha.map((value) => (value < THERE ? 255 : 0));
}

/** 255 where a mask is more than half there. */
export function hard(mask: Grey): Grey {
  return mask.map((value) => (value > 127 ? 255 : 0));
}

/** 255 where one of the two is. */
export function either(a: Grey, b: Grey): Grey {
  return a.map((value, at) => Math.max(value, b[at] ?? 0));
}

export function anything(mask: Grey): boolean {
  return mask.some((value) => value > 0);
}

export function everything(mask: Grey): boolean {
  return mask.every((value) => value > 0);
}

/** How far the soft edge of a mask goes: the server cuts its Gaussian off there. */
export function reachOf(blur: number): number {
  return blur <= 0 ? 0 : Math.floor(2.5 * blur + 0.5);
}

/** A mask grown by so many pixels across and down: where a mask with a soft edge shows anything. */
export function grown(mask: Grey, size: Size, reach: number): Grey {
  if (reach <= 0) return hard(mask);
  return grownAlong(grownAlong(mask, size, reach, true), size, reach, false);
}

/** Along one axis, by counting what is in a window that goes over each line. */
function grownAlong(mask: Grey, { width, height }: Size, reach: number, across: boolean): Grey {
  const found = new Uint8ClampedArray(mask.length);
  const [lines, length] = across ? [height, width] : [width, height];
  const [line, step] = across ? [width, 1] : [1, width];
  for (let one = 0; one < lines; one++) {
    const is = (at: number) => (at >= 0 && at < length && (mask[one * line + at * step] ?? 0) > 0 ? 1 : 0);
    let count = 0;
    for (let at = -reach; at < reach; at++) count += is(at);
    for (let at = 0; at < length; at++) {
      count += is(at + reach);
      if (count > 0) found[one * line + at * step] = 255;
      count -= is(at - reach);
    }
  }
  return found;
}

export interface Margins {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** How much is missing on each side, where what is there is one rectangle that misses something; else null. */
export function margins(missing: Grey, { width, height }: Size): Margins | null {
  let [left, top, right, bottom] = [width, height, -1, -1];
  let count = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if ((missing[y * width + x] ?? 0) > 0) continue;
      count++;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
    }
  }
  const [across, down] = [right - left + 1, bottom - top + 1];
  if (count === 0 || count === width * height || count !== across * down) return null;
  return { left, top, right: width - 1 - right, bottom: height - 1 - bottom };
}

/** A grey image as one of four bytes a pixel, opaque. */
export function greyPixels(mask: Grey): Uint8ClampedArray<ArrayBuffer> {
  const found = new Uint8ClampedArray(mask.length * 4);
  mask.forEach((value, at) => found.set([value, value, value, 255], at * 4));
  return found;
}

/** An image with a mask for its alpha. */
export function cut(rgba: Uint8ClampedArray, mask: Grey): Uint8ClampedArray<ArrayBuffer> {
  const found = new Uint8ClampedArray(rgba);
  mask.forEach((value, at) => (found[at * 4 + 3] = value));
  return found;
}
