import type { ReactNode } from "react";
import { Button as AriaButton, type ButtonProps, Tooltip, TooltipTrigger } from "react-aria-components";

import { Icon, type IconName } from "./icons";

type Look = "main" | "plain" | "quiet" | "danger";

interface Own extends Omit<ButtonProps, "className" | "children"> {
  look?: Look;
  icon?: IconName;
  children: ReactNode;
}

/** A button with words. */
export function Button({ look = "plain", icon, children, ...rest }: Own) {
  return (
    <AriaButton {...rest} className={`button button-${look}`}>
      {icon !== undefined && <Icon name={icon} />}
      <span>{children}</span>
    </AriaButton>
  );
}

interface IconOwn extends Omit<ButtonProps, "className" | "children"> {
  icon: IconName;
  label: string;
  filled?: boolean;
}

/** A button that is an icon; its name is told to screen readers, and shown on hover and focus. */
export function IconButton({ icon, label, filled = false, ...rest }: IconOwn) {
  return (
    <TooltipTrigger delay={500}>
      <AriaButton {...rest} aria-label={label} className="icon-button">
        <Icon name={icon} filled={filled} />
      </AriaButton>
      <Tooltip className="tooltip" offset={6}>
        {label}
      </Tooltip>
    </TooltipTrigger>
  );
}
