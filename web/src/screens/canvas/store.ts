import { useSyncExternalStore } from "react";

import type { JobImage } from "../../api/client";
import { messageOf, Refusal } from "../../api/errors";
import type { Live } from "../../api/jobs";
import { toast } from "../../ui/toasts";
import { type Document, empty, fromJson, type Kept, type Pending, type Stroke } from "./document";
import type { Point, Size, View } from "./geometry";
import { begun, changed, closed, type History, redone, undone } from "./history";
import { keepCanvas, readCanvas } from "./server";

export type Tool = "move" | "frame" | "brush" | "eraser" | "lasso" | "region" | "hand";

/** All of the canvas that is open. revision: the one on the server, 0 = it is not there yet; draft: what is being drawn; cursor: where
 * the brush is; down: whether it draws by keys. */
export interface State {
  id: string;
  revision: number;
  saving: "kept" | "changed" | "refused";
  history: History<Document>;
  pending: readonly Pending[];
  jobs: Readonly<Record<string, Live>>;
  candidate: number;
  view: View;
  window: Size;
  tool: Tool;
  panning: boolean;
  brush: number;
  cursor: Point | null;
  down: boolean;
  draft: Stroke | null;
  layer: string;
  region: string;
}

const BLANK: State = {
  id: "",
  revision: 0,
  saving: "kept",
  history: begun(empty(512)),
  pending: [],
  jobs: {},
  candidate: 0,
  view: { x: 0, y: 0, scale: 1 },
  window: { width: 0, height: 0 },
  tool: "frame",
  panning: false,
  brush: 24,
  cursor: null,
  down: false,
  draft: null,
  layer: "",
  region: "",
};

let state = BLANK;
const listeners = new Set<() => void>();

export function now(): State {
  return state;
}

export function set(change: Partial<State>): void {
  state = { ...state, ...change };
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A part of the state. What `pick` gives must be the same while nothing of it changed. */
export function useCanvas<T>(pick: (state: State) => T): T {
  return useSyncExternalStore(subscribe, () => pick(state));
}

export function useDocument(): Document {
  return useCanvas((one) => one.history.present);
}

/** Changes the document; changes of one tag in a row are undone together. */
export function edit(change: (document: Document) => Document, tag = ""): void {
  const history = changed(state.history, change(state.history.present), tag);
  if (history === state.history) return;
  set({ history, saving: "changed" });
  keepSoon();
}

/** The end of a gesture: the next change is undone by itself. */
export function settle(): void {
  set({ history: closed(state.history) });
}

export function undo(): void {
  back(undone(state.history));
}

export function redo(): void {
  back(redone(state.history));
}

function back(history: History<Document>): void {
  if (history === state.history) return;
  set({ history, saving: "changed", draft: null, down: false });
  keepSoon();
}

export function setPending(pending: readonly Pending[]): void {
  set({ pending, candidate: Math.max(Math.min(state.candidate, imagesOf(pending, state.jobs).length - 1), 0), saving: "changed" });
  keepSoon();
}

/** An image that can be taken, with where it goes. */
export interface Candidate {
  pending: Pending;
  image: JobImage;
}

export function imagesOf(pending: readonly Pending[], jobs: State["jobs"]): Candidate[] {
  return pending.flatMap((one) => (jobs[one.job]?.job.images ?? []).map((image) => ({ pending: one, image })));
}

/** Shows a canvas in place of the one that was open. */
export function show(id: string, revision: number, kept: Kept): void {
  const { window, tool, brush } = state;
  set({ ...BLANK, id, revision, history: begun(kept.document), pending: kept.pending, window, tool, brush });
}

const WAIT_MS = 500;
const AGAIN_MS = 2000;
let timer: ReturnType<typeof setTimeout> | undefined;
let keeping: Promise<void> = Promise.resolve();

function keepSoon(wait = WAIT_MS): void {
  clearTimeout(timer);
  timer = setTimeout(() => void keep(), wait);
}

/** Keeps what was changed on the server; one after the other, so that each knows the revision before it. */
export function keep(): Promise<void> {
  clearTimeout(timer);
  keeping = keeping.then(keepNow);
  return keeping;
}

async function keepNow(): Promise<void> {
  const { id, revision, history, pending, saving } = state;
  if (saving !== "changed") return;
  try {
    const next = await keepCanvas(id, { document: history.present, pending }, revision);
    if (state.id !== id) return;
    const same = state.history.present === history.present && state.pending === pending;
    set({ revision: next, saving: same ? "kept" : "changed" });
    if (!same) keepSoon();
  } catch (error) {
    await notKept(error);
  }
}

async function notKept(error: unknown): Promise<void> {
  if (error instanceof Refusal && error.away) keepSoon(AGAIN_MS);
  else if (error instanceof Refusal && error.status === 412) await readAgain();
  else {
    set({ saving: "refused" });
    toast(messageOf(error), { bad: true });
  }
}

/** Takes over what another tab changed; what was here can be had back by undoing. */
export async function readAgain(): Promise<void> {
  const { id, history } = state;
  const found = await readCanvas(id);
  if (state.id !== id || found.revision === state.revision) return;
  const kept = fromJson(found.document, history.present.frame.width);
  set({ revision: found.revision, history: changed(history, kept.document), pending: kept.pending, saving: "kept" });
}

/** Keeps what there is no time to wait for: the page is left. */
export function keepLeaving(): void {
  const { id, revision, history, pending, saving } = state;
  if (saving === "changed") void keepCanvas(id, { document: history.present, pending }, revision, true).catch(() => undefined);
}
