import { useCallback, useSyncExternalStore } from "react";

import type { Json } from "../api/client";
import { type Draft, fromSearch, toSearch, withField } from "./draft";

/** The draft lives in the address of Paint: a reload, a bookmark and a second tab show the same. */
const WRITE_MS = 250;
const KEPT = "atelier.draft";
const PATH = "/";
const listeners = new Set<() => void>();
let draft: Draft = fromSearch(location.pathname === PATH && location.search !== "" ? location.search : kept());
let timer: ReturnType<typeof setTimeout> | undefined;

function kept(): string {
  return sessionStorage.getItem(KEPT) ?? "";
}

export function currentDraft(): Draft {
  return draft;
}

/** Replaces the whole draft, as restoring an image does. */
export function setDraft(next: Draft): void {
  draft = next;
  clearTimeout(timer);
  timer = setTimeout(write, WRITE_MS);
  for (const listener of listeners) listener();
}

export function setField(name: string, value: Json): void {
  setDraft(withField(draft, name, value));
}

export function useDraft(): Draft {
  return useSyncExternalStore(subscribe, currentDraft);
}

/** One field of the draft, and how to set it. */
export function useDraftField(name: string): [Json, (value: Json) => void] {
  const value = useSyncExternalStore(subscribe, () => draft[name] ?? null);
  return [value, useCallback((next: Json) => setField(name, next), [name])];
}

/** Writes the draft into the address, if Paint is what is shown. */
export function write(): void {
  const search = toSearch(draft);
  sessionStorage.setItem(KEPT, search);
  if (location.pathname === PATH) history.replaceState(history.state, "", search === "" ? PATH : `${PATH}?${search}`);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

addEventListener("popstate", () => {
  if (location.pathname === PATH && location.search !== "") setDraft(fromSearch(location.search));
});
addEventListener("pagehide", write);
