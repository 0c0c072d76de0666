import { expect, test } from "vitest";

import { commandOf, TOOL_KEYS } from "./keys";

function pressed(key: string, held: { ctrl?: boolean; shift?: boolean; alt?: boolean } = {}) {
  return commandOf({ key, ctrl: false, shift: false, alt: false, ...held });
}

test("each tool has a key of its own", () => {
  const keys = Object.values(TOOL_KEYS);
  expect(new Set(keys).size).toBe(keys.length);
  for (const [tool, key] of Object.entries(TOOL_KEYS)) expect(pressed(key.toLowerCase())).toEqual({ do: "tool", tool });
});

test("keys with Ctrl", () => {
  expect(pressed("z", { ctrl: true })).toEqual({ do: "undo" });
  expect(pressed("Z", { ctrl: true, shift: true })).toEqual({ do: "redo" });
  expect(pressed("y", { ctrl: true })).toEqual({ do: "redo" });
  expect(pressed("Enter", { ctrl: true })).toEqual({ do: "generate" });
  expect(pressed("f", { ctrl: true })).toBeNull();
});

test("arrows go, far with Shift, and enlarge with Alt", () => {
  expect(pressed("ArrowLeft")).toEqual({ do: "go", dx: -1, dy: 0, far: false, fine: false, resize: false });
  expect(pressed("ArrowDown", { shift: true, alt: true })).toEqual({ do: "go", dx: 0, dy: 1, far: true, fine: false, resize: true });
});

test("other keys are the browser's", () => {
  expect([pressed("Tab"), pressed("F5"), pressed("q"), pressed("f", { alt: true })]).toEqual([null, null, null, null]);
});
