import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";
const NAME = "atelier.theme";
const listeners = new Set<() => void>();

export function theme(): Theme {
  const kept = localStorage.getItem(NAME);
  return kept === "light" || kept === "dark" ? kept : "system";
}

export function setTheme(next: Theme): void {
  localStorage.setItem(NAME, next);
  applyTheme();
  for (const listener of listeners) listener();
}

/** Says the theme to the style sheets; the system's own needs no word. */
export function applyTheme(): void {
  const now = theme();
  if (now === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = now;
}

export function useTheme(): Theme {
  return useSyncExternalStore((listener) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, theme);
}
