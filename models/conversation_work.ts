/**
 * What a worker reads and writes of the turn that it works on. All of it asks for the worker to hold the turn
 * still: one that was given up for lost and comes back finds that it is another's, and changes nothing.
 */
import { v7 } from "uuid";
import { type Answered, giveUpUnanswered, readAnswers } from "./conversation_questions.ts";
import { readTurns, stopCalls, type ToolCall, type Turn } from "./conversations.ts";
import type { Summary } from "./conversation_summaries.ts";
import type { Database, Sql, User } from "./db.ts";
import { withoutNul } from "./events.ts";
import { newToken, tokenHash } from "./tokens.ts";

/** A turn, by who works on it. */
export interface Work {
  conversationId: string;
  turnId: string;
  worker: string;
}

/** The turn is another's by now, or gone: there is nothing more to do. */
export class NotHeld extends Error {
  override name = "NotHeld";
}

/** How often a worker says that it is there. */
export const SEEN_EVERY_MS = 5000;
/** Answers of tools beyond it are not kept. */
const RESULT_LIMIT_BYTES = 16 * 1024 * 1024;
const TOKEN_LASTS_S = 2 * 3600 - 60;

/** What a turn goes on from. */
export interface Told {
  workspaceId: string;
  agent: { id: string; instructions: string; asks: "never" | "writes" | "always" };
  /** All of the conversation, this turn last. */
  turns: Turn[];
  /** What stands for the beginning of it, if that was too long. */
  summary: Summary | null;
}

/** Null: the agent is removed. @throws {NotHeld} */
export async function readWork(db: Database, user: User, work: Work): Promise<Told | null> {
  return await db.asUser(user, async (sql) => {
    await held(sql, work);
    const [row] = await sql`
      select c.workspace_id as "workspaceId", a.id, a.instructions, a.asks
      from conversations c join agents a on a.id = c.agent_id where c.id = ${work.conversationId}`;
    if (!row) return null;
    const { workspaceId, ...agent } = row;
    const turns = await readTurns(
      sql,
      sql`conversation_id = ${work.conversationId} and id <= ${work.turnId}`,
    );
    const summary = turns.flatMap(({ summaries }) => summaries).findLast(({ text }) =>
      text !== null
    );
    return { workspaceId, agent: agent as Told["agent"], turns, summary: summary ?? null };
  });
}

/** Says that the worker is there. @returns whether it is asked to stop. @throws {NotHeld} */
export async function tellWork(db: Database, user: User, work: Work): Promise<boolean> {
  return await db.asUser(user, async (sql) => {
    const [row] = await sql`
      update conversation_turns set seen_at = now()
      where id = ${work.turnId} and holder = ${work.worker} and state = 'running'
      returning stop_asked as "stopAsked"`;
    if (!row) throw new NotHeld("Another works on this turn");
    return row.stopAsked;
  });
}

/** Begins a step, in place of one of this number that broke off. */
export async function beginStep(db: Database, user: User, work: Work, n: number): Promise<void> {
  await asWorker(db, user, work, async (sql, turn) => {
    await sql`delete from conversation_steps where turn_id = ${work.turnId} and n = ${n}`;
    await sql`
      insert into conversation_steps (turn_id, n, workspace_id, user_id)
      values (${work.turnId}, ${n}, ${turn.workspaceId}, ${user.userId})`;
  });
}

/** Adds to what the model wrote. */
export async function appendStep(
  db: Database,
  user: User,
  work: Work,
  n: number,
  more: { reasoning: string; text: string },
): Promise<void> {
  await asWorker(db, user, work, (sql) =>
    sql`
      update conversation_steps set reasoning = reasoning || ${withoutNul(more.reasoning)},
        text = text || ${withoutNul(more.text)}
      where turn_id = ${work.turnId} and n = ${n}`);
}

export type AskedCall = Pick<ToolCall, "callId" | "tool" | "arguments" | "state" | "told">;

/** Ends a step with the model's whole message and the calls that it asks for. */
export async function endStep(
  db: Database,
  user: User,
  work: Work,
  n: number,
  { message, calls, inputTokens, outputTokens }: {
    message: unknown;
    calls: AskedCall[];
    inputTokens: number | null;
    outputTokens: number | null;
  },
): Promise<void> {
  await asWorker(db, user, work, async (sql, turn) => {
    await sql`
      update conversation_steps set message = ${JSON.stringify(message).toWellFormed()}::text::json,
        input_tokens = ${inputTokens}, output_tokens = ${outputTokens}, ended_at = now()
      where turn_id = ${work.turnId} and n = ${n}`;
    for (const [at, call] of calls.entries()) {
      await sql`
        insert into conversation_calls ${
        sql({
          id: v7(),
          turn_id: work.turnId,
          step: n,
          n: at,
          workspace_id: turn.workspaceId,
          user_id: user.userId,
          call_id: withoutNul(call.callId).slice(0, 500),
          tool: withoutNul(call.tool).slice(0, 1024),
          arguments: withoutNul(call.arguments),
          state: call.state,
          told: call.told,
        })
      }`;
    }
  });
}

/** A call that is made: how often its server has asked so far, and what the person answered last. */
export interface TakenCall {
  round: number;
  answered: Answered | null;
}

/** Takes a call that is allowed. @returns null when it is not, any more */
export async function beginCall(
  db: Database,
  user: User,
  work: Work,
  callId: string,
): Promise<TakenCall | null> {
  return await asWorker(db, user, work, async (sql) => {
    const [row] = await sql<{ round: number; requestState: string | null }[]>`
      update conversation_calls set state = 'running', started_at = now()
      where id = ${callId} and turn_id = ${work.turnId} and state = 'allowed'
      returning round, request_state as "requestState"`;
    return row ? { round: row.round, answered: await readAnswers(sql, callId, row) } : null;
  });
}

export async function endCall(
  db: Database,
  user: User,
  work: Work,
  callId: string,
  { state, result, told, mediaTypes = [], durationMs }: {
    state: "done" | "failed" | "stopped";
    /** JSON text of all of it; null: none came. */
    result: string | null;
    told: string;
    /** Of the pictures, sounds and files in it. */
    mediaTypes?: string[];
    durationMs: number;
  },
): Promise<void> {
  const isKept = result !== null && new TextEncoder().encode(result).length <= RESULT_LIMIT_BYTES;
  await asWorker(db, user, work, (sql) =>
    sql`
      update conversation_calls set state = ${state}, result = ${
      isKept ? withoutNul(result) : null
    },
        told = ${withoutNul(told)}, duration_ms = ${durationMs}, request_state = null,
        media_types = ${isKept ? mediaTypes.map((type) => withoutNul(type).slice(0, 200)) : []}
      where id = ${callId} and turn_id = ${work.turnId}`);
}

/**
 * Leaves a turn to a person's word on its calls, or their answers to what servers ask.
 *
 * @returns false when nothing waits for them, or a call can be made meanwhile: it goes on
 */
export async function waitForPerson(db: Database, user: User, work: Work): Promise<boolean> {
  return await asWorker(db, user, work, async (sql) => {
    await giveUpUnanswered(sql, work.turnId);
    const of = sql`select from conversation_calls where turn_id = ${work.turnId}`;
    const { count } = await sql`
      update conversation_turns set state = 'waiting' where id = ${work.turnId}
        and exists (${of} and state in ('asked', 'waiting')) and not exists (${of} and state = 'allowed')`;
    return count > 0;
  });
}

/** Ends the work on a turn. */
export async function endWork(
  db: Database,
  user: User,
  work: Work,
  state: "done" | "failed" | "stopped",
  trouble: string | null = null,
): Promise<void> {
  await asWorker(db, user, work, async (sql) => {
    await sql`
      update conversation_turns set state = ${state}, trouble = ${
      trouble && withoutNul(trouble).slice(0, 2000)
    }, ended_at = now()
      where id = ${work.turnId}`;
    if (state === "stopped") await stopCalls(sql, [work.turnId], "The person stopped it");
  });
}

/**
 * A token of the agent for the chat's own client, in the person's name: it is over in two hours at most, and
 * once it is given back, or its person is no member any more.
 */
export async function takeToken(
  db: Database,
  user: User,
  { workspaceId, agentId }: { workspaceId: string; agentId: string },
): Promise<{ id: string; token: string }> {
  const id = v7(), token = newToken("mag");
  const hash = await tokenHash(token);
  await db.asUser(user, async (sql) => {
    await sql`delete from conversation_tokens where expires_at < now()`;
    await sql`
      insert into conversation_tokens (id, token_hash, workspace_id, agent_id, user_id, expires_at)
      values (${id}, ${hash}, ${workspaceId}, ${agentId}, ${user.userId},
        now() + ${TOKEN_LASTS_S} * interval '1 second')`;
  });
  return { id, token };
}

export async function giveTokenBack(db: Database, user: User, id: string): Promise<void> {
  await db.asUser(user, (sql) => sql`delete from conversation_tokens where id = ${id}`);
}

/** Writes what a worker may write while it holds the turn. @throws {NotHeld} */
export async function asWorker<T>(
  db: Database,
  user: User,
  work: Work,
  write: (sql: Sql, turn: { workspaceId: string }) => PromiseLike<T>,
): Promise<T> {
  return await db.asUser(user, async (sql) => await write(sql, await held(sql, work)));
}

/** Locks the turn, so that it is not taken over in between. */
async function held(sql: Sql, { turnId, worker }: Work): Promise<{ workspaceId: string }> {
  const [turn] = await sql<{ workspaceId: string }[]>`
    select workspace_id as "workspaceId" from conversation_turns
    where id = ${turnId} and holder = ${worker} and state = 'running' for update`;
  if (!turn) throw new NotHeld("Another works on this turn");
  return turn;
}
