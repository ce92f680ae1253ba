import type { ToolDefinition } from "../dtma/protocol.ts";
import {
  changedDefinition,
  type ConnectionOptions,
  isAllowed,
  readConnectionOptions,
  ToolChange,
} from "./connection_options.ts";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "./errors.ts";
import type { ToolState } from "./tools.ts";

/** One tool of a connection's server, and what the agent makes of it. */
export interface ConnectionTool {
  /** As its server calls it. */
  name: string;
  definition: ToolDefinition;
  state: Exclude<ToolState, "gone">;
  isAllowed: boolean;
  change: ToolChange;
  /** As the agent sees it, but for the server's slug before its name. */
  shown: ToolDefinition;
}

/** An agent's connection to a server, with what it makes of the server's tools. */
export interface Connection {
  agentId: string;
  agentName: string;
  deniesByDefault: boolean;
  serverId: string;
  serverName: string;
  serverSlug: string;
  /** Another one once its options are others. */
  version: string;
  /** Null: what the agent's default says. */
  picked: string[] | null;
  /** What the server lists now, by name. */
  tools: ConnectionTool[];
}

/** The connections of an agent, by the server's name. */
export async function listConnections(
  db: Database,
  user: User,
  agentId: string,
): Promise<Connection[]> {
  return await db.asUser(user, (sql) => readConnections(sql, sql`c.agent_id = ${agentId}`));
}

/** All connections of a workspace, by the server's name. */
export async function listWorkspaceConnections(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<Connection[]> {
  return await db.asUser(
    user,
    (sql) => readConnections(sql, sql`c.workspace_id = ${workspaceId}`),
  );
}

/** @throws {NotFound} */
export async function getConnection(
  db: Database,
  user: User,
  agentId: string,
  serverId: string,
): Promise<Connection> {
  const [connection] = await db.asUser(
    user,
    (sql) => readConnections(sql, sql`c.agent_id = ${agentId} and c.server_id = ${serverId}`),
  );
  if (!connection) throw new NotFound("The agent is not connected to such a server");
  return connection;
}

/**
 * Says which tools the agent gets.
 *
 * @param picked by the server's own names; null for what the agent's default says
 * @param version of the connection that the change was made from; without it whatever it is
 * @throws {NotFound | Forbidden | Invalid}
 * @throws {Conflict} the connection is of another version
 */
export async function pickTools(
  db: Database,
  user: User,
  agentId: string,
  serverId: string,
  picked: string[] | null,
  version?: string,
): Promise<void> {
  const change = (options: ConnectionOptions) => ({ ...options, tools: picked });
  await changeOptions(db, user, agentId, serverId, change, version);
}

/**
 * Says how the agent sees a tool, which arguments it has a say in and how often it may call it.
 *
 * @param name the server's own
 * @param version {@link pickTools}
 * @throws {NotFound | Forbidden | Conflict}
 * @throws {Invalid} with a sentence for each field that does not hold
 */
export async function changeTool(
  db: Database,
  user: User,
  agentId: string,
  serverId: string,
  name: string,
  change: ToolChange,
  version?: string,
): Promise<void> {
  const parsed = ToolChange.safeParse(change);
  if (!parsed.success) {
    const fields = Object.fromEntries(
      parsed.error.issues.map((
        { path },
      ) => [String(path[0]), MISTAKES[String(path[0])] ?? MISTAKE]),
    );
    throw new Invalid("Some of the changes need attention", fields);
  }
  await changeOptions(db, user, agentId, serverId, async (options, sql) => {
    const tools = await sql<{ name: string }[]>`
      select name from tools where server_id = ${serverId} and present`;
    if (!tools.some((tool) => tool.name === name)) {
      throw new NotFound("The server has no such tool");
    }
    const changes = new Map(Object.entries(options.changes));
    changes.delete(name);
    const wanted = parsed.data.name;
    const taken = [
      ...tools.map((tool) => tool.name).filter((own) => own !== name),
      ...[...changes.values()].map((other) => other.name),
    ];
    if (wanted !== undefined && taken.includes(wanted)) {
      const mistake = `Another tool of this server is called ${wanted}`;
      throw new Invalid(mistake, { name: mistake });
    }
    if (Object.keys(parsed.data).length > 0) changes.set(name, parsed.data);
    return { ...options, changes: Object.fromEntries(changes) };
  }, version);
}

/** The options of all connections of a workspace, as they are kept. */
export async function listConnectionOptions(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<{ agentId: string; serverId: string; options: ConnectionOptions }[]> {
  const rows = await db.asUser(
    user,
    async (sql) =>
      await sql<{ agentId: string; serverId: string; options: string }[]>`
      select agent_id as "agentId", server_id as "serverId", options::text from connections
      where workspace_id = ${workspaceId}`,
  );
  return rows.map((row) => ({ ...row, options: readConnectionOptions(row.options) }));
}

/**
 * Gives a connection options whole, also of tools that its server does not list yet.
 * @throws {NotFound | Forbidden | Invalid}
 */
export async function putConnectionOptions(
  db: Database,
  user: User,
  agentId: string,
  serverId: string,
  options: ConnectionOptions,
): Promise<void> {
  await changeOptions(db, user, agentId, serverId, () => options);
}

const MISTAKE = "This does not fit";
const MISTAKES: Record<string, string> = {
  name: "A name has 1 to 40 letters, digits, _ and -",
  description: "A description has at most 4,000 characters",
  perMinute: "A whole number from 1 to 100,000, or nothing",
  atOnce: "A whole number from 1 to 512, or nothing",
};

/** Longest that the options of one connection are, as JSON: they are read for every toolbelt. */
const OPTIONS_LIMIT_BYTES = 256 * 1024;

async function changeOptions(
  db: Database,
  user: User,
  agentId: string,
  serverId: string,
  change: (
    options: ConnectionOptions,
    sql: Sql,
  ) => ConnectionOptions | Promise<ConnectionOptions>,
  version?: string,
): Promise<void> {
  await db.asUser(user, async (sql) => {
    const which = sql`agent_id = ${agentId} and server_id = ${serverId}`;
    const [seen] = await sql`select from connections where ${which}`;
    if (!seen) throw new NotFound("The agent is not connected to such a server");
    const [row] = await sql<{ options: string; version: string }[]>`
      select options::text, md5(options::text) as version from connections where ${which} for update`;
    if (!row) throw new Forbidden("Only members of the workspace can change agents");
    if (version !== undefined && row.version !== version) {
      throw new Conflict("The connection was changed meanwhile: read it again");
    }
    const text = JSON.stringify(await change(readConnectionOptions(row.options), sql));
    if (text.includes("\\u0000") || !text.isWellFormed()) {
      throw new Invalid("The changes must not hold a NUL character");
    }
    if (new TextEncoder().encode(text).length > OPTIONS_LIMIT_BYTES) {
      throw new Invalid("The changes of this connection are over 256 KiB together");
    }
    await sql`update connections set options = ${text}::text::jsonb where ${which}`;
  });
}

async function readConnections(sql: Sql, which: ReturnType<Sql>): Promise<Connection[]> {
  const connections = await sql<
    (Omit<Connection, "picked" | "tools"> & { options: string })[]
  >`
    select a.id as "agentId", a.name as "agentName", a.denies_by_default as "deniesByDefault",
      s.id as "serverId", s.name as "serverName", s.slug as "serverSlug", c.options::text,
      md5(c.options::text) as version
    from connections c join agents a on a.id = c.agent_id join servers s on s.id = c.server_id
    where ${which} order by lower(s.name), s.id`;
  const ids = [...new Set(connections.map(({ serverId }) => serverId))];
  const tools = await sql<
    (Pick<ConnectionTool, "name" | "definition" | "state"> & { serverId: string })[]
  >`
    select server_id as "serverId", name, definition, case when approved_hash is null then 'waiting'
      when approved_hash = hash then 'approved' else 'changed' end as state
    from tools where server_id = any(${ids}) and present order by name`;
  const byServer = Map.groupBy(tools, ({ serverId }) => serverId);
  return connections.map(({ options: given, ...connection }) => {
    const options = readConnectionOptions(given);
    return {
      ...connection,
      picked: options.tools,
      tools: (byServer.get(connection.serverId) ?? [])
        .map(({ name, definition, state }) => {
          const change = Object.hasOwn(options.changes, name) ? options.changes[name] : {};
          const shown = { ...changedDefinition(definition, change), name: change.name ?? name };
          const given = isAllowed(options, name, connection.deniesByDefault);
          return { name, definition, state, change, shown, isAllowed: given };
        }),
    };
  });
}
