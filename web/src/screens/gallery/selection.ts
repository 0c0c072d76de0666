/** Which images are selected, and where one stands. `active`, `anchor`: places in the list; -1: nowhere. */
export interface Selection {
  ids: ReadonlySet<string>;
  active: number;
  anchor: number;
}

export const NOTHING: Selection = { ids: new Set(), active: -1, anchor: -1 };
/** So many the server takes in one call. */
export const MOST = 1000;

/** The places between two, ends included, as many as can be selected from `from` on. */
export function between(from: number, to: number): number[] {
  const step = to < from ? -1 : 1;
  const count = Math.min(Math.abs(to - from) + 1, MOST);
  return Array.from({ length: count }, (_, at) => from + at * step);
}

/** One more, or one fewer. */
export function toggled(selection: Selection, id: string, at: number): Selection {
  const ids = new Set(selection.ids);
  if (!ids.delete(id) && ids.size < MOST) ids.add(id);
  return { ids, active: at, anchor: at };
}

/** All from the anchor to `at`, instead of what was selected; `ids` are theirs. */
export function extended(selection: Selection, ids: readonly string[], at: number): Selection {
  return { ids: new Set(ids.slice(0, MOST)), active: at, anchor: selection.anchor < 0 ? at : selection.anchor };
}

export function moved(selection: Selection, at: number): Selection {
  return { ...selection, active: at, anchor: at };
}

/** Where a key leads in a grid of so many columns; null for a key that leads nowhere. */
export function target(key: string, from: number, columns: number, rows: number, total: number): number | null {
  const steps: Record<string, number> = {
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowUp: -columns,
    ArrowDown: columns,
    PageUp: -columns * rows,
    PageDown: columns * rows,
  };
  if (total === 0) return null;
  if (key === "Home") return 0;
  if (key === "End") return total - 1;
  const step = steps[key];
  if (step === undefined) return null;
  if (from < 0) return 0;
  const to = from + step;
  // Up and down stay in their column where there is no further row.
  if (Math.abs(step) === columns && columns > 1 && (to < 0 || to >= total)) return step > 0 ? Math.max(from, lastRow(from, columns, total)) : from;
  return Math.min(Math.max(to, 0), total - 1);
}

/** Below is a shorter last row: its end is what lies nearest. */
function lastRow(from: number, columns: number, total: number): number {
  return Math.floor(from / columns) < Math.floor((total - 1) / columns) ? total - 1 : from;
}
