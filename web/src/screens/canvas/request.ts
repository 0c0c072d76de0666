import type { Fields } from "../../api/client";
import type { Control, Document, Region } from "./document";
import { type Box, intersection } from "./geometry";
import { anything, either, emptyPart, everything, type Grey, grown, hard, type Margins, margins, reachOf } from "./mask";

/** What a press of Generate does: an image from nothing, one from what lies below, a new part of it, more around it. */
export type Way = "new" | "from" | "mask" | "extend";

/** What lies in the frame. alpha: of the layers that are seen; mask: of what was drawn. Both are as large as the frame. */
export interface Below {
  alpha: Grey;
  mask: Grey;
}

/** How the frame is generated. made: white where the server makes something new; shown: white where the result is seen; gaps: whether there
 * is nothing below some of it. */
export type Plan =
  | { way: "new" }
  | { way: "from" }
  | { way: "mask" | "extend"; made: Grey; shown: Grey; outpaint: Margins | null; gaps: boolean };

/** Decides from what lies in the frame. An empty part is always made; with nothing there, a mask has nothing to keep. */
export function planOf(document: Document, below: Below): Plan {
  const missing = emptyPart(below.alpha);
  if (everything(missing)) return { way: "new" };
  const drawn = hard(below.mask);
  const masked = anything(drawn);
  if (!masked && !anything(missing)) return { way: "from" };
  if (masked && everything(either(drawn, missing)) && !anything(missing)) return { way: "from" };
  const { frame, settings } = document;
  const around = masked ? null : outpaintable(margins(missing, frame), frame);
  const made = either(drawn, missing);
  const reach = around === null ? reachOf(settings.blur) : OVERLAP;
  const gaps = anything(missing);
  return { way: masked ? "mask" : "extend", made, shown: grown(made, frame, reach), outpaint: around, gaps };
}

/** What is there stays as it is to the pixel, so that the result may lie over its edge: no gap is seen where the two meet. */
const OVERLAP = 2;

/** Margins that the server's own outpainting makes in one pass: none is larger than what there is along it. */
function outpaintable(found: Margins | null, { width, height }: Box): Margins | null {
  if (found === null) return null;
  const across = width - found.left - found.right;
  const down = height - found.top - found.bottom;
  const fits = Math.max(found.left, found.right) <= across && Math.max(found.top, found.bottom) <= down;
  return fits ? found : null;
}

/** Uploads that a request names. image, mask: "" where there is none; controls: in the order of the control layers. */
export interface Sent {
  image: string;
  mask: string;
  controls: readonly (readonly [Control, string])[];
}

/** The fields of the request. */
export function requestOf(document: Document, plan: Plan, sent: Sent): Fields {
  const { frame, settings, regions } = document;
  const fields: Fields = { ...settings.more, prompt: settings.prompt, batch_count: settings.count };
  if (settings.negative !== "") fields["negative_prompt"] = settings.negative;
  const boxes = regions.flatMap((region) => regionText(region, frame) ?? []);
  if (boxes.length > 0) fields["regions"] = boxes;
  if (sent.controls.length > 0) fields["controls"] = sent.controls.map(([control, image]) => controlText(control, image));
  return { ...fields, ...placeFields(document, plan, sent) };
}

function placeFields({ frame, settings }: Document, plan: Plan, sent: Sent): Fields {
  const size: Fields = { width: frame.width, height: frame.height };
  if (plan.way === "new") return size;
  const image = { image: sent.image, denoising_strength: settings.strength };
  if (plan.way === "from") return { ...size, ...image };
  if (plan.outpaint !== null) return { ...image, outpaint: marginText(plan.outpaint) };
  const masked = { ...size, ...image, mask: sent.mask, mask_blur: settings.blur, inpaint_area: "Whole picture" };
  return { ...masked, masked_content: plan.gaps ? "fill" : settings.content };
}

function marginText({ left, top, right, bottom }: Margins): string {
  return `left=${left},right=${right},top=${top},bottom=${bottom}`;
}

/** A region as the field `regions` has it: its part of the frame in shares; null for one outside, or without words. */
export function regionText(region: Region, frame: Box): string | null {
  const part = intersection(region.box, frame);
  if (part === null || region.prompt.trim() === "") return null;
  const left = (part.x - frame.x) / frame.width;
  const top = (part.y - frame.y) / frame.height;
  const edges = [left, top, left + part.width / frame.width, top + part.height / frame.height].map(share);
  const weight = region.weight === 1 ? "" : ` weight=${share(region.weight)}`;
  const negative = region.negative === "" ? "" : ` negative=${JSON.stringify(region.negative)}`;
  return `box=${edges.join(",")}${weight}${negative}: ${region.prompt}`;
}

/** A control as the field `controls` has it. */
export function controlText(control: Control, image: string): string {
  const more = [
    control.annotator === "" ? "" : ` annotator=${control.annotator}`,
    control.start === 0 ? "" : ` start=${share(control.start)}`,
    control.end === 1 ? "" : ` end=${share(control.end)}`,
  ];
  return `${control.type}:${image}:${share(control.weight)}${more.join("")}`;
}

const DIGITS = 10_000;

function share(value: number): string {
  return String(Math.round(value * DIGITS) / DIGITS);
}
