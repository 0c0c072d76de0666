// Keeps the page itself, so that it opens at once and while the server is away. Nothing of /v1 is kept.
const KEPT = "atelier-page";

const SCREENS = new Set(["/", "/canvas", "/gallery", "/queue", "/teach", "/models", "/settings"]);
const HASHED = /^\/studio\/.+-[\w-]{8}\.(?:js|css)$/;

// What an earlier version kept goes: files of its build are asked for no more.
self.addEventListener("activate", (event) => event.waitUntil(caches.delete(KEPT).then(() => self.clients.claim())));

self.addEventListener("fetch", (event) => {
  const { method, mode, url } = event.request;
  const { origin, pathname } = new URL(url);
  if (method !== "GET" || origin !== self.location.origin) return;
  if (HASHED.test(pathname)) event.respondWith(keptFirst(event.request));
  else if (mode === "navigate" && SCREENS.has(pathname)) event.respondWith(freshFirst(event.request));
});

// The name of a built file holds the hash of its content: what is kept is right.
async function keptFirst(request) {
  const kept = await caches.open(KEPT);
  const found = await kept.match(request);
  if (found) return found;
  const answer = await fetch(request);
  if (answer.ok) await kept.put(request, answer.clone());
  return answer;
}

async function freshFirst(request) {
  const kept = await caches.open(KEPT);
  try {
    const answer = await fetch(request);
    if (answer.ok) await kept.put("/", answer.clone());
    return answer;
  } catch (error) {
    const found = await kept.match("/");
    if (found) return found;
    throw error;
  }
}
