/** Whether the server answers. While it does not, it is asked again until it does. */
const listeners = new Set<() => void>();
let away = false;

export function isAway(): boolean {
  return away;
}

export function onReach(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function noteAnswer(): void {
  set(false);
}

export function noteSilence(): void {
  if (away) return;
  set(true);
  void ask();
}

const WAIT_MS = 1000;

async function ask(): Promise<void> {
  while (away) {
    await new Promise((done) => setTimeout(done, WAIT_MS));
    try {
      await fetch("/healthz", { cache: "no-store" });
      set(false);
    } catch {
      // Still away.
    }
  }
}

function set(value: boolean): void {
  if (away === value) return;
  away = value;
  for (const listener of listeners) listener();
}
