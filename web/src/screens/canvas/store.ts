import { useSyncExternalStore } from "react";

import type { JobImage } from "../../api/client";
import { messageOf, Refusal } from "../../api/errors";
import type { Live } from "../../api/jobs";
import { toast } from "../../ui/toasts";
import { type Document, empty, fromJson, type Kept, type Pending, type Stroke, toJson } from "./document";
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
  set({ pending, candidate: shownOf(pending), saving: "changed" });
  keepSoon();
}

function shownOf(pending: readonly Pending[]): number {
  return Math.max(Math.min(state.candidate, imagesOf(pending, state.jobs).length - 1), 0);
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
  base = kept.pending;
  unsure = [];
  set({ ...BLANK, id, revision, history: begun(kept.document), pending: kept.pending, window, tool, brush });
}

const WAIT_MS = 500;
const AGAIN_MS = 2000;
const MOST_UNSURE = 8;
let timer: ReturnType<typeof setTimeout> | undefined;
let keeping: Promise<void> = Promise.resolve();
/** What the server was last known to wait for. */
let base: readonly Pending[] = [];
/** What was sent without an answer: it may be on the server. */
let unsure: readonly string[] = [];

function keepSoon(wait = WAIT_MS): void {
  clearTimeout(timer);
  timer = setTimeout(() => void keep(), wait);
}

/** Does something after all that was begun before, however that ended, so that each knows the revision before it. */
function next(act: () => Promise<void>): Promise<void> {
  keeping = keeping.catch(() => undefined).then(act);
  return keeping;
}

/** Keeps what was changed on the server. */
export function keep(): Promise<void> {
  clearTimeout(timer);
  return next(keepNow);
}

async function keepNow(): Promise<void> {
  const { id, revision, saving } = state;
  if (saving !== "changed") return;
  await put(id, revision)
    .catch((error: unknown) => {
      if (statusOf(error) !== 412) throw error;
      return takeOver(id);
    })
    .catch((error: unknown) => {
      if (statusOf(error) !== 404) throw error;
      // It was removed elsewhere, and is still painted on here.
      return put(id, null);
    })
    .catch((error: unknown) => state.id === id && notKept(error));
}

async function put(id: string, revision: number | null): Promise<void> {
  if (state.id !== id) return;
  const { history, pending } = state;
  const kept = { document: history.present, pending };
  const found = await keepCanvas(id, kept, revision).catch((error: unknown) => {
    if (statusOf(error) !== 412 && state.id === id) doubt(kept);
    throw error;
  });
  if (state.id !== id) return;
  base = pending;
  unsure = [];
  const same = state.history.present === history.present && state.pending === pending;
  set({ revision: found, saving: same ? "kept" : "changed" });
  if (!same) keepSoon();
}

function doubt(kept: Kept): void {
  unsure = [...unsure, written(kept)].slice(-MOST_UNSURE);
}

function statusOf(error: unknown): number | null {
  return error instanceof Refusal ? error.status : null;
}

function notKept(error: unknown): void {
  if (error instanceof Refusal && error.away) {
    keepSoon(AGAIN_MS);
    return;
  }
  set({ saving: "refused" });
  toast(messageOf(error), { bad: true });
}

/** Looks whether another tab changed the canvas, where nothing of here waits to be kept. */
export function readAgain(): Promise<void> {
  return next(async () => {
    if (state.saving === "kept") await takeOver(state.id);
  });
}

/** Takes over what another tab changed; what was here can be had back by undoing. */
async function takeOver(id: string): Promise<void> {
  const found = await readCanvas(id);
  if (state.id !== id) return;
  if (found.revision !== state.revision) met(found.revision, found.document);
  if (state.saving === "changed") keepSoon();
}

function met(revision: number, json: unknown): void {
  const { history } = state;
  const side = history.present.frame.width;
  const kept = fromJson(json, side);
  const theirs = written(kept);
  // What was sent from here, and its answer was lost.
  const own = unsure.includes(theirs);
  const pending = joined(base, state.pending, kept.pending);
  const document = own ? history.present : kept.document;
  const same = written({ document, pending }) === theirs;
  base = kept.pending;
  unsure = [];
  const candidate = shownOf(pending);
  set({ revision, history: changed(history, document), pending, candidate, saving: same ? "kept" : "changed" });
}

/** A canvas as it comes back from the server, to compare. */
function written(kept: Kept): string {
  return JSON.stringify(toJson(fromJson(toJson(kept), kept.document.frame.width)));
}

/** What is waited for after both sides added and left some of what they knew. */
export function joined(before: readonly Pending[], ours: readonly Pending[], theirs: readonly Pending[]): Pending[] {
  const has = (list: readonly Pending[], one: Pending) => list.some((other) => other.job === one.job);
  const stay = theirs.filter((one) => has(ours, one) || !has(before, one));
  return [...stay, ...ours.filter((one) => !has(theirs, one) && !has(before, one))];
}

/** Keeps what there is no time to wait for: the page is left. */
export function keepLeaving(): void {
  const { id, revision, history, pending, saving } = state;
  if (saving !== "changed") return;
  const kept = { document: history.present, pending };
  doubt(kept);
  void keepCanvas(id, kept, revision, true).catch(() => undefined);
}
