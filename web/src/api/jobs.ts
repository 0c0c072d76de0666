import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, type Fields, type Job, type JobImage, told } from "./client";
import { useChanges } from "./live";

const RECENT = 30;
const LOOK_MS = 4000;

export function hasEnded(job: Job): boolean {
  return job.state !== "queued" && job.state !== "running";
}

/** One's latest jobs of a kind, newest first. While one of them has not ended it is looked again: another tab may ask too. */
export function useRecentJobs(kind: string) {
  return useQuery({
    queryKey: ["jobs", kind],
    queryFn: async () => (await told(api.GET("/v1/jobs", { params: { query: { limit: RECENT } } }))).data,
    select: (jobs) => jobs.filter((job) => job.kind === kind),
    refetchInterval: (query) => (query.state.data?.some((job) => !hasEnded(job)) === true ? LOOK_MS : false),
    refetchOnWindowFocus: true,
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

/**
 * A job as it stands now: what the server said of it last, and what happened since. All jobs share one stream of events:
 * a browser keeps six connections to a server, and more jobs than that may wait.
 */
export function useLive(initial: Job): Live {
  const queries = useQueryClient();
  const [live, setLive] = useState<Live & { told: Job }>({ told: initial, job: initial, previews: {} });
  if (live.told !== initial) setLive({ told: initial, job: initial, previews: live.previews });
  const ended = hasEnded(initial);
  useChanges(({ name, job, data }) => {
    if (ended || (job !== initial.id && name !== "reset")) return;
    setLive((now) => ({ ...afterEvent(now, name, data), told: now.told }));
    if (name === "reset" || name === "state") void queries.invalidateQueries({ queryKey: ["jobs"] });
  });
  return ended ? { job: initial, previews: {} } : live;
}

/** What is seen of a job after one more event. */
export function afterEvent(live: Live, name: string, data: Record<string, unknown>): Live {
  const { job, previews } = live;
  if (name === "state") return { job: { ...job, ...(data as Partial<Job>) }, previews };
  if (name === "progress") return { job: { ...job, progress: data as Job["progress"] }, previews };
  if (name === "image") {
    const image = data as JobImage;
    const others = job.images.filter((other) => other.id !== image.id);
    return { job: { ...job, images: [...others, image].sort((a, b) => a.index - b.index) }, previews };
  }
  if (name !== "preview" || typeof data["index"] !== "number" || typeof data["image"] !== "string") return live;
  return { job, previews: { ...previews, [data["index"]]: `data:image/jpeg;base64,${data["image"]}` } };
}
