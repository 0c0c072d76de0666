import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { api, upload } from "../../api/client";
import { Refusal } from "../../api/errors";
import { accept, drop, generate, open, watch } from "./actions";
import { empty, toJson } from "./document";
import { askFor, readCanvas } from "./server";
import { now, show } from "./store";

vi.mock("../../api/client", () => ({
  api: { GET: vi.fn() },
  told: (call: unknown) => call,
  send: vi.fn(),
  upload: vi.fn(() => Promise.resolve("upload:u")),
}));
vi.mock("./raster", () => ({ addressOf: String, hold: () => () => undefined, imageAt: vi.fn(), cutImage: vi.fn(), png: vi.fn() }));
vi.mock("../../api/live", () => ({ changesOf: () => [] }));
vi.mock("../../ui/toasts", () => ({ toast: vi.fn() }));
vi.mock("./server", () => ({ askFor: vi.fn(), readCanvas: vi.fn(), keepCanvas: vi.fn(() => Promise.resolve(2)), canvases: vi.fn(), exported: vi.fn() }));

const ask = vi.mocked(askFor);
const get = vi.mocked(api.GET) as unknown as ReturnType<typeof vi.fn>;
const away = new Refusal("The server does not answer.", 0);
const document = empty(64);
const waiting = { job: "j", frame: document.frame, mask: "" };
const asked = { job: { id: "j", state: "queued", images: [] }, mask: "" } as never;
const made = { id: "j", state: "done", images: [{ id: "i" }], error: null };

beforeEach(() => {
  vi.useFakeTimers();
  ask.mockReset();
  get.mockReset();
  show("c", 1, { document, pending: [] });
});

afterEach(() => vi.useRealTimers());

test("one press is one job, also where it is asked for again", async () => {
  ask.mockRejectedValueOnce(away).mockResolvedValueOnce(asked);
  const both = Promise.all([generate(), generate()]);
  await vi.advanceTimersByTimeAsync(1000);
  await both;
  const [first, second] = ask.mock.calls;
  expect(ask).toHaveBeenCalledTimes(2);
  expect(second?.[1]).toBe(first?.[1]);
  expect(now().pending.map((one) => one.job)).toEqual(["j"]);
});

test("what was asked for on one canvas does not come to another", async () => {
  ask.mockImplementationOnce(() => {
    show("other", 1, { document, pending: [] });
    return Promise.resolve(asked);
  });
  await generate();
  expect(now().pending).toEqual([]);
});

test("a candidate that is taken twice at once becomes one layer, and none on another canvas", async () => {
  const candidate = { pending: waiting, image: { id: "i", url: "/i" } as never };
  await Promise.all([accept(candidate, "a"), accept(candidate, "a")]);
  expect(now().history.present.layers.map((layer) => layer.name)).toEqual(["a"]);

  const leave = () => {
    show("other", 1, { document, pending: [] });
    return Promise.resolve("upload:u");
  };
  vi.mocked(upload).mockImplementationOnce(leave);
  await accept(candidate, "a");
  expect(now().history.present.layers).toEqual([]);

  vi.stubGlobal("createImageBitmap", () => Promise.resolve({ width: 8, height: 8, close: vi.fn() }));
  await drop([new Blob()]);
  expect(now().history.present.layers).toHaveLength(1);
  show("c", 1, { document, pending: [] });
  vi.mocked(upload).mockImplementationOnce(leave);
  await drop([new Blob()]);
  expect(now().history.present.layers).toEqual([]);
  vi.unstubAllGlobals();
});

test("a canvas that comes late is not shown over one that was asked for after it", async () => {
  get.mockResolvedValue({ data: [] });
  let late: (found: never) => void = () => undefined;
  const found = { document: toJson({ document, pending: [] }), revision: 1 } as never;
  vi.mocked(readCanvas).mockImplementation((id) => (id === "old" ? new Promise((done) => (late = done)) : Promise.resolve(found)));
  const old = open(new URLSearchParams("id=old"));
  await vi.advanceTimersByTimeAsync(0);
  expect(await open(new URLSearchParams("id=new"))).toBe("new");
  late(found);
  expect(await old).toBe("new");
  expect(now().id).toBe("new");
});

test("a job is given up only where the server does not have it", async () => {
  show("c", 1, { document, pending: [waiting] });
  get.mockRejectedValueOnce(new Refusal("Busy.", 503)).mockRejectedValueOnce(away).mockResolvedValue(made);
  watch(waiting);
  await vi.advanceTimersByTimeAsync(2000);
  expect(now().pending).toEqual([waiting]);
  await vi.advanceTimersByTimeAsync(2000);
  expect(now().jobs["j"]?.job).toEqual(made);

  show("c", 1, { document, pending: [waiting] });
  get.mockRejectedValue(new Refusal("There is none.", 404));
  watch(waiting);
  await vi.advanceTimersByTimeAsync(0);
  expect(now().pending).toEqual([]);
});
