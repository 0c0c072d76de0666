import type { Fields, Json } from "../api/client";

/** What is being asked for: only the fields that differ from what the server takes without them. */
export type Draft = Readonly<Fields>;

/** The draft with one field set; null, "" and [] take it out. */
export function withField(draft: Draft, name: string, value: Json): Draft {
  const { [name]: _, ...rest } = draft;
  return isNothing(value) ? rest : { ...rest, [name]: value };
}

export function isNothing(value: Json | undefined): boolean {
  return value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0);
}

/** The draft as the query of an address. Texts stand as they are where nothing else would read the same. */
export function toSearch(draft: Draft): string {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(draft)) found.set(name, written(value));
  return found.toString();
}

export function fromSearch(search: string): Draft {
  const found: Fields = {};
  for (const [name, text] of new URLSearchParams(search)) found[name] = readValue(text);
  return found;
}

function written(value: Json): string {
  return typeof value === "string" && typeof readValue(value) === "string" && !value.startsWith('"')
    ? value
    : JSON.stringify(value);
}

function readValue(text: string): Json {
  if (!/^(?:-?\d|["[{]|true$|false$|null$)/.test(text)) return text;
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}
