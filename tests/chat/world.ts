/** Conversations over the bridge's world: a real database, real MCP servers, the scripted model. */
import { runTurn } from "../../chat/turn.ts";
import { setAgentOptions } from "../../models/agents.ts";
import { Changes } from "../../models/changes.ts";
import { setChatModel } from "../../models/chat_models.ts";
import { type Answer, answerQuestion } from "../../models/conversation_questions.ts";
import {
  createConversation,
  decideCall,
  getConversation,
  getTurn,
  type GivenAttachment,
  retryTurn,
  sendMessage,
  type Turn,
} from "../../models/conversations.ts";
import { createLog } from "../../models/log.ts";
import { openModelReach } from "../../models/model_reach.ts";
import { type Bridge, openBridge } from "../mcp/world.ts";
import { testKey } from "../models/databases.ts";
import { openModelServer } from "./model_server.ts";

export type Chat = Awaited<ReturnType<typeof openChat>>;

/** An agent with a server, and a model for its workspace. */
export async function openChat(...server: Parameters<typeof openBridge>) {
  return await chatOver(await openBridge(...server));
}

export async function chatOver(bridge: Bridge) {
  const { db, user, workspaceId, agentId } = bridge;
  const model = openModelServer(() => ({ text: "Nothing is scripted" }));
  const models = openModelReach({ privateHosts: [model.host] });
  const changes = new Changes(db);
  const logged: string[] = [];
  const deps = {
    db,
    changes,
    models,
    log: createLog("text", (line) => logged.push(line)),
    secretsKey: testKey,
    bridge: { url: new URL(bridge.baseUrls[0]), fetch },
    version: "0",
  };
  const useModel = (form: Record<string, string> = {}) =>
    setChatModel({ db, secretsKey: testKey, models }, user, workspaceId, {
      provider: "openai-compatible",
      baseUrl: model.base,
      model: "scripted",
      key: "sk-very-secret",
      ...form,
    });
  await useModel();
  await setAgentOptions(db, user, agentId, { asks: "never" });
  const conversation = (title = "A task") =>
    createConversation(db, user, workspaceId, { agentId, title });

  /** Begins a turn; `ended` is when its worker left it. */
  async function begin(conversationId: string, text: string, attachments: GivenAttachment[] = []) {
    const worker = crypto.randomUUID();
    const turnId = await sendMessage(db, user, conversationId, { text, attachments, worker });
    const ended = runTurn(deps, user, { conversationId, turnId, worker });
    return { turnId, ended };
  }

  async function say(
    conversationId: string,
    text: string,
    attachments?: GivenAttachment[],
  ): Promise<Turn> {
    const { turnId, ended } = await begin(conversationId, text, attachments);
    await ended;
    return await getTurn(db, user, conversationId, turnId);
  }

  async function retry(conversationId: string, turnId: string): Promise<Turn> {
    const worker = crypto.randomUUID();
    await retryTurn(db, user, conversationId, turnId, worker);
    await runTurn(deps, user, { conversationId, turnId, worker });
    return await getTurn(db, user, conversationId, turnId);
  }

  /** Gives a person's word on a call, and works on as the page does. */
  async function decide(conversationId: string, callId: string, allow: boolean) {
    const worker = crypto.randomUUID();
    const { turnId, isLast } = await decideCall(db, user, conversationId, callId, {
      allow,
      worker,
    });
    if (isLast) await runTurn(deps, user, { conversationId, turnId, worker });
    return await getTurn(db, user, conversationId, turnId);
  }

  /** Answers what a server asks, and works on as the page does. */
  async function answer(conversationId: string, questionId: string, given: Answer) {
    const worker = crypto.randomUUID();
    const { turnId, isTaken } = await answerQuestion(db, user, conversationId, questionId, {
      ...given,
      worker,
    });
    if (isTaken) await runTurn(deps, user, { conversationId, turnId, worker });
    return await getTurn(db, user, conversationId, turnId);
  }

  /** Waits until a turn is as it should be. */
  async function until(conversationId: string, holds: (turn: Turn) => boolean): Promise<Turn> {
    for (;;) {
      const { turns } = await getConversation(db, user, conversationId);
      const turn = turns.at(-1);
      if (turn && holds(turn)) return turn;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  return {
    bridge,
    deps,
    model,
    logged,
    useModel,
    conversation,
    begin,
    say,
    retry,
    decide,
    answer,
    until,
    async [Symbol.asyncDispose]() {
      await changes.close();
      await model[Symbol.asyncDispose]();
      await bridge[Symbol.asyncDispose]();
    },
  };
}
