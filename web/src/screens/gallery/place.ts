/** What the gallery shows, as its address says it. `image`: opened in full; `compare`: two of them. */
export interface Place {
  q: string;
  board: string;
  job: string;
  starred: boolean;
  trash: boolean;
  image: string;
  compare: readonly string[];
}

export const EVERYTHING: Place = { q: "", board: "", job: "", starred: false, trash: false, image: "", compare: [] };

export function placeOf(search: string): Place {
  const found = new URLSearchParams(search);
  const compare = (found.get("compare") ?? "").split(",").filter((id) => id !== "");
  return {
    q: found.get("q") ?? "",
    board: found.get("board") ?? "",
    job: found.get("job") ?? "",
    starred: found.get("starred") === "1",
    trash: found.get("trash") === "1",
    image: found.get("image") ?? "",
    compare: compare.length === 2 ? compare : [],
  };
}

export function searchOf(place: Place): string {
  const found = new URLSearchParams();
  for (const name of ["q", "board", "job", "image"] as const) if (place[name] !== "") found.set(name, place[name]);
  for (const name of ["starred", "trash"] as const) if (place[name]) found.set(name, "1");
  if (place.compare.length === 2) found.set("compare", place.compare.join(","));
  return found.toString();
}

/** What of a place decides which images there are; what is opened does not. */
export function queryOf(place: Place): Record<string, string | boolean> {
  return {
    ...(place.q.trim() === "" ? {} : { q: place.q.trim() }),
    ...(place.board === "" ? {} : { board: place.board }),
    ...(place.job === "" ? {} : { job: place.job }),
    ...(place.starred ? { starred: true } : {}),
    ...(place.trash ? { deleted: true } : {}),
  };
}
