/**
 * What servers ask of a person in the middle of a call (MCP's elicitation), and what the person answers. A
 * question is a row and its call waits in one as well, so whoever comes next makes the call again with the
 * answers (2026-07-28, basic/patterns/mrtr): nothing is held open for them.
 */
import { v7 } from "uuid";
import { z } from "zod";
import type { Database, Sql, User } from "./db.ts";
import { asWorker, type Work } from "./conversation_work.ts";
import { Conflict, Invalid, NotFound } from "./errors.ts";
import { withoutNul } from "./events.ts";

export interface CallQuestion {
  id: string;
  /** Who asks, as its server was called then; null: it is not known. */
  serverName: string | null;
  /** As MCP has it: `message`, and `requestedSchema`, or `url` in `mode` "url". */
  params: Record<string, unknown>;
  /** `expired`: nobody answered in time; `withdrawn`: the call was stopped before. */
  state: "open" | "accepted" | "declined" | "cancelled" | "expired" | "withdrawn";
  /** What was filled in. */
  content: unknown;
  expiresAt: Date;
}

export interface Answer {
  action: "accept" | "decline" | "cancel";
  content?: unknown;
}

/** The bridge takes answers for ten minutes; one that is given at the last moment shall be in time. */
export const ANSWER_WITHIN_S = 9 * 60;
const CONTENT_LIMIT_BYTES = 256 * 1024;

/** Has a call wait for a person's answers. What is asked is checked by who asks for it. */
export async function putQuestions(
  db: Database,
  user: User,
  work: Work,
  callId: string,
  { tool, requestState, questions }: {
    tool: string;
    requestState: string | null;
    questions: { name: string; params: Record<string, unknown> }[];
  },
): Promise<void> {
  await asWorker(db, user, work, async (sql, { workspaceId }) => {
    const [server] = await sql`
      select s.name from connections x
      join servers s on s.id = x.server_id
      join conversations c on c.agent_id = x.agent_id
      where c.id = ${work.conversationId} and starts_with(${withoutNul(tool)}, s.slug || '__')
      order by length(s.slug) desc limit 1`;
    const [{ round }] = await sql`
      update conversation_calls set state = 'waiting', request_state = ${requestState},
        round = round + 1
      where id = ${callId} and turn_id = ${work.turnId} returning round`;
    for (const { name, params } of questions) {
      await sql`
        insert into conversation_questions (id, call_id, turn_id, workspace_id, user_id, round, name,
          server_name, params, expires_at)
        values (${v7()}, ${callId}, ${work.turnId}, ${workspaceId}, ${user.userId}, ${round}, ${name},
          ${server?.name.slice(0, 200) ?? null}, ${json(params)}::text::json,
          now() + ${ANSWER_WITHIN_S} * interval '1 second')`;
    }
  });
}

/** One question, as long as its conversation is there. @throws {NotFound} */
export async function getQuestion(
  db: Database,
  user: User,
  conversationId: string,
  id: string,
): Promise<CallQuestion> {
  const [question] = await db.asUser(user, (sql) =>
    readQuestions(
      sql,
      sql`q.id = ${id} and q.turn_id in (
        select t.id from conversation_turns t where t.conversation_id = ${conversationId})`,
    ));
  if (!question) throw new NotFound("There is no such question");
  return question;
}

/**
 * Answers a question. Once its call has all answers it is made again.
 *
 * @returns whether the turn is the worker's by that, who has to work on it
 * @throws {NotFound}
 * @throws {Conflict} it is answered, or nobody waits for the answer any more
 * @throws {Invalid} the content is not what the server asks for
 */
export async function answerQuestion(
  db: Database,
  user: User,
  conversationId: string,
  id: string,
  { action, content, worker }: Answer & { worker: string },
): Promise<{ turnId: string; isTaken: boolean }> {
  return await db.asUser(user, async (sql) => {
    const [turn] = await sql`
      select t.id, t.state, q.call_id as "callId", q.params from conversation_turns t
      join conversation_questions q on q.turn_id = t.id
      where q.id = ${id} and t.conversation_id = ${conversationId} for update of t`;
    if (!turn) throw new NotFound("There is no such question");
    const isFilled = action === "accept" && turn.params.mode !== "url";
    if (isFilled) check(turn.params.requestedSchema, content);
    const { count } = await sql`
      update conversation_questions q set action = ${action}, answered_at = now(),
        content = ${isFilled ? json(content) : null}::text::json
      from conversation_calls c
      where q.id = ${id} and q.action is null and q.expires_at > now()
        and c.id = q.call_id and c.state = 'waiting' and c.round = q.round`;
    if (count === 0) throw new Conflict("The server waits for this answer no longer");
    const { count: ready } = await sql`
      update conversation_calls c set state = 'allowed'
      where id = ${turn.callId} and not exists (
        select from conversation_questions q
        where q.call_id = c.id and q.round = c.round and q.action is null)`;
    // At once, though other calls may wait for a person still: this server does not wait for ever.
    const { count: resumed } = ready === 0 ? { count: 0 } : await sql`
      update conversation_turns set state = 'running', holder = ${worker}, seen_at = now()
      where id = ${turn.id} and state = 'waiting'`;
    return { turnId: turn.id, isTaken: resumed > 0 };
  });
}

/** What a call is made again with; null when nothing was asked. */
export interface Answered {
  requestState: string | null;
  inputResponses: Record<string, Answer>;
}

/** @param round the one that was asked last */
export async function readAnswers(
  sql: Sql,
  callId: string,
  { round, requestState }: { round: number; requestState: string | null },
): Promise<Answered | null> {
  if (round === 0) return null;
  const rows = await sql<{ name: string; action: Answer["action"]; content: unknown }[]>`
    select name, action, content from conversation_questions
    where call_id = ${callId} and round = ${round}`;
  return {
    requestState,
    inputResponses: Object.fromEntries(
      rows.map(({ name, action, content }) => [
        name,
        content === null ? { action } : { action, content },
      ]),
    ),
  };
}

/** Gives up calls whose questions nobody answered in time. @returns how many */
export async function giveUpUnanswered(sql: Sql, turnId: string): Promise<number> {
  const { count } = await sql`
    update conversation_calls c set state = 'failed', request_state = null, told = ${UNANSWERED}
    where turn_id = ${turnId} and ${isExpired(sql)}`;
  return count;
}

const UNANSWERED =
  "The server asked the person something, and nobody answered in time: the call was given up. " +
  "Call it again only if the person wants that.";

/** Of a turn `t`: nothing in it waits for a person but what nobody answered in time. */
export function isUnanswered(sql: Sql) {
  return sql`(t.state = 'waiting'
    and exists (select from conversation_calls c where c.turn_id = t.id and c.state = 'waiting')
    and not exists (select from conversation_calls c
      where c.turn_id = t.id and c.state in ('asked', 'waiting') and not ${isExpired(sql)}))`;
}

/** Of a call `c`. */
function isExpired(sql: Sql) {
  return sql`(c.state = 'waiting' and exists (
    select from conversation_questions q
    where q.call_id = c.id and q.round = c.round and q.action is null and q.expires_at <= now()))`;
}

export async function readQuestions(
  sql: Sql,
  which: ReturnType<Sql>,
): Promise<(CallQuestion & { callId: string })[]> {
  return await sql<(CallQuestion & { callId: string })[]>`
    select q.id, q.call_id as "callId", q.server_name as "serverName", q.params, q.content,
      q.expires_at as "expiresAt",
      case
        when q.action = 'accept' then 'accepted'
        when q.action = 'decline' then 'declined'
        when q.action = 'cancel' then 'cancelled'
        when c.state = 'waiting' and q.expires_at > now() then 'open'
        when c.state in ('waiting', 'failed') then 'expired'
        else 'withdrawn'
      end as state
    from conversation_questions q join conversation_calls c on c.id = q.call_id
    where ${which} order by q.call_id, q.round, q.id`;
}

/** @throws {Invalid} */
function check(schema: unknown, content: unknown) {
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    throw new Invalid("Send what the server asks for as `content`, an object");
  }
  if (new TextEncoder().encode(JSON.stringify(content)).length > CONTENT_LIMIT_BYTES) {
    throw new Invalid(`At most ${CONTENT_LIMIT_BYTES / 1024} KiB can be answered`);
  }
  const parsed = validatorOf(schema)?.safeParse(content);
  if (!parsed || parsed.success) return;
  const mistakes: Record<string, string> = {};
  for (const { path, message } of parsed.error.issues) {
    mistakes[["content", ...path].join(".")] ??= message;
  }
  throw new Invalid("The answer is not what the server asks for", mistakes);
}

/** Null: a schema that is none. */
function validatorOf(schema: unknown): z.ZodType | null {
  if (typeof schema !== "object" || schema === null) return null;
  try {
    return z.fromJSONSchema(plain(schema) as Parameters<typeof z.fromJSONSchema>[0]);
  } catch {
    return null;
  }
}

/**
 * Without defaults, by which what is needed would count as there; and without a stranger's expressions, which
 * may take for ever: elicitation's schemas have none.
 */
function plain(value: unknown, isNamed = false): unknown {
  if (Array.isArray(value)) return value.map((one) => plain(one));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => isNamed || key !== "default" && key !== "pattern")
      .map(([key, one]) => [key, plain(one, !isNamed && key === "properties")]),
  );
}

/** For a `json` column by way of `text`: jsonb, and the driver's own way, know no U+0000. */
function json(value: unknown): string {
  return JSON.stringify(value).toWellFormed();
}
