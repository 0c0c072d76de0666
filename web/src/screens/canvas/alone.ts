/** Of calls at the same time only the first does something; it alone hears of a failure. The others end with it. */
export function alone<Given extends unknown[]>(run: (...given: Given) => Promise<void>): (...given: Given) => Promise<void> {
  let running: Promise<void> | null = null;
  return (...given) => {
    if (running !== null) return running.catch(() => undefined);
    running = run(...given).finally(() => {
      running = null;
    });
    return running;
  };
}
