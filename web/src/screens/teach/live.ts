import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { changesOf } from "../../api/live";
import { api, type Job, told } from "../../api/client";
import { isRecord } from "../../api/errors";
import { afterEvent, hasEnded, type Live } from "../../api/jobs";
import { joined, type Point } from "./curve";

/** What is seen of a training. points, checks: the curves; left: seconds, null where nobody knows. */
export interface Seen extends Live {
  points: readonly Point[];
  checks: readonly Point[];
  left: number | null;
}

/** A training as it stands, with its whole curve: followed by its events until it ends. Undefined until it was read. */
export function useTraining(id: string) {
  const queries = useQueryClient();
  const { data: read, error } = useQuery({ queryKey: ["training", id], queryFn: () => readTraining(id), refetchOnMount: "always" });
  const [news, setNews] = useState<Seen | null>(null);
  const alive = read !== undefined && !hasEnded(read.job);
  useEffect(() => {
    if (read === undefined || !alive) return;
    const stop = new AbortController();
    void follow(id, stop.signal, (change) => setNews((seen) => change(seen ?? read))).finally(() => {
      if (stop.signal.aborted) return;
      void queries.invalidateQueries({ queryKey: ["jobs"] });
      for (const list of ["training", "models", "names", "weights"]) void queries.invalidateQueries({ queryKey: [list] });
    });
    return () => stop.abort();
    // What was read first is what the events go on from: each later reading would begin anew.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [id, alive, queries]);
  return { seen: alive ? (news ?? read) : read, error };
}

async function readTraining(id: string): Promise<Seen> {
  const params = { params: { path: { job_id: id } } };
  const [job, course] = await Promise.all([told(api.GET("/v1/jobs/{job_id}", params)), told(api.GET("/v1/jobs/{job_id}/course", params))]);
  return { job, previews: {}, points: pairs(course.points), checks: pairs(course.checks), left: null };
}

function pairs(found: readonly (readonly number[])[]): Point[] {
  return found.map(([step = 0, loss = 0]) => [step, loss]);
}

async function follow(id: string, signal: AbortSignal, change: (next: (seen: Seen) => Seen) => void): Promise<void> {
  for await (const { name, data } of changesOf(id, signal)) change((seen) => afterNews(seen, name, data));
}

/** What is seen after one more event. */
export function afterNews(seen: Seen, name: string, data: Record<string, unknown>): Seen {
  if (name !== "learned") return { ...seen, ...afterEvent(seen, name, data) };
  return {
    ...seen,
    points: joined(seen.points, data["points"] as Point[]),
    checks: joined(seen.checks, data["checks"] as Point[]),
    left: typeof data["left"] === "number" ? data["left"] : seen.left,
  };
}

/** What a done job says of its use: what to write, and to which model. */
export function useOf(job: Job): { prompt: string; model: string } | null {
  const use = job.result?.["use"];
  if (!isRecord(use) || typeof use["prompt"] !== "string" || typeof use["model"] !== "string") return null;
  return { prompt: use["prompt"], model: use["model"] };
}
