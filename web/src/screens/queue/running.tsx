import { ProgressBar } from "react-aria-components";

import type { Job } from "../../api/client";
import { fill } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { Picture } from "../../ui/picture";
import type { Doings } from "./index";
import { kindOf, nameOf, standing } from "./telling";
import { TEXTS } from "./text";

/** A job that runs: what is seen of it so far, and how far it is. */
export function Running({ job, preview, doings }: { job: Job; preview: string | undefined; doings: Doings }) {
  const text = useOwnText(TEXTS);
  const name = nameOf(job, text);
  const last = job.images.at(-1);
  return (
    <li className="running">
      <div className="running-image">
        {preview !== undefined ? <img src={preview} alt="" /> : last !== undefined && <Picture src={`${last.url}/thumbnail`} alt="" />}
      </div>
      <div className="running-what">
        <p className="queue-kind">{kindOf(job, text)}</p>
        <p className="queue-name">{name}</p>
        <ProgressBar className="progress" value={job.progress.share * 100} aria-label={fill(text.progress, { name })}>
          {({ percentage }) => <progress className="progress-bar" max={100} value={percentage} aria-hidden="true" />}
        </ProgressBar>
        <p className="quiet">{standing(job, text)}</p>
      </div>
      <Button icon="stop" aria-label={fill(text.cancelNamed, { name })} onPress={() => void doings.cancel([job.id])}>
        {text.cancel}
      </Button>
    </li>
  );
}
