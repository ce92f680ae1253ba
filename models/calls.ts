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
    const older = before === undefined
      ? null
      : before instanceof Date
      ? { at: sql`${before}::timestamptz`, is: sql`c.started_at < ${before}` }
      : {
        at: sql`${before.startedAt}::timestamptz`,
        is: sql`(c.started_at, c.id) < (${before.startedAt}, ${before.id}::uuid)`,
      };
    const newest = "agentId" in of
      ? newestByLeads(sql, sql`c.agent_id = ${of.agentId}`, older, limit)
      : "serverId" in of
      ? newestByLeads(sql, sql`c.server_id = ${of.serverId}`, older, limit)
      : newestCalls(sql, sql`c.workspace_id = ${of.workspaceId}`, older, limit);
    return await inOrder(
      sql,
      sql<Call[]>`
        select ${columns(sql)}
        from (${newest}) c left join agents a on a.id = c.agent_id
        order by c.started_at desc, c.id desc`,
    );
  });
}

/**
 * The rows of a list's query, for which an index is read from its end until there are enough: without
 * statistics, as in the embedded database, Postgres expects that hardly a call matches, and sorts all that
 * do. Both are sent at once.
 */
export async function inOrder<Rows>(sql: Sql, list: PromiseLike<Rows>): Promise<Rows> {
  const [, rows] = await Promise.all([sql`set local enable_bitmapscan = off`, list]);
  return rows;
}

type Fragment = ReturnType<typeof columns>;

/** Where a list of calls goes on: at a time, with those for which `is` holds. */
export interface Older {
  at: Fragment;
  is: Fragment;
}

/** The newest of those `calls c` that match, where an index has them in order: by workspace. */
export function newestCalls(sql: Sql, matching: Fragment, older: Older | null, limit: number) {
  // Those of one instant all, since the index orders them by nothing else.
  return sql`select c.* from (
      select c.* from calls c where ${matching} and ${older?.is ?? sql`true`}
      order by c.started_at desc fetch first ${limit} rows with ties) c
    order by c.started_at desc, c.id desc limit ${limit}`;
}

/**
 * The newest of those `calls c` that match, of an agent or of a server, which an index has the leads of
 * (20261127000100_call_leads.sql): they are within the spans of their newest leads.
 *
 * @param matching what holds of all calls of a series or of none, and from which time on
 */
export function newestByLeads(sql: Sql, matching: Fragment, older: Older | null, limit: number) {
  const span = sql`interval '10 milliseconds'`;
  const spanOf = (at: Fragment) => sql`date_bin(${span}, ${at}, 'epoch')`;
  const leads = sql`select c.workspace_id, ${spanOf(sql`c.started_at`)} as at from calls c
    where ${matching} and c.leads`;
  const spans = older
    // The span that the list goes on in may have none but leads that it is past.
    ? sql`(${leads} and c.started_at < ${older.at} order by c.started_at desc limit ${limit})
      union (${leads} and c.started_at >= ${spanOf(older.at)}
        and c.started_at < ${spanOf(older.at)} + ${span})`
    : sql`select distinct * from (${leads} order by c.started_at desc limit ${limit}) l`;
  return sql`select c.* from (${spans}) s cross join lateral (
      select c.* from calls c
      where c.workspace_id = s.workspace_id and c.started_at >= s.at and c.started_at < s.at + ${span}
        and ${matching} and ${older?.is ?? sql`true`}
      -- Whatever is known of the table: each span is looked up.
      offset 0) c
    order by c.started_at desc, c.id desc limit ${limit}`;
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
const BATCH_ROWS = 1000;
/** Most calls that wait for a database that does not answer; beyond, the oldest are dropped aloud. */
const WAITING_LIMIT = 10_000;

interface Waiting {
  id: string;
  call: NewCall;
}

/** Ids that count up from one (RFC 9562, section 6.2, method 2), which costs a fifth of what each by chance does. */
function idsFrom(id: string): () => string {
  const start = id.slice(0, 24);
  // Of 48 bits one less, so that there is room above.
  let last = parseInt(id.slice(24), 16) % 2 ** 47;
  return () => start + (last++).toString(16).padStart(12, "0");
}

/** Writes calls in batches beside the path of the call, which never waits for the database. */
export class CallRecorder {
  #waiting: Waiting[] = [];
  #timer: ReturnType<typeof setTimeout> | null = null;
  #writing: Promise<void> = Promise.resolve();
  #wroteAtMs = -Infinity;
  #nextId = idsFrom(v7());
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
    if (this.#waiting.length === 0) this.#nextId = idsFrom(v7());
    this.#waiting.push({ id: this.#nextId(), call });
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
    const { series, calls, leading } = bySeries(batch);
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
        ${errors}::text[],
        ${`{${leading.join()}}`}::text::boolean[])`;
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

/**
 * A batch as the database takes it: what is the same of many calls, and from which to which it holds; and
 * which of the calls lead.
 */
function bySeries(batch: Waiting[]) {
  // As they started, which is how the index of a workspace's calls grows at its end.
  const sorted = batch.toSorted((a, b) => startOf(a) - startOf(b));
  const groups = Map.groupBy(sorted, ({ call }) => {
    const { workspaceId, agentId, serverId, serverSlug, tool, via, outcome } = call;
    // The tool last: it may hold anything.
    return `${workspaceId}|${agentId}|${serverId}|${serverSlug}|${via}|${outcome}|${tool}`;
  });
  let last = 0;
  const leading: ("t" | "f")[] = [];
  const series = [...groups.values()].map((group) => {
    const counts = new Map<string, [minute: number, bucket: number, calls: number]>();
    for (const [i, each] of group.entries()) {
      const leads = i + 1 === group.length || leadSpanOf(each) !== leadSpanOf(group[i + 1]);
      leading.push(leads ? "t" : "f");
      const minute = Math.floor(startOf(each) / 60_000);
      const bucket = durationBucket(each.call.durationMs);
      const counted = counts.get(`${minute} ${bucket}`);
      if (counted) counted[2]++;
      else counts.set(`${minute} ${bucket}`, [minute, bucket, 1]);
    }
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
      counts: [...counts.values()],
    };
  });
  return { series, calls: [...groups.values()].flat(), leading };
}

const startOf = ({ call }: Waiting) => call.startedAt.getTime();

/** Of so many milliseconds one call leads: see {@link newestByLeads}. */
const leadSpanOf = (each: Waiting) => Math.floor(startOf(each) / 10);

/** As mooring.duration_bucket has it. */
const durationBucket = (ms: number) =>
  Math.floor(Math.log(Math.min(Math.max(ms, 0.01), 1e7)) / Math.log(1.1));

/** For jsonb, which refuses U+0000 and half a surrogate pair: one such call would hold up all others. */
function storable(text: string, length: number): string {
  return withoutNul(text).slice(0, length).toWellFormed();
}
