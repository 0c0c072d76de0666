interface Closed {
  close: () => void;
}

/** Keeps what was read by its address, so many of the latest. What goes is closed, but never while somebody holds it. */
export class Shelf<T extends Closed> {
  private readonly kept = new Map<string, Promise<T>>();
  private readonly held = new Map<string, number>();

  constructor(
    private readonly read: (address: string) => Promise<T>,
    private readonly most: number,
  ) {}

  at(address: string): Promise<T> {
    const found = this.kept.get(address) ?? this.taken(address);
    this.kept.delete(address);
    this.kept.set(address, found);
    this.clear(address);
    return found;
  }

  /** Keeps what is at addresses open until the answer is called. */
  hold(...addresses: string[]): () => void {
    for (const address of addresses) this.held.set(address, (this.held.get(address) ?? 0) + 1);
    return () => {
      for (const address of addresses) {
        const count = (this.held.get(address) ?? 0) - 1;
        if (count > 0) this.held.set(address, count);
        else this.held.delete(address);
      }
    };
  }

  private taken(address: string): Promise<T> {
    const found = this.read(address);
    found.catch(() => this.kept.get(address) === found && this.kept.delete(address));
    return found;
  }

  private clear(latest: string): void {
    for (const [address, found] of this.kept) {
      if (this.kept.size <= this.most) return;
      if (address === latest || this.held.has(address)) continue;
      this.kept.delete(address);
      found.then(
        (one) => one.close(),
        () => undefined,
      );
    }
  }
}
