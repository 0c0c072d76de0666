/**
 * Which images are selected, and where one stands. `active`, `anchor`: places in the list, -1: nowhere; `activeId`,
 * `anchorId`: the images there, since places shift, "" where that is not known yet.
 */
export interface Selection {
  ids: ReadonlySet<string>;
  active: number;
  activeId: string;
  anchor: number;
  anchorId: string;
}

export const NOTHING: Selection = { ids: new Set(), active: -1, activeId: "", anchor: -1, anchorId: "" };
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
  return { ids, active: at, activeId: id, anchor: at, anchorId: id };
}

/** All from the anchor to `at`, instead of what was selected; `ids` are theirs. */
export function extended(selection: Selection, ids: readonly string[], at: number, id: string): Selection {
  const anchor = selection.anchor < 0 ? { anchor: at, anchorId: id } : {};
  return { ...selection, ids: new Set(ids.slice(0, MOST)), active: at, activeId: id, ...anchor };
}

export function moved(selection: Selection, at: number, id: string): Selection {
  return { ...selection, active: at, activeId: id, anchor: at, anchorId: id };
}

/** What is known of the list. `settled`: nothing of it is being asked for anew; `find`: the place of an image, or -1. */
interface Listed {
  total: number;
  settled: boolean;
  at: (index: number) => { id: string } | undefined;
  find: (id: string) => number;
}

/** The same selection where its images stand now; itself where nothing shifted. */
export function followed(selection: Selection, list: Listed): Selection {
  const [active, activeId] = follow(selection.active, selection.activeId, list);
  const [anchor, anchorId] = follow(selection.anchor, selection.anchorId, list);
  const same = active === selection.active && activeId === selection.activeId && anchor === selection.anchor && anchorId === selection.anchorId;
  return same ? selection : { ...selection, active, activeId, anchor, anchorId };
}

function follow(place: number, id: string, list: Listed): [number, string] {
  const there = list.at(place)?.id;
  if (place < 0 || there === id) return [place, id];
  const found = id === "" ? -1 : list.find(id);
  if (found >= 0) return [found, id];
  // While pages come, an image may be between two of them: it is gone only when all are there.
  if (!list.settled) return [place, id];
  if (place >= list.total) return list.total === 0 ? [-1, ""] : [list.total - 1, ""];
  return there === undefined ? [place, id] : [place, there];
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
