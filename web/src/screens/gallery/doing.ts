import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";

import { type Fields, api, send, told, upload } from "../../api/client";
import { messageOf } from "../../api/errors";
import { setDraft, setField } from "../../form/store";
import { type Catalogue, fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { save } from "../../ui/save";
import { toast } from "../../ui/toasts";
import { changeTeachDraft, currentTeachDraft, type TaughtImage, withImages } from "../teach/draft";
import { type Board, change, type Doing, pin } from "./data";
import { type GalleryText, TEXTS } from "./text";

type Ids = readonly string[];

/** What can be done to images, with what is said of it and how it is undone. */
export interface Doings {
  star: (ids: Ids, starred: boolean) => Promise<void>;
  remove: (ids: Ids) => Promise<void>;
  restore: (ids: Ids) => Promise<void>;
  /** Whether they are gone. */
  purge: (ids: Ids) => Promise<boolean>;
  pin: (ids: Ids, board: Board) => Promise<void>;
  unpin: (ids: Ids, board: string) => Promise<void>;
  zip: (ids: Ids) => Promise<void>;
  /** The settings of an image for Paint; whether they are there now. */
  settings: (id: string) => Promise<boolean>;
  source: (id: string) => Promise<boolean>;
  /** Puts images among those that Teach learns from, with their prompts as captions. */
  teach: (ids: Ids) => Promise<boolean>;
}

export function useDoings(): Doings {
  const queries = useQueryClient();
  const text = useOwnText(TEXTS);
  const shared = useText();
  return useMemo(() => doings(queries, text, shared), [queries, text, shared]);
}

function doings(queries: QueryClient, text: GalleryText, { app, paint }: Catalogue): Doings {
  const all = async (doing: Doing, ids: Ids, said: string, undo?: Doing) => {
    const count = await change(queries, doing, ids);
    const back = undo === undefined ? undefined : { label: app.undo, run: () => void saying(() => change(queries, undo, ids)) };
    if (said !== "") toast(fill(said, { count }), { action: back });
  };
  return {
    star: (ids, starred) => saying(() => all(starred ? "star" : "unstar", ids, "")),
    remove: (ids) => saying(() => all("delete", ids, text.deleted, "restore")),
    restore: (ids) => saying(() => all("restore", ids, text.restored, "delete")),
    purge: (ids) => succeeding(() => all("purge", ids, text.purged)),
    pin: (ids, board) =>
      saying(async () => {
        const added = await pin(queries, board.id, ids, true);
        const back = { label: app.undo, run: () => void saying(() => pin(queries, board.id, added, false)) };
        toast(fill(text.added, { count: added.length, name: board.name }), { action: added.length === 0 ? undefined : back });
      }),
    unpin: (ids, board) =>
      saying(async () => {
        const taken = await pin(queries, board, ids, false);
        const back = { label: app.undo, run: () => void saying(() => pin(queries, board, taken, true)) };
        toast(fill(text.offed, { count: taken.length }), { action: taken.length === 0 ? undefined : back });
      }),
    zip: (ids) => saying(() => fetchZip(ids)),
    settings: (id) => succeeding(() => takeSettings(id, paint.holdsNothing)),
    teach: (ids) =>
      succeeding(async () => {
        const left = await takeToTeach(ids);
        if (left > 0) toast(fill(text.teachMost, { most: MOST_TAUGHT, count: left }), { bad: true });
      }),
    source: (id) => succeeding(async () => setField("image", await upload(await (await send(`/v1/images/${id}`)).blob()))),
  };
}

async function saying(step: () => Promise<unknown>): Promise<void> {
  await succeeding(step);
}

/** Does a step, and says why where that fails. */
async function succeeding(step: () => Promise<unknown>): Promise<boolean> {
  try {
    await step();
    return true;
  } catch (error) {
    toast(messageOf(error), { bad: true });
    return false;
  }
}

/** Makes the settings of an image those of Paint. Throws where it says none. */
async function takeSettings(id: string, nothing: string): Promise<void> {
  const { fields } = await told(api.GET("/v1/images/{image_id}/fields", { params: { path: { image_id: id } } }));
  if (Object.keys(fields).length === 0) throw new Error(nothing);
  setDraft(fields as Fields);
}

/** Images of one lesson, as the server takes them. */
const MOST_TAUGHT = 64;

/** How many of the images found no room. */
async function takeToTeach(ids: Ids): Promise<number> {
  const { images } = currentTeachDraft();
  const taken = ids.slice(0, Math.max(MOST_TAUGHT - images.length, 0));
  const more: TaughtImage[] = [];
  for (const id of taken) {
    const { prompt } = await told(api.GET("/v1/images/{image_id}/details", { params: { path: { image_id: id } } }));
    more.push({ id: await upload(await (await send(`/v1/images/${id}`)).blob()), name: prompt || id.slice(0, 8), caption: prompt });
  }
  changeTeachDraft({ images: withImages(images, more) });
  return ids.length - taken.length;
}

/** Saves the files of images as one zip. */
async function fetchZip(ids: Ids): Promise<void> {
  const body = JSON.stringify({ ids });
  const answer = await send("/v1/images/zip", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  save(await answer.blob(), "images.zip");
}
