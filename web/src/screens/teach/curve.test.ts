import { describe, expect, test } from "vitest";

import { joined, line, type Point, scaleOf, smoothed, thinned, ticks } from "./curve";

const FRAME = { width: 120, height: 60, left: 10, right: 10, top: 5, bottom: 5 };

describe("the curve of a training", () => {
  test("steps that are made again replace those before the break", () => {
    const before = [[1, 0.5], [2, 0.4], [3, 0.3]] as const;
    expect(joined(before, [[2, 0.45], [4, 0.2]])).toEqual([[1, 0.5], [2, 0.45], [3, 0.3], [4, 0.2]]);
  });

  test("few points are not smoothed, a constant stays, and a fall is followed from above", () => {
    expect(smoothed([[1, 0.5], [2, 0.1]])).toEqual([[1, 0.5], [2, 0.1]]);
    const flat = Array.from({ length: 100 }, (_, at) => [at, 0.25] as const);
    for (const [, loss] of smoothed(flat)) expect(loss).toBeCloseTo(0.25);
    const falling = Array.from({ length: 100 }, (_, at) => [at, 1 - at / 100] as const);
    const [, last] = smoothed(falling).at(-1) ?? [0, 0];
    expect(last).toBeGreaterThan(0.01);
    expect(last).toBeLessThan(0.2);
  });

  test("round numbers stand beside the lines", () => {
    expect(ticks(0, 150, 5)).toEqual([0, 50, 100, 150]);
    expect(ticks(0.12, 0.31, 4)).toEqual([0.1, 0.15, 0.2, 0.25, 0.3, 0.35]);
    expect(ticks(0, 1, 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
  });

  test("the first step lies left, the smallest loss low", () => {
    const scale = scaleOf([[1, 0.4], [50, 0.2]], 100, FRAME);
    expect(scale.x(0)).toBe(10);
    expect(scale.x(100)).toBe(110);
    expect(scale.y(0.2)).toBeCloseTo(55);
    expect(scale.y(0.4)).toBeCloseTo(5);
    expect(line([[0, 0.4], [100, 0.2]], scale)).toBe("M10.0 5.0L110.0 55.0");
  });

  test("a hundred thousand steps are drawn with few points, whose line reaches as far up and down in each column", () => {
    const noise = (step: number) => ((step * 7919) % 1009) / 1009;
    const points = Array.from({ length: 100_000 }, (_, at): Point => [at + 1, at === 70_123 ? 9 : at === 31_000 ? -1 : noise(at)]);
    const drawn = thinned(points, 720);
    expect(drawn.length).toBeLessThanOrEqual(4 * 720);
    const there = new Set(drawn);
    expect(drawn).toEqual(points.filter((point) => there.has(point)));
    expect(drawn).toContainEqual([70_124, 9]);
    expect(drawn).toContainEqual([31_001, -1]);
    expect([drawn[0], drawn.at(-1)]).toEqual([points[0], points.at(-1)]);
    const wide = 99_999 / 720;
    for (const column of [0, 1, 300, 718]) {
      const within = ([step]: Point) => step - 1 >= column * wide && step - 1 < (column + 1) * wide;
      const range = (of: readonly Point[]) => [Math.min(...of.map(([, loss]) => loss)), Math.max(...of.map(([, loss]) => loss))];
      expect(range(drawn.filter(within))).toEqual(range(points.filter(within)));
    }
    const scale = scaleOf(points, 0, FRAME);
    expect([scale.y(9), scale.y(-1)].every(Number.isFinite)).toBe(true);
    expect(thinned(points.slice(0, 2880), 720)).toHaveLength(2880);
  });

  test("one point and none make no nonsense", () => {
    const one = scaleOf([[1, 0.4]], 10, FRAME);
    expect(Number.isFinite(one.y(0.4))).toBe(true);
    const none = scaleOf([], 10, FRAME);
    expect(none.losses).toEqual([]);
    expect(line([], none)).toBe("");
  });
});
