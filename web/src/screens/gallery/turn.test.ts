import { expect, test } from "vitest";

import { inTurn } from "./turn";

test("searches wait for one another, and what was typed over is never asked for", async () => {
  const asked: string[] = [];
  const answers = new Map<string, (found: string) => void>();
  const search = (q: string) => () =>
    new Promise<string>((answer) => {
      asked.push(q);
      answers.set(q, answer);
    });
  const typed = { m: new AbortController(), mo: new AbortController(), moo: new AbortController() };
  const first = inTurn(typed.m.signal, search("m"));
  const second = inTurn(typed.mo.signal, search("mo"));
  const third = inTurn(typed.moo.signal, search("moo"));
  typed.mo.abort();
  await Promise.resolve();
  expect(asked).toEqual(["m"]);
  answers.get("m")?.("one");
  expect(await first).toBe("one");
  await expect(second).rejects.toThrow();
  await new Promise((soon) => setTimeout(soon));
  expect(asked).toEqual(["m", "moo"]);
  answers.get("moo")?.("two");
  expect(await third).toBe("two");
});

test("a search that failed lets the next one go on", async () => {
  const { signal } = new AbortController();
  const failing = inTurn(signal, () => Promise.reject(new Error("away")));
  const next = inTurn(signal, () => Promise.resolve("found"));
  await expect(failing).rejects.toThrow("away");
  expect(await next).toBe("found");
});
