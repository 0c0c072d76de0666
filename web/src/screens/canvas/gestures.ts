import { changedLayer, changedRegion, type Document, type Layer, movedLayer, type Region, seen, acting, type Stroke, withoutLayer, withoutRegion, withStroke } from "./document";
import { type Box, dragged, draggedFrame, type Grip, gripAt, holds, intersection, moved, type Point, spanned, toCanvas } from "./geometry";
import { newId } from "./actions";
import { edit, now, set, settle, type Tool } from "./store";

/** What a press of the pointer began, and what its moves go on with. Points are of the canvas, but for the hand's. */
export interface Gesture {
  to: (point: Point, inWindow: Point) => void;
  end: () => void;
}

const REACH = 8;
const LEAST_REGION = 16;

/** How near a pointer must come, in pixels of the canvas. */
function reach(): number {
  return REACH / now().view.scale;
}

/** Begins what the tool does at a point of the window. */
export function press(tool: Tool, inWindow: Point): Gesture | null {
  const point = toCanvas(now().view, inWindow);
  if (tool === "hand") return pan(inWindow);
  if (tool === "brush" || tool === "eraser" || tool === "lasso") return draw(tool, point);
  if (tool === "frame") return pullFrame(point);
  return tool === "region" ? pullRegion(point) : pullLayer(point);
}

function pan(start: Point): Gesture {
  const { view } = now();
  return { to: (_, at) => set({ view: moved(view, at.x - start.x, at.y - start.y) }), end: () => undefined };
}

function draw(tool: "brush" | "eraser" | "lasso", point: Point): Gesture {
  set({ draft: begunStroke(tool, point) });
  return { to: (at) => drawTo(at), end: () => finishStroke() };
}

export function begunStroke(tool: "brush" | "eraser" | "lasso", point: Point): Stroke {
  const kind = tool === "brush" ? "paint" : tool === "eraser" ? "erase" : "area";
  return { kind, size: now().brush, points: [point.x, point.y] };
}

export function drawTo({ x, y }: Point): void {
  const { draft } = now();
  if (draft !== null) set({ draft: { ...draft, points: [...draft.points, x, y] } });
}

const LEAST_AREA_POINTS = 3;

/** Puts what is being drawn into the mask; an area of fewer than three corners is none. */
export function finishStroke(): void {
  const { draft } = now();
  set({ draft: null, down: false });
  if (draft === null || (draft.kind === "area" && draft.points.length < 2 * LEAST_AREA_POINTS)) return;
  edit((document) => withStroke(document, draft));
}

function pullFrame(start: Point): Gesture | null {
  const { frame } = now().history.present;
  const grip = gripAt(frame, start, reach());
  if (grip === null) return null;
  const tag = `frame ${newId()}`;
  return {
    to: (at) => edit((document) => ({ ...document, frame: draggedFrame(frame, grip, at.x - start.x, at.y - start.y) }), tag),
    end: settle,
  };
}

function pullLayer(start: Point): Gesture | null {
  const layer = layerAt(now().history.present, start, now().layer);
  set({ layer: layer?.id ?? "" });
  if (layer === null) return null;
  const tag = `layer ${newId()}`;
  const to = (at: Point) => {
    const box = moved(layer.box, Math.round(at.x - start.x), Math.round(at.y - start.y));
    edit((document) => changedLayer(document, layer.id, { box }), tag);
  };
  return { to, end: settle };
}

/** The layer at a point: the chosen one if it is there, else the uppermost. */
export function layerAt(document: Document, point: Point, chosen: string): Layer | null {
  const there = [...seen(document), ...acting(document)].filter((layer) => holds(layer.box, point));
  return there.find((layer) => layer.id === chosen) ?? there.at(-1) ?? null;
}

function pullRegion(start: Point): Gesture {
  const document = now().history.present;
  const found = [...document.regions].reverse().find((region) => gripAt(region.box, start, reach()) !== null);
  if (found === undefined) return newRegion(start, document.frame);
  set({ region: found.id });
  const grip = gripAt(found.box, start, reach()) ?? "inside";
  const tag = `region ${newId()}`;
  const to = (at: Point) => edit((one) => changedRegion(one, found.id, { box: pulled(found.box, grip, start, at) }), tag);
  return { to, end: settle };
}

function pulled(box: Box, grip: Grip, start: Point, at: Point): Box {
  return dragged(box, grip, Math.round(at.x - start.x), Math.round(at.y - start.y), LEAST_REGION);
}

function newRegion(start: Point, frame: Box): Gesture {
  const region = blankRegion({ ...start, width: 0, height: 0 });
  const tag = `region ${region.id}`;
  const first = { x: Math.round(start.x), y: Math.round(start.y) };
  const to = (at: Point) => {
    const box = intersection(spanned(first, { x: Math.round(at.x), y: Math.round(at.y) }), frame);
    if (box === null || box.width < LEAST_REGION || box.height < LEAST_REGION) return;
    edit((one) => ({ ...one, regions: [...one.regions.filter((other) => other.id !== region.id), { ...region, box }] }), tag);
    set({ region: region.id });
  };
  return { to, end: settle };
}

export function blankRegion(box: Box): Region {
  return { id: newId(), box, prompt: "", negative: "", weight: 1 };
}

/** A region in the left half of the frame, the next one in the right half: what is asked for most. */
export function addRegion(): void {
  const { frame, regions } = now().history.present;
  const width = Math.round(frame.width / 2);
  const x = regions.length % 2 === 0 ? frame.x : frame.x + width;
  const region = blankRegion({ x, y: frame.y, width, height: frame.height });
  edit((document) => ({ ...document, regions: [...document.regions, region] }));
  set({ region: region.id, tool: "region" });
}

/** Moves, or with `resize` enlarges, what the tool has in hand; keys in a row are undone together. */
export function nudge(tool: Tool, dx: number, dy: number, resize: boolean): void {
  const { view, layer, region } = now();
  const grip = resize ? "se" : "inside";
  if (tool === "hand") set({ view: moved(view, -dx * view.scale, -dy * view.scale) });
  else if (tool === "frame") edit((one) => ({ ...one, frame: draggedFrame(one.frame, grip, dx, dy) }), `frame ${grip}`);
  else if (tool === "move") edit((one) => movedLayer(one, layer, dx, dy), `nudge ${layer}`);
  else if (tool === "region") edit((one) => nudgedRegion(one, region, grip, dx, dy), `nudge ${region} ${grip}`);
}

function nudgedRegion(document: Document, id: string, grip: Grip, dx: number, dy: number): Document {
  const region = document.regions.find((one) => one.id === id);
  return region === undefined ? document : changedRegion(document, id, { box: dragged(region.box, grip, dx, dy, LEAST_REGION) });
}

export function removeChosen(tool: Tool): void {
  const { layer, region } = now();
  if (tool === "move") edit((document) => (document.layers.some((one) => one.id === layer) ? withoutLayer(document, layer) : document));
  if (tool === "region") edit((document) => (document.regions.some((one) => one.id === region) ? withoutRegion(document, region) : document));
}
