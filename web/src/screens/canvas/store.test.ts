import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Refusal } from "../../api/errors";
import { toast } from "../../ui/toasts";
import { type Document, empty, type Kept, toJson } from "./document";
import { keepCanvas, readCanvas } from "./server";
import { edit, joined, keep, now, readAgain, setPending, show, undo } from "./store";

vi.mock("./server", () => ({ keepCanvas: vi.fn(), readCanvas: vi.fn() }));
vi.mock("../../ui/toasts", () => ({ toast: vi.fn() }));

const put = vi.mocked(keepCanvas);
const read = vi.mocked(readCanvas);
const away = new Refusal("The server does not answer.", 0);
const document = empty(64);

function pending(job: string) {
  return { job, frame: document.frame, mask: "" };
}

function name(value: string): void {
  edit((one) => ({ ...one, name: value }));
}

function there(revision: number, kept: Kept) {
  return { document: toJson(kept), revision } as never;
}

function named(value: string): Document {
  return { ...document, name: value };
}

beforeEach(() => {
  vi.useFakeTimers();
  put.mockReset();
  read.mockReset();
  vi.mocked(toast).mockReset();
  show("c", 1, { document, pending: [] });
});

afterEach(() => vi.useRealTimers());

test("after a failure a canvas is kept again", async () => {
  put.mockRejectedValueOnce(new Refusal("No.", 422)).mockResolvedValueOnce(2);
  name("a");
  await keep();
  expect(now().saving).toBe("refused");
  name("b");
  await keep();
  expect(now()).toMatchObject({ saving: "kept", revision: 2 });
});

test("a server that is away is tried again, also where it goes while the canvas is read", async () => {
  put.mockRejectedValueOnce(away).mockRejectedValueOnce(new Refusal("Changed.", 412)).mockResolvedValueOnce(2);
  read.mockRejectedValueOnce(away);
  name("a");
  await keep();
  expect(now().saving).toBe("changed");
  await vi.advanceTimersByTimeAsync(2000);
  expect(now().saving).toBe("changed");
  await vi.advanceTimersByTimeAsync(2000);
  expect(now()).toMatchObject({ saving: "kept", revision: 2 });
  expect(toast).not.toHaveBeenCalled();
});

test("a canvas that was removed elsewhere is put anew", async () => {
  put.mockRejectedValueOnce(new Refusal("Changed.", 412)).mockResolvedValueOnce(1);
  read.mockRejectedValueOnce(new Refusal("There is none.", 404));
  name("a");
  await keep();
  expect(put.mock.lastCall?.[2]).toBeNull();
  expect(now()).toMatchObject({ saving: "kept", revision: 1 });
});

test("where only an answer was lost nothing that was done since is taken back", async () => {
  put.mockRejectedValueOnce(away).mockRejectedValueOnce(new Refusal("Changed.", 412)).mockResolvedValueOnce(3);
  read.mockResolvedValueOnce(there(2, { document: named("a"), pending: [] }));
  name("a");
  await keep();
  name("b");
  await keep();
  expect(now()).toMatchObject({ saving: "changed", revision: 2 });
  expect(now().history.present.name).toBe("b");
  await vi.advanceTimersByTimeAsync(500);
  expect(put.mock.lastCall?.[2]).toBe(2);
  expect(now()).toMatchObject({ saving: "kept", revision: 3 });
});

test("what was done while the canvas was read can be had back, and jobs of both sides stay", async () => {
  read.mockImplementationOnce(() => {
    name("mine");
    setPending([pending("mine")]);
    return Promise.resolve(there(2, { document: named("theirs"), pending: [pending("theirs")] }));
  });
  await readAgain();
  expect(now().history.present.name).toBe("theirs");
  expect(now().pending.map((one) => one.job)).toEqual(["theirs", "mine"]);
  expect(now().saving).toBe("changed");
  undo();
  expect(now().history.present.name).toBe("mine");
});

test("a job that one side took or left does not come back from the other", () => {
  const [a, b, c] = [pending("a"), pending("b"), pending("c")];
  expect(joined([a, b], [b, c], [a])).toEqual([c]);
  expect(joined([a], [a], [a, b])).toEqual([a, b]);
});
