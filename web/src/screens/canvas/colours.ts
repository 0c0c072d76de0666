import { useSyncExternalStore } from "react";

import { useTheme } from "../../ui/theme";

const NAMES = { ground: "--ground", accent: "--accent", second: "--second", ink: "--ink", surface: "--surface", mask: "--mask" } as const;
export type Colours = Record<keyof typeof NAMES, string>;

/** The colours of the theme for a drawing, which reads no style sheet. */
export function useColours(): Colours {
  const theme = useTheme();
  const dark = useSyncExternalStore(onScheme, isDark);
  return coloursOf(`${theme} ${dark}`);
}

const known = new Map<string, Colours>();

function coloursOf(scheme: string): Colours {
  const found = known.get(scheme) ?? readColours();
  known.set(scheme, found);
  return found;
}

/** Asked for through a property that resolves light-dark(). */
function readColours(): Colours {
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const entries = Object.entries(NAMES).map(([name, variable]) => {
    probe.style.color = `var(${variable})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(entries) as Colours;
}

const scheme = matchMedia("(prefers-color-scheme: dark)");

function isDark(): boolean {
  return scheme.matches;
}

function onScheme(listener: () => void): () => void {
  scheme.addEventListener("change", listener);
  return () => scheme.removeEventListener("change", listener);
}
