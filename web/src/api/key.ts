/** The API key of this browser, for servers that ask for one. */
const NAME = "atelier.key";
const listeners = new Set<() => void>();

export function key(): string {
  return localStorage.getItem(NAME) ?? "";
}

/** Keeps the key for the next visit; "" forgets it. */
export function setKey(value: string): void {
  if (value === "") localStorage.removeItem(NAME);
  else localStorage.setItem(NAME, value);
  refused = false;
  for (const listener of listeners) listener();
}

export function onKey(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

let refused = false;

/** Whether the server asked for a key, or for another one, since the last was given. */
export function isRefused(): boolean {
  return refused;
}

/** Notes the status of an answer, and with it whether the server refused the key that the request had. */
export function noteStatus(status: number, asked: Headers): void {
  // An answer to a request that was made before the key was given says nothing about the key.
  if (status !== UNKNOWN || refused || asked.get("Authorization") !== (credentials()["Authorization"] ?? null)) return;
  refused = true;
  for (const listener of listeners) listener();
}

const UNKNOWN = 401;

/** The headers that say whose request this is. */
export function credentials(): Record<string, string> {
  const secret = key();
  return secret === "" ? {} : { Authorization: `Bearer ${secret}` };
}
