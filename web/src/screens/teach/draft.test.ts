import { describe, expect, test, vi } from "vitest";

vi.stubGlobal("sessionStorage", { getItem: () => null, setItem: () => undefined });
const { EMPTY, jobOf, settingsOf, withImages } = await import("./draft");

const image = (id: string, caption = "") => ({ id, name: `${id}.png`, caption });

describe("what is to be taught", () => {
  test("an image is taken once", () => {
    expect(withImages([image("a")], [image("a"), image("b"), image("b")]).map((one) => one.id)).toEqual(["a", "b"]);
  });

  test("only what was said is sent", () => {
    expect(settingsOf(EMPTY)).toEqual({ method: "lora", preset: "thing", word: "zwx" });
    const said = settingsOf({ ...EMPTY, word: " spoki ", like: "cat", model: "m", steps: 40, prior: 0, rate: 0.001, name: " n ", overwrite: true });
    expect(said).toEqual({ method: "lora", preset: "thing", word: "spoki", like: "cat", model: "m", steps: 40, prior: 0, rate: 0.001, name: "n", overwrite: true });
  });

  test("captions are sent as soon as there is one, the others with the usual words", () => {
    const none = jobOf({ ...EMPTY, images: [image("a"), image("b")] }, 120, "a zwx");
    expect(none).toMatchObject({ images: ["a", "b"], sample_every: 20 });
    expect(none).not.toHaveProperty("captions");
    const one = jobOf({ ...EMPTY, images: [image("a"), image("b", " a zwx on grass ")] }, 3, "a zwx");
    expect(one).toMatchObject({ captions: ["a zwx", "a zwx on grass"], sample_every: 10 });
  });

  test("each line of the samples is a prompt, at most four", () => {
    expect(jobOf({ ...EMPTY, images: [image("a")], sample: "a\n\n b \nc\nd\ne" }, 60, "")).toMatchObject({ samples: ["a", "b", "c", "d"] });
  });
});
