import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ProgressBar } from "react-aria-components";

import { changesOf } from "../../api/live";
import { api, type Job, told } from "../../api/client";
import { messageOf } from "../../api/errors";
import { cancelJob, hasEnded } from "../../api/jobs";
import { fill } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { type ModelsText, texts } from "./text";

/** A job that is waited for: nothing, how far it is, or why it did not happen. */
export interface Work {
  share: number | null;
  error: string | null;
  run: (ask: () => Promise<Job>) => Promise<Job | null>;
  stop: () => void;
}

/** Does one job at a time and follows it. What it makes is listed when it is done. */
export function useWork(): Work {
  const queries = useQueryClient();
  const text = useOwnText(texts);
  const [share, setShare] = useState<number | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [id, setId] = useState<string | null>(null);
  const run = async (ask: () => Promise<Job>) => {
    if (share !== null) return null; // one at a time: what is shown is of this one
    setShare(0);
    setError(null);
    try {
      const job = await followed(await ask(), setId, setShare);
      for (const list of ["weights", "models", "names", "weight"]) await queries.invalidateQueries({ queryKey: [list] });
      if (job.state === "done") return job;
      setError(problemOf(job, text));
    } catch (caught) {
      setError(messageOf(caught));
    } finally {
      setShare(null);
      setId(null);
    }
    return null;
  };
  return { share, error, run, stop: () => void (id === null ? undefined : cancelJob(id)) };
}

function problemOf(job: Job, text: ModelsText): string {
  return job.error === null ? text.stopped : job.error.message;
}

async function followed(job: Job, setId: (id: string) => void, setShare: (share: number) => void): Promise<Job> {
  setId(job.id);
  if (!hasEnded(job)) {
    for await (const { name, data } of changesOf(job.id)) {
      if (name === "progress" && typeof data["share"] === "number") setShare(data["share"]);
    }
  }
  return told(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job.id } } }));
}

/** How far it is, with a way to stop it; or what went wrong. */
export function Working({ work, label }: { work: Work; label: string }) {
  const text = useOwnText(texts);
  if (work.share === null) {
    return work.error === null ? null : (
      <p className="field-error" role="alert">
        {work.error}
      </p>
    );
  }
  const percent = Math.round(work.share * 100);
  return (
    <div className="working">
      <ProgressBar value={percent} aria-label={label}>
        {() => <progress className="progress-bar" max={100} value={percent} aria-hidden="true" />}
      </ProgressBar>
      <span className="quiet" aria-live="polite">
        {percent === 0 ? text.waiting : fill(text.working, { share: percent })}
      </span>
      <Button look="quiet" icon="stop" onPress={work.stop}>
        {text.stop}
      </Button>
    </div>
  );
}
