import type { ReactNode } from "react";
import { Button, Disclosure, DisclosurePanel, Heading } from "react-aria-components";

import { Icon } from "./icons";

/** A part of a page that opens when its heading is pressed; `note` stands beside the heading. */
export function Fold({ title, note, children, open = false }: { title: string; note?: string | undefined; children: ReactNode; open?: boolean }) {
  return (
    <Disclosure className="fold" defaultExpanded={open}>
      <Heading className="fold-head" level={3}>
        <Button slot="trigger" className="fold-trigger">
          <Icon name="right" />
          <span>{title}</span>
          {note !== undefined && <span className="badge">{note}</span>}
        </Button>
      </Heading>
      <DisclosurePanel className="fold-panel">
        <div className="fold-body">{children}</div>
      </DisclosurePanel>
    </Disclosure>
  );
}
