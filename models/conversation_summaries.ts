/** What stands for the beginning of a long conversation, once that is too long for its model. */
import { v7 } from "uuid";
import { asWorker, type Work } from "./conversation_work.ts";
import type { Database, Sql, User } from "./db.ts";
import { withoutNul } from "./events.ts";

/** A place in a conversation: before a step of a turn; before the turn itself where that is 0. */
export interface Place {
  turnId: string;
  step: number;
}

export interface Summary {
  id: string;
  /** Where it was made. */
  at: Place;
  /** It stands for all before. */
  until: Place;
  /** Null: the model writes it just now, or broke off. */
  text: string | null;
  inputTokens: number | null;
  outputTokens: number | null;
}

const TEXT_LIMIT_CHARS = 60_000;

/** Begins a summary, in place of one that broke off. @returns its id */
export async function beginSummary(
  db: Database,
  user: User,
  work: Work,
  { step, until }: { step: number; until: Place },
): Promise<string> {
  const id = v7();
  await asWorker(db, user, work, async (sql, { workspaceId }) => {
    await sql`
      delete from conversation_summaries
      where conversation_id = ${work.conversationId} and text is null`;
    await sql`
      insert into conversation_summaries (id, conversation_id, turn_id, step, workspace_id, user_id,
        until_turn_id, until_step)
      values (${id}, ${work.conversationId}, ${work.turnId}, ${step}, ${workspaceId}, ${user.userId},
        ${until.turnId}, ${until.step})`;
  });
  return id;
}

export async function endSummary(
  db: Database,
  user: User,
  work: Work,
  id: string,
  { text, inputTokens, outputTokens }: {
    text: string;
    inputTokens: number | null;
    outputTokens: number | null;
  },
): Promise<void> {
  await asWorker(db, user, work, (sql) =>
    sql`
      update conversation_summaries set
        text = ${withoutNul(text).slice(0, TEXT_LIMIT_CHARS).toWellFormed()},
        input_tokens = ${inputTokens}, output_tokens = ${outputTokens}
      where id = ${id}`);
}

/** In the order in which they were made. */
export async function readSummaries(sql: Sql, which: ReturnType<Sql>): Promise<Summary[]> {
  const rows = await sql`
    select id, turn_id as "turnId", step, until_turn_id as "untilTurnId", until_step as "untilStep",
      text, input_tokens as "inputTokens", output_tokens as "outputTokens"
    from conversation_summaries where ${which} order by id`;
  return rows.map(({ id, turnId, step, untilTurnId, untilStep, text, ...tokens }) => ({
    id,
    at: { turnId, step },
    until: { turnId: untilTurnId, step: untilStep },
    text,
    ...tokens as Pick<Summary, "inputTokens" | "outputTokens">,
  }));
}
