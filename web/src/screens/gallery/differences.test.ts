import { expect, test } from "vitest";

import { differences } from "./differences";

test("only what differs is told, also what one of them does not say", () => {
  const first = new Map([["Steps", "20"], ["Seed", "7"], ["Model", "a"]]);
  const second = new Map([["Steps", "20"], ["Seed", "8"], ["Clip skip", "2"]]);
  expect(differences(first, second)).toEqual([
    ["Seed", "7", "8"],
    ["Model", "a", "–"],
    ["Clip skip", "–", "2"],
  ]);
  expect(differences(first, first)).toEqual([]);
});
