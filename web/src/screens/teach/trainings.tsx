import { useId } from "react";
import { Link } from "wouter";

import type { Job } from "../../api/client";
import { hasEnded } from "../../api/jobs";
import { useOwnText } from "../../i18n/own";
import { useFormat } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { Picture } from "../../ui/picture";
import { texts } from "./text";
import { standing, subtitle, titleOf } from "./training";

/** What was taught before, and what is being taught. */
export function Trainings({ jobs }: { jobs: readonly Job[] }) {
  const text = useOwnText(texts);
  const label = useId();
  return (
    <section aria-labelledby={label} className="trainings">
      <h2 id={label}>{text.trainings}</h2>
      {jobs.length === 0 && <p className="quiet">{text.none}</p>}
      <ul>
        {jobs.map((job) => (
          <li key={job.id}>
            <Entry job={job} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Entry({ job }: { job: Job }) {
  const text = useOwnText(texts);
  const { day } = useFormat();
  const newest = job.images.at(-1);
  const state = hasEnded(job) ? text[`state_${job.state}`] : standing(job, text);
  return (
    <Link href={`/teach?job=${job.id}`} className="training-entry">
      <span className="training-thumb">{newest === undefined ? <Icon name="teach" /> : <Picture src={`${newest.url}/thumbnail`} alt="" />}</span>
      <span className="training-words">
        <strong>{titleOf(job)}</strong>
        <span className="quiet">{subtitle(job, text)}</span>
        <span className={job.state === "failed" ? "training-state training-bad" : "training-state"}>
          {state} · {day(job.created)}
        </span>
      </span>
    </Link>
  );
}
