/** The load balancer between a toolbox and the replicas, which can be made to repeat and to hold back. */
import type { History } from "./history.ts";
import type { Random } from "./random.ts";
import { sleep } from "./waiting.ts";

/** Headers that belong to one hop and not to the message. */
const OF_THE_HOP = ["connection", "host", "content-length", "transfer-encoding", "accept-encoding"];

export class Balancer {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #late = new Set<Promise<void>>();
  #turn = 0;
  /** Whether reports' answers are lost, and reports delivered twice and late. */
  isTroubled = false;
  /** Replays, byte by byte, that a replica accepted: none may. */
  readonly acceptedReplays: string[] = [];

  constructor(
    readonly options: { replicas: () => string[]; random: Random; history: History; name: string },
  ) {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {}, onError: () => unavailable() },
      (request) => this.#serve(request),
    );
  }

  get port(): number {
    return this.#server.addr.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#late);
    // Long polls would hold up a graceful end.
    await Promise.race([this.#server.shutdown(), sleep(1000)]);
  }

  async #serve(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    const headers = new Headers(request.headers);
    for (const name of OF_THE_HOP) headers.delete(name);
    const message = { pathname, headers, body: await request.bytes() };
    if (this.isTroubled && pathname === "/toolbox/report") return await this.#trouble(message);
    return await this.#deliver(message, request.signal);
  }

  async #trouble(message: Message): Promise<Response> {
    const { random, history, name } = this.options;
    const what = random.pick(["answer lost", "held back", "twice", "passed"]);
    history.add("report", { name, what });
    if (what === "held back") {
      // The toolbox sends it anew, signed anew; the first one comes in after that one.
      this.#later(random.between(300, 2500), async () => {
        const { status } = await this.#deliver(message);
        history.add("late report", { name, status });
      });
      return unavailable();
    }
    const answer = await this.#deliver(message);
    if (what === "twice") {
      this.#later(random.between(0, 800), async () => {
        const replay = await this.#deliver(message);
        history.add("replayed report", { name, status: replay.status });
        if (answer.ok && replay.ok) this.acceptedReplays.push(await replay.text());
      });
    }
    return what === "answer lost" ? unavailable() : answer;
  }

  #later(ms: number, act: () => Promise<void>): void {
    const done: Promise<void> = sleep(ms).then(act).catch(() => {})
      .finally(() => this.#late.delete(done));
    this.#late.add(done);
  }

  /** To the next replica, or the one after when nothing listens there. */
  async #deliver({ pathname, headers, body }: Message, signal?: AbortSignal): Promise<Response> {
    const replicas = this.options.replicas();
    for (let attempt = 0; attempt < replicas.length; attempt++) {
      const url = replicas[this.#turn++ % replicas.length] + pathname;
      try {
        return await fetch(url, { method: "POST", headers, body, signal, redirect: "manual" });
      } catch (error) {
        const isRefused = /connection refused/i.test(String((error as Error).cause ?? error));
        if (signal?.aborted || !isRefused) break;
      }
    }
    return unavailable();
  }
}

interface Message {
  pathname: string;
  headers: Headers;
  body: Uint8Array<ArrayBuffer>;
}

/** A proxy's page, which does not speak for the app. */
function unavailable(): Response {
  return new Response("The balancer has nobody to ask", { status: 502 });
}
