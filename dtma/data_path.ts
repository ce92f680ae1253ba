/**
 * The data path: the app's calls to servers, as MCP 2026-07-28. Serves `POST /mcp/{serverId}` and the
 * upgrade of `GET /link` to a link (link.ts), both signed by the app, and nothing else to anybody.
 */
import { abortSignalOf, BriefSignal, type CallSignal } from "./call_signal.ts";
import {
  errorResponse,
  isObject,
  type JsonRpcId,
  type JsonRpcRequest,
  type JsonRpcResponse,
  notificationText,
  rateLimited,
  responseText,
} from "./connection.ts";
import { isHeldState, lostCall } from "./held_calls.ts";
import { DEPTH_LIMIT, outline } from "./json_text.ts";
import { LargeResponse } from "./large_response.ts";
import { acceptedLink, type Link, type LinkAnswer, type LinkCall, linkSocket } from "./link.ts";
import {
  BOM_METHOD,
  CALLER_META,
  CANCEL_METHOD,
  END_METHOD,
  ErrorCode,
  FRAME_LIMIT_BYTES,
  InstanceKey,
  LOG_METHOD,
  PIN_META,
  POLLS_META,
  PROTOCOL_VERSION,
  UNLISTED_CODE,
  WAIST_REVISION,
} from "./protocol.ts";
import type { Session } from "./session.ts";
import { memoryNonces, SignatureError, verifyRequest } from "./signature.ts";
import { aborted } from "./waiting.ts";

/** Where a call can go, or why it cannot. */
export type Route =
  | {
    session: Session;
    toolHashes: Map<string, string>;
    promptHashes?: Map<string, string>;
    /** Of a server behind an adapter: each resolves when those hashes are of the session of now (instance.ts). */
    relisted?: { tool?: Promise<void>; prompt?: Promise<void> };
  }
  | { unavailable: string };

export interface ServingOptions {
  /**
   * Finds the instance of a server that a call goes to (null is the shared one), and starts it first
   * where it must; or, where it need not, waits until somebody else's call does.
   */
  reach: (
    serverId: string,
    instance: string | null,
    signal: CallSignal,
    starts: boolean,
  ) => Route | Promise<Route>;
  /** Ends an instance that is one agent's or session's own, if there is one. */
  end?: (serverId: string, instance: string) => void;
  /** The log that is kept of a server; null of one that is not here. */
  logOf: (serverId: string) => Promise<string | null>;
  /** What is in a server's image, as CycloneDX; null where that is not kept. */
  bomOf?: (serverId: string) => Promise<Record<string, unknown> | null>;
  /** Longest wait for a server's answer. */
  callTimeoutMs?: number;
  /** Once it is aborted calls that have no end of their own end, and HTTP takes no more of any. */
  stopping?: AbortSignal;
}

export interface DataPathOptions extends ServingOptions {
  /** The app's Ed25519 key, base64url; its key id is `app`. */
  appPublicKey: () => string;
  /** Told of each link that the app opened. */
  onLink?: (link: Link) => void;
  /** How often a silent event stream says that it lives. */
  pingEveryMs?: number;
  log: (line: string) => void;
}

const PATH = /^\/mcp\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;
const LINK_PATH = "/link";

const LISTEN = "subscriptions/listen";

/** A server that is up is reached at once; one that is not so soon is being started. */
const STARTING_MS = 100;
const OWN_METHODS = [LOG_METHOD, BOM_METHOD, END_METHOD, CANCEL_METHOD];
const METHODS = [
  "server/discover",
  "tools/list",
  "tools/call",
  "prompts/list",
  "prompts/get",
  "resources/list",
  "resources/read",
  "resources/templates/list",
  "completion/complete",
  LISTEN,
  "tasks/get",
  "tasks/update",
  "tasks/cancel",
  ...OWN_METHODS,
];

/** What is called by an approved definition. */
const PINNED: Record<string, "tool" | "prompt" | undefined> = {
  "tools/call": "tool",
  "prompts/get": "prompt",
};

/** What a caller that does not read leaves unread of an event stream before progress is dropped. */
const UNREAD_LIMIT_BYTES = 1024 * 1024;

/** A body comes before its sender is known to be the app: so much of all bodies, for so long. */
const BODIES_LIMIT_BYTES = 64 * 1024 * 1024;
const BODY_TIMEOUT_MS = 30_000;

/**
 * How long a server may be silent about a call. Not shorter than what a caller may have set: who waits no more
 * says so or goes away, and the call is cancelled then.
 */
const CALL_TIMEOUT_MS = 60 * 60_000;

const PROTOCOL_VERSION_META = "io.modelcontextprotocol/protocolVersion";
const LOG_LEVEL_META = "io.modelcontextprotocol/logLevel";
const UNSUPPORTED_VERSION = -32022;

const PROTECTED_PARAMS = [
  "name",
  "arguments",
  "uri",
  "ref",
  "task",
  "taskId",
  "requestState",
  "inputResponses",
  "_meta",
];
/** Params that a server which ignores the case of keys (Go's encoding/json) takes for these. */
const TAKEN_FOR = new Map(PROTECTED_PARAMS.map((key) => [folded(key), key]));

/** The request is refused: the HTTP status and the JSON-RPC error that say so. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    message: string,
    readonly id: JsonRpcId | null = null,
    readonly data?: unknown,
  ) {
    super(message);
  }
}

/** One call, however it came. */
export interface Call {
  serverId: string;
  instance: string | null;
  message: JsonRpcRequest;
  signal: CallSignal;
  onNotification?: (text: string) => void;
}

/** Throws a {@link Refusal} at once, and rejects only when the call's signal is aborted. */
type Serve = (call: Call) => JsonRpcResponse | Promise<JsonRpcResponse>;

/**
 * Serves calls: the one way from the app to a server, whether they came over HTTP or a link. What else
 * goes wrong is a response. To a server that is up a call goes on before this returns, so that those which
 * came together go on together.
 */
function serving(
  { reach, end = () => {}, logOf, bomOf, callTimeoutMs = CALL_TIMEOUT_MS, stopping }:
    ServingOptions,
): Serve {
  return function serve(call) {
    const { method } = call.message;
    if (OWN_METHODS.includes(method)) return serveOwn(call);
    return method === LISTEN ? listen(call) : servePassed(call, true);
  };

  /** What goes to a server. */
  function servePassed(call: Call, starts: boolean): JsonRpcResponse | Promise<JsonRpcResponse> {
    const { serverId, instance, message, signal, onNotification } = call;
    const route = reach(serverId, instance, signal, starts);
    return route instanceof Promise
      ? reached(route, message, onNotification).then((route) => serveOn(route, call))
      : serveOn(route, call);
  }

  /** Until its caller gives it up, the server's session ends, or DTMA stops. */
  async function listen(call: Call): Promise<JsonRpcResponse> {
    const { message, signal } = call;
    // Not AbortSignal.any, which one that lives long keeps for as long as anything listens to it.
    const until = new BriefSignal();
    const end = () => until.abort(signal.aborted ? signal.reason : stopping!.reason);
    const ends = [signal, stopping].filter((each) => each !== undefined);
    for (const each of ends) each.addEventListener("abort", end, { once: true });
    if (ends.some(({ aborted }) => aborted)) end();
    try {
      return await servePassed({ ...call, signal: until }, listensToResources(message));
    } catch (error) {
      if (signal.aborted || !until.aborted) throw error;
      return done(message.id);
    } finally {
      for (const each of ends) each.removeEventListener("abort", end);
    }
  }

  /** What is asked of DTMA itself. */
  async function serveOwn(
    { serverId, instance, message, signal }: Call,
  ): Promise<JsonRpcResponse> {
    const { id, method, params } = message;
    if (method === LOG_METHOD) return logResponse(id, await logOf(serverId));
    if (method === BOM_METHOD) return await bomResponse(id, bomOf?.(serverId));
    if (method === END_METHOD) {
      if (instance !== null) end(serverId, instance);
      return done(id);
    }
    // One that is not up holds no call.
    const soon = AbortSignal.any([abortSignalOf(signal), AbortSignal.timeout(STARTING_MS)]);
    const route = await reach(serverId, instance, soon, false);
    if ("session" in route) route.session.cancelHeld(params?.requestState);
    return done(id);
  }

  /** @param isAgain it was made in a session that was lost, and did not run */
  function serveOn(
    route: Route,
    call: Call,
    isAgain = false,
  ): JsonRpcResponse | Promise<JsonRpcResponse> {
    const { message, signal, onNotification } = call;
    const { id, method, params } = message;
    const isHeld = isHeldState(params?.requestState);
    signal.throwIfAborted();
    if ("unavailable" in route) {
      // Its first part may have run.
      if (isHeld) return lostCall(id);
      const reason = `The server is not available: ${route.unavailable}`;
      return errorResponse(id, ErrorCode.serverUnavailable, reason);
    }
    // A call that waits for answers was made as it was approved, and goes on.
    const what = isHeld ? undefined : PINNED[method];
    if (what) {
      if (route.relisted?.[what]) return onceListed(route, what, call, isAgain);
      const { toolHashes, promptHashes = new Map() } = route;
      const mismatch = checkPin(message, what, what === "tool" ? toolHashes : promptHashes);
      if (mismatch) return mismatch;
    }
    const answer = route.session.call(message, {
      signal,
      timeoutMs: callTimeoutMs,
      onNotification: onNotification &&
        ((notification) => onNotification(notificationText(notification))),
    });
    if (!what || !route.relisted) return answer;
    return answer.then((response) => {
      if (response.error?.code !== UNLISTED_CODE) return response;
      if (!isAgain) return onceListed(route, what, call, true);
      const reason = "The server ended the session twice in a row; the call was not made";
      return errorResponse(id, ErrorCode.serverUnavailable, reason);
    });
  }

  /** Makes a call when it is known what the session of now lists, or the server is up again. */
  async function onceListed(
    { session, relisted }: Exclude<Route, { unavailable: string }>,
    what: "tool" | "prompt",
    call: Call,
    isAgain: boolean,
  ): Promise<JsonRpcResponse> {
    const { serverId, instance, signal } = call;
    await Promise.race([relisted?.[what], session.closed, aborted(signal)]);
    signal.throwIfAborted();
    return await serveOn(await reach(serverId, instance, signal, true), call, isAgain);
  }
}

function done(id: JsonRpcId): JsonRpcResponse {
  return { jsonrpc: "2.0", id, result: { resultType: "complete" } };
}

function listensToResources({ params }: JsonRpcRequest): boolean {
  const wanted = params?.notifications;
  return isObject(wanted) && Array.isArray(wanted.resourceSubscriptions) &&
    wanted.resourceSubscriptions.length > 0;
}

/** Whether notifications may come before the answer. */
function isStreamed(message: JsonRpcRequest): boolean {
  const { progressToken, [LOG_LEVEL_META]: logLevel, [POLLS_META]: polls } = metaOf(message);
  return progressToken !== undefined || logLevel !== undefined || polls === true ||
    message.method === LISTEN || isHeldState(message.params?.requestState);
}

/** A caller who asked for progress is told when its server has to start first. */
async function reached(
  route: Promise<Route>,
  message: JsonRpcRequest,
  onNotification: Call["onNotification"],
): Promise<Route> {
  const { progressToken } = metaOf(message);
  if (!onNotification || progressToken === undefined) return await route;
  const timer = setTimeout(() =>
    onNotification(notificationText({
      jsonrpc: "2.0",
      method: "notifications/progress",
      params: { progressToken, progress: 0, message: "The server slept, and is starting" },
    })), STARTING_MS);
  return await route.finally(() => clearTimeout(timer));
}

/** Serves the calls of a link: {@link LinkOptions}'s `serve`. */
export function linkServing(options: ServingOptions): (call: LinkCall) => Promise<LinkAnswer> {
  const serve = serving(options);
  return async function serveLinkCall(
    { serverId, instance, text, signal, takesResultBytes, notify },
  ) {
    try {
      const message = parseRequest(text);
      const onNotification = isStreamed(message) ? notify : undefined;
      const response = await serve({ serverId, instance, message, signal, onNotification });
      return takesResultBytes && response instanceof LargeResponse
        ? response.parts
        : responseText(response);
    } catch (error) {
      if (error instanceof Refusal) return refusalText(error);
      throw error;
    }
  };
}

/** A handler for `Deno.serve`. Who may not ask is told nothing but the status. */
export function dataPath(options: DataPathOptions): (request: Request) => Promise<Response> {
  const { appPublicKey, pingEveryMs = 15_000, onLink } = options;
  const serve = serving(options);
  const serveLinkCall = linkServing(options);
  const log = rateLimited(options.log);
  const firstUse = memoryNonces();
  let bodiesBytes = 0;

  async function authenticated(request: Request): Promise<Uint8Array<ArrayBuffer> | Response> {
    if (!request.headers.has("signature-input")) return new Response(null, { status: 401 });
    // What is not declared (a body sent as a stream) counts as it comes.
    let heldBytes = Number(request.headers.get("content-length") ?? 0);
    if (!(heldBytes <= FRAME_LIMIT_BYTES)) return new Response(null, { status: 413 });
    if (bodiesBytes + heldBytes > BODIES_LIMIT_BYTES) return new Response(null, { status: 503 });
    bodiesBytes += heldBytes;
    const body = await readBody(request, (length) => {
      bodiesBytes += Math.max(0, length - heldBytes);
      heldBytes = Math.max(heldBytes, length);
      return bodiesBytes <= BODIES_LIMIT_BYTES;
    }).finally(() => bodiesBytes -= heldBytes);
    if (!body) return new Response(null, { status: 413 });
    try {
      await verifyRequest(request, body, (id) => id === "app" ? appPublicKey() : null, firstUse);
      return body;
    } catch (error) {
      if (!(error instanceof SignatureError)) throw error;
      log(`Refused a request: ${error.message}`);
      return new Response(null, { status: 401 });
    }
  }

  return async function serveDataPath(request) {
    if (options.stopping?.aborted) return new Response(null, { status: 503 });
    const url = new URL(request.url);
    if (url.pathname === LINK_PATH && request.method === "GET") return await upgrade(request);
    const serverId = PATH.exec(url.pathname)?.[1];
    const instance = InstanceKey.nullable().safeParse(url.searchParams.get("instance"));
    if (!serverId || !instance.success || request.method !== "POST") {
      return new Response(null, { status: 404 });
    }
    const body = await authenticated(request);
    if (body instanceof Response) return body;
    try {
      const message = parseRequest(decoded(body));
      const call = { serverId, instance: instance.data, message, signal: request.signal };
      return isStreamed(message) ? stream(serve, call, pingEveryMs) : json(await serve(call));
    } catch (error) {
      if (error instanceof Refusal) return refused(error);
      // The client went away.
      if (request.signal.aborted) return new Response(null, { status: 499 });
      throw error;
    }
  };

  async function upgrade(request: Request): Promise<Response> {
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      return new Response(null, { status: 426, headers: { upgrade: "websocket" } });
    }
    const body = await authenticated(request);
    if (body instanceof Response) return body;
    // Its own ping ends a silent connection as well, but tells no round-trip time.
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    acceptedLink(linkSocket(socket), {
      version: PROTOCOL_VERSION,
      self: "the toolbox's DTMA",
      peer: "the app",
      serve: serveLinkCall,
    }).then(onLink, (error) => log(`A link was not made: ${error.message}`));
    return response;
  }
}

/** An event stream: notifications as they come, then the response, which ends it. */
function stream(
  serve: Serve,
  call: Call,
  pingEveryMs: number,
): Response {
  const gone = new AbortController();
  const signal = AbortSignal.any([abortSignalOf(call.signal), gone.signal]);
  let ping: ReturnType<typeof setInterval>;
  const events = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (text: string) => controller.enqueue(new TextEncoder().encode(text));
      const isRead = () => (controller.desiredSize ?? 0) > 0;
      ping = setInterval(() => isRead() && send(": ping\n\n"), pingEveryMs);
      const onNotification = (text: string) => {
        // Progress that is not read is out of date before it is.
        if (!signal.aborted && isRead()) send(`data: ${text}\n\n`);
      };
      Promise.try(serve, { ...call, signal, onNotification }).then(responseText, (error) => {
        if (error instanceof Refusal) return refusalText(error);
        throw error;
      }).then((text) => {
        send(`data: ${text}\n\n`);
        controller.close();
      }).catch((error) => {
        if (!gone.signal.aborted) controller.error(error);
      }).finally(() => clearInterval(ping));
    },
    cancel() {
      clearInterval(ping);
      gone.abort();
    },
  }, new ByteLengthQueuingStrategy({ highWaterMark: UNREAD_LIMIT_BYTES }));
  return new Response(events, {
    headers: {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  });
}

/** @throws {Refusal} */
function decoded(body: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    throw new Refusal(400, -32700, "The body is not JSON in UTF-8");
  }
}

/** Exactly one request of a method we serve. @throws {Refusal} */
function parseRequest(text: string): JsonRpcRequest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refusal(400, -32700, "The body is not JSON in UTF-8");
  }
  const members = outline(text);
  if (members.depth > DEPTH_LIMIT) {
    throw new Refusal(400, -32600, `The body nests deeper than ${DEPTH_LIMIT} levels`);
  }
  if (!isObject(value) || value.jsonrpc !== "2.0" || typeof value.method !== "string") {
    throw new Refusal(400, -32600, "The body is not one JSON-RPC 2.0 request");
  }
  const { id, method, params = {} } = value;
  if (typeof id !== "string" && !Number.isSafeInteger(id)) {
    throw new Refusal(400, -32600, "The request's id is neither a string nor an integer");
  }
  const requestId = id as JsonRpcId;
  if (!METHODS.includes(method)) {
    throw new Refusal(404, -32601, "Method not found", requestId);
  }
  if (!isObject(params)) throw new Refusal(400, -32602, "params is not an object", requestId);
  checkParams(params, requestId);
  const paramsText = members.textOf("params") ?? "{}";
  return { jsonrpc: "2.0", id: requestId, method, params, paramsText };
}

function checkParams(params: Record<string, unknown>, id: JsonRpcId): void {
  for (const key of Object.keys(params)) {
    if (PROTECTED_PARAMS.includes(key)) continue;
    const meant = TAKEN_FOR.get(folded(key));
    if (meant !== undefined) {
      throw new Refusal(400, -32602, `params has ${key}, which could be taken for ${meant}`, id);
    }
  }
  const { requestState, inputResponses = {} } = params;
  if (requestState !== undefined && typeof requestState !== "string") {
    throw new Refusal(400, -32602, "params.requestState is not a string", id);
  }
  if (!isObject(inputResponses) || !Object.values(inputResponses).every(isObject)) {
    throw new Refusal(400, -32602, "params.inputResponses has what is no object", id);
  }
  const meta = params._meta ?? {};
  if (!isObject(meta)) throw new Refusal(400, -32602, "params._meta is not an object", id);
  const { progressToken, [CALLER_META]: caller = "" } = meta;
  if (typeof caller !== "string") {
    throw new Refusal(400, -32602, `${CALLER_META} is not a string`, id);
  }
  if (
    progressToken !== undefined && typeof progressToken !== "string" &&
    !Number.isInteger(progressToken)
  ) {
    throw new Refusal(400, -32602, "progressToken is neither a string nor an integer", id);
  }
  const requested = meta[PROTOCOL_VERSION_META];
  if (requested !== WAIST_REVISION) {
    const data = { supported: [WAIST_REVISION], requested: requested ?? null };
    throw new Refusal(400, UNSUPPORTED_VERSION, "Unsupported protocol version", id, data);
  }
}

/** Upper case first: "ſ" is an "s" to who ignores case, and has no lower case. */
function folded(key: string): string {
  return key.toUpperCase().toLowerCase();
}

/** The newest part of a log, so much as an answer takes once its quotes are escaped. */
function logResponse(id: JsonRpcId, log: string | null): JsonRpcResponse {
  if (log === null) {
    const reason = "This toolbox does not run that server";
    return errorResponse(id, ErrorCode.serverUnavailable, reason);
  }
  let text = log;
  while (JSON.stringify(text).length > FRAME_LIMIT_BYTES / 3) {
    text = text.slice(text.indexOf("\n", text.length / 4) + 1 || text.length / 2);
  }
  return { jsonrpc: "2.0", id, result: { text } };
}

async function bomResponse(
  id: JsonRpcId,
  bom?: Promise<Record<string, unknown> | null>,
): Promise<JsonRpcResponse> {
  try {
    return { jsonrpc: "2.0", id, result: { bom: await bom ?? null } };
  } catch (error) {
    // The engine, which knows the image, is away.
    return errorResponse(id, ErrorCode.serverUnavailable, (error as Error).message);
  }
}

/** The call must be of the definition that was approved, as the server lists it now. */
function checkPin(
  message: JsonRpcRequest,
  what: "tool" | "prompt",
  hashes: Map<string, string>,
): JsonRpcResponse | null {
  const { name } = message.params!;
  const pin = metaOf(message)[PIN_META];
  if (typeof name !== "string" || typeof pin !== "string") {
    throw new Refusal(400, -32602, `A call needs a name, and ${PIN_META} in its _meta`, message.id);
  }
  const hash = hashes.get(name);
  if (hash === pin) return null;
  const shown = JSON.stringify(name.slice(0, 128));
  return errorResponse(
    message.id,
    ErrorCode.definitionChanged,
    hash === undefined
      ? `The server does not list the ${what} ${shown} any more, or lists it twice. The call was not made`
      : `The ${what} ${shown} is not as it was approved. The call was not made; look at the change ` +
        "and approve it",
  );
}

function metaOf({ params }: JsonRpcRequest): Record<string, unknown> {
  return isObject(params?._meta) ? params._meta : {};
}

/** The request's body; null when it is larger than a frame or `mayHold` allow, or not there in time. */
async function readBody(
  request: Request,
  mayHold: (bytes: number) => boolean,
): Promise<Uint8Array<ArrayBuffer> | null> {
  if (!request.body) return new Uint8Array(0);
  const reader = request.body.getReader();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0, late = false;
  const timer = setTimeout(() => {
    late = true;
    reader.cancel().catch(() => {});
  }, BODY_TIMEOUT_MS);
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      length += value.length;
      if (length > FRAME_LIMIT_BYTES || !mayHold(length)) return null;
      chunks.push(value);
    }
  } finally {
    clearTimeout(timer);
  }
  if (late) return null;
  return chunks.length === 1 ? chunks[0] : new Uint8Array(await new Blob(chunks).arrayBuffer());
}

function json(response: JsonRpcResponse): Response {
  return new Response(responseText(response), { headers: HEADERS });
}

function refused(refusal: Refusal): Response {
  return new Response(refusalText(refusal), { status: refusal.status, headers: HEADERS });
}

function refusalText({ id, code, message, data }: Refusal): string {
  // An error whose request could not be read has no id (2026-07-28, basic#error-responses).
  return JSON.stringify({
    jsonrpc: "2.0",
    ...(id === null ? {} : { id }),
    error: { code, message, data },
  });
}

const HEADERS = { "content-type": "application/json", "cache-control": "no-store" };
