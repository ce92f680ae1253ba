import { z } from "zod";
import { runTurn } from "../../chat/turn.ts";
import {
  getChatModel,
  PROVIDERS,
  removeChatModel,
  SEES,
  setChatModel,
  TRANSPORTS,
} from "../../models/chat_models.ts";
import { answerQuestion } from "../../models/conversation_questions.ts";
import {
  createConversation,
  decideCall,
  deleteConversation,
  getCallResult,
  getConversation,
  getTurn,
  listConversations,
  renameConversation,
  retryTurn,
  sendMessage,
  stopTurn,
} from "../../models/conversations.ts";
import { parseExactly } from "../../models/exact_json.ts";
import { keepAlive } from "../keep_alive.ts";
import { part } from "./cursor.ts";
import { type Asked, operation, paging, partOf } from "./operation.ts";

const Model = z.object({
  provider: z.enum(PROVIDERS),
  baseUrl: z.string().describe("Up to the version, such as https://api.openai.com/v1"),
  model: z.string().describe("By the name that its server has for it"),
  transport: z.enum(TRANSPORTS).describe("How agents' tools are reached"),
  sees: z.enum(SEES)
    .describe(
      "What it is given beside text; auto: pictures, where its name tells that it takes them",
    ),
  contextTokens: z.int().min(4000).max(2_000_000)
    .describe("So much of a conversation it is given at once; the rest is summarised"),
  hasKey: z.boolean().describe("A key is kept; it is never answered"),
  updatedAt: z.iso.datetime(),
}).meta({ id: "ChatModel" });

const ConversationShape = z.object({
  id: z.uuid(),
  title: z.string(),
  agentId: z.uuid().nullable().describe("Null: the agent is removed"),
  agentName: z.string().nullable(),
  createdAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
}).meta({ id: "Conversation" });

const Question = z.object({
  id: z.uuid(),
  serverName: z.string().nullable().describe("Who asks; null: it is not known"),
  params: z.record(z.string(), z.unknown())
    .describe('As MCP has it: `message`, and `requestedSchema`, or `url` in `mode` "url"'),
  state: z.enum(["open", "accepted", "declined", "cancelled", "expired", "withdrawn"]),
  content: z.unknown().describe("What was answered"),
  expiresAt: z.iso.datetime().describe("The server waits so long"),
});

const Call = z.object({
  id: z.uuid(),
  tool: z.string(),
  arguments: z.string().describe("JSON, as the model wrote it"),
  state: z.enum(["asked", "allowed", "running", "waiting", "done", "failed", "denied", "stopped"])
    .describe("asked: it waits for a person's word; waiting: its server, for their answers"),
  told: z.string().nullable().describe("What the model was told of the answer"),
  resultBytes: z.int().nullable().describe("Size of the whole answer, which get_call_result reads"),
  startedAt: z.iso.datetime().nullable(),
  durationMs: z.number().nullable(),
  questions: z.array(Question).describe("What its server asked of the person"),
});

const TurnShape = z.object({
  id: z.uuid(),
  text: z.string().describe("What the person said"),
  state: z.enum(["running", "waiting", "done", "failed", "stopped", "lost", "unanswered"])
    .describe(
      "waiting: for a person's word on a call, or their answer to what its server asks; " +
        "lost: whatever worked on it is gone; unanswered: nobody answered the server in time",
    ),
  trouble: z.string().nullable(),
  startedAt: z.iso.datetime(),
  endedAt: z.iso.datetime().nullable(),
  steps: z.array(z.object({
    n: z.int(),
    reasoning: z.string(),
    text: z.string().describe("Markdown, as the model wrote it"),
    inputTokens: z.int().nullable(),
    outputTokens: z.int().nullable(),
    calls: z.array(Call),
  })),
  summaries: z.array(z.object({
    at: z.object({ turnId: z.uuid(), step: z.int() }).describe("Before which step it was made"),
    until: z.object({ turnId: z.uuid(), step: z.int() })
      .describe("It stands for all before this step of this turn"),
    text: z.string().nullable().describe("Null: the model writes it just now, or broke off"),
    inputTokens: z.int().nullable(),
    outputTokens: z.int().nullable(),
  })).describe("What stands for earlier turns, which were too long for the model"),
}).meta({ id: "Turn" });

const conversation = { conversation: z.uuid().describe("A conversation's id") };
const turn = { ...conversation, turn: z.uuid().describe("A turn's id") };
const call = { ...conversation, call: z.uuid().describe("A call's id") };
const text = z.string().max(256 * 1024).describe("What is said to the agent");

/** Says something, and has it answered after this request. */
async function say({ deps, bearer: { user } }: Asked, conversationId: string, text: string) {
  const worker = crypto.randomUUID();
  const said = { text, attachments: [], worker };
  const turnId = await sendMessage(deps.db, user, conversationId, said);
  keepAlive(runTurn(deps, user, { conversationId, turnId, worker }));
  return await getTurn(deps.db, user, conversationId, turnId);
}

export const conversationOperations = [
  operation({
    name: "get_model",
    method: "GET",
    path: "/workspace/model",
    scopes: ["read"],
    summary: "Read which model the chat talks with",
    input: z.strictObject({}),
    output: z.object({ model: Model.nullable() }),
    run: async ({ deps: { db }, bearer: { user, workspace } }) => ({
      model: await getChatModel(db, user, workspace.id),
    }),
  }),
  operation({
    name: "set_model",
    method: "PUT",
    path: "/workspace/model",
    scopes: ["agents:write"],
    summary: "Name the model that the chat talks with (owners and admins)",
    description:
      "Without a key the one that is there is kept, as long as it goes to the same host.",
    input: z.strictObject({
      ...Model.omit({ hasKey: true, updatedAt: true }).shape,
      transport: Model.shape.transport.optional(),
      sees: Model.shape.sees.optional(),
      contextTokens: Model.shape.contextTokens.optional(),
      key: z.string().max(2000).optional(),
    }),
    output: Model,
    run: async ({ deps, bearer: { user, workspace } }, given) => {
      await setChatModel(deps, user, workspace.id, given);
      return (await getChatModel(deps.db, user, workspace.id))!;
    },
  }),
  operation({
    name: "remove_model",
    method: "DELETE",
    path: "/workspace/model",
    scopes: ["agents:write"],
    summary: "Forget the model and its key (owners and admins)",
    input: z.strictObject({}),
    run: async ({ deps: { db }, bearer: { user, workspace } }) => {
      await removeChatModel(db, user, workspace.id);
    },
  }),
  operation({
    name: "list_conversations",
    method: "GET",
    path: "/conversations",
    scopes: ["read"],
    summary: "List your conversations, the last one spoken in first",
    input: z.strictObject(paging),
    output: partOf(ConversationShape),
    run: async ({ deps: { db }, bearer: { user, workspace } }, paged) =>
      part(await listConversations(db, user, workspace.id), paged),
  }),
  operation({
    name: "create_conversation",
    method: "POST",
    path: "/conversations",
    scopes: ["tools:call"],
    summary: "Begin a conversation with an agent",
    description: "The answer comes after this request: read the conversation to follow it.",
    input: z.strictObject({ agent: z.uuid().describe("An agent's id"), text }),
    output: ConversationShape.extend({ turns: z.array(TurnShape) }),
    isCreating: true,
    run: async (asked, { agent, text }) => {
      const { deps: { db }, bearer: { user, workspace } } = asked;
      const id = await createConversation(db, user, workspace.id, { agentId: agent, title: text });
      await say(asked, id, text);
      return await getConversation(db, user, id);
    },
  }),
  operation({
    name: "get_conversation",
    method: "GET",
    path: "/conversations/{conversation}",
    scopes: ["read"],
    summary: "Read a conversation, with the answer that is under way as far as it is",
    input: z.strictObject(conversation),
    output: ConversationShape.extend({ turns: z.array(TurnShape) }),
    run: ({ deps: { db }, bearer: { user } }, { conversation }) =>
      getConversation(db, user, conversation),
  }),
  operation({
    name: "rename_conversation",
    method: "PATCH",
    path: "/conversations/{conversation}",
    scopes: ["tools:call"],
    summary: "Give a conversation another title",
    input: z.strictObject({ ...conversation, title: z.string().max(200) }),
    run: async ({ deps: { db }, bearer: { user } }, { conversation, title }) => {
      await renameConversation(db, user, conversation, title);
    },
  }),
  operation({
    name: "delete_conversation",
    method: "DELETE",
    path: "/conversations/{conversation}",
    scopes: ["tools:call"],
    summary: "Delete a conversation with all that was said",
    input: z.strictObject(conversation),
    run: async ({ deps: { db }, bearer: { user } }, { conversation }) => {
      await deleteConversation(db, user, conversation);
    },
  }),
  operation({
    name: "send_message",
    method: "POST",
    path: "/conversations/{conversation}/messages",
    scopes: ["tools:call"],
    summary: "Say something more in a conversation",
    description: "The answer comes after this request: read the conversation to follow it.",
    input: z.strictObject({ ...conversation, text }),
    output: TurnShape,
    isCreating: true,
    run: (asked, { conversation, text }) => say(asked, conversation, text),
  }),
  operation({
    name: "stop_turn",
    method: "POST",
    path: "/conversations/{conversation}/turns/{turn}/stop",
    scopes: ["tools:call"],
    summary: "Stop an answer; a call that is under way is cancelled",
    input: z.strictObject(turn),
    run: async ({ deps: { db }, bearer: { user } }, { conversation, turn }) => {
      await stopTurn(db, user, conversation, turn);
    },
  }),
  operation({
    name: "retry_turn",
    method: "POST",
    path: "/conversations/{conversation}/turns/{turn}/retry",
    scopes: ["tools:call"],
    summary: "Take up the last answer where it failed, was stopped, lost or left unanswered",
    input: z.strictObject(turn),
    output: TurnShape,
    run: async ({ deps, bearer: { user } }, { conversation, turn }) => {
      const worker = crypto.randomUUID();
      await retryTurn(deps.db, user, conversation, turn, worker);
      keepAlive(runTurn(deps, user, { conversationId: conversation, turnId: turn, worker }));
      return await getTurn(deps.db, user, conversation, turn);
    },
  }),
  operation({
    name: "decide_call",
    method: "POST",
    path: "/conversations/{conversation}/calls/{call}/decision",
    scopes: ["tools:call"],
    summary: "Allow or deny a call that waits for your word",
    input: z.strictObject({ ...call, allow: z.boolean() }),
    output: TurnShape,
    run: async ({ deps, bearer: { user } }, { conversation, call, allow }) => {
      const worker = crypto.randomUUID();
      const decision = { allow, worker };
      const { turnId, isLast } = await decideCall(deps.db, user, conversation, call, decision);
      if (isLast) keepAlive(runTurn(deps, user, { conversationId: conversation, turnId, worker }));
      return await getTurn(deps.db, user, conversation, turnId);
    },
  }),
  operation({
    name: "answer_question",
    method: "POST",
    path: "/conversations/{conversation}/questions/{question}/answer",
    scopes: ["tools:call"],
    summary: "Answer what a server asks in the middle of a call",
    description: "Its call goes on with the answer, after this request.",
    input: z.strictObject({
      ...conversation,
      question: z.uuid().describe("A question's id"),
      action: z.enum(["accept", "decline", "cancel"]),
      content: z.record(z.string(), z.unknown()).optional()
        .describe("With accept, as `requestedSchema` has it; nothing for a question with a `url`"),
    }),
    output: TurnShape,
    run: async ({ deps, bearer: { user } }, { conversation, question, action, content }) => {
      const worker = crypto.randomUUID();
      const answer = { action, content, worker };
      const { turnId, isTaken } = await answerQuestion(
        deps.db,
        user,
        conversation,
        question,
        answer,
      );
      if (isTaken) keepAlive(runTurn(deps, user, { conversationId: conversation, turnId, worker }));
      return await getTurn(deps.db, user, conversation, turnId);
    },
  }),
  operation({
    name: "get_call_result",
    method: "GET",
    path: "/conversations/{conversation}/calls/{call}/result",
    scopes: ["read"],
    summary: "Read the whole answer of a tool",
    input: z.strictObject(call),
    output: z.object({ result: z.record(z.string(), z.unknown()) }),
    run: async ({ deps: { db }, bearer: { user } }, { conversation, call }) => ({
      result: parseExactly(await getCallResult(db, user, conversation, call)) as Record<
        string,
        unknown
      >,
    }),
  }),
];
