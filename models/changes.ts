import type { Change, Database } from "./db.ts";

interface Reader {
  matches: (change: Change) => boolean;
  wake: (change: Change | null) => void;
}

/** One reader's place in the queue for wake-ups. */
export interface Subscription {
  /**
   * Waits for the next change that matches, or one that came since the last wait.
   *
   * @returns true when woken by a change, false after `timeoutMs` or when `signal` aborts
   */
  next(timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
  close(): void;
}

/**
 * Fans one LISTEN out to every reader that waits in this process. Only a wake-up: what changed is
 * read from the tables, and a reader must look again after a while even if nobody woke it, since a
 * notification can be lost with a connection. Where the database cannot notify, the wake-up comes
 * every `pollMs` instead.
 */
export class Changes {
  #readers = new Set<Reader>();
  #stop: Promise<() => Promise<void> | void>;

  constructor(db: Pick<Database, "listen">, pollMs = 1000) {
    this.#stop = db.listen
      ? db.listen((change) => this.#publish(change))
      : Promise.resolve(poll(() => this.#publish(null), pollMs));
    // A start-up failure shows at the first query; here it would be an unhandled rejection.
    this.#stop.catch(() => {});
  }

  subscribe(matches: (change: Change) => boolean): Subscription {
    let woken = false;
    let resolve: ((woken: boolean) => void) | null = null;
    const reader = {
      matches,
      wake: () => {
        woken = true;
        resolve?.(true);
      },
    };
    this.#readers.add(reader);
    return {
      next: async (timeoutMs, signal) => {
        if (!woken && !signal?.aborted) {
          let timer: ReturnType<typeof setTimeout> | undefined;
          const give = () => resolve?.(false);
          await new Promise<boolean>((settle) => {
            resolve = settle;
            timer = setTimeout(give, timeoutMs);
            signal?.addEventListener("abort", give, { once: true });
          });
          clearTimeout(timer);
          signal?.removeEventListener("abort", give);
          resolve = null;
        }
        const was = woken;
        woken = false;
        return was;
      },
      close: () => {
        this.#readers.delete(reader);
        resolve?.(false);
      },
    };
  }

  /**
   * Calls `onChange` at each wake-up, to drop what is cached; where it polls, at each tick and without a
   * change. Returns the way to stop.
   */
  watch(
    matches: (change: Change) => boolean,
    onChange: (change: Change | null) => void,
  ): () => void {
    const reader = { matches, wake: onChange };
    this.#readers.add(reader);
    return () => void this.#readers.delete(reader);
  }

  async close(): Promise<void> {
    await (await this.#stop.catch(() => () => {}))();
  }

  #publish(change: Change | null) {
    for (const reader of this.#readers) if (!change || reader.matches(change)) reader.wake(change);
  }
}

function poll(tick: () => void, everyMs: number): () => void {
  const timer = setInterval(tick, everyMs);
  return () => clearInterval(timer);
}
