import { useState } from "react";
import { ProgressBar } from "react-aria-components";

import { hasEnded } from "../../api/jobs";
import { fill, useText } from "../../i18n";
import { Button } from "../../ui/button";
import { step } from "./actions";
import { Keyed } from "./toolbar";
import { imagesOf, useCanvas } from "./store";
import { useOwnText } from "./text";

interface Own {
  onAccept: () => Promise<void>;
  onLeave: () => void;
}

/** What was made, one after the other, before one of it is taken; and how far what is being made is. */
export function Candidates({ onAccept, onLeave }: Own) {
  const text = useOwnText();
  const pending = useCanvas((one) => one.pending);
  const jobs = useCanvas((one) => one.jobs);
  const at = useCanvas((one) => one.candidate);
  if (pending.length === 0) return null;
  const images = imagesOf(pending, jobs);
  return (
    <section className="candidates" aria-label={text.candidates}>
      <Coming />
      {images.length > 0 && (
        <div className="candidates-row">
          <Keyed icon="left" label={text.before} keys="←" disabled={images.length < 2} onPress={() => step(-1)} />
          <output className="candidates-at">{fill(text.ofMany, { at: at + 1, count: images.length })}</output>
          <Keyed icon="right" label={text.next} keys="→" disabled={images.length < 2} onPress={() => step(1)} />
          <Accept onAccept={onAccept} />
          <Button look="quiet" icon="close" onPress={onLeave}>
            {text.leave}
          </Button>
        </div>
      )}
      {images.length === 0 && (
        <Button look="quiet" icon="stop" onPress={onLeave}>
          {text.stop}
        </Button>
      )}
    </section>
  );
}

function Accept({ onAccept }: { onAccept: () => Promise<void> }) {
  const text = useOwnText();
  const [busy, setBusy] = useState(false);
  const press = () => {
    setBusy(true);
    void onAccept().finally(() => setBusy(false));
  };
  return (
    <Button look="main" icon="check" isPending={busy} onPress={press}>
      {text.take}
    </Button>
  );
}

function Coming() {
  const text = useText();
  const pending = useCanvas((one) => one.pending);
  const jobs = useCanvas((one) => one.jobs);
  const live = pending.map((one) => jobs[one.job]).find((one) => one !== undefined && !hasEnded(one.job));
  if (live === undefined) return null;
  const { progress, state, position } = live.job;
  const steps = progress.total === 0 ? text.paint.starting : fill(text.paint.running, { done: progress.done, total: progress.total });
  const queued = position === null || position === 0 ? text.paint.next : fill(text.paint.waiting, { count: position });
  return (
    <div className="candidates-coming">
      <ProgressBar className="progress" value={progress.share * 100} aria-label={text.paint.generate}>
        {({ percentage }) => <progress className="progress-bar" max={100} value={percentage} aria-hidden="true" />}
      </ProgressBar>
      <span className="quiet" aria-live="polite">
        {state === "queued" ? queued : steps}
        {progress.images > 1 && `, ${fill(text.paint.ofImages, { image: progress.image + 1, images: progress.images })}`}
      </span>
    </div>
  );
}
