import { expect, test } from "vitest";

import { LIMITS, shares } from "./limits";
import { texts } from "./text";

test("what is kept is told with its share, the largest first", () => {
  expect(shares({ outputs: 30, uploads: 10, runs: 0 })).toEqual([["outputs", 30, 0.75], ["uploads", 10, 0.25], ["runs", 0, 0]]);
  expect(shares({ outputs: 0 })).toEqual([["outputs", 0, 0]]);
});

test("each limit that is told has a name", () => {
  for (const [name] of LIMITS) expect(texts.en[`limit_${name}`]).not.toBe("");
});
