import { useCallback } from "react";

/** Asks for images of this computer. */
export function usePickFile(take: (files: File[]) => void): () => void {
  return useCallback(() => {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = true;
    input.accept = "image/png,image/jpeg,image/webp";
    input.addEventListener("change", () => take([...(input.files ?? [])]));
    input.click();
  }, [take]);
}
