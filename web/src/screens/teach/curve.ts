/** The curve of a training, as lines of an SVG. */
export type Point = readonly [step: number, loss: number];

export interface Frame {
  width: number;
  height: number;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export interface Scale {
  x: (step: number) => number;
  y: (loss: number) => number;
  steps: readonly number[];
  losses: readonly number[];
}

/** The points of both lists by their steps, each once; what comes later wins: steps that are made again after a break. */
export function joined(before: readonly Point[], more: readonly Point[]): Point[] {
  const last = before.at(-1)?.[0] ?? Number.NEGATIVE_INFINITY;
  const isBehind = more.every(([step], at) => step > (more[at - 1]?.[0] ?? last));
  if (isBehind) return [...before, ...more];
  const all = new Map<number, number>();
  for (const [step, loss] of [...before, ...more]) all.set(step, loss);
  return [...all].sort((a, b) => a[0] - b[0]);
}

/** A running mean that looks so far back as a tenth of what there is: the noise of single steps hides where it goes. */
export function smoothed(points: readonly Point[]): Point[] {
  const weight = 1 - 1 / Math.max(1, points.length / 10);
  let mean = 0;
  let total = 0;
  return points.map(([step, loss]) => {
    mean = weight * mean + (1 - weight) * loss;
    total = weight * total + (1 - weight);
    return [step, mean / total] as const;
  });
}

/** Where steps and losses lie within a frame, and the round numbers beside its lines. */
export function scaleOf(points: readonly Point[], total: number, frame: Frame): Scale {
  const low = points.reduce((least, [, loss]) => Math.min(least, loss), Number.POSITIVE_INFINITY);
  const high = points.reduce((most, [, loss]) => Math.max(most, loss), Number.NEGATIVE_INFINITY);
  const lossTicks = points.length === 0 ? [] : ticks(low, high === low ? low + 1 : high, 4);
  const bottom = Math.min(low, lossTicks[0] ?? 0);
  const top = Math.max(high, lossTicks.at(-1) ?? 1);
  const most = points.reduce((last, [step]) => Math.max(last, step), Math.max(total, 1));
  const wide = frame.width - frame.left - frame.right;
  const tall = frame.height - frame.top - frame.bottom;
  return {
    x: (step) => frame.left + (wide * step) / most,
    y: (loss) => frame.top + (top === bottom ? tall / 2 : tall * (1 - (loss - bottom) / (top - bottom))),
    steps: ticks(0, most, 5).filter((tick) => tick <= most),
    losses: lossTicks,
  };
}

/** Round numbers from at most `low` to at least `high`, about `count` of them. */
export function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((one) => one * power >= rough) ?? 10);
  const first = Math.floor(low / step);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

/**
 * Fewer points that draw the same line, `columns` wide: of all that lie in one column the first, the lowest, the highest
 * and the last (M4: Jugel and others, "M4: A Visualization-Oriented Time Series Data Aggregation", 2014). Those of a curve
 * that is short enough are left alone.
 */
export function thinned(points: readonly Point[], columns: number): readonly Point[] {
  if (points.length <= 4 * columns) return points;
  const first = points[0]?.[0] ?? 0;
  const wide = ((points.at(-1)?.[0] ?? 0) - first) / columns;
  const kept: Point[] = [];
  let from = 0;
  while (from < points.length) {
    const column = columnOf(points[from], first, wide, columns);
    let to = from;
    while (to < points.length && columnOf(points[to], first, wide, columns) === column) to += 1;
    kept.push(...ends(points.slice(from, to)));
    from = to;
  }
  return kept;
}

function columnOf(point: Point | undefined, first: number, wide: number, columns: number): number {
  return Math.min(Math.floor(((point?.[0] ?? 0) - first) / wide), columns - 1);
}

/** The first, lowest, highest and last of some points, in their order, each once. */
function ends(points: readonly Point[]): Point[] {
  let low = 0;
  let high = 0;
  points.forEach(([, loss], at) => {
    if (loss < (points[low]?.[1] ?? 0)) low = at;
    if (loss > (points[high]?.[1] ?? 0)) high = at;
  });
  const places = new Set([0, low, high, points.length - 1]);
  return points.filter((_, at) => places.has(at));
}

/** The line through points. */
export function line(points: readonly Point[], scale: Scale): string {
  return points.map(([step, loss], at) => `${at === 0 ? "M" : "L"}${scale.x(step).toFixed(1)} ${scale.y(loss).toFixed(1)}`).join("");
}
