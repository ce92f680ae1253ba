/** Whether the world is as people asked for, and what is missing. */
import type { ContainerSummary } from "../../dtma/docker.ts";
import { EGRESS_LABEL } from "../../dtma/egress.ts";
import { Label } from "../../dtma/policy.ts";
import type { LayerState } from "../../dtma/protocol.ts";
import type { Observer } from "./observer.ts";
import type { System, Toolbox } from "./system.ts";
import type { Workload } from "./workload.ts";

interface Row {
  id: string;
  toolboxId: string;
  slug: string;
  generation: number;
  running: boolean;
  isRemoved: boolean;
  mark: string;
  /** What a failed generation before this one was asked to be, when this one is the way back. */
  rolledBackFrom: string | null;
  seenGeneration: number | null;
  layers: Record<string, LayerState> | null;
  containerId: string | null;
}

/** What a look at everything found. */
export interface Look {
  /** Sentences; none when the world is as it was asked for. */
  differences: string[];
  /** Running containers by server. */
  running: Map<string, string>;
}

/** Compares what people were told, what the database desires and what the engines run. */
export async function lookAtEverything(
  { system, workload, observer }: { system: System; workload: Workload; observer: Observer },
): Promise<Look> {
  const rows = await readRows(system);
  const differences = whatPeopleWereTold(rows, workload);
  const running = new Map<string, string>();
  for (const toolbox of system.toolboxes) {
    const [containers, networks] = await Promise.all([
      toolbox.engine.docker.listContainers([`${Label.toolbox}=${toolbox.id}`]),
      toolbox.engine.docker.listNetworks([`${Label.toolbox}=${toolbox.id}`]),
    ]);
    const here = rows.filter(({ toolboxId }) => toolboxId === toolbox.id);
    const known = new Set(here.map(({ id }) => id));
    // The egress proxy is the toolbox's, and of no server.
    const isLost = ({ Labels }: { Labels: Record<string, string> }) =>
      Labels[Label.server] ? !known.has(Labels[Label.server]) : !(EGRESS_LABEL in Labels);
    const lost = [
      ...containers.filter(isLost)
        .map(({ Id }) => `container ${Id.slice(0, 12)}`),
      ...networks.filter(isLost)
        .map(({ Name }) => `network ${Name}`),
    ];
    differences.push(...lost.map((each) => `${each} on ${toolbox.engine.name} is nobody's`));
    for (const row of here) {
      const own = await Promise.all(
        containers.filter(({ Labels }) => Labels[Label.server] === row.id)
          .map((each) => asInspected(each, toolbox)),
      );
      const difference = differenceOf(row, own, toolbox);
      if (difference) differences.push(`${row.slug} (${row.id}): ${difference}`);
      if (!row.running && !difference) {
        const rest = observer.atRest.get(row.id);
        const server = workload.servers.get(row.id);
        const why = "was stopped by a person and its toolbox said that it is";
        if (!rest && server && !server.isBusy) {
          observer.atRest.set(row.id, { sinceMs: Date.now(), why });
        }
      }
      if (own.length === 1) running.set(row.id, own[0].Id);
    }
  }
  return { differences, running };
}

/** What was acknowledged must be what the database holds. */
function whatPeopleWereTold(rows: Row[], { servers }: Workload): string[] {
  const byId = new Map(rows.map((row) => [row.id, row]));
  const differences: string[] = [];
  for (const server of servers.values()) {
    const row = byId.get(server.id);
    if (server.isBusy) differences.push(`${server.slug}: an operation is under way`);
    else if (!row) {
      if (server.isUncertain) server.removed = true;
      if (!server.removed) differences.push(`${server.slug} was deployed and is not there`);
    } else if (server.isUncertain) {
      // What became of it was not learned: the database knows.
      server.running = row.running;
      server.mark = row.mark;
      server.removed = row.isRemoved;
    } else {
      // Reported as failed, which is the other way for a change to end.
      if (row.rolledBackFrom === server.mark) server.mark = row.mark;
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

/**
 * An engine whose disk was full when a container started goes on listing it as created, for it could
 * not store that it runs (20.10: "failed to store container"); its inspect tells.
 */
async function asInspected(listed: ContainerSummary, { engine }: Toolbox) {
  if (listed.State === "running") return listed;
  const there = await engine.docker.inspectContainer(listed.Id).catch(() => null);
  return there?.State.Running ? { ...listed, State: "running" } : listed;
}

function differenceOf(
  row: Row,
  containers: ContainerSummary[],
  { daemon }: Toolbox,
): string | null {
  const there = containers.map(({ Labels, State }) => `${State} ${Labels[Label.generation]}`);
  if (row.isRemoved) return `is to be removed; ${daemon.name} has ${there.join(", ") || "nothing"}`;
  const isSeen = row.seenGeneration === row.generation;
  const layers = Object.entries(row.layers ?? {});
  const seen = layers.map(([name, { state, detail }]) => `${name} ${state} ${detail}`).join("; ");
  const now = `generation ${row.generation}, seen ${row.seenGeneration} (${seen}), there: ${there}`;
  if (!row.running) {
    const isStopped = isSeen && row.layers!.container.state === "stopped";
    return containers.length === 0 && isStopped ? null : `is to be stopped; ${now}`;
  }
  const [only] = containers;
  const isUp = containers.length === 1 && only.State === "running" && isSeen &&
    only.Id === row.containerId && layers.every(([, { state }]) => state === "ready");
  return isUp ? null : `is to run; ${now}`;
}

async function readRows({ sql }: System): Promise<Row[]> {
  return await sql<Row[]>`
    select s.id, s.toolbox_id as "toolboxId", s.slug, s.generation, s.running,
      s.removed_at is not null as "isRemoved", g.config #>> '{values,env.MARK}' as mark,
      case when g.rolled_back_to is not null then failed.config #>> '{values,env.MARK}' end
        as "rolledBackFrom", o.generation as "seenGeneration", o.layers, o.container_id as "containerId"
    from servers s join server_generations g on g.server_id = s.id and g.generation = s.generation
    left join server_generations failed
      on failed.server_id = s.id and failed.generation = s.generation - 1
    left join observations o on o.server_id = s.id`;
}
