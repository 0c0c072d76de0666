import { ToggleButton, ToggleButtonGroup } from "react-aria-components";

import { setDraft, currentDraft, useDraft } from "../../form/store";
import { useText } from "../../i18n";

const RATIOS = { tall: [9, 16], portrait: [3, 4], square: [1, 1], landscape: [4, 3], wide: [16, 9] } as const;
type Shape = keyof typeof RATIOS;
const STEP = 8;

/** Width and height of a shape with about the area of a square of `side`, in steps of eight pixels. */
export function sizeOf(shape: Shape, side: number): [number, number] {
  const [across, down] = RATIOS[shape];
  const scale = Math.sqrt((side * side) / (across * down));
  return [across, down].map((part) => Math.round((part * scale) / STEP) * STEP) as [number, number];
}

/** The shapes of images as shapes; the pixels follow from the model's own size. */
export function Sizes({ side }: { side: number }) {
  const text = useText();
  const draft = useDraft();
  const shapes = Object.keys(RATIOS) as Shape[];
  const chosen = shapes.find((shape) => {
    const [width, height] = sizeOf(shape, side);
    return (draft["width"] ?? side) === width && (draft["height"] ?? side) === height;
  });
  const choose = (shape: Shape) => {
    const [width, height] = sizeOf(shape, side);
    const { width: _w, height: _h, ...rest } = currentDraft();
    setDraft(shape === "square" ? rest : { ...rest, width, height });
  };
  return (
    <ToggleButtonGroup
      className="sizes"
      aria-label={text.paint.size}
      selectionMode="single"
      disallowEmptySelection={chosen !== undefined}
      selectedKeys={chosen === undefined ? [] : [chosen]}
      onSelectionChange={(keys) => {
        const [shape] = keys;
        if (shape !== undefined) choose(shape as Shape);
      }}
    >
      {shapes.map((shape) => (
        <ToggleButton key={shape} id={shape} className="size-shape" aria-label={text.paint[shape]}>
          <ShapeIcon shape={shape} />
          <span>{text.paint[shape]}</span>
        </ToggleButton>
      ))}
    </ToggleButtonGroup>
  );
}

function ShapeIcon({ shape }: { shape: Shape }) {
  const [width, height] = sizeOf(shape, 16);
  return (
    <svg viewBox="0 0 24 24" className="icon" aria-hidden="true">
      <rect x={12 - width / 2} y={12 - height / 2} width={width} height={height} rx={2} />
    </svg>
  );
}
