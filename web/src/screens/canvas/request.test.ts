import { expect, test } from "vitest";

import { empty, type Region } from "./document";
import { controlText, planOf, regionText, requestOf } from "./request";

const SIDE = 64;
const ALL = new Uint8ClampedArray(SIDE * SIDE).fill(255);
const NONE = new Uint8ClampedArray(SIDE * SIDE);

/** 255 in the columns from..to. */
function columns(from: number, to: number) {
  return NONE.map((_, at) => (at % SIDE >= from && at % SIDE < to ? 255 : 0));
}

const plain = empty(SIDE);
const document = { ...plain, settings: { ...plain.settings, prompt: "a hill", blur: 2 } };
const region: Region = { id: "r", box: { x: 16, y: -10, width: 32, height: 42 }, prompt: "a red apple", negative: "", weight: 1 };
const sent = { image: "upload:i", mask: "upload:m", controls: [] };

test("what is done follows from what lies in the frame", () => {
  const way = (alpha: Uint8ClampedArray, mask: Uint8ClampedArray) => planOf(document, { alpha, mask }).way;
  expect(way(NONE, NONE)).toBe("new");
  expect(way(NONE, columns(0, 9))).toBe("new");
  expect(way(ALL, NONE)).toBe("from");
  expect(way(ALL, ALL)).toBe("from");
  expect(way(ALL, columns(0, 9))).toBe("mask");
  expect(way(columns(0, 40), NONE)).toBe("extend");
  expect(way(columns(0, 40), columns(0, 9))).toBe("mask");
});

test("the part that is made is what is masked and what is missing; it is seen as far as its soft edge goes", () => {
  const plan = planOf(document, { alpha: columns(0, 40), mask: columns(0, 9) });
  if (plan.way !== "mask") throw new Error(plan.way);
  expect(plan.made).toEqual(columns(0, 9).map((value, at) => Math.max(value, columns(40, SIDE)[at] ?? 0)));
  expect(plan.shown).toEqual(columns(0, 14).map((value, at) => Math.max(value, columns(35, SIDE)[at] ?? 0)));
});

test("one rectangle that lacks something is outpainted by the server; the result lies a little over its edge", () => {
  const plan = planOf(document, { alpha: columns(0, 40), mask: NONE });
  if (plan.way !== "extend") throw new Error(plan.way);
  expect(plan.outpaint).toEqual({ left: 0, top: 0, right: 24, bottom: 0 });
  expect(plan.shown).toEqual(columns(38, SIDE));
  expect(requestOf(document, plan, sent)).toEqual({
    prompt: "a hill", batch_count: 1, image: "upload:i", denoising_strength: 0.75, outpaint: "left=0,right=24,top=0,bottom=0",
  });
});

test("more than there is along a side is filled as a mask", () => {
  const plan = planOf(document, { alpha: columns(0, 20), mask: NONE });
  expect(plan).toMatchObject({ way: "extend", outpaint: null });
  expect(requestOf(document, plan, sent)).toEqual({
    prompt: "a hill", batch_count: 1, width: 64, height: 64, image: "upload:i", mask: "upload:m", mask_blur: 2,
    inpaint_area: "Whole picture", masked_content: "fill", denoising_strength: 0.75,
  });
});

test("fields of the ways", () => {
  const settings = { ...document.settings, negative: "blur", strength: 0.4, count: 3, more: { steps: 9 } };
  const asked = { ...document, settings: { ...settings, content: "latent noise" as const } };
  const base = { prompt: "a hill", negative_prompt: "blur", batch_count: 3, steps: 9, width: 64, height: 64 };
  expect(requestOf(asked, { way: "new" }, sent)).toEqual(base);
  expect(requestOf(asked, { way: "from" }, sent)).toEqual({ ...base, image: "upload:i", denoising_strength: 0.4 });
  const plan = planOf(asked, { alpha: ALL, mask: columns(0, 9) });
  expect(requestOf(asked, plan, sent)).toEqual({
    ...base, image: "upload:i", denoising_strength: 0.4, mask: "upload:m", mask_blur: 2, inpaint_area: "Whole picture",
    masked_content: "latent noise",
  });
});

test("regions are said as shares of the frame, and cut off at its edges", () => {
  const frame = { x: 0, y: 0, width: 64, height: 64 };
  expect(regionText(region, frame)).toBe("box=0.25,0,0.75,0.5: a red apple");
  const more = { ...region, weight: 1.5, negative: 'a "sign"' };
  expect(regionText(more, frame)).toBe('box=0.25,0,0.75,0.5 weight=1.5 negative="a \\"sign\\"": a red apple');
  expect(regionText(region, { ...frame, x: 48 })).toBeNull();
  expect(regionText({ ...region, prompt: " " }, frame)).toBeNull();
  expect(regionText({ ...region, box: { x: 0, y: 0, width: 64 / 3, height: 64 } }, frame)).toBe("box=0,0,0.3333,1: a red apple");
  const fields = requestOf({ ...document, regions: [region] }, { way: "new" }, sent);
  expect(fields["regions"]).toEqual(["box=0.25,0,0.75,0.5: a red apple"]);
});

test("controls are said with what differs", () => {
  const control = { type: "canny", annotator: "", weight: 1, start: 0, end: 1 };
  expect(controlText(control, "upload:x")).toBe("canny:upload:x:1");
  expect(controlText({ ...control, annotator: "none", weight: 0.55, start: 0.1, end: 0.6 }, "upload:x")).toBe(
    "canny:upload:x:0.55 annotator=none start=0.1 end=0.6",
  );
});
