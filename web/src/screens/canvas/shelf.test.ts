import { expect, test, vi } from "vitest";

import { Shelf } from "./shelf";

test("what goes is closed, the longest unused first, but not what is held", async () => {
  const closed: string[] = [];
  const shelf = new Shelf((address) => Promise.resolve({ close: () => closed.push(address) }), 2);
  const release = shelf.hold("a");
  for (const address of ["a", "b", "c", "b", "d"]) await shelf.at(address);
  await vi.waitFor(() => expect(closed).toEqual(["b", "c", "b"]));
  release();
  await shelf.at("e");
  await vi.waitFor(() => expect(closed).toEqual(["b", "c", "b", "a"]));
});

test("what could not be read is read again", async () => {
  const read = vi.fn().mockRejectedValueOnce(new Error("away")).mockResolvedValueOnce({ close: vi.fn() });
  const shelf = new Shelf(read, 2);
  await expect(shelf.at("a")).rejects.toThrow("away");
  await shelf.at("a");
  await shelf.at("a");
  expect(read).toHaveBeenCalledTimes(2);
});
