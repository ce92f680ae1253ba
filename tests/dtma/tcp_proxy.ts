/** A TCP proxy on the loopback whose connections a test can cut or stall. */
export interface Proxy {
  port: number;
  /** Closes all connections now. */
  cut(): void;
  /** Closes them when so many more bytes went through, in both directions together. */
  cutAfter(bytes: number): void;
  /** Goes on reading nothing and writing nothing, with the connections open (half-open). */
  stall(): void;
  /** Forwards again. */
  resume(): void;
  /** Connections made since the start. */
  readonly connections: number;
  /** Takes no more connections and cuts those there are. */
  close(): void;
}

/**
 * @param port where connections are forwarded to, on 127.0.0.1
 * @param at the port that it listens at; any, when left out
 */
export function tcpProxy(port: number, at = 0): Proxy {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: at });
  const open = new Set<Deno.Conn>();
  let left = Infinity, connections = 0;
  let stalled: { promise: Promise<void>; resolve: () => void } | null = null;

  const drop = (connection: Deno.Conn) => {
    if (!open.delete(connection)) return;
    connection.close();
  };
  const cut = () => {
    left = Infinity;
    for (const connection of [...open]) drop(connection);
    stalled?.resolve();
  };
  async function forward(from: Deno.Conn, to: Deno.Conn) {
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (;;) {
        const count = await from.read(buffer);
        if (count === null) break;
        await stalled?.promise;
        const passed = Math.min(count, left);
        for (let at = 0; at < passed;) at += await to.write(buffer.subarray(at, passed));
        left -= passed;
        if (left <= 0) cut();
      }
    } catch {
      // Cut.
    }
    drop(from);
    drop(to);
  }
  (async () => {
    for await (const near of listener) {
      connections++;
      try {
        const far = await Deno.connect({ hostname: "127.0.0.1", port });
        near.setNoDelay(true);
        far.setNoDelay(true);
        open.add(near).add(far);
        forward(near, far);
        forward(far, near);
      } catch {
        near.close();
      }
    }
  })();
  return {
    port: listener.addr.port,
    get connections() {
      return connections;
    },
    cut,
    cutAfter: (bytes) => void (left = bytes),
    stall: () => void (stalled ??= Promise.withResolvers<void>()),
    resume() {
      stalled?.resolve();
      stalled = null;
    },
    close() {
      listener.close();
      cut();
    },
  };
}
