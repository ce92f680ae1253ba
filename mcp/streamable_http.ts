/**
 * Streamable HTTP: `POST`, `GET` and `DELETE` of one endpoint, for all revisions that have it. 2026-07-28 has
 * `POST` alone; those before have sessions, with a stream of their own and an end.
 */
import { objectMembers, WAIST_REVISION } from "../dtma/protocol.ts";
import { errorFields, type Log } from "../models/log.ts";
import type { Session } from "../models/sessions.ts";
import { type Asked, type Exchanges, jsonResponse, type TakeOver } from "./exchange.ts";
import type { Limits } from "./limits.ts";
import {
  envelope,
  type Incoming,
  type IncomingNotification,
  type IncomingRequest,
  type IncomingResponse,
  readMessages,
} from "./messages.ts";
import { forRevision } from "./older_revisions.ts";
import { QUESTION_PREFIX, randomText } from "./questions.ts";
import {
  checkRevisionHeader,
  errorAnswer,
  isObject,
  negotiated,
  revisionOf,
  RpcCode,
  RpcError,
} from "./revisions.ts";
import type { Serving } from "./serving.ts";
import { openSessionStream } from "./session_stream.ts";
import type { Caller, Sessions } from "./sessions.ts";

export interface TransportDeps {
  sessions: Sessions;
  serving: Serving;
  exchanges: Exchanges;
  limits: Limits;
  log: Log;
}

/** A request of HTTP, whose caller was authenticated. */
export interface HttpRequest {
  request: Request;
  caller: Caller;
  /** The slug of the one server that is asked, or null for all of the agent's. */
  scope: string | null;
  /** Whether the caller's token still holds: a stream outlives the moment it was looked at. */
  stillHolds: () => Promise<boolean>;
}

const SESSION_HEADER = "mcp-session-id";
const TRANSPORT = "streamable_http";

export function streamableHttp(deps: TransportDeps) {
  const { sessions, serving, exchanges, limits, log } = deps;

  return { post: answering(post), get: answering(get), delete: answering(end) };

  /** What is thrown is an answer too. */
  function answering(handle: (asked: HttpRequest) => Promise<Response>) {
    return async (asked: HttpRequest): Promise<Response> => {
      try {
        return await handle(asked);
      } catch (error) {
        // Nobody is there to be told, and nothing is wrong here.
        if (asked.request.signal.aborted) return new Response(null, { status: 499 });
        return errorResponse(null, error, log);
      }
    };
  }

  async function post(asked: HttpRequest): Promise<Response> {
    const { request, caller } = asked;
    const counted = [limits.request(caller.tokenId)];
    const done = () => counted.forEach((each) => each());
    try {
      const { messages, isBatch } = await readMessages(request);
      if (messages.every(({ kind }) => kind !== "request")) checkRevisionHeader(request.headers);
      // By `get`: to answer `has`, Deno makes a list of all headers.
      const isNamed = request.headers.get(SESSION_HEADER) !== null;
      const session = isNamed ? await sessionOf(asked, messages) : null;
      const requests: IncomingRequest[] = [];
      for (const message of messages) {
        if (message.kind === "request") requests.push(message);
        else await take(sessions, session, message);
      }
      // Nothing to answer: taken, with nothing to say.
      if (requests.length === 0) return accepted(done);
      for (const _ of requests.slice(1)) counted.push(limits.request(caller.tokenId));
      if (isBatch) checkBatch(request.headers, session, requests);
      if (!isBatch && requests[0].method === "initialize" && !isModern(requests[0])) {
        return await initialize(asked, requests[0]).finally(done);
      }
      return await exchanges.answer({
        session,
        requests,
        isBatch,
        ...streamsIn(request.headers.get("accept") ?? ""),
        gone: () => request.signal,
        onOver: done,
      }, (each, outlet, signal) => {
        if (each.refusal) throw each.refusal;
        const revision = revisionIn(each, request.headers, session);
        const { scope, stillHolds } = asked, { headers } = request;
        const client = { caller, scope, session, revision, headers, stillHolds };
        return serving.answer(client, each, outlet, signal);
      });
    } catch (error) {
      done();
      throw error;
    }
  }

  function accepted(done: () => void): Response {
    done();
    return new Response(null, { status: 202 });
  }

  /** The session that a request names; null for one without, or of a revision that has none. */
  async function sessionOf(
    { request, caller, scope }: Pick<HttpRequest, "request" | "caller" | "scope">,
    messages: Incoming[] = [],
  ): Promise<Session | null> {
    const id = request.headers.get(SESSION_HEADER);
    const isStateless = request.headers.get("mcp-protocol-version") === WAIST_REVISION ||
      messages.some((message) => message.kind === "request" && isModern(message));
    if (id === null || isStateless) return null;
    const found = sessions.find(caller, { scope, transport: TRANSPORT }, id);
    const session = found instanceof Promise ? await found : found;
    if (!session) throw noSession();
    return session;
  }

  async function initialize(asked: HttpRequest, request: IncomingRequest): Promise<Response> {
    const { caller, scope } = asked;
    try {
      const opened = clientIn(request);
      const answer = await serving.initialized(caller, scope, opened.revision);
      const session = await sessions.open(caller, { scope, transport: TRANSPORT, ...opened });
      const fitted = forRevision(answer, request.method, opened.revision);
      return jsonResponse(envelope(request.idText, fitted), 200, { [SESSION_HEADER]: session.id });
    } catch (error) {
      return errorResponse(request.idText, error, log);
    }
  }

  /** A session's own stream, or the rest of a request's whose connection broke. */
  async function get(asked: HttpRequest): Promise<Response> {
    const { headers } = asked.request;
    if (!hasSession(headers)) return notAllowed();
    checkRevisionHeader(headers);
    if (!(headers.get("accept") ?? "").includes("text/event-stream")) {
      throw new RpcError(RpcCode.invalidRequest, "Accept must name text/event-stream", 406);
    }
    const session = (await sessionOf(asked))!;
    const done = limits.stream(asked.caller.tokenId);
    const lastEventId = headers.get("last-event-id");
    if (lastEventId !== null) {
      const { caller, scope, stillHolds } = asked, { revision } = session;
      const takeOver: TakeOver = (...kept) =>
        serving.takeOver({ caller, scope, session, revision, headers, stillHolds }, ...kept);
      const rest = exchanges.resume(session, lastEventId, takeOver, done);
      if (rest) return rest;
    }
    const name = randomText();
    let sequence = 0;
    const stream = await openSessionStream(deps, asked, session, {
      resumed: lastEventId?.replace(/^g[\w-]{22}_\d+_/, "") ?? null,
      // No other stream of the session has it (2025-11-25, transports#resumability-and-redelivery).
      idOf: (lists) => `g${name}_${++sequence}_${lists}`,
      isPrimed: session.revision >= "2025-11-25",
      done,
    });
    stream.follow().catch((error) => log.error("A session's stream broke off", errorFields(error)));
    return stream.response;
  }

  async function end(asked: HttpRequest): Promise<Response> {
    const { headers } = asked.request;
    if (!hasSession(headers)) return notAllowed();
    checkRevisionHeader(headers);
    const session = await sessionOf(asked);
    if (!session || !await sessions.end(session)) throw noSession();
    // Its servers need not be waited for.
    serving.release(session);
    return new Response(null, { status: 204 });
  }
}

/** 2026-07-28 has none, and ignores the header (streamable-http#earlier-streamable-http-revisions). */
function hasSession(headers: Headers): boolean {
  return headers.has(SESSION_HEADER) && headers.get("mcp-protocol-version") !== WAIST_REVISION;
}

/** What a client said of itself in `initialize`. */
export function clientIn(
  { params }: IncomingRequest,
): Pick<Session, "revision" | "clientInfo" | "capabilities"> {
  const { clientInfo, capabilities, protocolVersion } = params;
  return {
    revision: negotiated(protocolVersion),
    clientInfo: isObject(clientInfo) ? JSON.stringify(clientInfo) : null,
    capabilities: isObject(capabilities) ? capabilities : {},
  };
}

/** A notification or a response of a client's: passed to what waits for it, wherever that is. */
export async function take(
  sessions: Sessions,
  session: Session | null,
  message: IncomingNotification | IncomingResponse,
): Promise<void> {
  // Without a session it is not known whose it is: ids count from 1 in every client.
  if (!session) return;
  if (message.kind === "response") {
    const { id, answer } = message;
    // Others were never asked.
    if (typeof id !== "string" || !id.startsWith(QUESTION_PREFIX)) return;
    await sessions.tell(session.id, { word: "response", id, answer });
  } else if (message.method === "notifications/cancelled") {
    const { requestId } = message.params;
    if (typeof requestId !== "string" && typeof requestId !== "number") return;
    // As the request has it: there is more than one way to write it.
    const id = objectMembers(message.paramsText).get("requestId")!;
    await sessions.tell(session.id, { word: "cancel", id });
  }
}

/**
 * What a client says of event streams. All name both types, since both may come; which one it names first it
 * would rather have.
 */
function streamsIn(accept: string): Pick<Asked, "takesStream" | "prefersStream"> {
  const stream = accept.indexOf("text/event-stream"), json = accept.indexOf("application/json");
  return { takesStream: stream >= 0, prefersStream: stream >= 0 && (json < 0 || stream < json) };
}

/** The revision of a session is what was settled at its begin; else each request says it. */
function revisionIn(
  request: IncomingRequest,
  headers: Headers,
  session: Session | null,
): string {
  // Checks what must hold in any case.
  const revision = revisionOf(request, headers);
  return session && revision !== WAIST_REVISION ? session.revision : revision;
}

function isModern({ params }: IncomingRequest): boolean {
  return isObject(params._meta) && "io.modelcontextprotocol/protocolVersion" in params._meta;
}

function checkBatch(headers: Headers, session: Session | null, requests: IncomingRequest[]): void {
  const revision = session?.revision ?? headers.get("mcp-protocol-version") ?? "2025-03-26";
  if (revision !== "2025-03-26") {
    throw new RpcError(RpcCode.invalidRequest, "Batches exist in revision 2025-03-26 alone");
  }
  for (const request of requests) {
    if (request.method !== "initialize") continue;
    request.refusal = new RpcError(
      RpcCode.invalidRequest,
      "initialize must not be part of a batch",
    );
  }
}

/** 404 tells a client to begin another session (2025-11-25, transports#session-management). */
function noSession(): RpcError {
  return new RpcError(
    -32001,
    "There is no such session, or no more: begin another with initialize",
    404,
  );
}

function notAllowed(): Response {
  return new Response("Send MCP messages with POST", { status: 405, headers: { allow: "POST" } });
}

export function errorResponse(id: string | null, error: unknown, log: Log): Response {
  const { answer, status, headers } = errorAnswer(error, log);
  return jsonResponse(envelope(id, answer), status, headers);
}
