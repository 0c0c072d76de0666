import { useQuery } from "@tanstack/react-query";
import { Fragment, useEffect, useState } from "react";
import { Button as AriaButton, Input, Label, NumberField, TextField } from "react-aria-components";

import type { Fields, Json } from "../../api/client";
import { useFields } from "../../api/queries";
import { isNothing } from "../../form/draft";
import { FieldControl } from "../../form/control";
import { fill, useText } from "../../i18n";
import { Button } from "../../ui/button";
import { Choice } from "../../ui/choice";
import { Fold } from "../../ui/fold";
import { PromptBox } from "../paint/prompt";
import { sizeOf } from "../paint/sizes";
import { usualSide } from "./actions";
import { changedSettings, type Content, CONTENTS, type Document, type Settings } from "./document";
import { framed, LEAST_SIDE, MOST_SIDE, STEP } from "./geometry";
import { Layers } from "./layers";
import { Regions } from "./regions";
import type { Way } from "./request";
import { plannedFor } from "./server";
import { Slide } from "./slide";
import { edit, settle, useDocument } from "./store";
import { useOwnText } from "./text";

function changeSettings(change: Partial<Settings>, tag: string): void {
  edit((document) => changedSettings(document, change), tag);
}

/** What is asked for, and what lies on the canvas. */
export function Panel({ generate, busy }: { generate: () => void; busy: boolean }) {
  const text = useOwnText();
  const { layers, regions, strokes } = useDocument();
  const way = useWay();
  return (
    <aside className="canvas-panel" aria-label={text.panel}>
      <h2 className="visually-hidden">{text.panel}</h2>
      <div className="canvas-ask">
        <Prompt generate={generate} />
        <Button look="main" onPress={generate} isPending={busy}>
          {text.generate}
        </Button>
        <p className="quiet canvas-way" role="status">
          {way !== null && text.ways[way]}
        </p>
      </div>
      {way !== "new" && <Strength />}
      <Count />
      <div className="canvas-folds">
        <Fold title={text.mask} note={strokes.length > 0 ? text.drawn : undefined} open>
          <Mask />
        </Fold>
        <Fold title={text.layers} note={layers.length > 0 ? String(layers.length) : undefined} open>
          <Layers />
        </Fold>
        <Fold title={text.regions} note={regions.length > 0 ? String(regions.length) : undefined}>
          <Regions />
        </Fold>
        <Fold title={text.frame}>
          <FrameForm />
        </Fold>
        <Fold title={text.more}>
          <More />
        </Fold>
      </div>
    </aside>
  );
}

function Prompt({ generate }: { generate: () => void }) {
  const text = useText().paint;
  const { settings } = useDocument();
  return (
    <div className="composer canvas-prompt">
      <PromptBox value={settings.prompt} onChange={(prompt) => changeSettings({ prompt }, "prompt")} onSubmit={generate} />
      <input
        className="negative-box"
        aria-label={text.negative}
        placeholder={text.negativePlaceholder}
        value={settings.negative}
        onChange={(event) => changeSettings({ negative: event.target.value }, "negative")}
        onBlur={settle}
      />
    </div>
  );
}

const THINK_MS = 250;

/** What Generate would do with what lies in the frame now; null until that is known. */
function useWay(): Way | null {
  const document = useDocument();
  const { layers, strokes, frame } = document;
  const [way, setWay] = useState<Way | null>(null);
  useEffect(() => {
    let wanted = true;
    const timer = setTimeout(() => {
      void plannedFor({ ...document, layers, strokes, frame }).then(
        (plan) => wanted && setWay(plan.way),
        () => undefined,
      );
    }, THINK_MS);
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- what else the document holds does not count here.
  }, [layers, strokes, frame]);
  return way;
}

function Strength() {
  const text = useOwnText();
  const { strength } = useDocument().settings;
  return <Slide label={text.strength} value={strength} low={0} high={1} step={0.01} onChange={(next) => changeSettings({ strength: next }, "strength")} />;
}

const MOST_CANDIDATES = 8;

function Count() {
  const text = useOwnText();
  const { count } = useDocument().settings;
  return <Slide label={text.count} value={count} low={1} high={MOST_CANDIDATES} step={1} onChange={(next) => changeSettings({ count: next }, "count")} />;
}

const MOST_BLUR = 64;

function Mask() {
  const text = useOwnText();
  const { settings, strokes } = useDocument();
  return (
    <>
      {strokes.length === 0 && <p className="quiet">{text.noMask}</p>}
      <Slide label={text.blur} value={settings.blur} low={0} high={MOST_BLUR} step={1} onChange={(blur) => changeSettings({ blur }, "blur")} />
      <Choice
        label={text.content}
        value={settings.content}
        options={CONTENTS.map((id) => ({ id, label: text.contents[id] }))}
        onChange={(id) => changeSettings({ content: id as Content }, "")}
      />
      {strokes.length > 0 && (
        <Button look="quiet" icon="reset" onPress={() => edit((document) => ({ ...document, strokes: [] }))}>
          {text.clearMask}
        </Button>
      )}
    </>
  );
}

const FRAME_SIDES = ["x", "y", "width", "height"] as const;

function FrameForm() {
  const text = useOwnText();
  const { frame } = useDocument();
  return (
    <>
      <Shapes />
      <div className="canvas-pair">
        {FRAME_SIDES.map((name) => (
        <NumberField
          key={name}
          className="number"
          value={frame[name]}
          step={STEP}
          {...(name === "width" || name === "height" ? { minValue: LEAST_SIDE, maxValue: MOST_SIDE } : {})}
          formatOptions={{ useGrouping: false }}
          onChange={(value) => edit((document) => withFrame(document, { [name]: value }))}
        >
          <Label>{text.frameSides[name]}</Label>
          <Input />
        </NumberField>
      ))}
      </div>
    </>
  );
}

type Shape = Parameters<typeof sizeOf>[0];
const SHAPES: readonly Shape[] = ["tall", "portrait", "square", "landscape", "wide"];

/** The shapes of images that the model makes well; the frame keeps its upper left corner. */
function Shapes() {
  const text = useText().paint;
  const own = useOwnText();
  const { frame } = useDocument();
  const { data: side = frame.width } = useQuery({ queryKey: ["usual side"], queryFn: usualSide, staleTime: Number.POSITIVE_INFINITY });
  return (
    <div className="sizes" role="group" aria-label={own.frame}>
      {SHAPES.map((shape) => {
        const [width, height] = sizeOf(shape, side);
        const chosen = frame.width === width && frame.height === height;
        return (
          <AriaButton
            key={shape}
            className="size-shape"
            aria-pressed={chosen}
            {...(chosen ? { "data-selected": "" } : {})}
            onPress={() => edit((document) => withFrame(document, { width, height }))}
          >
            <span>{text[shape]}</span>
          </AriaButton>
        );
      })}
    </div>
  );
}

function withFrame(document: Document, change: Partial<Document["frame"]>): Document {
  return { ...document, frame: framed({ ...document.frame, ...change }) };
}

/** Fields of a request that mean the same here as in Paint. */
const MORE = ["model", "styles", "seed", "steps", "cfg_scale", "sampler", "scheduler", "vae", "clip_skip", "soft_inpainting", "region_method"];

function More() {
  const text = useText();
  const fields = useFields();
  const { more } = useDocument().settings;
  const changed = Object.values(more).filter((value) => !isNothing(value)).length;
  return (
    <>
      {changed > 0 && <p className="quiet">{fill(text.paint.changed, { count: changed })}</p>}
      {MORE.flatMap((name) => fields.filter((field) => field.name === name)).map((spec) => (
        <Fragment key={spec.name}>
          <FieldControl spec={spec} value={more[spec.name] ?? null} onChange={(value) => changeSettings({ more: withMore(more, spec.name, value) }, `more ${spec.name}`)} />
        </Fragment>
      ))}
    </>
  );
}

function withMore(more: Fields, name: string, value: Json): Fields {
  const { [name]: _, ...rest } = more;
  return isNothing(value) ? rest : { ...rest, [name]: value };
}

export function NameBox() {
  const text = useOwnText();
  const { name } = useDocument();
  return (
    <TextField className="canvas-name" aria-label={text.name} value={name} onChange={(next) => edit((document) => ({ ...document, name: next }), "name")}>
      <Input placeholder={text.untitled} onBlur={settle} />
    </TextField>
  );
}
