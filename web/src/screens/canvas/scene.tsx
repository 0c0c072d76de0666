import "konva/lib/shapes/Circle";
import "konva/lib/shapes/Image";
import "konva/lib/shapes/Line";
import "konva/lib/shapes/Rect";
import "konva/lib/shapes/Text";

import { useEffect, useState } from "react";
import { Circle, Group, Image, Layer as Plane, Line, Rect, Stage, Text } from "react-konva/lib/ReactKonvaCore";

import { hasEnded } from "../../api/jobs";
import { draws } from "./commands";
import { useHints } from "./controls";
import type { Layer, Region, Stroke } from "./document";
import type { Box } from "./geometry";
import { addressOf, cutImage, hold, imageAt } from "./raster";
import { imagesOf, type Candidate, useCanvas, useDocument } from "./store";
import { useColours } from "./colours";

const FAINT = 0.5;
const HANDLE = 9;
const DASH = 6;
/** Half of the corner in which a region says its number. */
const MARK = 18;
/** From this scale on one wants to see pixels. */
const COARSE = 6;
const FAR = 100_000;

/** All that is drawn, in the order in which it lies: layers, candidates, the mask, then frame and boxes. */
export function Scene() {
  const view = useCanvas((one) => one.view);
  const size = useCanvas((one) => one.window);
  if (size.width === 0) return null;
  return (
    <Stage width={size.width} height={size.height} x={view.x} y={view.y} scaleX={view.scale} scaleY={view.scale} listening={false}>
      <Plane listening={false} imageSmoothingEnabled={view.scale < COARSE}>
        <Layers />
        <Waiting />
      </Plane>
      <Mask />
      <Plane listening={false}>
        <Regions />
        <Frame />
        <Chosen />
        <Cursor />
      </Plane>
    </Stage>
  );
}

function Layers() {
  const { layers } = useDocument();
  const hints = useHints();
  return layers
    .filter((layer) => layer.visible)
    .map((layer) => <Shown key={layer.id} layer={layer} address={hints[layer.id] ?? addressOf(layer.image)} />);
}

function Shown({ layer, address }: { layer: Layer; address: string }) {
  const image = useImage(address);
  return image === null ? null : <Image image={image} {...layer.box} opacity={layer.opacity} />;
}

/** An image of the server; the one before it stays until it is there. */
function useImage(address: string | null): ImageBitmap | null {
  const [found, setFound] = useState<{ address: string; image: ImageBitmap } | null>(null);
  useEffect(() => {
    let wanted = true;
    if (address === null) return;
    const release = hold(address);
    imageAt(address).then(
      (image) => wanted && setFound({ address, image }),
      () => wanted && setFound(null),
    );
    return () => {
      wanted = false;
      release();
    };
  }, [address]);
  useEffect(() => (found === null ? undefined : hold(found.address)), [found]);
  return address === null ? null : (found?.image ?? null);
}

/** The candidate that is chosen, or what is seen so far of the next one. */
function Waiting() {
  const pending = useCanvas((one) => one.pending);
  const jobs = useCanvas((one) => one.jobs);
  const at = useCanvas((one) => one.candidate);
  const chosen = imagesOf(pending, jobs)[at];
  if (chosen !== undefined) return <Taken candidate={chosen} />;
  const shown = pending.flatMap((one) => {
    const live = jobs[one.job];
    const preview = live === undefined || hasEnded(live.job) ? undefined : live.previews[live.job.images.length];
    return preview === undefined ? [] : [{ address: preview, mask: one.mask, box: one.frame }];
  });
  return shown[0] === undefined ? null : <Preview {...shown[0]} />;
}

function Taken({ candidate }: { candidate: Candidate }) {
  return <Preview address={candidate.image.url} mask={candidate.pending.mask} box={candidate.pending.frame} />;
}

function Preview({ address, mask, box }: { address: string; mask: string; box: Box }) {
  const image = useCut(address, mask, box);
  return image === null ? null : <Image image={image} {...box} />;
}

function useCut(address: string, mask: string, box: Box): OffscreenCanvas | null {
  const [found, setFound] = useState<OffscreenCanvas | null>(null);
  useEffect(() => {
    let wanted = true;
    cutAt(address, mask, box).then(
      (cut) => wanted && setFound(cut),
      () => undefined,
    );
    return () => {
      wanted = false;
    };
  }, [address, mask, box]);
  return found;
}

async function cutAt(address: string, mask: string, box: Box): Promise<OffscreenCanvas> {
  const release = hold(address, addressOf(mask));
  try {
    const [image, cover] = await Promise.all([previewAt(address), mask === "" ? null : imageAt(addressOf(mask))]);
    const made = await cutImage(image, cover, box);
    if (isInside(address)) image.close();
    return made;
  } finally {
    release();
  }
}

function isInside(address: string): boolean {
  return address.startsWith("data:");
}

/** A preview comes inside of its address, which the policy lets an image read, but not a request. */
async function previewAt(address: string): Promise<ImageBitmap> {
  if (!isInside(address)) return imageAt(address);
  const image = new globalThis.Image();
  image.src = address;
  await image.decode();
  return createImageBitmap(image);
}

/** What is made anew, in a colour; while it is made, and while one looks at what was, it is out of the way. */
function Mask() {
  const { strokes } = useDocument();
  const draft = useCanvas((one) => one.draft);
  const hidden = useCanvas((one) => one.draft === null && one.pending.length > 0);
  const { mask } = useColours();
  if (hidden) return null;
  return (
    <Plane listening={false} opacity={FAINT}>
      {[...strokes, ...(draft === null ? [] : [draft])].map((stroke, at) => (
        <Drawn key={at} stroke={stroke} colour={mask} />
      ))}
    </Plane>
  );
}

function Drawn({ stroke, colour }: { stroke: Stroke; colour: string }) {
  const points = stroke.points.length === 2 ? [...stroke.points, ...stroke.points] : [...stroke.points];
  if (stroke.kind === "area") return <Line points={points} closed fill={colour} perfectDrawEnabled={false} />;
  return (
    <Line
      points={points}
      stroke={colour}
      strokeWidth={stroke.size}
      lineCap="round"
      lineJoin="round"
      globalCompositeOperation={stroke.kind === "erase" ? "destination-out" : "source-over"}
      perfectDrawEnabled={false}
    />
  );
}

/** The frame, with what lies outside of it paler. */
function Frame() {
  const { frame } = useDocument();
  const tool = useCanvas((one) => one.tool);
  const scale = useCanvas((one) => one.view.scale);
  const { ground, accent, surface } = useColours();
  const right = frame.x + frame.width;
  const bottom = frame.y + frame.height;
  return (
    <>
      <Group opacity={FAINT}>
        <Rect x={-FAR} y={-FAR} width={2 * FAR} height={FAR + frame.y} fill={ground} />
        <Rect x={-FAR} y={bottom} width={2 * FAR} height={FAR - bottom} fill={ground} />
        <Rect x={-FAR} y={frame.y} width={FAR + frame.x} height={frame.height} fill={ground} />
        <Rect x={right} y={frame.y} width={FAR - right} height={frame.height} fill={ground} />
      </Group>
      <Rect {...frame} stroke={accent} strokeWidth={2} strokeScaleEnabled={false} />
      {tool === "frame" && handles(frame).map(([x, y]) => <Handle key={`${x} ${y}`} x={x} y={y} size={HANDLE / scale} fill={surface} stroke={accent} />)}
    </>
  );
}

function handles({ x, y, width, height }: Box): [number, number][] {
  const [xs, ys] = [
    [x, x + width / 2, x + width],
    [y, y + height / 2, y + height],
  ];
  return xs.flatMap((across, i) => ys.flatMap((down, j): [number, number][] => (i === 1 && j === 1 ? [] : [[across, down]])));
}

function Handle({ x, y, size, fill, stroke }: { x: number; y: number; size: number; fill: string; stroke: string }) {
  const box = { x: x - size / 2, y: y - size / 2, width: size, height: size };
  return <Rect {...box} fill={fill} stroke={stroke} strokeWidth={2} strokeScaleEnabled={false} cornerRadius={size / 5} />;
}

function Regions() {
  const { regions } = useDocument();
  const chosen = useCanvas((one) => one.region);
  const tool = useCanvas((one) => one.tool);
  return regions.map((region, at) => <Boxed key={region.id} region={region} number={at + 1} chosen={tool === "region" && region.id === chosen} />);
}

function Boxed({ region, number, chosen }: { region: Region; number: number; chosen: boolean }) {
  const { second, surface } = useColours();
  const scale = useCanvas((one) => one.view.scale);
  return (
    <>
      <Rect {...region.box} fill={second} opacity={chosen ? 0.22 : 0.12} />
      <Rect {...region.box} stroke={second} strokeWidth={chosen ? 3 : 1.5} dash={[DASH / scale, DASH / scale]} strokeScaleEnabled={false} dashEnabled={!chosen} />
      <Circle x={region.box.x + MARK / scale} y={region.box.y + MARK / scale} radius={(MARK * 0.7) / scale} fill={second} />
      <Text
        x={region.box.x}
        y={region.box.y}
        width={(2 * MARK) / scale}
        height={(2 * MARK) / scale}
        text={String(number)}
        fontSize={13 / scale}
        fontStyle="bold"
        fontFamily="system-ui, sans-serif"
        align="center"
        verticalAlign="middle"
        fill={surface}
      />
    </>
  );
}

/** The layer that the move tool has in hand. */
function Chosen() {
  const { layers } = useDocument();
  const chosen = useCanvas((one) => (one.tool === "move" ? one.layer : ""));
  const { second } = useColours();
  const layer = layers.find((one) => one.id === chosen);
  return layer === undefined ? null : <Rect {...layer.box} stroke={second} strokeWidth={2} strokeScaleEnabled={false} />;
}

/** The brush where it would draw. */
function Cursor() {
  const cursor = useCanvas((one) => one.cursor);
  const tool = useCanvas((one) => one.tool);
  const brush = useCanvas((one) => one.brush);
  const scale = useCanvas((one) => one.view.scale);
  const { ink, surface } = useColours();
  if (cursor === null || !draws(tool)) return null;
  const radius = tool === "lasso" ? 3 / scale : brush / 2;
  return (
    <>
      <Circle {...cursor} radius={radius} stroke={surface} strokeWidth={3} strokeScaleEnabled={false} />
      <Circle {...cursor} radius={radius} stroke={ink} strokeWidth={1} strokeScaleEnabled={false} />
    </>
  );
}
