import { expect, test } from "vitest";

import { fromSearch, toSearch, withField } from "./draft";

test.each([
  [{ prompt: "a red apple" }, "prompt=a+red+apple"],
  [{ steps: 20, cfg_scale: 7.5, soft_inpainting: true }, "steps=20&cfg_scale=7.5&soft_inpainting=true"],
  [{ prompt: "42" }, "prompt=%2242%22"],
  [{ prompt: "true" }, "prompt=%22true%22"],
  [{ prompt: '"quoted"' }, "prompt=%22%5C%22quoted%5C%22%22"],
  [{ styles: ["a", "b"] }, "styles=%5B%22a%22%2C%22b%22%5D"],
  [{ prompt: "[red:blue:0.5] apple" }, "prompt=%5Bred%3Ablue%3A0.5%5D+apple"],
])("%o is %s in an address, and the same again when read", (draft, search) => {
  expect(toSearch(draft)).toBe(search);
  expect(fromSearch(search)).toEqual(draft);
});

test("what is nothing is taken out of a draft", () => {
  expect(withField({ steps: 3, prompt: "x" }, "steps", null)).toEqual({ prompt: "x" });
  expect(withField({ styles: ["a"] }, "styles", [])).toEqual({});
  expect(withField({}, "steps", 0)).toEqual({ steps: 0 });
});
