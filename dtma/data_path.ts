/**
 * The data path: the app's calls to servers, as MCP 2026-07-28 over HTTP. Serves
 * `POST /mcp/{serverId}` signed by the app, and nothing else to anybody.
 */
import {
  errorResponse,
  isObject,
  type JsonRpcId,
  type JsonRpcNotification,
  type JsonRpcRequest,
  type JsonRpcResponse,
  notificationText,
  rateLimited,
  responseText,
} from "./connection.ts";
import { DEPTH_LIMIT, outline } from "./json_text.ts";
import { ErrorCode, FRAME_LIMIT_BYTES, InstanceKey, PIN_META, WAIST_REVISION } from "./protocol.ts";
import type { Session } from "./session.ts";
import { memoryNonces, SignatureError, verifyRequest } from "./signature.ts";

/** Where a call can go, or why it cannot. */
export type Route = { session: Session; toolHashes: Map<string, string> } | { unavailable: string };

export interface DataPathOptions {
  /** @param instance whose own instance is asked for, where the server has such */
  reach: (serverId: string, instance: string | null, signal: AbortSignal) => Promise<Route>;
  /** The app's Ed25519 key, base64url; its key id is `app`. */
  appPublicKey: () => string;
  /** Longest wait for a server's answer. */
  callTimeoutMs?: number;
  /** How often a silent event stream says that it lives. */
  pingEveryMs?: number;
  log: (line: string) => void;
}

const PATH = /^\/mcp\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;
const METHODS = ["tools/call", "tools/list", "server/discover"];

/** What a caller that does not read leaves unread of an event stream before progress is dropped. */
const UNREAD_LIMIT_BYTES = 1024 * 1024;

/** A body comes before its sender is known to be the app: so much of all bodies, for so long. */
const BODIES_LIMIT_BYTES = 64 * 1024 * 1024;
const BODY_TIMEOUT_MS = 30_000;

const PROTOCOL_VERSION_META = "io.modelcontextprotocol/protocolVersion";
const UNSUPPORTED_VERSION = -32022;

/** Params that a server which ignores the case of keys (Go's encoding/json) takes for these. */
const PROTECTED_PARAMS = ["name", "arguments", "_meta"];

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

/** A handler for `Deno.serve`. Who may not ask is told nothing but the status. */
export function dataPath(options: DataPathOptions): (request: Request) => Promise<Response> {
  const { reach, appPublicKey, callTimeoutMs = 300_000, pingEveryMs = 15_000 } = options;
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
    const { pathname, searchParams } = new URL(request.url);
    const serverId = PATH.exec(pathname)?.[1];
    const instance = InstanceKey.nullable().safeParse(searchParams.get("instance"));
    if (!serverId || !instance.success || request.method !== "POST") {
      return new Response(null, { status: 404 });
    }
    const body = await authenticated(request);
    if (body instanceof Response) return body;
    try {
      const message = parseRequest(body);
      const route = await reach(serverId, instance.data, request.signal);
      if ("unavailable" in route) {
        const reason = `The server is not available: ${route.unavailable}`;
        return json(errorResponse(message.id, ErrorCode.serverUnavailable, reason));
      }
      if (message.method === "tools/call") {
        const mismatch = checkPin(message, route.toolHashes);
        if (mismatch) return json(mismatch);
      }
      const call = { session: route.session, message, timeoutMs: callTimeoutMs };
      return metaOf(message).progressToken === undefined
        ? await answer(request, call)
        : stream(request, call, pingEveryMs);
    } catch (error) {
      if (error instanceof Refusal) return refused(error);
      throw error;
    }
  };
}

interface Call {
  session: Session;
  message: JsonRpcRequest;
  timeoutMs: number;
}

/** One response as JSON. A client that goes away cancels the call. */
async function answer(request: Request, { session, message, timeoutMs }: Call): Promise<Response> {
  try {
    return json(await session.call(message, { signal: request.signal, timeoutMs }));
  } catch (error) {
    if (!request.signal.aborted) throw error;
    return new Response(null, { status: 499 });
  }
}

/** An event stream: notifications as they come, then the response, which ends it. */
function stream(request: Request, { session, message, timeoutMs }: Call, pingEveryMs: number) {
  const gone = new AbortController();
  const signal = AbortSignal.any([request.signal, gone.signal]);
  let ping: ReturnType<typeof setInterval>;
  const events = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (text: string) => controller.enqueue(new TextEncoder().encode(text));
      const isRead = () => (controller.desiredSize ?? 0) > 0;
      ping = setInterval(() => isRead() && send(": ping\n\n"), pingEveryMs);
      const onNotification = (notification: JsonRpcNotification) => {
        // Progress that is not read is out of date before it is.
        if (!signal.aborted && isRead()) send(`data: ${notificationText(notification)}\n\n`);
      };
      session.call(message, { signal, timeoutMs, onNotification }).then((response) => {
        send(`data: ${responseText(response)}\n\n`);
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

/** Exactly one request of a method we serve. @throws {Refusal} */
function parseRequest(body: Uint8Array): JsonRpcRequest {
  let text: string, value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(body);
    value = JSON.parse(text);
  } catch {
    throw new Refusal(400, -32700, "The body is not JSON in UTF-8");
  }
  const { members, depth } = outline(text);
  if (depth > DEPTH_LIMIT) {
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
  const place = members.get("params");
  const paramsText = place ? text.slice(place.start, place.end) : "{}";
  return { jsonrpc: "2.0", id: requestId, method, params, paramsText };
}

function checkParams(params: Record<string, unknown>, id: JsonRpcId): void {
  for (const key of Object.keys(params)) {
    // Upper case first: "ſ" is an "s" to who ignores case, and has no lower case.
    const folded = key.toUpperCase().toLowerCase();
    if (key !== folded && PROTECTED_PARAMS.includes(folded)) {
      throw new Refusal(400, -32602, `params has ${key}, which could be taken for ${folded}`, id);
    }
  }
  const meta = params._meta ?? {};
  if (!isObject(meta)) throw new Refusal(400, -32602, "params._meta is not an object", id);
  const { progressToken } = meta;
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

/** The call must be of the definition that was approved, as the server lists it now. */
function checkPin(message: JsonRpcRequest, hashes: Map<string, string>): JsonRpcResponse | null {
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
      ? `The server does not list the tool ${shown} any more, or lists it twice. The call was not made`
      : `The tool ${shown} is not as it was approved. The call was not made; look at the change ` +
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

function refused({ status, id, code, message, data }: Refusal): Response {
  // An error whose request could not be read has no id (2026-07-28, basic#error-responses).
  const body = { jsonrpc: "2.0", ...(id === null ? {} : { id }), error: { code, message, data } };
  return new Response(JSON.stringify(body), { status, headers: HEADERS });
}

const HEADERS = { "content-type": "application/json", "cache-control": "no-store" };
