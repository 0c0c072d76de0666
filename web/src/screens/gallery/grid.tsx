import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, memo, type MouseEvent, useEffect, useLayoutEffect, useRef, useState } from "react";

import { key } from "../../api/key";
import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Icon } from "../../ui/icons";
import { Picture } from "../../ui/picture";
import type { Entry, Images } from "./data";
import { type Selection, target } from "./selection";
import { TEXTS } from "./text";

/** The id of the list. */
export const LIST = "gallery-list";
const GAP = 8;
const OVERSCAN = 5;
/** The least width of an image; on a phone three stand side by side. */
const WIDE = 168;
const NARROW = 104;
const PHONE = 560;

export interface Acts {
  open: (id: string, at: number) => void;
  toggle: (id: string, at: number) => void;
  extend: (at: number) => void;
  move: (at: number) => void;
  all: () => void;
  clear: () => void;
  star: (entry: Entry) => void;
  remove: () => void;
}

interface Own {
  /** What is listed: of anything else the beginning is shown. */
  of: string;
  images: Images;
  selection: Selection;
  acts: Acts;
  onShown: (first: number, last: number) => void;
}

/** All images as a grid of which only what can be seen is there. A list box: one tab stop, arrows move within it. */
export function Grid({ of, images, selection, acts, onShown }: Own) {
  const text = useOwnText(TEXTS);
  const list = useRef<HTMLDivElement>(null);
  const [columns, side] = useColumns(list);
  const rows = Math.ceil(images.total / columns);
  // eslint-disable-next-line react-hooks/incompatible-library -- nothing here is memoized by a compiler
  const shown = useVirtualizer({ count: rows, getScrollElement: () => list.current, estimateSize: () => side + GAP, overscan: OVERSCAN });
  const lines = shown.getVirtualItems();
  const first = (lines[0]?.index ?? 0) * columns;
  const last = ((lines.at(-1)?.index ?? 0) + 1) * columns - 1;
  useEffect(() => onShown(first, last), [onShown, first, last]);
  useEffect(() => shown.measure(), [shown, side]);
  useLayoutEffect(() => {
    if (list.current !== null) list.current.scrollTop = 0;
  }, [of]);
  const { active } = selection;
  useEffect(() => {
    if (active >= 0) shown.scrollToIndex(Math.floor(active / columns), { align: "auto" });
  }, [active, columns, shown]);
  const seen = () => Math.max(Math.floor((list.current?.clientHeight ?? 0) / (side + GAP)), 1);
  return (
    <div
      ref={list}
      id={LIST}
      className={selection.ids.size > 0 ? "gallery-list gallery-selecting" : "gallery-list"}
      role="listbox"
      aria-label={text.images}
      aria-multiselectable="true"
      aria-busy={images.before}
      aria-describedby="gallery-keys"
      aria-activedescendant={active >= 0 && active < images.total ? optionId(active) : undefined}
      tabIndex={0}
      onClick={(event) => clicked(event, images, selection, acts)}
      onKeyDown={(event) => pressed(event, images, selection, acts, (key) => target(key, active, columns, seen(), images.total))}
    >
      <div className="gallery-all" role="presentation" style={{ height: shown.getTotalSize() }}>
        {lines.map((line) => (
          <div key={line.key} className="gallery-row" role="presentation" style={{ transform: `translateY(${line.start}px)`, height: side }}>
            {Array.from({ length: Math.min(columns, images.total - line.index * columns) }, (_, column) => {
              const at = line.index * columns + column;
              const entry = images.at(at);
              const selected = entry !== undefined && selection.ids.has(entry.id);
              return <Tile key={at} at={at} side={side} total={images.total} entry={entry} selected={selected} active={at === active} />;
            })}
          </div>
        ))}
      </div>
    </div>
  );
}

interface TileOwn {
  at: number;
  side: number;
  total: number;
  entry: Entry | undefined;
  selected: boolean;
  active: boolean;
}

const Tile = memo(function Tile({ at, side, total, entry, selected, active }: TileOwn) {
  const text = useText();
  const own = useOwnText(TEXTS);
  const names = { "data-at": at, id: optionId(at), "aria-posinset": at + 1, "aria-setsize": total, style: { width: side, height: side } };
  if (entry === undefined) return <div {...names} className="tile tile-coming" role="option" aria-selected={false} aria-label={text.app.loading} />;
  const name = entry.prompt || own.noPrompt;
  return (
    <div
      {...names}
      className={active ? "tile tile-active" : "tile"}
      role="option"
      aria-selected={selected}
      aria-label={entry.starred ? `${name}, ${own.hasStar}` : name}
      title={fill("{name}", { name })}
    >
      <Thumbnail key={entry.id} src={entry.thumbnail} />
      <span className="tile-check" data-check>
        <Icon name="check" />
      </span>
      <span className={entry.starred ? "tile-star tile-starred" : "tile-star"} data-star>
        <Icon name="star" filled={entry.starred} />
      </span>
    </div>
  );
});

/** Where no key is asked for, an address is enough: hundreds of these come and go while one scrolls. */
function Thumbnail({ src }: { src: string }) {
  return key() === "" ? <img src={src} alt="" decoding="async" draggable={false} /> : <Picture src={src} alt="" draggable={false} />;
}

function optionId(at: number): string {
  return `image-${at}`;
}

function clicked(event: MouseEvent<HTMLElement>, images: Images, selection: Selection, acts: Acts): void {
  const on = event.target as Element;
  const at = Number(on.closest("[data-at]")?.getAttribute("data-at") ?? Number.NaN);
  const entry = Number.isNaN(at) ? undefined : images.at(at);
  if (entry === undefined) return;
  if (on.closest("[data-star]") !== null) acts.star(entry);
  else if (event.shiftKey) acts.extend(at);
  else if (event.ctrlKey || event.metaKey || on.closest("[data-check]") !== null || selection.ids.size > 0) acts.toggle(entry.id, at);
  else acts.open(entry.id, at);
}

function pressed(event: KeyboardEvent, images: Images, selection: Selection, acts: Acts, lead: (key: string) => number | null): void {
  // A list that just shifted is followed a moment later: until then nothing is done to what stands there now.
  const there = images.at(selection.active);
  const entry = there?.id === selection.activeId ? there : undefined;
  const to = lead(event.key);
  if (to !== null && event.shiftKey) acts.extend(to);
  else if (to !== null) acts.move(to);
  else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a") acts.all();
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === "Escape" && selection.ids.size > 0) acts.clear();
  else if ((event.key === "Delete" || event.key === "Backspace") && (selection.ids.size > 0 || entry !== undefined)) acts.remove();
  else if (entry !== undefined && event.key === "Enter") acts.open(entry.id, selection.active);
  else if (entry !== undefined && event.key === " ") acts.toggle(entry.id, selection.active);
  else if (entry !== undefined && event.key.toLowerCase() === "s") acts.star(entry);
  else return;
  event.preventDefault();
}

/** How many images stand side by side, and how wide each is. */
function useColumns(list: React.RefObject<HTMLDivElement | null>): [number, number] {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = list.current;
    if (element === null) return;
    const watch = new ResizeObserver(() => setWidth(element.clientWidth));
    watch.observe(element);
    return () => watch.disconnect();
  }, [list]);
  const room = Math.max(width - 2 * GAP, 1);
  const columns = Math.max(Math.floor((room + GAP) / ((width < PHONE ? NARROW : WIDE) + GAP)), 1);
  return [columns, Math.floor((room - (columns - 1) * GAP) / columns)];
}
