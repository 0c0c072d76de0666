import { send } from "../../api/client";
import type { Layer, Stroke } from "./document";
import type { Box, Size } from "./geometry";
import { alphaOf, cut, type Grey, greyPixels } from "./mask";
import { Shelf } from "./shelf";

type Context = OffscreenCanvasRenderingContext2D;

const MOST_READ = 200;
/** Images by their addresses, once read: a canvas draws them at every change. */
const shelf = new Shelf(fetched, MOST_READ);

/** The address of what an upload is called. */
export function addressOf(upload: string): string {
  return `/v1/uploads/${upload.replace("upload:", "")}`;
}

/** An image of the server; hold it while it is drawn. Throws Refusal. */
export function imageAt(address: string): Promise<ImageBitmap> {
  return shelf.at(address);
}

/** Keeps images usable until the answer is called. */
export function hold(...addresses: string[]): () => void {
  return shelf.hold(...addresses);
}

async function fetched(address: string): Promise<ImageBitmap> {
  return createImageBitmap(await (await send(address)).blob());
}

function drawing({ width, height }: Size): [OffscreenCanvas, Context] {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("The browser gives no canvas.");
  return [canvas, context];
}

/** What is seen of layers in a box, at one pixel for each of the canvas. */
export async function drawnLayers(layers: readonly Layer[], box: Box): Promise<OffscreenCanvas> {
  const [canvas, context] = drawing(box);
  const addresses = layers.map((layer) => addressOf(layer.image));
  const release = hold(...addresses);
  try {
    const images = await Promise.all(addresses.map(imageAt));
    layers.forEach((layer, at) => {
      const image = images[at];
      if (image === undefined) return;
      context.globalAlpha = layer.opacity;
      context.drawImage(image, layer.box.x - box.x, layer.box.y - box.y, layer.box.width, layer.box.height);
    });
  } finally {
    release();
  }
  return canvas;
}

/** The mask in a box. */
export function drawnMask(strokes: readonly Stroke[], box: Box): Grey {
  const [canvas, context] = drawing(box);
  context.translate(-box.x, -box.y);
  for (const stroke of strokes) drawStroke(context, stroke);
  return alphaOf(pixelsOf(canvas));
}

function drawStroke(context: Context, { kind, size, points }: Stroke): void {
  context.globalCompositeOperation = kind === "erase" ? "destination-out" : "source-over";
  context.lineWidth = size;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  for (let at = 0; at + 1 < points.length; at += 2) context.lineTo(points[at] ?? 0, points[at + 1] ?? 0);
  // A line of one point is a dot.
  if (points.length === 2) context.lineTo(points[0] ?? 0, points[1] ?? 0);
  if (kind === "area") context.fill();
  else context.stroke();
}

export function pixelsOf(canvas: OffscreenCanvas): Uint8ClampedArray {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("The browser gives no canvas.");
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}

/** A part of a canvas, on white where nothing is. */
export function opaque(canvas: OffscreenCanvas, part: Box): OffscreenCanvas {
  const [made, context] = drawing(part);
  context.fillStyle = "white";
  context.fillRect(0, 0, part.width, part.height);
  context.drawImage(canvas, -part.x, -part.y);
  return made;
}

export function png(canvas: OffscreenCanvas): Promise<Blob> {
  return canvas.convertToBlob({ type: "image/png" });
}

export function pngOfPixels(pixels: Uint8ClampedArray<ArrayBuffer>, size: Size): Promise<Blob> {
  const [canvas, context] = drawing(size);
  context.putImageData(new ImageData(pixels, size.width, size.height), 0, 0);
  return png(canvas);
}

export function pngOfMask(mask: Grey, size: Size): Promise<Blob> {
  return pngOfPixels(greyPixels(mask), size);
}

/** An image brought to a size, and seen only where a mask is white; null: everywhere. */
export async function cutImage(image: ImageBitmap, mask: ImageBitmap | null, size: Size): Promise<OffscreenCanvas> {
  const [canvas, context] = drawing(size);
  context.drawImage(image, 0, 0, size.width, size.height);
  if (mask === null) return canvas;
  const [cover, covering] = drawing(size);
  covering.drawImage(mask, 0, 0, size.width, size.height);
  const shown = pixelsOf(cover);
  const grey = new Uint8ClampedArray(shown.length / 4).map((_, at) => shown[at * 4] ?? 0);
  context.putImageData(new ImageData(cut(pixelsOf(canvas), grey), size.width, size.height), 0, 0);
  return Promise.resolve(canvas);
}
