/** The limits that are told, in their order, and what each counts. */
export const LIMITS = [
  ["queue", "count"],
  ["queue_per_owner", "count"],
  ["attempts", "count"],
  ["history", "count"],
  ["run", "seconds"],
  ["long_run", "seconds"],
  ["wait", "seconds"],
  ["body", "bytes"],
  ["upload", "bytes"],
  ["uploads", "bytes"],
  ["outputs", "bytes"],
] as const;

export type LimitName = (typeof LIMITS)[number][0];

/** The parts of what is kept on disk, the largest first, each with its share of all. */
export function shares(kept: Readonly<Record<string, number>>): [string, number, number][] {
  const total = Object.values(kept).reduce((sum, count) => sum + count, 0);
  return Object.entries(kept)
    .sort((a, b) => b[1] - a[1])
    .map(([name, count]) => [name, count, total === 0 ? 0 : count / total]);
}
