import type { Job } from "../../api/client";
import { fill } from "../../i18n/fill";
import type { QueueText } from "./text";

/** What a job is called: its prompt, or what kind it is. */
export function nameOf(job: Job, text: QueueText): string {
  const { prompt, word } = job.asked;
  if (typeof prompt === "string" && prompt.trim() !== "") return prompt.trim();
  if (job.kind === "teach" && typeof word === "string") return `${text.teach}: ${word}`;
  return job.kind === "generate" ? text.noPrompt : kindOf(job, text);
}

export function kindOf(job: Job, text: QueueText): string {
  const kinds: Record<string, string> = { generate: text.generate, upscale: text.upscale, interrogate: text.interrogate, teach: text.teach, annotate: text.annotate, sheet: text.sheet, caption: text.caption, convert: text.convert, merge: text.merge, inspect: text.inspect };
  return kinds[job.kind] ?? job.kind;
}

const MINUTE = 60;
const HOUR = 3600;

/** A time as people say it; nothing is as exact as its seconds. */
export function timeOf(seconds: number, text: QueueText): string {
  if (seconds < 1.5 * MINUTE) return fill(text.seconds, { count: Math.max(Math.round(seconds), 1) });
  if (seconds < 1.5 * HOUR) return fill(text.minutes, { count: Math.round(seconds / MINUTE) });
  return fill(text.hours, { count: Math.round((seconds / HOUR) * 2) / 2 });
}

/** How far a job is that runs. */
export function standing(job: Job, text: QueueText): string {
  const { done, total, image, images } = job.progress;
  const parts = [total === 0 ? text.starting : fill(text.step, { done, total })];
  if (images > 1) parts.push(fill(text.image, { image: Math.min(image + 1, images), images }));
  if (job.expected !== null && job.expected >= 1) parts.push(fill(text.left, { time: timeOf(job.expected, text) }));
  if (job.attempt > 1) parts.push(fill(text.again, { count: job.attempt }));
  return parts.join(" · ");
}

/** Where a job stands that waits. */
export function waiting(job: Job, text: QueueText): string {
  const parts = [job.position === null || job.position === 0 ? text.next : fill(text.before, { count: job.position })];
  if (job.expected !== null) parts.push(fill(text.inTime, { time: timeOf(job.expected, text) }));
  if (job.priority !== 0) parts.push(fill(text.priority, { count: job.priority }));
  return parts.join(" · ");
}

/** How a job ended; `why` is the whole error, "" where there is none. */
export function ending(job: Job, text: QueueText): { what: string; why: string; bad: boolean } {
  const why = job.error?.message ?? "";
  const spent = job.started === null || job.ended === null ? "" : fill(text.took, { time: timeOf(job.ended - job.started, text) });
  const said: Partial<Record<Job["state"], string>> = { done: text.done, cancelled: text.cancelled, timed_out: why === "" ? text.timedOut : text.failed, quarantined: text.quarantined, failed: text.failed };
  const bad = job.state !== "done" && job.state !== "cancelled";
  return { what: [said[job.state] ?? job.state, spent].filter((part) => part !== "").join(" · "), why, bad };
}

/** A queue after one more event; the same one where that changes nothing that is shown. */
export function afterChange<Q extends { running: Job[]; waiting: Job[] }>(queue: Q, name: string, id: string, data: Record<string, unknown>): Q {
  if (name !== "progress") return queue;
  const progress = data as unknown as Job["progress"];
  const running = queue.running.map((job) => (job.id === id ? { ...job, progress, expected: left(job, progress.share) } : job));
  return { ...queue, running };
}

type Previews = Readonly<Record<string, string>>;
export const NO_PREVIEWS: Previews = {};

/** Previews by job after one more event: those of jobs that ended are let go. */
export function afterPreview(previews: Previews, name: string, id: string, data: Record<string, unknown>): Previews {
  if (name === "preview" && typeof data["image"] === "string") return { ...previews, [id]: `data:image/jpeg;base64,${data["image"]}` };
  // What ended meanwhile nobody told; those that run send their next one soon.
  if (name === "reset") return NO_PREVIEWS;
  if (name !== "state" || data["state"] === "running" || !(id in previews)) return previews;
  return Object.fromEntries(Object.entries(previews).filter(([job]) => job !== id));
}

/** By its own speed, once a part is done; the server says the same when it is asked next. */
function left(job: Job, share: number): number | null {
  if (job.started === null || share < 0.05) return job.expected;
  const ran = Date.now() / 1000 - job.started;
  return ran < 0 ? job.expected : (ran * (1 - share)) / share;
}
