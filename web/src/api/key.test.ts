import { beforeEach, expect, test, vi } from "vitest";

import { isRefused, key, noteStatus, onKey, setKey } from "./key";

beforeEach(() => {
  const kept = new Map<string, string>();
  vi.stubGlobal("localStorage", {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => kept.set(name, value),
    removeItem: (name: string) => kept.delete(name),
  });
  setKey("");
});

const without = new Headers();
const withMine = new Headers({ Authorization: "Bearer mine" });

test("a refused request asks for a key, once", () => {
  const told = vi.fn();
  const leave = onKey(told);
  noteStatus(401, without);
  noteStatus(401, without);
  leave();
  expect([isRefused(), told.mock.calls.length]).toEqual([true, 1]);
});

test("a key that is refused is asked for again", () => {
  setKey("mine");
  noteStatus(401, withMine);
  expect([isRefused(), key()]).toEqual([true, "mine"]);
});

test("an answer to a request without the key, or with the one before, does not refuse the key", () => {
  noteStatus(401, without);
  setKey("mine");
  noteStatus(401, without);
  noteStatus(401, new Headers({ Authorization: "Bearer old" }));
  expect(isRefused()).toBe(false);
});

test("no other answer asks for a key", () => {
  for (const status of [200, 403, 404, 429, 503]) noteStatus(status, without);
  expect(isRefused()).toBe(false);
});
