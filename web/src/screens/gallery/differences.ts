/** The settings that are not the same: name, of the one, of the other; "–" for what is not said. */
export function differences(first: ReadonlyMap<string, string>, second: ReadonlyMap<string, string>): [string, string, string][] {
  const names = [...new Set([...first.keys(), ...second.keys()])];
  return names.filter((name) => first.get(name) !== second.get(name)).map((name) => [name, first.get(name) ?? "–", second.get(name) ?? "–"]);
}
