import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { useLocation } from "wouter";

import { api, type Json, told } from "../../api/client";
import { isRecord, messageOf } from "../../api/errors";
import { useModels } from "../../api/queries";
import { setDraft } from "../../form/store";
import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { Fold } from "../../ui/fold";
import { useFormat } from "../../ui/format";
import { toast } from "../../ui/toasts";
import { ConvertDialog, MergeDialog } from "./dialogs";
import { promptOf, type WeightsFile } from "./shelf";
import { texts } from "./text";
import { useWork, Working } from "./work";

type Told = Readonly<Record<string, Json>>;

interface Own {
  file: WeightsFile;
  files: readonly WeightsFile[];
  onMade: (name: string) => void;
}

/** All that a file says of itself, and what can be made of it. */
export function Card({ file, files, onMade }: Own) {
  const app = useText();
  const { data: card, error } = useQuery({
    queryKey: ["weight", file.id],
    queryFn: async () => (await told(api.GET("/v1/weights/{file_id}", { params: { path: { file_id: file.id } } }))) as Told,
  });
  if (error !== null) return <p role="alert">{messageOf(error)}</p>;
  return (
    <article className="card" aria-label={file.name}>
      <header className="card-head">
        <h2>{file.name}</h2>
        <p className="quiet">{card === undefined ? app.app.loading : textOf(card["title"])}</p>
      </header>
      {card !== undefined && (
        <>
          <Actions file={file} files={files} card={card} onMade={onMade} />
          <Facts file={file} card={card} />
          <Trained card={card} />
          <Parts card={card} />
          <Hashes file={file} card={card} />
          <Metadata card={card} />
        </>
      )}
    </article>
  );
}

function textOf(value: Json | undefined): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

function textsOf(value: Json | undefined): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}

function Actions({ file, files, card, onMade }: Own & { card: Told }) {
  const text = useOwnText(texts);
  const [, go] = useLocation();
  const [open, setOpen] = useState<"convert" | "merge" | null>(null);
  const load = useLoad(file.name);
  const { data: models } = useModels();
  const model = models?.data.find((one) => one.id === file.name && file.kind === "checkpoint");
  const prompt = promptOf(file, textsOf(card["trigger_words"]));
  const paint = () => {
    setDraft(prompt === null ? { model: file.name } : { prompt });
    go("/");
  };
  const single = file.file.endsWith(".safetensors");
  return (
    <div className="card-actions">
      {model !== undefined && !model.default && (
        <Button look="main" onPress={() => !load.isPending && load.mutate()}>
          {load.isPending ? text.loading : text.load}
        </Button>
      )}
      {(model !== undefined || prompt !== null) && (
        <Button icon="paint" onPress={paint}>
          {text.paint}
        </Button>
      )}
      {model !== undefined && (
        <Button icon="copy" onPress={() => setOpen("convert")}>
          {text.convert}
        </Button>
      )}
      {model !== undefined && single && (
        <Button icon="compare" onPress={() => setOpen("merge")}>
          {text.merge}
        </Button>
      )}
      {open === "convert" && <ConvertDialog file={file} onClose={() => setOpen(null)} onMade={onMade} />}
      {open === "merge" && <MergeDialog file={file} files={files} onClose={() => setOpen(null)} onMade={onMade} />}
    </div>
  );
}

/** Makes a model the one that is used where none is named. */
function useLoad(name: string) {
  const text = useOwnText(texts);
  const queries = useQueryClient();
  return useMutation({
    mutationFn: () => told(api.POST("/v1/models/load", { body: { model: name } })),
    onSuccess: async () => {
      toast(fill(text.loadedNow, { name }));
      await queries.invalidateQueries({ queryKey: ["models"] });
    },
    onError: (error) => toast(messageOf(error), { bad: true }),
  });
}

function Facts({ file, card }: { file: WeightsFile; card: Told }) {
  const text = useOwnText(texts);
  const { bytes, number, when } = useFormat();
  const triggers = textsOf(card["trigger_words"]);
  const rows: [string, ReactNode][] = [
    [text.problem, textOf(card["problem"])],
    [text.licence, textOf(card["licence"]) || <span className="quiet">{text.licenceNone}</span>],
    [text.base, textOf(card["base_model"])],
    [text.triggers, triggers.length === 0 ? "" : <Chips key="chips" words={triggers} />],
    [text.file, <code key="file">{file.file}</code>],
    [text.size, file.size === null ? "" : fill(text.pixels, { size: file.size })],
    [text.variant, textOf(card["variant"])],
    [text.fits, textsOf(card["fits"]).join(", ")],
    [text.prediction, textOf(card["prediction"])],
    [text.dtype, textOf(card["dtype"])],
    [text.layout, textOf(card["layout"])],
    [text.parameters, number(file.parameters)],
    [text.onDisk, bytes(file.bytes)],
    [text.changed, when(file.changed)],
    [text.notes, textsOf(card["notes"]).join("; ")],
  ];
  return <Rows rows={rows} />;
}

/** Names and values; those without a value are left out. */
function Rows({ rows }: { rows: readonly [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {rows
        .filter(([, value]) => value !== "" && value !== null)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

function Chips({ words }: { words: readonly string[] }) {
  return (
    <ul className="words">
      {words.map((word) => (
        <li key={word}>{word}</li>
      ))}
    </ul>
  );
}

function Trained({ card }: { card: Told }) {
  const text = useOwnText(texts);
  const { number, duration, when } = useFormat();
  const told_ = card["trained_on"];
  if (!isRecord(told_)) return null;
  const of = (name: string) => textOf(told_[name]);
  const counted = (name: string) => (typeof told_[name] === "number" ? number(told_[name]) : "");
  const tags = isRecord(told_["tags"]) ? Object.keys(told_["tags"]).slice(0, MOST_TAGS) : [];
  const rows: [string, ReactNode][] = [
    [text.base, of("base")],
    [text.trainedImages, counted("images")],
    [text.trainedRegular, told_["regular"] === 0 ? "" : counted("regular")],
    [text.trainedTags, tags.length === 0 ? "" : <Chips key="tags" words={tags} />],
    [text.trainedSteps, counted("steps")],
    [text.trainedEpochs, counted("epochs")],
    [text.trainedBatch, of("batch")],
    [text.trainedRate, counted("rate")],
    [text.trainedMethod, of("method")],
    [text.trainedRank, of("rank")],
    [text.trainedAlpha, of("alpha")],
    [text.trainedResolution, of("resolution")],
    [text.trainedTime, typeof told_["seconds"] === "number" ? duration(told_["seconds"]) : ""],
    [text.trainedWhen, typeof told_["finished"] === "number" ? when(told_["finished"]) : ""],
    [text.trainedComment, of("comment")],
  ];
  return (
    <section className="card-part">
      <h3>{text.trained}</h3>
      <Rows rows={rows} />
    </section>
  );
}

const MOST_TAGS = 12;

function Parts({ card }: { card: Told }) {
  const text = useOwnText(texts);
  const { bytes, number } = useFormat();
  const parts = isRecord(card["parts"]) ? Object.entries(card["parts"]) : [];
  if (parts.length === 0) return null;
  return (
    <Fold title={text.parts} note={String(parts.length)}>
      <table className="parts">
        <thead>
          <tr>
            <th scope="col">{text.part}</th>
            <th scope="col">{text.parameters}</th>
            <th scope="col">{text.onDisk}</th>
            <th scope="col">{text.dtype}</th>
          </tr>
        </thead>
        <tbody>
          {parts.map(([name, part]) => {
            const own = isRecord(part) ? part : {};
            return (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>{number(Number(own["parameters"]))}</td>
                <td>{bytes(Number(own["bytes"]))}</td>
                <td>{isRecord(own["dtypes"]) ? Object.keys(own["dtypes"]).join(", ") : ""}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Fold>
  );
}

function Hashes({ file, card }: { file: WeightsFile; card: Told }) {
  const text = useOwnText(texts);
  const work = useWork();
  const [checked, setChecked] = useState<Told | null>(null);
  const from = checked ?? card;
  const known = textOf(from["sha256"]) !== "";
  const run = () =>
    void work
      .run(() => told(api.POST("/v1/jobs/inspect", { body: { id: file.id, check: true } })))
      .then((job) => setChecked(job === null ? null : (job.result as Told | null)));
  return (
    <Fold title={text.hashes}>
      {known ? (
        <Rows
          rows={[
            [text.short, <code key="short">{textOf(from["short"])}</code>],
            [text.autov3, textOf(from["autov3"]) === "" ? "" : <code key="autov3">{textOf(from["autov3"])}</code>],
            [text.sha256, <code key="sha256">{textOf(from["sha256"])}</code>],
          ]}
        />
      ) : (
        <p className="quiet">{text.hashNone}</p>
      )}
      {checked !== null && <Soundness checked={checked} />}
      <Working work={work} label={text.hash} />
      <div className="row">
        <Button icon="search" isPending={work.share !== null} onPress={run}>
          {text.hash}
        </Button>
      </div>
    </Fold>
  );
}

function Soundness({ checked }: { checked: Told }) {
  const text = useOwnText(texts);
  const bad = textsOf(checked["not_finite"]);
  const zero = textsOf(checked["zero"]);
  return (
    <div role="status">
      <p>{bad.length === 0 ? text.sound : fill(text.broken, { names: bad.join(", ") })}</p>
      {zero.length > 0 && <p>{fill(text.zero, { names: zero.slice(0, MOST_TAGS).join(", ") })}</p>}
    </div>
  );
}

function Metadata({ card }: { card: Told }) {
  const text = useOwnText(texts);
  const said = isRecord(card["metadata"]) ? Object.entries(card["metadata"]).filter(([, value]) => value !== "None" && value !== "") : [];
  if (said.length === 0) return null;
  return (
    <Fold title={text.metadata} note={String(said.length)}>
      <Rows rows={said.map(([name, value]) => [name, textOf(value)])} />
    </Fold>
  );
}
