/** When a server that went down is started again, and when no more. */

const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 300_000;
const HEALTHY_MS = 10 * 60_000;
const QUICK_MS = 60_000;
const QUICK_FAILURES = 5;

export class RestartPolicy {
  #delayMs = FIRST_DELAY_MS;
  #quickFailures = 0;

  /** Failures in a row that came within a minute of the start. */
  get quickFailures(): number {
    return this.#quickFailures;
  }

  /**
   * Told of a failure `upMs` after the start, says how long to wait before the next one: a second,
   * doubled each time up to 300, with a quarter of jitter either way so that servers that fell
   * together do not rise together. Ten healthy minutes start the count anew; null, after five
   * quick failures in a row, means to give up until a person acts.
   */
  failed(upMs: number): number | null {
    if (upMs >= HEALTHY_MS) this.#delayMs = FIRST_DELAY_MS;
    this.#quickFailures = upMs < QUICK_MS ? this.#quickFailures + 1 : 0;
    if (this.#quickFailures >= QUICK_FAILURES) return null;
    const delayMs = this.#delayMs;
    this.#delayMs = Math.min(2 * delayMs, LONGEST_DELAY_MS);
    return Math.min(LONGEST_DELAY_MS, delayMs * (0.75 + Math.random() / 2));
  }
}
