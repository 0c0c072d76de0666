import { Button as AriaButton, Input, TextField } from "react-aria-components";

import { useText } from "../../i18n";
import { Button, IconButton } from "../../ui/button";
import { usePickFile } from "../../ui/pick";
import { Picture } from "../../ui/picture";
import { drop } from "./actions";
import { ControlForm, firstControl, useControls } from "./controls";
import { changedLayer, type Layer, raisedLayer, withoutLayer } from "./document";
import { addressOf } from "./raster";
import { Slide } from "./slide";
import { edit, set, useCanvas, useDocument } from "./store";
import { useOwnText } from "./text";

/** The layers, the uppermost first; the chosen one shows what can be set of it. */
export function Layers() {
  const text = useOwnText();
  const { layers } = useDocument();
  const chosen = useCanvas((one) => one.layer);
  const pick = usePickFile((files) => void drop(files));
  return (
    <>
      {layers.length === 0 && <p className="quiet">{text.noLayers}</p>}
      <ul className="layers" aria-label={text.layers}>
        {[...layers].reverse().map((layer) => (
          <Row key={layer.id} layer={layer} chosen={layer.id === chosen} />
        ))}
      </ul>
      <Button look="quiet" icon="plus" onPress={pick}>
        {text.addImage}
      </Button>
    </>
  );
}

function Row({ layer, chosen }: { layer: Layer; chosen: boolean }) {
  const text = useOwnText();
  const change = (next: Partial<Layer>, tag = "") => edit((document) => changedLayer(document, layer.id, next), tag && `${tag} ${layer.id}`);
  const name = layer.name || text.layer;
  return (
    <li className={chosen ? "layer layer-chosen" : "layer"} data-visible={layer.visible}>
      <div className="layer-row">
        <AriaButton className="layer-pick" aria-pressed={chosen} onPress={() => set({ layer: chosen ? "" : layer.id })}>
          <Picture src={addressOf(layer.image)} alt="" />
          <span>{name}</span>
          {layer.control !== null && <span className="badge">{layer.control.type}</span>}
        </AriaButton>
        <IconButton
          icon={layer.visible ? "eye" : "minus"}
          label={`${layer.visible ? text.hide : text.unhide}: ${name}`}
          onPress={() => change({ visible: !layer.visible })}
        />
      </div>
      {chosen && <Chosen layer={layer} name={name} change={change} />}
    </li>
  );
}

/** Of a control: one sees what it steers below it. */
const SEEN_THROUGH = 0.7;

interface Own {
  layer: Layer;
  name: string;
  change: (next: Partial<Layer>, tag?: string) => void;
}

function Chosen({ layer, name, change }: Own) {
  const text = useOwnText();
  const app = useText().app;
  const { data: known } = useControls();
  const raise = (by: number) => edit((document) => raisedLayer(document, layer.id, by));
  const { control } = layer;
  return (
    <div className="layer-more">
      <div className="row">
        <TextField className="text layer-name" aria-label={text.layerName} value={layer.name} onChange={(next) => change({ name: next }, "name")}>
          <Input placeholder={text.layer} />
        </TextField>
        <IconButton icon="up" label={`${text.raise}: ${name}`} onPress={() => raise(1)} />
        <IconButton icon="down" label={`${text.lower}: ${name}`} onPress={() => raise(-1)} />
        <IconButton icon="trash" label={`${app.remove}: ${name}`} onPress={() => edit((document) => withoutLayer(document, layer.id))} />
      </div>
      <Slide label={text.opacity} value={layer.opacity} low={0} high={1} step={0.01} onChange={(opacity) => change({ opacity }, "opacity")} />
      {control !== null && <ControlForm layer={{ ...layer, control }} />}
      <Button look="quiet" icon={control === null ? "sliders" : "image"} onPress={() => change(control === null ? { control: firstControl(known), opacity: SEEN_THROUGH } : { control: null, opacity: 1 })}>
        {control === null ? text.useAsControl : text.useAsImage}
      </Button>
    </div>
  );
}
