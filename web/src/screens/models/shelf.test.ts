import { describe, expect, test } from "vitest";

import { countKinds, familiesIn, fitting, kindOf, promptOf, suggested, type WeightsFile } from "./shelf";

function file(name: string, kind: string, family: string | null): WeightsFile {
  return {
    id: name, name, kind, family, file: `${kind}/${name}.safetensors`, variant: null, title: kind, dtype: "fp16",
    bytes: 1, parameters: 1, size: null, supported: true, problem: null, changed: 0,
  };
}
const FILES = [file("photo", "checkpoint", "sd1"), file("anime", "checkpoint", "sdxl"), file("cat", "lora", "sd1"), file("odd", "gligen", null), file("pose", "t2i_adapter", "sd1")];

describe("the shelf of models", () => {
  test("rare kinds are one, networks that steer are another", () => {
    expect(FILES.map(kindOf)).toEqual(["checkpoint", "checkpoint", "lora", "other", "controlnet"]);
    expect(countKinds(FILES)).toEqual([["checkpoint", 2], ["lora", 1], ["controlnet", 1], ["other", 1]]);
    expect(familiesIn(FILES)).toEqual(["sd1", "sdxl"]);
  });

  test.each([
    [{ words: "", kind: "", family: "" }, 5],
    [{ words: "CAT", kind: "", family: "" }, 1],
    [{ words: "check fp16", kind: "", family: "" }, 2],
    [{ words: "", kind: "checkpoint", family: "sd1" }, 1],
    [{ words: "pose lora", kind: "", family: "" }, 0],
  ])("a search finds what has all of it: %o", (filter, count) => expect(fitting(FILES, filter)).toHaveLength(count));

  test("prompts name LoRAs and words, and nothing else", () => {
    expect(promptOf(file("cat", "lora", "sd1"), ["zwx cat", "b"])).toBe("<lora:cat:1> zwx cat");
    expect(promptOf(file("zwx", "embedding", "sd1"), [])).toBe("zwx");
    expect(promptOf(file("photo", "checkpoint", "sd1"), [])).toBeNull();
  });

  test("a suggested name is no path", () => expect(suggested("../a", "b:c", "", "fp16")).toBe("a-bc-fp16"));
});
