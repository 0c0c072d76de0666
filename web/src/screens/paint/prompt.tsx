import { useQuery } from "@tanstack/react-query";
import { type KeyboardEvent, useId, useLayoutEffect, useRef, useState } from "react";

import { api, told } from "../../api/client";
import { useNames } from "../../api/queries";
import { useText } from "../../i18n";
import { fitting, typedAt, writtenAs } from "./complete";
import { type Selected, weigh } from "./weigh";

const MOST = 8;
/** Names that are offered at once. */

interface Own {
  value: string;
  onChange: (value: string) => void;
  onSubmit: () => void;
}

/**
 * The prompt. Ctrl+Enter asks for images; Ctrl+Up and Ctrl+Down weigh the word at the cursor; names of networks, textual
 * inversions and wildcards are offered while one types: Up and Down choose, Tab or Enter takes, Escape leaves.
 */
export function PromptBox({ value, onChange, onSubmit }: Own) {
  const text = useText();
  const help = useId();
  const list = useId();
  const [cursor, setCursor] = useState<number | null>(null);
  const [at, setAt] = useState(0);
  const [box, put] = useSelecting(onChange);
  const typed = cursor === null ? null : typedAt(value, cursor);
  const names = useOffered(typed?.kind ?? null);
  const offered = typed === null ? [] : fitting(names, typed.part, MOST);
  const chosen = Math.min(at, offered.length - 1);

  const take = (name: string | undefined) => {
    if (typed === null || cursor === null || name === undefined) return;
    const written = writtenAs(name, typed.kind);
    const end = typed.from + written.length;
    put({ text: value.slice(0, typed.from) + written + value.slice(cursor), start: end, end });
    setCursor(null);
  };
  const keys = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    // Keys that choose characters in an input method are not ours.
    if (event.nativeEvent.isComposing) return;
    const area = event.currentTarget;
    const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
    if (event.ctrlKey || event.metaKey) {
      if (event.key === "Enter") onSubmit();
      else if (step !== 0) put(weigh({ text: area.value, start: area.selectionStart, end: area.selectionEnd }, step === -1 ? 1 : -1));
      else return;
    } else if (offered.length === 0) return;
    else if (step !== 0) setAt((chosen + step + offered.length) % offered.length);
    else if (event.key === "Tab" || event.key === "Enter") take(offered[chosen]);
    else if (event.key === "Escape") setCursor(null);
    else return;
    event.preventDefault();
  };
  return (
    <div className="prompt">
      <textarea
        ref={box}
        className="prompt-box"
        aria-label={text.paint.prompt}
        aria-describedby={help}
        aria-autocomplete="list"
        aria-controls={list}
        aria-activedescendant={offered.length > 0 ? `${list}-${chosen}` : undefined}
        placeholder={text.paint.placeholder}
        rows={2}
        value={value}
        onChange={(event) => {
          onChange(event.target.value);
          setCursor(event.target.selectionStart);
          setAt(0);
        }}
        onBlur={() => setCursor(null)}
        onKeyDown={keys}
      />
      <div id={list} className="offered" role="listbox" aria-label={text.paint.suggestions} hidden={offered.length === 0}>
        {offered.map((name, number) => (
          // The keys of the box act on these; a pointer takes one before the box loses the focus.
          <div key={name} tabIndex={-1} id={`${list}-${number}`} role="option" aria-selected={number === chosen} className="listbox-item" onPointerDown={(event) => {
            event.preventDefault();
            take(name);
          }}>
            {name}
          </div>
        ))}
      </div>
      <p id={help} className="visually-hidden">
        {text.paint.help}
      </p>
    </div>
  );
}

/** A text area into which a text can be put with a part of it selected. */
function useSelecting(onChange: (value: string) => void) {
  const box = useRef<HTMLTextAreaElement>(null);
  const select = useRef<[number, number] | null>(null);
  useLayoutEffect(() => {
    if (select.current === null) return;
    box.current?.setSelectionRange(...select.current);
    select.current = null;
  });
  const put = (next: Selected) => {
    select.current = [next.start, next.end];
    onChange(next.text);
  };
  return [box, put] as const;
}

const RARELY = 5 * 60_000;

/** Names of what is being typed. */
function useOffered(kind: "network" | "wildcard" | "word" | null): readonly string[] {
  const { data: networks = [] } = useNames(kind === "network" ? "adapters" : null);
  const { data: embeddings = [] } = useNames(kind === "word" ? "embeddings" : null);
  const { data: wildcards = [] } = useQuery({
    queryKey: ["wildcards"],
    queryFn: async () => (await told(api.GET("/v1/wildcards"))).data,
    enabled: kind === "wildcard",
    staleTime: RARELY,
  });
  if (kind === "network") return networks;
  return kind === "wildcard" ? wildcards : embeddings;
}
