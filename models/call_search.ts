/** What a workspace's calls were: searched, counted, and over time. */
import { z } from "zod";
import {
  type Call,
  type CallFigures,
  columns,
  inOrder,
  newestByLeads,
  newestCalls,
  type Outcome,
} from "./calls.ts";
import type { Database, Sql, User } from "./db.ts";
import { Invalid } from "./errors.ts";
import { withoutNul } from "./events.ts";

/**
 * How far back a search looks, in hours (`all` has no end), and what its history is drawn of: spans that
 * calls are counted by (20261125003300_call_sums.sql). A search begins where a span does.
 */
export const PERIODS = {
  hour: { hours: 1, spanSeconds: 60 },
  day: { hours: 24, spanSeconds: 3600 },
  week: { hours: 168, spanSeconds: 21_600 },
  month: { hours: 720, spanSeconds: 86_400 },
  all: { hours: null, spanSeconds: 86_400 },
} as const;
export type Period = keyof typeof PERIODS;

const OUTCOMES = ["ok", "tool_error", "error", "cancelled", "indeterminate"] as const;

/**
 * What is searched for. Read from an address, which anybody may have written: what does not hold is as
 * if it were not there, so that an old link still shows calls.
 */
export const CallFilter = z.object({
  /** Part of a tool's name, of its server's, or of an error. */
  text: z.string().max(200).transform(withoutNul).catch(""),
  agent: z.uuid().nullable().catch(null),
  server: z.uuid().nullable().catch(null),
  /** `failed`: each that did not end as its tool meant it. */
  outcome: z.enum([...OUTCOMES, "failed"]).nullable().catch(null),
  via: z.enum(["bridge", "trial"]).nullable().catch(null),
  period: z.enum(Object.keys(PERIODS) as [Period, ...Period[]]).catch("day"),
});
export type CallFilter = z.infer<typeof CallFilter>;

/** A part of the calls, newest first. */
export interface CallPage {
  calls: Call[];
  /** For the calls before these; null: there are none. */
  next: string | null;
}

/**
 * The calls that match, newest first.
 *
 * @param cursor what an earlier page gave as `next`
 * @throws {Invalid} when the cursor is none of ours
 */
export async function searchCalls(
  db: Database,
  user: User,
  workspaceId: string,
  filter: CallFilter,
  { limit = 50, cursor = null }: { limit?: number; cursor?: string | null } = {},
): Promise<CallPage> {
  const after = cursor === null ? null : readCursor(cursor);
  const rows = await db.asUser(user, async (sql) => {
    const older = after && {
      at: sql`${after.startedAt}::text::timestamptz`,
      is: sql`(c.started_at, c.id) < (${after.startedAt}::text::timestamptz, ${after.id}::uuid)`,
    };
    const { newest, matches } = waysTo(sql, workspaceId, filter);
    // Names and errors apart: the names that there are are few, and errors have an index of their own.
    const names = namesLike(sql, workspaceId, filter);
    // No join, which without statistics would be made in the worst order.
    const isNamed = sql`((c.server_slug, c.tool) in (${names})) is true`;
    const isSome = filter.text !== "" &&
      (await sql`select exists (${names}) as found`)[0].found;
    const byError = sql`${matching(sql, workspaceId, filter)} and ${failedSo(sql, filter)}`;
    const found = filter.text === ""
      ? newest(sql, matches, older, limit + 1)
      // Where no name has the text, all calls would be read to find none of them.
      : !isSome
      ? newestCalls(sql, byError, older, limit + 1)
      : sql`(${newest(sql, sql`${matches} and ${isNamed}`, older, limit + 1)}) union all
        (${newestCalls(sql, sql`${byError} and not ${isNamed}`, older, limit + 1)})`;
    return await inOrder(
      sql,
      sql<(Call & { startedText: string })[]>`
        select ${columns(sql)}, c.started_at::text as "startedText"
        from (${found}) c left join agents a on a.id = c.agent_id
        order by c.started_at desc, c.id desc limit ${limit + 1}`,
    );
  });
  const calls = rows.slice(0, limit);
  const last = calls.at(-1);
  return {
    calls: calls.map(({ startedText: _, ...call }) => call),
    next: last && rows.length > limit ? `${last.startedText}_${last.id}` : null,
  };
}

/** What calls can be narrowed to, by name. */
export interface CallChoices {
  agents: { id: string; name: string }[];
  servers: { id: string; name: string }[];
}

/** The agents and servers that there are, without all else that is known of them. */
export async function callChoices(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<CallChoices> {
  return await db.asUser(user, async (sql) => {
    const rows = await sql<{ kind: "agents" | "servers"; id: string; name: string }[]>`
      select 'agents' as kind, id, name from agents where workspace_id = ${workspaceId}
      union all
      select 'servers', id, name from servers where workspace_id = ${workspaceId}
      order by 1, 3, 2`;
    const of = (wanted: string) =>
      rows.filter(({ kind }) => kind === wanted).map(({ id, name }) => ({ id, name }));
    return { agents: of("agents"), servers: of("servers") };
  });
}

/** How the calls of one tool, server or agent went; times are at most 5 % off. */
export interface CallGroup extends CallFigures {
  /** A server's or an agent's id; null of a tool, of one that is gone, and of what people tried. */
  id: string | null;
  name: string;
}

/** By what calls can be counted together. */
export type GroupBy = "tool" | "server" | "agent";

/** The calls of one stretch of time. */
export interface CallBucket {
  at: Date;
  ok: number;
  /** Those that did not end as their tool meant them. */
  failed: number;
  medianMs: number | null;
  p95Ms: number | null;
}

/** How many stretches of time a history has at most. */
export const BUCKETS = 61;

/** What calls sum up to. */
export interface CallSummary {
  total: CallFigures;
  /** Parts of one length from one time on, oldest first; those without calls are left out. */
  history: { from: Date; until: Date; partMs: number; buckets: CallBucket[] };
  /** Those with most calls, fifty at most, most first. */
  groups: CallGroup[];
  /** What was searched has more errors than are read: {@link ERRORS_READ} of them were, the newest. */
  isCut: boolean;
}

/** A word that stands in no name is looked for in so many errors, where calls are counted. */
export const ERRORS_READ = 5000;

/**
 * Sums up the calls that match, over the filter's period (`all` is from the day of the first call that
 * matches), and by tool, server or agent: from what was counted when they were recorded, so calls that are
 * not kept any more count as well.
 */
export async function summarizeCalls(
  db: Database,
  user: User,
  workspaceId: string,
  filter: CallFilter,
  by: GroupBy,
): Promise<CallSummary> {
  const { hours, spanSeconds } = PERIODS[filter.period];
  return await db.asUser(user, async (sql) => {
    const [{ from, until }] = await sql<{ from: Date; until: Date }[]>`
      select now() as until, ${
      hours === null
        ? sql`date_bin('1 day', coalesce(least(
            (select at from call_sums
              where workspace_id = ${workspaceId} and span_seconds = ${spanSeconds}
              order by workspace_id, span_seconds, at limit 1),
            (select min(at) from call_tail where workspace_id = ${workspaceId})), now()), 'epoch')`
        : beginning(sql, spanSeconds, hours)
    } as from`;
    const rows = await sql<Counted[]>`
      ${countedAhead(sql, workspaceId, filter, by)}`;
    const late = await sql<Counted[]>`${countedLately(sql, workspaceId, filter, by)}`;
    const byError = filter.text === "" ? [] : await sql<Counted[]>`
      ${countedByError(sql, workspaceId, filter, by)}`;

    const spanMs = spanSeconds * 1000;
    const spans = Math.ceil((until.getTime() - from.getTime()) / spanMs);
    const partMs = Math.ceil(spans / BUCKETS) * spanMs;
    const total = new Tally(), parts = new Map<number, Tally>(), groups = new Map<string, Group>();
    for (const row of [...rows, ...late, ...byError]) {
      if (row.at !== null) {
        total.add(row);
        const part = Math.floor((row.at * 1000 - from.getTime()) / partMs);
        tallyOf(parts, part, () => new Tally()).add(row);
      }
      if (row.name !== null) {
        const { id, name } = row;
        tallyOf(groups, `${id} ${name}`, () => ({ id, name, tally: new Tally() })).tally.add(row);
      }
    }
    return {
      total: total.figures(),
      history: {
        from,
        until,
        partMs,
        buckets: [...parts].sort(([a], [b]) => a - b).map(([part, tally]) => {
          const { medianMs, p95Ms } = tally.figures();
          const at = new Date(from.getTime() + part * partMs);
          return { at, ok: tally.ok, failed: tally.bad, medianMs, p95Ms };
        }),
      },
      groups: [...groups.values()]
        .sort((a, b) => b.tally.calls - a.tally.calls || (a.name < b.name ? -1 : 1))
        .slice(0, GROUPS_LIMIT)
        .map(({ id, name, tally }) => ({ id, name, ...tally.figures() })),
      isCut: byError.reduce((sum, { at, calls }) =>
        at === null ? sum : sum + calls, 0) >= ERRORS_READ,
    };
  });
}

/** So many calls: of a span (`at`, in seconds), or of a group (`name`), or of both. */
interface Counted {
  at: number | null;
  id: string | null;
  name: string | null;
  outcome: Outcome;
  bucket: number;
  calls: number;
}

interface Group {
  id: string | null;
  name: string;
  tally: Tally;
}

const GROUPS_LIMIT = 50;

function tallyOf<Key, T>(all: Map<Key, T>, key: Key, make: () => T): T {
  const found = all.get(key) ?? make();
  all.set(key, found);
  return found;
}

/** Adds up calls by how they ended and how long they took. */
class Tally {
  calls = 0;
  ok = 0;
  /** Those that did not end as their tool meant them. */
  bad = 0;
  #failed = 0;
  #toolErrors = 0;
  /** Of those that were answered: how many took as long as a bucket says. */
  readonly #answered = new Map<number, number>();

  add({ outcome, bucket, calls }: Pick<Counted, "outcome" | "bucket" | "calls">) {
    this.calls += calls;
    if (outcome === "ok") this.ok += calls;
    if (outcome === "error" || outcome === "indeterminate") this.#failed += calls;
    if (outcome === "tool_error") this.#toolErrors += calls;
    if (outcome !== "ok" && outcome !== "cancelled") this.bad += calls;
    if (outcome === "ok" || outcome === "tool_error") {
      this.#answered.set(bucket, (this.#answered.get(bucket) ?? 0) + calls);
    }
  }

  figures(): CallFigures {
    const [medianMs, p95Ms] = this.#within([0.5, 0.95]);
    const { calls } = this;
    return { calls, failed: this.#failed, toolErrors: this.#toolErrors, medianMs, p95Ms };
  }

  /** The time within which each share of the calls was answered: its bucket's middle, at most 4.9 % off. */
  #within(shares: number[]): (number | null)[] {
    const sorted = [...this.#answered].sort(([a], [b]) => a - b);
    const whole = sorted.reduce((sum, [, calls]) => sum + calls, 0);
    return shares.map((share) => {
      let upTo = 0;
      const found = sorted.find(([, calls]) => (upTo += calls) >= share * whole);
      return found ? 1.1 ** (found[0] + 0.5) : null;
    });
  }
}

/** How a server's calls of the last hour went; those that their caller gave up count in nothing. */
export async function callFigures(
  db: Database,
  user: User,
  serverId: string,
): Promise<CallFigures> {
  const rows = await db.asUser(user, (sql) => {
    const workspace = sql`(select workspace_id from servers where id = ${serverId})`;
    const lately = sql`at >= ${beginning(sql, PERIODS.hour.spanSeconds, PERIODS.hour.hours)}`;
    return sql<Pick<Counted, "outcome" | "bucket" | "calls">[]>`
      select outcome, bucket, sum(calls)::int as calls from (
        select outcome, bucket, calls from call_sums
        where workspace_id = ${workspace} and span_seconds = ${PERIODS.hour.spanSeconds} and ${lately}
          and series_id = any (array(select id from call_series
            where workspace_id = ${workspace} and server_id = ${serverId}))
        union all
        select outcome, bucket, calls from call_tail
        where workspace_id = ${workspace} and server_id = ${serverId} and ${lately}
      ) counted where outcome <> 'cancelled' group by 1, 2`;
  });
  const tally = new Tally();
  for (const row of rows) tally.add(row);
  return tally.figures();
}

/** What was counted when calls were recorded: each span, and the groups with the most calls. */
function countedAhead(sql: Sql, workspaceId: string, filter: CallFilter, by: GroupBy) {
  const { hours, spanSeconds } = PERIODS[filter.period];
  const { text, agent, server, outcome, via } = filter;
  const isSome = Boolean(text || agent || server || outcome || via);
  return sql`
    with counted as materialized (
      select at, series_id, outcome, bucket, sum(calls)::int as calls
      from call_sums
      where workspace_id = ${workspaceId} and span_seconds = ${spanSeconds}
        and ${hours === null ? sql`true` : sql`at >= ${beginning(sql, spanSeconds, hours)}`}
        and ${
    isSome
      ? sql`series_id = any (array(select c.id from call_series c
          where ${ofSeries(sql, workspaceId, filter)} and ${
        text ? named(sql, filter) : sql`true`
      }))`
      : sql`true`
  }
      group by grouping sets ((at, outcome, bucket), (series_id, outcome, bucket))
    ), grouped as materialized (
      select ${groupOf(sql, by)}, counted.outcome, bucket, calls
      from counted join call_series c on c.id = series_id
      left join agents a on a.id = c.agent_id left join servers s on s.id = c.server_id
    ), largest as materialized (
      select id, name from grouped group by id, name
      order by sum(calls) desc, name limit ${GROUPS_LIMIT}
    )
    select extract(epoch from at)::float8 as at, null::uuid as id, null as name, outcome, bucket, calls
    from counted where series_id is null
    union all
    select null, g.id, g.name, g.outcome, g.bucket, sum(g.calls)::int
    from grouped g join largest l on l.name = g.name and l.id is not distinct from g.id
    group by g.id, g.name, g.outcome, g.bucket`;
}

/** What was recorded in the last seconds, and is not among the sums yet. */
function countedLately(sql: Sql, workspaceId: string, filter: CallFilter, by: GroupBy) {
  const { hours, spanSeconds } = PERIODS[filter.period];
  return sql`
    select extract(epoch from c.at)::float8 as at, ${groupOf(sql, by)}, c.outcome, c.bucket,
      sum(c.calls)::int as calls
    from call_tail c left join agents a on a.id = c.agent_id left join servers s on s.id = c.server_id
    where ${ofSeries(sql, workspaceId, filter)} and ${
    filter.text ? named(sql, filter) : sql`true`
  } and ${hours === null ? sql`true` : sql`c.at >= ${beginning(sql, spanSeconds, hours)}`}
    group by 1, 2, 3, 4, 5`;
}

/** Calls that match by what their error says, which nothing counts ahead. */
function countedByError(sql: Sql, workspaceId: string, filter: CallFilter, by: GroupBy) {
  return sql`
    select extract(epoch from c.started_at)::float8 as at, ${groupOf(sql, by)}, c.outcome,
      -- As mooring.duration_bucket has it, which is not a person's to call.
      floor(ln(least(greatest(c.duration_ms, 0.01), 1e7)) / ln(1.1::float8))::int as bucket,
      1 as calls
    from calls c left join agents a on a.id = c.agent_id left join servers s on s.id = c.server_id
    where ${matching(sql, workspaceId, filter)} and ${failedSo(sql, filter)}
      and not ${named(sql, filter)}
    order by c.started_at desc limit ${ERRORS_READ}`;
}

/** By what is counted together: `calls c` or `call_series c`, `agents a`, `servers s`. */
function groupOf(sql: Sql, by: GroupBy) {
  return {
    tool: sql`null::uuid as id, c.server_slug || ' / ' || c.tool as name`,
    server: sql`s.id, c.server_slug as name`,
    agent: sql`a.id, coalesce(a.name,
      case when c.via = 'trial' then 'tried on a page' else 'removed agents' end) as name`,
  }[by];
}

/** Where a search begins: at the span in which its hours are over. */
function beginning(sql: Sql, spanSeconds: number, hours: number) {
  return sql`date_bin(make_interval(secs => ${spanSeconds}::int), now() - make_interval(hours => ${hours}::int),
    'epoch')`;
}

/** How the newest calls that match are found, but for the filter's text. */
function waysTo(sql: Sql, workspaceId: string, filter: CallFilter) {
  // What is seldom has an index of its own, by workspace.
  const isSeldom = filter.via === "trial" || isNotOk(filter);
  if (isSeldom || !filter.agent && !filter.server) {
    return { newest: newestCalls, matches: matching(sql, workspaceId, filter) };
  }
  // So that no index by workspace is taken, of which much would be read in vain.
  const matches = sql`(c.workspace_id = ${workspaceId}) is true and ${narrowed(sql, filter)}
    and ${since(sql, filter)}`;
  return { newest: newestByLeads, matches };
}

/** Which calls, but for the filter's text. */
function matching(sql: Sql, workspaceId: string, filter: CallFilter) {
  return sql`${ofSeries(sql, workspaceId, filter)} and ${since(sql, filter)}`;
}

function since(sql: Sql, { period }: CallFilter) {
  const { hours, spanSeconds } = PERIODS[period];
  return hours === null ? sql`true` : sql`c.started_at >= ${beginning(sql, spanSeconds, hours)}`;
}

/** None: all of them. */
function outcomesOf({ outcome }: CallFilter): Outcome[] {
  if (outcome === "failed") return ["tool_error", "error", "indeterminate"];
  return outcome ? [outcome] : [];
}

function isNotOk({ outcome }: CallFilter): boolean {
  return outcome !== null && outcome !== "ok";
}

/** Of calls and of their series alike. */
function ofSeries(sql: Sql, workspaceId: string, filter: CallFilter) {
  return sql`c.workspace_id = ${workspaceId} and ${narrowed(sql, filter)}`;
}

function narrowed(sql: Sql, filter: CallFilter) {
  const outcomes = outcomesOf(filter);
  // As they stand in the conditions of two indexes, which a parameter is not known to meet.
  const tried = filter.via === "trial" ? sql`c.via = 'trial'` : sql`true`;
  const notOk = isNotOk(filter) ? sql`c.outcome <> 'ok'` : sql`true`;
  return sql`${tried} and ${notOk}
    and ${filter.agent ? sql`c.agent_id = ${filter.agent}` : sql`true`}
    and ${filter.server ? sql`c.server_id = ${filter.server}` : sql`true`}
    and ${filter.via ? sql`c.via = ${filter.via}` : sql`true`}
    and ${outcomes.length ? sql`c.outcome = any(${outcomes})` : sql`true`}`;
}

function likeOf({ text }: CallFilter): string {
  return `%${text.replace(/[\\%_]/g, "\\$&")}%`;
}

function named(sql: Sql, filter: CallFilter) {
  return sql`(c.tool ilike ${likeOf(filter)} or c.server_slug ilike ${likeOf(filter)})`;
}

/** What has the text in its name, of the few names that there are: of calls it is looked up here. */
function namesLike(sql: Sql, workspaceId: string, filter: CallFilter) {
  return sql`
    select c.server_slug, c.tool from call_series c
    where ${ofSeries(sql, workspaceId, filter)} and ${named(sql, filter)}
    union all
    select c.server_slug, c.tool from call_tail c
    where ${ofSeries(sql, workspaceId, filter)} and ${named(sql, filter)}`;
}

function failedSo(sql: Sql, filter: CallFilter) {
  return sql`c.outcome <> 'ok' and c.error ilike ${likeOf(filter)}`;
}

/** Postgres's own text of a time keeps the microseconds, which a Date would lose. */
const Cursor = z.tuple([
  z.string().regex(/^\d{4,6}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?[+-]\d\d(:\d\d){0,2}$/),
  z.uuid(),
]);

function readCursor(cursor: string): { startedAt: string; id: string } {
  const parsed = Cursor.safeParse(cursor.split("_"));
  if (!parsed.success) throw new Invalid("There is no such page of calls: begin with the first");
  const [startedAt, id] = parsed.data;
  return { startedAt, id };
}
