/** What a text area holds, and what of it is selected. */
export interface Selected {
  text: string;
  start: number;
  end: number;
}

const STEP = 0.1;
const BREAKS = /[\s,.()<>[\]{}|]/;
const WEIGHTED = /^\((.*):(-?\d+(?:\.\d+)?)\)$/s;

/** Makes what is selected, or the word at the cursor, weigh a step more (`by` 1) or less (-1): `word`, `(word:1.1)`. */
export function weigh(selected: Selected, by: 1 | -1): Selected {
  const [start, end] = extent(selected);
  if (start === end) return selected;
  const part = selected.text.slice(start, end);
  const weighted = WEIGHTED.exec(part);
  const words = weighted?.[1] ?? part;
  const weight = Number(weighted?.[2] ?? 1) + by * STEP;
  const shown = Number(weight.toFixed(2));
  const next = shown === 1 ? words : `(${words}:${shown})`;
  return { text: selected.text.slice(0, start) + next + selected.text.slice(end), start, end: start + next.length };
}

/** From where to where: the word at the cursor where nothing is selected, with the brackets that weigh it. */
function extent({ text, start, end }: Selected): [number, number] {
  let [from, to] = start === end ? wordAt(text, start) : [start, end];
  while (from < to && text[from] === " ") from += 1;
  while (to > from && text[to - 1] === " ") to -= 1;
  const after = /^:-?\d+(?:\.\d+)?\)/.exec(text.slice(to));
  return text[from - 1] === "(" && after !== null ? [from - 1, to + after[0].length] : [from, to];
}

function wordAt(text: string, at: number): [number, number] {
  const inWeight = /\(([^()]*):-?\d+(?:\.\d+)?\)/g;
  for (const found of text.matchAll(inWeight)) {
    if (found.index <= at && at <= found.index + found[0].length) return [found.index, found.index + found[0].length];
  }
  let [from, to] = [at, at];
  while (from > 0 && !BREAKS.test(text[from - 1] ?? " ")) from -= 1;
  while (to < text.length && !BREAKS.test(text[to] ?? " ")) to += 1;
  return [from, to];
}
