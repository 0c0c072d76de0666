import type { Fields, Json } from "../../api/client";
import { isRecord } from "../../api/errors";
import { around, type Box, framed, moved } from "./geometry";

/** What a control layer steers by: the type of the control, what draws its hint ("" = the usual), and when it acts. */
export interface Control {
  type: string;
  annotator: string;
  weight: number;
  start: number;
  end: number;
}

/** An image at a place. image: what an upload is called. control: null for a layer that is seen. */
export interface Layer {
  id: string;
  name: string;
  image: string;
  box: Box;
  visible: boolean;
  opacity: number;
  control: Control | null;
}

/** A part of the mask: a line of a brush, or an area that was drawn around. points: x, y, x, y, … */
export interface Stroke {
  kind: "paint" | "erase" | "area";
  size: number;
  points: readonly number[];
}

export interface Region {
  id: string;
  box: Box;
  prompt: string;
  negative: string;
  weight: number;
}

export const CONTENTS = ["original", "fill", "latent noise", "latent nothing"] as const;
export type Content = (typeof CONTENTS)[number];

/** What is asked for beside what lies on the canvas. more: any other field of a request. */
export interface Settings {
  prompt: string;
  negative: string;
  strength: number;
  count: number;
  content: Content;
  blur: number;
  more: Fields;
}

/** All of a canvas that can be undone. Layers and strokes: the lowest first. */
export interface Document {
  name: string;
  layers: readonly Layer[];
  strokes: readonly Stroke[];
  frame: Box;
  regions: readonly Region[];
  settings: Settings;
}

/** Images that were asked for and not yet taken or left. mask: the upload that is white where they are seen; "" = all over. */
export interface Pending {
  job: string;
  frame: Box;
  mask: string;
}

/** What is kept on the server. */
export interface Kept {
  document: Document;
  pending: readonly Pending[];
}

const SETTINGS: Settings = { prompt: "", negative: "", strength: 0.75, count: 1, content: "original", blur: 4, more: {} };

export function empty(side: number): Document {
  return { name: "", layers: [], strokes: [], frame: { x: 0, y: 0, width: side, height: side }, regions: [], settings: SETTINGS };
}

export function isEmpty(document: Document): boolean {
  return document.layers.length === 0 && document.strokes.length === 0 && document.regions.length === 0 && document.settings.prompt === "";
}

export function withLayer(document: Document, layer: Layer): Document {
  return { ...document, layers: [...document.layers, layer] };
}

export function changedLayer(document: Document, id: string, change: Partial<Layer>): Document {
  return { ...document, layers: document.layers.map((layer) => (layer.id === id ? { ...layer, ...change } : layer)) };
}

export function withoutLayer(document: Document, id: string): Document {
  return { ...document, layers: document.layers.filter((layer) => layer.id !== id) };
}

/** A layer moved by so many places, up with positive ones; it goes no farther than there are layers. */
export function raisedLayer(document: Document, id: string, by: number): Document {
  const from = document.layers.findIndex((layer) => layer.id === id);
  const layer = document.layers[from];
  if (layer === undefined) return document;
  const to = Math.min(Math.max(from + by, 0), document.layers.length - 1);
  if (to === from) return document;
  const layers = document.layers.filter((other) => other.id !== id);
  return { ...document, layers: [...layers.slice(0, to), layer, ...layers.slice(to)] };
}

export function movedLayer(document: Document, id: string, dx: number, dy: number): Document {
  const layer = document.layers.find((one) => one.id === id);
  return layer === undefined ? document : changedLayer(document, id, { box: moved(layer.box, dx, dy) });
}

/** Layers that are seen, the lowest first. */
export function seen(document: Document): Layer[] {
  return document.layers.filter((layer) => layer.visible && layer.control === null && layer.opacity > 0);
}

/** Control layers that act. */
export function acting(document: Document): (Layer & { control: Control })[] {
  return document.layers.filter((layer): layer is Layer & { control: Control } => layer.visible && layer.control !== null);
}

/** The box around all that is seen; null where nothing is. */
export function extent(document: Document): Box | null {
  return around(seen(document).map((layer) => layer.box));
}

export function withStroke(document: Document, stroke: Stroke): Document {
  return { ...document, strokes: [...document.strokes, stroke] };
}

export function changedRegion(document: Document, id: string, change: Partial<Region>): Document {
  return { ...document, regions: document.regions.map((region) => (region.id === id ? { ...region, ...change } : region)) };
}

export function withoutRegion(document: Document, id: string): Document {
  return { ...document, regions: document.regions.filter((region) => region.id !== id) };
}

export function changedSettings(document: Document, change: Partial<Settings>): Document {
  return { ...document, settings: { ...document.settings, ...change } };
}

const VERSION = 1;

/** The JSON of a canvas. The points of a stroke are one text: the server counts values. */
export function toJson({ document, pending }: Kept): Record<string, Json> {
  const strokes = document.strokes.map((stroke) => ({ ...stroke, points: stroke.points.map((value) => Math.round(value * 10) / 10).join(" ") }));
  return { version: VERSION, ...document, strokes, pending } as unknown as Record<string, Json>;
}

/** A canvas of its JSON; what is missing or of another kind is as in a new one. */
export function fromJson(json: unknown, side: number): Kept {
  const found = isRecord(json) ? json : {};
  const plain = empty(side);
  const document: Document = {
    name: text(found["name"]),
    layers: list(found["layers"], layerOf),
    strokes: list(found["strokes"], strokeOf),
    frame: framed(boxOf(found["frame"]) ?? plain.frame),
    regions: list(found["regions"], regionOf),
    settings: settingsOf(isRecord(found["settings"]) ? found["settings"] : {}),
  };
  return { document, pending: list(found["pending"], pendingOf) };
}

function settingsOf(value: Record<string, unknown>): Settings {
  const content = CONTENTS.find((one) => one === value["content"]) ?? SETTINGS.content;
  return {
    prompt: text(value["prompt"]),
    negative: text(value["negative"]),
    strength: number(value["strength"], SETTINGS.strength),
    count: number(value["count"], SETTINGS.count),
    content,
    blur: number(value["blur"], SETTINGS.blur),
    more: isRecord(value["more"]) ? (value["more"] as Fields) : {},
  };
}

function list<T>(value: unknown, read: (one: Record<string, unknown>) => T | null): T[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((one: unknown) => {
    const found = isRecord(one) ? read(one) : null;
    return found === null ? [] : [found];
  });
}

function layerOf(value: Record<string, unknown>): Layer | null {
  const box = boxOf(value["box"]);
  const image = text(value["image"]);
  if (box === null || image === "") return null;
  const control = isRecord(value["control"]) ? controlOf(value["control"]) : null;
  const opacity = number(value["opacity"], 1);
  return { id: text(value["id"]), name: text(value["name"]), image, box, visible: value["visible"] !== false, opacity, control };
}

function controlOf(value: Record<string, unknown>): Control {
  return {
    type: text(value["type"]),
    annotator: text(value["annotator"]),
    weight: number(value["weight"], 1),
    start: number(value["start"], 0),
    end: number(value["end"], 1),
  };
}

function strokeOf(value: Record<string, unknown>): Stroke | null {
  const { kind } = value;
  if (kind !== "paint" && kind !== "erase" && kind !== "area") return null;
  const points = text(value["points"]).split(" ").map(Number);
  return points.some(Number.isNaN) ? null : { kind, size: number(value["size"], 1), points };
}

function regionOf(value: Record<string, unknown>): Region | null {
  const box = boxOf(value["box"]);
  if (box === null) return null;
  const [prompt, negative] = [text(value["prompt"]), text(value["negative"])];
  return { id: text(value["id"]), box, prompt, negative, weight: number(value["weight"], 1) };
}

function pendingOf(value: Record<string, unknown>): Pending | null {
  const frame = boxOf(value["frame"]);
  const job = text(value["job"]);
  return frame === null || job === "" ? null : { job, frame, mask: text(value["mask"]) };
}

function boxOf(value: unknown): Box | null {
  if (!isRecord(value)) return null;
  const [x, y, width, height] = ["x", "y", "width", "height"].map((name) => number(value[name], Number.NaN)) as [number, number, number, number];
  return [x, y, width, height].some(Number.isNaN) || width <= 0 || height <= 0 ? null : { x, y, width, height };
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown, otherwise: number): number {
  return typeof value === "number" && Number.isFinite(value) ? value : otherwise;
}
