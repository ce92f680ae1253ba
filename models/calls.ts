import { v7 } from "uuid";
import type { BodyKeeper, Said } from "./call_bodies.ts";
import type { Database, Sql, User } from "./db.ts";
import { NotFound } from "./errors.ts";
import { withoutNul } from "./events.ts";
import { errorFields, type Log } from "./log.ts";

/** How a call ended: `tool_error` is the tool's own word, `error` means that it was not run. */
export type Outcome = "ok" | "tool_error" | "error" | "cancelled" | "indeterminate";

export interface Call {
  id: string;
  agentId: string | null;
  agentName: string | null;
  serverId: string | null;
  serverSlug: string;
  tool: string;
  /** `bridge`: an agent called; `trial`: a person tried the tool on its page. */
  via: "bridge" | "trial";
  startedAt: Date;
  durationMs: number;
  outcome: Outcome;
  error: string | null;
  requestBytes: number;
  responseBytes: number;
}

/** A call to be recorded. */
export type NewCall = Omit<Call, "id" | "agentName"> & {
  workspaceId: string;
  /** What was said, where it may be kept ({@link CallRecorder.said}). */
  said?: Said;
};

/** The newest calls, newest first; `before` a call's start, or a call, for older ones. */
export async function listCalls(
  db: Database,
  user: User,
  of: { workspaceId: string } | { agentId: string } | { serverId: string },
  { limit = 50, before }: { limit?: number; before?: Date | Pick<Call, "startedAt" | "id"> } = {},
): Promise<Call[]> {
  return await db.asUser(user, async (sql) => {
    const whose = "agentId" in of
      ? sql`c.agent_id = ${of.agentId}`
      : "serverId" in of
      ? sql`c.server_id = ${of.serverId}`
      : sql`c.workspace_id = ${of.workspaceId}`;
    const older = before === undefined
      ? sql`true`
      : before instanceof Date
      ? sql`c.started_at < ${before}`
      : sql`(c.started_at, c.id) < (${before.startedAt}, ${before.id}::uuid)`;
    return await sql<Call[]>`
      select ${columns(sql)}
      from calls c left join agents a on a.id = c.agent_id
      where ${whose} and ${older}
      order by c.started_at desc, c.id desc limit ${limit}`;
  });
}

/** @throws {NotFound} */
export async function getCall(db: Database, user: User, id: string): Promise<Call> {
  const [call] = await db.asUser(user, (sql) =>
    sql<Call[]>`
      select ${
      columns(sql)
    } from calls c left join agents a on a.id = c.agent_id where c.id = ${id}`);
  if (!call) throw new NotFound("There is no such call, or it is not kept any more");
  return call;
}

/** How a server's calls went of late. */
export interface CallFigures {
  calls: number;
  /** Not answered by the server: refused, lost, too late, or with an error of the protocol. */
  failed: number;
  /** Answered by the tool that it failed. */
  toolErrors: number;
  /** Of those that were answered; null when none was. */
  medianMs: number | null;
  p95Ms: number | null;
}

/** How a server's calls of the last hour went; those that their caller gave up count in nothing. */
export async function callFigures(
  db: Database,
  user: User,
  serverId: string,
): Promise<CallFigures> {
  const [found] = await db.asUser(user, (sql) =>
    sql<CallFigures[]>`
      select count(*)::int as calls,
        count(*) filter (where c.outcome in ('error', 'indeterminate'))::int as failed,
        count(*) filter (where c.outcome = 'tool_error')::int as "toolErrors",
        percentile_cont(0.5) within group (order by c.duration_ms)
          filter (where c.outcome in ('ok', 'tool_error')) as "medianMs",
        percentile_cont(0.95) within group (order by c.duration_ms)
          filter (where c.outcome in ('ok', 'tool_error')) as "p95Ms"
      from calls c
      where c.server_id = ${serverId} and c.outcome <> 'cancelled'
        and c.started_at > now() - interval '1 hour'`);
  return found;
}

/** What {@link Call} is read from: `calls c`, joined with `agents a`. */
export function columns(sql: Sql) {
  return sql`c.id, c.agent_id as "agentId", a.name as "agentName", c.server_id as "serverId",
    c.server_slug as "serverSlug", c.tool, c.via, c.started_at as "startedAt",
    c.duration_ms as "durationMs", c.outcome, c.error, c.request_bytes as "requestBytes",
    c.response_bytes as "responseBytes"`;
}

/** How long a call waits for others to be written with it. */
const BATCH_MS = 200;
/** While calls come without end: a row in a batch of fifty costs twice what one of five hundred does. */
const BUSY_BATCH_MS = 1000;
/** Written at once when so many wait: more together would hold up what else the machine does. */
const BATCH_ROWS = 500;
/** Most calls that wait for a database that does not answer; beyond, the oldest are dropped aloud. */
const WAITING_LIMIT = 10_000;

interface Waiting {
  id: string;
  call: NewCall;
}

/** Writes calls in batches beside the path of the call, which never waits for the database. */
export class CallRecorder {
  #waiting: Waiting[] = [];
  #timer: ReturnType<typeof setTimeout> | null = null;
  #writing: Promise<void> = Promise.resolve();
  #wroteAtMs = -Infinity;
  #tellWritten: ((writing: Promise<void>) => void) | null = null;

  /**
   * @param bodies without it nothing that was said is kept
   * @param keepAlive told of each batch that waits to be written, where the process may end before
   */
  constructor(
    readonly db: Database,
    readonly log: Log,
    readonly bodies: BodyKeeper | null = null,
    readonly keepAlive: ((work: Promise<void>) => void) | null = null,
  ) {}

  /** What was said in a call, for its record; undefined where nobody wants it. */
  said(workspaceId: string, args: string | undefined, answer: Said["answer"]): Said | undefined {
    if (!this.bodies?.mayKeep(workspaceId)) return undefined;
    return this.bodies.hold({ arguments: args ?? "", answer });
  }

  record(call: NewCall): void {
    this.#waiting.push({ id: v7(), call });
    if (this.#waiting.length > WAITING_LIMIT) {
      const { said } = this.#waiting.shift()!.call;
      if (said) this.bodies?.letGo(said);
      this.log.warn("A call's record was dropped: the database does not take them");
    }
    if (this.#timer === null) {
      const written = Promise.withResolvers<void>();
      this.#tellWritten = written.resolve;
      // A process that may end before it is told is not to have much to lose.
      const busyMs = this.keepAlive ? 0 : this.#wroteAtMs + BUSY_BATCH_MS - performance.now();
      this.#timer = setTimeout(() => this.flush(), Math.max(BATCH_MS, busyMs));
      this.keepAlive?.(written.promise);
    }
    // Just then: while the database takes none, more are there, and it is tried again after a while.
    if (this.#waiting.length === BATCH_ROWS) this.flush();
  }

  /** Writes all that waits; resolves when it is written, or kept for the next try. */
  flush(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#writing = this.#writing.then(() => this.#write());
    this.#tellWritten?.(this.#writing);
    this.#tellWritten = null;
    return this.#writing;
  }

  async #write() {
    // Those that come meanwhile are the next time's.
    for (let rest = this.#waiting.length; rest > 0; rest -= BATCH_ROWS) {
      if (await this.#writeBatch(this.#waiting.splice(0, Math.min(rest, BATCH_ROWS)))) continue;
      this.#timer ??= setTimeout(() => this.flush(), BATCH_MS * 5);
      return;
    }
    this.#wroteAtMs = performance.now();
  }

  /** What cannot be kept is not tried again: the calls themselves are recorded. */
  async #keepBodies(batch: Waiting[]) {
    if (!this.bodies) return;
    const bodies = batch.flatMap(({ id, call: { workspaceId, said } }) =>
      said ? [{ id, workspaceId, said }] : []
    );
    if (bodies.length === 0) return;
    try {
      await this.bodies.keep(bodies);
    } catch (error) {
      this.log.error("What was said in calls could not be kept", errorFields(error));
    }
    for (const { said } of bodies) this.bodies.letGo(said);
  }

  async #writeBatch(batch: Waiting[]): Promise<boolean> {
    const { series, calls } = bySeries(batch);
    const column = (valueOf: (each: Waiting) => unknown) => `{${calls.map(valueOf).join()}}`;
    const errors = calls.some(({ call }) => call.error !== null)
      ? calls.map(({ call }) => call.error === null ? null : storable(call.error, 2000))
      : [];
    try {
      // Texts of arrays, since the driver would look at each value by itself.
      await this.db.asApp`select mooring.record_calls(
        ${this.db.asApp.json(series)},
        ${column(({ id }) => id)}::text::uuid[],
        ${column(({ call }) => call.startedAt.getTime())}::text::bigint[],
        ${column(({ call }) => Math.round(call.durationMs * 1000))}::text::bigint[],
        ${column(({ call }) => call.requestBytes)}::text::integer[],
        ${column(({ call }) => call.responseBytes)}::text::integer[],
        ${errors}::text[])`;
      await this.#keepBodies(batch);
      return true;
    } catch (error) {
      // Ids make a second try of a batch that did arrive harmless.
      this.#waiting.unshift(...batch);
      this.log.error("Calls could not be recorded; they are tried again", errorFields(error));
      return false;
    }
  }
}

/** A batch as the database takes it: what is the same of many calls, and from which to which it holds. */
function bySeries(batch: Waiting[]) {
  const groups = Map.groupBy(batch, ({ call }) => {
    const { workspaceId, agentId, serverId, serverSlug, tool, via, outcome } = call;
    // The tool last: it may hold anything.
    return `${workspaceId}|${agentId}|${serverId}|${serverSlug}|${via}|${outcome}|${tool}`;
  });
  let last = 0;
  const series = [...groups.values()].map((group) => {
    const { call } = group[0];
    return {
      first: last + 1,
      last: last += group.length,
      workspace_id: call.workspaceId,
      agent_id: call.agentId,
      server_id: call.serverId,
      server_slug: call.serverSlug,
      tool: storable(call.tool, 1024),
      via: call.via,
      outcome: call.outcome,
    };
  });
  return { series, calls: [...groups.values()].flat() };
}

/** For jsonb, which refuses U+0000 and half a surrogate pair: one such call would hold up all others. */
function storable(text: string, length: number): string {
  return withoutNul(text).slice(0, length).toWellFormed();
}
