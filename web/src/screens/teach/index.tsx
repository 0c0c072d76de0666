import { useText } from "../../i18n";

export function Teach() {
  const text = useText();
  return <h1>{text.screens.teach}</h1>;
}
