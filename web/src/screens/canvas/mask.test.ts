import { expect, test } from "vitest";

import { alphaOf, anything, cut, emptyPart, everything, grown, hard, margins, reachOf } from "./mask";

/** A mask of lines: # is white. */
function drawn(...lines: string[]) {
  return Uint8ClampedArray.from(lines.join(""), (one) => (one === "#" ? 255 : 0));
}

const SIZE = { width: 6, height: 3 };

test("a mask grows by as many pixels as its soft edge is wide, and not over the side", () => {
  const one = drawn("......", "#.....", "......");
  expect(grown(one, SIZE, 1)).toEqual(drawn("##....", "##....", "##...."));
  expect(grown(one, SIZE, 3)).toEqual(drawn("####..", "####..", "####.."));
  expect(grown(one, SIZE, 0)).toEqual(one);
  expect([0, 1, 4, 64].map(reachOf)).toEqual([0, 3, 10, 160]);
});

test("what lies there is told from what does not by its alpha", () => {
  const alpha = alphaOf(new Uint8ClampedArray([9, 9, 9, 0, 9, 9, 9, 15, 9, 9, 9, 16, 9, 9, 9, 255]));
  expect([...emptyPart(alpha)]).toEqual([255, 255, 0, 0]);
  expect([...hard(new Uint8ClampedArray([0, 127, 128, 255]))]).toEqual([0, 0, 255, 255]);
  expect([anything(drawn("...")), anything(drawn("..#"))]).toEqual([false, true]);
  expect([everything(drawn("##.")), everything(drawn("###"))]).toEqual([false, true]);
});

test("margins are told of one rectangle alone", () => {
  expect(margins(drawn("#...##", "#...##", "######"), SIZE)).toEqual({ left: 1, top: 0, right: 2, bottom: 1 });
  expect(margins(drawn("#...##", "##..##", "######"), SIZE)).toBeNull();
  expect(margins(drawn("......", "......", "......"), SIZE)).toBeNull();
  expect(margins(drawn("######", "######", "######"), SIZE)).toBeNull();
});

test("a cut image keeps its colours", () => {
  expect([...cut(new Uint8ClampedArray([1, 2, 3, 255, 4, 5, 6, 255]), new Uint8ClampedArray([255, 0]))]).toEqual([1, 2, 3, 255, 4, 5, 6, 0]);
});
