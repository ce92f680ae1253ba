/** From where on the next is looked for. Files of tests have one each, and most begin elsewhere. */
let next = 20_000 + Math.floor(Math.random() * 12_000);

/**
 * A port that nothing listens at now, below those that the kernel gives to outgoing connections: a
 * process that is killed and started again must find its port free. None is given twice before all
 * were, since whoever has one may listen there much later.
 */
export function freePort(): number {
  for (let tries = 0;; tries++) {
    const port = next;
    next = port === 31_999 ? 20_000 : port + 1;
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse) || tries === 100) throw error;
    }
  }
}
