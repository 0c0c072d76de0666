import type { Schemas } from "./client";

type Model = Schemas["ModelShape"];
const SIDES: Readonly<Record<string, number>> = { sd1: 512, sd2: 768, sdxl: 1024, "sdxl-refiner": 1024, sd3: 1024 };
const USUAL = 512;
const EMBEDDED = "embedded";
const EMBEDDED_SIDE = 128;

/** The side of the images that a model was taught with: the one of this name, "" = the one that is used where none is named. */
export function sideOf(models: readonly Model[], name: string): number {
  const model = models.find((one) => (name === "" ? one.default : one.id === name));
  if (model === undefined || model.id === EMBEDDED) return EMBEDDED_SIDE;
  return SIDES[model.family] ?? USUAL;
}
