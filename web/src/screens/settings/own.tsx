import { useQueryClient } from "@tanstack/react-query";
import { useState, useSyncExternalStore } from "react";
import { Form, Input, Label, RadioButton, RadioField, RadioGroup, TextField } from "react-aria-components";

import type { Schemas } from "../../api/client";
import { key, onKey, setKey } from "../../api/key";
import { fill, type Language, LANGUAGES, setLanguage, useLanguage } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button } from "../../ui/button";
import { setTheme, type Theme, useTheme } from "../../ui/theme";
import { toast } from "../../ui/toasts";
import { Part } from "./index";
import { texts } from "./text";

/** Language and theme, which this browser remembers. */
export function Browser() {
  const text = useOwnText(texts);
  const themes: [Theme, string][] = [
    ["system", text.system],
    ["light", text.light],
    ["dark", text.dark],
  ];
  return (
    <Part title={text.looks}>
      <Few label={text.language} value={useLanguage()} options={LANGUAGES} onChange={(language) => void setLanguage(language as Language)} />
      <Few label={text.theme} value={useTheme()} options={themes} onChange={(theme) => setTheme(theme as Theme)} />
    </Part>
  );
}

interface FewOwn {
  label: string;
  value: string;
  options: readonly (readonly [string, string])[];
  onChange: (value: string) => void;
}

/** One of a few that all are seen. */
function Few({ label, value, options, onChange }: FewOwn) {
  return (
    <RadioGroup className="few" value={value} onChange={onChange}>
      <Label className="label">{label}</Label>
      <div className="few-options">
        {options.map(([id, name]) => (
          <RadioField key={id} value={id}>
            <RadioButton className="few-option">{name}</RadioButton>
          </RadioField>
        ))}
      </div>
    </RadioGroup>
  );
}

/** The key of this browser, and whose it is. */
export function KeyPart({ you }: { you: Schemas["CallerShape"] | null }) {
  const text = useOwnText(texts);
  const queries = useQueryClient();
  const kept = useSyncExternalStore(onKey, key);
  const [entry, setEntry] = useState("");
  const use = (secret: string, said: string) => {
    setKey(secret);
    setEntry("");
    toast(said);
    void queries.resetQueries();
  };
  const role = you?.admin === true ? text.keyAdmin : text.keyUser;
  return (
    <Part title={text.key}>
      <p>
        {kept === "" ? (you !== null && you.key === "" ? text.keyOpen : text.keyNone) : text.keyKept}
        {you !== null && you.key !== "" && ` ${fill(text.keyYou, { name: `${you.key} (${role})` })}`}
      </p>
      <Form
        className="key-form"
        onSubmit={(event) => {
          event.preventDefault();
          use(entry.trim(), text.keyUsed);
        }}
      >
        <TextField className="text" type="password" value={entry} onChange={setEntry} autoComplete="off">
          <Label>{text.keyNew}</Label>
          <Input />
        </TextField>
        <Button type="submit" isDisabled={entry.trim() === ""}>
          {text.keyUse}
        </Button>
      </Form>
      {kept !== "" && (
        <Button look="danger" onPress={() => use("", text.keyForgotten)}>
          {text.keyForget}
        </Button>
      )}
    </Part>
  );
}
