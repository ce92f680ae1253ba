/** The same act on several servers: each succeeds or fails by itself, and it is told which and why. */
import type { Database, User } from "./db.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "./errors.ts";
import {
  listServers,
  removeServer,
  restartServer,
  runServer,
  type Server,
  stopServer,
} from "./servers.ts";

export const SERVER_ACTS = ["start", "stop", "restart", "remove"] as const;
export type ServerAct = (typeof SERVER_ACTS)[number];

/** What became of one server. */
export interface Acted {
  serverId: string;
  name: string;
  /** `needless`: it was so already, and nothing was done. */
  outcome: "done" | "needless" | "failed";
  /** Why it failed. */
  reason: string | null;
}

/** A page of servers, and some: what one act may take on. */
export const ACTS_LIMIT = 200;

/**
 * Does the same with each server, one after the other; one that fails holds up no other.
 *
 * @param options.deleteVolumes of `remove`: what they keep in volumes goes too
 * @throws {Invalid} none, or more than {@link ACTS_LIMIT}, were chosen
 */
export async function actOnServers(
  db: Database,
  user: User,
  workspaceId: string,
  serverIds: string[],
  act: ServerAct,
  { deleteVolumes = false } = {},
): Promise<Acted[]> {
  const chosen = await chosenServers(db, user, workspaceId, serverIds);
  const verbs: Record<ServerAct, (id: string) => Promise<void>> = {
    start: (id) => runServer(db, user, id),
    stop: (id) => stopServer(db, user, id),
    restart: (id) => restartServer(db, user, id),
    remove: (id) => removeServer(db, user, id, { deleteVolumes }),
  };
  const results: Acted[] = [];
  for (const [serverId, server] of chosen) {
    const name = server?.name ?? "A server that is gone";
    try {
      if (!server) throw new NotFound("It was removed meanwhile");
      if (isNeedless(act, server)) {
        results.push({ serverId, name, outcome: "needless", reason: null });
        continue;
      }
      await verbs[act](serverId);
      results.push({ serverId, name, outcome: "done", reason: null });
    } catch (error) {
      const isTold = [NotFound, Forbidden, Conflict, Invalid].some((told) => error instanceof told);
      if (!isTold) throw error;
      results.push({ serverId, name, outcome: "failed", reason: (error as Error).message });
    }
  }
  return results;
}

/** What a server takes along when it is removed. */
export interface GoesAlong {
  server: Server;
  /** The names of the agents that are connected to it. */
  agents: string[];
}

/**
 * The servers of a choice that can be removed, each with what goes with it.
 * @throws {Invalid} {@link actOnServers}
 */
export async function whatGoesAlong(
  db: Database,
  user: User,
  workspaceId: string,
  serverIds: string[],
): Promise<GoesAlong[]> {
  const chosen = await chosenServers(db, user, workspaceId, serverIds);
  const servers = [...chosen.values()].filter((server) => server && !server.removedAt) as Server[];
  const connected = await db.asUser(user, (sql) =>
    sql<{ serverId: string; name: string }[]>`
      select c.server_id as "serverId", a.name from connections c join agents a on a.id = c.agent_id
      where c.server_id = any(${servers.map(({ id }) => id)}) order by lower(a.name)`);
  return servers.map((server) => ({
    server,
    agents: connected.filter(({ serverId }) => serverId === server.id).map(({ name }) => name),
  }));
}

/** By id, in the order of the list; null: there is none, or not in the person's reach. */
async function chosenServers(
  db: Database,
  user: User,
  workspaceId: string,
  serverIds: string[],
): Promise<Map<string, Server | null>> {
  const ids = new Set(serverIds);
  if (ids.size === 0) throw new Invalid("No server was selected: tick at least one");
  if (ids.size > ACTS_LIMIT) {
    throw new Invalid(`Select at most ${ACTS_LIMIT} servers at once`);
  }
  const found = await listServers(db, user, workspaceId, { only: [...ids] });
  return new Map<string, Server | null>([
    ...found.map((server) => [server.id, server] as const),
    ...[...ids].filter((id) => !found.some((server) => server.id === id))
      .map((id) => [id, null] as const),
  ]);
}

function isNeedless(act: ServerAct, server: Server): boolean {
  if (act === "start") return server.running && server.status !== "failed";
  if (act === "stop") return !server.running;
  return act === "remove" && server.removedAt !== null;
}
