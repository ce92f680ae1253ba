/** Whether the world is as people asked for, and what is missing. */
import type { ContainerSummary } from "../../dtma/docker.ts";
import { EGRESS_LABEL } from "../../dtma/egress.ts";
import { Label } from "../../dtma/policy.ts";
import type { LayerState } from "../../dtma/protocol.ts";
import type { Running } from "./judge.ts";
import type { Observer } from "./observer.ts";
import type { System, Toolbox } from "./system.ts";
import type { Wanted, Workload } from "./workload.ts";

/** A server as the database holds it. */
export interface Row {
  id: string;
  toolboxId: string;
  slug: string;
  generation: number;
  running: boolean;
  isRemoved: boolean;
  mark: string;
  /** What generations were asked to be that failed and were gone back from. */
  failedMarks: string[];
  /** Whether it may reach hosts: each of its containers then has a network. */
  hasHosts: boolean;
  isForEachAgent: boolean;
  isToSleep: boolean;
  seenGeneration: number | null;
  layers: Record<string, LayerState> | null;
  containerId: string | null;
  instances: { instance: string; state: string; containerId: string | null }[];
}

/** What one engine has of a toolbox's. */
export interface Found {
  containers: (ContainerSummary & { NetworkSettings?: { Networks: Record<string, unknown> } })[];
  networks: { Name: string; Labels: Record<string, string> }[];
  volumes: string[];
}

/** What a look at everything found. */
export interface Look {
  /** Sentences; none when the world is as it was asked for. */
  differences: string[];
  /** Running containers by server and instance. */
  running: Map<string, Running>;
}

/** Compares what people were told, what the database desires and what the engines run. */
export async function lookAtEverything(
  { system, workload, observer }: { system: System; workload: Workload; observer: Observer },
): Promise<Look> {
  const rows = await readRows(system);
  const differences = whatPeopleWereTold(rows, workload.servers);
  const running = new Map<string, Running>();
  const found = await Promise.all(system.toolboxes.map(lookAt));
  for (const [index, toolbox] of system.toolboxes.entries()) {
    const here = rows.filter(({ toolboxId }) => toolboxId === toolbox.id);
    const where = toolbox.engine.name;
    const wrong = [
      ...strays(here, found[index]),
      ...wayOut(found[index]),
      ...strayVolumes(found[index].volumes, workload.servers),
    ];
    differences.push(...wrong.map((each) => `${each} on ${where}`));
    for (const row of here) {
      const difference = differenceOf(row, found[index]);
      if (difference) differences.push(`${row.slug} (${row.id}): ${difference}`);
      if (!row.running && !difference) {
        const rest = observer.judge.atRest.get(row.id);
        const server = workload.servers.get(row.id);
        const why = "was stopped by a person and its toolbox said that it is";
        if (!rest && server && !server.isBusy) {
          observer.judge.atRest.set(row.id, { sinceMs: Date.now(), why });
        }
      }
      // A server that sleeps when nobody calls comes and goes by itself.
      if (row.isToSleep) continue;
      for (const { Id, Labels } of found[index].containers) {
        if (Labels[Label.server] !== row.id) continue;
        const place = `${row.slug} (${row.id}) ${Labels[Label.instance] ?? "shared"}`;
        running.set(place, { serverId: row.id, container: Id });
      }
    }
  }
  return { differences, running };
}

async function lookAt(toolbox: Toolbox): Promise<Found> {
  const label = [`${Label.toolbox}=${toolbox.id}`];
  const [containers, networks, volumes] = await Promise.all([
    // All of them: the engine is the harness's, so one without a label would be nobody's too.
    toolbox.engine.docker.listContainers([]),
    toolbox.engine.docker.listNetworks(label),
    toolbox.engine.volumes(),
  ]);
  return {
    containers: await Promise.all(containers.map((each) => asInspected(each, toolbox))),
    networks,
    volumes,
  };
}

/** What was acknowledged must be what the database holds. */
export function whatPeopleWereTold(rows: Row[], servers: ReadonlyMap<string, Wanted>): string[] {
  const byId = new Map(rows.map((row) => [row.id, row]));
  const differences: string[] = [];
  for (const server of servers.values()) {
    const row = byId.get(server.id);
    if (server.isBusy) differences.push(`${server.slug}: an operation is under way`);
    else if (!row) {
      if (server.mayBeRemoved) server.removed = true;
      if (!server.removed) differences.push(`${server.slug} was deployed and is not there`);
    } else if (server.isUncertain && (server.mayBeRemoved || row.isRemoved === server.removed)) {
      // What became of it was not learned: the database knows.
      server.running = row.running;
      server.mark = row.mark;
      server.removed = row.isRemoved;
    } else {
      // Reported as failed, which is the other way for a change to end.
      if (row.failedMarks.includes(server.mark)) server.mark = row.mark;
      const said = `running ${server.running}, mark ${server.mark}, removed ${server.removed}`;
      const holds = `running ${row.running}, mark ${row.mark}, removed ${row.isRemoved}`;
      if (said !== holds) differences.push(`${server.slug}: acknowledged ${said}, holds ${holds}`);
    }
  }
  for (const { id, slug } of rows) {
    if (!servers.has(id)) differences.push(`${slug} (${id}) was deployed by nobody`);
  }
  return differences;
}

/** Containers and networks of no server that is here; the egress proxy is the toolbox's. */
export function strays(here: Row[], { containers, networks }: Found): string[] {
  const known = new Set(here.map(({ id }) => id));
  const isStray = ({ Labels }: { Labels: Record<string, string> }) =>
    Labels[Label.server] ? !known.has(Labels[Label.server]) : !(EGRESS_LABEL in Labels);
  return [
    ...containers.filter(isStray).map(({ Id }) => `container ${Id.slice(0, 12)} is nobody's`),
    ...networks.filter(isStray).map(({ Name }) => `network ${Name} is nobody's`),
  ];
}

/** The egress proxy is on each server's network, and there is none where no server has one. */
export function wayOut({ containers, networks }: Found): string[] {
  const proxies = containers.filter(({ Labels }) => EGRESS_LABEL in Labels);
  const needed = networks.filter(({ Labels }) => Labels[Label.server]).map(({ Name }) => Name);
  if (needed.length === 0) {
    return proxies.map(({ Id }) => `the egress proxy ${Id.slice(0, 12)} is needed by nobody`);
  }
  const running = proxies.filter(({ State }) => State === "running");
  if (running.length !== 1) return [`${running.length} egress proxies run`];
  const on = running[0].NetworkSettings?.Networks ?? {};
  return needed.filter((name) => !(name in on)).map((name) => `the egress proxy is not on ${name}`);
}

/** A volume is a server's that is there, or of one that was removed without it. */
export function strayVolumes(
  volumes: string[],
  servers: ReadonlyMap<string, Pick<Wanted, "removed" | "deletesVolume">>,
): string[] {
  return volumes.filter((name) => {
    const server = servers.get(ownerOf(name));
    return !server || server.removed && server.deletesVolume;
  }).map((name) => `volume ${name} is nobody's`);
}

/** The server in a volume's name, `mooring-SERVER-NAME`. */
export function ownerOf(volume: string): string {
  return volume.slice("mooring-".length, "mooring-".length + 36);
}

/**
 * An engine whose disk was full when a container started goes on listing it as created, for it could
 * not store that it runs (20.10: "failed to store container"); its inspect tells.
 */
async function asInspected(
  listed: Found["containers"][number],
  { engine }: Toolbox,
): Promise<Found["containers"][number]> {
  if (listed.State === "running") return listed;
  const there = await engine.docker.inspectContainer(listed.Id).catch(() => null);
  return there?.State.Running ? { ...listed, State: "running" } : listed;
}

/** Of one server what is not as it was asked for; null when nothing. */
export function differenceOf(row: Row, { containers, networks }: Found): string | null {
  const own = containers.filter(({ Labels }) => Labels[Label.server] === row.id);
  const there = own.map(({ Labels, State }) => `${State} ${Labels[Label.generation]}`);
  if (row.isRemoved) return `is to be removed; there: ${there.join(", ") || "nothing"}`;
  const isSeen = row.seenGeneration === row.generation;
  const layers = Object.entries(row.layers ?? {});
  const seen = layers.map(([name, { state, detail }]) => `${name} ${state} ${detail}`).join("; ");
  const now = `generation ${row.generation}, seen ${row.seenGeneration} (${seen}), there: ${there}`;
  const named = networks.filter(({ Labels }) => Labels[Label.server] === row.id)
    .map(({ Name }) => Name).toSorted().join(", ");
  const needed = row.hasHosts
    ? own.map(({ Names }) => Names[0].slice(1)).toSorted().join(", ")
    : "";
  if (named !== needed) return `has the networks [${named}], is to have [${needed}]; ${now}`;
  if (!row.running) {
    const isStopped = isSeen && row.layers!.container.state === "stopped";
    return own.length === 0 && isStopped ? null : `is to be stopped; ${now}`;
  }
  const shared = own.filter(({ Labels }) => Labels[Label.instance] === undefined);
  const sleeps = row.isToSleep && shared.length === 0 && row.containerId === null &&
    row.layers?.container.state === "idle";
  const isAsTold = isSeen &&
    layers.every(([name, { state }]) =>
      state === (sleeps && ["container", "handshake"].includes(name) ? "idle" : "ready")
    );
  const isThere = sleeps || shared.length === 1 && shared[0].State === "running" &&
      shared[0].Id === row.containerId;
  const isUp = isAsTold && isThere;
  if (!isUp) return `is to run; ${now}`;
  const apart = own.filter((each) => !shared.includes(each));
  if (apart.length > 0 && !row.isForEachAgent) return `is to run once for all; ${now}`;
  const told = row.instances.map(({ state, containerId }) => `${state} ${containerId}`);
  const really = apart.map(({ State, Id }) => `${State === "running" ? "ready" : State} ${Id}`);
  if (told.toSorted().join() === really.toSorted().join()) return null;
  return `its agents' instances are [${really}], told are [${told}]; ${now}`;
}

async function readRows({ sql }: System): Promise<Row[]> {
  return await sql<Row[]>`
    select s.id, s.toolbox_id as "toolboxId", s.slug, s.generation, s.running,
      s.removed_at is not null as "isRemoved", g.config #>> '{values,env.MARK}' as mark,
      array(select failed.config #>> '{values,env.MARK}' from server_generations back
        join server_generations failed
          on failed.server_id = back.server_id and failed.generation = back.generation - 1
        where back.server_id = s.id and back.rolled_back_to is not null) as "failedMarks",
      jsonb_array_length(g.config #> '{entry,network,hosts}')
        + jsonb_array_length(coalesce(g.config #> '{options,hosts}', '[]')) > 0 as "hasHosts",
      coalesce(g.config #>> '{entry,instances}' = 'agent', false) as "isForEachAgent",
      g.config #>> '{options,idleStopS}' is not null as "isToSleep",
      o.generation as "seenGeneration", o.layers, o.container_id as "containerId",
      coalesce(o.instances, '[]') as instances
    from servers s join server_generations g on g.server_id = s.id and g.generation = s.generation
    left join observations o on o.server_id = s.id`;
}
