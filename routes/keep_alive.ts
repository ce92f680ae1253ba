/** An edge isolate may be stopped once it has answered, unless it is told of work that goes on. */
export function keepAlive(work: Promise<void>) {
  const { EdgeRuntime } = globalThis as {
    EdgeRuntime?: { waitUntil(work: Promise<unknown>): void };
  };
  EdgeRuntime?.waitUntil(work);
}
