/** A stretch of network between two processes: a TCP proxy whose weather the nemesis makes. */
import { sleep } from "./waiting.ts";

export type Weather =
  | { kind: "clear" }
  /** Connections are reset, and new ones refused. */
  | { kind: "cut" }
  | { kind: "delayed"; ms: number }
  /**
   * Bytes vanish one way or both and nobody is told, as behind a dead router; when it clears up TCP
   * sends them again, so they arrive late.
   */
  | { kind: "silent"; up: boolean; down: boolean };

export class Link {
  #weather: Weather = { kind: "clear" };
  #changed = Promise.withResolvers<void>();
  #listener: Deno.TcpListener | null = null;
  readonly #connections = new Set<Deno.TcpConn>();
  readonly port: number;

  #turn = 0;

  /** @param targets ports on the loopback address that connections lead to, in turn */
  constructor(readonly targets: () => number[]) {
    this.port = this.#listen(0);
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  set weather(weather: Weather) {
    this.#weather = weather;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
    if (weather.kind === "cut") this.#close();
    else if (!this.#listener) this.#listenAgain(50);
  }

  [Symbol.dispose](): void {
    this.weather = { kind: "cut" };
  }

  #listen(port: number): number {
    const listener = Deno.listen({ hostname: "127.0.0.1", port });
    this.#listener = listener;
    (async () => {
      for await (const connection of listener) {
        this.#carry(connection).catch(() => {});
      }
    })();
    return listener.addr.port;
  }

  /** The port is free when the last accept has ended, which is a little after the close. */
  #listenAgain(attempts: number): void {
    try {
      this.#listen(this.port);
    } catch (error) {
      if (attempts === 0) throw error;
      setTimeout(() => {
        if (!this.#listener && this.#weather.kind !== "cut") this.#listenAgain(attempts - 1);
      }, 20);
    }
  }

  #close(): void {
    this.#listener?.close();
    this.#listener = null;
    for (const connection of this.#connections) closed(connection);
    this.#connections.clear();
  }

  async #carry(down: Deno.TcpConn): Promise<void> {
    this.#connections.add(down);
    let up: Deno.TcpConn | null = null;
    try {
      up = await this.#connect();
      this.#connections.add(up);
      await Promise.race([this.#pump(down, up, "up"), this.#pump(up, down, "down")]);
    } finally {
      for (const each of [down, up]) {
        if (!each) continue;
        this.#connections.delete(each);
        closed(each);
      }
    }
  }

  /** To the next target, or the one after when nothing listens there. */
  async #connect(): Promise<Deno.TcpConn> {
    const targets = this.targets();
    for (let attempt = 1;; attempt++) {
      const port = targets[this.#turn++ % targets.length];
      try {
        return await Deno.connect({ hostname: "127.0.0.1", port });
      } catch (error) {
        if (attempt >= targets.length) throw error;
      }
    }
  }

  async #pump(from: Deno.TcpConn, to: Deno.TcpConn, way: "up" | "down"): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    for (;;) {
      const count = await from.read(buffer);
      await this.#passage(way);
      if (count === null) return;
      for (let sent = 0; sent < count;) sent += await to.write(buffer.subarray(sent, count));
    }
  }

  async #passage(way: "up" | "down"): Promise<void> {
    while (this.#weather.kind === "silent" && this.#weather[way]) await this.#changed.promise;
    if (this.#weather.kind === "delayed") await sleep(this.#weather.ms);
  }
}

function closed(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch {
    // The other end did.
  }
}
