/**
 * Conversations of a person with an agent, which the person alone sees. A turn is what the person said and
 * how it is answered; the answer is made of steps of the model, and the calls that it asked for in them. What
 * a worker writes of a turn is in conversation_work.ts.
 */
import { v7 } from "uuid";
import { type CallQuestion, isUnanswered, readQuestions } from "./conversation_questions.ts";
import { readSummaries, type Summary } from "./conversation_summaries.ts";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, Forbidden, Invalid, isDenied, NotFound } from "./errors.ts";
import { withoutNul } from "./events.ts";

export interface Conversation {
  id: string;
  workspaceId: string;
  title: string;
  /** Null: the agent is removed, and nothing more can be said. */
  agentId: string | null;
  agentName: string | null;
  createdAt: Date;
  updatedAt: Date;
}

/** `lost`: who worked on it is gone; `unanswered`: what a server asked in it was not answered in time. */
export type TurnState =
  | "running"
  | "waiting"
  | "done"
  | "failed"
  | "stopped"
  | "lost"
  | "unanswered";

export interface Turn {
  id: string;
  text: string;
  attachments: Attachment[];
  state: TurnState;
  trouble: string | null;
  stopAsked: boolean;
  /** None was begun since: it can be taken up again. */
  isLast: boolean;
  startedAt: Date;
  endedAt: Date | null;
  steps: Step[];
  /** Made in it, of what was before. */
  summaries: Summary[];
}

/** A resource or prompt of the toolbelt as it was read when the person attached it. */
export interface Attachment {
  kind: "resource" | "prompt";
  /** A resource's URI, or a prompt's name. */
  name: string;
  text: string;
  /** Files that go along, by their types and sizes; {@link getAttachedMedia} reads them. */
  media?: { mediaType: string; bytes: number }[];
}

/** A picture, sound or other file. */
export interface Media {
  mediaType: string;
  /** base64 */
  data: string;
}

/** What is attached, with the files themselves. */
export type GivenAttachment = Omit<Attachment, "media"> & { media?: Media[] };

export interface Step {
  n: number;
  reasoning: string;
  text: string;
  /** The model's own message, once it has ended: as the AI SDK has it. */
  message: unknown;
  inputTokens: number | null;
  outputTokens: number | null;
  calls: ToolCall[];
}

export interface ToolCall {
  id: string;
  /** What the model calls this call. */
  callId: string;
  tool: string;
  /** JSON text, as the model wrote it. */
  arguments: string;
  /** `asked`: the person's word is waited for; `waiting`: their answers to what its server asks. */
  state: "asked" | "allowed" | "running" | "waiting" | "done" | "failed" | "denied" | "stopped";
  /** What the model was told. */
  told: string | null;
  /** The tool's whole answer as JSON; of a large one nothing, here. */
  result: string | null;
  resultBytes: number | null;
  /** Of which types the pictures, sounds and files in its answer are. */
  mediaTypes: string[];
  startedAt: Date | null;
  durationMs: number | null;
  /** What its server asked of the person, in order. */
  questions: CallQuestion[];
}

/** A turn that is not heard of for so long has lost its worker. */
export const LOST_AFTER_S = 20;
/** Answers beyond it are not read with their conversation. */
const SHOWN_RESULT_BYTES = 64 * 1024;
const TEXT_LIMIT_BYTES = 256 * 1024;
const TITLE_LIMIT = 80;
const CONVERSATIONS_LIMIT = 200;

/** The person's conversations in a workspace, the last one spoken in first. */
export async function listConversations(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<Conversation[]> {
  return await db.asUser(user, async (sql) => [
    ...await readConversations(sql, sql`c.workspace_id = ${workspaceId}`),
  ]);
}

/** @throws {NotFound} */
export async function getConversation(
  db: Database,
  user: User,
  id: string,
): Promise<Conversation & { turns: Turn[] }> {
  return await db.asUser(user, async (sql) => ({
    ...await readConversation(sql, id),
    turns: await readTurns(sql, sql`conversation_id = ${id}`),
  }));
}

/** One turn with all that came of it so far. @throws {NotFound} */
export async function getTurn(
  db: Database,
  user: User,
  conversationId: string,
  turnId: string,
): Promise<Turn> {
  const [turn] = await db.asUser(
    user,
    (sql) => readTurns(sql, sql`conversation_id = ${conversationId} and id = ${turnId}`),
  );
  if (!turn) throw new NotFound("There is no such turn");
  return turn;
}

/** The whole answer of a call, however large: JSON text. @throws {NotFound} */
export async function getCallResult(
  db: Database,
  user: User,
  conversationId: string,
  callId: string,
): Promise<string> {
  const [row] = await db.asUser(user, (sql) =>
    sql`
      select c.result from conversation_calls c join conversation_turns t on t.id = c.turn_id
      where c.id = ${callId} and t.conversation_id = ${conversationId} and c.result is not null`);
  if (!row) throw new NotFound("There is no such answer");
  return row.result;
}

/** The files that a person attached to a turn, in order. @throws {NotFound} */
export async function getAttachedMedia(
  db: Database,
  user: User,
  conversationId: string,
  turnId: string,
): Promise<Media[]> {
  const [row] = await db.asUser(user, (sql) =>
    sql`
      select media from conversation_turns
      where id = ${turnId} and conversation_id = ${conversationId}`);
  if (!row) throw new NotFound("There is no such turn");
  return row.media;
}

/**
 * Begins a conversation with an agent.
 *
 * @returns its id
 * @throws {NotFound} no such agent
 * @throws {Forbidden} for a viewer
 */
export async function createConversation(
  db: Database,
  user: User,
  workspaceId: string,
  { agentId, title }: { agentId: string; title: string },
): Promise<string> {
  const id = v7();
  await forMembers(() =>
    db.asUser(user, async (sql) => {
      const [agent] = await sql`
        select from agents where id = ${agentId} and workspace_id = ${workspaceId}`;
      if (!agent) throw new NotFound("There is no such agent");
      await sql`
        insert into conversations (id, workspace_id, user_id, agent_id, title)
        values (${id}, ${workspaceId}, ${user.userId}, ${agentId}, ${titleOf(title)})`;
    })
  );
  return id;
}

/** @throws {NotFound} @throws {Invalid} an empty title */
export async function renameConversation(db: Database, user: User, id: string, title: string) {
  const valid = title.trim();
  if (valid === "" || valid.length > 200) {
    const mistake = "A title has 1 to 200 characters";
    throw new Invalid(mistake, { title: mistake });
  }
  const { count } = await db.asUser(
    user,
    (sql) => sql`update conversations set title = ${withoutNul(valid)} where id = ${id}`,
  );
  if (count === 0) throw new NotFound("There is no such conversation");
}

/** Deletes a conversation with all that was said; an answer under way is stopped by it. @throws {NotFound} */
export async function deleteConversation(db: Database, user: User, id: string) {
  const { count } = await db.asUser(user, (sql) => sql`delete from conversations where id = ${id}`);
  if (count === 0) throw new NotFound("There is no such conversation");
}

/**
 * Says something in a conversation. Its turn is the worker's, who has to work on it.
 *
 * @throws {NotFound} no such conversation
 * @throws {Invalid} nothing was said, or too much
 * @throws {Conflict} it still answers, or its agent is removed
 */
export async function sendMessage(
  db: Database,
  user: User,
  conversationId: string,
  { text, attachments, worker }: { text: string; attachments: GivenAttachment[]; worker: string },
): Promise<string> {
  const mistake = mistakeOf(text);
  if (mistake) throw new Invalid(mistake, { text: mistake });
  const id = v7();
  const named = attachments.map(({ media, ...rest }): Attachment => ({
    ...rest,
    ...(media && {
      media: media.map(({ mediaType, data }) => ({ mediaType, bytes: sizeOf(data) })),
    }),
  }));
  const media = attachments.flatMap(({ media }) => media ?? []);
  await db.asUser(user, async (sql) => {
    await closeAbandoned(sql, conversationId);
    const { workspaceId, agentId } = await readConversation(sql, conversationId);
    if (!agentId) throw new Conflict("The agent of this conversation is removed");
    await sql`
      insert into conversation_turns (id, conversation_id, workspace_id, user_id, text, attachments, media,
        holder)
      values (${id}, ${conversationId}, ${workspaceId}, ${user.userId}, ${withoutNul(text.trim())},
        ${JSON.stringify(named).toWellFormed()}::text::json, ${JSON.stringify(media)}::text::json,
        ${worker})`;
    await sql`update conversations set updated_at = now() where id = ${conversationId}`;
  }).catch((error) => {
    if (error.code === "23505") {
      throw new Conflict("The agent still answers. Wait for it, or stop it first");
    }
    if (error.code === "23514") {
      throw new Invalid(
        "What is attached is too large: 2 MiB of text and 6 MB of files in all at most",
      );
    }
    throw error;
  });
  return id;
}

/** Of base64. */
function sizeOf(data: string): number {
  return Math.floor(data.replace(/=+$/, "").length * 3 / 4);
}

/** What is wrong with something that a person says; null: nothing. */
export function mistakeOf(text: string): string | null {
  if (text.trim() === "") return "Write something first";
  const size = new TextEncoder().encode(text).length;
  return size > TEXT_LIMIT_BYTES
    ? `At most ${TEXT_LIMIT_BYTES / 1024} KiB can be said at once`
    : null;
}

/** Asks whoever works on a turn to give it up; one that waits, or that nobody works on, ends at once. */
export async function stopTurn(db: Database, user: User, conversationId: string, turnId: string) {
  await db.asUser(user, async (sql) => {
    const which = sql`id = ${turnId} and conversation_id = ${conversationId}`;
    await sql`update conversation_turns set stop_asked = true where ${which} and state = 'running'`;
    const { count } = await sql`
      update conversation_turns set state = 'stopped', ended_at = now()
      where ${which} and (state = 'waiting' or ${isLost(sql)})`;
    if (count === 0) return;
    await stopCalls(sql, [turnId], "The person stopped it");
  });
}

/**
 * Takes up a turn that failed, was stopped, lost its worker, or was left without an answer to a server's
 * question: its steps that are whole stay.
 *
 * @throws {NotFound}
 * @throws {Conflict} somebody works on it, or another was begun since
 */
export async function retryTurn(
  db: Database,
  user: User,
  conversationId: string,
  turnId: string,
  worker: string,
): Promise<void> {
  await db.asUser(user, async (sql) => {
    const { count } = await sql`
      update conversation_turns t set state = 'running', holder = ${worker}, seen_at = now(),
        stop_asked = false, trouble = null, ended_at = null
      where id = ${turnId} and conversation_id = ${conversationId}
        and (state in ('failed', 'stopped') or ${isLost(sql)} or ${isUnanswered(sql)})
        and not exists (select from conversation_turns later
          where later.conversation_id = t.conversation_id and later.id > t.id)`;
    if (count === 0) {
      const [there] = await sql`select from conversation_turns where id = ${turnId}`;
      if (!there) throw new NotFound("There is no such turn");
      throw new Conflict("This answer cannot be tried again: it goes on, or others came after it");
    }
    await sql`delete from conversation_steps where turn_id = ${turnId} and message is null`;
    // Whether it ran nobody knows, and the model is told so: a second call could do it twice.
    await sql`
      update conversation_calls set state = 'failed', told = ${MAY_HAVE_RUN}
      where turn_id = ${turnId} and state = 'running'`;
  });
}

const MAY_HAVE_RUN =
  "The connection was lost while the tool was at work. It may have run: check before calling it again.";

/**
 * Allows or denies a call that waits for a person.
 *
 * @returns whether it was the last one waited for: the turn is the worker's then, who has to work on it
 * @throws {NotFound}
 * @throws {Conflict} it waits no longer
 */
export async function decideCall(
  db: Database,
  user: User,
  conversationId: string,
  callId: string,
  { allow, worker }: { allow: boolean; worker: string },
): Promise<{ turnId: string; isLast: boolean }> {
  return await db.asUser(user, async (sql) => {
    const [turn] = await sql`
      select t.id, t.state from conversation_turns t
      join conversation_calls c on c.turn_id = t.id
      where c.id = ${callId} and t.conversation_id = ${conversationId} for update of t`;
    if (!turn) throw new NotFound("There is no such call");
    const { count } = await sql`
      update conversation_calls set state = ${allow ? "allowed" : "denied"},
        told = ${allow ? null : "The person did not allow this call"}
      where id = ${callId} and state = 'asked'`;
    if (count === 0) throw new Conflict("This call waits for nobody's word any more");
    // While the step's other calls are at work their worker looks again by itself.
    const { count: resumed } = await sql`
      update conversation_turns set state = 'running', holder = ${worker}, seen_at = now()
      where id = ${turn.id} and state = 'waiting'
        and not exists (select from conversation_calls where turn_id = ${turn.id} and state = 'asked')`;
    return { turnId: turn.id, isLast: resumed > 0 };
  });
}

/** A new question ends what was left waiting or was lost: one answer at a time. */
async function closeAbandoned(sql: Sql, conversationId: string) {
  const ended = await sql`
    update conversation_turns set state = 'stopped', ended_at = now()
    where conversation_id = ${conversationId} and (state = 'waiting' or ${
    isLost(sql)
  }) returning id`;
  await stopCalls(sql, ended.map(({ id }) => id), "The person went on without it");
}

/** Ends the calls of turns. Their model is told why, and of those that were begun that they may have run. */
export async function stopCalls(sql: Sql, turnIds: string[], why: string): Promise<void> {
  await sql`
    update conversation_calls set state = 'stopped',
      told = ${why}::text || case when state in ('running', 'waiting') then '. It may have run' else '' end
    where turn_id = any(${turnIds}) and state in ('asked', 'allowed', 'running', 'waiting')`;
}

function isLost(sql: Sql) {
  return sql`(state = 'running' and seen_at < now() - ${LOST_AFTER_S} * interval '1 second')`;
}

async function forMembers(change: () => Promise<unknown>) {
  try {
    await change();
  } catch (error) {
    if (isDenied(error)) throw new Forbidden("Only members of the workspace talk to its agents");
    throw error;
  }
}

/** The beginning of what was said. */
function titleOf(text: string): string {
  const line = withoutNul(text).trim().replace(/\s+/g, " ") || "Conversation";
  return line.length <= TITLE_LIMIT ? line : `${line.slice(0, TITLE_LIMIT - 1).toWellFormed()}…`;
}

async function readConversation(sql: Sql, id: string): Promise<Conversation> {
  const [conversation] = await readConversations(sql, sql`c.id = ${id}`);
  if (!conversation) throw new NotFound("There is no such conversation");
  return conversation;
}

async function readConversations(sql: Sql, which: ReturnType<Sql>): Promise<Conversation[]> {
  return await sql<Conversation[]>`
    select c.id, c.workspace_id as "workspaceId", c.title, c.agent_id as "agentId",
      a.name as "agentName", c.created_at as "createdAt", c.updated_at as "updatedAt"
    from conversations c left join agents a on a.id = c.agent_id
    where ${which} order by c.updated_at desc, c.id desc limit ${CONVERSATIONS_LIMIT}`;
}

/** Turns as they are shown; the model's own messages come along for who works on one. */
export async function readTurns(sql: Sql, which: ReturnType<Sql>): Promise<Turn[]> {
  const turns = await sql<Omit<Turn, "steps">[]>`
    select id, text, attachments, case when ${isLost(sql)} then 'lost' when ${
    isUnanswered(sql)
  } then 'unanswered' else state end as state, trouble,
      stop_asked as "stopAsked", started_at as "startedAt", ended_at as "endedAt",
      not exists (select from conversation_turns later
        where later.conversation_id = t.conversation_id and later.id > t.id) as "isLast"
    from conversation_turns t where ${which} order by id`;
  const ids = turns.map(({ id }) => id);
  const steps = await sql<(Omit<Step, "calls"> & { turnId: string })[]>`
    select turn_id as "turnId", n, reasoning, text, message, input_tokens as "inputTokens",
      output_tokens as "outputTokens"
    from conversation_steps where turn_id = any(${ids}) order by turn_id, n`;
  const calls = await sql<(Omit<ToolCall, "questions"> & { turnId: string; step: number })[]>`
    select turn_id as "turnId", step, id, call_id as "callId", tool, arguments, state, told,
      case when octet_length(result) <= ${SHOWN_RESULT_BYTES} then result end as result,
      octet_length(result) as "resultBytes", media_types as "mediaTypes", started_at as "startedAt", duration_ms as "durationMs"
    from conversation_calls where turn_id = any(${ids}) order by turn_id, step, n`;
  const questions = await readQuestions(sql, sql`q.turn_id = any(${ids})`);
  const summaries = await readSummaries(sql, sql`turn_id = any(${ids})`);
  return turns.map((turn) => ({
    ...turn,
    steps: steps.filter(({ turnId }) => turnId === turn.id).map(({ turnId, ...step }) => ({
      ...step,
      calls: calls.filter((call) => call.turnId === turnId && call.step === step.n).map((call) => ({
        ...call,
        questions: questions.filter(({ callId }) => callId === call.id),
      })),
    })),
    summaries: summaries.filter(({ at }) => at.turnId === turn.id),
  }));
}
