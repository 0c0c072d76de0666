import { useText } from "../../i18n";

export function Models() {
  const text = useText();
  return <h1>{text.screens.models}</h1>;
}
