/** What a workspace's calls were: searched, counted, and over time. */
import { z } from "zod";
import { type Call, type CallFigures, columns, figures, type Outcome } from "./calls.ts";
import type { Database, Sql, User } from "./db.ts";
import { Invalid } from "./errors.ts";
import { withoutNul } from "./events.ts";

/** How far back a search looks, in hours; `all` has no end. */
export const PERIODS = { hour: 1, day: 24, week: 168, month: 720, all: null } as const;
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
  const rows = await db.asUser(user, (sql) =>
    sql<(Call & { startedText: string })[]>`
      select ${columns(sql)}, c.started_at::text as "startedText"
      from calls c left join agents a on a.id = c.agent_id
      where ${matching(sql, workspaceId, filter)}
        and ${
      after
        ? sql`(c.started_at, c.id) < (${after.startedAt}::text::timestamptz, ${after.id}::uuid)`
        : sql`true`
    }
      order by c.started_at desc, c.id desc limit ${limit + 1}`);
  const calls = rows.slice(0, limit);
  const last = calls.at(-1);
  return {
    calls: calls.map(({ startedText: _, ...call }) => call),
    next: last && rows.length > limit ? `${last.startedText}_${last.id}` : null,
  };
}

/** How the calls of one tool, server or agent went. */
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
export const BUCKETS = 60;

/** What calls sum up to. */
export interface CallSummary {
  total: CallFigures;
  /** {@link BUCKETS} equal parts from one time to the other, oldest first; those without calls are left out. */
  history: { from: Date; until: Date; buckets: CallBucket[] };
  /** Those with most calls, fifty at most, most first. */
  groups: CallGroup[];
}

/**
 * Sums up the calls that match, over the filter's period (`all` is from the first call that matches), and
 * by tool, server or agent. The calls are read once for all of it.
 */
export async function summarizeCalls(
  db: Database,
  user: User,
  workspaceId: string,
  filter: CallFilter,
  by: GroupBy,
): Promise<CallSummary> {
  return await db.asUser(user, async (sql) => {
    const hours = PERIODS[filter.period];
    const [{ from, until }] = await sql<{ from: Date; until: Date }[]>`
      select now() as until, ${
      hours === null
        ? sql`coalesce((select min(c.started_at) from calls c
            where ${matching(sql, workspaceId, filter)}), now()) - interval '1 second'`
        : sql`now() - make_interval(hours => ${hours})`
    } as from`;
    const [id, name] = {
      tool: [sql`null::uuid`, sql`c.server_slug || ' / ' || c.tool`],
      server: [sql`c.server_id`, sql`c.server_slug`],
      agent: [
        sql`c.agent_id`,
        sql`coalesce((select a.name from agents a where a.id = c.agent_id),
          case when c.via = 'trial' then 'tried on a page' else 'removed agents' end)`,
      ],
    }[by];
    type Part = CallFigures & { part: number | null; ok: number; bad: number };
    const [{ parts, groups }] = await sql<{ parts: Part[]; groups: CallGroup[] }[]>`
      with c as materialized (
        select c.agent_id, c.server_id, c.server_slug, c.tool, c.via, c.duration_ms, c.outcome,
          width_bucket(extract(epoch from c.started_at)::float8, ${from.getTime() / 1000}::float8,
            ${until.getTime() / 1000}::float8, ${BUCKETS}) as part
        from calls c
        where ${matching(sql, workspaceId, filter)} and c.started_at >= ${from}
          and c.started_at < ${until}
      )
      select
        (select json_agg(p order by p.part nulls first) from (
          select c.part, ${figures(sql)},
            count(*) filter (where c.outcome = 'ok')::int as ok,
            count(*) filter (where c.outcome not in ('ok', 'cancelled'))::int as bad
          from c group by grouping sets ((), (c.part))) p) as parts,
        (select coalesce(json_agg(g order by g.calls desc, g.name), '[]') from (
          select ${id} as id, ${name} as name, ${figures(sql)}
          from c group by 1, 2
          order by calls desc limit 50) g) as groups`;
    const [{ part: _, ok: _ok, bad: _bad, ...total }, ...history] = parts;
    const partMs = (until.getTime() - from.getTime()) / BUCKETS;
    return {
      total,
      history: {
        from,
        until,
        buckets: history.map(({ part, ok, bad, medianMs, p95Ms }) => ({
          at: new Date(from.getTime() + (part! - 1) * partMs),
          ok,
          failed: bad,
          medianMs,
          p95Ms,
        })),
      },
      groups,
    };
  });
}

function matching(sql: Sql, workspaceId: string, filter: CallFilter) {
  const hours = PERIODS[filter.period];
  const like = `%${filter.text.replace(/[\\%_]/g, "\\$&")}%`;
  const outcomes: Outcome[] = filter.outcome === "failed"
    ? ["tool_error", "error", "indeterminate"]
    : filter.outcome
    ? [filter.outcome]
    : [];
  return sql`c.workspace_id = ${workspaceId}
    and ${hours === null ? sql`true` : sql`c.started_at > now() - make_interval(hours => ${hours})`}
    and ${filter.agent ? sql`c.agent_id = ${filter.agent}` : sql`true`}
    and ${filter.server ? sql`c.server_id = ${filter.server}` : sql`true`}
    and ${filter.via ? sql`c.via = ${filter.via}` : sql`true`}
    and ${outcomes.length ? sql`c.outcome = any(${outcomes})` : sql`true`}
    and ${
    filter.text
      ? sql`(c.tool ilike ${like} or c.server_slug ilike ${like} or c.error ilike ${like})`
      : sql`true`
  }`;
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
