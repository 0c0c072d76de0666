import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useId, useState } from "react";
import { ProgressBar } from "react-aria-components";
import { Link, useLocation, useSearchParams } from "wouter";

import { api, type Job, type JobImage, told } from "../../api/client";
import { messageOf } from "../../api/errors";
import { cancelJob, hasEnded } from "../../api/jobs";
import { setDraft } from "../../form/store";
import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { Fold } from "../../ui/fold";
import { useFormat } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { Picture } from "../../ui/picture";
import { toast } from "../../ui/toasts";
import { Chart } from "./chart";
import { type Seen, useOf, useTraining } from "./live";
import { type TeachText, texts } from "./text";

/** One training: how far it is, its curve, its samples, and what can be done with it. */
export function Training({ id }: { id: string }) {
  const app = useText();
  const { seen, error } = useTraining(id);
  if (error !== null) return <Missing message={messageOf(error)} />;
  if (seen === undefined) return <p className="quiet">{app.app.loading}</p>;
  return <Shown seen={seen} />;
}

function Missing({ message }: { message: string }) {
  return (
    <div className="teach">
      <Back />
      <p role="alert">{message}</p>
    </div>
  );
}

function Back() {
  const text = useOwnText(texts);
  return (
    <Link href="/teach" className="button button-quiet">
      <Icon name="left" />
      <span>{text.back}</span>
    </Link>
  );
}

function Shown({ seen }: { seen: Seen }) {
  const text = useOwnText(texts);
  const { job } = seen;
  return (
    <div className="teach">
      <Back />
      <header className="training-head">
        <div>
          <h1>{titleOf(job)}</h1>
          <p className="quiet">{subtitle(job, text)}</p>
        </div>
        <Actions job={job} />
      </header>
      <Standing seen={seen} />
      <div className="training-grid">
        <Part title={text.loss}>
          <Chart points={seen.points} checks={seen.checks} total={job.progress.total} />
        </Part>
        <Part title={text.samples}>
          <Samples seen={seen} />
        </Part>
      </div>
      {job.warnings.length > 0 && (
        <Part title={text.warnings}>
          <ul className="teach-facts">
            {job.warnings.map((warning) => (
              <li key={warning}>
                <Icon name="info" />
                <span>{warning}</span>
              </li>
            ))}
          </ul>
        </Part>
      )}
      <Fold title={text.asked}>
        <dl className="facts">
          {Object.entries(job.asked)
            .filter(([name]) => name !== "images" && name !== "continues")
            .map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{Array.isArray(value) ? value.join(" · ") : String(value)}</dd>
              </div>
            ))}
        </dl>
      </Fold>
    </div>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  const label = useId();
  return (
    <section className="teach-part" aria-labelledby={label}>
      <h2 id={label}>{title}</h2>
      {children}
    </section>
  );
}

export function titleOf(job: Job): string {
  const told = (name: string) => (typeof job.asked[name] === "string" ? job.asked[name] : "");
  return [told("word") || "zwx", told("like")].filter((word) => word !== "").join(" ");
}

export function subtitle(job: Job, text: TeachText): string {
  const images = Array.isArray(job.asked["images"]) ? job.asked["images"].length : 0;
  const preset = job.asked["preset"];
  const kind = preset === "face" || preset === "style" ? text[preset] : text.thing;
  const method = typeof job.asked["method"] === "string" ? job.asked["method"] : "lora";
  return [kind, method, fill(text.taughtOn, { count: images })].join(" · ");
}

function Actions({ job }: { job: Job }) {
  const text = useOwnText(texts);
  const [, setSearch] = useSearchParams();
  const [, go] = useLocation();
  const queries = useQueryClient();
  const params = { params: { path: { job_id: job.id } } };
  const act = (run: () => Promise<unknown>) => () => void run().catch((error: unknown) => toast(messageOf(error), { bad: true }));
  const resume = async () => {
    const next = await told(api.POST("/v1/jobs/{job_id}/resume", params));
    await queries.invalidateQueries({ queryKey: ["jobs"] });
    toast(text.resumed);
    setSearch({ job: next.id });
  };
  const remove = async () => {
    await told(api.DELETE("/v1/jobs/{job_id}", params));
    await queries.invalidateQueries({ queryKey: ["jobs"] });
    toast(text.deleted);
    go("/teach");
  };
  const use = useOf(job);
  const openPaint = () => {
    if (use === null) return;
    setDraft({ prompt: use.prompt, ...(use.model === "embedded" ? {} : { model: use.model }) });
    go("/");
  };
  return (
    <div className="row">
      {!hasEnded(job) && (
        <Button icon="stop" onPress={act(() => cancelJob(job.id))}>
          {text.stop}
        </Button>
      )}
      {hasEnded(job) && job.state !== "done" && (
        <Button look="main" icon="play" onPress={act(resume)}>
          {text.resume}
        </Button>
      )}
      {use !== null && (
        <Button look="main" icon="paint" onPress={openPaint}>
          {text.use}
        </Button>
      )}
      {hasEnded(job) && (
        <Button look="danger" icon="trash" onPress={act(remove)}>
          {text.delete}
        </Button>
      )}
    </div>
  );
}

/** How far it is, or how it ended. */
function Standing({ seen }: { seen: Seen }) {
  const text = useOwnText(texts);
  const { duration } = useFormat();
  const { job } = seen;
  if (job.state === "done") return <Learned job={job} />;
  if (hasEnded(job)) {
    const step = seen.points.at(-1)?.[0];
    const stopped = step === undefined ? text.stoppedEarly : fill(text.stopped, { step });
    const said = job.error === null ? stopped : fill(text.failed, { reason: job.error.message });
    return <p className={job.error === null ? "training-note" : "training-note training-bad"}>{said}</p>;
  }
  const left = seen.left === null ? "" : `, ${fill(text.left, { time: duration(seen.left) })}`;
  return (
    <div className="training-standing">
      <ProgressBar value={job.progress.share * 100} aria-label={titleOf(job)}>
        {({ percentage }) => <progress className="progress-bar" max={100} value={percentage} aria-hidden="true" />}
      </ProgressBar>
      <p aria-live="polite">{standing(job, text) + left}</p>
    </div>
  );
}

export function standing(job: Job, text: TeachText): string {
  const { done, total, image, images } = job.progress;
  if (job.state === "queued") return job.position === null || job.position === 0 ? text.next : fill(text.waiting, { count: job.position });
  if (done === 0 && images > 0) return fill(text.preparing, { image: image + 1, images });
  return total === 0 ? text.starting : fill(text.step, { done, total });
}

function Learned({ job }: { job: Job }) {
  const text = useOwnText(texts);
  const { duration } = useFormat();
  const use = useOf(job);
  return (
    <div className="training-learned">
      <p>{fill(text.done, { time: duration((job.ended ?? 0) - (job.started ?? 0)) })}</p>
      {use !== null && (
        <p>
          {text.useHint} <code>{use.prompt}</code>
          {use.model !== "embedded" && <span className="quiet"> {fill(text.onModel, { model: use.model })}</span>}
        </p>
      )}
    </div>
  );
}

/** What the model generated on the way; the newest first. */
function Samples({ seen }: { seen: Seen }) {
  const text = useOwnText(texts);
  const [open, setOpen] = useState<JobImage | null>(null);
  const images = [...seen.job.images].reverse();
  const every = seen.job.asked["sample_every"];
  if (images.length === 0) {
    return <p className="quiet">{typeof every === "number" ? fill(text.samplesNone, { steps: every }) : null}</p>;
  }
  return (
    <>
      <ul className="samples">
        {images.map((image) => (
          <li key={image.id}>
            <button type="button" className="sample" onClick={() => setOpen(image)} aria-label={fill(text.sampleAt, { step: image.index })}>
              <Picture src={image.url} alt="" />
            </button>
            <span className="quiet">{fill(text.sampleAt, { step: image.index })}</span>
          </li>
        ))}
      </ul>
      {open !== null && (
        <Dialog title={fill(text.sampleAt, { step: open.index })} open wide onClose={() => setOpen(null)}>
          <Picture className="sample-large" src={open.url} alt={fill(text.sampleAt, { step: open.index })} />
        </Dialog>
      )}
    </>
  );
}
