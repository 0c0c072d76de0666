import { useState } from "react";
import { ToggleButton, ToggleButtonGroup } from "react-aria-components";
import { useLocation } from "wouter";

import type { Job } from "../../api/client";
import { messageOf } from "../../api/errors";
import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button, IconButton } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { useFormat } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { Picture } from "../../ui/picture";
import { type Shown, useEnded } from "./data";
import type { Doings } from "./index";
import { ending, kindOf, nameOf } from "./telling";
import { TEXTS } from "./text";

interface Own {
  shown: Shown;
  onShow: (shown: Shown) => void;
  doings: Doings;
}

/** How jobs ended: with their images, or with the whole reason why there are none. */
export function Ended({ shown, onShow, doings }: Own) {
  const text = useOwnText(TEXTS);
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = useEnded(shown);
  const jobs = data?.pages.flatMap((page) => page.data) ?? [];
  return (
    <section aria-labelledby="queue-ended">
      <header className="queue-head">
        <h2 id="queue-ended">{text.history}</h2>
        <ToggleButtonGroup
          className="queue-shown"
          aria-label={text.show}
          selectionMode="single"
          disallowEmptySelection
          selectedKeys={[shown]}
          onSelectionChange={(keys) => onShow(keys.has("failed") ? "failed" : "ended")}
        >
          <ToggleButton id="ended">{text.all}</ToggleButton>
          <ToggleButton id="failed">{text.failed}</ToggleButton>
        </ToggleButtonGroup>
      </header>
      {error !== null && (
        <p className="job-failed" role="alert">
          {fill(text.notListed, { reason: messageOf(error) })}
        </p>
      )}
      {error === null && data !== undefined && jobs.length === 0 && <p className="quiet">{text.noHistory}</p>}
      <ul className="queue-list">
        {jobs.map((job) => (
          <Row key={job.id} job={job} doings={doings} />
        ))}
      </ul>
      {hasNextPage && (
        <Button look="quiet" icon="down" isDisabled={isFetchingNextPage} onPress={() => void fetchNextPage()}>
          {text.more}
        </Button>
      )}
    </section>
  );
}

const SHOWN_IMAGES = 4;

function Row({ job, doings }: { job: Job; doings: Doings }) {
  const text = useOwnText(TEXTS);
  const [, go] = useLocation();
  const { when } = useFormat();
  const [asked, setAsked] = useState(false);
  const name = nameOf(job, text);
  const { what, why, bad } = ending(job, text);
  return (
    <li className={bad ? "queue-row queue-bad" : "queue-row"} data-state={job.state}>
      <button
        type="button"
        className="queue-images"
        disabled={job.images.length === 0}
        aria-label={fill(text.images, { name })}
        onClick={() => go(`/gallery?job=${job.id}`)}
      >
        {job.images.length === 0 && <Icon name={bad ? "info" : "minus"} />}
        {job.images.slice(0, SHOWN_IMAGES).map((image) => (
          <Picture key={image.id} src={`${image.url}/thumbnail`} alt="" />
        ))}
      </button>
      <div className="queue-what">
        <p className="queue-name">{name}</p>
        <p className="quiet">
          {kindOf(job, text)} · <span className={bad ? "queue-end-bad" : ""}>{what}</span> · <time>{job.ended !== null && when(job.ended)}</time>
        </p>
        {why !== "" && <p className="queue-why">{why}</p>}
        {job.warnings.map((warning) => (
          <p key={warning} className="quiet">
            {warning}
          </p>
        ))}
      </div>
      <IconButton icon="reset" label={fill(text.retryNamed, { name })} onPress={() => void doings.retry(job.id)} />
      <IconButton icon="trash" label={fill(text.remove, { name })} onPress={() => setAsked(true)} />
      {asked && <Asked job={job} onClose={() => setAsked(false)} onRemove={() => void doings.remove(job.id)} />}
    </li>
  );
}

/** What is removed with its job cannot be restored, so that one is asked. */
function Asked({ job, onClose, onRemove }: { job: Job; onClose: () => void; onRemove: () => void }) {
  const own = useOwnText(TEXTS);
  const text = useText();
  return (
    <Dialog title={own.removeAsk} open onClose={onClose}>
      <div className="gallery-naming">
        <p>{fill(own.removeWhy, { count: job.images.length })}</p>
        <div className="row">
          <Button
            look="danger"
            icon="trash"
            onPress={() => {
              onClose();
              onRemove();
            }}
          >
            {own.removeDo}
          </Button>
          <Button onPress={onClose}>{text.app.cancel}</Button>
        </div>
      </div>
    </Dialog>
  );
}
