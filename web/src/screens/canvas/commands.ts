import { discard, look, middle, step, zoom } from "./actions";
import { begunStroke, drawTo, finishStroke, nudge, addRegion, removeChosen } from "./gestures";
import { type Point, STEP } from "./geometry";
import type { Command } from "./keys";
import { imagesOf, now, redo, set, type Tool, undo } from "./store";

const FAR = 8;
const LEAST_BRUSH = 1;
const MOST_BRUSH = 512;
const GROWTH = 1.2;

/** What only the screen can do: it shows when something takes long, or fails. */
export interface Screen {
  generate: () => void;
  accept: () => void;
  left: (back: () => void) => void;
}

/** Does what a key asks for. */
export function run(command: Command, screen: Screen): void {
  const { pending, jobs } = now();
  if (imagesOf(pending, jobs).length > 0 && ofCandidates(command, screen)) return;
  switch (command.do) {
    case "tool":
      choose(command.tool);
      break;
    case "undo":
      undo();
      break;
    case "redo":
      redo();
      break;
    case "generate":
      screen.generate();
      break;
    case "zoom":
      zoom(command.factor);
      break;
    case "look":
      look(command.at);
      break;
    case "size":
      resizeBrush(command.by);
      break;
    case "go":
      go(command);
      break;
    case "press":
      pressAtCursor();
      break;
    case "drop":
      set({ draft: null, down: false });
      break;
    case "remove":
      removeChosen(now().tool);
      break;
    case "pan":
      set({ panning: true });
  }
}

/** While candidates are shown: left and right step through them, Enter takes one, Escape leaves them. */
function ofCandidates(command: Command, screen: Screen): boolean {
  if (command.do === "press") screen.accept();
  else if (command.do === "drop") screen.left(discard());
  else if (command.do === "go" && command.dx !== 0 && !command.far && !command.resize) step(command.dx);
  else return false;
  return true;
}

export function choose(tool: Tool): void {
  set({ tool, draft: null, down: false });
}

export function resizeBrush(by: number): void {
  const { brush } = now();
  const next = by > 0 ? Math.max(brush * GROWTH, brush + 1) : Math.min(brush / GROWTH, brush - 1);
  set({ brush: Math.min(Math.max(Math.round(next), LEAST_BRUSH), MOST_BRUSH) });
}

function go({ dx, dy, far, fine, resize }: Command & { do: "go" }): void {
  const { tool } = now();
  const pixels = (tool === "frame" ? STEP : fine ? 1 : STEP) * (far ? FAR : 1);
  if (draws(tool)) moveCursor(dx * pixels, dy * pixels);
  else nudge(tool, dx * pixels, dy * pixels, resize);
}

export function draws(tool: Tool): tool is "brush" | "eraser" | "lasso" {
  return tool === "brush" || tool === "eraser" || tool === "lasso";
}

function cursor(): Point {
  return now().cursor ?? middle();
}

function moveCursor(dx: number, dy: number): void {
  const at = { x: Math.round(cursor().x + dx), y: Math.round(cursor().y + dy) };
  set({ cursor: at });
  if (now().down) drawTo(at);
}

/** Puts the brush down at the cursor, or lifts it; with the region tool, makes a region. */
function pressAtCursor(): void {
  const { tool, down } = now();
  if (tool === "region") addRegion();
  if (!draws(tool)) return;
  const at = cursor();
  set({ cursor: at });
  if (down) finishStroke();
  else set({ draft: begunStroke(tool, at), down: true });
}
