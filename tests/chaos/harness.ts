/** Rounds of faults under load, and what must hold in each and at the end. */
import { absent } from "../dtma/engine.ts";
import { type Look, lookAtEverything } from "./convergence.ts";
import { History } from "./history.ts";
import { absentKinds, everythingIsUp, type Fault, Nemesis } from "./nemesis.ts";
import { Observer, type Violation } from "./observer.ts";
import { POSTGRES_PROGRAMS } from "./postgres.ts";
import { Random } from "./random.ts";
import { System } from "./system.ts";
import { sleep } from "./waiting.ts";
import { Workload } from "./workload.ts";

export interface ChaosOptions {
  seed: number;
  rounds: number;
  /** From when all runs; no round is begun after it. */
  minutes: number;
  /** Kinds of faults to keep to; none: all. */
  only?: string[];
  /** Some faults last for longer than any back-off of Mooring's. */
  hasLong?: boolean;
  say: (line: string) => void;
  signal?: AbortSignal;
}

export interface ChaosResult {
  /** Rounds after which everything held, and the end, which is one more. */
  passed: number;
  failed: number;
  /** Fault kinds that cannot be had here, with why. */
  skipped: Map<string, string>;
  violations: Violation[];
  /** Milliseconds from the heal to the world as it was asked for, by fault kind. */
  reconvergedMs: Map<string, number[]>;
  tally: Map<string, number>;
}

/** From the heal on: DTMA's longest waits for an app (30 s) and for a server's restart. */
const RECONVERGE_TIMEOUT_MS = 90_000;

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
    reconvergedMs: new Map(),
    tally: new Map(),
  };
  const startedMs = Date.now();
  await using system = await System.start(new Random(seed), history, folder);
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
    if (Date.now() > endMs || signal?.aborted || observer.violations.length > 0) break;
    const { kinds, tookMs } = await world.play(round, nemesis);
    if (observer.violations.length > 0) {
      result.failed++;
      break;
    }
    result.passed++;
    const key = kinds.length === 1 ? kinds[0] : "two at once";
    result.reconvergedMs.set(key, [...result.reconvergedMs.get(key) ?? [], tookMs]);
  }
  const isBroken = observer.violations.length > 0;
  if (!isBroken) await world.end();
  await world.checkCalls();
  if (observer.violations.length === 0) result.passed++;
  else if (result.failed === 0) result.failed++;
  result.violations = observer.violations;
  result.tally = workload.tally;
  say(
    `${observer.containers.size} containers in ${observer.samples} samples, ` +
      `${workload.calls.length} calls`,
  );
  if (result.violations.length > 0) {
    for (const { rule, detail } of result.violations) say(`VIOLATION of "${rule}": ${detail}`);
    say(`See it again: deno task chaos --seed ${seed} --rounds ${rounds}`);
  }
  return result;
}

/** One system under load, round after round. */
class Rounds {
  /** Containers that ran at the end of the round before, by server. */
  #before = new Map<string, string>();

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

  async play(round: number, nemesis: Nemesis): Promise<{ kinds: string[]; tookMs: number }> {
    const { system, workload, observer, history } = this;
    workload.round = round;
    const quiet = new AbortController();
    const working = workload.run(quiet.signal);
    await sleep(300);
    const faults = await nemesis.strike();
    const kinds = faults.map(({ kind }) => kind);
    const what = faults.map(({ kind, target }) => `${kind} (${target})`).join(" and ");
    history.add("fault", { round, faults: what });
    await sleep(nemesis.duration());
    for (const fault of faults) {
      try {
        await fault.heal();
      } catch (error) {
        observer.violate("a fault can be healed", (error as Error).message);
      }
    }
    const healedMs = Date.now();
    history.add("heal", { round });
    quiet.abort();
    await working;
    await everythingIsUp(system).catch((error) =>
      observer.violate("what fell gets up", error.message)
    );
    const look = await this.reconverge();
    const tookMs = Date.now() - healedMs;
    history.add("reconverged", { round, tookMs, differences: look.differences });
    this.#checkUntouched(look, faults);
    this.#before = look.running;
    for (const { balancer } of system.toolboxes) {
      for (const answer of balancer.acceptedReplays) {
        observer.violate("no replay is accepted", answer);
      }
    }
    const end = observer.violations.length === 0 ? "held" : "VIOLATED";
    this.say(`Round ${round}: ${what}: ${end}, reconverged in ${seconds(tookMs)}`);
    return { kinds, tookMs };
  }

  /** Waits until the world is as it was asked for and every server that runs answers. */
  async reconverge(timeoutMs = RECONVERGE_TIMEOUT_MS): Promise<Look> {
    const { system, workload, observer, history } = this;
    const deadline = Date.now() + timeoutMs;
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
      if (Date.now() > deadline) {
        for (const each of look.differences) observer.violate("it becomes as it was asked", each);
        return look;
      }
      history.add("waiting", { differences: look.differences });
      await sleep(150);
    }
    history.add("as asked");
    await this.#everyServerAnswers();
    for (const server of workload.servers.values()) server.isUncertain = false;
    return look;
  }

  /** Removes everything: nothing may be left. */
  async end(): Promise<void> {
    const { system, workload, observer } = this;
    await workload.removeAll();
    await this.reconverge();
    for (const { engine } of system.toolboxes) {
      for (const volume of await engine.volumes()) {
        observer.violate("nothing is left", `volume ${volume} on ${engine.name}`);
      }
    }
  }

  /** Each call ran as often as its caller was told. */
  async checkCalls(): Promise<void> {
    const { counts, unread } = await this.observer.ledgers();
    let unknown = 0;
    for (const { token, serverId, outcome } of this.workload.calls) {
      const count = counts.get(token) ?? 0;
      const isRight = outcome.kind === "answered"
        ? count === 1
        : outcome.kind === "not made"
        ? count === 0
        : count <= 1;
      if (isRight) continue;
      const isUnknown = count === 0 && unread.some((each) => each.serverId === serverId);
      if (isUnknown) unknown++;
      else {
        this.observer.violate(
          "a call runs as often as it is told",
          `${token} ran ${count} times: ${JSON.stringify(outcome)}`,
        );
      }
    }
    this.say(
      `${unread.length} containers ended before their ledger was opened` +
        (unknown > 0 ? `; of ${unknown} calls it is not known whether they ran` : ""),
    );
  }

  async #everyServerAnswers(): Promise<void> {
    const { system, workload, observer } = this;
    const up = [...workload.servers.values()].filter((each) => each.running && !each.removed);
    await Promise.all(up.map(async (server) => {
      const deadline = Date.now() + ANSWER_TIMEOUT_MS;
      for (const url of system.urls) {
        for (;;) {
          const outcome = await workload.probe(server, url);
          if (outcome.kind === "answered") {
            if (outcome.mark !== server.mark) {
              observer.violate(
                "it becomes as it was asked",
                `${server.slug} answers with the configuration ${outcome.mark}, not ${server.mark}`,
              );
            }
            break;
          }
          if (Date.now() > deadline) {
            observer.violate("what runs answers", `${server.slug}: ${outcome.why}`);
            return;
          }
          await sleep(200);
        }
      }
    }));
  }

  /** A server that nobody touched, and whose process no fault ended, runs on in its container. */
  #checkUntouched({ running }: Look, faults: Fault[]): void {
    const { workload, observer } = this;
    const struck = new Set(faults.flatMap(({ servers }) => servers));
    for (const [serverId, container] of this.#before) {
      const server = workload.servers.get(serverId)!;
      if (server.touchedIn === workload.round || struck.has(serverId)) continue;
      if (running.get(serverId) === container) continue;
      observer.violate(
        "what nobody touched runs on",
        `${server.slug} (${serverId}) was in ${container.slice(0, 12)} and is in ` +
          `${running.get(serverId)?.slice(0, 12) ?? "none"} after ` +
          faults.map(({ kind }) => kind).join(" and "),
      );
    }
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
