import { useLanguage } from "../i18n";
import { bytes, duration } from "./amounts";

/** What numbers and times are written with, in the language that is chosen. */
export function useFormat() {
  const language = useLanguage();
  const locale = language === "zh" ? "zh-CN" : "en-GB";
  return {
    bytes,
    duration: (seconds: number) => duration(seconds, language),
    number: (value: number) => new Intl.NumberFormat(locale, { maximumFractionDigits: 6 }).format(value),
    when: (seconds: number) => new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(seconds * 1000),
    day: (seconds: number) => new Intl.DateTimeFormat(locale, { dateStyle: "medium" }).format(seconds * 1000),
  };
}
