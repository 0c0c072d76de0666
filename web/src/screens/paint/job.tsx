import { ProgressBar } from "react-aria-components";
import { Link } from "wouter";

import type { Job, JobImage } from "../../api/client";
import { cancelJob, hasEnded, useLive } from "../../api/jobs";
import { messageOf } from "../../api/errors";
import { type Catalogue, fill, useText } from "../../i18n";
import { Button } from "../../ui/button";
import { Icon } from "../../ui/icons";
import { Picture } from "../../ui/picture";
import { toast } from "../../ui/toasts";

/** A job with its images: those that are done, and in place of the others what is seen of them so far. */
export function JobCard({ job: initial, onOpen }: { job: Job; onOpen: (job: Job, image: JobImage) => void }) {
  const { job, previews } = useLive(initial);
  const text = useText();
  const prompt = promptOf(job);
  const missing = hasEnded(job) ? 0 : Math.max(expected(job) - job.images.length, 0);
  return (
    <article className="job" aria-label={prompt || text.paint.noPrompt} data-state={job.state}>
      <div className="job-images">
        {job.images.map((image) => (
          <div key={image.id} className="job-made">
            <button type="button" className="job-image" onClick={() => onOpen(job, image)} aria-label={`${text.paint.open}: ${prompt || text.paint.noPrompt}`}>
              <Picture src={image.url} alt="" width={image.width} height={image.height} />
            </button>
            <Link className="job-edit" href={`/canvas?image=${image.id}`} aria-label={text.paint.edit} title={text.paint.edit}>
              <Icon name="brush" />
            </Link>
          </div>
        ))}
        {Array.from({ length: missing }, (_, at) => (
          <Coming key={`coming ${at}`} preview={previews[job.images.length + at]} />
        ))}
      </div>
      <Standing job={job} />
      {prompt !== "" && <p className="job-prompt">{prompt}</p>}
    </article>
  );
}

function Coming({ preview }: { preview: string | undefined }) {
  return <div className="job-image job-coming">{preview !== undefined && <img src={preview} alt="" />}</div>;
}

export function promptOf(job: Job): string {
  const { prompt } = job.asked;
  return typeof prompt === "string" ? prompt : "";
}

function expected(job: Job): number {
  const number = (name: string) => (typeof job.asked[name] === "number" ? job.asked[name] : 1);
  return job.progress.images || number("batch_size") * number("batch_count");
}

/** How far a job is, or how it ended if not well. */
function Standing({ job }: { job: Job }) {
  const text = useText();
  if (job.state === "done") return null;
  if (hasEnded(job)) return <p className={job.state === "cancelled" ? "quiet" : "job-failed"}>{ending(job, text)}</p>;
  const stop = () => void cancelJob(job.id).catch((error: unknown) => toast(messageOf(error), { bad: true }));
  return (
    <div className="job-standing">
      <ProgressBar className="progress" value={job.progress.share * 100} aria-label={text.paint.generate}>
        {({ percentage }) => <progress className="progress-bar" max={100} value={percentage} aria-hidden="true" />}
      </ProgressBar>
      <span className="quiet" aria-live="polite">
        {standing(job, text)}
      </span>
      <Button look="quiet" icon="stop" onPress={stop}>
        {text.paint.stop}
      </Button>
    </div>
  );
}

function standing(job: Job, text: Catalogue): string {
  const { done, total, image, images } = job.progress;
  if (job.state === "queued") {
    const place = job.position === null || job.position === 0 ? text.paint.next : fill(text.paint.waiting, { count: job.position });
    return job.expected === null ? place : `${place}, ${fill(text.paint.about, { seconds: Math.ceil(job.expected) })}`;
  }
  if (total === 0) return text.paint.starting;
  const steps = fill(text.paint.running, { done, total });
  return images > 1 ? `${steps}, ${fill(text.paint.ofImages, { image: image + 1, images })}` : steps;
}

export function ending(job: Job, text: Catalogue): string {
  if (job.error !== null) return fill(text.paint.failed, { reason: job.error.message });
  const words: Partial<Record<Job["state"], string>> = {
    cancelled: text.paint.cancelled,
    timed_out: text.paint.timedOut,
    quarantined: text.paint.quarantined,
  };
  return words[job.state] ?? job.state;
}
