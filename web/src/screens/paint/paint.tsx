import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useState } from "react";
import { ToggleButton } from "react-aria-components";

import { type Fields, type Job, type JobImage, type Schemas, send } from "../../api/client";
import { messageOf } from "../../api/errors";
import { ask, useRecentJobs } from "../../api/jobs";
import { patiently } from "../../api/patiently";
import { currentDraft, setDraft, useDraft, useDraftField } from "../../form/store";
import { fill, useText } from "../../i18n";
import { Button, IconButton } from "../../ui/button";
import { useDropped } from "../../ui/dropped";
import { Icon } from "../../ui/icons";
import { usePickFile } from "../../ui/pick";
import { toast } from "../../ui/toasts";
import { Compare } from "./compare";
import { JobCard } from "./job";
import { PromptBox } from "./prompt";
import { Settings } from "./settings";
import { Tokens } from "./tokens";
import { Viewer } from "./viewer";

/** One box and one button; the settings beside them; below, one's images with the newest first. */
export function Paint() {
  const text = useText();
  const [open, setOpen] = useState<{ job: Job; image: JobImage } | null>(null);
  const over = useDropped(useCallback((images: File[]) => void restore(images[0], text.paint), [text]));
  return (
    <div className="paint">
      <h1 className="visually-hidden">{text.screens.paint}</h1>
      <section className="paint-main">
        <Composer onOpen={(job, image) => setOpen({ job, image })} />
        <Images onOpen={(job, image) => setOpen({ job, image })} />
      </section>
      <SettingsPanel />
      {open !== null && <Viewer {...open} onClose={() => setOpen(null)} />}
      {over && (
        <div className="drop-hint">
          <Icon name="upload" />
          <p>{text.paint.dropHere}</p>
        </div>
      )}
    </div>
  );
}

function Composer({ onOpen }: { onOpen: (job: Job, image: JobImage) => void }) {
  const text = useText();
  const [prompt, setPrompt] = useDraftField("prompt");
  const [negative, setNegative] = useDraftField("negative_prompt");
  const [generate, busy] = useGenerate();
  return (
    <div className="composer">
      <div className="composer-row">
        <PromptBox value={textOf(prompt)} onChange={setPrompt} onSubmit={generate} />
        <Button look="main" onPress={generate} isPending={busy}>
          {text.paint.generate}
        </Button>
      </div>
      <input
        className="negative-box"
        aria-label={text.paint.negative}
        placeholder={text.paint.negativePlaceholder}
        value={textOf(negative)}
        onChange={(event) => setNegative(event.target.value)}
      />
      <div className="composer-foot">
        <Tokens prompt={textOf(prompt)} />
        <SecondPass />
        <Restore />
        <Compare onOpen={onOpen} />
      </div>
    </div>
  );
}

const TWICE = 2;

/** Enlarges what is made and goes over it again, as most people want it; the fold of the second pass has the rest. */
function SecondPass() {
  const text = useText();
  const [upscale, setUpscale] = useDraftField("hires_upscale");
  return (
    <ToggleButton className="button button-quiet" isSelected={upscale !== null} onChange={(on) => setUpscale(on ? TWICE : null)}>
      <Icon name="up" />
      <span>{text.paint.secondPass}</span>
    </ToggleButton>
  );
}

/** What dropping an image does, for keys and for phones. */
function Restore() {
  const text = useText();
  const pick = usePickFile(useCallback((images: File[]) => void restore(images[0], text.paint), [text]));
  return (
    <Button look="quiet" icon="upload" onPress={pick}>
      {text.paint.restore}
    </Button>
  );
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Asks for the images of the draft. One press is one job, also where its answer is lost on the way and it is asked again. */
function useGenerate(): [() => void, boolean] {
  const queries = useQueryClient();
  const [busy, setBusy] = useState(false);
  const run = async () => {
    const once = crypto.randomUUID();
    setBusy(true);
    try {
      await patiently(() => ask({ prompt: "", ...currentDraft() }, once));
    } catch (error) {
      toast(messageOf(error), { bad: true });
    } finally {
      setBusy(false);
    }
    await queries.invalidateQueries({ queryKey: ["jobs"] });
  };
  return [() => void run(), busy];
}

function Images({ onOpen }: { onOpen: (job: Job, image: JobImage) => void }) {
  const text = useText();
  const { data: jobs, isPending, error } = useRecentJobs("generate");
  if (error !== null) {
    return (
      <p role="alert" className="job-failed">
        {messageOf(error)}
      </p>
    );
  }
  if (isPending) return <p className="quiet">{text.app.loading}</p>;
  if (jobs.length === 0) {
    return (
      <div className="empty">
        <Icon name="image" />
        <p>{text.paint.empty}</p>
        <p className="quiet">{text.paint.emptyHint}</p>
      </div>
    );
  }
  return (
    <section className="jobs" aria-label={text.paint.jobs}>
      {jobs.map((job) => (
        <JobCard key={job.id} job={job} onOpen={onOpen} />
      ))}
    </section>
  );
}

function SettingsPanel() {
  const text = useText();
  const [shown, setShown] = useState(false);
  const draft = useDraft();
  const { prompt: _p, negative_prompt: _n, ...rest } = draft;
  const changed = Object.keys(rest).length;
  const reset = () => setDraft(Object.fromEntries(Object.entries(draft).filter(([name]) => !(name in rest))));
  return (
    <aside className={shown ? "settings settings-shown" : "settings"} aria-label={text.paint.settings}>
      <header className="settings-head">
        <Button look="quiet" icon="sliders" onPress={() => setShown(!shown)} aria-expanded={shown}>
          {text.paint.settings}
        </Button>
        {changed > 0 && <span className="badge">{fill(text.paint.changed, { count: changed })}</span>}
        {changed > 0 && <IconButton icon="reset" label={text.paint.reset} onPress={reset} />}
      </header>
      <div className="settings-body">
        <Settings />
      </div>
    </aside>
  );
}

/** Takes the settings that an image holds for the draft. */
async function restore(image: File | undefined, text: { restored: string; holdsNothing: string }): Promise<void> {
  if (image === undefined) return;
  try {
    const answer = await send("/v1/image-text", { method: "POST", body: image, headers: { "Content-Type": image.type } });
    const told = (await answer.json()) as Schemas["ImageTextShape"];
    if (told.infotext !== "") setDraft(told.fields as Fields);
    toast(told.infotext === "" ? text.holdsNothing : text.restored);
  } catch (error) {
    toast(messageOf(error), { bad: true });
  }
}
