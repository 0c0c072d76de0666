import { useSyncExternalStore } from "react";

import { useText } from "../i18n";
import { Button, IconButton } from "./button";

/** A short message at the foot of the page, with at most one thing to do about it. */
export interface Toast {
  id: number;
  message: string;
  bad: boolean;
  action?: { label: string; run: () => void } | undefined;
}

const SHOWN_MS = 8000;
/** One has to get there first, with keys as well. */
const SHOWN_WITH_ACTION_MS = 20_000;
const listeners = new Set<() => void>();
let toasts: readonly Toast[] = [];
let last = 0;

export function toast(message: string, options: { bad?: boolean; action?: Toast["action"] } = {}): void {
  last += 1;
  const id = last;
  set([...toasts.filter((other) => other.message !== message), { id, message, bad: options.bad ?? false, action: options.action }]);
  setTimeout(() => dismiss(id), options.action === undefined ? SHOWN_MS : SHOWN_WITH_ACTION_MS);
}

function dismiss(id: number): void {
  set(toasts.filter((other) => other.id !== id));
}

function set(next: readonly Toast[]): void {
  toasts = next;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function Toasts() {
  const text = useText();
  const shown = useSyncExternalStore(subscribe, () => toasts);
  return (
    // Dialogs hide the rest of the page from screen readers: not what lies over them.
    <div className="toasts" role="status" aria-live="polite" data-react-aria-top-layer="true">
      {shown.map((one) => (
        <div key={one.id} className={one.bad ? "toast toast-bad" : "toast"}>
          <span>{one.message}</span>
          {one.action !== undefined && (
            <Button
              look="quiet"
              onPress={() => {
                one.action?.run();
                dismiss(one.id);
              }}
            >
              {one.action.label}
            </Button>
          )}
          <IconButton icon="close" label={text.app.close} onPress={() => dismiss(one.id)} />
        </div>
      ))}
    </div>
  );
}
