import { expect, test } from "vitest";

import { sideOf } from "./sides";

const MODELS = [
  { id: "embedded", family: "sd1", default: true },
  { id: "dream", family: "sd1", default: false },
  { id: "juggler", family: "sdxl", default: false },
] as unknown as Parameters<typeof sideOf>[0];

test.each([["", 128], ["embedded", 128], ["dream", 512], ["juggler", 1024], ["gone", 128]])("%j paints at %i", (name, side) => {
  expect(sideOf(MODELS, name)).toBe(side);
});
