/** Watches all engines the whole time: what runs where, what was started when, what servers wrote. */
import { Label } from "../../dtma/policy.ts";
import type { Engine } from "./engine.ts";
import type { History } from "./history.ts";
import { sleep } from "./waiting.ts";

const SAMPLE_EVERY_MS = 100;

/** Something that must not be. */
export interface Violation {
  rule: string;
  detail: string;
}

/** A container that was seen, for as long as the harness runs. */
export interface Seen {
  id: string;
  engine: string;
  serverId: string;
  generation: number;
  instance: string;
  startedMs: number;
  pid: number;
  isRunning: boolean;
  /** What the server wrote down; stays readable after its end. Null if it ended before it was opened. */
  ledger: Deno.FsFile | null;
}

export class Observer {
  readonly violations: Violation[] = [];
  readonly containers = new Map<string, Seen>();
  /** Servers that must not start anything, by a person's will that their toolbox has carried out. */
  readonly atRest = new Map<string, { sinceMs: number; why: string }>();
  samples = 0;
  readonly #ending = new AbortController();
  readonly #watching: Promise<unknown>;

  constructor(readonly engines: Engine[], readonly history: History) {
    this.#watching = Promise.all(
      engines.flatMap((engine) => [this.#sample(engine), this.#listen(engine)]),
    );
  }

  /** Running containers by server, as last seen. */
  runningOf(serverId: string): Seen[] {
    return [...this.containers.values()].filter((each) =>
      each.serverId === serverId && each.isRunning
    );
  }

  /** How often each token was written down, and how many containers could not be read. */
  async ledgers(): Promise<{ counts: Map<string, number>; unread: Seen[] }> {
    const counts = new Map<string, number>();
    const unread: Seen[] = [];
    for (const seen of this.containers.values()) {
      if (!seen.ledger) {
        unread.push(seen);
        continue;
      }
      for (const token of (await contentOf(seen.ledger)).split("\n").filter(Boolean)) {
        counts.set(token, (counts.get(token) ?? 0) + 1);
      }
    }
    return { counts, unread };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#watching;
    for (const { ledger } of this.containers.values()) ledger?.close();
  }

  async #listen(engine: Engine): Promise<void> {
    for await (const { id, labels, atMs } of engine.starts(this.#ending.signal)) {
      if (labels[Label.server]) this.#started(engine, id, labels, atMs);
    }
  }

  async #sample(engine: Engine): Promise<void> {
    while (!this.#ending.signal.aborted) {
      await this.#look(engine).catch(() => {}); // an engine that is away has nothing new
      await sleep(SAMPLE_EVERY_MS);
    }
  }

  async #look(engine: Engine): Promise<void> {
    const list = await engine.docker.listContainers([Label.server]);
    this.samples++;
    const running = list.filter(({ State }) => State === "running");
    const ids = new Set(running.map(({ Id }) => Id));
    for (const seen of this.containers.values()) {
      if (seen.engine === engine.name && seen.isRunning && !ids.has(seen.id)) {
        seen.isRunning = false;
        this.history.add("gone", { server: seen.serverId, container: seen.id.slice(0, 12) });
      }
    }
    for (const { Id, Labels } of running) {
      let seen = this.containers.get(Id);
      if (!seen?.pid) {
        const { State } = await engine.docker.inspectContainer(Id);
        seen = this.#started(engine, Id, Labels, Date.parse(State.StartedAt));
        seen.pid = (State as unknown as { Pid: number }).Pid;
      }
      seen.isRunning = true;
      seen.ledger ??= await Deno.open(`/proc/${seen.pid}/root/tmp/calls`).catch(() => null);
    }
    this.#checkUnique(running.map(({ Id }) => this.containers.get(Id)!));
  }

  #checkUnique(running: Seen[]): void {
    const byPlace = new Map<string, Seen>();
    for (const seen of running) {
      const place = `${seen.serverId} generation ${seen.generation} instance ${seen.instance}`;
      const other = byPlace.get(place);
      if (other) this.violate("one container", `${place}: ${other.id} and ${seen.id}`);
      byPlace.set(place, seen);
    }
  }

  #started(engine: Engine, id: string, labels: Record<string, string>, startedMs: number): Seen {
    const known = this.containers.get(id);
    if (known) return known;
    const seen: Seen = {
      id,
      engine: engine.name,
      serverId: labels[Label.server],
      generation: Number(labels[Label.generation]),
      instance: labels[Label.instance] ?? "shared",
      startedMs,
      pid: 0,
      isRunning: true,
      ledger: null,
    };
    const { serverId: server, generation, instance } = seen;
    this.history.add("container", { engine: engine.name, server, generation, instance, id });
    for (const other of this.containers.values()) {
      const isSame = other.serverId === server && other.instance === instance;
      if (isSame && other.engine !== seen.engine) {
        this.violate("one toolbox", `${server} ran on ${other.engine} and on ${seen.engine}`);
      }
      if (isSame && other.generation > generation && other.startedMs < startedMs) {
        this.violate(
          "no older generation after a newer",
          `${server}: generation ${generation} started ${
            Math.round(startedMs - other.startedMs)
          } ` +
            `ms after generation ${other.generation}`,
        );
      }
    }
    const rest = this.atRest.get(server);
    if (rest && startedMs > rest.sinceMs) {
      this.violate("what rests stays at rest", `${server} was started though it ${rest.why}`);
    }
    this.containers.set(id, seen);
    return seen;
  }

  violate(rule: string, detail: string): void {
    if (this.violations.some((each) => each.rule === rule && each.detail === detail)) return;
    this.violations.push({ rule, detail });
    this.history.add("violation", { rule, detail });
  }
}

async function contentOf(file: Deno.FsFile): Promise<string> {
  await file.seek(0, Deno.SeekMode.Start);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  const buffer = new Uint8Array(64 * 1024);
  for (let count; (count = await file.read(buffer)) !== null;) chunks.push(buffer.slice(0, count));
  return await new Blob(chunks).text();
}
