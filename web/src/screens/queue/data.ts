import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, type Schemas, told } from "../../api/client";
import { useChanges, useSoon } from "../../api/live";
import { afterChange, afterPreview, NO_PREVIEWS } from "./telling";

type Queue = Schemas["QueueShape"];
const QUEUE = ["queue"];
/** All queries of jobs begin so, also those of Paint. */
const JOBS = ["jobs"];
const ENDED = [...JOBS, "ended"];
const LOOK_MS = 5000;
const PAGE = 20;
/** What changes which jobs there are; what a training learned, or a warning, does not. */
const TELLS: ReadonlySet<string> = new Set(["state", "queue", "reset"]);

/** What runs and waits as it changes, whoever asked for it; previews by job. */
export function useQueue() {
  const queries = useQueryClient();
  const [previews, setPreviews] = useState(NO_PREVIEWS);
  const soon = useSoon(() => {
    void queries.invalidateQueries({ queryKey: QUEUE });
    void queries.invalidateQueries({ queryKey: JOBS });
  });
  useChanges(({ name, job, data }) => {
    setPreviews((known) => afterPreview(known, name, job, data));
    if (name === "progress") queries.setQueryData<Queue>(QUEUE, (known) => known && afterChange(known, name, job, data));
    else if (TELLS.has(name)) soon();
  });
  const found = useQuery({
    queryKey: QUEUE,
    queryFn: () => told(api.GET("/v1/queue")),
    // Places change when jobs of others end, of which nobody is told.
    refetchInterval: (query) => ((query.state.data?.running.length ?? 0) + (query.state.data?.waiting.length ?? 0) > 0 ? LOOK_MS : false),
  });
  return { queue: found.data, error: found.error, previews };
}

export type Shown = "ended" | "failed";

/** Jobs that ended, newest first, page by page. */
export function useEnded(state: Shown) {
  return useInfiniteQuery({
    queryKey: [...ENDED, state],
    queryFn: ({ pageParam }) => told(api.GET("/v1/jobs", { params: { query: { limit: PAGE, state, ...(pageParam === "" ? {} : { before: pageParam }) } } })),
    initialPageParam: "",
    getNextPageParam: (last) => (last.has_more ? last.data.at(-1)?.id : undefined),
  });
}
