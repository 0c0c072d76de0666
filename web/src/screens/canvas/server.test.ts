import { expect, test, vi } from "vitest";

import { send } from "../../api/client";
import { empty } from "./document";
import { keepCanvas } from "./server";

vi.mock("../../api/client", () => ({ send: vi.fn(() => Promise.resolve(Response.json({ revision: 2 }))) }));

const sent = vi.mocked(send);

test("a large canvas is sent without keepalive, which a browser would refuse", async () => {
  const plain = empty(64);
  for (const [name, keepalive] of [["a", true], ["山".repeat(21_000), false]] as const) {
    await keepCanvas("c", { document: { ...plain, name }, pending: [] }, 1, true);
    expect(sent.mock.lastCall?.[1]).toMatchObject({ keepalive, headers: { "If-Match": '"1"' } });
  }
});

test("a canvas that replaces whatever is there names no revision", async () => {
  await keepCanvas("c", { document: empty(64), pending: [] }, null);
  expect(sent.mock.lastCall?.[1]?.headers).not.toHaveProperty("If-Match");
});
