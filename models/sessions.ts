/**
 * Sessions of MCP clients of revisions before 2026-07-28, which has none: what a client said when it
 * opened one, and the messages of a session that go from one replica of the app to another.
 */
import type { Database, Sql } from "./db.ts";

export interface Session {
  /** The `Mcp-Session-Id`; no credential, since it is bound to its agent. */
  id: string;
  agentId: string;
  /** The slug of the one server that it is with, or null for all of the agent's. */
  scope: string | null;
  transport: "streamable_http" | "http_sse";
  revision: string;
  /** As the client wrote it: the text of its `clientInfo`. */
  clientInfo: string | null;
  /** What the client can do: elicitation, sampling, roots. */
  capabilities: Record<string, unknown>;
  /** Log messages below this level are not wanted. */
  logLevel: string;
  /** URIs of resources whose changes are wanted, as the client names them. */
  subscriptions: string[];
  expiresAt: Date;
}

/** How long a session is there after its last use. */
export const SESSION_MS = 3 * 24 * 60 * 60_000;

/** A message that waits for who takes it. */
export interface KeptMessage {
  sequence: number;
  message: string;
  /** Milliseconds since it was written. */
  ageMs: number;
}

/** Opens a session for an agent. */
export async function openSession(
  db: Database,
  { agentId, workspaceId }: { agentId: string; workspaceId: string },
  opened: Pick<Session, "scope" | "transport" | "revision" | "clientInfo" | "capabilities">,
): Promise<Session> {
  const id = crypto.randomUUID();
  const { scope, transport, revision, clientInfo, capabilities } = opened;
  return await db.asAgent(agentId, async (sql) => {
    const [session] = await sql<Session[]>`
      insert into mcp_sessions
        (id, workspace_id, agent_id, scope, transport, revision, client_info, capabilities)
      values (${id}, ${workspaceId}, ${agentId}, ${scope}, ${transport}, ${revision},
        ${clientInfo}::text::json, ${JSON.stringify(capabilities)}::text::json)
      returning ${columns(sql)}`;
    return session;
  });
}

/** An agent's session, or null when it has none of this id, or no more. */
export async function readSession(
  db: Database,
  agentId: string,
  id: string,
): Promise<Session | null> {
  return await db.asAgent(agentId, async (sql) => {
    const [session] = await sql<Session[]>`
      select ${columns(sql)} from mcp_sessions where id = ${id} and expires_at > now()`;
    return session ?? null;
  });
}

/** Resources that a session's client is told of; what is beyond is not kept. */
export const SUBSCRIPTIONS_LIMIT = 1000;

/** Changes what is known of a session's client, or what it wants. @returns null when it has ended */
export async function changeSession(
  db: Database,
  { id, agentId }: Pick<Session, "id" | "agentId">,
  change:
    | Pick<Session, "revision" | "clientInfo" | "capabilities">
    | Pick<Session, "logLevel">
    | { subscribe: string }
    | { unsubscribe: string },
): Promise<Session | null> {
  return await db.asAgent(agentId, async (sql) => {
    const set = "revision" in change
      ? sql`revision = ${change.revision}, client_info = ${change.clientInfo}::text::json,
          capabilities = ${JSON.stringify(change.capabilities)}::text::json`
      : "logLevel" in change
      ? sql`log_level = ${change.logLevel}`
      : "subscribe" in change
      ? sql`subscriptions = case when cardinality(subscriptions) < ${SUBSCRIPTIONS_LIMIT}
          then array_append(array_remove(subscriptions, ${change.subscribe}), ${change.subscribe})
          else subscriptions end`
      : sql`subscriptions = array_remove(subscriptions, ${change.unsubscribe})`;
    const [session] = await sql<Session[]>`
      update mcp_sessions set ${set} where id = ${id} and expires_at > now() returning ${
      columns(sql)
    }`;
    return session ?? null;
  });
}

/** Says that a session is in use, which moves its end on. */
export async function touchSession(
  db: Database,
  { id, agentId }: Pick<Session, "id" | "agentId">,
): Promise<void> {
  await db.asAgent(
    agentId,
    (sql) =>
      sql`update mcp_sessions set expires_at = now() + ${SESSION_MS} * interval '1 ms'
        where id = ${id} and expires_at > now()`,
  );
}

/** A session that is no more: by it goes what servers held for it alone. */
export type EndedSession = Pick<Session, "id" | "agentId" | "scope">;

/**
 * Forgets sessions that nobody used for long, of any agent, and the agent's beyond its newest thousand.
 * @returns those that this call forgot
 */
export async function forgetSessions(db: Database, agentId: string): Promise<EndedSession[]> {
  return await db.asApp<EndedSession[]>`
    select id, agent_id as "agentId", scope from mooring.forget_mcp_sessions(${agentId})`;
}

/** Ends a session. @returns whether there was one */
export async function endSession(
  db: Database,
  { id, agentId }: Pick<Session, "id" | "agentId">,
): Promise<boolean> {
  const { count } = await db.asAgent(
    agentId,
    (sql) => sql`delete from mcp_sessions where id = ${id}`,
  );
  return count > 0;
}

/**
 * Keeps messages for whoever reads the stream, at whichever replica, and wakes it.
 *
 * @param first the first one's number, where the writer numbers its stream; null to be given numbers
 * @returns the last one's number, or null when the session has ended
 */
export async function putMessages(
  db: Database,
  sessionId: string,
  stream: string,
  messages: string[],
  first: number | null = null,
): Promise<number | null> {
  const [row] = await db.asApp<{ last: string | null }[]>`
    select mooring.put_mcp_messages(${sessionId}, ${stream}, ${first}, ${messages}) as last`;
  return row.last === null ? null : Number(row.last);
}

/** Some of a stream's messages after a number, in order; none when there are none. */
export async function messagesAfter(
  db: Database,
  sessionId: string,
  stream: string,
  after: number,
): Promise<KeptMessage[]> {
  const rows = await db.asApp<{ sequence: string; message: string; ageMs: number }[]>`
    select sequence, message, age_ms as "ageMs"
    from mooring.mcp_messages_after(${sessionId}, ${stream}, ${after})`;
  return rows.map((row) => ({ ...row, sequence: Number(row.sequence) }));
}

/** Which of many sessions have messages on a stream after the number that is known of each. */
export async function sessionsWithMessages(
  db: Database,
  stream: string,
  known: { id: string; after: number }[],
): Promise<string[]> {
  if (known.length === 0) return [];
  const rows = await db.asApp<{ id: string }[]>`
    select id from unnest(
      ${known.map(({ id }) => id)}::uuid[], ${known.map(({ after }) => after)}::bigint[]
    ) as known (id, after)
    where exists (select from mooring.mcp_messages_after(known.id, ${stream}, known.after))`;
  return rows.map(({ id }) => id);
}

/**
 * What replicas worked on for a session that are silent for so long: the messages of their streams
 * (`run:` and the replica's id), each given to one asker alone.
 */
export async function takeLostRequests(
  db: Database,
  sessionId: string,
  silentMs: number,
): Promise<string[]> {
  const rows = await db.asApp<{ message: string }[]>`
    select mooring.take_lost_mcp_requests(${sessionId}, ${silentMs}) as message`;
  return rows.map(({ message }) => message);
}

function columns(sql: Sql) {
  return sql`id, agent_id as "agentId", scope, transport, revision, client_info::text as "clientInfo",
    capabilities, log_level as "logLevel", subscriptions, expires_at as "expiresAt"`;
}
