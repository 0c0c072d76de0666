import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useDeferredValue, useId } from "react";
import {
  CheckboxButton,
  CheckboxField,
  Group,
  Input,
  Label,
  NumberField,
  RadioButton,
  RadioField,
  RadioGroup,
  Text,
  TextArea,
  TextField,
} from "react-aria-components";
import { useSearchParams } from "wouter";

import { api, type Schemas, told } from "../../api/client";
import { messageOf, Refusal } from "../../api/errors";
import { useModels } from "../../api/queries";
import { fill } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { Choice } from "../../ui/choice";
import { Fold } from "../../ui/fold";
import { useFormat } from "../../ui/format";
import { Icon, type IconName } from "../../ui/icons";
import { changeTeachDraft, currentTeachDraft, EMPTY, jobOf, settingsOf, type TeachDraft, useTeachDraft } from "./draft";
import { Images } from "./images";
import { texts } from "./text";

type Forecast = Schemas["ForecastShape"];
const NOT_ADMIN = 403;

/** What is to be taught: images, what they show, and how it is learned; beside it what will happen. */
export function TeachForm() {
  const forecast = useForecast();
  const usual = forecast.data?.caption ?? "";
  return (
    <div className="teach-form">
      <div className="teach-parts">
        <Images usual={usual} />
        <What />
        <How forecast={forecast.data} />
      </div>
      <Summary forecast={forecast.data} problem={forecast.error} />
    </div>
  );
}

/** What the server says a job of the draft would do; asked again a moment after something changes. */
function useForecast() {
  const draft = useDeferredValue(useTeachDraft());
  const body = { ...settingsOf(draft), count: draft.images.length };
  return useQuery({
    queryKey: ["forecast", body],
    queryFn: () => told(api.POST("/v1/teaching/forecast", { body: body as never })),
    enabled: draft.images.length > 0,
    placeholderData: (before: Forecast | undefined) => before,
    retry: false,
  });
}

const PRESETS: readonly { id: TeachDraft["preset"]; icon: IconName }[] = [
  { id: "thing", icon: "models" },
  { id: "face", icon: "face" },
  { id: "style", icon: "brush" },
];

function What() {
  const text = useOwnText(texts);
  const draft = useTeachDraft();
  const label = useId();
  const hints = { thing: text.thingHint, face: text.faceHint, style: text.styleHint };
  return (
    <section className="teach-part" aria-labelledby={label}>
      <h2 id={label}>{text.what}</h2>
      <RadioGroup
        className="presets"
        aria-label={text.preset}
        value={draft.preset}
        onChange={(preset) => changeTeachDraft({ preset: preset as TeachDraft["preset"] })}
      >
        {PRESETS.map(({ id, icon }) => (
          <RadioField key={id} value={id}>
            <RadioButton className="preset">
              <Icon name={icon} />
              <span>
                <strong>{text[id]}</strong>
                <span className="quiet">{hints[id]}</span>
              </span>
            </RadioButton>
          </RadioField>
        ))}
      </RadioGroup>
      <div className="two">
        <Words label={text.word} hint={text.wordHint} value={draft.word} placeholder={EMPTY.word} onChange={(word) => changeTeachDraft({ word })} />
        <Words label={text.like} hint={text.likeHint} value={draft.like} placeholder={text.likePlaceholder} onChange={(like) => changeTeachDraft({ like })} />
      </div>
    </section>
  );
}

function Words(own: { label: string; hint: string; value: string; placeholder: string; onChange: (value: string) => void }) {
  return (
    <TextField className="text" value={own.value} onChange={own.onChange}>
      <Label>{own.label}</Label>
      <Input placeholder={own.placeholder} />
      <Text slot="description" className="field-help">
        {own.hint}
      </Text>
    </TextField>
  );
}

function How({ forecast }: { forecast: Forecast | undefined }) {
  const text = useOwnText(texts);
  const draft = useTeachDraft();
  const label = useId();
  const { data: known } = useQuery({
    queryKey: ["teaching"],
    queryFn: () => told(api.GET("/v1/teaching")),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const { data: models } = useModels();
  const methods = known?.methods ?? [];
  const method = methods.find((one) => one.name === draft.method);
  const options = (models?.data ?? []).map((model) => ({ id: model.id, label: model.id }));
  return (
    <section className="teach-part" aria-labelledby={label}>
      <h2 id={label}>{text.how}</h2>
      <div className="two">
        <div>
          <Choice
            label={text.method}
            value={draft.method}
            options={methods.map((one) => ({ id: one.name, label: one.name }))}
            onChange={(chosen) => changeTeachDraft({ method: chosen })}
          />
          <p className="field-help">{method?.help}</p>
        </div>
        <Choice
          label={text.model}
          value={draft.model === "" ? "embedded" : draft.model}
          options={options}
          onChange={(model) => changeTeachDraft({ model: model === "embedded" ? "" : model })}
        />
      </div>
      <Fold title={text.more}>
        <div className="two">
          <Amount label={text.steps} value={draft.steps} usual={forecast?.steps} low={1} high={100_000} onChange={(steps) => changeTeachDraft({ steps })} />
          <Amount label={text.rate} value={draft.rate} usual={forecast?.rate} low={0} high={10} onChange={(rate) => changeTeachDraft({ rate })} />
          <Amount label={text.prior} hint={text.priorHint} value={draft.prior} usual={forecast?.class_images} low={0} high={1000} onChange={(prior) => changeTeachDraft({ prior })} />
          <Words label={text.name} hint="" value={draft.name} placeholder={forecast?.name ?? draft.word} onChange={(name) => changeTeachDraft({ name })} />
        </div>
        <TextField className="text" value={draft.sample} onChange={(sample) => changeTeachDraft({ sample })}>
          <Label>{text.sample}</Label>
          <TextArea rows={2} placeholder={forecast?.caption ?? ""} />
          <Text slot="description" className="field-help">
            {text.sampleHint}
          </Text>
        </TextField>
      </Fold>
    </section>
  );
}

interface AmountOwn {
  label: string;
  hint?: string;
  value: number | null;
  usual: number | undefined;
  low: number;
  high: number;
  onChange: (value: number | null) => void;
}

/** A number that is usually left open; what it then is stands in its place. */
function Amount({ label, hint, value, usual, low, high, onChange }: AmountOwn) {
  const text = useOwnText(texts);
  const { number } = useFormat();
  return (
    <NumberField
      className="number"
      value={value ?? Number.NaN}
      minValue={low}
      maxValue={high}
      formatOptions={{ maximumFractionDigits: 8, useGrouping: false }}
      onChange={(next) => onChange(Number.isNaN(next) ? null : next)}
    >
      <Label>{label}</Label>
      <Group className="number-group">
        <Input placeholder={usual === undefined ? text.asUsual : number(usual)} />
      </Group>
      {hint !== undefined && (
        <Text slot="description" className="field-help">
          {hint}
        </Text>
      )}
    </NumberField>
  );
}

/** What will happen, and the button that lets it. */
function Summary({ forecast, problem }: { forecast: Forecast | undefined; problem: Error | null }) {
  const text = useOwnText(texts);
  const label = useId();
  const draft = useTeachDraft();
  const start = useStart(forecast);
  const taken = forecast !== undefined && forecast.taken.length > 0 && !draft.overwrite;
  const ready = forecast !== undefined && problem === null && draft.images.length > 0 && !taken;
  return (
    <aside className="teach-summary" aria-labelledby={label}>
      <h2 id={label}>{text.forecast}</h2>
      {draft.images.length === 0 && <p className="quiet">{text.forecastImages}</p>}
      {draft.images.length > 0 && forecast !== undefined && problem === null && <Facts forecast={forecast} />}
      {problem !== null && (
        <p className="field-error" role="alert">
          {problem instanceof Refusal && problem.status === NOT_ADMIN ? text.onlyAdmins : messageOf(problem)}
        </p>
      )}
      {forecast !== undefined && forecast.taken.length > 0 && (
        <div className="teach-taken">
          <p>{fill(text.forecastTaken, { file: forecast.taken.join(", ") })}</p>
          <CheckboxField isSelected={draft.overwrite} onChange={(overwrite) => changeTeachDraft({ overwrite })}>
            <CheckboxButton className="check">
              <span className="check-box">
                <Icon name="check" />
              </span>
              {text.overwrite}
            </CheckboxButton>
          </CheckboxField>
        </div>
      )}
      <Button look="main" icon="teach" isDisabled={!ready} onPress={() => !start.isPending && start.mutate()}>
        {text.start}
      </Button>
      {start.error !== null && (
        <p className="field-error" role="alert">
          {messageOf(start.error)}
        </p>
      )}
    </aside>
  );
}

function Facts({ forecast }: { forecast: Forecast }) {
  const text = useOwnText(texts);
  const { duration } = useFormat();
  const time = fill(forecast.measured ? text.forecastTime : text.forecastGuess, { time: duration(forecast.seconds) });
  return (
    <>
      <ul className="teach-facts">
        <li>
          <Icon name="clock" />
          <span>{time}</span>
        </li>
        <li>
          <Icon name="layers" />
          <span>{fill(text.forecastSteps, { steps: forecast.steps, batch: forecast.batch })}</span>
        </li>
        {forecast.class_images > 0 && (
          <li>
            <Icon name="image" />
            <span>{fill(text.forecastClass, { count: forecast.class_images })}</span>
          </li>
        )}
        {forecast.warnings.map((warning) => (
          <li key={warning} className="teach-warning">
            <Icon name="info" />
            <span>{warning}</span>
          </li>
        ))}
      </ul>
      <div className="teach-use">
        <span className="label">{text.forecastResult}</span>
        <code>{forecast.prompt}</code>
        {forecast.model !== "embedded" && <span className="quiet">{fill(text.forecastModel, { model: forecast.model })}</span>}
      </div>
    </>
  );
}

/** Asks for the training of the draft, and shows it. */
function useStart(forecast: Forecast | undefined) {
  const queries = useQueryClient();
  const [, setSearch] = useSearchParams();
  return useMutation({
    mutationFn: async () => {
      const body = jobOf(currentTeachDraft(), forecast?.steps ?? 1, forecast?.caption ?? "");
      return told(api.POST("/v1/jobs/teach", { body: body as never, params: { header: { "idempotency-key": crypto.randomUUID() } } }));
    },
    onSuccess: async (job) => {
      await queries.invalidateQueries({ queryKey: ["jobs"] });
      changeTeachDraft(EMPTY);
      setSearch({ job: job.id });
    },
  });
}

