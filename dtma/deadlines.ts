/**
 * Timeouts of which many are set and nearly none comes: those of one length are a queue with one timer,
 * where a timer of the runtime for each costs a call several microseconds.
 */

/** A timeout that was set; see {@link after}. */
export interface Deadline {
  /** Once it has come, or was cancelled, this does nothing. */
  cancel(): void;
}

const queues = new Map<number, Queue>();

/** Calls `act` after `ms` milliseconds, unless the deadline is cancelled before. */
export function after(ms: number, act: () => void): Deadline {
  let queue = queues.get(ms);
  if (!queue) queues.set(ms, queue = new Queue(ms));
  return queue.add(act);
}

/** Those of one length, which come in the order in which they were set. */
class Queue {
  readonly #ms: number;
  readonly #waiting = new Set<Waiting>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ms: number) {
    this.#ms = ms;
  }

  add(act: () => void): Deadline {
    const waiting = new Waiting(this, act, performance.now() + this.#ms);
    this.#waiting.add(waiting);
    this.#timer ??= setTimeout(() => this.#look(), this.#ms);
    return waiting;
  }

  cancel(waiting: Waiting): void {
    if (!this.#waiting.delete(waiting) || this.#waiting.size > 0) return;
    clearTimeout(this.#timer);
    queues.delete(this.#ms);
  }

  #look(): void {
    this.#timer = undefined;
    const nowMs = performance.now();
    for (const waiting of this.#waiting) {
      // A timer of the runtime may come a moment early.
      if (waiting.atMs > nowMs + 1) {
        this.#timer ??= setTimeout(() => this.#look(), waiting.atMs - nowMs);
        return;
      }
      waiting.cancel();
      waiting.act();
    }
  }
}

class Waiting implements Deadline {
  constructor(readonly queue: Queue, readonly act: () => void, readonly atMs: number) {}

  cancel(): void {
    this.queue.cancel(this);
  }
}
