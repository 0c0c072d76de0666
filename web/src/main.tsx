import "./styles/base.css";
import "./styles/parts.css";
import "./styles/shell.css";
import "./styles/paint.css";

import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "./app";
import { Refusal } from "./api/errors";
import { readCatalogue } from "./i18n";
import { releaseFetched } from "./ui/picture";
import { applyTheme } from "./ui/theme";

const RETRIES = 2;
const FULL = 429;

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // What the server refused it refuses again; a server that is away is asked again.
      // One that is full says when to ask again.
      retry: (count, error) =>
        error instanceof Refusal && (error.away || error.status === FULL || (error.status === 503 && count < RETRIES)),
      retryDelay: (_, error) => (error instanceof Refusal ? (error.retryAfter ?? 1) : 1) * 1000,
      refetchOnWindowFocus: false,
    },
  },
});

async function begin(): Promise<void> {
  applyTheme();
  releaseFetched(queries);
  await readCatalogue();
  const root = document.getElementById("root");
  if (root === null) return;
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <App />
      </QueryClientProvider>
    </StrictMode>,
  );
  if (import.meta.env.PROD && "serviceWorker" in navigator) await navigator.serviceWorker.register("/sw.js");
}

void begin();
