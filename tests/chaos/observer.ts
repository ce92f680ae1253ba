/** Watches all engines the whole time: what runs where, what was started when, what servers wrote. */
import { Label } from "../../dtma/policy.ts";
import type { Engine } from "./engine.ts";
import type { History } from "./history.ts";
import { Judge, type Seen, type Sight } from "./judge.ts";
import { sleep } from "./waiting.ts";

const SAMPLE_EVERY_MS = 250;

export class Observer {
  readonly judge: Judge;
  samples = 0;
  /** How often each call's token was written down, as far as ledgers were read. */
  readonly counts = new Map<string, number>();
  readonly #ending = new AbortController();
  readonly #watching: Promise<unknown>;

  constructor(readonly engines: Engine[], readonly history: History) {
    this.judge = new Judge((violation) => history.add("violation", { ...violation }));
    this.#watching = Promise.all(
      engines.flatMap((engine) => [this.#sample(engine), this.#listen(engine)]),
    );
  }

  get containers(): ReadonlyMap<string, Seen> {
    return this.judge.containers;
  }

  violate(rule: string, detail: string): void {
    this.judge.violate(rule, detail);
  }

  /** Reads on in what servers wrote, and closes what nobody writes in any more. */
  async readLedgers(): Promise<void> {
    for (const seen of this.containers.values()) {
      if (!seen.ledger) continue;
      // An engine's list may be wrong, and then says "gone" of what runs; the kernel is not.
      const isOver = !seen.isRunning && !await exists(`/proc/${seen.pid}`);
      for (const token of (await restOf(seen.ledger)).split("\n").filter(Boolean)) {
        this.counts.set(token, (this.counts.get(token) ?? 0) + 1);
      }
      if (!isOver) continue;
      seen.ledger.close();
      seen.ledger = null;
      seen.isRead = true;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#watching;
    for (const { ledger } of this.containers.values()) ledger?.close();
  }

  async #listen(engine: Engine): Promise<void> {
    for await (const { id, labels, atMs } of engine.starts(this.#ending.signal)) {
      if (labels[Label.server]) this.#started(sightOf(engine, id, labels, atMs));
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
        seen.endedMs = Date.now();
        this.history.add("gone", { server: seen.serverId, container: seen.id.slice(0, 12) });
      }
    }
    for (const { Id, Labels, Mounts = [] } of running) {
      let seen = this.containers.get(Id);
      if (!seen?.pid) {
        const { State } = await engine.docker.inspectContainer(Id);
        seen = this.#started(sightOf(engine, Id, Labels, Date.parse(State.StartedAt)));
        seen.pid = (State as unknown as { Pid: number }).Pid;
      }
      seen.isRunning = true;
      seen.endedMs = Infinity;
      seen.hasVolumes = Mounts.some(({ Type }) => Type === "volume");
      if (!seen.isRead) {
        seen.ledger ??= await Deno.open(`/proc/${seen.pid}/root/tmp/calls`).catch(() => null);
      }
    }
    this.judge.runAtOnce(running.map(({ Id }) => this.containers.get(Id)!));
  }

  #started(sight: Sight): Seen {
    if (!this.containers.has(sight.id)) this.history.add("container", { ...sight });
    return this.judge.started(sight);
  }
}

function sightOf(
  engine: Engine,
  id: string,
  labels: Record<string, string>,
  startedMs: number,
): Sight {
  return {
    id,
    engine: engine.name,
    serverId: labels[Label.server],
    generation: Number(labels[Label.generation]),
    instance: labels[Label.instance] ?? "shared",
    startedMs,
  };
}

/** From where it was read to. Servers write whole lines, so none is cut. */
async function restOf(file: Deno.FsFile): Promise<string> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  const buffer = new Uint8Array(64 * 1024);
  for (let count; (count = await file.read(buffer)) !== null;) chunks.push(buffer.slice(0, count));
  return await new Blob(chunks).text();
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
