/**
 * The chat as a function for programs: a conversation goes on, and its answer is streamed as server-sent
 * events. The app mounts it, and `supabase/functions/chat` serves it alone.
 */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { z } from "zod";
import { answerQuestion } from "../models/conversation_questions.ts";
import {
  createConversation,
  decideCall,
  mistakeOf,
  retryTurn,
  sendMessage,
} from "../models/conversations.ts";
import type { User } from "../models/db.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "../models/errors.ts";
import { errorFields } from "../models/log.ts";
import { type ChatDeps, runTurn } from "./turn.ts";
import { turnEvents } from "./turn_events.ts";

const BODY_LIMIT_BYTES = 1024 * 1024;
/** Between events; what is between us and the client may end what is silent. */
const PING_MS = 15_000;

/**
 * What is asked for: to say something, anew or in a conversation; to decide on a call; to answer what a server
 * asks; to try again.
 */
const Asked = z.union([
  z.strictObject({ agent: z.uuid(), text: z.string() }),
  z.strictObject({ conversation: z.uuid(), text: z.string() }),
  z.strictObject({ conversation: z.uuid(), call: z.uuid(), allow: z.boolean() }),
  z.strictObject({
    conversation: z.uuid(),
    question: z.uuid(),
    action: z.enum(["accept", "decline", "cancel"]),
    content: z.record(z.string(), z.unknown()).optional(),
  }),
  z.strictObject({ conversation: z.uuid(), retry: z.uuid() }),
]);
const Watched = z.strictObject({ conversation: z.uuid(), turn: z.uuid() });

/** Who asks: a person, in the one workspace that they ask about. */
export type Asker = User & { within: string };

/**
 * @param askerOf whose a bearer token is, in the workspace that the request names if it names one; null:
 *   nobody's, or it may not call tools
 * @param keepAlive told of work that goes on behind the answer
 */
export function chatFunction(
  deps: ChatDeps,
  askerOf: (token: string, workspaceId?: string) => Promise<Asker | null>,
  keepAlive: (work: Promise<void>) => void,
): Hono {
  const { db, log } = deps;

  return new Hono()
    .use(bodyLimit({ maxSize: BODY_LIMIT_BYTES }))
    .post("/", async (c) => {
      const asker = await authenticated(c);
      if (!asker) return refused(c);
      const parsed = Asked.safeParse(await c.req.json().catch(() => null));
      if (!parsed.success) {
        return c.json({
          error: "Send {agent, text}, {conversation, text}, {conversation, call, allow}, " +
            "{conversation, question, action, content} or {conversation, retry}",
        }, 422);
      }
      return stream(c, asker, await begin(asker, parsed.data));
    })
    // Of a turn that is there, from its beginning: for who was cut off.
    .get("/", async (c) => {
      const asker = await authenticated(c);
      if (!asker) return refused(c);
      const parsed = Watched.safeParse(c.req.query());
      if (!parsed.success) return c.json({ error: "Ask with ?conversation=…&turn=…" }, 422);
      const { conversation: conversationId, turn: turnId } = parsed.data;
      return stream(c, asker, { conversationId, turnId });
    })
    .onError((error, c) => {
      if (error instanceof NotFound) return c.json({ error: error.message }, 404);
      if (error instanceof Forbidden) return c.json({ error: error.message }, 403);
      if (error instanceof Conflict) return c.json({ error: error.message }, 409);
      if (error instanceof Invalid) return c.json({ error: error.message }, 422);
      log.error("A request to the chat failed", errorFields(error));
      return c.json({ error: "Mooring failed to serve this; its log says why" }, 500);
    });

  async function authenticated(c: Context): Promise<Asker | null> {
    const token = /^Bearer ([^\s]+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
    return token ? await askerOf(token, c.req.header("mooring-workspace")) : null;
  }

  /** Does what was asked for, and has the turn that came of it worked on. */
  async function begin(asker: Asker, asked: z.infer<typeof Asked>) {
    const worker = crypto.randomUUID();
    const work = (conversationId: string, turnId: string) => {
      keepAlive(runTurn(deps, asker, { conversationId, turnId, worker }));
      return { conversationId, turnId };
    };
    if ("call" in asked) {
      const { conversation, call, allow } = asked;
      const { turnId, isLast } = await decideCall(db, asker, conversation, call, { allow, worker });
      return isLast ? work(conversation, turnId) : { conversationId: conversation, turnId };
    }
    if ("question" in asked) {
      const { conversation, question, action, content } = asked;
      const answer = { action, content, worker };
      const { turnId, isTaken } = await answerQuestion(db, asker, conversation, question, answer);
      return isTaken ? work(conversation, turnId) : { conversationId: conversation, turnId };
    }
    if ("retry" in asked) {
      await retryTurn(db, asker, asked.conversation, asked.retry, worker);
      return work(asked.conversation, asked.retry);
    }
    const { text } = asked;
    // Before a conversation is made for it, which would stay empty.
    const mistake = mistakeOf(text);
    if (mistake) throw new Invalid(mistake, { text: mistake });
    const conversationId = "conversation" in asked
      ? asked.conversation
      : await createConversation(db, asker, asker.within, { agentId: asked.agent, title: text });
    const said = { text, attachments: [], worker };
    return work(conversationId, await sendMessage(db, asker, conversationId, said));
  }

  function stream(c: Context, asker: Asker, at: { conversationId: string; turnId: string }) {
    const left = new AbortController();
    const signal = AbortSignal.any([c.req.raw.signal, left.signal]);
    const encoder = new TextEncoder();
    const body = new ReadableStream<Uint8Array>({
      async start(controller) {
        const write = (text: string) => {
          if (!signal.aborted) controller.enqueue(encoder.encode(text));
        };
        const event = (data: unknown) => write(`data: ${JSON.stringify(data)}\n\n`);
        const pinging = setInterval(() => write(": ping\n\n"), PING_MS);
        try {
          event({ type: "turn", conversation: at.conversationId, turn: at.turnId });
          for await (const one of turnEvents(deps, asker, at, signal)) event(one);
        } catch (error) {
          if (error instanceof NotFound) event({ type: "gone" });
          else if (!signal.aborted) log.error("A stream of the chat broke off", errorFields(error));
        } finally {
          clearInterval(pinging);
          if (!signal.aborted) controller.close();
        }
      },
      cancel: () => left.abort(),
    });
    return c.body(body, 200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    });
  }
}

function refused(c: Context) {
  const error = "Send a personal access token that may call tools: Authorization: Bearer mpt_…";
  return c.json({ error }, 401, { "www-authenticate": "Bearer" });
}
