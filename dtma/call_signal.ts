/**
 * What tells who works on a call that it was given up: an `AbortSignal`, or for the thousands of calls a
 * second that come over a link, of which nearly none is given up, one that costs next to nothing. (With
 * Deno 2.9 an `AbortController` and its listener were a tenth of what a call costs DTMA.)
 */
export interface CallSignal {
  readonly aborted: boolean;
  readonly reason: unknown;
  throwIfAborted(): void;
  addEventListener(type: "abort", listener: () => void, options?: { once: boolean }): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** The signal of one call, for whoever gives it up. Each listener is told once. */
export class BriefSignal implements CallSignal {
  aborted = false;
  reason: unknown = undefined;
  /** Nearly always the only one; an array of it would be a literal, which see at connection.ts's OpenRequest. */
  #listener: (() => void) | null = null;
  #others: Set<() => void> | null = null;

  throwIfAborted(): void {
    if (this.aborted) throw this.reason;
  }

  addEventListener(_type: "abort", listener: () => void): void {
    if (!this.#listener) this.#listener = listener;
    else (this.#others ??= new Set()).add(listener);
  }

  removeEventListener(_type: "abort", listener: () => void): void {
    if (this.#listener === listener) this.#listener = null;
    else this.#others?.delete(listener);
  }

  abort(reason: unknown): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    this.#listener?.();
    for (const listener of this.#others ?? []) listener();
  }
}

/** The same for the runtime's own functions, which take nothing else. */
export function abortSignalOf(signal: CallSignal): AbortSignal {
  if (signal instanceof AbortSignal) return signal;
  const controller = new AbortController();
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  return controller.signal;
}
