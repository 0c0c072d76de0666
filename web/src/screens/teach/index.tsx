import "../../styles/teach.css";

import { useSearchParams } from "wouter";

import { useRecentJobs } from "../../api/jobs";
import { useOwnText } from "../../i18n/own";
import { TeachForm } from "./form";
import { texts } from "./text";
import { Training } from "./training";
import { Trainings } from "./trainings";

/** Teach: a form for something new with what was taught before, or one training, named in the address. */
export function Teach() {
  const text = useOwnText(texts);
  const [search] = useSearchParams();
  const shown = search.get("job");
  const { data: jobs = [] } = useRecentJobs("teach");
  if (shown !== null) return <Training key={shown} id={shown} />;
  return (
    <div className="teach">
      <header className="screen-head">
        <h1>{text.title}</h1>
        <p className="quiet">{text.lead}</p>
      </header>
      <TeachForm />
      <Trainings jobs={jobs} />
    </div>
  );
}
