/**
 * A port that nothing listens at now, below those that the kernel gives to outgoing connections: a
 * process that is killed and started again must find its port free.
 */
export function freePort(): number {
  for (let tries = 0;; tries++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse) || tries === 100) throw error;
    }
  }
}
