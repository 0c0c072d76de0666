import { useEffect, useState } from "react";

/** Images that are dropped anywhere on the page. `true` while something is held over it. */
export function useDropped(take: (images: File[]) => void): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const stop = new AbortController();
    const on = (name: "dragover" | "dragleave" | "drop", then: (event: DragEvent) => void) =>
      document.addEventListener(name, then, { signal: stop.signal });
    on("dragover", (event) => {
      if (event.dataTransfer?.types.includes("Files") !== true) return;
      event.preventDefault();
      setOver(true);
    });
    on("dragleave", (event) => {
      if (event.relatedTarget === null) setOver(false);
    });
    on("drop", (event) => {
      setOver(false);
      if (event.defaultPrevented) return;
      const images = [...(event.dataTransfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));
      if (images.length === 0) return;
      event.preventDefault();
      take(images);
    });
    return () => stop.abort();
  }, [take]);
  return over;
}
