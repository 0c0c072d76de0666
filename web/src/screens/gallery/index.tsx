import { useText } from "../../i18n";

export function Gallery() {
  const text = useText();
  return <h1>{text.screens.gallery}</h1>;
}
