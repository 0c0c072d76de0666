import { useLanguage } from "./index";

/** The texts of one screen in the language that is chosen; each language has all of them. */
export function useOwnText<T>(texts: { en: T; zh: T }): T {
  return texts[useLanguage()];
}
