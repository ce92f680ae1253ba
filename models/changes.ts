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

const PROBE = "probe";
const PROBE_EVERY_MS = 1000;
const NOTHING = { workspace: null, server: null, toolbox: null, agent: null };

/**
 * Fans one LISTEN out to every reader that waits in this process. Only a wake-up: what changed is
 * read from the tables, and a reader must look again after a while even if nobody woke it, since a
 * notification can be lost with a connection. Where the database cannot notify, the wake-up comes
 * every `pollMs` instead.
 */
export class Changes {
  readonly #db: Pick<Database, "listen" | "asApp">;
  #readers = new Set<Reader>();
  #stop: Promise<() => Promise<void> | void>;
  /** The last probe that came back, and the one that is under way, by when they were sent. */
  #heardAtMs = -Infinity;
  #probe: { id: string; atMs: number } | null = null;

  constructor(db: Pick<Database, "listen" | "asApp">, pollMs = 1000) {
    this.#db = db;
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

  /**
   * Since how many milliseconds this process may not have been told of a change. Notifications come in
   * the order of their transactions, so a probe of our own that comes back proves that all before it
   * were heard: one a second serves all caches, however many they hold. It is sent when somebody asks.
   */
  untoldMs(): number {
    const nowMs = performance.now();
    if (this.#db.listen && nowMs - (this.#probe?.atMs ?? this.#heardAtMs) > PROBE_EVERY_MS) {
      this.#sendProbe(nowMs);
    }
    return nowMs - this.#heardAtMs;
  }

  #sendProbe(atMs: number): void {
    const id = crypto.randomUUID();
    this.#probe = { id, atMs };
    const probe: Change = { ...NOTHING, table: PROBE, session: id };
    // Lost, it is followed by another; meanwhile whoever asks reads the tables.
    this.#db.asApp`select pg_notify('mooring', ${JSON.stringify(probe)})`.catch(() => {});
  }

  async close(): Promise<void> {
    await (await this.#stop.catch(() => () => {}))();
  }

  #publish(change: Change | null) {
    if (change?.table === PROBE) {
      if (change.session !== this.#probe?.id) return;
      this.#heardAtMs = this.#probe!.atMs;
      this.#probe = null;
      return;
    }
    for (const reader of this.#readers) if (!change || reader.matches(change)) reader.wake(change);
  }
}

function poll(tick: () => void, everyMs: number): () => void {
  const timer = setInterval(tick, everyMs);
  return () => clearInterval(timer);
}
