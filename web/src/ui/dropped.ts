import { useEffect, useState } from "react";

/** Images that are dropped anywhere on the page. `true` while something is held over it. */
export function useDropped(take: (images: File[]) => void): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const stop = new AbortController();
    const on = (name: "dragover" | "dragleave" | "drop", then: (event: DragEvent) => void) =>
      // While it goes down: what a field takes for itself it stops on the way up.
      document.addEventListener(name, then, { signal: stop.signal, capture: name !== "drop" });
    document.addEventListener("drop", () => setOver(false), { signal: stop.signal, capture: true });
    on("dragover", (event) => {
      if (event.dataTransfer?.types.includes("Files") !== true) return;
      event.preventDefault();
      setOver(true);
    });
    on("dragleave", (event) => {
      if (event.relatedTarget === null) setOver(false);
    });
    on("drop", (event) => {
      if (event.defaultPrevented) return;
      // A browser would open the file in place of the page.
      event.preventDefault();
      const images = [...(event.dataTransfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));
      if (images.length > 0) take(images);
    });
    return () => stop.abort();
  }, [take]);
  return over;
}
