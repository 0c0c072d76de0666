import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Input, Label, TextField } from "react-aria-components";

import type { Fields, Job, JobImage } from "../../api/client";
import { messageOf } from "../../api/errors";
import { hasEnded, useLive } from "../../api/jobs";
import { useFields } from "../../api/queries";
import { currentDraft } from "../../form/store";
import { type Catalogue, useLanguage, useText } from "../../i18n";
import { fieldLabel } from "../../i18n/labels";
import { Button } from "../../ui/button";
import { Choice, type Option } from "../../ui/choice";
import { Dialog } from "../../ui/dialog";
import { Picture } from "../../ui/picture";
import { ending } from "./job";
import { askCell, type Axis, cellAt, compare, type Comparison, keep, kept, NO_AXIS, PROMPT_AXES } from "./grid";

const NOT_COMPARED: ReadonlySet<string> = new Set(["prompt", "negative_prompt", "batch_size", "batch_count", "image", "mask", "lenient"]);

/** Settings against each other: asks what changes along each axis, then shows a table of images. */
export function Compare({ onOpen }: { onOpen: (job: Job, image: JobImage) => void }) {
  const text = useText();
  const [asking, setAsking] = useState(false);
  const [shown, setShown] = useState<Comparison | null>(kept);
  const show = (comparison: Comparison | null) => {
    keep(comparison);
    setShown(comparison);
    setAsking(false);
  };
  return (
    <>
      <Button look="quiet" icon="grid" onPress={() => setAsking(true)}>
        {text.paint.compare}
      </Button>
      <Dialog title={text.paint.compare} open={asking} onClose={() => setAsking(false)}>
        <Axes onBegun={show} />
      </Dialog>
      <Dialog title={text.paint.comparison} open={shown !== null} wide onClose={() => show(null)}>
        {shown !== null && <Sheets comparison={shown} onOpen={onOpen} />}
      </Dialog>
    </>
  );
}

function Axes({ onBegun }: { onBegun: (comparison: Comparison) => void }) {
  const text = useText();
  const [axes, setAxes] = useState<readonly [Axis, Axis, Axis]>([{ name: "steps", values: "" }, NO_AXIS, NO_AXIS]);
  const [problem, setProblem] = useState<string | null>(null);
  const set = (at: number, axis: Axis) => setAxes(axes.map((other, number) => (number === at ? axis : other)) as [Axis, Axis, Axis]);
  const go = async () => {
    try {
      const { batch_count: _count, batch_size: _size, ...rest }: Fields = { ...currentDraft() };
      onBegun(await compare({ prompt: "", ...rest }, ...axes));
    } catch (error) {
      setProblem(messageOf(error));
    }
  };
  return (
    <form
      className="axes"
      onSubmit={(event) => {
        event.preventDefault();
        void go();
      }}
    >
      <p className="quiet">{text.paint.compareHint}</p>
      {[text.paint.across, text.paint.down, text.paint.sheets].map((title, at) => (
        <OneAxis key={title} title={title} axis={axes[at] ?? NO_AXIS} onChange={(axis) => set(at, axis)} />
      ))}
      {problem !== null && (
        <p role="alert" className="job-failed">
          {problem}
        </p>
      )}
      <Button look="main" type="submit">
        {text.paint.compareGo}
      </Button>
    </form>
  );
}

function OneAxis({ title, axis, onChange }: { title: string; axis: Axis; onChange: (axis: Axis) => void }) {
  const text = useText();
  const options = useAxes();
  return (
    <div className="axis" role="group" aria-label={title}>
      <Choice label={title} value={axis.name} options={options} onChange={(name) => onChange({ ...axis, name })} />
      <TextField className="text" value={axis.values} onChange={(values) => onChange({ ...axis, values })}>
        <Label>{text.paint.values}</Label>
        <Input placeholder="10,20,30" />
      </TextField>
    </div>
  );
}

function useAxes(): Option[] {
  const text = useText();
  const language = useLanguage();
  const fields = useFields().filter((field) => !NOT_COMPARED.has(field.name));
  const titles: Record<(typeof PROMPT_AXES)[number], string> = { "prompt-sr": text.paint.promptSr, "prompt-order": text.paint.promptOrder };
  return [
    { id: "", label: text.paint.nothing },
    ...PROMPT_AXES.map((id) => ({ id, label: titles[id] })),
    ...fields.map((field) => ({ id: field.name, label: fieldLabel(field.name, language) })),
  ];
}

/** A table for each value along z: the values of x above, those of y at the side. */
function Sheets({ comparison, onOpen }: { comparison: Comparison; onOpen: (job: Job, image: JobImage) => void }) {
  const { grid } = comparison;
  return (
    <div className="sheets">
      {grid.z.labels.map((sheet, z) => (
        <table key={`${z} ${sheet}`} className="sheet">
          {sheet !== "" && <caption>{sheet}</caption>}
          <thead>
            <tr>
              <td />
              {grid.x.labels.map((label, x) => (
                <th key={`${x} ${label}`} scope="col">
                  {label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {grid.y.labels.map((label, y) => (
              <tr key={`${y} ${label}`}>
                <th scope="row">{label}</th>
                {grid.x.labels.map((above, x) => (
                  <td key={`${x} ${above}`}>
                    <Cell comparison={comparison} number={cellAt(grid, x, y, z)} onOpen={onOpen} />
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      ))}
    </div>
  );
}

interface CellProps {
  comparison: Comparison;
  number: number | null;
  onOpen: (job: Job, image: JobImage) => void;
}

function Cell({ comparison, number, onOpen }: CellProps) {
  const queries = useQueryClient();
  const { data: job, error } = useQuery({
    queryKey: ["cell", comparison.id, number],
    queryFn: async () => {
      const asked = await askCell(comparison, number ?? 0);
      void queries.invalidateQueries({ queryKey: ["jobs"] });
      return asked;
    },
    enabled: number !== null,
    staleTime: Number.POSITIVE_INFINITY,
  });
  if (error !== null) return <p className="job-failed">{messageOf(error)}</p>;
  return job === undefined ? <div className="job-image job-coming" /> : <Made job={job} onOpen={onOpen} />;
}

function Made({ job: initial, onOpen }: { job: Job; onOpen: (job: Job, image: JobImage) => void }) {
  const text: Catalogue = useText();
  const { job, previews } = useLive(initial);
  const image = job.images[0];
  if (image !== undefined) {
    return (
      <button type="button" className="job-image" aria-label={text.paint.open} onClick={() => onOpen(job, image)}>
        <Picture src={image.url} alt="" />
      </button>
    );
  }
  if (hasEnded(job)) return <p className="job-failed">{ending(job, text)}</p>;
  return <div className="job-image job-coming">{previews[0] !== undefined && <img src={previews[0]} alt="" />}</div>;
}
