import { Button as AriaButton, Toolbar, Tooltip, TooltipTrigger } from "react-aria-components";

import { fill } from "../../i18n";
import { Icon, type IconName } from "../../ui/icons";
import { look, zoom } from "./actions";
import { choose, draws, resizeBrush } from "./commands";
import { TOOL_KEYS } from "./keys";
import { redo, type Tool, undo, useCanvas } from "./store";
import { useOwnText } from "./text";

const ICONS: Readonly<Record<Tool, IconName>> = {
  frame: "frame",
  move: "move",
  brush: "brush",
  eraser: "eraser",
  lasso: "lasso",
  region: "regions",
  hand: "hand",
};

/** The tools, each with its key. */
export function Tools() {
  const text = useOwnText();
  const chosen = useCanvas((one) => one.tool);
  const brush = useCanvas((one) => one.brush);
  return (
    <Toolbar className="canvas-tools" orientation="vertical" aria-label={text.tools}>
      {(Object.keys(TOOL_KEYS) as Tool[]).map((tool) => (
        <Keyed key={tool} icon={ICONS[tool]} label={text[tool]} keys={TOOL_KEYS[tool]} pressed={tool === chosen} onPress={() => choose(tool)} />
      ))}
      {draws(chosen) && chosen !== "lasso" && (
        <div className="brush-size" role="group" aria-label={text.brushSize}>
          <Keyed icon="plus" label={text.larger} keys="]" onPress={() => resizeBrush(1)} />
          <output aria-label={text.brushSize}>{brush}</output>
          <Keyed icon="minus" label={text.smaller} keys="[" onPress={() => resizeBrush(-1)} />
        </div>
      )}
    </Toolbar>
  );
}

/** Back and forth, and what is looked at. */
export function Looks() {
  const text = useOwnText();
  const scale = useCanvas((one) => one.view.scale);
  const past = useCanvas((one) => one.history.past.length > 0);
  const future = useCanvas((one) => one.history.future.length > 0);
  const percent = fill("{percent} %", { percent: Math.round(scale * 100) });
  return (
    <Toolbar className="canvas-looks" aria-label={text.view}>
      <Keyed icon="undo" label={text.undo} keys="Ctrl+Z" onPress={undo} disabled={!past} />
      <Keyed icon="redo" label={text.redo} keys="Ctrl+Shift+Z" onPress={redo} disabled={!future} />
      <Keyed icon="minus" label={text.zoomOut} keys="-" onPress={() => zoom(1 / ZOOM)} />
      <output className="canvas-scale" aria-label={text.zoom}>
        {percent}
      </output>
      <Keyed icon="plus" label={text.zoomIn} keys="+" onPress={() => zoom(ZOOM)} />
      <Keyed icon="canvas" label={text.lookFrame} keys="0" onPress={() => look("frame")} />
      <Keyed icon="image" label={text.lookAll} keys="1" onPress={() => look("all")} />
    </Toolbar>
  );
}

const ZOOM = 1.25;

/** A key as screen readers know it. */
function spelled(keys: string): string {
  return keys.replace("Ctrl", "Control").replace("←", "ArrowLeft").replace("→", "ArrowRight");
}

interface Own {
  icon: IconName;
  label: string;
  keys: string;
  pressed?: boolean;
  disabled?: boolean;
  onPress: () => void;
}

/** A button that is an icon, with the key that does the same. */
export function Keyed({ icon, label, keys, pressed, disabled = false, onPress }: Own) {
  return (
    <TooltipTrigger delay={400}>
      <AriaButton
        className={pressed === true ? "icon-button canvas-tool canvas-tool-chosen" : "icon-button canvas-tool"}
        aria-label={label}
        aria-keyshortcuts={spelled(keys)}
        {...(pressed === undefined ? {} : { "aria-pressed": pressed })}
        isDisabled={disabled}
        onPress={onPress}
      >
        <Icon name={icon} />
      </AriaButton>
      <Tooltip className="tooltip" offset={8} placement="right">
        {label} <kbd>{keys}</kbd>
      </Tooltip>
    </TooltipTrigger>
  );
}
