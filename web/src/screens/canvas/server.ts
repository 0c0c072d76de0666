import { api, type Job, type Schemas, send, told, upload } from "../../api/client";
import { ask } from "../../api/jobs";
import { type Document, type Kept, seen, acting, toJson } from "./document";
import type { Box } from "./geometry";
import { alphaOf } from "./mask";
import { drawnLayers, drawnMask, opaque, pixelsOf, png, pngOfMask } from "./raster";
import { type Plan, planOf, requestOf, type Sent } from "./request";

export type CanvasEntry = Schemas["CanvasEntryShape"];

export async function canvases(): Promise<CanvasEntry[]> {
  return (await told(api.GET("/v1/canvases"))).data;
}

export function readCanvas(id: string): Promise<Schemas["CanvasShape"]> {
  return told(api.GET("/v1/canvases/{canvas_id}", { params: { path: { canvas_id: id } } }));
}

export function removeCanvas(id: string): Promise<unknown> {
  return told(api.DELETE("/v1/canvases/{canvas_id}", { params: { path: { canvas_id: id } } }));
}

/** What a browser sends of a page that is left has an end. */
const MOST_LEAVING = 60_000;

/** Keeps a canvas in place of the revision that was read, null = of any; the answer is the new revision. Throws Refusal, 412 where it was changed elsewhere. */
export async function keepCanvas(id: string, kept: Kept, revision: number | null, leaving = false): Promise<number> {
  const body = JSON.stringify(toJson(kept));
  const headers = { "Content-Type": "application/json", ...(revision === null ? {} : { "If-Match": `"${revision}"` }) };
  const keepalive = leaving && new TextEncoder().encode(body).length <= MOST_LEAVING;
  const answer = await send(`/v1/canvases/${id}`, { method: "PUT", body, headers, keepalive });
  return ((await answer.json()) as CanvasEntry).revision;
}

/** What a press of Generate would do now. */
export async function plannedFor(document: Document): Promise<Plan> {
  const canvas = await drawnLayers(seen(document), document.frame);
  return planOf(document, { alpha: alphaOf(pixelsOf(canvas)), mask: drawnMask(document.strokes, document.frame) });
}

/** Asks for what the frame shows to be made: the images are on their way when this returns. mask: the upload that is white where they are seen. */
export async function askFor(document: Document, once: string): Promise<{ job: Job; mask: string }> {
  const { frame } = document;
  const canvas = await drawnLayers(seen(document), frame);
  const below = { alpha: alphaOf(pixelsOf(canvas)), mask: drawnMask(document.strokes, frame) };
  const plan = planOf(document, below);
  const [image, made, shown] = await Promise.all([
    plan.way === "new" ? "" : upload(await png(opaque(canvas, source(plan, frame)))),
    "made" in plan && plan.outpaint === null ? upload(await pngOfMask(plan.made, frame)) : "",
    "shown" in plan ? upload(await pngOfMask(plan.shown, frame)) : "",
  ]);
  const fields = requestOf(document, plan, { image, mask: made, controls: await sentControls(document) });
  return { job: await ask(fields, once), mask: shown };
}

/** The part of the frame that is sent: of outpainting, what is there. */
function source(plan: Plan, frame: Box): Box {
  const whole = { x: 0, y: 0, width: frame.width, height: frame.height };
  if (!("outpaint" in plan) || plan.outpaint === null) return whole;
  const { left, top, right, bottom } = plan.outpaint;
  return { x: left, y: top, width: frame.width - left - right, height: frame.height - top - bottom };
}

async function sentControls(document: Document): Promise<Sent["controls"]> {
  return Promise.all(
    acting(document).map(async (layer) => {
      const canvas = await drawnLayers([{ ...layer, opacity: 1 }], document.frame);
      const whole = { x: 0, y: 0, width: canvas.width, height: canvas.height };
      return [layer.control, await upload(await png(opaque(canvas, whole)))] as const;
    }),
  );
}

/** Asks for the hint of an image. */
export function annotate(control: string): Promise<Job> {
  return told(api.POST("/v1/jobs/annotate", { body: { controls: [control] } }));
}

/** All that is seen in a box, as a PNG. */
export async function exported(document: Document, box: Box): Promise<Blob> {
  return png(await drawnLayers(seen(document), box));
}

