/** What was, what is, and what was undone. Values are never changed, so that keeping them costs little. */
export interface History<T> {
  past: readonly T[];
  present: T;
  future: readonly T[];
  /** What the last change belongs to: changes of one gesture, or of one field while it is typed in, are undone together. */
  tag: string;
}

const MOST = 300;

export function begun<T>(present: T): History<T> {
  return { past: [], present, future: [], tag: "" };
}

/** After a change. One with the tag of the last change replaces it; "" stands alone. */
export function changed<T>(history: History<T>, present: T, tag = ""): History<T> {
  if (present === history.present) return history;
  const joins = tag !== "" && tag === history.tag;
  const past = joins ? history.past : [...history.past, history.present].slice(-MOST);
  return { past, present, future: [], tag };
}

/** The next change stands alone, whatever its tag. */
export function closed<T>(history: History<T>): History<T> {
  return history.tag === "" ? history : { ...history, tag: "" };
}

export function undone<T>(history: History<T>): History<T> {
  const present = history.past.at(-1);
  if (present === undefined) return history;
  return { past: history.past.slice(0, -1), present, future: [history.present, ...history.future], tag: "" };
}

export function redone<T>(history: History<T>): History<T> {
  const [present, ...future] = history.future;
  return present === undefined ? history : { past: [...history.past, history.present], present, future, tag: "" };
}
