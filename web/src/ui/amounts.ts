import type { Language } from "../i18n";

const UNITS = ["B", "kB", "MB", "GB", "TB"] as const;

/** Bytes as people say them: 41.9 MB. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const shown = unit === 0 || value >= 100 ? Math.round(value).toString() : value.toFixed(1);
  return `${shown} ${UNITS[unit] ?? "B"}`;
}

const WORDS = {
  en: { s: "s", min: "min", h: "h", d: "d" },
  zh: { s: "秒", min: "分钟", h: "小时", d: "天" },
} as const;

/** A stretch of time, as exact as anybody wants it: 45 s, 3 min, 2 h 10 min, 3 d. */
export function duration(seconds: number, language: Language): string {
  const words = WORDS[language];
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 90) return `${whole} ${words.s}`;
  const minutes = Math.round(whole / 60);
  if (minutes < 90) return `${minutes} ${words.min}`;
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.round(hours / 24)} ${words.d}`;
  return minutes % 60 === 0 ? `${hours} ${words.h}` : `${hours} ${words.h} ${minutes % 60} ${words.min}`;
}
