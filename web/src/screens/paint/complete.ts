/** What can be completed at the cursor: from where, what was typed of it, and of which kind it is. */
export interface Typed {
  from: number;
  part: string;
  kind: "network" | "wildcard" | "word";
}

const LEAST = 2;
/** Letters of a word before anything is offered for it. */

/** What stands before the cursor that a name could complete; null where nothing does. */
export function typedAt(text: string, at: number): Typed | null {
  const before = text.slice(0, at);
  const network = /<(?:lora|lyco|hypernet)?:?([^<>:,\s]*)$/i.exec(before);
  if (network !== null) return { from: network.index, part: network[1] ?? "", kind: "network" };
  const wildcard = /__([\w/-]*)$/.exec(before);
  if (wildcard !== null && (before.slice(0, wildcard.index).match(/__/g) ?? []).length % 2 === 0) {
    return { from: wildcard.index, part: wildcard[1] ?? "", kind: "wildcard" };
  }
  const word = /[\p{L}\p{N}_.-]+$/u.exec(before);
  return word === null || word[0].length < LEAST ? null : { from: word.index, part: word[0], kind: "word" };
}

/** What a chosen name is written as. */
export function writtenAs(name: string, kind: Typed["kind"]): string {
  if (kind === "network") return `<lora:${name}:1>`;
  return kind === "wildcard" ? `__${name}__` : name;
}

/** The names that fit what was typed, those that begin with it first. */
export function fitting(names: readonly string[], part: string, most: number): string[] {
  const low = part.toLowerCase();
  const held = names.filter((name) => name.toLowerCase().includes(low) && name !== part);
  const begins = (name: string) => (name.toLowerCase().startsWith(low) ? 0 : 1);
  return held.sort((a, b) => begins(a) - begins(b) || a.localeCompare(b)).slice(0, most);
}
