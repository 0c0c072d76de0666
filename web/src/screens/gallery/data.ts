import { keepPreviousData, type QueryClient, queryOptions, useQueries, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, type Schemas, told } from "../../api/client";
import { useChanges, useSoon } from "../../api/live";
import { type Place, queryOf } from "./place";
import { inTurn } from "./turn";

export type Entry = Schemas["EntryShape"];
export type Board = Schemas["BoardShape"];
export type Details = Schemas["DetailsShape"];
type Part = Schemas["GalleryShape"];

/** Images that are asked for together. */
export const PAGE = 100;
const GALLERY = "gallery";

function part(place: Place, page: number, limit = PAGE) {
  const query = { ...queryOf(place), limit, skip: page * limit };
  return queryOptions({
    queryKey: [GALLERY, query],
    queryFn: ({ signal }) => (place.q.trim() === "" ? ask(query, signal) : inTurn(signal, () => ask(query))),
    staleTime: 60_000,
  });
}

function ask(query: { limit: number; skip: number }, signal?: AbortSignal): Promise<Part> {
  return told(api.GET("/v1/images", { params: { query }, ...(signal && { signal }) }));
}

export interface Images {
  total: number;
  /** The image at a place of the list; undefined until it is there. */
  at: (index: number) => Entry | undefined;
  /** The place of an image among those that are there; -1 where it is none of them. */
  find: (id: string) => number;
  /** Nothing of it is being asked for. */
  settled: boolean;
  /** They are those of the place that was shown before: these are being asked for. */
  before: boolean;
  error: Error | null;
  pending: boolean;
}

/** The first and last page of what is shown; `known` itself where that has not changed, so that nothing is drawn anew. */
export function pagesOf(known: readonly [number, number], first: number, last: number): readonly [number, number] {
  const from = Math.max(Math.floor(first / PAGE), 0);
  const to = Math.max(Math.floor(last / PAGE), from);
  return from === known[0] && to === known[1] ? known : [from, to];
}

/**
 * One's images from page `from` to page `to`, those about `active`, where it may shift to, and how many there are in all.
 * Until those of another place have come, the first of the place before stand there.
 */
export function useImages(place: Place, from: number, to: number, active: number): Images {
  const about = active < 0 ? [] : [Math.floor(active / PAGE), Math.floor((active + PAGE / 2) / PAGE)];
  const pages = [...new Set([0, ...Array.from({ length: to - from + 1 }, (_, at) => from + at), ...about])];
  const found = useQueries({ queries: pages.map((page) => part(place, page)) });
  const parts = new Map<number, Part>();
  pages.forEach((page, at) => {
    const data = found[at]?.data;
    if (data !== undefined) parts.set(page, data);
  });
  const before = useBefore(place, found[0]?.isPending === false);
  if (before !== undefined) parts.set(0, before);
  return {
    total: parts.get(0)?.total ?? 0,
    at: (index) => parts.get(Math.floor(index / PAGE))?.data[index % PAGE],
    find: (id) => {
      for (const [page, { data }] of parts) {
        const at = data.findIndex((entry) => entry.id === id);
        if (at >= 0) return page * PAGE + at;
      }
      return -1;
    },
    before: before !== undefined,
    settled: !found.some((one) => one.isFetching),
    error: found[0]?.error ?? null,
    pending: parts.size === 0 && (found[0]?.isPending ?? true),
  };
}

/** The first images of the place that was shown last, while those of this one are not there. */
function useBefore(place: Place, isThere: boolean): Part | undefined {
  const [shown, setShown] = useState(place);
  if (isThere && shown !== place) setShown(place);
  const { data } = useQuery({ ...part(shown, 0), enabled: false });
  return isThere ? undefined : data;
}

/** The ids at places of the list, also of those that were never shown; what changed since is asked for again. */
export async function idsAt(queries: QueryClient, place: Place, places: readonly number[]): Promise<string[]> {
  const pages = new Map<number, Part>();
  for (const page of new Set(places.map((at) => Math.floor(at / PAGE)))) pages.set(page, await queries.query(part(place, page)));
  return places.flatMap((at) => pages.get(Math.floor(at / PAGE))?.data[at % PAGE]?.id ?? []);
}

/** Where an image stands that stood at `at`: a few further on, where new ones came since. */
export async function placeNow(queries: QueryClient, place: Place, at: number, id: string): Promise<number> {
  if (id === "") return at;
  const near = Math.max(Math.floor(at / PAGE) - 1, 0);
  for (let page = near; page <= near + 2; page += 1) {
    const found = (await queries.query(part(place, page))).data.findIndex((entry) => entry.id === id);
    if (found >= 0) return page * PAGE + found;
  }
  return at;
}

/** Where an image stands, among those that were read already; -1 where that is not known. */
export function placeIn(queries: QueryClient, place: Place, total: number, id: string): number {
  for (let page = 0; page * PAGE < total; page += 1) {
    const at = queries.getQueryData(part(place, page).queryKey)?.data.findIndex((entry) => entry.id === id) ?? -1;
    if (at >= 0) return page * PAGE + at;
  }
  return -1;
}

/** How many images there are of a kind. */
export function useCount(place: Place): number | null {
  const { data } = useQuery({ ...part(place, 0, 1), placeholderData: keepPreviousData });
  return data?.total ?? null;
}

export function useBoards(): readonly Board[] {
  const { data } = useQuery({ queryKey: [GALLERY, "boards"], queryFn: async () => (await told(api.GET("/v1/boards"))).data });
  return data ?? [];
}

export function useDetails(id: string) {
  return useQuery({
    queryKey: [GALLERY, "details", id],
    queryFn: () => told(api.GET("/v1/images/{image_id}/details", { params: { path: { image_id: id } } })),
    enabled: id !== "",
    placeholderData: keepPreviousData,
  });
}

const TELLS: ReadonlySet<string> = new Set(["gallery", "image", "reset"]);

/** Looks again whenever images or boards change, here or elsewhere. */
export function useGalleryChanges(): void {
  const queries = useQueryClient();
  const soon = useSoon(() => void lookAgain(queries), 400);
  useChanges(({ name }) => TELLS.has(name) && soon());
}

export function lookAgain(queries: QueryClient): Promise<void> {
  return queries.invalidateQueries({ queryKey: [GALLERY] });
}

export type Doing = "star" | "unstar" | "delete" | "restore" | "purge";

/** Does the same to some images; how many it concerned. What is shown changes at once. */
export async function change(queries: QueryClient, doing: Doing, ids: readonly string[]): Promise<number> {
  showAt(queries, doing, new Set(ids));
  try {
    return (await told(api.POST(`/v1/images/${doing}`, { body: { ids: [...ids] } }))).count;
  } finally {
    await lookAgain(queries);
  }
}

/** Stars are seen before the server has answered. */
function showAt(queries: QueryClient, doing: Doing, ids: ReadonlySet<string>): void {
  if (doing !== "star" && doing !== "unstar") return;
  const starred = doing === "star";
  queries.setQueriesData<Part | Details | readonly Board[]>({ queryKey: [GALLERY] }, (known) => {
    if (known === undefined || Array.isArray(known)) return known;
    if ("total" in known) return { ...known, data: known.data.map((entry) => (ids.has(entry.id) ? { ...entry, starred } : entry)) };
    return "starred" in known && ids.has(known.id) ? { ...known, starred } : known;
  });
}

/** Puts images on a board, or takes them off; those of them that it concerned. */
export async function pin(queries: QueryClient, board: string, ids: readonly string[], inside: boolean): Promise<readonly string[]> {
  const path = { board_id: board, change: inside ? ("add" as const) : ("remove" as const) };
  const concerned = await told(api.POST("/v1/boards/{board_id}/{change}", { params: { path }, body: { ids: [...ids] } }));
  await lookAgain(queries);
  return concerned.ids;
}
