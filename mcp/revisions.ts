/**
 * The client's MCP revision: which one a request speaks, and what it must carry to be served.
 *
 * Legacy revisions open with `initialize`, which makes a session; a client that does not bring its id is
 * served without one. 2026-07-28 is stateless by itself and is the waist.
 *
 * What a revision cannot carry (older_revisions.ts does it; nothing is dropped in silence):
 *
 * | what | to whom | becomes |
 * | --- | --- | --- |
 * | unknown fields of results and definitions: icons, titles, annotations, `_meta` | all before | passes: their results are open, and readers ignore what they do not know |
 * | content of a type that the revision lacks: `resource_link` before 2025-06-18, others anywhere | all before | a text block with the block as JSON and a note, since clients throw on types they do not know |
 * | `audio` | 2024-11-05 | an embedded resource with its type and data, after a note |
 * | `structuredContent` | before 2025-06-18 | passes, and as text too where there is no other content |
 * | `structuredContent` and `outputSchema` that are no object's | 2025-06-18, 2025-11-25 | in `_meta` as `dev.mooring/…`, and the content as text where there is no other: their clients throw on the whole answer |
 * | `resultType`, `ttlMs`, `cacheScope` | all before | left out: the waist's own, and said in other ways |
 * | `input_required` | all before | requests to the client, on the stream of its own request |
 * | a `resultType` of an extension's, or one that nobody knows | all before | error -31002, with the result in its data as `dev.mooring/result`: to whoever does not know the type it is invalid |
 * | `subscriptions/listen` | all before | `resources/subscribe` and the session's stream |
 * | a task (2026-07-28's, an extension) | 2026-07-28 without the extension | waited for; but a tool that its server runs as a task alone (`taskSupport: "required"` of 2025-11-25) is refused with -32021, which names what to declare, to a call that asks for no progress: it would wait in silence |
 * | a task of either generation | before 2025-11-25, and calls without `task` | waited for, with progress; cancelling the call cancels the task |
 * | a task of either generation | 2025-11-25, calls with `task` | a task of 2025-11-25. What a server of 2026-07-28 answers at once is a task that has ended, kept for 15 minutes |
 * | a task of 2025-11-25 (`execution.taskSupport`) | 2026-07-28 with the extension | a task of the extension, for each tool that may be one; `tasks/result` in what `tasks/get` says |
 * | `tasks/list` | 2025-11-25 | not offered: a server does not keep apart which agent's a task is, and 2026-07-28 has no list |
 * | `notifications/tasks/status` | 2025-11-25 | not sent: nobody may rely on it there; `tasks/get` says the same |
 * | a server's letting go of its answer's stream (polling, 2025-11-25 over HTTP) | 2025-11-25, of who prefers streams | the same; for all others the bridge comes back by itself, and the answer takes as long |
 * | `notifications/tasks` | 2026-07-28 | on `subscriptions/listen`, from servers that tell nothing too: the bridge looks |
 * | the `ttl` that a call of 2025-11-25 wishes for its task | a server of 2026-07-28 | ignored by it: it says its own, which the task has |
 * | progress of a task | 2025-11-25, calls with `task` | with `tasks/result`, for a progress token of its own |
 * | progress of a task (2025-11-25) | 2026-07-28 with the extension | in `_meta` of `tasks/get` as `dev.mooring/progress`: the extension has none |
 * | tasks that a server makes of its questions (2025-11-25) | all | not offered: questions are asked as they are |
 * | extensions and experimental capabilities of a server, and what else it can that no revision knows | all | not advertised, and their methods are refused with -32601, their notifications dropped: each method of a server's own would be a way past the approvals, limits and records of tools. `_meta` of `initialize` and `server/discover` has their names as `dev.mooring/notPassedOn`, by server |
 * | the extension `io.modelcontextprotocol/ui` of a server, which has no methods (its pages are resources, named by tools' `_meta`) | all | with its settings on `/mcp/{server}`; on `/mcp` as those above, since settings of several servers are not one's. What it does passes on both |
 * | the extension `io.modelcontextprotocol/tasks` | all | the bridge's own, as said above |
 * | extensions and experimental capabilities of a client | all | reach a server of 2026-07-28 with each request; one before that is told once for all what DTMA does for any caller: elicitation, sampling, roots |
 * | error -32021 of what a server of an older revision asked and its client did not declare | all before | the server's own error |
 * | error -32042 (URL elicitation) of a client that declared it | 2025-11-25 | the same |
 * | error -32042 (URL elicitation) of a client that declared it | 2026-07-28 | `input_required`; the retry is the call made anew |
 * | `notifications/elicitation/complete` | 2025-11-25 | on the stream of the call that asked, while it lasts: after it the server does not say to whom |
 * | `notifications/elicitation/complete` | 2026-07-28 | not sent: that revision took it away |
 * | error -32002 (no such resource) | 2026-07-28 | -32602 with the same data: that revision forbids the old code |
 * | errors -32020 to -32099 of servers, -32042 (URL elicitation) among them, but for -32021 that names a capability | 2026-07-28 | -32603 with the same message and data: that revision keeps these codes to itself, and a client takes those of the headers and of the revision for its own |
 */
import { WAIST_REVISION } from "../dtma/protocol.ts";
import { errorFields, type Log } from "../models/log.ts";
import type { Answer } from "./router.ts";

/** Revisions with a handshake, newest first. */
export const LEGACY_REVISIONS = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/** All that `/mcp` speaks, newest first. */
export const SUPPORTED_REVISIONS = [WAIST_REVISION, ...LEGACY_REVISIONS];

/** Keys of `params._meta` that 2026-07-28 reserves (basic#general-fields). */
export const META = {
  protocolVersion: "io.modelcontextprotocol/protocolVersion",
  clientInfo: "io.modelcontextprotocol/clientInfo",
  clientCapabilities: "io.modelcontextprotocol/clientCapabilities",
  serverInfo: "io.modelcontextprotocol/serverInfo",
  logLevel: "io.modelcontextprotocol/logLevel",
  subscriptionId: "io.modelcontextprotocol/subscriptionId",
} as const;

/** RFC 5424's, as all revisions name them; the least severe first. */
export const LOG_LEVELS = [
  "debug",
  "info",
  "notice",
  "warning",
  "error",
  "critical",
  "alert",
  "emergency",
];

/** JSON-RPC and MCP error codes used here (2026-07-28, basic#error-codes). */
export const RpcCode = {
  parseError: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  internalError: -32603,
  /** Of ours, outside what JSON-RPC and MCP keep; -32001 is a timeout to SDK 1.x. Clients show the message. */
  refused: -31030,
  /** No such resource, before 2026-07-28. */
  resourceNotFound: -32002,
  headerMismatch: -32020,
  missingClientCapability: -32021,
  unsupportedProtocolVersion: -32022,
} as const;

/** What is wrong with a request, as the JSON-RPC error and HTTP status it is answered with. */
export class RpcError extends Error {
  override name = "RpcError";
  constructor(
    readonly code: number,
    message: string,
    readonly status = 400,
    readonly data?: unknown,
  ) {
    super(message);
  }
}

/** More than a limit lets through. Where no header can say when to come again, the error's data does. */
export class TooMany extends RpcError {
  override name = "TooMany";
  /** @param retryAfterS whole seconds */
  constructor(message: string, readonly retryAfterS: number) {
    super(RpcCode.invalidRequest, message, 429, { retryAfterS });
  }
}

/** The JSON-RPC error and HTTP status for what was thrown; what is no {@link RpcError} goes to the log. */
export function errorAnswer(
  error: unknown,
  log: Log,
): { answer: Answer; status: number; headers?: Record<string, string> } {
  const known = error instanceof RpcError ? error : null;
  if (!known) log.error("A request to the bridge failed", errorFields(error));
  const { code, message, data } = known ??
    new RpcError(RpcCode.internalError, "Mooring failed to serve this; its log says why");
  const body = { code, message, ...(data === undefined ? {} : { data }) };
  return {
    answer: { kind: "error", text: JSON.stringify(body) },
    status: known?.status ?? 500,
    headers: error instanceof TooMany ? { "retry-after": String(error.retryAfterS) } : undefined,
  };
}

/** What a revision is told of a request: its method and parameters. */
export interface RpcRequest {
  method: string;
  params: Record<string, unknown>;
}

/** The revision that `initialize` settles on: the asked one if it is spoken, else the newest legacy one. */
export function negotiated(asked: unknown): string {
  return LEGACY_REVISIONS.includes(asked as string) ? asked as string : LEGACY_REVISIONS[0];
}

/**
 * The revision a request is served by. A request with per-request metadata is modern; else the
 * header says it, and without one it is 2025-03-26, which had none.
 *
 * @throws {RpcError} for a revision not spoken here, or a modern request whose metadata does not hold
 */
export function revisionOf(request: RpcRequest, headers: Headers): string {
  const header = headers.get("mcp-protocol-version");
  const meta = request.params._meta as Record<string, unknown> | undefined;
  const inBody = meta?.[META.protocolVersion];
  if (request.method === "initialize" && inBody === undefined) {
    return negotiated(request.params.protocolVersion);
  }
  if (inBody === undefined) {
    if (header === null) return "2025-03-26";
    if (LEGACY_REVISIONS.includes(header)) return header;
    if (header !== WAIST_REVISION) throw unsupported(header);
    throw new RpcError(
      RpcCode.invalidParams,
      `params._meta must carry "${META.protocolVersion}" and "${META.clientCapabilities}"`,
    );
  }
  if (header !== inBody) throw mismatch("MCP-Protocol-Version", header, inBody);
  if (inBody !== WAIST_REVISION) throw unsupported(inBody);
  if (!isObject(meta?.[META.clientCapabilities])) {
    throw new RpcError(
      RpcCode.invalidParams,
      `params._meta must carry "${META.clientCapabilities}"`,
    );
  }
  const logLevel = meta?.[META.logLevel];
  if (logLevel !== undefined && !LOG_LEVELS.includes(logLevel as string)) {
    throw new RpcError(RpcCode.invalidParams, `There is no log level ${shown(logLevel)}`);
  }
  checkStandardHeaders(request, headers);
  return WAIST_REVISION;
}

/**
 * Holds what is no request to the same (2025-11-25, transports#protocol-version-header).
 * @throws {RpcError} for a revision not spoken here
 */
export function checkRevisionHeader(headers: Headers) {
  const header = headers.get("mcp-protocol-version");
  if (header !== null && !SUPPORTED_REVISIONS.includes(header)) throw unsupported(header);
}

/** `Mcp-Method` and `Mcp-Name` must say what the body says (2026-07-28, streamable-http#server-validation). */
function checkStandardHeaders(request: RpcRequest, headers: Headers) {
  // Never encoded, and so not decoded by whoever routes by it.
  const method = headers.get("Mcp-Method");
  if (method !== request.method) throw mismatch("Mcp-Method", method, request.method);
  if (request.method === "tools/call" || request.method === "prompts/get") {
    expectHeader(headers, "Mcp-Name", request.params.name);
  }
  if (request.method === "resources/read") expectHeader(headers, "Mcp-Name", request.params.uri);
  // SEP-2663, "Streamable HTTP: Routing Headers"
  if (["tasks/get", "tasks/update", "tasks/cancel"].includes(request.method)) {
    expectHeader(headers, "Mcp-Name", request.params.taskId);
  }
}

/**
 * Checks the `Mcp-Param-*` headers that a tool's input schema asks for with `x-mcp-header`.
 *
 * @throws {RpcError} when one is missing, or does not say what the arguments say
 */
export function checkParamHeaders(inputSchema: unknown, args: unknown, headers: Headers) {
  const properties = isObject(inputSchema) ? inputSchema.properties : null;
  if (!isObject(properties)) return;
  for (const [key, schema] of Object.entries(properties)) {
    if (!isObject(schema)) continue;
    const value = isObject(args) && Object.hasOwn(args, key) ? args[key] : undefined;
    const name = schema["x-mcp-header"];
    if (typeof name === "string" && /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) {
      if (value !== undefined && value !== null) expectHeader(headers, `Mcp-Param-${name}`, value);
      else expectNoHeader(headers, `Mcp-Param-${name}`);
    } else {
      checkParamHeaders(schema, value, headers);
    }
  }
}

function expectHeader(headers: Headers, name: string, value: unknown) {
  const header = headers.get(name);
  const decoded = header === null ? null : decodeHeader(header);
  const agrees = decoded !== null &&
    (typeof value === "number"
      ? /^-?\d+(\.\d+)?$/.test(decoded) && Number(decoded) === value
      : !isObjectOrArray(value) && decoded === String(value));
  if (!agrees) throw mismatch(name, header, value);
}

/** Whoever routes by it would take for an argument what the server never sees. */
function expectNoHeader(headers: Headers, name: string) {
  const header = headers.get(name);
  if (header !== null) throw mismatch(name, header, undefined);
}

function mismatch(name: string, header: unknown, value: unknown): RpcError {
  return new RpcError(
    RpcCode.headerMismatch,
    `Header mismatch: ${name} is ${shown(header)}, the body says ${shown(value)}`,
  );
}

/**
 * A header's value, out of the `=?base64?…?=` form where it has it. Null when that is malformed, or has
 * characters that stand in no header without it (2026-07-28, streamable-http#value-encoding).
 */
function decodeHeader(value: string): string | null {
  const encoded = /^=\?base64\?(.*)\?=$/.exec(value)?.[1];
  if (encoded === undefined) return /^[\t\x20-\x7e]*$/.test(value) ? value : null;
  // `atob` takes what has no padding, or spaces, which another reader would not.
  if (!/^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(encoded)) return null;
  try {
    const bytes = Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

function unsupported(requested: unknown): RpcError {
  return new RpcError(
    RpcCode.unsupportedProtocolVersion,
    "Unsupported protocol version",
    400,
    { supported: SUPPORTED_REVISIONS, requested },
  );
}

/** For a message. Never by `String`, which a JSON object's own `toString` makes throw. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return "missing";
  return `"${(isObjectOrArray(value) ? JSON.stringify(value) : String(value)).slice(0, 100)}"`;
}

function isObjectOrArray(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

/** True for what JSON calls an object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
