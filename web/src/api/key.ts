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
  for (const listener of listeners) listener();
}

export function onKey(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The headers that say whose request this is. */
export function credentials(): Record<string, string> {
  const secret = key();
  return secret === "" ? {} : { Authorization: `Bearer ${secret}` };
}
