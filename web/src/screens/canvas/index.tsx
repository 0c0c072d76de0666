import { useText } from "../../i18n";

export function Canvas() {
  const text = useText();
  return <h1>{text.screens.canvas}</h1>;
}
