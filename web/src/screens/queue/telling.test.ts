import { expect, test } from "vitest";

import type { Job } from "../../api/client";
import { afterChange, afterPreview, ending, nameOf, NO_PREVIEWS, standing, timeOf, waiting } from "./telling";
import { TEXTS } from "./text";

const text = TEXTS.en;

function job(more: Partial<Job> = {}): Job {
  const progress = { done: 0, total: 0, image: 0, images: 0, share: 0 };
  return {
    id: "a", kind: "generate", state: "queued", priority: 0, attempt: 0, created: 0, started: null, ended: null, position: null,
    expected: null, progress, images: [], warnings: [], error: null, asked: {}, resolved: null, result: null, ...more,
  };
}

test("a job is called by its prompt, or by what it is", () => {
  expect(nameOf(job({ asked: { prompt: " a cat " } }), text)).toBe("a cat");
  expect(nameOf(job(), text)).toBe("Without a prompt");
  expect(nameOf(job({ kind: "upscale" }), text)).toBe("Upscaling");
  expect(nameOf(job({ kind: "teach", asked: { word: "zwx" } }), text)).toBe("Teaching: zwx");
  expect(nameOf(job({ kind: "new kind" }), text)).toBe("new kind");
  const kinds = ["caption", "convert", "merge", "inspect", "annotate"];
  expect(kinds.map((kind) => nameOf(job({ kind }), text))).toEqual(["Captions", "Conversion", "Merging", "Inspection", "Hint"]);
});

test("previews are let go with their jobs", () => {
  const one = afterPreview(NO_PREVIEWS, "preview", "a", { image: "x" });
  expect(one).toEqual({ a: "data:image/jpeg;base64,x" });
  expect(afterPreview(one, "learned", "a", {})).toBe(one);
  expect(afterPreview(one, "state", "a", { state: "running" })).toBe(one);
  expect(afterPreview(one, "state", "b", { state: "done" })).toBe(one);
  expect(afterPreview(one, "state", "a", { state: "done" })).toEqual({});
  expect(afterPreview(one, "reset", "", {})).toEqual({});
});

test("times are round", () => {
  expect([0, 1.4, 59, 89, 90, 3600, 5400, 9000].map((seconds) => timeOf(seconds, text))).toEqual(["1 s", "1 s", "59 s", "89 s", "2 min", "60 min", "1.5 h", "2.5 h"]);
});

test("what runs tells its steps, images and time", () => {
  expect(standing(job({ state: "running" }), text)).toBe("Starting");
  const progress = { done: 3, total: 20, image: 1, images: 4, share: 0.2 };
  expect(standing(job({ progress, expected: 12, attempt: 2 }), text)).toBe("Step 3 of 20 · image 2 of 4 · about 12 s left · attempt 2");
});

test("what waits tells its place", () => {
  expect(waiting(job({ position: 0 }), text)).toBe("Next in line");
  expect(waiting(job({ position: 3, expected: 200, priority: -2 }), text)).toBe("3 before it · done in about 3 min · priority -2");
});

test("an end tells its whole reason", () => {
  expect(ending(job({ state: "done", started: 5, ended: 10 }), text)).toEqual({ what: "Done · took 5 s", why: "", bad: false });
  const error = { kind: "NotFinite", message: "step 3: the latent is not finite" };
  expect(ending(job({ state: "failed", error }), text)).toEqual({ what: "Failed", why: error.message, bad: true });
  expect(ending(job({ state: "cancelled" }), text)).toEqual({ what: "Cancelled", why: "", bad: false });
  expect(ending(job({ state: "timed_out" }), text).what).toBe("It took too long and was stopped.");
});

test("progress changes its job alone", () => {
  const queue = { running: [job({ id: "a" }), job({ id: "b" })], waiting: [] };
  const progress = { done: 1, total: 2, image: 0, images: 1, share: 0.5 };
  const next = afterChange(queue, "progress", "b", progress);
  expect(next.running[1]?.progress).toEqual(progress);
  expect(next.running[0]).toBe(queue.running[0]);
  expect(afterChange(queue, "warning", "b", {})).toBe(queue);
});
