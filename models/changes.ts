import type { Change, Database } from "./db.ts";

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
  #readers = new Set<{ matches: (change: Change) => boolean; wake: () => void }>();
  #stop: Promise<() => Promise<void> | void>;

  constructor(db: Pick<Database, "listen">, pollMs = 1000) {
    this.#stop = db.listen
      ? db.listen((change) => this.#publish((reader) => reader.matches(change)))
      : Promise.resolve(poll(() => this.#publish(() => true), pollMs));
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

  /** Calls `onChange` at each wake-up, to drop what is cached; where it polls, at each tick. */
  watch(matches: (change: Change) => boolean, onChange: () => void): void {
    this.#readers.add({ matches, wake: onChange });
  }

  async close(): Promise<void> {
    await (await this.#stop.catch(() => () => {}))();
  }

  #publish(chosen: (reader: { matches: (change: Change) => boolean }) => boolean) {
    for (const reader of this.#readers) if (chosen(reader)) reader.wake();
  }
}

function poll(tick: () => void, everyMs: number): () => void {
  const timer = setInterval(tick, everyMs);
  return () => clearInterval(timer);
}
