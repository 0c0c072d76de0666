import { api, type Fields, type Job, type Schemas, told } from "../../api/client";
import { ask } from "../../api/jobs";

/** What changes along an axis: the name of a field, and its values as they are typed. */
export interface Axis {
  name: string;
  values: string;
}

/** A comparison that was begun: its cells, each with the number that its job is found by. */
export interface Comparison {
  id: string;
  grid: Schemas["GridShape"];
}

export const NO_AXIS: Axis = { name: "", values: "" };
export const PROMPT_AXES = ["prompt-sr", "prompt-order"] as const;

export function written(axis: Axis): string | null {
  return axis.name === "" || axis.values.trim() === "" ? null : `${axis.name}=${axis.values}`;
}

/** The cells of a request along up to three axes. Throws Refusal where the server reads an axis otherwise. */
export async function compare(request: Fields, x: Axis, y: Axis, z: Axis): Promise<Comparison> {
  const body = { request: request as never, x: written(x), y: written(y), z: written(z), matrix: false, vary_seed: false };
  return { id: crypto.randomUUID(), grid: await told(api.POST("/v1/grid", { body })) };
}

/** The job of one cell; asking again gives the same one. */
export async function askCell(comparison: Comparison, number: number): Promise<Job> {
  const cell = comparison.grid.cells[number];
  if (cell === undefined) throw new RangeError(`no cell ${number}`);
  return ask(cell.fields as Fields, `${comparison.id}-${number}`);
}

/** The number of the cell at a place; null where there is none. */
export function cellAt(grid: Schemas["GridShape"], x: number, y: number, z: number): number | null {
  const found = grid.cells.findIndex((cell) => cell.x === x && cell.y === y && cell.z === z);
  return found < 0 ? null : found;
}

const KEPT = "atelier.comparison";

/** The comparison stays over a reload: its jobs are found again by their numbers. */
export function keep(comparison: Comparison | null): void {
  if (comparison === null) sessionStorage.removeItem(KEPT);
  else sessionStorage.setItem(KEPT, JSON.stringify(comparison));
}

export function kept(): Comparison | null {
  const text = sessionStorage.getItem(KEPT);
  return text === null ? null : (JSON.parse(text) as Comparison);
}
