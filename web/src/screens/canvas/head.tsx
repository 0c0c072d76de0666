import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button as AriaButton, Menu, MenuItem, MenuTrigger, Popover } from "react-aria-components";

import { messageOf } from "../../api/errors";
import { useText } from "../../i18n";
import { Button, IconButton } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { useFormat } from "../../ui/format";
import { Icon } from "../../ui/icons";
import { toast } from "../../ui/toasts";
import { savePart } from "./actions";
import { NameBox } from "./panel";
import { canvases, removeCanvas } from "./server";
import { keep, useCanvas } from "./store";
import { useOwnText } from "./text";

/** The name of the canvas, one's other canvases, and what it can be saved as. */
export function Head({ go }: { go: (id: string | null) => void }) {
  const text = useOwnText();
  const [open, setOpen] = useState(false);
  const saving = useCanvas((one) => one.saving);
  const saved = (what: "frame" | "all") => void savePart(what).catch((error: unknown) => toast(messageOf(error), { bad: true }));
  return (
    <header className="canvas-head">
      <NameBox />
      <span className="visually-hidden" role="status" data-saving={saving}>
        {text.saving[saving]}
      </span>
      <span className={`canvas-saving canvas-saving-${saving}`} aria-hidden="true" title={text.saving[saving]} />
      <IconButton icon="grid" label={text.canvases} onPress={() => setOpen(true)} />
      <MenuTrigger>
        <AriaButton className="icon-button" aria-label={text.saveAs}>
          <Icon name="download" />
        </AriaButton>
        <Popover className="popover" offset={4}>
          <Menu className="listbox" onAction={(key) => saved(key === "frame" ? "frame" : "all")}>
            <MenuItem id="frame" className="listbox-item">
              {text.saveFrame}
            </MenuItem>
            <MenuItem id="all" className="listbox-item">
              {text.saveAll}
            </MenuItem>
          </Menu>
        </Popover>
      </MenuTrigger>
      {open && <Others go={go} onClose={() => setOpen(false)} />}
    </header>
  );
}

function Others({ go, onClose }: { go: (id: string | null) => void; onClose: () => void }) {
  const text = useOwnText();
  const app = useText().app;
  const mine = useCanvas((one) => one.id);
  const queries = useQueryClient();
  const { data = [] } = useQuery({ queryKey: ["canvases"], queryFn: () => keep().then(canvases), staleTime: 0 });
  const remove = async (id: string) => {
    await removeCanvas(id).catch((error: unknown) => toast(messageOf(error), { bad: true }));
    await queries.invalidateQueries({ queryKey: ["canvases"] });
  };
  const { when } = useFormat();
  const leave = (id: string | null) => {
    go(id);
    onClose();
  };
  return (
    <Dialog title={text.canvases} open onClose={onClose}>
      <div className="canvas-others">
        <Button icon="plus" onPress={() => leave(null)}>
          {text.newCanvas}
        </Button>
        <ul className="layers">
          {data.map((one) => (
            <li key={one.id} className={one.id === mine ? "layer layer-chosen" : "layer"}>
              <div className="layer-row">
                <AriaButton className="layer-pick" onPress={() => leave(one.id)}>
                  <span>{one.name || text.untitled}</span>
                  <span className="quiet">{when(one.changed)}</span>
                </AriaButton>
                {one.id !== mine && <IconButton icon="trash" label={`${app.remove}: ${one.name || text.untitled}`} onPress={() => void remove(one.id)} />}
              </div>
            </li>
          ))}
        </ul>
      </div>
    </Dialog>
  );
}
