import { Button, Label, ListBox, ListBoxItem, Popover, Select } from "react-aria-components";

import { Icon } from "./icons";

export interface Option {
  id: string;
  label: string;
}

interface Own {
  label: string;
  value: string;
  options: readonly Option[];
  onChange: (id: string) => void;
  hidden?: boolean;
}

/** One of a few. */
export function Choice({ label, value, options, onChange, hidden = false }: Own) {
  const chosen = options.find((option) => option.id === value);
  return (
    <Select className="choice" aria-label={hidden ? label : undefined} value={value} onChange={(id) => onChange(String(id))}>
      {!hidden && <Label>{label}</Label>}
      <Button className="choice-button">
        <span>{chosen?.label ?? value}</span>
        <Icon name="down" />
      </Button>
      <Popover className="popover" offset={4}>
        <ListBox className="listbox" items={options}>
          {(option) => (
            <ListBoxItem id={option.id} textValue={option.label} className="listbox-item">
              {option.label}
            </ListBoxItem>
          )}
        </ListBox>
      </Popover>
    </Select>
  );
}
