import { Refusal } from "./errors";

const WAIT_MS = 1000;

/** Tries again while the server does not answer: the shell says so meanwhile. */
export async function patiently<T>(run: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof Refusal) || !error.away) throw error;
      await new Promise((done) => setTimeout(done, WAIT_MS));
    }
  }
}
