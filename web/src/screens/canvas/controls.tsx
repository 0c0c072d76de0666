import { useQueries, useQuery } from "@tanstack/react-query";

import { api, type Job, type Schemas, told } from "../../api/client";
import { messageOf } from "../../api/errors";
import { hasEnded } from "../../api/jobs";
import { fill } from "../../i18n";
import { Choice } from "../../ui/choice";
import { acting, changedLayer, type Control, type Layer } from "./document";
import { addressOf } from "./raster";
import { annotate } from "./server";
import { edit, useDocument } from "./store";
import { Slide } from "./slide";
import { useOwnText } from "./text";

const LOOK_MS = 300;
const PLAIN = "none";

type Hinted = Layer & { control: Control };

/** What steers: the types that there are, their annotators, and the networks. */
export function useControls() {
  return useQuery({ queryKey: ["controls"], queryFn: () => told(api.GET("/v1/controls")), staleTime: Number.POSITIVE_INFINITY });
}

/** The control that an image becomes at first: one whose hint is drawn without a file. */
export function firstControl(known: Schemas["ControlsShape"] | undefined): Control {
  const type = known?.types.find((one) => one.name === "canny") ?? known?.types[0];
  return { type: type?.name ?? "canny", annotator: "", weight: 1, start: 0, end: 1 };
}

/** The addresses of the hints of control layers, by the layer; while one is drawn, its image is shown. */
export function useHints(): Readonly<Record<string, string>> {
  const layers = acting(useDocument());
  const queries = useHintQueries(layers);
  return Object.fromEntries(layers.flatMap((layer, at) => (queries[at]?.data === undefined ? [] : [[layer.id, queries[at].data]])));
}

function useHintQueries(layers: readonly Hinted[]) {
  return useQueries({
    queries: layers.map(({ image, control }) => ({
      queryKey: ["hint", image, control.type, control.annotator],
      queryFn: () => hint(image, control),
      staleTime: Number.POSITIVE_INFINITY,
      retry: false,
    })),
  });
}

async function hint(image: string, control: Control): Promise<string> {
  if (control.annotator === PLAIN) return addressOf(image);
  const annotator = control.annotator === "" ? "" : ` annotator=${control.annotator}`;
  const job = await ended(await annotate(`${control.type}:${image}${annotator}`));
  const [made] = job.images;
  if (made === undefined) throw new Error(job.error?.message ?? job.state);
  return made.url;
}

async function ended(job: Job): Promise<Job> {
  let now = job;
  while (!hasEnded(now)) {
    await new Promise((done) => setTimeout(done, LOOK_MS));
    now = await told(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job.id } } }));
  }
  return now;
}

/** How a control layer steers, with whether its hint can be drawn and its network is there. */
export function ControlForm({ layer }: { layer: Hinted }) {
  const text = useOwnText();
  const { data: known } = useControls();
  const { control } = layer;
  const type = known?.types.find((one) => one.name === control.type);
  const change = (next: Partial<Control>, tag = "") =>
    edit((document) => changedLayer(document, layer.id, { control: { ...control, ...next } }), tag && `${tag} ${layer.id}`);
  const drawn = ["", ...(type?.annotators ?? []), PLAIN];
  return (
    <div className="control-form">
      <div className="canvas-pair">
        <Choice
          label={text.controlType}
          value={control.type}
          options={(known?.types ?? []).map((one) => ({ id: one.name, label: one.title }))}
          onChange={(id) => change({ type: id, annotator: "" })}
        />
        <Choice
          label={text.annotator}
          value={control.annotator}
          options={drawn.map((id) => ({ id, label: id === "" ? text.usual : id === PLAIN ? text.isHint : id }))}
          onChange={(id) => change({ annotator: id })}
        />
      </div>
      <Slide label={text.weight} value={control.weight} low={0} high={2} step={0.05} onChange={(weight) => change({ weight }, "weight")} />
      <div className="canvas-pair">
        <Slide label={text.startsAt} value={control.start} low={0} high={1} step={0.05} onChange={(start) => change({ start: Math.min(start, control.end) }, "start")} />
        <Slide label={text.endsAt} value={control.end} low={0} high={1} step={0.05} onChange={(end) => change({ end: Math.max(end, control.start) }, "end")} />
      </div>
      <HintState layer={layer} />
      {known !== undefined && known.networks.length === 0 && <p className="quiet">{text.noNetwork}</p>}
    </div>
  );
}

function HintState({ layer }: { layer: Hinted }) {
  const text = useOwnText();
  const [query] = useHintQueries([layer]);
  if (query === undefined || query.isSuccess) return <p className="visually-hidden" role="status">{text.hintShown}</p>;
  if (query.isError) return <p className="job-failed" role="status">{fill(text.noHint, { reason: messageOf(query.error) })}</p>;
  return <p className="quiet" role="status">{text.drawingHint}</p>;
}
