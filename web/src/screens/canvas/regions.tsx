import { Input, Label, TextArea, TextField } from "react-aria-components";

import { useText } from "../../i18n";
import { Button, IconButton } from "../../ui/button";
import { changedRegion, type Region, withoutRegion } from "./document";
import { addRegion } from "./gestures";
import { Slide } from "./slide";
import { edit, set, useCanvas, useDocument } from "./store";
import { useOwnText } from "./text";
import { fill } from "../../i18n";
import { intersection } from "./geometry";

/** Places of the frame with prompts of their own. */
export function Regions() {
  const text = useOwnText();
  const { regions } = useDocument();
  return (
    <>
      {regions.length === 0 && <p className="quiet">{text.noRegions}</p>}
      <ul className="layers" aria-label={text.regions}>
        {regions.map((region, at) => (
          <Row key={region.id} region={region} number={at + 1} />
        ))}
      </ul>
      <Button look="quiet" icon="plus" onPress={addRegion}>
        {text.addRegion}
      </Button>
    </>
  );
}

function Row({ region, number }: { region: Region; number: number }) {
  const text = useOwnText();
  const app = useText().app;
  const chosen = useCanvas((one) => one.region === region.id);
  const { frame } = useDocument();
  const name = fill(text.regionNumber, { number });
  const change = (next: Partial<Region>, tag: string) => edit((document) => changedRegion(document, region.id, next), `${tag} ${region.id}`);
  const choose = () => chosen || set({ region: region.id });
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- what has the focus in it is the one that is chosen.
    <li className={chosen ? "layer layer-chosen" : "layer"} onFocus={choose}>
      <div className="region-head">
        <span className="region-mark">{number}</span>
        <TextField className="text" aria-label={fill(text.promptOf, { name })} value={region.prompt} onChange={(prompt) => change({ prompt }, "region prompt")}>
          <TextArea rows={1} placeholder={text.regionPrompt} />
        </TextField>
        <IconButton icon="trash" label={`${app.remove}: ${name}`} onPress={() => edit((document) => withoutRegion(document, region.id))} />
      </div>
      {intersection(region.box, frame) === null && <p className="quiet">{text.outside}</p>}
      {chosen && (
        <div className="layer-more">
          <TextField className="text" value={region.negative} onChange={(negative) => change({ negative }, "region negative")}>
            <Label>{text.regionNegative}</Label>
            <Input />
          </TextField>
          <Slide label={text.weight} value={region.weight} low={0.1} high={5} step={0.1} onChange={(weight) => change({ weight }, "region weight")} />
        </div>
      )}
    </li>
  );
}
