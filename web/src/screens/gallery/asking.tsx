import { type ReactNode, useMemo, useState } from "react";

import { fill, useText } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import type { Doings } from "./doing";
import { TEXTS } from "./text";

interface Asked {
  count: number;
  answer: (yes: boolean) => void;
}

/** The same doings, which ask before what cannot be undone; and the question. */
export function useAsking(doings: Doings): [Doings, ReactNode] {
  const [asked, setAsked] = useState<Asked | null>(null);
  const asking = useMemo(() => {
    const ask = (count: number) => new Promise<boolean>((answer) => setAsked({ count, answer }));
    return { ...doings, purge: async (ids: readonly string[]) => (await ask(ids.length)) && (await doings.purge(ids)) };
  }, [doings]);
  const answer = (yes: boolean) => {
    asked?.answer(yes);
    setAsked(null);
  };
  return [asking, asked !== null && <Question count={asked.count} onAnswer={answer} />];
}

function Question({ count, onAnswer }: { count: number; onAnswer: (yes: boolean) => void }) {
  const own = useOwnText(TEXTS);
  const text = useText();
  return (
    <Dialog title={own.purgeAsk} open onClose={() => onAnswer(false)}>
      <div className="gallery-naming">
        <p>{fill(own.purgeWhy, { count })}</p>
        <div className="row">
          <Button look="danger" icon="trash" onPress={() => onAnswer(true)}>
            {own.purge}
          </Button>
          <Button onPress={() => onAnswer(false)}>{text.app.cancel}</Button>
        </div>
      </div>
    </Dialog>
  );
}
