import type { Language } from "./index";
import { zhFields } from "./zh-fields";

/** Words that a name spells otherwise than a person would. */
const WORDS: Readonly<Record<string, string>> = {
  cfg: "CFG", vae: "VAE", ensd: "ENSD", rng: "RNG", pag: "PAG", sag: "SAG", apg: "APG", slg: "SLG", ngms: "NGMS", sd: "SD",
  unipc: "UniPC", freeu: "FreeU", clip: "CLIP", ddim: "DDIM", ti: "TI", lora: "LoRA", sgm: "SGM", b1: "b1", b2: "b2",
  s1: "s1", s2: "s2", s: "s", xl: "XL",
};

/** What a field of a request is called. */
export function fieldLabel(name: string, language: Language): string {
  if (language === "zh" && zhFields[name] !== undefined) return zhFields[name];
  const words = name.split("_").map((word) => WORDS[word] ?? word);
  const text = words.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
