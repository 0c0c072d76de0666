import "../../styles/queue.css";

import { useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";
import { useLocation, useSearch } from "wouter";

import { api, type Job, told } from "../../api/client";
import { messageOf } from "../../api/errors";
import { cancelJob } from "../../api/jobs";
import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { Icon } from "../../ui/icons";
import { toast } from "../../ui/toasts";
import { useQueue } from "./data";
import { Ended } from "./ended";
import { Running } from "./running";
import { type QueueText, TEXTS } from "./text";
import { Waiting } from "./waiting";

/** What can be done to jobs. */
export interface Doings {
  cancel: (ids: readonly string[]) => Promise<void>;
  front: (id: string) => Promise<void>;
  retry: (id: string) => Promise<void>;
  remove: (id: string) => Promise<void>;
}

/** All of one's jobs: those that run, those that wait, and how the others ended. */
export function Queue() {
  const text = useText();
  const own = useOwnText(TEXTS);
  const { queue, error, previews } = useQueue();
  const doings = useDoings(own);
  const search = useSearch();
  const [here, go] = useLocation();
  const failed = new URLSearchParams(search).get("show") === "failed";
  const idle = queue !== undefined && queue.running.length + queue.waiting.length === 0;
  return (
    <div className="queue">
      <h1>{text.screens.queue}</h1>
      {error !== null && <p className="job-failed">{error.message}</p>}
      {queue === undefined && error === null && <p className="quiet">{text.app.loading}</p>}
      {idle && (
        <div className="queue-quiet">
          <Icon name="check" />
          <div>
            <p>{own.quiet}</p>
            <p className="quiet">{own.quietHint}</p>
          </div>
        </div>
      )}
      {queue !== undefined && queue.running.length > 0 && (
        <section aria-labelledby="queue-running">
          <h2 id="queue-running">{own.running}</h2>
          <ul className="queue-running">
            {queue.running.map((job) => (
              <Running key={job.id} job={job} preview={previews[job.id]} doings={doings} />
            ))}
          </ul>
        </section>
      )}
      {queue !== undefined && queue.waiting.length > 0 && (
        <section aria-labelledby="queue-waiting">
          <header className="queue-head">
            <h2 id="queue-waiting">
              {own.waiting} <span className="badge">{queue.waiting.length}</span>
            </h2>
            {queue.waiting.length > 1 && (
              <Button look="quiet" icon="stop" onPress={() => void doings.cancel(ids(queue.waiting))}>
                {own.cancelAll}
              </Button>
            )}
          </header>
          <Waiting jobs={queue.waiting} doings={doings} />
        </section>
      )}
      <Ended shown={failed ? "failed" : "ended"} onShow={(shown) => go(shown === "failed" ? `${here}?show=failed` : here, { replace: true })} doings={doings} />
    </div>
  );
}

function ids(jobs: readonly Job[]): string[] {
  return jobs.map((job) => job.id);
}

function useDoings(text: QueueText): Doings {
  const queries = useQueryClient();
  return useMemo(() => {
    const run = async (step: () => Promise<string>) => {
      try {
        const said = await step();
        if (said !== "") toast(said);
      } catch (error) {
        toast(messageOf(error), { bad: true });
      }
      await Promise.all([queries.invalidateQueries({ queryKey: ["queue"] }), queries.invalidateQueries({ queryKey: ["jobs"] })]);
    };
    const path = (id: string) => ({ params: { path: { job_id: id } } });
    return {
      cancel: (all) =>
        run(async () => {
          await Promise.all(all.map((id) => cancelJob(id)));
          return all.length > 1 ? fill(text.cancelledAll, { count: all.length }) : "";
        }),
      front: (id) => run(async () => told(api.POST("/v1/jobs/{job_id}/front", path(id))).then(() => "")),
      retry: (id) => run(async () => told(api.POST("/v1/jobs/{job_id}/retry", path(id))).then(() => text.retried)),
      remove: (id) => run(async () => told(api.DELETE("/v1/jobs/{job_id}", path(id))).then(() => text.removed)),
    };
  }, [queries, text]);
}
