let turn: Promise<unknown> = Promise.resolve();

/**
 * Searches are asked for at every letter, but one after the other, and those that were typed over meanwhile not at all:
 * so a server that takes long over one is not asked for many at once. Throws what `search` throws, and the signal's reason.
 */
export function inTurn<T>(signal: AbortSignal, search: () => Promise<T>): Promise<T> {
  const mine = turn.then(() => {
    signal.throwIfAborted();
    return search();
  });
  turn = mine.catch(() => undefined);
  return mine;
}
