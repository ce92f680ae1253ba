import { v7 } from "uuid";
import { ACCESS_TOKEN_PREFIX, type Client, SCOPE, type ToolScope } from "./authorization_server.ts";
import type { Database, Sql, User } from "./db.ts";
import { Forbidden, Invalid, isDenied, NotFound } from "./errors.ts";
import { withoutNul } from "./events.ts";
import { newToken, tokenHash } from "./tokens.ts";
import { validName } from "./workspaces.ts";

export interface AgentToken {
  id: string;
  name: string;
  createdAt: Date;
  expiresAt: Date | null;
  revokedAt: Date | null;
  lastUsedAt: Date | null;
  /** Of a client that signed a person in: where answers to it went. Null of a token that was made by hand. */
  clientHost: string | null;
  /** What such a client is known by. */
  clientId: string | null;
  /** How far such a client may go; null: as far as the agent. */
  scope: ToolScope | null;
  /** When such a client last called a tool beyond its scope. */
  wantedMoreAt: Date | null;
}

export interface Agent {
  id: string;
  workspaceId: string;
  name: string;
  createdAt: Date;
  /** Of a server that is connected it gets no tool that was not picked. */
  deniesByDefault: boolean;
  /** `search`: it is given find_tools and call_tool in place of all definitions. */
  presents: "tools" | "search";
  /** What it is told at the head of each conversation. */
  instructions: string;
  /** Which calls it asks a person for in a conversation: none, those of tools not known to only read, all. */
  asks: "never" | "writes" | "always";
  tokens: AgentToken[];
  /** The servers it is connected to: its toolbelt is their approved tools. */
  connections: {
    serverId: string;
    serverName: string;
    serverSlug: string;
    running: boolean;
    toolsApproved: number;
    toolsTotal: number;
  }[];
}

const INSTRUCTIONS_LIMIT = 20_000;

/** The agents of a workspace, by name. */
export async function listAgents(db: Database, user: User, workspaceId: string): Promise<Agent[]> {
  return await db.asUser(user, (sql) => readAgents(sql, sql`a.workspace_id = ${workspaceId}`));
}

/** @throws {NotFound} */
export async function getAgent(db: Database, user: User, agentId: string): Promise<Agent> {
  return await db.asUser(user, (sql) => readAgent(sql, agentId));
}

/** @returns the new agent's id */
export async function createAgent(
  db: Database,
  user: User,
  workspaceId: string,
  name: string,
): Promise<string> {
  const valid = validName(name);
  const id = v7();
  await forMembers(() =>
    db.asUser(user, (sql) =>
      sql`insert into agents (id, workspace_id, name, created_by)
        values (${id}, ${workspaceId}, ${valid}, ${user.userId})`)
  );
  return id;
}

export async function renameAgent(db: Database, user: User, agentId: string, name: string) {
  const valid = validName(name);
  await changing(
    db,
    user,
    agentId,
    (sql) => sql`update agents set name = ${valid} where id = ${agentId}`,
  );
}

/**
 * Says what an agent gets of a server by itself, how its tools are given to it, and how it holds a
 * conversation; what is not said stays.
 */
export async function setAgentOptions(
  db: Database,
  user: User,
  agentId: string,
  { deniesByDefault, presents, instructions, asks }: Partial<
    Pick<Agent, "deniesByDefault" | "presents" | "instructions" | "asks">
  >,
) {
  if (instructions !== undefined && instructions.length > INSTRUCTIONS_LIMIT) {
    const mistake = `Instructions are at most ${
      INSTRUCTIONS_LIMIT.toLocaleString("en")
    } characters`;
    throw new Invalid(mistake, { instructions: mistake });
  }
  await changing(
    db,
    user,
    agentId,
    (sql) =>
      sql`update agents set
        denies_by_default = coalesce(${deniesByDefault ?? null}::boolean, denies_by_default),
        presents = coalesce(${presents ?? null}::text, presents),
        instructions = coalesce(${
        instructions === undefined ? null : withoutNul(instructions)
      }::text, instructions),
        asks = coalesce(${asks ?? null}::text, asks)
      where id = ${agentId}`,
  );
}

/** Removes an agent with its tokens and connections; its calls stay. */
export async function removeAgent(db: Database, user: User, agentId: string) {
  await changing(db, user, agentId, (sql) => sql`delete from agents where id = ${agentId}`);
}

/**
 * Makes a token for an agent. The token is returned once; only its hash is kept.
 *
 * @param token.expiresInDays null for one that does not expire
 */
export async function createToken(
  db: Database,
  user: User,
  agentId: string,
  token: { name: string; expiresInDays: number | null },
): Promise<{ id: string; token: string }> {
  const name = validName(token.name);
  const id = v7();
  const text = newToken("mag");
  const hash = await tokenHash(text);
  await changing(
    db,
    user,
    agentId,
    (sql, agent) =>
      sql`insert into agent_tokens (id, workspace_id, agent_id, name, token_hash, expires_at)
      values (${id}, ${agent.workspaceId}, ${agentId}, ${name}, ${hash},
        now() + make_interval(days => ${token.expiresInDays}))`,
  );
  return { id, token: text };
}

/**
 * Lets a client act as an agent: a token of the agent's whose text nobody has. The client's own tokens
 * stand for it, as long as the person may make tokens here. A client that is the agent already, and asked for
 * more than it was let, steps up in the grant that it has.
 *
 * @returns the grant, among the agent's tokens
 */
export async function grantClient(
  db: Database,
  user: User,
  agentId: string,
  { id: clientId, name, host }: Client,
  scope: ToolScope = SCOPE,
): Promise<{ id: string; isNew: boolean }> {
  const hash = await tokenHash(newToken("mag"));
  let grant = { id: v7(), isNew: true };
  await changing(db, user, agentId, async (sql, agent) => {
    const [known] = await sql`
      select mooring.step_up_client_grant(${agentId}, ${clientId}, ${scope}) as id`;
    if (known) return void (grant = { id: known.id, isNew: false });
    await sql`insert into agent_tokens
        (id, workspace_id, agent_id, name, token_hash, client_id, client_host, granted_by, scope)
      values (${grant.id}, ${agent.workspaceId}, ${agentId}, ${name}, ${hash}, ${clientId}, ${host},
        ${user.userId}, ${scope})`;
  });
  return grant;
}

/** Keeps that a client called a tool beyond its scope; of its grant nothing changes. */
export async function clientWantedMore(db: Database, tokenId: string) {
  await db.asApp`select mooring.client_wanted_more(${tokenId})`;
}

/** Ends a token; from the next request on it opens nothing. */
export async function revokeToken(db: Database, user: User, agentId: string, tokenId: string) {
  await changing(db, user, agentId, (sql) =>
    sql`update agent_tokens set revoked_at = now()
      where id = ${tokenId} and agent_id = ${agentId} and revoked_at is null`);
}

/** @param also what becomes true with it, in the same transaction */
export async function connectServer(
  db: Database,
  user: User,
  agentId: string,
  serverId: string,
  also?: (sql: Sql) => Promise<void>,
) {
  await changing(db, user, agentId, async (sql, agent) => {
    const [server] = await sql`
      select from servers where id = ${serverId} and workspace_id = ${agent.workspaceId} and removed_at is null`;
    if (!server) throw new NotFound("This workspace has no such server");
    await sql`
      insert into connections (agent_id, server_id, workspace_id)
      values (${agentId}, ${serverId}, ${agent.workspaceId}) on conflict do nothing`;
    await also?.(sql);
  });
}

export async function disconnectServer(
  db: Database,
  user: User,
  agentId: string,
  serverId: string,
) {
  await changing(
    db,
    user,
    agentId,
    (sql) => sql`delete from connections where agent_id = ${agentId} and server_id = ${serverId}`,
  );
}

/** Whom a bearer token stands for. */
export interface TokenHolder {
  tokenId: string;
  agentId: string;
  workspaceId: string;
  expiresAt: Date | null;
  /** What a client's token is good for; null of an agent's own, which is good for all. */
  limits: { resources: string[]; scopes: string[] } | null;
}

/** The agent a bearer token stands for, or null when it is unknown, revoked or expired. */
export async function agentOfToken(db: Database, token: string): Promise<TokenHolder | null> {
  const [, prefix, rest] = /^(mag_|moa_)([A-Za-z0-9_-]{43})$/.exec(token) ?? [];
  if (!prefix) return null;
  const [row] = prefix === ACCESS_TOKEN_PREFIX
    ? await db.asApp`select * from mooring.agent_of_client_token(${await tokenHash(rest)})`
    : await db.asApp`select * from mooring.agent_of_token(${await tokenHash(token)})`;
  if (!row) return null;
  await db.asApp`select mooring.token_was_used(${row.token_id})`;
  return {
    tokenId: row.token_id,
    agentId: row.agent_id,
    workspaceId: row.workspace_id,
    expiresAt: row.expires_at,
    limits: prefix === ACCESS_TOKEN_PREFIX
      ? { resources: row.resources ?? [], scopes: row.scopes }
      : null,
  };
}

/** Runs a change on an agent as a person; the policies refuse a viewer's. */
async function changing(
  db: Database,
  user: User,
  agentId: string,
  change: (sql: Sql, agent: Agent) => PromiseLike<unknown>,
) {
  await forMembers(() =>
    db.asUser(user, async (sql) => {
      const locked = await sql`select from agents where id = ${agentId} for update`;
      const agent = await readAgent(sql, agentId);
      if (locked.length === 0) throw new Forbidden(MEMBERS_ONLY);
      await change(sql, agent);
    })
  );
}

const MEMBERS_ONLY = "Only members of the workspace can change agents";

async function forMembers(change: () => Promise<unknown>) {
  try {
    await change();
  } catch (error) {
    if (isDenied(error)) throw new Forbidden(MEMBERS_ONLY);
    throw error;
  }
}

async function readAgent(sql: Sql, agentId: string): Promise<Agent> {
  const [agent] = await readAgents(sql, sql`a.id = ${agentId}`);
  if (!agent) throw new NotFound("There is no such agent");
  return agent;
}

async function readAgents(sql: Sql, which: ReturnType<Sql>): Promise<Agent[]> {
  const agents = await sql<Omit<Agent, "tokens" | "connections">[]>`
    select a.id, a.workspace_id as "workspaceId", a.name, a.created_at as "createdAt",
      a.denies_by_default as "deniesByDefault", a.presents, a.instructions, a.asks
    from agents a where ${which} order by lower(a.name), a.id`;
  const ids = agents.map((agent) => agent.id);
  const tokens = await sql<(AgentToken & { agentId: string })[]>`
    select agent_id as "agentId", id, name, created_at as "createdAt", expires_at as "expiresAt",
      revoked_at as "revokedAt", last_used_at as "lastUsedAt", client_host as "clientHost",
      client_id as "clientId", scope, wanted_more_at as "wantedMoreAt"
    from agent_tokens where agent_id = any(${ids}) order by created_at desc`;
  const connections = await sql<(Agent["connections"][number] & { agentId: string })[]>`
    select c.agent_id as "agentId", s.id as "serverId", s.name as "serverName", s.slug as "serverSlug",
      s.running,
      (select count(*)::int from tools t where t.server_id = s.id and t.present and t.hash = t.approved_hash)
        as "toolsApproved",
      (select count(*)::int from tools t where t.server_id = s.id and t.present) as "toolsTotal"
    from connections c join servers s on s.id = c.server_id
    where c.agent_id = any(${ids}) order by lower(s.name), s.id`;
  return agents.map((agent) => ({
    ...agent,
    tokens: tokens.filter(({ agentId }) => agentId === agent.id),
    connections: connections.filter(({ agentId }) => agentId === agent.id),
  }));
}
