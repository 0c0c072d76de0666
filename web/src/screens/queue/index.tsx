import { useText } from "../../i18n";

export function Queue() {
  const text = useText();
  return <h1>{text.screens.queue}</h1>;
}
