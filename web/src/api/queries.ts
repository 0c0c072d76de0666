import { useQuery } from "@tanstack/react-query";

import { fieldsOf, type FieldSpec } from "../form/fields";
import { api, told } from "./client";

const RARELY = 5 * 60_000;

/** What a request can hold, and the limits of the server. */
export function useCapabilities() {
  return useQuery({
    queryKey: ["capabilities"],
    queryFn: () => told(api.GET("/v1/capabilities")),
    staleTime: Number.POSITIVE_INFINITY,
  });
}

const NO_FIELDS: readonly FieldSpec[] = [];

/** The fields of a request, in their order; none until the server has told them. */
export function useFields(): readonly FieldSpec[] {
  const { data } = useQuery({
    queryKey: ["capabilities"],
    queryFn: () => told(api.GET("/v1/capabilities")),
    staleTime: Number.POSITIVE_INFINITY,
    select: (found) => fieldsOf(found.request),
  });
  return data ?? NO_FIELDS;
}

export function useModels() {
  return useQuery({ queryKey: ["models"], queryFn: () => told(api.GET("/v1/models")), staleTime: RARELY });
}

export type ListName = "samplers" | "schedulers" | "upscalers" | "autoencoders" | "styles" | "adapters" | "embeddings";

/** The names in one of the lists below /v1. */
export function useNames(list: ListName | "models" | null) {
  return useQuery({
    queryKey: ["names", list],
    queryFn: () => names(list ?? "models"),
    enabled: list !== null,
    staleTime: RARELY,
  });
}

async function names(list: ListName | "models"): Promise<string[]> {
  if (list === "models") return (await told(api.GET("/v1/models"))).data.map((model) => model.id);
  return (await told(api.GET(`/v1/${list}`))).data.map((entry) => entry.name);
}
