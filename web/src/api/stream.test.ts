import { expect, test } from "vitest";

import { eventOf } from "./stream";

test("an event is read of its lines", () => {
  expect(eventOf('id: 7\nevent: progress\ndata: {"done": 3}')).toEqual({ id: "7", name: "progress", data: { done: 3 } });
});

test("a sign of life is no event", () => {
  expect(eventOf(": alive")).toBeNull();
});

test("a value may hold colons", () => {
  expect(eventOf('event: warning\ndata: {"message": "a: b"}')?.data).toEqual({ message: "a: b" });
});
