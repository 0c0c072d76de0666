import { useSyncExternalStore } from "react";

import { en } from "./en";

/** Every text of the page, by screen and name. */
export type Catalogue = { readonly [S in keyof typeof en]: { readonly [N in keyof (typeof en)[S]]: string } };
export type Language = "en" | "zh";
export const LANGUAGES: readonly (readonly [Language, string])[] = [
  ["en", "English"],
  ["zh", "中文"],
];

const NAME = "atelier.language";
const listeners = new Set<() => void>();
let language: Language = initial();
let catalogue: Catalogue = en;

function initial(): Language {
  const kept = localStorage.getItem(NAME);
  if (kept === "en" || kept === "zh") return kept;
  return navigator.language.startsWith("zh") ? "zh" : "en";
}

/** Reads the catalogue of the language of this browser; before the first render. */
export async function readCatalogue(): Promise<void> {
  await setLanguage(language);
}

export async function setLanguage(next: Language): Promise<void> {
  const found: Catalogue = next === "zh" ? (await import("./zh")).zh : en;
  language = next;
  catalogue = found;
  localStorage.setItem(NAME, next);
  document.documentElement.lang = next === "zh" ? "zh-CN" : "en";
  for (const listener of listeners) listener();
}

export function useLanguage(): Language {
  return useSyncExternalStore(subscribe, () => language);
}

/** The texts of the language that is chosen. */
export function useText(): Catalogue {
  return useSyncExternalStore(subscribe, () => catalogue);
}

export { fill } from "./fill";

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
