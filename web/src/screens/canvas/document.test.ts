import { expect, test } from "vitest";

import { type Document, empty, extent, fromJson, type Layer, movedLayer, raisedLayer, seen, toJson } from "./document";

function layer(id: string, more: Partial<Layer> = {}): Layer {
  return { id, name: id, image: `upload:${id}`, box: { x: 0, y: 0, width: 10, height: 10 }, visible: true, opacity: 1, control: null, ...more };
}

const control = { type: "canny", annotator: "none", weight: 0.5, start: 0, end: 0.8 };
const document: Document = {
  ...empty(128),
  settings: { prompt: "a hill", negative: "fog", strength: 0.3, count: 4, content: "latent noise", blur: 0, more: { steps: 9 } },
  name: "Hills",
  layers: [layer("a"), layer("b", { box: { x: 50, y: -5, width: 20, height: 20 } }), layer("c", { visible: false }), layer("d", { control })],
  strokes: [{ kind: "paint", size: 12, points: [1, 2, 3.5, -4] }, { kind: "area", size: 12, points: [0, 0, 9, 0, 9, 9] }],
  regions: [{ id: "r", box: { x: 0, y: 0, width: 9, height: 9 }, prompt: "p", negative: "", weight: 2 }],
};

test("a canvas comes back from its JSON", () => {
  const kept = { document, pending: [{ job: "j", frame: document.frame, mask: "upload:m" }] };
  const json = JSON.parse(JSON.stringify(toJson(kept))) as Record<string, unknown>;
  expect(fromJson(json, 512)).toEqual(kept);
  expect((json["strokes"] as { points: unknown }[])[0]?.points).toBe("1 2 3.5 -4");
});

test("what is damaged in a canvas is left out", () => {
  expect(fromJson(null, 128)).toEqual({ document: empty(128), pending: [] });
  const found = fromJson({ layers: [1, { image: "upload:x" }, layer("a")], strokes: [{ kind: "paint", size: 1, points: "1 x" }], frame: { x: 1 } }, 128);
  expect(found.document).toEqual({ ...empty(128), layers: [layer("a")] });
  const { settings } = fromJson({ settings: { prompt: 3, strength: "1", content: "lava", blur: 9, more: [] } }, 128).document;
  expect(settings).toEqual({ ...empty(128).settings, blur: 9 });
});

test("layers go up and down, and no farther than there are", () => {
  const order = (one: Document) => one.layers.map(({ id }) => id).join("");
  expect(order(raisedLayer(document, "a", 1))).toBe("bacd");
  expect(order(raisedLayer(document, "d", -2))).toBe("adbc");
  expect(raisedLayer(document, "d", 1)).toBe(document);
  expect(raisedLayer(document, "x", 1)).toBe(document);
});

test("what is seen is neither hidden nor a control", () => {
  expect(seen(document).map(({ id }) => id)).toEqual(["a", "b"]);
  expect(extent(document)).toEqual({ x: 0, y: -5, width: 70, height: 20 });
  expect(extent(movedLayer(document, "a", -8, 0))).toEqual({ x: -8, y: -5, width: 78, height: 20 });
  expect(extent(empty(64))).toBeNull();
});
