/** Rounds of faults under load, and what must hold in each and at the end. */
import { absent } from "../dtma/engine.ts";
import { type Look, lookAtEverything, ownerOf } from "./convergence.ts";
import { History } from "./history.ts";
import type { Running, Violation } from "./judge.ts";
import { absentKinds, everythingIsUp, type Fault, Nemesis } from "./nemesis.ts";
import { Observer } from "./observer.ts";
import { POSTGRES_PROGRAMS } from "./postgres.ts";
import { Random } from "./random.ts";
import type { RoundResult } from "./results.ts";
import { System } from "./system.ts";
import { awake, sleep } from "./waiting.ts";
import { type Wanted, Workload } from "./workload.ts";

export interface ChaosOptions {
  seed: number;
  rounds: number;
  /** From when all runs; no round is begun after it. */
  minutes: number;
  /** Kinds of faults to keep to; none: all. */
  only?: string[];
  /** Some faults last for longer than any back-off of Mooring's. */
  hasLong?: boolean;
  /** Of the sources to run, with a slash at its end; none: these. */
  root?: string;
  say: (line: string) => void;
  /** Told of each round. */
  onRound?: (round: Played) => void | Promise<void>;
  signal?: AbortSignal;
}

/** A round, as far as the harness knows of it. */
export type Played = Omit<RoundResult, "at" | "code">;

export interface ChaosResult {
  /** Rounds after which everything held, and the end, which is one more. */
  passed: number;
  failed: number;
  /** Fault kinds that cannot be had here, with why. */
  skipped: Map<string, string>;
  violations: Violation[];
  rounds: Played[];
  tally: Map<string, number>;
}

/**
 * From the heal on: DTMA's longest waits for an app (30 s) and for a server's restart, and what people
 * asked for meanwhile, on a machine that has other things to do (load 40: 85 s seen).
 */
const RECONVERGE_TIMEOUT_MS = 150_000;

/** In such a round a server that sleeps is woken by a call; it goes to sleep between them. */
const WAKES_EVERY = 10;

/** Servers that are up must answer within this time after the world is as it was asked for. */
const ANSWER_TIMEOUT_MS = 30_000;

/** Why the harness cannot run here; null when it can. */
export async function whyNot(): Promise<string | null> {
  if (absent) return absent;
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return "own Docker Engines need root on Linux";
  if (!POSTGRES_PROGRAMS) return "/usr/lib/postgresql/*/bin is missing";
  for (const tool of ["dockerd", "ip", "nsenter", "unshare"]) {
    const { success } = await new Deno.Command("sh", { args: ["-c", `command -v ${tool}`] })
      .output();
    if (!success) return `${tool} is not installed`;
  }
  return null;
}

/** Runs the whole story. Never throws for what Mooring does: that is in the result. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const folder = await Deno.makeTempDir({ prefix: "mooring-chaos-" });
  await Deno.chmod(folder, 0o711); // Postgres runs as another user
  const result = await runIn(folder, options);
  // What was seen of a failure is kept.
  if (result.failed === 0) await Deno.remove(folder, { recursive: true });
  return result;
}

async function runIn(folder: string, options: ChaosOptions): Promise<ChaosResult> {
  const { seed, rounds, minutes, say, signal } = options;
  say(`Seed ${seed}; history and logs are in ${folder}`);
  using history = new History(`${folder}/history.jsonl`);
  const result: ChaosResult = {
    passed: 0,
    failed: 0,
    skipped: new Map(),
    violations: [],
    rounds: [],
    tally: new Map(),
  };
  const startedMs = Date.now();
  await using system = await System.start(new Random(seed), history, folder, options.root);
  await using observer = new Observer(system.toolboxes.map(({ engine }) => engine), history);
  const workload = new Workload(system, observer, history);
  const world = new Rounds(system, observer, workload, history, say);
  await workload.begin();
  const first = await world.begin();
  say(`Ready after ${seconds(Date.now() - startedMs)}, ${first.running.size} servers run`);
  const endMs = Date.now() + minutes * 60_000; // what it takes to begin is not of the load's time
  result.skipped = absentKinds(system);
  const nemesis = new Nemesis(system, observer, {
    only: options.only ?? [],
    hasLong: options.hasLong ?? false,
  });

  for (let round = 1; round <= rounds; round++) {
    if (Date.now() > endMs || signal?.aborted || observer.judge.violations.length > 0) break;
    const played = await world.play(round, nemesis);
    result.rounds.push(played);
    await options.onRound?.(played);
    if (played.violated.length > 0) result.failed++;
    else result.passed++;
  }
  const isBroken = observer.judge.violations.length > 0;
  if (!isBroken) await world.end();
  await world.checkCalls();
  if (observer.judge.violations.length === 0) result.passed++;
  else if (result.failed === 0) result.failed++;
  result.violations = observer.judge.violations;
  result.tally = workload.tally;
  say(
    `${observer.containers.size} containers in ${observer.samples} samples, ` +
      `${workload.calls.length} calls`,
  );
  if (result.violations.length > 0) {
    for (const { rule, detail } of result.violations) say(`VIOLATION of "${rule}": ${detail}`);
    say(
      `See it again: deno task chaos --seed ${seed} --rounds ${rounds}; history: ${history.path}`,
    );
  }
  return result;
}

/** One system under load, round after round. */
class Rounds {
  /** Containers that ran at the end of the round before, by server and instance. */
  #before = new Map<string, Running>();
  /** Calls before this one were judged. */
  #judged = 0;

  constructor(
    readonly system: System,
    readonly observer: Observer,
    readonly workload: Workload,
    readonly history: History,
    readonly say: (line: string) => void,
  ) {}

  async begin(): Promise<Look> {
    const look = await this.reconverge();
    this.#before = look.running;
    return look;
  }

  async play(round: number, nemesis: Nemesis): Promise<Played> {
    const { system, workload, observer, history } = this;
    const startedMs = awake();
    workload.round = round;
    const quiet = new AbortController();
    const working = workload.run(quiet.signal);
    await sleep(200);
    const faults = await nemesis.strike();
    const what = faults.map(({ kind, target }) => `${kind} (${target})`).join(" and ");
    history.add("fault", { round, faults: what });
    const struckMs = awake();
    await sleep(nemesis.duration());
    const lastedMs = awake() - struckMs;
    // Together: one may not be healed while another lasts.
    await Promise.all(faults.map(async ({ heal }) => {
      try {
        await heal();
      } catch (error) {
        observer.violate("a fault can be healed", (error as Error).message);
      }
    }));
    const healedMs = awake();
    history.add("heal", { round });
    quiet.abort();
    await working;
    await everythingIsUp(system).catch((error) =>
      observer.violate("what fell gets up", error.message)
    );
    const look = await this.reconverge();
    const reconvergedMs = awake() - healedMs;
    history.add("reconverged", { round, reconvergedMs, differences: look.differences });
    await observer.readLedgers();
    this.#check(look, faults);
    const violated = [...new Set(observer.judge.violations.map(({ rule }) => rule))];
    const end = violated.length === 0 ? "held" : "VIOLATED";
    this.say(`Round ${round}: ${what}: ${end}, reconverged in ${seconds(reconvergedMs)}`);
    const kinds = faults.map(({ kind }) => kind);
    const tookMs = awake() - startedMs;
    const { seed } = system.random;
    return { seed, round, faults: kinds, lastedMs, reconvergedMs, tookMs, violated };
  }

  /** Waits until the world is as it was asked for and every server that runs answers. */
  async reconverge(timeoutMs = RECONVERGE_TIMEOUT_MS): Promise<Look> {
    const { system, workload, observer, history } = this;
    const deadline = awake() + timeoutMs;
    let look: Look = { differences: [], running: new Map() };
    for (;;) {
      try {
        await workload.learnLostDeploys();
        look = await lookAtEverything({ system, workload, observer });
        if (await workload.tend()) look.differences.push("a person has something to press");
      } catch (error) {
        look = { differences: [`Looking failed: ${error}`], running: new Map() };
      }
      if (look.differences.length === 0) break;
      if (awake() > deadline) {
        for (const each of look.differences) observer.violate("it becomes as it was asked", each);
        return look;
      }
      history.add("waiting", { differences: look.differences });
      await sleep(250);
    }
    history.add("as asked");
    await this.#everyServerAnswers();
    for (const server of workload.servers.values()) {
      server.isUncertain = server.mayBeRemoved = false;
    }
    return look;
  }

  /** Removes everything: nothing may be left but volumes that were to be kept, with what was written. */
  async end(): Promise<void> {
    const { system, workload, observer } = this;
    await workload.removeAll();
    await this.reconverge();
    for (const { engine } of system.toolboxes) {
      for (const volume of await engine.volumes()) {
        const server = workload.servers.get(ownerOf(volume));
        if (!server) continue; // looking for strays has told of it
        const calls = workload.calls.filter(({ serverId }) => serverId === server.id);
        observer.judge.keptWhatWasWritten(server.slug, calls, await engine.readVolume(volume));
        server.isVolumeFound = true;
      }
    }
    for (const { slug, id, kind, deletesVolume, isVolumeFound } of workload.servers.values()) {
      if (kind !== "counts-kept" || deletesVolume || isVolumeFound) continue;
      const calls = workload.calls.filter(({ serverId }) => serverId === id);
      observer.judge.keptWhatWasWritten(slug, calls, "");
    }
  }

  /** All calls once more, now that nothing can run any more. */
  async checkCalls(): Promise<void> {
    await this.observer.readLedgers();
    const { judge, counts } = this.observer;
    const unknown = judge.callsRanAsTold(this.workload.calls, counts);
    const unread = [...judge.containers.values()].filter((each) => !each.ledger && !each.isRead);
    this.say(
      `${unread.length} containers ended before their ledger was opened` +
        (unknown > 0 ? `; of ${unknown} calls it is not known whether they ran` : ""),
    );
  }

  async #everyServerAnswers(): Promise<void> {
    const { system, workload } = this;
    const up = [...workload.servers.values()].filter((each) =>
      each.running && !each.removed && (!each.isSleeper || workload.round % WAKES_EVERY === 0)
    );
    await Promise.all(up.flatMap((server) => system.urls.map((url) => this.#answers(server, url))));
  }

  async #answers(server: Wanted, url: string): Promise<void> {
    const { workload, observer } = this;
    const deadline = awake() + ANSWER_TIMEOUT_MS;
    for (;;) {
      const outcome = await workload.probe(server, url);
      if (outcome.kind === "answered") {
        if (outcome.mark === server.mark) return;
        return observer.violate(
          "it becomes as it was asked",
          `${server.slug} answers with the configuration ${outcome.mark}, not ${server.mark}`,
        );
      }
      if (awake() > deadline) {
        return observer.violate("what runs answers", `${server.slug}: ${outcome.why}`);
      }
      await sleep(100);
    }
  }

  #check(look: Look, faults: Fault[]): void {
    const { system, workload, observer } = this;
    const struck = new Set(faults.flatMap(({ servers }) => servers));
    const isExcused = (id: string) =>
      workload.servers.get(id)!.touchedIn === workload.round || struck.has(id);
    const during = faults.map(({ kind }) => kind).join(" and ");
    observer.judge.ranOn(this.#before, look.running, isExcused, during);
    this.#before = look.running;
    observer.judge.callsRanAsTold(workload.calls.slice(this.#judged), observer.counts);
    this.#judged = workload.calls.length;
    for (const { balancer } of system.toolboxes) {
      for (const answer of balancer.acceptedReplays) {
        observer.violate("no replay is accepted", answer);
      }
    }
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
