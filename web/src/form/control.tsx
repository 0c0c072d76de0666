import { useId, useState } from "react";
import {
  Button as AriaButton,
  Dialog as AriaDialog,
  DialogTrigger,
  ComboBox,
  type DropItem,
  DropZone,
  FieldError,
  Group,
  Input,
  Label,
  ListBox,
  ListBoxItem,
  NumberField,
  Popover,
  Slider,
  SliderThumb,
  SliderTrack,
  SwitchButton,
  SwitchField,
  TextArea,
  TextField,
} from "react-aria-components";

import { type Json, upload } from "../api/client";
import { messageOf } from "../api/errors";
import { useNames } from "../api/queries";
import { fill, useLanguage, useText } from "../i18n";
import { fieldLabel } from "../i18n/labels";
import { Button, IconButton } from "../ui/button";
import { Choice } from "../ui/choice";
import { Icon } from "../ui/icons";
import { Picture } from "../ui/picture";
import { toast } from "../ui/toasts";
import { isNothing } from "./draft";
import type { FieldSpec } from "./fields";

export interface ControlProps {
  spec: FieldSpec;
  value: Json;
  onChange: (value: Json) => void;
}

const IMAGES: ReadonlySet<string> = new Set(["image", "mask", "depth"]);
const LONG: ReadonlySet<string> = new Set(["hires_prompt", "hires_negative_prompt"]);

/** The control for one field, chosen by its kind; what differs from the default is marked and can be reset. */
export function FieldControl({ spec, value, onChange }: ControlProps) {
  const text = useText();
  const label = fieldLabel(spec.name, useLanguage());
  const changed = !isNothing(value);
  return (
    <div className={changed ? "field field-changed" : "field"}>
      <Body spec={spec} value={value} onChange={onChange} />
      {changed && <IconButton icon="reset" label={fill(text.paint.resetOne, { name: label })} onPress={() => onChange(null)} />}
      <Help of={label} text={spec.help} />
    </div>
  );
}

/** What a field means, shown when it is asked for. */
function Help({ of, text }: { of: string; text: string }) {
  const words = useText();
  return (
    <DialogTrigger>
      <AriaButton className="help-button" aria-label={fill(words.form.about, { name: of })}>
        <Icon name="info" />
      </AriaButton>
      <Popover className="popover help-text" placement="left top">
        <AriaDialog aria-label={of}>{text}</AriaDialog>
      </Popover>
    </DialogTrigger>
  );
}

function Body(props: ControlProps) {
  const { spec } = props;
  if (IMAGES.has(spec.name)) return <ImageControl {...props} />;
  if (spec.kind === "flag") return <FlagControl {...props} />;
  if (spec.kind === "int" || spec.kind === "float") return <NumberControl {...props} />;
  if (spec.kind === "size") return <SizeControl {...props} />;
  if (spec.kind === "texts") return <TextsControl {...props} />;
  if (spec.options !== null) return <EnumControl {...props} />;
  return spec.list !== null ? <NameControl {...props} /> : <TextControl {...props} />;
}

function useLabel(spec: FieldSpec): string {
  return fieldLabel(spec.name, useLanguage());
}

function FlagControl({ spec, value, onChange }: ControlProps) {
  const label = useLabel(spec);
  return (
    <SwitchField isSelected={value === null ? spec.initial === true : value === true} onChange={onChange}>
      <SwitchButton className="switch">
        <span className="switch-track" />
        <span>{label}</span>
      </SwitchButton>
    </SwitchField>
  );
}

const SLIDER_MAX = 150;
/** A slider where the range is one that a hand can hit: up to so many; beyond that, typing. */

function NumberControl({ spec, value, onChange }: ControlProps) {
  const text = useText();
  const label = useLabel(spec);
  const low = spec.low ?? Number.NEGATIVE_INFINITY;
  const high = spec.high ?? Number.POSITIVE_INFINITY;
  const shown = typeof value === "number" ? value : typeof spec.initial === "number" ? spec.initial : Number.NaN;
  const step = spec.step ?? (spec.kind === "int" ? 1 : undefined);
  const slides = Number.isFinite(low) && Number.isFinite(high) && high - low <= SLIDER_MAX && !Number.isNaN(shown);
  return (
    <>
      <NumberField
        className="number"
        value={shown}
        minValue={low}
        maxValue={high}
        {...(step === undefined ? {} : { step })}
        formatOptions={{ maximumFractionDigits: spec.kind === "int" ? 0 : 6, useGrouping: false }}
        onChange={(next) => onChange(Number.isNaN(next) ? null : next)}
      >
        <Label>{label}</Label>
        <Group className="number-group">
          <Input placeholder={text.form.open} />
          <AriaButton slot="decrement">
            <Icon name="minus" />
          </AriaButton>
          <AriaButton slot="increment">
            <Icon name="plus" />
          </AriaButton>
        </Group>
        <FieldError className="field-error" />
      </NumberField>
      {slides && (
        <Slider
          className="slider"
          aria-label={label}
          value={shown}
          minValue={low}
          maxValue={high}
          step={step ?? (high - low <= 2 ? 0.01 : 0.1)}
          onChange={onChange}
        >
          <SliderTrack className="slider-track">
            <SliderThumb className="slider-thumb" />
          </SliderTrack>
        </Slider>
      )}
    </>
  );
}

function EnumControl({ spec, value, onChange }: ControlProps) {
  const text = useText();
  const label = useLabel(spec);
  const options = (spec.options ?? []).map((id) => ({ id, label: id }));
  const open = spec.initial === null ? [{ id: "", label: text.form.open }] : [];
  const shown = typeof value === "string" ? value : typeof spec.initial === "string" ? spec.initial : "";
  return <Choice label={label} value={shown} options={[...open, ...options]} onChange={onChange} />;
}

function NameControl({ spec, value, onChange }: ControlProps) {
  const text = useText();
  const label = useLabel(spec);
  const { data: names = [] } = useNames(spec.list);
  const shown = typeof value === "string" ? value : "";
  return (
    <ComboBox
      className="combo"
      allowsCustomValue
      menuTrigger="focus"
      inputValue={shown}
      onInputChange={onChange}
      items={names.filter((name) => name.toLowerCase().includes(shown.toLowerCase()) || names.includes(shown)).map((name) => ({ id: name }))}
    >
      <Label>{label}</Label>
      <Group className="combo-group">
        <Input placeholder={typeof spec.initial === "string" ? spec.initial : text.form.open} />
        <AriaButton>
          <Icon name="down" />
        </AriaButton>
      </Group>
      <Popover className="popover" offset={4}>
        <ListBox<{ id: string }> className="listbox">
          {(item) => (
            <ListBoxItem id={item.id} textValue={item.id} className="listbox-item">
              {item.id}
            </ListBoxItem>
          )}
        </ListBox>
      </Popover>
    </ComboBox>
  );
}

function TextControl({ spec, value, onChange }: ControlProps) {
  const text = useText();
  const label = useLabel(spec);
  return (
    <TextField className="text" value={typeof value === "string" ? value : ""} onChange={onChange}>
      <Label>{label}</Label>
      {LONG.has(spec.name) ? (
        <TextArea rows={2} />
      ) : (
        <Input placeholder={typeof spec.initial === "string" && spec.initial !== "" ? spec.initial : text.form.open} />
      )}
    </TextField>
  );
}

function SizeControl({ spec, value, onChange }: ControlProps) {
  const text = useText();
  const label = useLabel(spec);
  const name = useId();
  const [width, height] = Array.isArray(value) ? (value as number[]) : [Number.NaN, Number.NaN];
  const set = (sides: [number | undefined, number | undefined]) => {
    const [w, h] = sides.map((side) => (side === undefined || Number.isNaN(side) ? 0 : side));
    onChange(w === 0 && h === 0 ? null : [w ?? 0, h ?? 0]);
  };
  return (
    <div className="size" role="group" aria-labelledby={name}>
      <span className="label" id={name}>
        {label}
      </span>
      <div className="size-sides">
        <Side label={text.form.width} spec={spec} value={width} onChange={(side) => set([side, height])} />
        <Side label={text.form.height} spec={spec} value={height} onChange={(side) => set([width, side])} />
      </div>
    </div>
  );
}

function Side({ label, spec, value, onChange }: { label: string; spec: FieldSpec; value: number | undefined; onChange: (side: number) => void }) {
  return (
    <NumberField
      className="number"
      aria-label={label}
      value={value ?? Number.NaN}
      minValue={spec.low ?? 0}
      maxValue={spec.high ?? 65536}
      formatOptions={{ useGrouping: false }}
      onChange={onChange}
    >
      <Input placeholder={label} />
    </NumberField>
  );
}

function TextsControl({ spec, value, onChange }: ControlProps) {
  const text = useText();
  const label = useLabel(spec);
  const { data: names = [] } = useNames(spec.list);
  const [entry, setEntry] = useState("");
  const chosen = Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
  const add = (one: string) => {
    if (one.trim() !== "") onChange([...chosen, one]);
    setEntry("");
  };
  return (
    <div className="texts">
      <span className="label">{label}</span>
      {chosen.length > 0 && (
        <ul className="chips">
          {chosen.map((one, at) => (
            <li key={`${at} ${one}`} className="chip">
              <span>{one}</span>
              <IconButton icon="close" label={`${text.app.remove}: ${one}`} onPress={() => onChange(chosen.filter((_, other) => other !== at))} />
            </li>
          ))}
        </ul>
      )}
      {spec.list !== null ? (
        <Choice
          hidden
          label={label}
          value=""
          options={[{ id: "", label: text.form.add }, ...names.filter((name) => !chosen.includes(name)).map((id) => ({ id, label: id }))]}
          onChange={add}
        />
      ) : (
        <TextField className="text" aria-label={label} value={entry} onChange={setEntry}>
          <div className="row">
            <Input onKeyDown={(event) => event.key === "Enter" && !event.nativeEvent.isComposing && add(entry)} />
            <Button icon="plus" onPress={() => add(entry)}>
              {text.form.add}
            </Button>
          </div>
        </TextField>
      )}
    </div>
  );
}

function ImageControl({ spec, value, onChange }: ControlProps) {
  const text = useText();
  const label = useLabel(spec);
  const input = useId();
  const [sending, setSending] = useState(false);
  const take = async (file: File | undefined) => {
    if (file === undefined) return;
    setSending(true);
    try {
      onChange(await upload(file));
    } catch (error) {
      toast(messageOf(error), { bad: true });
    } finally {
      setSending(false);
    }
  };
  const takeDropped = async (items: readonly DropItem[]) => {
    const file = items.find((item) => item.kind === "file");
    if (file !== undefined) await take(await file.getFile());
  };
  return (
    <DropZone className="image-control" aria-label={label} onDrop={(event) => void takeDropped(event.items)}>
      <label className="label" htmlFor={input}>
        {label}
      </label>
      {typeof value === "string" && value !== "" && <Kept value={value} label={label} />}
      <input id={input} type="file" accept="image/png,image/jpeg,image/webp" onChange={(event) => void take(event.target.files?.[0])} />
      <span className="quiet">{sending ? text.form.uploading : text.form.dropImage}</span>
    </DropZone>
  );
}

/** The image that a field holds: an upload is shown, another name said. */
function Kept({ value, label }: { value: string; label: string }) {
  const upload = /^upload:([0-9a-f]{64})$/.exec(value);
  return upload === null ? <code>{value}</code> : <Picture className="kept" src={`/v1/uploads/${upload[1] ?? ""}`} alt={label} />;
}
