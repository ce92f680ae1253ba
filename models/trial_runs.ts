/** A person's trials of tools: each is a run, which its person alone sees. */
import { v7 } from "uuid";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, isDenied, NotFound } from "./errors.ts";
import { parseExactly } from "./exact_json.ts";

/** A question of the server that a run waits with. */
export interface Question {
  id: string;
  /** As MCP has it: `message`, and `requestedSchema` or `url`. */
  params: Record<string, unknown>;
}

export interface Progress {
  progress: number;
  total?: number;
  message?: string;
}

export interface TrialOutcome {
  result?: Record<string, unknown>;
  error?: { code: number; message: string; data?: unknown };
}

export interface TrialRun {
  id: string;
  serverId: string;
  tool: string;
  /** `lost`: the replica that worked on it is gone, and nobody knows how it ended. */
  state: "running" | "ended" | "cancelled" | "lost";
  /** With numbers as they were sent. Null when they were too large to keep behind a newer run. */
  arguments: Record<string, unknown> | null;
  progress: Progress | null;
  questions: Question[];
  /** Requests of the server that no page can answer. */
  refused: string[];
  cancelAsked: boolean;
  /** With numbers as they were answered. Null while it runs, and when it was too large to keep. */
  outcome: TrialOutcome | null;
  durationMs: number | null;
  startedAt: Date;
}

/** One of the last runs. */
export interface PastRun extends Pick<TrialRun, "id" | "state" | "durationMs" | "startedAt"> {
  /** The beginning of its arguments' JSON. */
  argumentsStart: string | null;
  isError: boolean;
}

/** So many runs of a tool are kept for a person. */
export const RUNS_LIMIT = 20;
/** A run that is not the newest keeps no arguments and no outcome beyond it. */
const KEPT_BYTES = 64 * 1024;
/** An outcome beyond it is not kept at all. */
const OUTCOME_LIMIT_BYTES = 4 * 1024 * 1024;
/** How often the replica that works on a run says so, and after how long it is taken for gone. */
export const SEEN_EVERY_MS = 5000;
const LOST_AFTER_S = 20;

/**
 * Begins a run, and lets go of this person's oldest ones of the tool.
 *
 * @throws {NotFound} no such server in the person's reach, or they may not try its tools
 */
export async function startTrialRun(
  db: Database,
  user: User,
  { serverId, tool, args }: { serverId: string; tool: string; args: Record<string, unknown> },
): Promise<string> {
  const id = v7();
  try {
    await db.asUser(user, async (sql) => {
      const { count } = await sql`
        insert into trial_runs (id, workspace_id, server_id, user_id, tool, arguments)
        select ${id}, s.workspace_id, s.id, ${user.userId}, ${tool}, ${JSON.stringify(args)}
        from servers s where s.id = ${serverId}`;
      if (count === 0) throw new NotFound("There is no such server");
      const earlier = sql`server_id = ${serverId} and tool = ${tool} and id <> ${id}`;
      await sql`
        delete from trial_runs where id in (
          select id from trial_runs where ${earlier} order by started_at desc, id desc
          offset ${RUNS_LIMIT - 1})`;
      await sql`
        update trial_runs set
          arguments = case when octet_length(arguments) <= ${KEPT_BYTES} then arguments end,
          outcome = case when octet_length(outcome) <= ${KEPT_BYTES} then outcome end
        where ${earlier}
          and (octet_length(arguments) > ${KEPT_BYTES} or octet_length(outcome) > ${KEPT_BYTES})`;
    });
  } catch (error) {
    if (isDenied(error)) throw new NotFound("There is no such server");
    throw error;
  }
  return id;
}

/** @throws {NotFound} */
export async function getTrialRun(db: Database, user: User, id: string): Promise<TrialRun> {
  return await db.asUser(user, (sql) => readRun(sql, id));
}

async function readRun(sql: Sql, id: string): Promise<TrialRun> {
  const [row] = await sql`
    select id, server_id as "serverId", tool, arguments, outcome, progress, questions, refused,
      cancel_asked as "cancelAsked", duration_ms as "durationMs", started_at as "startedAt",
      ${stateOf(sql)} as state
    from trial_runs where id = ${id}`;
  if (!row) throw new NotFound("There is no such run");
  return {
    ...row,
    arguments: parseExactly(row.arguments ?? "null"),
    outcome: parseExactly(row.outcome ?? "null"),
  } as TrialRun;
}

function stateOf(sql: Sql) {
  return sql`case when state = 'running' and seen_at < now() - ${LOST_AFTER_S} * interval '1 second'
    then 'lost' else state end`;
}

/** This person's last runs of a tool, newest first. */
export async function listTrialRuns(
  db: Database,
  user: User,
  serverId: string,
  tool: string,
): Promise<PastRun[]> {
  return await db.asUser(user, async (sql) => [
    ...await sql<PastRun[]>`
      select id, ${stateOf(sql)} as state, duration_ms as "durationMs", started_at as "startedAt",
        left(arguments, 200) as "argumentsStart",
        is_error as "isError"
      from trial_runs where server_id = ${serverId} and tool = ${tool}
      order by started_at desc, id desc limit ${RUNS_LIMIT}`,
  ]);
}

/** Deletes this person's runs of a tool; one that still runs is cancelled by it. */
export async function clearTrialRuns(db: Database, user: User, serverId: string, tool: string) {
  await db.asUser(
    user,
    (sql) => sql`delete from trial_runs where server_id = ${serverId} and tool = ${tool}`,
  );
}

/** Asks whoever works on a run to give it up. @throws {NotFound} */
export async function cancelTrialRun(db: Database, user: User, id: string): Promise<void> {
  const { count } = await db.asUser(
    user,
    (sql) => sql`update trial_runs set cancel_asked = true where id = ${id} and state = 'running'`,
  );
  if (count === 0) await getTrialRun(db, user, id);
}

/**
 * Answers a question of a run.
 *
 * @throws {NotFound} no such run
 * @throws {Conflict} the question is answered, or asked no longer
 */
export async function answerTrialRun(
  db: Database,
  user: User,
  id: string,
  question: string,
  answer: { action: "accept" | "decline" | "cancel"; content?: unknown },
): Promise<void> {
  await db.asUser(user, async (sql) => {
    const [row] = await sql`select questions, answers, ${stateOf(sql)} as state from trial_runs
      where id = ${id} for update`;
    if (!row) throw new NotFound("There is no such run");
    const isOpen = row.state === "running" && !Object.hasOwn(row.answers, question) &&
      (row.questions as Question[]).some(({ id }) => id === question);
    if (!isOpen) throw new Conflict("The server waits for this answer no longer");
    const answers = { ...row.answers, [question]: JSON.stringify(answer) };
    await sql`update trial_runs set answers = ${sql.json(answers)} where id = ${id}`;
  });
}

/** What the replica that works on a run has to know. Null when the run is deleted. */
export interface Heard {
  cancelAsked: boolean;
  /** JSON texts, by question. */
  answers: Record<string, string>;
}

/** Says that a run is worked on, and what is new of it. */
export async function tellTrialRun(
  db: Database,
  user: User,
  id: string,
  news: { progress?: Progress; questions?: Question[]; refused?: string[] } = {},
): Promise<Heard | null> {
  const [heard] = await db.asUser(user, async (sql) => {
    if (news.progress) {
      await sql`update trial_runs set progress = ${
        json(news.progress)
      }::text::json where id = ${id}`;
    }
    if (news.questions) {
      await sql`update trial_runs set questions = ${
        json(news.questions)
      }::text::json where id = ${id}`;
    }
    if (news.refused) await sql`update trial_runs set refused = ${news.refused} where id = ${id}`;
    return await sql<Heard[]>`
      update trial_runs set seen_at = now() where id = ${id}
      returning cancel_asked as "cancelAsked", answers`;
  });
  return heard ?? null;
}

/** For a `json` column by way of `text`: jsonb, and the driver's own way, know no U+0000. */
function json(value: unknown): string {
  return JSON.stringify(value).toWellFormed();
}

/** @param outcome null when it was cancelled */
export async function endTrialRun(
  db: Database,
  user: User,
  id: string,
  outcome: TrialOutcome | null,
  durationMs: number,
): Promise<void> {
  const text = outcome && JSON.stringify(outcome).toWellFormed();
  const isKept = text !== null && new TextEncoder().encode(text).length <= OUTCOME_LIMIT_BYTES;
  const isError = outcome?.error !== undefined || outcome?.result?.isError === true;
  await db.asUser(user, (sql) =>
    sql`
      update trial_runs set state = ${outcome ? "ended" : "cancelled"},
        outcome = ${
      isKept ? text : null
    }, is_error = ${isError}, questions = '[]', duration_ms = ${durationMs},
        seen_at = now(), ended_at = now()
      where id = ${id}`);
}
