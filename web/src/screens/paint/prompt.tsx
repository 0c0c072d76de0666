import { type KeyboardEvent, useId, useLayoutEffect, useRef } from "react";

import { useText } from "../../i18n";
import { weigh } from "./weigh";

interface Own {
  value: string;
  onChange: (value: string) => void;
  onSubmit: () => void;
}

/** The prompt: Ctrl+Enter asks for images, Ctrl+Up and Ctrl+Down weigh the word at the cursor. */
export function PromptBox({ value, onChange, onSubmit }: Own) {
  const text = useText();
  const help = useId();
  const [box, keys] = useWeighing(onChange, onSubmit);
  return (
    <div className="prompt">
      <textarea
        ref={box}
        className="prompt-box"
        aria-label={text.paint.prompt}
        aria-describedby={help}
        placeholder={text.paint.placeholder}
        rows={2}
        value={value}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={keys}
      />
      <p id={help} className="visually-hidden">
        {text.paint.help}
      </p>
    </div>
  );
}

/** A text area that weighs words by key, and keeps what was weighed selected. */
export function useWeighing(onChange: (value: string) => void, onSubmit: () => void) {
  const box = useRef<HTMLTextAreaElement>(null);
  const select = useRef<[number, number] | null>(null);
  useLayoutEffect(() => {
    if (select.current === null) return;
    box.current?.setSelectionRange(...select.current);
    select.current = null;
  });
  const keys = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (!event.ctrlKey && !event.metaKey) return;
    const area = event.currentTarget;
    if (event.key === "Enter") {
      event.preventDefault();
      onSubmit();
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      event.preventDefault();
      const next = weigh({ text: area.value, start: area.selectionStart, end: area.selectionEnd }, event.key === "ArrowUp" ? 1 : -1);
      select.current = [next.start, next.end];
      onChange(next.text);
    }
  };
  return [box, keys] as const;
}
