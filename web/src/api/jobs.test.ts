import { expect, test } from "vitest";

import type { Job } from "./client";
import { afterEvent, afterLook, type Live } from "./jobs";

const JOB = { id: "j", state: "queued", images: [], progress: { done: 0, total: 0, image: 0, images: 0, share: 0 } };
const BEGUN: Live = { job: JOB as unknown as Job, previews: {} };

test("images come in their order, each once, with an address", () => {
  const two = afterEvent(BEGUN, "image", { id: "b", index: 1 });
  const both = afterEvent(afterEvent(two, "image", { id: "a", index: 0 }), "image", { id: "a", index: 0 });
  expect(both.job.images.map((image) => image.url)).toEqual(["/v1/images/a", "/v1/images/b"]);
});

test("a state changes the job, and its images have addresses too", () => {
  const { job } = afterEvent(BEGUN, "state", { state: "done", images: [{ id: "a", index: 0 }] });
  expect([job.state, job.images[0]?.url]).toEqual(["done", "/v1/images/a"]);
});

test("a preview is kept by the number of its image", () => {
  expect(afterEvent(BEGUN, "preview", { index: 2, image: "QQ==" }).previews).toEqual({ 2: "data:image/jpeg;base64,QQ==" });
});

test("what is not known changes nothing", () => {
  expect(afterEvent(BEGUN, "warning", { message: "x" })).toBe(BEGUN);
});

test("an answer that comes late takes no end back", () => {
  const done = afterEvent(BEGUN, "state", { state: "done" });
  expect(afterLook(done, JOB as unknown as Job).job.state).toBe("done");
  expect(afterLook(BEGUN, done.job).job.state).toBe("done");
});

test("an answer that comes late takes no image away, and brings those of missed events", () => {
  const made = afterEvent(BEGUN, "image", { id: "b", index: 1 });
  const looked = afterLook(made, JOB as unknown as Job);
  expect(looked.job.images.map((image) => image.id)).toEqual(["b"]);
  const done = afterEvent(looked, "state", { state: "done" });
  const found = { ...JOB, state: "running", images: [{ id: "a", index: 0, url: "/v1/images/a" }] } as unknown as Job;
  const both = afterLook(done, found).job;
  expect([both.state, ...both.images.map((image) => image.id)]).toEqual(["done", "a", "b"]);
});
