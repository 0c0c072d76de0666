import { useQueryClient } from "@tanstack/react-query";
import { memo, useState } from "react";
import { Input, Label, TextField } from "react-aria-components";

import { api, told } from "../../api/client";
import { messageOf } from "../../api/errors";
import { fill } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button, IconButton } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { Icon, type IconName } from "../../ui/icons";
import { useFormat } from "../../ui/format";
import { Picture } from "../../ui/picture";
import { toast } from "../../ui/toasts";
import { type Board, lookAgain, useBoards, useCount } from "./data";
import { EVERYTHING, type Place } from "./place";
import { TEXTS } from "./text";

interface Own {
  place: Place;
  go: (place: Place) => void;
}

/** What can be shown: everything, what has a star, a board, the trash. */
export const Side = memo(function Side({ place, go }: Own) {
  const text = useOwnText(TEXTS);
  const boards = useBoards();
  const [naming, setNaming] = useState<Board | "new" | null>(null);
  const plain = place.board === "" && place.job === "" && !place.starred && !place.trash;
  const all = useCount(EVERYTHING);
  const starred = useCount({ ...EVERYTHING, starred: true });
  const trash = useCount({ ...EVERYTHING, trash: true });
  const to = (change: Partial<Place>) => go({ ...EVERYTHING, q: place.q, ...change });
  return (
    <nav className="gallery-side" aria-label={text.sources}>
      <Entry icon="gallery" name={text.all} count={all} here={plain} onPress={() => to({})} />
      <Entry icon="star" name={text.starred} count={starred} here={place.starred} onPress={() => to({ starred: true })} />
      <Entry icon="trash" name={text.trash} count={trash} here={place.trash} onPress={() => to({ trash: true })} />
      <div className="gallery-boards-head">
        <h2>{text.boards}</h2>
        <IconButton icon="plus" label={text.newBoard} onPress={() => setNaming("new")} />
      </div>
      <ul className="gallery-boards">
        {boards.map((board) => (
          <li key={board.id} className="gallery-board">
            <Entry icon="layers" cover={board.cover} name={board.name} count={board.images} here={place.board === board.id} onPress={() => to({ board: board.id })} />
            <IconButton icon="sliders" label={fill(text.boardMenu, { name: board.name })} onPress={() => setNaming(board)} />
          </li>
        ))}
      </ul>
      {naming !== null && <Naming board={naming === "new" ? null : naming} onClose={() => setNaming(null)} onGone={() => to({})} />}
    </nav>
  );
});

interface EntryOwn {
  icon: IconName;
  cover?: string | null;
  name: string;
  count: number | null;
  here: boolean;
  onPress: () => void;
}

function Entry({ icon, cover = null, name, count, here, onPress }: EntryOwn) {
  const { number } = useFormat();
  return (
    <button type="button" className="gallery-place" aria-current={here ? "page" : undefined} onClick={onPress}>
      {cover === null ? <Icon name={icon} /> : <Picture className="gallery-cover" src={`/v1/images/${cover}/thumbnail`} alt="" />}
      <span className="gallery-place-name">{name}</span>
      {count !== null && <span className="gallery-place-count">{number(count)}</span>}
    </button>
  );
}

/** A board's name, for a new one or another one of its own; and its end. */
function Naming({ board, onClose, onGone }: { board: Board | null; onClose: () => void; onGone: () => void }) {
  const text = useOwnText(TEXTS);
  const queries = useQueryClient();
  const [name, setName] = useState(board?.name ?? "");
  const [wrong, setWrong] = useState("");
  const run = async (step: () => Promise<unknown>) => {
    try {
      await step();
      await lookAgain(queries);
      onClose();
    } catch (error) {
      setWrong(messageOf(error));
    }
  };
  const save = () => (board === null ? makeBoard(name) : told(api.PATCH("/v1/boards/{board_id}", { params: { path: { board_id: board.id } }, body: { name } })));
  const remove = async (gone: Board) => {
    await told(api.DELETE("/v1/boards/{board_id}", { params: { path: { board_id: gone.id } } }));
    onGone();
    toast(fill(text.removed, { name: gone.name }));
  };
  return (
    <Dialog title={board === null ? text.newBoard : fill(text.renameBoard, { name: board.name })} open onClose={onClose}>
      <form
        className="gallery-naming"
        onSubmit={(event) => {
          event.preventDefault();
          void run(save);
        }}
      >
        {/* eslint-disable-next-line jsx-a11y/no-autofocus -- the one field of a dialog that was asked for */}
        <TextField className="text" value={name} onChange={setName} maxLength={100} autoFocus>
          <Label>{text.boardName}</Label>
          <Input />
        </TextField>
        {wrong !== "" && (
          <p className="field-error" role="alert">
            {wrong}
          </p>
        )}
        <div className="row">
          <Button look="main" type="submit" isDisabled={name.trim() === ""}>
            {board === null ? text.make : text.rename}
          </Button>
          {board !== null && (
            <Button look="danger" icon="trash" onPress={() => void run(() => remove(board))}>
              {text.removeBoard}
            </Button>
          )}
        </div>
      </form>
    </Dialog>
  );
}

export function makeBoard(name: string): Promise<Board> {
  return told(api.POST("/v1/boards", { body: { name } }));
}
