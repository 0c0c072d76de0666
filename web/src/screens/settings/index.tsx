import { useText } from "../../i18n";

export function Settings() {
  const text = useText();
  return <h1>{text.screens.settings}</h1>;
}
