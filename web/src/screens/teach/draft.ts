import { useSyncExternalStore } from "react";

/** What is to be taught, before it is asked for: kept in this browser until then, so that a reload loses nothing. */
export interface TaughtImage {
  /** As the server calls the upload. */
  id: string;
  name: string;
  caption: string;
}

export interface TeachDraft {
  images: readonly TaughtImage[];
  preset: "thing" | "face" | "style";
  word: string;
  like: string;
  method: string;
  model: string;
  name: string;
  steps: number | null;
  rate: number | null;
  prior: number | null;
  sample: string;
  overwrite: boolean;
}

export const EMPTY: TeachDraft = {
  images: [],
  preset: "thing",
  word: "zwx",
  like: "",
  method: "lora",
  model: "",
  name: "",
  steps: null,
  rate: null,
  prior: null,
  sample: "",
  overwrite: false,
};
const NAME = "atelier.teach";
const LOOKS = 6;
const LEAST_BETWEEN = 10;
/** How often samples are generated, and steps between two of them: a sample is as much work as some steps. */

const listeners = new Set<() => void>();
let draft: TeachDraft = kept();

function kept(): TeachDraft {
  try {
    return { ...EMPTY, ...(JSON.parse(sessionStorage.getItem(NAME) ?? "{}") as Partial<TeachDraft>) };
  } catch {
    return EMPTY;
  }
}

export function currentTeachDraft(): TeachDraft {
  return draft;
}

export function changeTeachDraft(changes: Partial<TeachDraft>): void {
  draft = { ...draft, ...changes };
  sessionStorage.setItem(NAME, JSON.stringify(draft));
  for (const listener of listeners) listener();
}

export function useTeachDraft(): TeachDraft {
  return useSyncExternalStore((listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, currentTeachDraft);
}

/** The images with more of them; one that is there already is not taken twice. */
export function withImages(images: readonly TaughtImage[], more: readonly TaughtImage[]): TaughtImage[] {
  const all = new Map(images.map((image) => [image.id, image]));
  for (const image of more) if (!all.has(image.id)) all.set(image.id, image);
  return [...all.values()];
}

/** The fields of a job but its images: only what was said. */
export function settingsOf(from: TeachDraft) {
  return {
    method: from.method,
    preset: from.preset,
    word: from.word.trim() === "" ? EMPTY.word : from.word.trim(),
    ...(from.model === "" ? {} : { model: from.model }),
    ...(from.like.trim() === "" ? {} : { like: from.like.trim() }),
    ...(from.name.trim() === "" ? {} : { name: from.name.trim() }),
    ...(from.steps === null ? {} : { steps: from.steps }),
    ...(from.rate === null ? {} : { rate: from.rate }),
    ...(from.prior === null ? {} : { prior: from.prior }),
    ...(from.overwrite ? { overwrite: true } : {}),
  };
}

/** The whole job. Captions are sent where there is one: an image without gets the usual words for it. */
export function jobOf(from: TeachDraft, steps: number, usual: string) {
  const captions = from.images.map((image) => image.caption.trim());
  return {
    ...settingsOf(from),
    images: from.images.map((image) => image.id),
    ...(captions.some((caption) => caption !== "") ? { captions: captions.map((caption) => caption || usual) } : {}),
    ...(from.sample.trim() === "" ? {} : { samples: samplesOf(from.sample) }),
    sample_every: Math.max(LEAST_BETWEEN, Math.round(steps / LOOKS)),
  };
}

const MOST_SAMPLES = 4;

/** Each line is a prompt. */
function samplesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .slice(0, MOST_SAMPLES);
}
