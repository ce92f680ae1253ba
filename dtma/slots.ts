/** So many at once and no more; the others wait their turn, first come first served. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Waits for a slot. @returns what gives it back, once however often called; throws on abort */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free--;
    else {
      const turn = Promise.withResolvers<void>();
      const giveUp = () => {
        const at = this.#waiting.indexOf(turn.resolve);
        // It has its turn already, in this very moment.
        if (at < 0) return;
        this.#waiting.splice(at, 1);
        turn.reject(signal.reason);
      };
      this.#waiting.push(turn.resolve);
      signal.addEventListener("abort", giveUp, { once: true });
      await turn.promise.finally(() => signal.removeEventListener("abort", giveUp));
    }
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    };
  }
}
