import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button as AriaButton, Menu, MenuItem, MenuTrigger, Popover, Separator } from "react-aria-components";

import { messageOf } from "../../api/errors";
import { fill } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { IconButton } from "../../ui/button";
import { Icon, type IconName } from "../../ui/icons";
import { toast } from "../../ui/toasts";
import { lookAgain, useBoards } from "./data";
import type { Doings } from "./doing";
import type { Place } from "./place";
import { makeBoard } from "./side";
import { TEXTS } from "./text";

interface Own {
  ids: readonly string[];
  place: Place;
  doings: Doings;
  onCompare: () => void;
  onTeach: () => void;
  onClear: () => void;
}

/** What can be done to the images that are selected. */
export function Chosen({ ids, place, doings, onCompare, onTeach, onClear }: Own) {
  const text = useOwnText(TEXTS);
  const then = (step: Promise<void>) => void step.then(onClear);
  return (
    <div className="chosen" role="toolbar" aria-label={fill(text.selected, { count: ids.length })}>
      <IconButton icon="close" label={text.clear} onPress={onClear} />
      <span className="chosen-count" aria-live="polite">
        {fill(text.selected, { count: ids.length })}
      </span>
      {place.trash ? (
        <>
          <Act icon="undo" name={text.restore} onPress={() => then(doings.restore(ids))} />
          <Act icon="trash" name={text.purge} onPress={() => void doings.purge(ids).then((gone) => gone && onClear())} danger />
        </>
      ) : (
        <>
          <Act icon="star" name={place.starred ? text.unstar : text.star} onPress={() => then(doings.star(ids, !place.starred))} />
          <ToBoard ids={ids} doings={doings} />
          {place.board !== "" && <Act icon="minus" name={text.offBoard} onPress={() => then(doings.unpin(ids, place.board))} />}
          {ids.length === 2 && <Act icon="compare" name={text.compare} onPress={onCompare} />}
          <Act icon="teach" name={ids.length === 1 ? text.teach : text.teachMany} onPress={onTeach} />
          <Act icon="download" name={text.zip} onPress={() => void doings.zip(ids)} />
          <Act icon="trash" name={text.remove} onPress={() => then(doings.remove(ids))} danger />
        </>
      )}
    </div>
  );
}

function Act({ icon, name, onPress, danger = false }: { icon: IconName; name: string; onPress: () => void; danger?: boolean }) {
  return (
    <AriaButton className={danger ? "chosen-act chosen-danger" : "chosen-act"} onPress={onPress}>
      <Icon name={icon} />
      <span>{name}</span>
    </AriaButton>
  );
}

const NEW = "new";

/** A menu of one's boards. */
export function ToBoard({ ids, doings }: { ids: readonly string[]; doings: Doings }) {
  const text = useOwnText(TEXTS);
  const queries = useQueryClient();
  const boards = useBoards();
  const [busy, setBusy] = useState(false);
  const put = async (id: string) => {
    setBusy(true);
    try {
      const board = boards.find((one) => one.id === id) ?? (await makeBoard(`${text.newBoard} ${boards.length + 1}`));
      await doings.pin(ids, board);
      await lookAgain(queries);
    } catch (error) {
      toast(messageOf(error), { bad: true });
    } finally {
      setBusy(false);
    }
  };
  return (
    <MenuTrigger>
      <AriaButton className="chosen-act" isPending={busy}>
        <Icon name="layers" />
        <span>{text.toBoard}</span>
      </AriaButton>
      <Popover className="popover" placement="top" offset={8}>
        <Menu className="listbox" onAction={(key) => void put(String(key))} aria-label={fill(text.addTo, { count: ids.length })}>
          {boards.map((board) => (
            <MenuItem key={board.id} id={board.id} className="listbox-item" textValue={board.name}>
              {board.name}
            </MenuItem>
          ))}
          {boards.length > 0 && <Separator className="menu-line" />}
          <MenuItem id={NEW} className="listbox-item">
            {text.newBoard}
          </MenuItem>
        </Menu>
      </Popover>
    </MenuTrigger>
  );
}
