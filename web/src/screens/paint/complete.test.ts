import { expect, test } from "vitest";

import { fitting, typedAt, writtenAs } from "./complete";

test.each([
  ["a red <lora:sty", { from: 6, part: "sty", kind: "network" }],
  ["a red <", { from: 6, part: "", kind: "network" }],
  ["a __an", { from: 2, part: "an", kind: "wildcard" }],
  ["a __animal__ of", { from: 13, part: "of", kind: "word" }],
  ["an Easy", { from: 3, part: "Easy", kind: "word" }],
])("in %j there is %o to complete", (text, expected) => {
  expect(typedAt(text, text.length)).toEqual(expected);
});

test.each(["a red apple ", "a", "", "<lora:x:1>", "a, "])("in %j there is nothing to complete", (text) => {
  expect(typedAt(text, text.length)).toBeNull();
});

test("names that begin with what was typed come first", () => {
  expect(fitting(["mystyle", "style-b", "Style-a", "other"], "sty", 3)).toEqual(["Style-a", "style-b", "mystyle"]);
  expect(fitting(["style"], "style", 3)).toEqual([]);
});

test("names are written as the prompt reads them", () => {
  expect(writtenAs("x", "network")).toBe("<lora:x:1>");
  expect(writtenAs("animal", "wildcard")).toBe("__animal__");
  expect(writtenAs("EasyNegative", "word")).toBe("EasyNegative");
});
