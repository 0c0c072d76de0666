import "../../styles/canvas.css";

import { useCallback, useEffect, useMemo, useState } from "react";
import { useLocation, useSearch } from "wouter";

import { messageOf } from "../../api/errors";
import { useText } from "../../i18n";
import { useDropped } from "../../ui/dropped";
import { Icon } from "../../ui/icons";
import { toast } from "../../ui/toasts";
import { accept, begin, discard, drop, generate, layerName, open, usualSide, watch } from "./actions";
import { Board } from "./board";
import { Candidates } from "./candidates";
import { run, type Screen } from "./commands";
import { empty } from "./document";
import { Head } from "./head";
import { commandOf } from "./keys";
import { Panel } from "./panel";
import { imagesOf, keep, keepLeaving, now, readAgain, useCanvas } from "./store";
import { useOwnText } from "./text";
import { Looks, Tools } from "./toolbar";

/** A canvas without edges: a frame of it is generated, from nothing, from what lies there, or in part. */
export function Canvas() {
  const text = useOwnText();
  const app = useText().app;
  const [state, go] = useOpened();
  const [screen, busy] = useScreen();
  useKept();
  useWatched();
  useKeys(screen);
  const over = useDropped(useCallback((files: File[]) => void drop(files), []));
  usePasted();
  if (state !== "open") return <p className={state === "opening" ? "quiet" : "job-failed"}>{state === "opening" ? app.loading : state}</p>;
  return (
    <div className="canvas">
      <h1 className="visually-hidden">{text.title}</h1>
      <div className="canvas-main">
        <Board screen={screen} />
        <Head go={go} />
        <Tools />
        <Looks />
        <Candidates onAccept={taken} onLeave={() => screen.left(discard())} />
      </div>
      <Panel generate={screen.generate} busy={busy} />
      {over && (
        <div className="drop-hint">
          <Icon name="layers" />
          <p>{text.dropHere}</p>
        </div>
      )}
    </div>
  );
}

/** Opens what the address names, and says in the address what is open. */
function useOpened(): [string, (id: string | null) => void] {
  const search = useSearch();
  const [, navigate] = useLocation();
  const [state, setState] = useState("opening");
  useEffect(() => {
    let wanted = true;
    const asked = new URLSearchParams(search);
    open(asked).then(
      (id) => {
        if (!wanted) return;
        if (asked.get("id") !== id) navigate(`/canvas?id=${id}`, { replace: true });
        setState("open");
      },
      (error: unknown) => wanted && setState(messageOf(error)),
    );
    return () => {
      wanted = false;
    };
  }, [search, navigate]);
  const go = useCallback(
    (id: string | null) => {
      const opened = id === null ? usualSide().then((side) => begin(empty(side))) : Promise.resolve(id);
      void opened.then((one) => navigate(`/canvas?id=${one}`));
    },
    [navigate],
  );
  return [state, go];
}

/** What commands need of the screen, and whether a request is on its way. */
function useScreen(): [Screen, boolean] {
  const text = useOwnText();
  const app = useText().app;
  const [busy, setBusy] = useState(false);
  const screen = useMemo(
    () => ({
      generate: () => {
        setBusy(true);
        void generate()
          .catch((error: unknown) => toast(messageOf(error), { bad: true }))
          .finally(() => setBusy(false));
      },
      accept: () => void taken(),
      left: (back: () => void) => toast(text.left, { action: { label: app.undo, run: back } }),
    }),
    [text, app],
  );
  return [screen, busy];
}

async function taken(): Promise<void> {
  const { pending, jobs, candidate, history } = now();
  const chosen = imagesOf(pending, jobs)[candidate];
  if (chosen === undefined) return;
  await accept(chosen, layerName(history.present.settings.prompt)).catch((error: unknown) => toast(messageOf(error), { bad: true }));
}

/** The jobs that the canvas waits for are followed, also those that another tab asked for. */
function useWatched(): void {
  const pending = useCanvas((one) => one.pending);
  useEffect(() => pending.forEach(watch), [pending]);
}

/** What was changed is kept when the page is left; what another tab changed is taken over when one comes back. */
function useKept(): void {
  useEffect(() => {
    const stop = new AbortController();
    const look = () => document.visibilityState === "visible" && now().saving === "kept" && now().revision > 0 && void readAgain().catch(() => undefined);
    addEventListener("pagehide", keepLeaving, { signal: stop.signal });
    addEventListener("focus", look, { signal: stop.signal });
    document.addEventListener("visibilitychange", look, { signal: stop.signal });
    return () => {
      stop.abort();
      void keep();
    };
  }, []);
}

/** Images from the clipboard become layers. */
function usePasted(): void {
  useEffect(() => {
    const paste = (event: ClipboardEvent) => {
      const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
      if (files.length > 0) void drop(files);
    };
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
}

const EVERYWHERE: ReadonlySet<string> = new Set(["undo", "redo", "generate"]);
const BESIDE: ReadonlySet<string> = new Set(["tool", "size", "zoom", "look"]);
const TYPED = "input, textarea, [role=dialog], [role=listbox], [role=menu]";

/**
 * Undo, redo and Generate work from everywhere on the screen, but in a text that is being typed, whose undo is its own. Letters
 * choose tools from the bars on the canvas, too: there the focus is after a press on one of them.
 */
function useKeys(screen: Screen): void {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const { target } = event;
      if (event.defaultPrevented || !(target instanceof HTMLElement) || target.closest(TYPED) !== null) return;
      const command = commandOf({ key: event.key, ctrl: event.ctrlKey || event.metaKey, shift: event.shiftKey, alt: event.altKey });
      if (command === null) return;
      const beside = target === document.body || target.closest(".canvas-main") !== null;
      if (!EVERYWHERE.has(command.do) && !(beside && BESIDE.has(command.do))) return;
      event.preventDefault();
      run(command, screen);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [screen]);
}
