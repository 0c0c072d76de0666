import { fill } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { useFormat } from "../../ui/format";
import { type Frame, line, type Point, scaleOf, smoothed, thinned } from "./curve";
import { texts } from "./text";

const FRAME: Frame = { width: 720, height: 260, left: 52, right: 14, top: 14, bottom: 34 };

/** The loss of a training over its steps: each step faintly, the running mean over it, and the repeated measurement as dots. */
export function Chart({ points, checks, total }: { points: readonly Point[]; checks: readonly Point[]; total: number }) {
  const text = useOwnText(texts);
  const { number } = useFormat();
  if (points.length === 0) return <p className="quiet chart-none">{text.lossNone}</p>;
  const scale = scaleOf([...points, ...checks], total, FRAME);
  const mean = smoothed(points);
  const said = (at: number) => (mean.at(at)?.[1] ?? 0).toFixed(3);
  const alt = fill(text.lossAlt, { steps: points.at(-1)?.[0] ?? 0, first: said(0), last: said(-1) });
  return (
    <figure className="chart">
      <svg viewBox={`0 0 ${FRAME.width} ${FRAME.height}`} role="img" aria-label={alt}>
        {scale.losses.map((loss) => (
          <g key={loss}>
            <line className="chart-grid" x1={FRAME.left} x2={FRAME.width - FRAME.right} y1={scale.y(loss)} y2={scale.y(loss)} />
            <text className="chart-text chart-loss" x={FRAME.left - 8} y={scale.y(loss) + 4}>
              {number(loss)}
            </text>
          </g>
        ))}
        {scale.steps.map((step) => (
          <text key={step} className="chart-text chart-step" x={scale.x(step)} y={FRAME.height - 12}>
            {number(step)}
          </text>
        ))}
        <path className="chart-raw" d={line(thinned(points, FRAME.width), scale)} />
        <path className="chart-mean" d={line(thinned(mean, FRAME.width), scale)} />
        {checks.map(([step, loss]) => (
          <circle key={step} className="chart-check" cx={scale.x(step)} cy={scale.y(loss)} r={4.5} />
        ))}
      </svg>
      <figcaption className="chart-legend">
        <span className="chart-key chart-key-mean">{text.lossLegend}</span>
        {checks.length > 0 && <span className="chart-key chart-key-check">{text.checkLegend}</span>}
        <span className="quiet">{text.lossHint}</span>
      </figcaption>
    </figure>
  );
}
