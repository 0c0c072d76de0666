import { api, type Job, send, told, upload } from "../../api/client";
import { messageOf, Refusal } from "../../api/errors";
import { afterEvent, cancelJob, hasEnded } from "../../api/jobs";
import { changesOf } from "../../api/live";
import { sideOf } from "../../api/sides";
import { patiently } from "../../api/patiently";
import { save } from "../../ui/save";
import { toast } from "../../ui/toasts";
import { alone } from "./alone";
import { type Document, empty, extent, fromJson, isEmpty, type Layer, type Pending, withLayer } from "./document";
import { around, type Box, fitted, type Point, type Size, snap, toCanvas, zoomed } from "./geometry";
import { addressOf, cutImage, hold, imageAt, png } from "./raster";
import { askFor, canvases, exported, keepCanvas, readCanvas } from "./server";
import { type Candidate, edit, imagesOf, keep, now, set, setPending, show } from "./store";

/** A name for a thing of a canvas, or for a canvas. */
export function newId(): string {
  return crypto.randomUUID().replaceAll("-", "");
}

/** The side of the images that the model was taught with. */
export async function usualSide(): Promise<number> {
  return sideOf((await told(api.GET("/v1/models"))).data, "");
}

/** Which canvas was asked for last: one that was asked for before it and comes later is not shown. */
let turn = 0;

/**
 * Opens the canvas that an address names: one by its id, a new one for an image, or else the one that was painted on last.
 * The answer is what is open then. Waits for a server that does not answer.
 */
export function open(search: URLSearchParams): Promise<string> {
  const mine = ++turn;
  return patiently(() => opened(search, mine));
}

async function opened(search: URLSearchParams, mine: number): Promise<string> {
  if (mine !== turn) return now().id;
  const image = search.get("image");
  if (image === null && search.get("id") === now().id && now().id !== "") return now().id;
  const side = await usualSide();
  if (image !== null) return begin(await documentOf(image, side), mine);
  const id = search.get("id") ?? (await canvases())[0]?.id;
  if (id === undefined) return begin(empty(side), mine);
  await keep();
  const found = await readCanvas(id);
  if (mine !== turn) return now().id;
  show(id, found.revision, fromJson(found.document, side));
  return id;
}

/** A new canvas; one with something on it is kept at once. */
export async function begin(document: Document, mine = ++turn): Promise<string> {
  await keep();
  if (mine !== turn) return now().id;
  const id = newId();
  const revision = isEmpty(document) ? 0 : await keepCanvas(id, { document, pending: [] }, 0);
  if (mine !== turn) return now().id;
  show(id, revision, { document, pending: [] });
  return id;
}

/** A canvas with an image of a job on it, in the middle of a frame of its size. */
async function documentOf(imageId: string, side: number): Promise<Document> {
  const about = await told(api.GET("/v1/images/{image_id}/metadata", { params: { path: { image_id: imageId } } }));
  const image = await upload(await (await send(`/v1/images/${imageId}`)).blob());
  const box = { x: 0, y: 0, width: about.width, height: about.height };
  const prompt = about.infotext.split("\n")[0] ?? "";
  const plain = empty(side);
  const made = withLayer(plain, { id: newId(), name: layerName(prompt), image, box, visible: true, opacity: 1, control: null });
  const frame = { ...box, width: snap(box.width), height: snap(box.height) };
  return { ...made, frame, settings: { ...plain.settings, prompt } };
}

const NAME_LENGTH = 40;

/** What a layer is called that was made with a prompt. */
export function layerName(prompt: string): string {
  return prompt.trim().slice(0, NAME_LENGTH);
}

/** Puts images on the canvas as layers, in the middle of the frame, or at a point. */
export async function drop(files: readonly Blob[], at?: Point): Promise<void> {
  const canvas = now().id;
  for (const file of files) {
    try {
      const [image, { width, height }] = await Promise.all([upload(file), sizeOf(file)]);
      if (now().id !== canvas) return;
      const middle = at ?? middleOf(now().history.present.frame);
      const box = { x: Math.round(middle.x - width / 2), y: Math.round(middle.y - height / 2), width, height };
      const id = newId();
      const name = file instanceof File ? file.name.replace(/\.\w+$/, "") : "";
      edit((document) => withLayer(document, { id, name, image, box, visible: true, opacity: 1, control: null }));
      set({ layer: id });
    } catch (error) {
      toast(messageOf(error), { bad: true });
    }
  }
}

async function sizeOf(file: Blob): Promise<Size> {
  const picture = await createImageBitmap(file);
  const { width, height } = picture;
  picture.close();
  return { width, height };
}

function middleOf(box: Box): Point {
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}

/** Asks for what is to be in the frame. The images wait beside the canvas until they are taken or left. */
export const generate = alone(async () => {
  const { id, history } = now();
  const document = history.present;
  const once = crypto.randomUUID();
  const { job, mask } = await patiently(() => askFor(document, once));
  // Of a canvas that was left the images go to the gallery alone.
  if (now().id !== id) return;
  const one: Pending = { job: job.id, frame: document.frame, mask };
  const before = now();
  set({ jobs: { ...before.jobs, [job.id]: { job, previews: {} } }, candidate: imagesOf(before.pending, before.jobs).length });
  set({ pending: [...before.pending, one], saving: "changed" });
  void keep();
});

const AGAIN_MS = 2000;
const watched = new Set<string>();

/** Follows a job until it ends, once; one that is not there any more, or that made nothing, leaves the list. */
export function watch({ job }: Pending): void {
  const live = now().jobs[job];
  if (watched.has(job) || (live !== undefined && hasEnded(live.job))) return;
  watched.add(job);
  void followed(job).finally(() => watched.delete(job));
}

/** Only a job that the server does not have any more is given up: whatever else goes wrong may be over a moment later. */
async function followed(id: string): Promise<void> {
  while (isAwaited(id)) {
    try {
      await follow(id);
      return;
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) {
        giveUp(id, messageOf(error));
        return;
      }
    }
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
}

function isAwaited(id: string): boolean {
  return now().pending.some((one) => one.job === id);
}

function giveUp(id: string, why: string | undefined): void {
  if (!isAwaited(id)) return;
  setPending(now().pending.filter((one) => one.job !== id));
  if (why !== undefined) toast(why, { bad: true });
}

async function follow(id: string): Promise<void> {
  const found = await told(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
  if (!isAwaited(id)) return;
  put(found);
  for await (const { name, data } of changesOf(id)) {
    if (!isAwaited(id)) return;
    // The canvas was left and is open again.
    const live = now().jobs[id] ?? { job: found, previews: {} };
    set({ jobs: { ...now().jobs, [id]: afterEvent(live, name, data) } });
  }
  const job = await told(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
  if (!isAwaited(id)) return;
  put(job);
  if (hasEnded(job) && job.images.length === 0) giveUp(id, job.error?.message);
}

function put(job: Job): void {
  set({ jobs: { ...now().jobs, [job.id]: { job, previews: now().jobs[job.id]?.previews ?? {} } } });
}

/** Makes a candidate a layer; the others go. */
export const accept = alone(async (candidate: Candidate, name: string) => {
  const { id } = now();
  const kept = await upload(await png(await cutOut(candidate)));
  if (now().id !== id) return;
  const { pending } = candidate;
  const layer: Layer = { id: newId(), name, image: kept, box: pending.frame, visible: true, opacity: 1, control: null };
  // What was masked is made: the mask has done its work.
  edit((document) => ({ ...withLayer(document, layer), strokes: [] }));
  set({ layer: layer.id });
  leaveAll();
});

async function cutOut({ pending, image }: Candidate): Promise<OffscreenCanvas> {
  const release = hold(image.url, addressOf(pending.mask));
  try {
    const [made, mask] = await Promise.all([imageAt(image.url), pending.mask === "" ? null : imageAt(addressOf(pending.mask))]);
    return await cutImage(made, mask, pending.frame);
  } finally {
    release();
  }
}

/** Leaves all candidates; jobs that still run are stopped. The answer is what puts them back. */
export function discard(): () => void {
  const { pending, jobs, candidate } = now();
  leaveAll();
  return () => {
    set({ jobs, candidate });
    setPending([...pending, ...now().pending]);
  };
}

function leaveAll(): void {
  for (const { job } of now().pending) {
    const live = now().jobs[job];
    if (live !== undefined && !hasEnded(live.job)) void cancelJob(job).catch(() => undefined);
  }
  set({ candidate: 0 });
  setPending([]);
}

/** Leaves the candidate that is shown alone. */
export function step(by: number): void {
  const { pending, jobs, candidate } = now();
  const count = imagesOf(pending, jobs).length;
  if (count > 0) set({ candidate: (candidate + by + count) % count });
}

/** The view on the frame, or on all that there is. */
export function look(what: "frame" | "all"): void {
  const { history, window } = now();
  const document = history.present;
  const box = what === "frame" ? document.frame : around([document.frame, extent(document) ?? document.frame]);
  if (box !== null && window.width > 0) set({ view: fitted(box, window, 0.3, 6) });
}

export function zoom(factor: number): void {
  const { view, window } = now();
  set({ view: zoomed(view, factor, { x: window.width / 2, y: window.height / 2 }) });
}

export function middle(): Point {
  const { view, window } = now();
  return toCanvas(view, { x: window.width / 2, y: window.height / 2 });
}

/** Saves the frame, or all that there is, as a PNG on this computer. */
export async function savePart(what: "frame" | "all"): Promise<void> {
  const document = now().history.present;
  const box = what === "frame" ? document.frame : extent(document);
  if (box === null) return;
  const whole = { x: Math.floor(box.x), y: Math.floor(box.y), width: Math.ceil(box.width), height: Math.ceil(box.height) };
  save(await exported(document, whole), `${document.name || "canvas"}.png`);
}
