/**
 * The MCP session with one server over stdio. Above it is the waist, MCP 2026-07-28, in which every
 * request stands alone; below it the server's own revision, found by a probe (2026-07-28,
 * transports/stdio#backward-compatibility), with the handshake that older revisions need.
 *
 * Not here yet: elicitation, sampling and roots. DTMA declares none of them to servers of older
 * revisions ({@link CLIENT_CAPABILITIES}) and refuses their requests in `Session#serverRequest`. With
 * servers of 2026-07-28 they need nothing from DTMA: capabilities and `input_required` pass through.
 */
import { Connection, isObject } from "./connection.ts";
import type {
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
  RequestOptions,
} from "./connection.ts";
import { objectMembers, objectText } from "./json_text.ts";
import { ErrorCode, PIN_META, type ToolDefinition, WAIST_REVISION } from "./protocol.ts";
import { DTMA_VERSION } from "./version.ts";

export type {
  JsonRpcId,
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
} from "./connection.ts";

export interface Session {
  /** From the handshake: `revision`, and name, version, capabilities, instructions as sent. */
  readonly serverInfo: Record<string, unknown>;
  /**
   * All pages of the server's tools, verbatim but that numbers are JavaScript's.
   * @throws Error with a message for a person when the server fails to list them
   */
  listTools(signal?: AbortSignal): Promise<ToolDefinition[]>;
  /**
   * Passes a request of the waist to the server. Whatever goes wrong is a response with an error;
   * rejects only when `signal` is aborted, with its reason, and the server is told to cancel.
   */
  call(
    request: JsonRpcRequest,
    options: {
      signal?: AbortSignal;
      timeoutMs?: number;
      onNotification?: (notification: JsonRpcNotification) => void;
    },
  ): Promise<JsonRpcResponse>;
  /** Calls that the server has not answered. */
  readonly inFlight: number;
  /** When a call was last made or answered, by the monotonic clock. */
  readonly lastUsedMs: number;
  /**
   * Asks the server for a sign of life: any answer is one.
   * @returns the milliseconds it took; null when none came in time
   */
  ping(timeoutMs: number): Promise<number | null>;
  /** Called when the server says that its tools changed, as often as it says so. */
  onToolsChanged: (() => void) | null;
  /** Resolves with the reason, for a person, when the session is over. */
  readonly closed: Promise<string>;
  /** Ends the session and leaves the server running; calls in flight are answered with the reason. */
  close(reason: string): void;
}

export interface SessionOptions {
  /** For the whole handshake, the probe included. */
  handshakeTimeoutMs: number;
  /** Begin with `initialize`: for a server that exits on an unknown first request. */
  skipProbe?: boolean;
  signal?: AbortSignal;
  /** What the server does against the protocol and what it logs; not yet fit to be shown. */
  log: (line: string) => void;
}

/** The server did not come to an understanding with us: why, and what a person can do. */
export class HandshakeError extends Error {
  override name = "HandshakeError";
  constructor(
    readonly reason: string,
    readonly nextStep: string,
    /** The server went away when it was probed; it may work with `skipProbe`. */
    readonly exitedOnProbe?: boolean,
  ) {
    super(reason);
  }
}

/** Newest first. Their `initialize`, `ping`, tools and progress are the same to us. */
const LEGACY_REVISIONS = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const CLIENT_INFO = { name: "mooring", title: "Mooring", version: DTMA_VERSION };
const CLIENT_CAPABILITIES = {};

const META_PREFIX = "io.modelcontextprotocol/";

/** The servers that answer a probe answer at once; those that do not must not cost the start more. */
const PROBE_TIMEOUT_MS = 2000;

const PAGE_TIMEOUT_MS = 30_000;
const PAGES_LIMIT = 100;
const TOOLS_LIMIT = 1000;

const UNSUPPORTED_VERSION = -32022;

const TOO_LATE = "The handshake took too long";

/**
 * Finds the server's revision and does the handshake. Works with a server that an earlier DTMA left
 * running. The streams stay the caller's to close.
 * @throws {HandshakeError}
 */
export async function openSession(
  stdio: { stdin: WritableStream<Uint8Array>; stdout: ReadableStream<Uint8Array> },
  options: SessionOptions,
): Promise<Session> {
  const { handshakeTimeoutMs, signal } = options;
  signal?.throwIfAborted();
  const session = new StdioSession(stdio, options.log);
  // `initialize` must not be cancelled (2025-11-25, utilities/cancellation): the session ends instead.
  const timer = setTimeout(() => session.close(TOO_LATE), handshakeTimeoutMs);
  const onAbort = () => session.close("The handshake was given up");
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    await session.handshake(options.skipProbe ?? false);
    return session;
  } catch (error) {
    session.close("The handshake failed");
    signal?.throwIfAborted();
    if (await session.closed !== TOO_LATE) throw error;
    throw new HandshakeError(
      `The server did not answer initialize within ${handshakeTimeoutMs / 1000} s`,
      "Look at the log: it may wait for something it cannot reach, or not be an MCP server on stdio.",
    );
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

class StdioSession implements Session {
  serverInfo: Record<string, unknown> = {};
  onToolsChanged: (() => void) | null = null;
  lastUsedMs = performance.now();
  readonly closed: Promise<string>;
  readonly #connection: Connection;
  readonly #log: (line: string) => void;
  #era: "unknown" | "modern" | "legacy" = "unknown";
  /** The subscription to changes of the tools, with a server of 2026-07-28. */
  readonly #subscription = new AbortController();

  constructor(stdio: Parameters<typeof openSession>[0], log: (line: string) => void) {
    this.#log = log;
    this.#connection = new Connection(stdio, {
      notification: (method) => this.#notification(method),
      request: (method) => this.#serverRequest(method),
      log,
    });
    this.closed = this.#connection.closed;
  }

  get inFlight(): number {
    return this.#connection.inFlight;
  }

  async ping(timeoutMs: number): Promise<number | null> {
    // 2026-07-28 has no ping; its discovery is cheap and may be asked at any time.
    const method = this.#era === "modern" ? "server/discover" : "ping";
    const startedMs = performance.now();
    const { error } = await this.#ask(method, {}, { timeoutMs, background: true });
    if (error?.code === ErrorCode.timedOut || error?.code === ErrorCode.serverUnavailable) {
      return null;
    }
    return performance.now() - startedMs;
  }

  async handshake(skipProbe: boolean): Promise<void> {
    const probe = skipProbe ? null : this.#probe();
    const verdict = probe && await inTime(probe, PROBE_TIMEOUT_MS);
    if (this.#connection.over !== null) throw this.#gone(!skipProbe);
    if (verdict && this.#isModern(verdict)) return this.#beginModern(verdict);

    const answer = await this.#initialize();
    if (answer.result) return this.#beginLegacy(answer.result);
    if (this.#connection.over !== null) throw this.#gone(!skipProbe);
    // A server that starts slowly answers the probe late, and refuses `initialize` if it is modern.
    const late = probe && await inTime(probe, 0);
    if (late && this.#isModern(late)) return this.#beginModern(late);
    if (await this.#listsAlready()) return;
    throw new HandshakeError(
      `The server refused to initialize: ${answer.error!.message.slice(0, 500)} ` +
        `(${answer.error!.code})`,
      "Check its configuration, and whether another version of it works.",
    );
  }

  async listTools(signal?: AbortSignal): Promise<ToolDefinition[]> {
    const tools: ToolDefinition[] = [];
    const cursors = new Set<string>();
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_LIMIT; page++) {
      const params = cursor === undefined ? {} : { cursor };
      const options = { signal, timeoutMs: PAGE_TIMEOUT_MS };
      const { result, error } = await this.#ask("tools/list", params, options);
      // "Method not found" from a server that does not say it has tools: it has none.
      if (error?.code === -32601 && !isObject(this.#capabilities().tools)) return [];
      if (error) throw new Error(`${error.message} (${error.code})`);
      tools.push(...toolsIn(result!));
      if (tools.length > TOOLS_LIMIT) {
        throw new Error(`It lists over ${TOOLS_LIMIT} tools, which is the limit`);
      }
      if (result!.nextCursor === undefined || result!.nextCursor === null) return tools;
      cursor = String(result!.nextCursor);
      if (cursors.has(cursor)) throw new Error("Its pages of tools go round in a circle");
      cursors.add(cursor);
    }
    throw new Error(`It lists its tools on over ${PAGES_LIMIT} pages, which is the limit`);
  }

  async call(
    request: JsonRpcRequest,
    options: Parameters<Session["call"]>[1] = {},
  ): Promise<JsonRpcResponse> {
    if (this.#era === "legacy" && request.method === "server/discover") {
      return { jsonrpc: "2.0", id: request.id, result: this.#discoverResult() };
    }
    this.lastUsedMs = performance.now();
    const paramsText = request.paramsText ?? JSON.stringify(request.params ?? {});
    const params = objectMembers(paramsText);
    const meta = objectMembers(params.get("_meta") ?? "{}");
    const logLevel = meta.get(META_PREFIX + "logLevel");
    const response = await this.#connection.request(
      request.method,
      (token) => this.#paramsText(params, meta, token),
      {
        ...options,
        progressToken: meta.get("progressToken"),
        logLevel: logLevel && JSON.parse(logLevel),
      },
    );
    this.lastUsedMs = performance.now();
    return toWaist(response, request.id);
  }

  close(reason: string): void {
    // Tells the server first: it would go on sending to whoever attaches next.
    this.#subscription.abort();
    this.#connection.close(reason);
  }

  /** The server's answer to `server/discover` (2026-07-28, server/discover). */
  #probe(): Promise<JsonRpcResponse> {
    return this.#ask("server/discover", {}, { background: true }, "modern");
  }

  #isModern({ result, error }: JsonRpcResponse): boolean {
    if (error) {
      if (error.code !== UNSUPPORTED_VERSION || !isObject(error.data)) return false;
      const { supported } = error.data;
      if (!Array.isArray(supported)) return false;
      // It knows of versions, so only these will do; `initialize` for those that need it.
      if (supported.some((revision) => LEGACY_REVISIONS.includes(revision))) return false;
      throw unsupported(supported);
    }
    const { supportedVersions } = result!;
    if (!Array.isArray(supportedVersions)) return false;
    if (supportedVersions.includes(WAIST_REVISION)) return true;
    if (supportedVersions.some((revision) => LEGACY_REVISIONS.includes(revision))) return false;
    throw unsupported(supportedVersions);
  }

  #beginModern({ result }: JsonRpcResponse): void {
    const { _meta, capabilities, instructions } = result!;
    const info = isObject(_meta) ? _meta[META_PREFIX + "serverInfo"] : undefined;
    this.#era = "modern";
    this.serverInfo = {
      ...(isObject(info) ? info : {}),
      revision: WAIST_REVISION,
      capabilities,
      ...(instructions === undefined ? {} : { instructions }),
    };
    const { tools } = this.#capabilities();
    if (isObject(tools) && tools.listChanged === true) this.#subscribe();
  }

  /** Without it a server of 2026-07-28 does not say that its tools changed (patterns/subscriptions). */
  #subscribe(): void {
    const params = { notifications: { toolsListChanged: true } };
    const options = { signal: this.#subscription.signal, background: true };
    this.#ask("subscriptions/listen", params, options).then(
      ({ error }) => {
        if (this.#connection.over !== null) return;
        const why = error ? `: ${error.message.slice(0, 200)}` : "";
        this.#log(`The server ended the subscription to changes of its tools${why}`);
      },
      () => {}, // Aborted by close().
    );
  }

  #initialize(): Promise<JsonRpcResponse> {
    this.#era = "legacy";
    const params = {
      protocolVersion: LEGACY_REVISIONS[0],
      capabilities: CLIENT_CAPABILITIES,
      clientInfo: CLIENT_INFO,
    };
    return this.#ask("initialize", params);
  }

  #beginLegacy(result: Record<string, unknown>): void {
    const { protocolVersion, serverInfo, capabilities, instructions } = result;
    if (!LEGACY_REVISIONS.includes(protocolVersion as string)) {
      throw unsupported([protocolVersion]);
    }
    this.serverInfo = {
      ...(isObject(serverInfo) ? serverInfo : {}),
      revision: protocolVersion,
      capabilities,
      ...(instructions === undefined ? {} : { instructions }),
    };
    this.#connection.notify("notifications/initialized");
  }

  /** A server that an earlier DTMA initialized may refuse to be initialized again, and still serve. */
  async #listsAlready(): Promise<boolean> {
    const { result } = await this.#ask("tools/list", {});
    if (!result || !Array.isArray(result.tools)) return false;
    this.#log("The server refuses a second initialize and serves all the same");
    this.serverInfo = { revision: null, capabilities: { tools: { listChanged: true } } };
    return true;
  }

  #gone(probed: boolean): HandshakeError {
    return new HandshakeError(
      `${this.#connection.over} before it answered initialize`,
      "Look at the log below: it usually says what is missing.",
      probed,
    );
  }

  /** A request of DTMA's own. */
  #ask(
    method: string,
    params: Record<string, unknown>,
    options: RequestOptions = {},
    era = this.#era,
  ): Promise<JsonRpcResponse> {
    const meta = { _meta: JSON.parse(objectText(modernMeta(new Map()))) };
    const text = JSON.stringify(era === "modern" ? { ...params, ...meta } : params);
    return this.#connection.request(method, () => text, options);
  }

  /** A caller's params in the server's revision; everything that is not protocol stays as it is. */
  #paramsText(
    params: Map<string, string>,
    callerMeta: Map<string, string>,
    token: string | undefined,
  ): string {
    const meta = this.#era === "modern" ? modernMeta(callerMeta) : legacyMeta(callerMeta);
    meta.delete(PIN_META);
    if (token !== undefined) meta.set("progressToken", token);
    const translated = new Map(params);
    if (meta.size > 0) translated.set("_meta", objectText(meta));
    else translated.delete("_meta");
    return objectText(translated);
  }

  /** What a server of an older revision would answer to `server/discover`. */
  #discoverResult(): Record<string, unknown> {
    const { revision: _, capabilities, instructions, ...info } = this.serverInfo;
    return {
      resultType: "complete",
      supportedVersions: [WAIST_REVISION],
      capabilities: capabilities ?? {},
      ...(instructions === undefined ? {} : { instructions }),
      ...(Object.keys(info).length > 0 ? { _meta: { [META_PREFIX + "serverInfo"]: info } } : {}),
      ttlMs: 0,
      cacheScope: "private",
    };
  }

  #capabilities(): Record<string, unknown> {
    return isObject(this.serverInfo.capabilities) ? this.serverInfo.capabilities : {};
  }

  #notification(method: string): void {
    if (method === "notifications/tools/list_changed") this.onToolsChanged?.();
  }

  /** 2026-07-28 has no requests from a server, and answers to them are forbidden. */
  #serverRequest(method: string): { result: string } | { error: string } | null {
    if (this.#era === "modern") return null;
    if (method === "ping") return { result: "{}" };
    return { error: `{"code":-32601,"message":"Method not found"}` };
  }
}

/** To a server of an older revision what is the newest revision's protocol means nothing. */
function legacyMeta(meta: Map<string, string>): Map<string, string> {
  return new Map([...meta].filter(([key]) => !key.startsWith(META_PREFIX)));
}

/** The client that a server sees is DTMA; what the caller can do is the caller's to say. */
function modernMeta(meta: Map<string, string>): Map<string, string> {
  const translated = new Map(meta)
    .set(META_PREFIX + "protocolVersion", JSON.stringify(WAIST_REVISION))
    .set(META_PREFIX + "clientInfo", JSON.stringify(CLIENT_INFO));
  const capabilities = META_PREFIX + "clientCapabilities";
  if (!translated.has(capabilities)) {
    translated.set(capabilities, JSON.stringify(CLIENT_CAPABILITIES));
  }
  return translated;
}

/** Absent means complete (2026-07-28, basic#resulttype); on the waist it is always said. */
function toWaist(response: JsonRpcResponse, id: JsonRpcRequest["id"]): JsonRpcResponse {
  const { result, text } = response;
  if (!result || Object.hasOwn(result, "resultType")) return { ...response, id };
  const members = text!.slice(1).trimStart();
  const separator = members.startsWith("}") ? "" : ",";
  return {
    jsonrpc: "2.0",
    id,
    result: { resultType: "complete", ...result },
    text: `{"resultType":"complete"${separator}${members}`,
  };
}

function toolsIn(result: Record<string, unknown>): ToolDefinition[] {
  const { tools } = result;
  if (!Array.isArray(tools)) throw new Error("Its answer to tools/list has no tools");
  for (const tool of tools) {
    if (!isObject(tool) || typeof tool.name !== "string") {
      throw new Error("It lists a tool without a name");
    }
  }
  return tools;
}

function unsupported(revisions: unknown[]): HandshakeError {
  return new HandshakeError(
    `The server speaks MCP ${revisions.map((each) => String(each).slice(0, 20)).join(", ")}, and ` +
      `Mooring ${[WAIST_REVISION, ...LEGACY_REVISIONS].join(", ")}`,
    "Choose another version of the server, or update Mooring.",
  );
}

/** The value of a promise if it comes in time, else null; the promise itself goes on. */
async function inTime<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => timer = setTimeout(() => resolve(null), ms));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
