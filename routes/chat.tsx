import { type Context, Hono } from "hono";
import { attachablesOf, attachmentsOf } from "../chat/attachments.ts";
import { mediaIn } from "../chat/media.ts";
import { runTurn } from "../chat/turn.ts";
import { listAgents } from "../models/agents.ts";
import { getChatModel } from "../models/chat_models.ts";
import { answerQuestion, getQuestion } from "../models/conversation_questions.ts";
import {
  createConversation,
  decideCall,
  deleteConversation,
  getAttachedMedia,
  getCallResult,
  getConversation,
  getTurn,
  listConversations,
  type Media,
  mistakeOf,
  renameConversation,
  retryTurn,
  sendMessage,
  stopTurn,
  type Turn,
} from "../models/conversations.ts";
import { Conflict, Invalid, NotFound } from "../models/errors.ts";
import {
  ChatHome,
  type ChatHomeProps,
  ChatQuestions,
  ConversationPage,
  type ConversationProps,
  questionIds,
} from "../views/chat.tsx";
import { ChatTurn, openQuestions } from "../views/chat_turn.tsx";
import type { AskedQuestion } from "../views/question.tsx";
import { visibleText } from "../views/visible_text.ts";
import { answerOf, askedQuestion, valuesOf } from "./asked_question.ts";
import type { AppDeps, Env } from "./deps.ts";
import { keepAlive } from "./keep_alive.ts";
import { live } from "./live.ts";
import { formOf, fragment, goTo, page } from "./render.tsx";

/** Conversations with agents. Their answers are worked on here and stand in rows, which pages show. */
export function chatRoutes(deps: AppDeps) {
  const { db } = deps;

  return new Hono<Env>()
    .get("/chat", (c) => home(c, { agentId: c.req.query("agent") }))
    .post("/chat", async (c) => {
      const { text = "", agentId = "" } = await formOf(c);
      const mistake = mistakeOf(text);
      if (mistake) return home(c, { text, agentId, mistakes: { text: mistake } }, 422);
      const said = { agentId, title: text };
      const id = await createConversation(db, c.get("user"), c.get("workspace").id, said);
      return goTo(c, at(id, await say(c, id, text)));
    })
    .get("/chat/:id", (c) => conversationPage(c, c.req.param("id")))
    .get("/chat/:id/live", async (c) => {
      const id = c.req.param("id"), turnId = c.req.query("turn") ?? "", user = c.get("user");
      const { agentName } = await getConversation(db, user, id);
      let asked = c.req.query("questions") ?? "";
      return live(c, deps, ({ conversation }) => conversation === id, async () => {
        const turn = await getTurn(db, user, id, turnId).catch((error) => {
          if (error instanceof NotFound) return null;
          throw error;
        });
        if (!turn) return null;
        const shown = { conversationId: id, turn, agentName: agentName ?? "Agent" };
        const parts = [{ target: `#turn-${turn.id}`, content: <ChatTurn {...shown} /> }];
        // Only when there are others: what a person types, and what was wrong with it, stays.
        if (questionIds(turn) === asked) return parts;
        asked = questionIds(turn);
        const questions = { conversationId: id, turn, questions: questionsOf(turn) };
        return [...parts, { target: "#questions", content: <ChatQuestions {...questions} /> }];
      });
    })
    .post("/chat/:id/messages", async (c) => {
      const id = c.req.param("id"), user = c.get("user");
      const { act, ...form } = await formOf(c);
      const listed = act === "attach" || form.attaching === "true";
      const conversation = await getConversation(db, user, id);
      const attachables = listed && conversation.agentId
        ? await attachablesOf(deps, user, conversation)
        : null;
      const again = { form, attachables };
      if (act === "attach") return await conversationPage(c, id, again);
      try {
        const mistake = mistakeOf(form.text ?? "");
        if (mistake) throw new Invalid(mistake, { text: mistake });
        const attachments = listed ? await attachmentsOf(deps, user, conversation, form) : [];
        return goTo(c, at(id, await say(c, id, form.text, attachments)));
      } catch (error) {
        if (error instanceof Invalid) {
          const { message, fields: mistakes } = error;
          const mistake = mistakes.text ? undefined : message;
          return await conversationPage(c, id, { ...again, mistakes, mistake }, 422);
        }
        if (error instanceof Conflict) {
          return await conversationPage(c, id, { ...again, mistake: `${error.message}.` }, 409);
        }
        throw error;
      }
    })
    .post("/chat/:id/turns/:turn/stop", async (c) => {
      const { id, turn } = c.req.param();
      await stopTurn(db, c.get("user"), id, turn);
      return goTo(c, at(id, turn));
    })
    .post("/chat/:id/turns/:turn/retry", async (c) => {
      const { id, turn: turnId } = c.req.param(), user = c.get("user");
      const worker = crypto.randomUUID();
      await retryTurn(db, user, id, turnId, worker);
      keepAlive(runTurn(deps, user, { conversationId: id, turnId, worker }));
      return goTo(c, at(id, turnId));
    })
    .post("/chat/:id/calls/:call", async (c) => {
      const { id, call } = c.req.param(), user = c.get("user");
      const { decision } = await formOf(c);
      if (decision !== "allow" && decision !== "deny") {
        throw new Invalid("Allow the call or deny it");
      }
      const worker = crypto.randomUUID(), allow = decision === "allow";
      const { turnId, isLast } = await decideCall(db, user, id, call, { allow, worker });
      if (isLast) keepAlive(runTurn(deps, user, { conversationId: id, turnId, worker }));
      return goTo(c, at(id, turnId));
    })
    .post("/chat/:id/questions/:question", async (c) => {
      const { id, question: questionId } = c.req.param(), user = c.get("user");
      const question = await getQuestion(db, user, id, questionId);
      const values = await valuesOf(c);
      const told = answerOf(question, values);
      if ("again" in told) return await askAgain(c, id, told.again, told.status);
      const worker = crypto.randomUUID();
      try {
        const answer = { ...told.answer, worker };
        const { turnId, isTaken } = await answerQuestion(db, user, id, questionId, answer);
        if (isTaken) keepAlive(runTurn(deps, user, { conversationId: id, turnId, worker }));
        return goTo(c, at(id, turnId));
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        const mistake = Object.values(error.fields)[0] ?? error.message;
        return await askAgain(c, id, { ...askedQuestion(question, values), mistake }, 422);
      }
    })
    .get("/chat/:id/calls/:call/result", async (c) => {
      const { id, call } = c.req.param();
      const result = await getCallResult(db, c.get("user"), id, call);
      return c.body(result, 200, {
        "content-type": "application/json",
        "content-disposition": `attachment; filename="answer-${call}.json"`,
        "cache-control": "no-store",
      });
    })
    .get("/chat/:id/calls/:call/media/:n", async (c) => {
      const { id, call, n } = c.req.param();
      const { content = [] } = JSON.parse(await getCallResult(db, c.get("user"), id, call));
      return file(c, mediaIn(content)[Number(n)]);
    })
    .get("/chat/:id/turns/:turn/attached/:n", async (c) => {
      const { id, turn, n } = c.req.param();
      return file(c, (await getAttachedMedia(db, c.get("user"), id, turn))[Number(n)]);
    })
    .post("/chat/:id/rename", async (c) => {
      const id = c.req.param("id"), { title = "" } = await formOf(c);
      try {
        await renameConversation(db, c.get("user"), id, title);
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return await conversationPage(c, id, { mistakes: error.fields }, 422);
      }
      return goTo(c, `/chat/${id}`, "conversation-renamed");
    })
    .post("/chat/:id/delete", async (c) => {
      await deleteConversation(db, c.get("user"), c.req.param("id"));
      return goTo(c, "/chat", "conversation-deleted");
    });

  async function say(
    c: Context<Env>,
    conversationId: string,
    text: string,
    attachments: Parameters<typeof sendMessage>[3]["attachments"] = [],
  ): Promise<string> {
    const user = c.get("user"), worker = crypto.randomUUID();
    const turnId = await sendMessage(db, user, conversationId, { text, attachments, worker });
    keepAlive(runTurn(deps, user, { conversationId, turnId, worker }));
    return turnId;
  }

  /** Shows a question once more: alone where htmx asks for it, for another row of a list. */
  async function askAgain(
    c: Context<Env>,
    id: string,
    again: AskedQuestion,
    status: 200 | 422,
  ) {
    if (!c.req.header("hx-request")) return await conversationPage(c, id, { again }, status);
    const { turns } = await getConversation(db, c.get("user"), id);
    const turn = turns.at(-1)!, questions = questionsOf(turn, again);
    return fragment(c, <ChatQuestions {...{ conversationId: id, turn, questions }} />, status);
  }

  async function home(
    c: Context<Env>,
    more: Pick<ChatHomeProps, "text" | "agentId" | "mistakes">,
    status: 200 | 422 = 200,
  ) {
    const user = c.get("user"), workspace = c.get("workspace");
    const props = {
      workspace,
      model: await getChatModel(db, user, workspace.id),
      agents: await listAgents(db, user, workspace.id),
      conversations: await listConversations(db, user, workspace.id),
      ...more,
    };
    return page(c, "Chat", <ChatHome {...props} />, status);
  }

  async function conversationPage(
    c: Context<Env>,
    id: string,
    { again, ...more }:
      & Partial<Pick<ConversationProps, "form" | "attachables" | "mistakes" | "mistake">>
      & { again?: AskedQuestion } = {},
    status: 200 | 409 | 422 = 200,
  ) {
    const user = c.get("user");
    const conversation = await getConversation(db, user, id);
    const props = {
      conversation,
      workspace: c.get("workspace"),
      model: await getChatModel(db, user, conversation.workspaceId),
      questions: questionsOf(conversation.turns.at(-1), again),
      ...more,
    };
    return page(c, visibleText(conversation.title), <ConversationPage {...props} />, status);
  }
}

/** Where a turn stands. */
function at(conversationId: string, turnId: string): string {
  return `/chat/${conversationId}#turn-${turnId}`;
}

/** What is asked in a turn, each with its form; one of them as it was filled in. */
function questionsOf(turn: Turn | undefined, again?: AskedQuestion): AskedQuestion[] {
  return turn === undefined
    ? []
    : openQuestions(turn).map((question) =>
      question.id === again?.question.id ? again : askedQuestion(question)
    );
}

/** Pictures as what they are; all else as bytes to be saved, since a browser may run what it holds. */
function file(c: Context<Env>, media: Media | undefined): Response {
  if (!media) throw new NotFound("There is no such file");
  const isShown = /^image\/(png|jpeg|gif|webp|avif)$/.test(media.mediaType);
  const bytes = Uint8Array.from(atob(media.data), (char) => char.charCodeAt(0));
  return c.body(bytes, 200, {
    "content-type": isShown ? media.mediaType : "application/octet-stream",
    ...(isShown ? {} : { "content-disposition": "attachment" }),
    // It never changes, and is its person's alone.
    "cache-control": "private, max-age=86400, immutable",
  });
}
