import { expect, test } from "vitest";

import { weigh } from "./weigh";

const at = (text: string): { text: string; start: number; end: number } => {
  const start = text.indexOf("[");
  const end = text.indexOf("]") - 1;
  return { text: text.replace(/[[\]]/g, ""), start, end };
};

test.each([
  ["a red [apple]", 1, "a red (apple:1.1)"],
  ["a red [apple]", -1, "a red (apple:0.9)"],
  ["a red ap[]ple", 1, "a red (apple:1.1)"],
  ["a red (ap[]ple:1.1)", 1, "a red (apple:1.2)"],
  ["a red (ap[]ple:1.1)", -1, "a red apple"],
  ["a ([red apple]:1.3), pear", 1, "a (red apple:1.4), pear"],
  ["[red apple ]on blue", 1, "(red apple:1.1) on blue"],
  ["([apple]:0.1)", -1, "(apple:0)"],
  [" [] ", 1, "  "],
])("%s by %i is %s", (before, by, after) => {
  expect(weigh(at(before), by as 1 | -1).text).toBe(after);
});

test("what was weighed stays selected, so that it can be weighed again", () => {
  const once = weigh(at("a red [apple]"), 1);
  expect(weigh(once, 1).text).toBe("a red (apple:1.2)");
  expect(once.text.slice(once.start, once.end)).toBe("(apple:1.1)");
});
