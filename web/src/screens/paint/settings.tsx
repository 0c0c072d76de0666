import { useFields, useModels } from "../../api/queries";
import { sideOf } from "../../api/sides";
import { FieldControl } from "../../form/control";
import { isNothing } from "../../form/draft";
import type { FieldSpec } from "../../form/fields";
import { setField, useDraft, useDraftField } from "../../form/store";
import { type Catalogue, fill, useText } from "../../i18n";
import { Fold } from "../../ui/fold";
import { Sizes } from "./sizes";

/** Shown at once; all else is one fold away. */
const FIRST = ["model", "styles", "batch_count", "seed", "steps", "cfg_scale", "sampler"];
/** Has a place of its own on the screen. */
const ELSEWHERE: ReadonlySet<string> = new Set(["prompt", "negative_prompt"]);

/** All settings of a request, made from what the server says of them. */
export function Settings() {
  const text = useText();
  const fields = useFields();
  const { data: models } = useModels();
  const [model] = useDraftField("model");
  const first = FIRST.flatMap((name) => fields.filter((field) => field.name === name));
  return (
    <>
      <Sizes side={sideOf(models?.data ?? [], typeof model === "string" ? model : "")} />
      {first.map((field) => (
        <OneField key={field.name} spec={field} />
      ))}
      <h2 className="settings-all">{text.paint.showAll}</h2>
      {grouped(fields).map(([group, members]) => (
        <Group key={group} group={group} fields={members} />
      ))}
    </>
  );
}

/** The fields that are not shown at once, by group, in the server's order. */
export function grouped(fields: readonly FieldSpec[]): [string, FieldSpec[]][] {
  const groups = new Map<string, FieldSpec[]>();
  for (const field of fields) {
    if (FIRST.includes(field.name) || ELSEWHERE.has(field.name)) continue;
    groups.set(field.group, [...(groups.get(field.group) ?? []), field]);
  }
  return [...groups];
}

function Group({ group, fields }: { group: string; fields: readonly FieldSpec[] }) {
  const text = useText();
  const draft = useDraft();
  const changed = fields.filter((field) => !isNothing(draft[field.name])).length;
  const title = group in text.groups ? text.groups[group as keyof Catalogue["groups"]] : group;
  return (
    <Fold title={title} note={changed === 0 ? undefined : fill(text.paint.changed, { count: changed })}>
      {fields.map((field) => (
        <OneField key={field.name} spec={field} />
      ))}
    </Fold>
  );
}

function OneField({ spec }: { spec: FieldSpec }) {
  const [value] = useDraftField(spec.name);
  return <FieldControl spec={spec} value={value} onChange={(next) => setField(spec.name, next)} />;
}
