import { expect, test } from "vitest";

import { fieldsOf } from "./fields";

const schema = {
  properties: {
    steps: {
      anyOf: [{ maximum: 1000, minimum: 1, type: "integer" }, { type: "null" }],
      default: null,
      description: "Steps of the sampler.",
      "x-group": "basic",
      "x-kind": "int",
    },
    tile: { default: "none", enum: ["none", "x"], type: "string", "x-group": "layout", "x-kind": "text" },
    seed_resize: {
      anyOf: [{ type: "array", prefixItems: [{ maximum: 4096, minimum: 0, type: "integer" }] }, { type: "null" }],
      default: null,
      "x-group": "noise",
      "x-kind": "size",
    },
    sampler: { default: null, "x-kind": "text", "x-list": "samplers" },
  },
};

test("the schema of the server becomes fields in its order", () => {
  const [steps, tile, size, sampler] = fieldsOf(schema);
  expect(steps).toEqual({
    name: "steps", group: "basic", kind: "int", help: "Steps of the sampler.", initial: null, low: 1, high: 1000, step: null,
    options: null, list: null,
  });
  expect(tile?.options).toEqual(["none", "x"]);
  expect([size?.kind, size?.low, size?.high]).toEqual(["size", 0, 4096]);
  expect([sampler?.list, sampler?.group]).toEqual(["samplers", "basic"]);
});
