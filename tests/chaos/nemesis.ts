/** The faults. Each is begun, lasts for a while, and is healed. */
import { EGRESS_LABEL } from "../../dtma/egress.ts";
import type { Daemon } from "./daemon.ts";
import { fillDisk, freeDisk } from "./engine.ts";
import type { Seen } from "./judge.ts";
import type { Weather } from "./link.ts";
import type { Observer } from "./observer.ts";
import type { Random } from "./random.ts";
import type { System, Toolbox } from "./system.ts";
import { eventually } from "./waiting.ts";

export interface Fault {
  kind: string;
  /** Upon what. */
  target: string;
  /** Of servers whose process it touches: they may be started anew. */
  servers: string[];
  heal(): void | Promise<void>;
}

/** How long a service manager waits before it kills what it asked to end. */
const GRACE_MS = 20_000;

type Begin = (system: System, observer: Observer, random: Random) => Promise<Fault> | Fault;

/** By kind; what it cannot do here it is not offered for, see {@link absentKinds}. */
const FAULTS: Record<string, Begin> = {
  "app killed": ({ replicas }, _, random) => {
    const { daemon } = random.pick(replicas);
    daemon.kill();
    return fault("app killed", daemon.name, () => daemon.release());
  },
  "all apps killed": ({ replicas }) => {
    for (const { daemon } of replicas) daemon.kill();
    return fault("all apps killed", "every replica", () => {
      for (const { daemon } of replicas) daemon.release();
    });
  },
  "app frozen": ({ replicas }, _, random) => {
    const { daemon } = random.pick(replicas);
    daemon.pause();
    return fault("app frozen", daemon.name, () => daemon.resume());
  },
  "app restarted": ({ replicas }, _, random) => restarted("app", random.pick(replicas).daemon),
  "DTMA restarted": ({ toolboxes }, _, random) => restarted("DTMA", random.pick(toolboxes).daemon),
  "DTMA killed": ({ toolboxes }, _, random) => {
    const { daemon } = random.pick(toolboxes);
    daemon.kill();
    return fault("DTMA killed", daemon.name, () => daemon.release());
  },
  "DTMA frozen": ({ toolboxes }, _, random) => {
    const { daemon } = random.pick(toolboxes);
    daemon.pause();
    return fault("DTMA frozen", daemon.name, () => daemon.resume());
  },
  "server killed": async (_, observer, random) => {
    const seen = someServer(observer, random);
    if (seen) await signalServer(seen, "SIGKILL");
    return fault("server killed", seen?.serverId ?? "none runs", () => {}, seen);
  },
  "server frozen": async (_, observer, random) => {
    const seen = someServer(observer, random);
    if (seen) await signalServer(seen, "SIGSTOP");
    return fault("server frozen", seen?.serverId ?? "none runs", async () => {
      if (seen) await signalServer(seen, "SIGCONT");
    }, seen);
  },
  "dockerd killed": ({ toolboxes }, _, random) => {
    const { engine } = random.pick(toolboxes);
    engine.kill();
    return fault("dockerd killed", engine.name, async () => {
      engine.release();
      await engine.ready();
    });
  },
  "dockerd frozen": ({ toolboxes }, _, random) => {
    const { engine } = random.pick(toolboxes);
    engine.pause();
    return fault("dockerd frozen", engine.name, () => engine.resume());
  },
  "egress proxy killed": async ({ toolboxes }, _, random) => {
    const { engine } = random.pick(toolboxes);
    const listed = await engine.docker.listContainers([EGRESS_LABEL]).catch(() => []);
    for (const { Id } of listed) {
      const { State } = await engine.docker.inspectContainer(Id);
      await signalServer({ id: Id, pid: (State as unknown as { Pid: number }).Pid }, "SIGKILL");
    }
    return fault("egress proxy killed", `${listed.length} of ${engine.name}`, () => {});
  },
  "Postgres frozen": async ({ postgres }) => {
    await postgres.pause();
    return fault("Postgres frozen", "the database", () => postgres.resume());
  },
  "Postgres crashed": async ({ postgres }) => {
    await postgres.crashAndRecover();
    return fault("Postgres crashed", "the database", () => {});
  },
  "database cut off": ({ replicas }, _, random) => {
    const { database, daemon } = random.pick(replicas);
    database.weather = { kind: "cut" };
    return fault("database cut off", daemon.name, () => {
      database.weather = { kind: "clear" };
    });
  },
  "database delayed": ({ replicas }, _, random) => {
    const { database, daemon } = random.pick(replicas);
    database.weather = { kind: "delayed", ms: random.between(50, 400) };
    return fault("database delayed", daemon.name, () => {
      database.weather = { kind: "clear" };
    });
  },
  "database half open": ({ replicas }, _, random) => {
    const { database, daemon } = random.pick(replicas);
    const [up, down] = random.pick([[true, false], [false, true], [true, true]]);
    database.weather = { kind: "silent", up, down };
    return fault("database half open", `${daemon.name}, up ${up}, down ${down}`, () => {
      // Half of the routers that come back have forgotten the connections.
      if (random.chance(0.5)) database.weather = { kind: "cut" };
      database.weather = { kind: "clear" };
    });
  },
  "control path cut": ({ toolboxes }, _, random) =>
    weather("control path cut", random.pick(toolboxes), "control", { kind: "cut" }),
  "data path cut": ({ toolboxes }, _, random) =>
    weather("data path cut", random.pick(toolboxes), "data", { kind: "cut" }),
  "network delayed": ({ toolboxes }, _, random) => {
    const toolbox = random.pick(toolboxes);
    const slow: Weather = { kind: "delayed", ms: random.between(100, 600) };
    const heals = [
      weather("network delayed", toolbox, "control", slow),
      weather("network delayed", toolbox, "data", slow),
    ];
    return fault(
      "network delayed",
      toolbox.daemon.name,
      () => heals.forEach((each) => each.heal()),
    );
  },
  "network half open": ({ toolboxes }, _, random) => {
    const path = random.pick(["control", "data"] as const);
    const [up, down] = random.pick([[true, false], [false, true], [true, true]]);
    return weather("network half open", random.pick(toolboxes), path, { kind: "silent", up, down });
  },
  "reports repeated": ({ toolboxes }) => {
    for (const { balancer } of toolboxes) balancer.isTroubled = true;
    return fault("reports repeated", "every toolbox", () => {
      for (const { balancer } of toolboxes) balancer.isTroubled = false;
    });
  },
  "DTMA's disk full": async ({ toolboxes }, _, random) => {
    const { daemon, dataDirectory } = random.pick(toolboxes);
    await fillDisk(dataDirectory);
    // A restart must write its state.
    const isRestarted = random.chance(0.7);
    if (isRestarted) restart(daemon);
    return fault("DTMA's disk full", daemon.name, () => freeDisk(dataDirectory));
  },
  "engine's disk full": async ({ toolboxes }, _, random) => {
    const { engine } = random.pick(toolboxes);
    await engine.fillDisk();
    return fault("engine's disk full", engine.name, () => engine.freeDisk());
  },
  "DTMA's clock jumped": ({ toolboxes }, _, random) =>
    jumped("DTMA", random.pick(toolboxes), random, ["+3600", "-3600", "+40", "-40", "+31536000"]),
  // Not by a year: the person's session would be over.
  "app's clock jumped": ({ replicas }, _, random) =>
    jumped("app", random.pick(replicas), random, ["+3600", "-3600", "+40", "-40"]),
};

/** Kinds that cannot be had here, with why. */
export function absentKinds(system: System): Map<string, string> {
  return new Map(
    system.hasFaketime ? [] : ["DTMA", "app"].map((whose) => [
      `${whose}'s clock jumped`,
      "the package libfaketime is not installed",
    ]),
  );
}

/** Draws kinds so that each comes once before any comes again. */
export class Nemesis {
  #left: string[] = [];
  readonly #random: Random;

  constructor(
    readonly system: System,
    readonly observer: Observer,
    /** `hasLong`: some last for longer than any back-off of Mooring's. */
    readonly options: { only: string[]; hasLong: boolean },
  ) {
    this.#random = system.random.fork("nemesis");
  }

  get kinds(): string[] {
    const absent = absentKinds(this.system);
    const all = Object.keys(FAULTS).filter((kind) => !absent.has(kind));
    const { only } = this.options;
    return only.length > 0 ? all.filter((kind) => only.includes(kind)) : all;
  }

  /** How long the faults of a round last. */
  duration(): number {
    if (this.options.hasLong && this.#random.chance(0.07)) return this.#random.between(12e3, 40e3);
    return this.#random.between(700, 2500);
  }

  async strike(): Promise<Fault[]> {
    const faults = [await this.#begin(this.#next())];
    // Trouble seldom comes alone.
    if (this.#random.chance(0.4)) {
      const kind = this.#next();
      if (kind !== faults[0].kind) faults.push(await this.#begin(kind));
    }
    return faults;
  }

  #next(): string {
    if (this.#left.length === 0) this.#left = this.#random.shuffled(this.kinds);
    return this.#left.pop()!;
  }

  async #begin(kind: string): Promise<Fault> {
    return await FAULTS[kind](this.system, this.observer, this.#random);
  }
}

function fault(kind: string, target: string, heal: Fault["heal"], seen?: Seen | null): Fault {
  return { kind, target, heal, servers: seen ? [seen.serverId] : [] };
}

function weather(
  kind: string,
  toolbox: Toolbox,
  path: "control" | "data",
  weather: Weather,
): Fault {
  toolbox[path].weather = weather;
  const target = `${path} path of ${toolbox.daemon.name}: ${JSON.stringify(weather)}`;
  return fault(kind, target, () => {
    toolbox[path].weather = { kind: "clear" };
  });
}

/** Its end is waited for from the heal on: another fault may have held it up until then. */
function restarted(who: string, daemon: Daemon): Fault {
  const ended = daemon.restart();
  return fault(`${who} restarted`, daemon.name, () => ended(GRACE_MS));
}

async function jumped(
  whose: string,
  { daemon, clockFile }: { daemon: Daemon; clockFile: string | null },
  random: Random,
  offsets: string[],
): Promise<Fault> {
  const offset = random.pick(offsets);
  await Deno.writeTextFile(clockFile!, offset);
  if (random.chance(0.5)) restart(daemon);
  return fault(`${whose}'s clock jumped`, `${daemon.name} by ${offset} s`, async () => {
    await Deno.writeTextFile(clockFile!, "+0");
  });
}

function restart(daemon: Toolbox["daemon"]): void {
  daemon.kill();
  daemon.release();
}

function someServer(observer: Observer, random: Random): Seen | null {
  const running = [...observer.containers.values()].filter((each) => each.isRunning && each.pid);
  return running.length > 0 ? random.pick(running) : null;
}

/**
 * To the server itself, which is the child of the container's init. Nothing when the pid is another
 * process's by now: an engine that was away may not have said yet that its container ended.
 */
async function signalServer(
  { id, pid }: { id: string; pid: number },
  signal: Deno.Signal,
): Promise<void> {
  const read = (path: string) => Deno.readTextFile(`/proc/${pid}/${path}`).catch(() => "");
  if (!(await read("cgroup")).includes(id)) return;
  const [child] = (await read(`task/${pid}/children`)).trim().split(" ").filter(Boolean)
    .map(Number);
  try {
    Deno.kill(child || pid, signal);
  } catch {
    // It has ended.
  }
}

/** Waits until what faults took down is there again, so that what follows is about Mooring. */
export async function everythingIsUp(system: System): Promise<void> {
  for (const { url, daemon } of system.replicas) {
    await eventually(`${daemon.name} is ready again`, () => system.isReady(url), 60_000);
  }
  for (const { daemon, engine } of system.toolboxes) {
    await engine.ready();
    await eventually(`${daemon.name} runs again`, () => daemon.isRunning);
  }
}
