import { type SyntheticEvent, useState } from "react";
import {
  CheckboxButton,
  CheckboxField,
  Input,
  Label,
  Slider,
  SliderOutput,
  SliderThumb,
  SliderTrack,
  TextField,
} from "react-aria-components";

import { api, type Job, type Schemas, told } from "../../api/client";
import { useNames } from "../../api/queries";
import { fill } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { Choice } from "../../ui/choice";
import { Dialog } from "../../ui/dialog";
import { useFormat } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { toast } from "../../ui/toasts";
import { suggested, type WeightsFile } from "./shelf";
import { texts } from "./text";
import { useWork, Working } from "./work";

type Precision = "fp32" | "fp16" | "bf16";
const PRECISIONS: readonly Precision[] = ["fp16", "bf16", "fp32"];

export function ConvertDialog({ file, onClose, onMade }: { file: WeightsFile; onClose: () => void; onMade: (name: string) => void }) {
  const text = useOwnText(texts);
  const work = useWork();
  const made = useMade(onMade, onClose);
  const { data: vaes = [] } = useNames("autoencoders");
  const [layout, setLayout] = useState<Schemas["ConvertFields"]["layout"]>("ldm");
  const [dtype, setDtype] = useState<Precision | "">("fp16");
  const [vae, setVae] = useState("");
  const [ema, setEma] = useState(false);
  const [overwrite, setOverwrite] = useState(false);
  const [name, setName] = useState<string | null>(null);
  const shown = name ?? suggested(file.name, dtype);
  const run = () => {
    const body = { model: file.name, name: shown, layout, overwrite, ema, dtype: dtype === "" ? null : dtype, vae: vae === "" ? null : vae };
    void work.run(() => told(api.POST("/v1/jobs/convert", { body }))).then(made);
  };
  return (
    <Dialog title={fill(text.convertTitle, { name: file.name })} open onClose={onClose}>
      <form className="model-form" onSubmit={submitting(run)}>
        <Choice
          label={text.layout}
          value={layout}
          options={[
            { id: "ldm", label: text.layoutLdm },
            { id: "diffusers", label: text.layoutDiffusers },
          ]}
          onChange={(id) => setLayout(id as typeof layout)}
        />
        <PrecisionChoice value={dtype} onChange={setDtype} />
        {vaes.length > 0 && (
          <Choice label={text.vae} value={vae} options={[{ id: "", label: text.vaeOwn }, ...vaes.map((id) => ({ id, label: id }))]} onChange={setVae} />
        )}
        <NameField value={shown} onChange={setName} />
        <Check label={text.ema} value={ema} onChange={setEma} />
        <Check label={text.overwrite} value={overwrite} onChange={setOverwrite} />
        <Working work={work} label={text.startConvert} />
        <Button look="main" isDisabled={shown === ""} type="submit">
          {text.startConvert}
        </Button>
      </form>
    </Dialog>
  );
}

interface MergeOwn {
  file: WeightsFile;
  files: readonly WeightsFile[];
  onClose: () => void;
  onMade: (name: string) => void;
}

export function MergeDialog({ file, files, onClose, onMade }: MergeOwn) {
  const text = useOwnText(texts);
  const { number } = useFormat();
  const work = useWork();
  const made = useMade(onMade, onClose);
  const others = files.filter((one) => one.kind === "checkpoint" && one.id !== file.id && one.family === file.family && one.file.endsWith(".safetensors"));
  const [second, setSecond] = useState(others[0]?.name ?? "");
  const [third, setThird] = useState("");
  const [weight, setWeight] = useState(0.5);
  const [dtype, setDtype] = useState<Precision | "">("");
  const [overwrite, setOverwrite] = useState(false);
  const [name, setName] = useState<string | null>(null);
  const shown = name ?? suggested(file.name, second, String(weight));
  const run = () => {
    const body = { first: file.name, second, third: third === "" ? null : third, name: shown, weight, blocks: [], dtype: dtype === "" ? null : dtype, overwrite };
    void work.run(() => told(api.POST("/v1/jobs/merge", { body }))).then(made);
  };
  const words = { first: file.name, second, third, one: number(1 - weight), two: number(weight) };
  const names = others.map((one) => ({ id: one.name, label: one.name }));
  return (
    <Dialog title={text.mergeTitle} open onClose={onClose}>
      <form className="model-form" onSubmit={submitting(run)}>
        {others.length === 0 && <p className="quiet">{text.mergeFiles}</p>}
        {others.length > 0 && (
          <>
            <Choice label={text.second} value={second} options={names} onChange={setSecond} />
            <Choice label={text.third} value={third} options={[{ id: "", label: text.thirdNone }, ...names.filter((one) => one.id !== second)]} onChange={setThird} />
            <Slider className="slider" value={weight} minValue={0} maxValue={1} step={0.05} onChange={setWeight}>
              <div className="slider-head">
                <Label>{text.weight}</Label>
                <SliderOutput className="slider-output" />
              </div>
              <SliderTrack className="slider-track">
                <SliderThumb className="slider-thumb" />
              </SliderTrack>
            </Slider>
            <p className="formula">{fill(third === "" ? text.formula : text.formulaThird, words)}</p>
            <PrecisionChoice value={dtype} onChange={setDtype} />
            <NameField value={shown} onChange={setName} />
            <Check label={text.overwrite} value={overwrite} onChange={setOverwrite} />
            <Working work={work} label={text.startMerge} />
            <Button look="main" isDisabled={shown === "" || second === ""} type="submit">
              {text.startMerge}
            </Button>
          </>
        )}
      </form>
    </Dialog>
  );
}

/** Enter in a field does what the button does. */
function submitting(run: () => void) {
  return (event: SyntheticEvent) => {
    event.preventDefault();
    run();
  };
}

/** What is done once a job has written a model: it is told, and shown. */
function useMade(onMade: (name: string) => void, onClose: () => void) {
  const text = useOwnText(texts);
  const { bytes } = useFormat();
  return (job: Job | null) => {
    if (job === null) return;
    const name = String(job.result?.["model"]);
    toast(fill(text.written, { name, size: bytes(Number(job.result?.["bytes"])) }));
    onClose();
    onMade(name);
  };
}

function PrecisionChoice({ value, onChange }: { value: Precision | ""; onChange: (value: Precision | "") => void }) {
  const text = useOwnText(texts);
  const options = [{ id: "", label: text.dtypeAsIs }, ...PRECISIONS.map((id) => ({ id, label: id }))];
  return <Choice label={text.dtype} value={value} options={options} onChange={(id) => onChange(id as Precision | "")} />;
}

function NameField({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const text = useOwnText(texts);
  return (
    <TextField className="text" value={value} onChange={onChange}>
      <Label>{text.newName}</Label>
      <Input />
    </TextField>
  );
}

function Check({ label, value, onChange }: { label: string; value: boolean; onChange: (value: boolean) => void }) {
  return (
    <CheckboxField isSelected={value} onChange={onChange}>
      <CheckboxButton className="check">
        <span className="check-box">
          <Icon name="check" />
        </span>
        {label}
      </CheckboxButton>
    </CheckboxField>
  );
}
