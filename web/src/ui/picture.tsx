import { type QueryClient, useQuery } from "@tanstack/react-query";
import type { ImgHTMLAttributes } from "react";

import { send } from "../api/client";
import { key } from "../api/key";

interface Own extends Omit<ImgHTMLAttributes<HTMLImageElement>, "src" | "alt"> {
  src: string;
  alt: string;
}

/** An image of the server. Where that asks for a key, the bytes are fetched with it: an address alone cannot carry one. */
export function Picture({ src, alt, ...rest }: Own) {
  const address = useAddress(src);
  return address === null ? <span className="picture-waiting" {...{ role: "img", "aria-label": alt }} /> : <img {...rest} src={address} alt={alt} />;
}

/** An address of an image of the server that an <img> or a canvas can read; null until it is there. */
export function useAddress(src: string): string | null {
  const open = key() === "" || /^(?:blob|data):/.test(src);
  const { data } = useQuery({
    queryKey: [FETCHED, src],
    queryFn: async () => URL.createObjectURL(await (await send(src)).blob()),
    enabled: !open,
    staleTime: Number.POSITIVE_INFINITY,
  });
  return open ? src : (data ?? null);
}

const FETCHED = "fetched image";

/** Gives the memory of fetched images back when nothing shows them any more. */
export function releaseFetched(queries: QueryClient): void {
  queries.getQueryCache().subscribe(({ type, query }) => {
    if (type === "removed" && (query.queryKey as readonly unknown[])[0] === FETCHED && typeof query.state.data === "string") {
      URL.revokeObjectURL(query.state.data);
    }
  });
}
