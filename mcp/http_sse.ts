/**
 * HTTP+SSE, the transport of 2024-11-05: a stream with `GET` that says where to `POST`, and everything that
 * the server has to say on that stream.
 *
 * All of it but what changes on servers goes through the database, so that a POST may come to another
 * replica than the stream, and a stream that broke goes on at any (its events' ids are the session and the
 * message's number). What was not taken within a quarter of an hour is forgotten.
 */
import type { Changes } from "../models/changes.ts";
import type { Database } from "../models/db.ts";
import { errorFields } from "../models/log.ts";
import { messagesAfter, putMessages, type Session, takeLostRequests } from "../models/sessions.ts";
import { ALIVE_EVERY_MS, DEAD_AFTER_MS, lostWithReplica, type Outlet } from "./exchange.ts";
import { envelope, type IncomingRequest, readMessages } from "./messages.ts";
import { forRevision } from "./older_revisions.ts";
import { questions, randomText } from "./questions.ts";
import { errorAnswer, RpcCode, RpcError } from "./revisions.ts";
import type { Answer } from "./router.ts";
import { openSessionStream } from "./session_stream.ts";
import {
  clientIn,
  errorResponse,
  type HttpRequest,
  take,
  type TransportDeps,
} from "./streamable_http.ts";

const TRANSPORT = "http_sse";
const STREAM = "sse";
/** Looked again without a wake-up, which can be lost. */
const LOOK_MS = 5000;
/** Of one session, unwritten: over which progress is dropped. */
const UNWRITTEN_LIMIT = 50;

export interface HttpSseDeps extends TransportDeps {
  db: Database;
  changes: Changes;
  /** What the paths of the app begin with. */
  basePath: string;
  keepAlive?: (work: Promise<void>) => void;
}

export function httpSse(deps: HttpSseDeps) {
  const { db, changes, sessions, serving, limits, log } = deps;
  const outbox = outboxes(deps);
  const working = workingOn(deps);

  return { get, post };

  async function get(asked: HttpRequest): Promise<Response> {
    let done = () => {};
    try {
      // Before there is a session, which a refusal would leave behind.
      done = limits.stream(asked.caller.tokenId);
      return await open(asked, done);
    } catch (error) {
      done();
      return errorResponse(null, error, log);
    }
  }

  async function open(asked: HttpRequest, done: () => void): Promise<Response> {
    const { request, caller, scope } = asked;
    const lastEventId = request.headers.get("last-event-id");
    const from = lastEventId === null ? null : readEventId(lastEventId);
    const of = { scope, transport: TRANSPORT } as const;
    const session = from
      ? await sessions.find(caller, of, from.sessionId)
      : await sessions.open(caller, {
        ...of,
        revision: "2024-11-05",
        clientInfo: null,
        capabilities: {},
      });
    if (!session) throw new RpcError(-32001, "There is no such session, or no more", 404);
    let taken = from?.sequence ?? 0;
    const stream = await openSessionStream(deps, asked, session, {
      resumed: from?.lists ?? null,
      idOf: (lists) => `${session.id}_${taken}_${lists}`,
      done,
    });
    // Before the first look, so that nothing in between is slept through.
    const wakeUps = changes.subscribe((change) =>
      change.table === "mcp_messages" && change.session === session.id && change.stream === STREAM
    );
    const path = `${deps.basePath}/messages${scope === null ? "" : `/${scope}`}`;
    const data = `${path}?sessionId=${session.id}`;
    // With an id from the first: a client without one begins another session.
    stream.send({ id: stream.id(), type: "endpoint", data });

    const deliver = async () => {
      while (!stream.gone.aborted) {
        const messages = await messagesAfter(db, session.id, STREAM, taken);
        for (const { sequence, message } of messages) {
          taken = sequence;
          stream.send({ id: stream.id(), data: message });
        }
        if (messages.length > 0 || await wakeUps.next(LOOK_MS, stream.gone)) continue;
        // It is quiet: whoever works on a request of this session should have said so.
        for (const lost of await takeLostRequests(db, session.id, DEAD_AFTER_MS)) {
          const answers = JSON.parse(lost).map((id: string) => envelope(id, lostWithReplica()));
          if (answers.length > 0) await putMessages(db, session.id, STREAM, answers);
        }
      }
    };
    Promise.race([deliver(), stream.follow()])
      .catch((error) => log.error("A session's stream broke off", errorFields(error)))
      .finally(() => {
        stream.close();
        wakeUps.close();
      });
    return stream.response;
  }

  /** Takes messages: what they are answered with comes on the stream. */
  async function post(asked: HttpRequest): Promise<Response> {
    const { request, caller, scope } = asked;
    const counted: (() => void)[] = [];
    try {
      const id = new URL(request.url).searchParams.get("sessionId") ?? "";
      const session = await sessions.find(caller, { scope, transport: TRANSPORT }, id);
      if (!session) throw new RpcError(-32001, "There is no such session, or no more", 404);
      const { messages, isBatch } = await readMessages(request);
      if (isBatch && session.revision !== "2025-03-26" && session.revision !== "2024-11-05") {
        throw new RpcError(RpcCode.invalidRequest, "This revision has no batches");
      }
      // All or none: who is refused sends all of them again.
      for (const { kind } of messages) {
        if (kind === "request") counted.push(limits.request(caller.tokenId));
      }
      for (const message of messages) {
        if (message.kind !== "request") {
          await take(sessions, session, message);
          continue;
        }
        const finished = await working.begin(session, message.idText);
        const done = counted.shift()!;
        const served = serve(asked, session, message, async () => {
          done();
          await finished();
        });
        deps.keepAlive?.(served);
      }
      return new Response("Accepted", { status: 202 });
    } catch (error) {
      // What is served already counts itself out.
      for (const done of counted) done();
      return errorResponse(null, error, log);
    }
  }

  /** Answers one request on the session's stream, wherever that is. */
  async function serve(
    asked: HttpRequest,
    session: Session,
    request: IncomingRequest,
    done: () => Promise<void>,
  ): Promise<void> {
    const cancel = new AbortController();
    const startedAt = Date.now();
    const out = outbox.of(session);
    const { ask, hear } = questions((text) => out.put(text));
    const stopListening = sessions.listen(session.id, (word, at) => {
      if (word.word === "response") return hear(word.id, word.answer);
      if (word.word !== "cancel" || word.id !== request.idText || at < startedAt) return false;
      cancel.abort();
      return true;
    });
    const outlet: Outlet = {
      takesNotifications: true,
      remember: null,
      notify: (text) => out.put(text, true),
      ask,
    };
    try {
      if (request.refusal) throw request.refusal;
      const answer = request.method === "initialize"
        ? await initialize(asked, session, request)
        : await serving.answer(
          {
            caller: asked.caller,
            scope: asked.scope,
            session,
            revision: session.revision,
            headers: asked.request.headers,
            stillHolds: asked.stillHolds,
          },
          request,
          outlet,
          cancel.signal,
        );
      out.put(envelope(request.idText, answer));
    } catch (error) {
      if (!cancel.signal.aborted) {
        out.put(envelope(request.idText, errorAnswer(error, log).answer));
      }
    } finally {
      stopListening();
      // What it was answered with must not be lost after it counts as done.
      await out.written();
      await done();
    }
  }

  async function initialize(
    { caller, scope }: HttpRequest,
    session: Session,
    request: IncomingRequest,
  ): Promise<Answer> {
    const opened = clientIn(request);
    const answer = await serving.initialized(caller, scope, opened.revision);
    await sessions.change(session, opened);
    return forRevision(answer, request.method, opened.revision);
  }
}

interface Outbox {
  /** Writes a message for the session's stream, after those before it. */
  put(message: string, mayBeDropped?: boolean): void;
  /** Resolves when all that was put is written, or given up. */
  written(): Promise<void>;
}

/** What this replica has to say on sessions' streams, in order and many at once. */
function outboxes({ db, log }: HttpSseDeps) {
  const open = new Map<string, { waiting: string[]; written: Promise<void> }>();

  async function write(session: Session, waiting: string[]): Promise<void> {
    for (let failures = 0; waiting.length > 0;) {
      const batch = waiting.slice(0, 100);
      try {
        const last = await putMessages(db, session.id, STREAM, batch);
        waiting.splice(0, batch.length);
        failures = 0;
        // The session has ended: nobody listens.
        if (last === null) waiting.length = 0;
      } catch (error) {
        if (failures++ === 0) {
          log.error("A session's messages could not be written yet", errorFields(error));
        }
        if (failures > 600) waiting.length = 0;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
    open.delete(session.id);
  }

  return {
    of: (session: Session): Outbox => ({
      put(message, mayBeDropped = false) {
        const writing = open.get(session.id);
        if (mayBeDropped && writing && writing.waiting.length >= UNWRITTEN_LIMIT) return;
        if (writing) return void writing.waiting.push(message);
        const waiting = [message];
        // After it stands in the map, from which it goes when all is written.
        const written = Promise.resolve().then(() => write(session, waiting));
        open.set(session.id, { waiting, written });
      },
      written: async () => await open.get(session.id)?.written,
    }),
  };
}

interface Working {
  /** Of requests, as they are written. */
  ids: string[];
  writing: Promise<unknown>;
  /** A write that has not begun, and will hold all that is known by then. */
  next: Promise<unknown> | null;
}

/** What this replica works on, said in the database, so that it is missed when the replica is lost. */
function workingOn({ db, log }: HttpSseDeps) {
  const stream = `run:${randomText()}`;
  const open = new Map<string, Working>();
  let saying: ReturnType<typeof setTimeout> | null = null;

  function say(sessionId: string, entry: Working): Promise<unknown> {
    entry.next ??= entry.writing = entry.writing.catch(() => {}).then(async () => {
      entry.next = null;
      await putMessages(db, sessionId, stream, [JSON.stringify(entry.ids)], 0);
      if (entry.ids.length === 0 && open.get(sessionId) === entry) open.delete(sessionId);
    });
    return entry.next;
  }

  function sayAll() {
    for (const [sessionId, entry] of open) sayOrLog(sessionId, entry);
    saying = open.size > 0 ? setTimeout(sayAll, ALIVE_EVERY_MS) : null;
  }

  async function sayOrLog(sessionId: string, entry: Working): Promise<void> {
    await say(sessionId, entry).catch((error) =>
      log.error("What is worked on could not be said", errorFields(error))
    );
  }

  return {
    /**
     * Resolves once it is known to all.
     * @returns the way to say that it is done: an isolate that ends before that is known is taken for lost
     */
    async begin({ id: sessionId }: Session, idText: string): Promise<() => Promise<void>> {
      let entry = open.get(sessionId);
      if (!entry) {
        open.set(sessionId, entry = { ids: [], writing: Promise.resolve(), next: null });
      }
      const { ids } = entry;
      ids.push(idText);
      saying ??= setTimeout(sayAll, ALIVE_EVERY_MS);
      const finish = () => {
        ids.splice(ids.indexOf(idText), 1);
        return sayOrLog(sessionId, entry);
      };
      await say(sessionId, entry).catch((error) => {
        finish();
        throw error;
      });
      return finish;
    },
  };
}

function readEventId(id: string): { sessionId: string; sequence: number; lists: string } | null {
  const [, sessionId, sequence, lists] =
    /^([0-9a-f-]{36})_(\d{1,15})_((?:[\w-]+(?:\.[\w-]+){2})?)$/.exec(id) ?? [];
  return sessionId ? { sessionId, sequence: Number(sequence), lists } : null;
}
