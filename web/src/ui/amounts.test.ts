import { describe, expect, test } from "vitest";

import { bytes, duration } from "./amounts";

describe("numbers for people", () => {
  test.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.0 kB"],
    [41_970_328, "42.0 MB"],
    [999_600, "1.0 MB"],
    [123_456_789, "123 MB"],
    [2_130_000_000, "2.1 GB"],
  ])("%i bytes", (count, said) => expect(bytes(count)).toBe(said));

  test.each([
    [0.4, "0 s"],
    [89, "89 s"],
    [90, "2 min"],
    [5399, "1 h 30 min"],
    [7200, "2 h"],
    [200_000, "2 d"],
  ])("%d seconds", (seconds, said) => expect(duration(seconds, "en")).toBe(said));

  test("in Chinese", () => expect(duration(125, "zh")).toBe("2 分钟"));
});
