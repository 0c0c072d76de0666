import { useEffect } from "react";
import { useLocation } from "wouter";

import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button, IconButton } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { useFormat } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { Picture, useAddress } from "../../ui/picture";
import { ToBoard } from "./chosen";
import { type Details as Known, useBoards, useDetails } from "./data";
import type { Doings } from "./doing";
import { TEXTS } from "./text";

interface Own {
  id: string;
  doings: Doings;
  /** Leads to the image before or behind this one; null where there is none. */
  onNewer: (() => void) | null;
  onOlder: (() => void) | null;
  onClose: () => void;
}

/** An image in full, everything that is known of it, and what one can go on to do with it. */
export function Details({ id, doings, onNewer, onOlder, onClose }: Own) {
  const own = useOwnText(TEXTS);
  const text = useText();
  const { data: known, error } = useDetails(id);
  useArrows(onNewer, onOlder);
  const short = known === undefined ? text.app.loading : firstLine(known.prompt) || own.noPrompt;
  return (
    <Dialog title={short} open wide onClose={onClose}>
      {error !== null && <p className="job-failed">{error.message}</p>}
      {known !== undefined && (
        <div className="viewer">
          <div className="details-image">
            <Picture className="viewer-image" src={known.url} alt={known.prompt || own.noPrompt} width={known.width} height={known.height} />
            <div className="details-steps">
              <IconButton icon="left" label={own.earlier} isDisabled={onNewer === null} onPress={() => onNewer?.()} />
              <IconButton icon="star" filled={known.starred} label={known.starred ? own.unstar : own.star} onPress={() => void doings.star([id], !known.starred)} />
              <IconButton icon="right" label={own.later} isDisabled={onOlder === null} onPress={() => onOlder?.()} />
            </div>
          </div>
          <div className="viewer-side">
            <Actions known={known} doings={doings} onClose={onClose} />
            <Settings known={known} />
          </div>
        </div>
      )}
    </Dialog>
  );
}

/** Left and right lead through the images, wherever in the dialog one is; within a menu they are the menu's. */
function useArrows(left: (() => void) | null, right: (() => void) | null): void {
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.target instanceof Element && event.target.closest("[role=menu]") !== null) return;
      if (event.key === "ArrowLeft") left?.();
      if (event.key === "ArrowRight") right?.();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [left, right]);
}

function Actions({ known, doings, onClose }: { known: Known; doings: Doings; onClose: () => void }) {
  const text = useOwnText(TEXTS);
  const [, go] = useLocation();
  const address = useAddress(known.url);
  const paint = (step: Promise<boolean>) => void step.then((there) => there && go("/"));
  const closing = (step: Promise<void>) => void step.then(onClose);
  if (known.deleted !== null) {
    return (
      <div className="viewer-actions">
        <Button icon="undo" onPress={() => closing(doings.restore([known.id]))}>
          {text.restore}
        </Button>
        <Button icon="trash" look="danger" onPress={() => void doings.purge([known.id]).then((gone) => gone && onClose())}>
          {text.purge}
        </Button>
      </div>
    );
  }
  return (
    <div className="viewer-actions" role="group" aria-label={text.sendTo}>
      <Button icon="sliders" onPress={() => paint(doings.settings(known.id))}>
        {text.useSettings}
      </Button>
      <Button icon="image" onPress={() => paint(doings.source(known.id))}>
        {text.asSource}
      </Button>
      <Button icon="canvas" onPress={() => go(`/canvas?image=${known.id}`)}>
        {text.toCanvas}
      </Button>
      <Button icon="teach" onPress={() => void doings.teach([known.id]).then((there) => there && go("/teach"))}>
        {text.teach}
      </Button>
      <ToBoard ids={[known.id]} doings={doings} />
      {address !== null && (
        <a className="button button-plain" href={address} download={`${known.id}.${known.format}`}>
          <Icon name="download" />
          <span>{text.download}</span>
        </a>
      )}
      <Button icon="trash" look="danger" onPress={() => closing(doings.remove([known.id]))}>
        {text.remove}
      </Button>
    </div>
  );
}

/** Said in other places already. */
const ELSEWHERE: ReadonlySet<string> = new Set(["Size", "Seed"]);

function Settings({ known }: { known: Known }) {
  const text = useOwnText(TEXTS);
  const { when } = useFormat();
  const boards = useBoards().filter((board) => known.boards.includes(board.id));
  return (
    <dl className="details-list">
      <Row name={text.prompt} value={known.prompt} wide />
      <Row name={text.negative} value={known.negative_prompt} wide />
      <Row name={text.made} value={when(known.made)} />
      <Row name={text.size} value={`${known.width} × ${known.height}`} />
      <Row name={text.seed} value={known.seed === null ? "" : String(known.image.seed)} />
      {boards.length > 0 && <Row name={text.onBoards} value={boards.map((board) => board.name).join(", ")} />}
      {known.settings
        .filter(({ name }) => !ELSEWHERE.has(name))
        .map(({ name, value }) => (
          <Row key={name} name={name} value={value} />
        ))}
    </dl>
  );
}

function Row({ name, value, wide = false }: { name: string; value: string; wide?: boolean }) {
  if (value === "") return null;
  return (
    <div className={wide ? "details-row details-wide" : "details-row"}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function firstLine(prompt: string): string {
  return fill("{line}", { line: prompt.split("\n")[0] ?? "" });
}
