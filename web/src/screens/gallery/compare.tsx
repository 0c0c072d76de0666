import { useState } from "react";

import { useOwnText } from "../../i18n/own";
import { Dialog } from "../../ui/dialog";
import { Picture } from "../../ui/picture";
import { type Details, useDetails } from "./data";
import { differences } from "./differences";
import { TEXTS } from "./text";

const MIDDLE = 50;

/** Two images, one over the other up to a line that is drawn with the mouse or moved with arrows; below, what differs. */
export function Compare({ pair, onClose }: { pair: readonly string[]; onClose: () => void }) {
  const text = useOwnText(TEXTS);
  const [at, setAt] = useState(MIDDLE);
  const { data: first } = useDetails(pair[0] ?? "");
  const { data: second } = useDetails(pair[1] ?? "");
  return (
    <Dialog title={text.compareTitle} open wide onClose={onClose}>
      {first !== undefined && second !== undefined && (
        <div className="compare">
          <div className="compare-stage" style={{ aspectRatio: `${first.width} / ${first.height}` }}>
            <Picture src={first.url} alt={`${text.first}: ${first.prompt || text.noPrompt}`} />
            <div className="compare-over" style={{ clipPath: `inset(0 0 0 ${at}%)` }}>
              <Picture src={second.url} alt={`${text.second}: ${second.prompt || text.noPrompt}`} />
            </div>
            <div className="compare-line" style={{ left: `${at}%` }} aria-hidden="true" />
            <input className="compare-slider" type="range" min={0} max={100} step={0.5} value={at} aria-label={text.split} onChange={(event) => setAt(Number(event.target.value))} />
          </div>
          <Differences first={first} second={second} />
        </div>
      )}
    </Dialog>
  );
}

function Differences({ first, second }: { first: Details; second: Details }) {
  const text = useOwnText(TEXTS);
  const rows = differences(settingsOf(first, text.prompt), settingsOf(second, text.prompt));
  return (
    <table className="compare-table">
      <thead>
        <tr>
          <th scope="col">{text.settings}</th>
          <th scope="col">{text.first}</th>
          <th scope="col">{text.second}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(([name, one, other]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td>{one}</td>
            <td>{other}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function settingsOf(image: Details, prompt: string): Map<string, string> {
  return new Map([[prompt, image.prompt], ...image.settings.map(({ name, value }): [string, string] => [name, value])]);
}
