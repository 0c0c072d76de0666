import type { Job } from "../../api/client";
import { fill } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { IconButton } from "../../ui/button";
import type { Doings } from "./index";
import { kindOf, nameOf, waiting } from "./telling";
import { TEXTS } from "./text";

/** The jobs that wait, in the order in which they will start. */
export function Waiting({ jobs, doings }: { jobs: readonly Job[]; doings: Doings }) {
  const text = useOwnText(TEXTS);
  return (
    <ol className="queue-list">
      {jobs.map((job, at) => {
        const name = nameOf(job, text);
        return (
          <li key={job.id} className="queue-row">
            <span className="queue-number" aria-hidden="true">
              {at + 1}
            </span>
            <div className="queue-what">
              <p className="queue-name">{name}</p>
              <p className="quiet">
                {kindOf(job, text)} · {waiting(job, text)}
              </p>
            </div>
            <IconButton icon="up" label={fill(text.front, { name })} isDisabled={at === 0} onPress={() => void doings.front(job.id)} />
            <IconButton icon="close" label={fill(text.cancelNamed, { name })} onPress={() => void doings.cancel([job.id])} />
          </li>
        );
      })}
    </ol>
  );
}
