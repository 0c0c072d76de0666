import { isRecord } from "../api/errors";
import type { Json } from "../api/client";
import type { ListName } from "../api/queries";

export type Kind = "int" | "float" | "flag" | "text" | "size" | "texts";

/** One field of a request, as the server describes it. `initial` null: left to the server. */
export interface FieldSpec {
  name: string;
  group: string;
  kind: Kind;
  help: string;
  initial: Json;
  low: number | null;
  high: number | null;
  step: number | null;
  options: readonly string[] | null;
  list: ListName | "models" | null;
}

/** The fields of a JSON schema of requests, in its order. */
export function fieldsOf(schema: Record<string, unknown>): FieldSpec[] {
  const properties = isRecord(schema["properties"]) ? schema["properties"] : {};
  return Object.entries(properties).flatMap(([name, property]) => (isRecord(property) ? [fieldOf(name, property)] : []));
}

function fieldOf(name: string, property: Record<string, unknown>): FieldSpec {
  const value = valueOf(property);
  const side = Array.isArray(value["prefixItems"]) && isRecord(value["prefixItems"][0]) ? value["prefixItems"][0] : value;
  return {
    name,
    group: textOf(property["x-group"]) ?? "basic",
    kind: (textOf(property["x-kind"]) ?? "text") as Kind,
    help: textOf(property["description"]) ?? "",
    initial: (property["default"] ?? null) as Json,
    low: numberOf(side["minimum"]),
    high: numberOf(side["maximum"]),
    step: numberOf(side["multipleOf"]),
    options: Array.isArray(value["enum"]) ? value["enum"].filter((one) => typeof one === "string") : null,
    list: textOf(property["x-list"]) as FieldSpec["list"],
  };
}

/** Of a value that may be null, the schema of what it is otherwise. */
function valueOf(property: Record<string, unknown>): Record<string, unknown> {
  const options = Array.isArray(property["anyOf"]) ? property["anyOf"].filter(isRecord) : [];
  return options.find((option) => option["type"] !== "null") ?? property;
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}
