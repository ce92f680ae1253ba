/**
 * The bridge: the MCP endpoint that serves an agent's toolbelt to clients of any revision. Here are
 * tools over Streamable HTTP; HTTP+SSE and the rest of the protocol will stand beside this file, on
 * the same `serve`.
 */
import {
  boundedBody,
  DEPTH_LIMIT,
  FRAME_LIMIT_BYTES,
  objectMembers,
  objectText,
  outline,
  WAIST_REVISION,
} from "../dtma/protocol.ts";
import type { Changes } from "../models/changes.ts";
import type { Database } from "../models/db.ts";
import { errorFields, type Log } from "../models/log.ts";
import { type Toolbelt, toolbeltOf, type ToolbeltTool } from "../models/toolbelts.ts";
import { publicNames } from "./names.ts";
import {
  checkParamHeaders,
  isObject,
  META,
  negotiated,
  revisionOf,
  RpcCode,
  RpcError,
  type RpcRequest,
  shown,
  SUPPORTED_REVISIONS,
} from "./revisions.ts";
import type { Answer } from "./router.ts";
import { callTool, type ToolCallDeps } from "./tool_call.ts";

export interface BridgeDeps extends ToolCallDeps {
  db: Database;
  changes: Changes;
  log: Log;
}

/** Who calls, as the bearer token says. */
export interface Caller {
  agentId: string;
  workspaceId: string;
}

/** Tools on one page of tools/list. */
const PAGE = 200;
/** How long a read toolbelt serves; changes drop it earlier where the database can tell of them. */
const TOOLBELT_MS = 2000;

/** A request as it came: parsed for reading, with the text of `id` and `params` for passing on. */
interface Incoming extends RpcRequest {
  idText: string;
  paramsText: string;
}

/** An agent's tools by public name, ready to be listed and called. */
interface Named extends Toolbelt {
  byName: Map<string, ToolbeltTool>;
}

/** Makes the handler of `POST /mcp`. The caller was authenticated before. */
export function bridge(deps: BridgeDeps): (request: Request, caller: Caller) => Promise<Response> {
  const toolbelts = toolbeltCache(deps);

  return async function serve(request, caller) {
    try {
      const { text, parsed } = await parseBody(request);
      if (Array.isArray(parsed)) return await serveBatch(request, caller, parsed);
      const message = asMessage(parsed, text);
      // A notification, or a response to a request that we never send: taken, with nothing to say.
      if (!message) return new Response(null, { status: 202 });
      return await serveOne(request, caller, message);
    } catch (error) {
      return errorResponse(null, error, deps.log);
    }
  };

  async function serveOne(request: Request, caller: Caller, message: Incoming): Promise<Response> {
    try {
      const revision = revisionOf(message, request.headers);
      const isStreamed = message.method === "tools/call" && wantsProgress(message, request);
      if (!isStreamed) {
        const answer = await answerTo(request, caller, message, revision);
        return jsonResponse(envelope(message.idText, forRevision(answer, revision)));
      }
      return streamResponse(request.signal, async (send, signal) => {
        const notify = (text: string) => send(text, true);
        const answer = await answerTo(request, caller, message, revision, notify, signal)
          .catch((error) => signal.aborted ? null : errorAnswer(error, deps.log).answer);
        if (answer) send(envelope(message.idText, forRevision(answer, revision)));
      });
    } catch (error) {
      // Nobody is there to be told, and nothing is wrong here.
      if (request.signal.aborted) return new Response(null, { status: 499 });
      return errorResponse(message.idText, error, deps.log);
    }
  }

  /** Several messages at once, which 2025-03-26 alone has. Its requests are answered together. */
  async function serveBatch(request: Request, caller: Caller, messages: unknown[]) {
    const header = request.headers.get("mcp-protocol-version");
    if (header !== null && header !== "2025-03-26") {
      throw new RpcError(RpcCode.invalidRequest, "Batches exist in revision 2025-03-26 alone");
    }
    if (messages.length === 0 || messages.length > 50) {
      throw new RpcError(RpcCode.invalidRequest, "A batch holds 1 to 50 messages");
    }
    const answers = await Promise.all(messages.map(async (item) => {
      let id: string | null = null;
      try {
        const message = asMessage(item, JSON.stringify(item));
        if (!message) return null;
        id = message.idText;
        if (message.method === "initialize") {
          throw new RpcError(RpcCode.invalidRequest, "initialize must not be part of a batch");
        }
        const revision = revisionOf(message, request.headers);
        const answer = await answerTo(request, caller, message, revision);
        return envelope(id, forRevision(answer, revision));
      } catch (error) {
        return envelope(id, errorAnswer(error, deps.log).answer);
      }
    }));
    const requests = answers.filter((answer) => answer !== null);
    return requests.length
      ? jsonResponse(`[${requests.join(",")}]`)
      : new Response(null, { status: 202 });
  }

  async function answerTo(
    request: Request,
    caller: Caller,
    message: Incoming,
    revision: string,
    onNotification?: (text: string) => void,
    signal: AbortSignal = request.signal,
  ): Promise<Answer> {
    const isModern = revision === WAIST_REVISION;
    switch (message.method) {
      case "initialize":
        if (isModern) break;
        return result({
          protocolVersion: negotiated(message.params.protocolVersion),
          capabilities: CAPABILITIES,
          serverInfo: serverInfo(deps),
          instructions: INSTRUCTIONS,
        });
      case "ping":
        if (isModern) break;
        return result({});
      case "server/discover":
        if (!isModern) break;
        return result({
          resultType: "complete",
          supportedVersions: SUPPORTED_REVISIONS,
          capabilities: CAPABILITIES,
          instructions: INSTRUCTIONS,
          ttlMs: 60_000,
          cacheScope: "public",
          _meta: { [META.serverInfo]: serverInfo(deps) },
        });
      case "tools/list":
        return result(listTools(await toolbelts.of(caller.agentId), message.params.cursor, deps));
      case "tools/call": {
        const toolbelt = await toolbelts.of(caller.agentId);
        const tool = findTool(toolbelt, message);
        if (isModern) {
          checkParamHeaders(tool.definition.inputSchema, message.params.arguments, request.headers);
        }
        const server = toolbelt.servers.find(({ serverId }) => serverId === tool.serverId)!;
        const { paramsText } = message;
        return await callTool(deps, {
          workspaceId: caller.workspaceId,
          agentId: caller.agentId,
          via: "bridge",
          server,
          tool,
          paramsText,
        }, { signal, onNotification });
      }
    }
    throw new RpcError(
      RpcCode.methodNotFound,
      `Mooring does not serve the method "${message.method.slice(0, 100)}"`,
      isModern ? 404 : 200,
    );
  }
}

const CAPABILITIES = { tools: {} };
const INSTRUCTIONS =
  "Tools of several MCP servers, named server__tool. Those listed were approved by a person.";

function serverInfo({ version }: BridgeDeps) {
  return { name: "mooring", title: "Mooring", version };
}

/** One page of an agent's tools, in a stable order by name. */
function listTools(toolbelt: Named, cursor: unknown, deps: BridgeDeps) {
  const names = [...toolbelt.byName.keys()].sort();
  const after = cursor === undefined ? "" : nameInCursor(cursor);
  const rest = names.filter((name) => name > after);
  const page = rest.slice(0, PAGE);
  return {
    resultType: "complete",
    tools: page.map((name) => ({ ...toolbelt.byName.get(name)!.definition, name })),
    ...(rest.length > PAGE ? { nextCursor: btoa(JSON.stringify({ after: page.at(-1) })) } : {}),
    ttlMs: 5000,
    cacheScope: "private",
    _meta: { [META.serverInfo]: serverInfo(deps) },
  };
}

/** The cursor holds the last name given, so tools that come or go meanwhile shift nothing. */
function nameInCursor(cursor: unknown): string {
  try {
    const { after } = JSON.parse(atob(cursor as string));
    if (typeof after === "string") return after;
  } catch {
    // Not one of ours: below.
  }
  throw new RpcError(RpcCode.invalidParams, "The cursor is not one that tools/list gave", 200);
}

function findTool(toolbelt: Named, { params }: RpcRequest): ToolbeltTool {
  const tool = typeof params.name === "string" ? toolbelt.byName.get(params.name) : undefined;
  if (!tool) {
    throw new RpcError(
      RpcCode.invalidParams,
      `Unknown tool: ${shown(params.name)}. List the tools again: it may have been renamed or ` +
        "removed, or a change of its definition waits for approval",
      200,
    );
  }
  if (params.arguments !== undefined && !isObject(params.arguments)) {
    throw new RpcError(RpcCode.invalidParams, "params.arguments must be an object", 200);
  }
  return tool;
}

/** Toolbelts by agent: a cache with an expiry, dropped at once when the database tells of a change. */
function toolbeltCache({ db, changes }: BridgeDeps) {
  const cached = new Map<string, { at: number; toolbelt: Promise<Named> }>();
  const tables = new Set([
    "tools",
    "servers",
    "observations",
    "connections",
    "toolboxes",
    "agents",
  ]);
  changes.watch(({ table }) => tables.has(table), () => cached.clear());
  return {
    of(agentId: string): Promise<Named> {
      const known = cached.get(agentId);
      if (known && Date.now() - known.at < TOOLBELT_MS) return known.toolbelt;
      const toolbelt = toolbeltOf(db, agentId)
        .then((read) => ({ ...read, byName: publicNames(read.tools) }));
      toolbelt.catch(() => cached.delete(agentId));
      if (cached.size > 1000) cached.clear();
      cached.set(agentId, { at: Date.now(), toolbelt });
      return toolbelt;
    },
  };
}

/** Reads a body of at most 4 MiB of JSON, nested at most 64 deep. */
async function parseBody(request: Request): Promise<{ text: string; parsed: unknown }> {
  const bytes = await boundedBody(request, FRAME_LIMIT_BYTES).catch((error) => {
    if (!(error instanceof RangeError)) throw error;
    throw new RpcError(RpcCode.invalidRequest, "The message is over 4 MiB", 413);
  });
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    // Before anything recursive touches it.
    if (outline(text).depth > DEPTH_LIMIT) {
      throw new RpcError(RpcCode.invalidRequest, `The message nests deeper than ${DEPTH_LIMIT}`);
    }
    return { text, parsed: JSON.parse(text) };
  } catch (error) {
    if (error instanceof RpcError) throw error;
    throw new RpcError(RpcCode.parseError, "The body is not JSON in UTF-8");
  }
}

/** A request, or null for a notification or a response. @throws {RpcError} for anything else */
function asMessage(value: unknown, text: string): Incoming | null {
  if (!isObject(value) || value.jsonrpc !== "2.0") {
    throw new RpcError(RpcCode.invalidRequest, "The body is not a JSON-RPC 2.0 message");
  }
  if (value.method === undefined && (value.result !== undefined || value.error !== undefined)) {
    return null;
  }
  if (typeof value.method !== "string") {
    throw new RpcError(RpcCode.invalidRequest, "The message has no method");
  }
  if (value.id === undefined) return null;
  if (typeof value.id !== "string" && !Number.isInteger(value.id)) {
    throw new RpcError(RpcCode.invalidRequest, "A request's id must be a string or an integer");
  }
  if (value.params !== undefined && !isObject(value.params)) {
    throw new RpcError(RpcCode.invalidRequest, "params must be an object");
  }
  const params = (value.params ?? {}) as Record<string, unknown>;
  if (params._meta !== undefined && !isObject(params._meta)) {
    throw new RpcError(RpcCode.invalidParams, "params._meta must be an object");
  }
  const members = objectMembers(text);
  return {
    id: value.id as string | number,
    // As it is written: an integer may be larger than JavaScript holds.
    idText: members.get("id")!,
    method: value.method,
    params,
    paramsText: members.get("params") ?? "{}",
  };
}

function wantsProgress({ params }: RpcRequest, request: Request): boolean {
  const token = (params._meta as Record<string, unknown> | undefined)?.progressToken;
  return (typeof token === "string" || typeof token === "number") &&
    (request.headers.get("accept") ?? "").includes("text/event-stream");
}

/** Leaves out what the waist adds and an older revision does not know. */
function forRevision(answer: Answer, revision: string): Answer {
  if (revision === WAIST_REVISION || answer.kind === "error") return answer;
  const members = objectMembers(answer.text);
  for (const name of ["resultType", "ttlMs", "cacheScope"]) members.delete(name);
  return { kind: "result", text: objectText(members) };
}

function result(value: Record<string, unknown>): Answer {
  return { kind: "result", text: JSON.stringify(value) };
}

/** @param id its text */
function envelope(id: string | null, { kind, text }: Answer): string {
  // An error without a readable id has none (2026-07-28) and null in JSON-RPC; both read null.
  return `{"jsonrpc":"2.0","id":${id},"${kind}":${text}}`;
}

function errorAnswer(error: unknown, log: Log): { answer: Answer; status: number } {
  const known = error instanceof RpcError ? error : null;
  if (!known) log.error("A request to the bridge failed", errorFields(error));
  const { code, message, data } = known ??
    new RpcError(RpcCode.internalError, "Mooring failed to serve this; its log says why");
  const body = { code, message, ...(data === undefined ? {} : { data }) };
  return {
    answer: { kind: "error", text: JSON.stringify(body) },
    status: known?.status ?? 500,
  };
}

function errorResponse(id: string | null, error: unknown, log: Log): Response {
  const { answer, status } = errorAnswer(error, log);
  return jsonResponse(envelope(id, answer), status);
}

function jsonResponse(text: string, status = 200): Response {
  return new Response(text, {
    status,
    headers: { "content-type": "application/json", "cache-control": "no-store" },
  });
}

/** How often a quiet stream says that it lives, in milliseconds. */
const PING_MS = 15_000;
/** What a client that does not read leaves unread before its progress is dropped. */
const UNREAD_LIMIT_BYTES = 1024 * 1024;

/** A stream of messages that ends when `work` does; the client's leaving aborts the work. */
export function streamResponse(
  gone: AbortSignal,
  work: (
    send: (text: string, mayBeDropped?: boolean) => void,
    signal: AbortSignal,
  ) => Promise<void>,
): Response {
  const left = new AbortController();
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      const write = (text: string, mayBeDropped: boolean) => {
        if (left.signal.aborted || mayBeDropped && controller.desiredSize! <= 0) return;
        controller.enqueue(encoder.encode(text));
      };
      const ping = setInterval(() => write(": ping\n\n", true), PING_MS);
      try {
        await work(
          (text, mayBeDropped = false) =>
            // A line break, which in JSON stands between tokens alone, would end the event's data.
            write(`event: message\ndata: ${text.replace(/[\r\n]/g, " ")}\n\n`, mayBeDropped),
          AbortSignal.any([gone, left.signal]),
        );
      } finally {
        clearInterval(ping);
        if (!left.signal.aborted) controller.close();
      }
    },
    cancel: () => left.abort(),
  }, new ByteLengthQueuingStrategy({ highWaterMark: UNREAD_LIMIT_BYTES }));
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  });
}
