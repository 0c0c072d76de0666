import { Label, Slider, SliderOutput, SliderThumb, SliderTrack } from "react-aria-components";

interface Own {
  label: string;
  value: number;
  low: number;
  high: number;
  step: number;
  onChange: (value: number) => void;
}

/** A number that a hand sets, with what it is beside its name. */
export function Slide({ label, value, low, high, step, onChange }: Own) {
  return (
    <Slider className="slide" value={value} minValue={low} maxValue={high} step={step} onChange={onChange}>
      <div className="slide-head">
        <Label>{label}</Label>
        <SliderOutput className="slide-value" />
      </div>
      <SliderTrack className="slider-track">
        <SliderThumb className="slider-thumb" />
      </SliderTrack>
    </Slider>
  );
}
