/** Who is connected to what, and whether it holds: agents, their servers, and the toolboxes of those. */
import { z } from "zod";
import type { Agent } from "./agents.ts";
import { type Connection, listConnections, listWorkspaceConnections } from "./connections.ts";
import type { Database, User } from "./db.ts";
import { listServers, type Server } from "./servers.ts";
import { listToolboxes, type Toolbox } from "./toolboxes.ts";

/** Why an agent's calls to a server arrive, or do not. */
export const EDGE_STATES = ["connected", "withheld", "server_down", "toolbox_offline"] as const;
export type EdgeState = (typeof EDGE_STATES)[number];

/** Read from an address, as ServerFilter is: what does not hold is as if it were not there. */
export const MapFilter = z.object({
  agent: z.uuid().nullable().catch(null),
  toolbox: z.uuid().nullable().catch(null),
  /** `trouble`: any but `connected`. */
  state: z.enum([...EDGE_STATES, "trouble"]).nullable().catch(null),
});
export type MapFilter = z.infer<typeof MapFilter>;

/** A connection with what stands in its way, if something does. */
export interface Edge {
  agentId: string;
  serverId: string;
  state: EdgeState;
  /** One sentence for it. */
  detail: string;
  /** Tools that the agent gets, and those it would get were they approved as they are now. */
  given: number;
  withheld: number;
  connection: Connection;
}

export type MappedAgent = Pick<Agent, "id" | "name" | "presents">;

export interface ConnectionMap {
  /** Those that match, with those of them that are connected to nothing. */
  agents: MappedAgent[];
  servers: Server[];
  toolboxes: Pick<Toolbox, "id" | "name" | "isOnline">[];
  edges: Edge[];
  /** All connections of those agents, by the agent: what they cost does not depend on what is shown. */
  toolbelts: Map<string, Connection[]>;
  /** How many servers match in all: at most {@link SERVERS_SHOWN} of them are here. */
  matching: number;
  /** Servers that no agent is connected to; null where one agent alone was asked for. */
  unconnected: number | null;
  all: { agents: MappedAgent[]; toolboxes: Pick<Toolbox, "id" | "name">[] };
}

/** More than so many lines in a picture are a tangle. */
export const SERVERS_SHOWN = 40;

/** The connections of a workspace that match. */
export async function mapConnections(
  db: Database,
  user: User,
  workspaceId: string,
  filter: MapFilter,
  { limit = SERVERS_SHOWN }: { limit?: number } = {},
): Promise<ConnectionMap> {
  const { agent } = filter;
  const [agents, toolboxes, connections] = await Promise.all([
    db.asUser(user, (sql) =>
      sql<MappedAgent[]>`
        select id, name, presents from agents where workspace_id = ${workspaceId}
        order by lower(name), id`),
    listToolboxes(db, user, workspaceId),
    agent === null
      ? listWorkspaceConnections(db, user, workspaceId)
      : listConnections(db, user, agent),
  ]);
  const connected = new Set(connections.map(({ serverId }) => serverId));
  const servers = await listServers(db, user, workspaceId, {
    only: agent === null ? undefined : [...connected],
  });
  const byId = new Map(servers.map((server) => [server.id, server]));
  const edges = connections.flatMap((connection) => {
    const server = byId.get(connection.serverId);
    return server ? [edgeOf(connection, server)] : [];
  }).filter((edge) =>
    (filter.toolbox === null || byId.get(edge.serverId)!.toolboxId === filter.toolbox) &&
    (filter.state === null || edge.state === filter.state ||
      filter.state === "trouble" && edge.state !== "connected")
  );
  const shown = placed(edges, agents, byId).slice(0, limit);
  const isShown = new Set(shown.map(({ id }) => id));
  const left = edges.filter(({ serverId }) => isShown.has(serverId));
  const withAgents = new Set(left.map(({ agentId }) => agentId));
  const boxes = new Set(shown.map(({ toolboxId }) => toolboxId));
  const toolbelts = Map.groupBy(connections, ({ agentId }) => agentId);
  const isWhole = agent === null && filter.toolbox === null && filter.state === null;
  return {
    agents: agents.filter(({ id }) =>
      withAgents.has(id) || id === agent || isWhole && !toolbelts.has(id)
    ),
    servers: shown,
    toolboxes: toolboxes.filter(({ id }) => boxes.has(id)),
    edges: left,
    toolbelts,
    matching: new Set(edges.map(({ serverId }) => serverId)).size,
    unconnected: agent === null ? servers.filter(({ id }) => !connected.has(id)).length : null,
    all: { agents, toolboxes },
  };
}

function edgeOf(connection: Connection, server: Server): Edge {
  const { agentId, serverId, tools } = connection;
  const allowed = tools.filter(({ isAllowed }) => isAllowed);
  const given = allowed.filter(({ state }) => state === "approved").length;
  const withheld = allowed.length - given;
  const isUp = server.status === "running" || server.status === "idle" ||
    // An older generation serves until the next is ready.
    server.running && server.servingGeneration !== null;
  const [state, detail]: [EdgeState, string] = server.status === "toolbox_unreachable"
    ? ["toolbox_offline", server.statusDetail]
    : !isUp
    ? ["server_down", server.statusDetail]
    : given === 0
    ? ["withheld", whyNone(connection, withheld)]
    : ["connected", withheld === 0 ? "Its calls arrive" : `${withheld} more wait to be read`];
  return { agentId, serverId, state, detail, given, withheld, connection };
}

function whyNone({ tools }: Connection, withheld: number): string {
  if (tools.length === 0) return "The server lists no tools";
  return withheld > 0
    ? "None of its tools is approved as it is now"
    : "The agent is allowed none of its tools";
}

/** The servers of the edges, each near its agents, so that few lines cross. */
function placed(edges: Edge[], agents: MappedAgent[], byId: Map<string, Server>): Server[] {
  const order = new Map(agents.map(({ id }, index) => [id, index]));
  const places = new Map<string, { sum: number; count: number }>();
  for (const { agentId, serverId } of edges) {
    const place = places.get(serverId) ?? { sum: 0, count: 0 };
    place.sum += order.get(agentId) ?? 0;
    place.count++;
    places.set(serverId, place);
  }
  const mean = (id: string) => places.get(id)!.sum / places.get(id)!.count;
  return [...places.keys()].map((id) => byId.get(id)!)
    .sort((a, b) => mean(a.id) - mean(b.id) || a.toolboxName.localeCompare(b.toolboxName));
}
