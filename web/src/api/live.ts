import { useCallback, useEffect, useRef } from "react";

import { api, type Job, told } from "./client";
import { isRecord, Refusal } from "./errors";
import { events } from "./stream";

/** Something that happened to one of one's jobs or images, whoever asked for it. `job`: its id, "" where there is none. */
export interface Change {
  name: string;
  job: string;
  data: Record<string, unknown>;
}

type Listener = (change: Change) => void;

const listeners = new Set<Listener>();
const AGAIN_MS = 2000;
let stop: AbortController | null = null;

/** Calls back for whatever happens while the component is shown. All of a page share one connection. */
export function useChanges(listener: Listener): void {
  const newest = useRef(listener);
  useEffect(() => {
    newest.current = listener;
  });
  useEffect(() => subscribe((change) => newest.current(change)), []);
}

/**
 * What happens to one job, until it ends, over the connection that the whole page shares: of its own each job would take
 * one of the six that a browser opens to a server. Throws Refusal where the job is not there.
 */
export async function* changesOf(job: string, signal?: AbortSignal): AsyncGenerator<Change> {
  const come: Change[] = [];
  let wake: (() => void) | null = null;
  const leave = subscribe((change) => {
    if (change.job !== job && change.name !== "reset") return;
    come.push(change);
    wake?.();
  });
  signal?.addEventListener("abort", () => wake?.());
  try {
    for (;;) {
      const next = come.shift();
      if (signal?.aborted === true) return;
      if (next === undefined) {
        await new Promise<void>((done) => {
          wake = done;
        });
        continue;
      }
      const change = next.name === "reset" ? { name: "state", job, data: { ...(await look(job)) } } : next;
      yield change;
      if (change.name === "state" && ENDED.has(String(change.data["state"]))) return;
    }
  } finally {
    leave();
  }
}

const ENDED: ReadonlySet<string> = new Set(["done", "failed", "cancelled", "timed_out", "quarantined"]);

async function look(job: string): Promise<Job> {
  return told(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job } } }));
}

function subscribe(listener: Listener): () => void {
  listeners.add(listener);
  if (stop === null) {
    stop = new AbortController();
    void listen(stop.signal);
  } else {
    // What was told before this part of the page was there it has to ask for.
    listener({ name: "reset", job: "", data: {} });
  }
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    stop?.abort();
    stop = null;
  };
}

async function listen(signal: AbortSignal): Promise<void> {
  for (;;) {
    try {
      for await (const { name, data } of events("/v1/events", signal)) tell(name, data);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
    }
    if (signal.aborted) return;
    // The server stopped, or refused: it may be another one a moment later.
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
}

function tell(name: string, data: unknown): void {
  if (!isRecord(data)) return;
  const { job, ...rest } = data;
  const change = { name, job: typeof job === "string" ? job : "", data: rest };
  for (const listener of listeners) listener(change);
}

/** Runs `act` soon, once for all calls of the next moment. */
export function useSoon(act: () => void, wait = 200): () => void {
  const newest = useRef(act);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => {
    newest.current = act;
  });
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(() => {
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      newest.current();
    }, wait);
  }, [wait]);
}
