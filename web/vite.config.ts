import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `scripts/web` names the server that the development page talks to.
const server = process.env["ATELIER_SERVER"] ?? "http://127.0.0.1:7860";
const paths = ["/v1", "/openapi.json", "/healthz", "/readyz"];

export default defineConfig(({ command }) => ({
  // The built files lie beside the routes of the pages, not below one of them.
  base: command === "build" ? "/studio/" : "/",
  plugins: [react()],
  build: {
    outDir: "../src/atelier/api/studio",
    emptyOutDir: true,
    assetsDir: "",
    // A picture inside of a style sheet would need `data:` in the policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: Object.fromEntries(paths.map((path) => [path, { target: server, changeOrigin: true }])) },
}));
