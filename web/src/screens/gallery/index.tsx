import "../../styles/gallery.css";

import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Button as AriaButton, Dialog, DialogTrigger, Input, Popover, SearchField } from "react-aria-components";
import { useLocation, useSearch } from "wouter";

import { messageOf } from "../../api/errors";
import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { useFormat } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { toast } from "../../ui/toasts";
import { useAsking } from "./asking";
import { Chosen } from "./chosen";
import { Compare } from "./compare";
import { idsAt, type Images, pagesOf, placeIn, placeNow, useGalleryChanges, useImages } from "./data";
import { Details } from "./details";
import { type Doings, useDoings } from "./doing";
import { type Acts, Grid, LIST } from "./grid";
import { EVERYTHING, type Place, placeOf, queryOf, searchOf } from "./place";
import { between, extended, followed, MOST, moved, NOTHING, type Selection, toggled } from "./selection";
import { Side } from "./side";
import { TEXTS } from "./text";

/** All of one's images: found, looked at, collected, and taken on to other screens. What is shown stands in the address. */
export function Gallery() {
  const text = useText();
  const own = useOwnText(TEXTS);
  const { number } = useFormat();
  const [place, go, seek] = usePlace();
  const [, leave] = useLocation();
  const [pages, setPages] = useShown(place);
  const [kept, setSelection] = useSelection(place);
  const images = useImages(place, ...pages, kept.active);
  const selection = followed(kept, images);
  if (selection !== kept) setSelection(selection);
  const [doings, asked] = useAsking(useDoings());
  const acts = useActs(place, go, images, selection, setSelection, doings);
  useGalleryChanges();
  const onShown = useCallback((first: number, last: number) => setPages((known) => pagesOf(known, first, last)), [setPages]);
  const ids = [...selection.ids];
  return (
    <div className="gallery">
      <Side place={place} go={go} />
      <section className="gallery-main" aria-label={own.images}>
        <header className="gallery-head">
          <h1 className="visually-hidden">{text.screens.gallery}</h1>
          <Search q={place.q} onSearch={seek} />
          <p className="quiet gallery-count" aria-live="polite">
            {images.pending ? "" : images.total === 1 ? own.countOne : fill(own.count, { count: number(images.total) })}
          </p>
        </header>
        <p id="gallery-keys" className="visually-hidden">
          {own.keys}
        </p>
        {images.error !== null && <p className="job-failed">{fill(own.failed, { reason: images.error.message })}</p>}
        {!images.pending && images.total === 0 && <Empty place={place} onAll={() => go(EVERYTHING)} />}
        {images.total > 0 && <Grid of={JSON.stringify(queryOf(place))} images={images} selection={selection} acts={acts} onShown={onShown} />}
        {ids.length > 0 && (
          <Chosen
            ids={ids}
            place={place}
            doings={doings}
            onCompare={() => go({ ...place, compare: ids })}
            onTeach={() => void doings.teach(ids).then((there) => there && leave("/teach"))}
            onClear={() => {
              acts.clear();
              document.getElementById(LIST)?.focus();
            }}
          />
        )}
      </section>
      {place.image !== "" && <Opened place={place} go={go} images={images} doings={doings} />}
      {asked}
      {place.compare.length === 2 && <Compare pair={place.compare} onClose={() => go({ ...place, compare: [] })} />}
    </div>
  );
}

/** Browsers take so many changes of an address a minute: it has what is typed once that rests. */
const REST_MS = 250;

/** What the address says, how to change it, and how to search: that is shown at once. */
function usePlace(): [Place, (place: Place) => void, (q: string) => void] {
  const search = useSearch();
  const [here, leave] = useLocation();
  const [typed, setTyped] = useState<{ over: string; q: string } | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  if (typed !== null && typed.over !== search) setTyped(null);
  const said = useMemo(() => placeOf(search), [search]);
  const place = useMemo(() => (typed?.over === search ? { ...said, q: typed.q, image: "" } : said), [said, search, typed]);
  const go = useCallback(
    (next: Place) => {
      clearTimeout(timer.current);
      const found = searchOf(next);
      leave(found === "" ? here : `${here}?${found}`, { replace: !leads(said, next) });
    },
    [here, leave, said],
  );
  const seek = useCallback(
    (q: string) => {
      setTyped({ over: search, q });
      clearTimeout(timer.current);
      timer.current = setTimeout(() => go({ ...said, q, image: "" }), REST_MS);
    },
    [go, said, search],
  );
  return [place, go, seek];
}

/** The pages that are seen; of another search or board the first. */
function useShown(place: Place): [readonly [number, number], (change: (known: readonly [number, number]) => readonly [number, number]) => void] {
  const of = JSON.stringify(queryOf(place));
  const [kept, setKept] = useState<{ of: string; pages: readonly [number, number] }>({ of, pages: FIRST });
  const set = useCallback(
    (change: (known: readonly [number, number]) => readonly [number, number]) =>
      setKept((known) => {
        const before = known.of === of ? known.pages : FIRST;
        const pages = change(before);
        return known.of === of && pages === before ? known : { of, pages };
      }),
    [of],
  );
  return [kept.of === of ? kept.pages : FIRST, set];
}

const FIRST: readonly [number, number] = [0, 0];

/** Whether one would go back from there: from what was opened, and from another board, but not from each letter typed. */
function leads(place: Place, next: Place): boolean {
  const opened = (next.image !== "" && place.image === "") || next.compare.length > place.compare.length;
  return opened || JSON.stringify(queryOf({ ...place, q: "" })) !== JSON.stringify(queryOf({ ...next, q: "" }));
}

/** What is selected; another search or board begins with nothing. */
function useSelection(place: Place): [Selection, (next: Selection) => void] {
  const of = JSON.stringify(queryOf(place));
  const [kept, setKept] = useState({ of, selection: NOTHING });
  const selection = kept.of === of ? kept.selection : NOTHING;
  return [selection, useCallback((next: Selection) => setKept({ of, selection: next }), [of])];
}

function useActs(place: Place, go: (place: Place) => void, images: Images, selection: Selection, select: (next: Selection) => void, doings: Doings): Acts {
  const queries = useQueryClient();
  const own = useOwnText(TEXTS);
  const last = useRef(0);
  const idAt = (at: number) => images.at(at)?.id ?? "";
  /** Selects from one place to another, as the list is now; ids: of the images there, "" for whichever they are. */
  const extend = async (start: number, startId: string, end: number, endId: string) => {
    last.current += 1;
    const turn = last.current;
    select({ ...selection, active: end, activeId: endId, anchor: start, anchorId: startId });
    const from = await placeNow(queries, place, start, startId);
    const to = await placeNow(queries, place, end, endId);
    const ids = await idsAt(queries, place, between(from, to));
    if (turn !== last.current) return;
    select(extended({ ...selection, anchor: from, anchorId: startId }, ids, to, endId));
    if (Math.abs(to - from) >= MOST) toast(fill(own.most, { count: MOST }));
  };
  return {
    open: (id, at) => {
      select(moved(selection, at, id));
      go({ ...place, image: id });
    },
    toggle: (id, at) => select(toggled(selection, id, at)),
    extend: (at) => {
      const [from, id] = selection.anchor < 0 ? [at, idAt(at)] : [selection.anchor, selection.anchorId];
      saying(extend(from, id, at, idAt(at)));
    },
    move: (at) => select(moved(selection, at, idAt(at))),
    all: () => saying(extend(0, "", images.total - 1, "")),
    clear: () => select({ ...selection, ids: new Set() }),
    star: (entry) => void doings.star(selection.ids.has(entry.id) ? [...selection.ids] : [entry.id], !entry.starred),
    remove: () => {
      const one = selection.activeId;
      const ids = selection.ids.size > 0 ? [...selection.ids] : one === "" ? [] : [one];
      if (ids.length === 0) return;
      const done = place.trash ? doings.purge(ids) : doings.remove(ids).then(() => true);
      void done.then((gone) => gone && select({ ...selection, ids: new Set() }));
    },
  };
}

/** Says why where the list cannot be read. */
function saying(step: Promise<void>): void {
  void step.catch((error: unknown) => toast(messageOf(error), { bad: true }));
}

const EXAMPLES = ["apple", '"blue background"', "-blurry", "sampler:euler", "steps:20..30", "cfg_scale:>=7", "seed:7", "size:512x768", "model:sd"];

function Search({ q, onSearch }: { q: string; onSearch: (q: string) => void }) {
  const text = useOwnText(TEXTS);
  const [typed, setTyped] = useState(q);
  const [known, setKnown] = useState(q);
  // The address changed by something else than typing, which may be further on by now.
  if (q !== known) {
    setKnown(q);
    setTyped(q);
  }
  const set = (next: string) => {
    setTyped(next);
    setKnown(next);
    onSearch(next);
  };
  return (
    <div className="gallery-search">
      <SearchField className="search" aria-label={text.search} value={typed} onChange={set}>
        <Icon name="search" />
        <Input placeholder={text.searchHint} maxLength={1000} />
        {typed !== "" && (
          <AriaButton className="icon-button" aria-label={text.clearSearch}>
            <Icon name="close" />
          </AriaButton>
        )}
      </SearchField>
      <DialogTrigger>
        <AriaButton className="icon-button" aria-label={text.howSearch}>
          <Icon name="info" />
        </AriaButton>
        <Popover className="popover search-help" offset={6} placement="bottom end">
          <Dialog aria-label={text.howSearch}>
            <p className="quiet">{text.help}</p>
            <div className="search-examples">
              {EXAMPLES.map((example) => (
                <button key={example} type="button" className="search-example" onClick={() => set(`${typed} ${example}`.trim())}>
                  {example}
                </button>
              ))}
            </div>
          </Dialog>
        </Popover>
      </DialogTrigger>
    </div>
  );
}

function Empty({ place, onAll }: { place: Place; onAll: () => void }) {
  const text = useOwnText(TEXTS);
  const searched = place.q.trim() !== "" || place.job !== "";
  const words = searched ? [text.noMatch, ""] : place.trash ? [text.noTrash, text.trashHint] : [text.none, text.noneHint];
  return (
    <div className="empty">
      <Icon name={place.trash ? "trash" : "gallery"} />
      <p>{words[0]}</p>
      <p className="quiet">{words[1]}</p>
      {searched && <Button onPress={onAll}>{text.clearSearch}</Button>}
    </div>
  );
}

/** The image that the address names, with those beside it where they are known. */
function Opened({ place, go, images, doings }: { place: Place; go: (place: Place) => void; images: Images; doings: Doings }) {
  const queries = useQueryClient();
  const at = placeIn(queries, place, images.total, place.image);
  const to = (next: number) => {
    if (at < 0 || next < 0 || next >= images.total) return null;
    return () => void idsAt(queries, place, [next]).then(([id]) => id !== undefined && go({ ...place, image: id }));
  };
  return <Details id={place.image} doings={doings} onNewer={to(at - 1)} onOlder={to(at + 1)} onClose={() => go({ ...place, image: "" })} />;
}
