import type { Tool } from "./store";

/** The key of each tool. */
export const TOOL_KEYS: Readonly<Record<Tool, string>> = {
  frame: "F",
  move: "V",
  brush: "B",
  eraser: "E",
  lasso: "L",
  region: "R",
  hand: "H",
};

export type Command =
  | { do: "tool"; tool: Tool }
  | { do: "undo" | "redo" | "generate" | "press" | "drop" | "remove" | "pan" }
  | { do: "zoom"; factor: number }
  | { do: "look"; at: "frame" | "all" }
  | { do: "size"; by: number }
  | { do: "go"; dx: number; dy: number; far: boolean; fine: boolean; resize: boolean };

/** What of a key event counts. */
export interface Key {
  key: string;
  ctrl: boolean;
  shift: boolean;
  alt: boolean;
}

const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
const ZOOM = 1.25;

const PLAIN: Readonly<Record<string, Command>> = {
  "[": { do: "size", by: -1 },
  "]": { do: "size", by: 1 },
  "+": { do: "zoom", factor: ZOOM },
  "=": { do: "zoom", factor: ZOOM },
  "-": { do: "zoom", factor: 1 / ZOOM },
  "0": { do: "look", at: "frame" },
  "1": { do: "look", at: "all" },
  " ": { do: "pan" },
  Enter: { do: "press" },
  Escape: { do: "drop" },
  Delete: { do: "remove" },
  Backspace: { do: "remove" },
};

/** What a key asks for; null for what is left to the browser. */
export function commandOf({ key, ctrl, shift, alt }: Key): Command | null {
  if (ctrl) return withCtrl(key, shift);
  const arrow = ARROWS[key];
  if (arrow !== undefined) return { do: "go", dx: arrow[0], dy: arrow[1], far: shift, fine: false, resize: alt };
  if (alt) return null;
  const tool = (Object.keys(TOOL_KEYS) as Tool[]).find((one) => TOOL_KEYS[one] === key.toUpperCase());
  if (tool !== undefined) return { do: "tool", tool };
  return PLAIN[key] ?? null;
}

function withCtrl(key: string, shift: boolean): Command | null {
  if (key === "Enter") return { do: "generate" };
  if (key.toLowerCase() === "z") return { do: shift ? "redo" : "undo" };
  if (key.toLowerCase() === "y") return { do: "redo" };
  const arrow = ARROWS[key];
  if (arrow !== undefined) return { do: "go", dx: arrow[0], dy: arrow[1], far: false, fine: true, resize: false };
  return null;
}
