import createClient, { type Middleware } from "openapi-fetch";

import { refusal, Refusal } from "./errors";
import { credentials, noteStatus } from "./key";
import { noteAnswer, noteSilence } from "./reach";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Job = Schemas["JobShape"];
export type JobImage = Schemas["ImageShape"];
export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };
/** The fields of a request by their names. */
export type Fields = Record<string, Json>;

const keyed: Middleware = {
  onRequest({ request }) {
    for (const [name, value] of Object.entries(credentials())) request.headers.set(name, value);
    return request;
  },
};

/** Calls the server by the paths of its OpenAPI document; see `told` for the answer. */
export const api = createClient<paths>({ fetch: (request) => reach(request) });
api.use(keyed);

/** The body of an answer. Throws Refusal. */
export async function told<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await call;
  if (!response.ok) throw refusal(response.status, error, response.headers);
  return data as T;
}

/** `fetch` with the key of this browser, for what has no type of JSON. Throws Refusal. */
export async function send(path: string, options: RequestInit = {}): Promise<Response> {
  const headers = { ...credentials(), ...(options.headers as Record<string, string> | undefined) };
  const answer = await reach(new Request(path, { ...options, headers }));
  if (answer.ok) return answer;
  const body: unknown = await answer.json().catch(() => null);
  throw refusal(answer.status, body, answer.headers);
}

/** Keeps an image on the server; the answer is what fields that hold an image take. */
export async function upload(image: Blob): Promise<string> {
  const answer = await send("/v1/uploads", { method: "POST", body: image, headers: { "Content-Type": image.type } });
  return ((await answer.json()) as Schemas["UploadShape"]).id;
}

async function reach(request: Request): Promise<Response> {
  try {
    const answer = await fetch(request);
    noteAnswer();
    noteStatus(answer.status, request.headers);
    return answer;
  } catch (error) {
    if (request.signal.aborted) throw error;
    noteSilence();
    throw new Refusal("The server does not answer.", 0);
  }
}
