import { describe, expect, test, vi } from "vitest";

import type { Job } from "../../api/client";
import type { Seen } from "./live";

const nothing = { getItem: () => null, setItem: () => undefined };
vi.stubGlobal("localStorage", nothing);
const { afterNews, useOf } = await import("./live");

const job = { id: "a", state: "running", images: [], result: null, progress: { done: 0, total: 4, image: 0, images: 0, share: 0 } };
const seen: Seen = { job: job as unknown as Job, previews: {}, points: [[1, 0.5]], checks: [], left: null };

describe("a training that is watched", () => {
  test("points are added to the curve that was read", () => {
    const after = afterNews(seen, "learned", { points: [[1, 0.5], [2, 0.25]], checks: [[2, 0.3]], left: 12 });
    expect(after).toMatchObject({ points: [[1, 0.5], [2, 0.25]], checks: [[2, 0.3]], left: 12 });
    expect(afterNews(after, "learned", { points: [], checks: [], left: null }).left).toBe(12);
  });

  test("samples come with their address, progress and state as of every job", () => {
    const after = afterNews(seen, "image", { id: "abc", index: 60, width: 1, height: 1 });
    expect(after.job.images).toEqual([{ id: "abc", index: 60, width: 1, height: 1, url: "/v1/images/abc" }]);
    expect(after.points).toEqual(seen.points);
    expect(afterNews(seen, "state", { state: "done" }).job.state).toBe("done");
  });

  test("only a done job says how it is used", () => {
    expect(useOf(seen.job)).toBeNull();
    const done = { ...seen.job, result: { use: { prompt: "<lora:a:1> a", model: "embedded" } } };
    expect(useOf(done)).toEqual({ prompt: "<lora:a:1> a", model: "embedded" });
  });
});
