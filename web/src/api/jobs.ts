import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, type Fields, type Job, type JobImage, told } from "./client";
import { useChanges, useSoon } from "./live";

const RECENT = 30;

export function hasEnded(job: Job): boolean {
  return job.state !== "queued" && job.state !== "running";
}

/** One's latest jobs of a kind, newest first, also those that other tabs and programs ask for. */
export function useRecentJobs(kind: string) {
  const queries = useQueryClient();
  const soon = useSoon(() => void queries.invalidateQueries({ queryKey: ["jobs"] }));
  useChanges(({ name }) => (name === "state" || name === "reset") && soon());
  return useQuery({
    queryKey: ["jobs", kind],
    queryFn: async () => (await told(api.GET("/v1/jobs", { params: { query: { limit: RECENT, kind } } }))).data,
  });
}

/** Asks for images; the job is on the server's disk when this returns. The same `once` gives the same job. */
export async function ask(fields: Fields, once: string): Promise<Job> {
  const body = fields as never; // The schema of the document says more of its fields than a draft can.
  return told(api.POST("/v1/jobs", { body, params: { header: { "idempotency-key": once } } }));
}

export async function cancelJob(id: string): Promise<Job> {
  return told(api.POST("/v1/jobs/{job_id}/cancel", { params: { path: { job_id: id } } }));
}

/** What is seen of a job while it runs. `preview`: an address of an image, by the number of the image. */
export interface Live {
  job: Job;
  previews: Readonly<Record<number, string>>;
}

/** A job as it stands now. */
export function useLive(initial: Job): Live {
  const [live, setLive] = useState<Live>({ job: initial, previews: {} });
  useChanges(({ name, job, data }) => {
    if (job === initial.id) setLive((now) => afterEvent(now, name, data));
    else if (name === "reset" && !hasEnded(live.job)) void look(initial.id).then((job) => setLive((now) => afterLook(now, job)), () => undefined);
  });
  if (hasEnded(initial)) return { job: initial, previews: {} };
  // Places in line change when other jobs end, of which no event of this one tells.
  return { ...live, job: { ...live.job, position: initial.position, expected: initial.expected } };
}

/** What is seen of a job after it was looked at. The answer may be older than the last event, and events before it may
 * have been missed: no end is taken back, and the images are those of both. */
export function afterLook(live: Live, found: Job): Live {
  const images = merged(found.images, live.job.images);
  return { ...live, job: { ...(hasEnded(live.job) ? live.job : found), images } };
}

async function look(id: string): Promise<Job> {
  return told(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
}

/** What is seen of a job after one more event. */
export function afterEvent(live: Live, name: string, data: Record<string, unknown>): Live {
  const { job, previews } = live;
  if (name === "state") {
    const next = { ...job, ...(data as Partial<Job>) };
    return { job: { ...next, images: next.images.map(addressed) }, previews };
  }
  if (name === "progress") return { job: { ...job, progress: data as Job["progress"] }, previews };
  if (name === "image") {
    const image = addressed(data as JobImage);
    return { job: { ...job, images: merged([image], job.images) }, previews };
  }
  if (name !== "preview" || typeof data["index"] !== "number" || typeof data["image"] !== "string") return live;
  return { job, previews: { ...previews, [data["index"]]: `data:image/jpeg;base64,${data["image"]}` } };
}

/** The images of both, in their order, each once. */
function merged(these: readonly JobImage[], those: readonly JobImage[]): JobImage[] {
  const others = those.filter((other) => these.every((image) => image.id !== other.id));
  return [...these, ...others].sort((a, b) => a.index - b.index);
}

/** An image with its address, which events leave out. */
function addressed(image: JobImage): JobImage {
  return { ...image, url: `/v1/images/${image.id}` };
}
