/** Waiting for a time or for an abort, whichever is first. */
import type { CallSignal } from "./call_signal.ts";

/** Resolves when the signal is aborted. */
export function aborted(signal: CallSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  else signal.addEventListener("abort", () => resolve(), { once: true });
  return promise;
}

/** Resolves after a time, or as soon as the signal is aborted. */
export function sleep(ms: number, signal?: CallSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const stop = () => {
    clearTimeout(timer);
    resolve();
  };
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true });
  return promise.finally(() => signal?.removeEventListener("abort", stop));
}
