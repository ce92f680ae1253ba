/**
 * Timeouts of which many are set and nearly none comes: those of one length are a queue with one timer,
 * where a timer of the runtime for each costs a call several microseconds.
 */
import { clearTimeout, setTimeout } from "node:timers";
import { BriefMap } from "./brief_map.ts";

/** A timeout that was set; see {@link after}. */
export interface Deadline {
  /** Once it has come, or was cancelled, this does nothing. */
  cancel(): void;
}

/** By their length. Of lengths there are few, so a queue stays when it is empty. */
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
  readonly #waiting = new BriefMap<number, Waiting>();
  #lastId = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(ms: number) {
    this.#ms = ms;
  }

  add(act: () => void): Deadline {
    const waiting = new Waiting(this, ++this.#lastId, act, performance.now() + this.#ms);
    this.#waiting.set(waiting.id, waiting);
    if (!this.#timer) this.#timer = setTimeout(() => this.#look(), this.#ms);
    else if (this.#waiting.size === 1) this.#timer.ref();
    return waiting;
  }

  cancel(waiting: Waiting): void {
    if (!this.#waiting.delete(waiting.id) || this.#waiting.size > 0) return;
    // Left to run out: to clear it and make another costs a tenth of a call that comes alone.
    this.#timer?.unref();
  }

  #look(): void {
    this.#timer = undefined;
    const nowMs = performance.now();
    for (let waiting = this.#first(); waiting; waiting = this.#first()) {
      // A timer of the runtime may come a moment early.
      if (waiting.atMs > nowMs + 1) {
        // What was just called may have set one, for its own deadline: too late for this one.
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#look(), waiting.atMs - nowMs);
        return;
      }
      waiting.cancel();
      waiting.act();
    }
  }

  #first(): Waiting | undefined {
    return this.#waiting.values().next().value;
  }
}

class Waiting implements Deadline {
  constructor(
    readonly queue: Queue,
    readonly id: number,
    readonly act: () => void,
    readonly atMs: number,
  ) {}

  cancel(): void {
    this.queue.cancel(this);
  }
}
