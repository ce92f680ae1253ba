/** Reads at most once in a while; a failure is not remembered. */
export function remembered<T>(read: () => Promise<T>, ttlMs: number): () => Promise<T> {
  let known: { value: Promise<T>; atMs: number } | null = null;
  return () => {
    if (known && performance.now() - known.atMs < ttlMs) return known.value;
    const value = read();
    const mine = known = { value, atMs: performance.now() };
    value.catch(() => {
      if (known === mine) known = null;
    });
    return value;
  };
}
