import type { Schemas } from "../../api/client";

export type WeightsFile = Schemas["WeightsShape"];
/** What people tell apart; the many rarer kinds are one. */
export const KINDS = ["checkpoint", "lora", "embedding", "controlnet", "vae", "upscaler", "other"] as const;
export type Kind = (typeof KINDS)[number];

const SAME: Readonly<Record<string, Kind>> = {
  checkpoint: "checkpoint",
  lora: "lora",
  embedding: "embedding",
  controlnet: "controlnet",
  control_lora: "controlnet",
  t2i_adapter: "controlnet",
  ip_adapter: "controlnet",
  vae: "vae",
  tiny_vae: "vae",
  upscaler: "upscaler",
};

export function kindOf(file: WeightsFile): Kind {
  return SAME[file.kind] ?? "other";
}

export interface Filter {
  words: string;
  kind: string;
  family: string;
}

/** The files that have all the words, and are of the kind and family that are chosen ("" for any). */
export function fitting(files: readonly WeightsFile[], { words, kind, family }: Filter): WeightsFile[] {
  const wanted = words.toLowerCase().split(/\s+/).filter((word) => word !== "");
  return files.filter((file) => {
    if (kind !== "" && kindOf(file) !== kind) return false;
    if (family !== "" && file.family !== family) return false;
    const said = `${file.name} ${file.file} ${file.title} ${file.kind} ${file.family ?? ""} ${file.dtype}`.toLowerCase();
    return wanted.every((word) => said.includes(word));
  });
}

/** How many files there are of each kind that there is, in the order of KINDS. */
export function countKinds(files: readonly WeightsFile[]): [Kind, number][] {
  const counts = new Map<Kind, number>();
  for (const file of files) counts.set(kindOf(file), (counts.get(kindOf(file)) ?? 0) + 1);
  return KINDS.flatMap((kind) => {
    const count = counts.get(kind);
    return count === undefined ? [] : [[kind, count] as [Kind, number]];
  });
}

export function familiesIn(files: readonly WeightsFile[]): string[] {
  return [...new Set(files.map((file) => file.family).filter((family) => family !== null))].sort();
}

/** How a prompt says it, or null for what no prompt names. */
export function promptOf(file: WeightsFile, triggers: readonly string[]): string | null {
  const words = triggers.length === 0 ? "" : ` ${triggers[0] ?? ""}`;
  if (file.kind === "lora") return `<lora:${file.name}:1>${words}`;
  return file.kind === "embedding" ? file.name : null;
}

/** A name for what is made of a model. */
export function suggested(...parts: readonly string[]): string {
  return parts
    .filter((part) => part !== "")
    .join("-")
    .replace(/[\\/:<>"|?*]/g, "")
    .replace(/^\.+/, "")
    .slice(0, 100);
}
