/** What was refused, counted until DTMA takes it: bounded however hard a server tries. */

export interface Denied {
  serverId: string;
  host: string;
  port: number;
  reason: string;
  count: number;
  at: string;
}

/** Different refusals of one server that are told apart between two deliveries. */
const PER_SERVER = 16;

/** Waiting for a DTMA that is away; beyond it new ones are forgotten. */
const LIMIT = 2000;

export class Denials {
  #waiting = new Map<string, Denied>();
  #perServer = new Map<string, number>();

  /** Counts one. `host` is the server's word and may be anything, nothing at all too. */
  add(serverId: string, host: string, port: number, reason: string): void {
    const key = (text: string) => `${serverId} ${text} ${port} ${reason}`;
    const name = host.toLowerCase().replaceAll(/[^a-z0-9.*:_-]/g, "?").slice(0, 253) || "?";
    const at = new Date().toISOString();
    const known = this.#waiting.get(key(name));
    if (known) {
      known.count++;
      known.at = at;
      return;
    }
    const different = this.#perServer.get(serverId) ?? 0;
    if (different >= PER_SERVER) {
      // A server that asks for a thousand made-up names says no more by the thousandth.
      const rest = `${serverId} rest`;
      const others = this.#waiting.get(rest);
      if (others) {
        others.count++;
        others.at = at;
      } else if (this.#waiting.size < LIMIT) {
        this.#waiting.set(rest, {
          ...{ serverId, host: "*", port: 0, count: 1, at },
          reason: "Refused too: more different hosts than are told apart",
        });
      }
      return;
    }
    if (this.#waiting.size >= LIMIT) return;
    this.#perServer.set(serverId, different + 1);
    this.#waiting.set(key(name), { serverId, host: name, port, reason, count: 1, at });
  }

  /** Takes at most `limit` of what waits, oldest first. */
  take(limit: number): Denied[] {
    const taken = [...this.#waiting].slice(0, limit);
    for (const [key] of taken) this.#waiting.delete(key);
    if (this.#waiting.size === 0) this.#perServer.clear();
    return taken.map(([, denied]) => denied);
  }
}
