import { Refusal } from "./errors";
import { send } from "./client";

/** One server-sent event. */
export interface StreamEvent {
  id: string;
  name: string;
  data: unknown;
}

const WAIT_MS = 1000;

/** The events of a path, until the stream ends or `signal` stops it. A lost connection is made again behind the last event. */
export async function* events(path: string, signal: AbortSignal): AsyncGenerator<StreamEvent> {
  let last = "";
  while (!stopped(signal)) {
    try {
      const headers: Record<string, string> = last === "" ? {} : { "Last-Event-ID": last };
      const answer = await send(path, { signal, headers });
      for await (const event of parsed(answer)) {
        last = event.id || last;
        yield event;
      }
      return;
    } catch (error) {
      if (stopped(signal)) return;
      if (error instanceof Refusal && !error.away) throw error;
      await new Promise((done) => setTimeout(done, WAIT_MS));
    }
  }
}

/** Asked through a function: what a signal says changes while one waits. */
function stopped(signal: AbortSignal): boolean {
  return signal.aborted;
}

async function* parsed(answer: Response): AsyncGenerator<StreamEvent> {
  if (answer.body === null) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = eventOf(block);
      if (event !== null) yield event;
    }
  }
}

/** An event of its lines; null for a sign of life. */
export function eventOf(block: string): StreamEvent | null {
  const lines = new Map<string, string>();
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at > 0) lines.set(line.slice(0, at), line.slice(at + 1).trimStart());
  }
  const name = lines.get("event");
  const data = lines.get("data");
  return name === undefined || data === undefined ? null : { id: lines.get("id") ?? "", name, data: JSON.parse(data) };
}
