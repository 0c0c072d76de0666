import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState, useSyncExternalStore } from "react";
import { Input, Label, TextField } from "react-aria-components";
import { Link, useLocation } from "wouter";

import { api, told } from "./api/client";
import { Refusal } from "./api/errors";
import { isRefused, key, onKey, setKey } from "./api/key";
import { isAway, onReach } from "./api/reach";
import { type Catalogue, useText } from "./i18n";
import { Button } from "./ui/button";
import { Icon, type IconName } from "./ui/icons";
import { Toasts } from "./ui/toasts";

type Screen = keyof Catalogue["screens"] & IconName;
const SCREENS: readonly (readonly [Screen, string])[] = [
  ["paint", "/"],
  ["canvas", "/canvas"],
  ["gallery", "/gallery"],
  ["queue", "/queue"],
  ["teach", "/teach"],
  ["models", "/models"],
  ["settings", "/settings"],
];

/** What stands around every screen: where one can go, whether the server is there, and the key where it asks for one. */
export function Shell({ children }: { children: ReactNode }) {
  const text = useText();
  const needed = useKeyNeeded();
  return (
    <div className="shell">
      <a className="skip" href="#content">
        {text.app.skip}
      </a>
      <Navigation />
      <main id="content" tabIndex={-1}>
        <Away />
        {needed ? <AskKey /> : children}
      </main>
      <Toasts />
    </div>
  );
}

function Navigation() {
  const text = useText();
  const [here] = useLocation();
  return (
    <nav className="navigation" aria-label={text.app.navigation}>
      <Link href="/" className="brand" aria-label={text.app.name}>
        <svg viewBox="0 0 64 64" aria-hidden="true">
          <path d="M14 46 32 14l18 32" className="brand-line" />
          <circle cx="32" cy="42" r="6" className="brand-dot" />
        </svg>
      </Link>
      <ul>
        {SCREENS.map(([screen, path]) => (
          <li key={screen}>
            <Link href={path} className="navigation-link" aria-current={here === path ? "page" : undefined}>
              <Icon name={screen} />
              <span>{text.screens[screen]}</span>
            </Link>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Away() {
  const text = useText();
  const away = useSyncExternalStore(onReach, isAway);
  return (
    <div role="alert" className="away-place" data-react-aria-top-layer="true">
      {away && <p className="away">{text.app.away}</p>}
    </div>
  );
}

/** Whether the server asks for a key that this browser has not, or has a wrong one of. */
function useKeyNeeded(): boolean {
  const mine = useSyncExternalStore(onKey, key);
  const { error } = useQuery({
    queryKey: ["capabilities", mine],
    queryFn: () => told(api.GET("/v1/capabilities")),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const refused = useSyncExternalStore(onKey, isRefused);
  return refused || (error instanceof Refusal && error.unknownKey);
}

function AskKey() {
  const text = useText();
  const [typed, setTyped] = useState("");
  const queries = useQueryClient();
  const wrong = key() !== "";
  return (
    <form
      className="ask-key"
      onSubmit={(event) => {
        event.preventDefault();
        setKey(typed.trim());
        void queries.resetQueries();
      }}
    >
      <h1>{text.app.name}</h1>
      <p>{wrong ? text.app.keyWrong : text.app.keyAsked}</p>
      <TextField className="text" value={typed} onChange={setTyped} type="password" autoComplete="current-password">
        <Label>{text.app.keyLabel}</Label>
        <Input />
      </TextField>
      <Button look="main" type="submit">
        {text.app.keyUse}
      </Button>
    </form>
  );
}
