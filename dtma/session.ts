/**
 * The MCP session with one server over stdio. Above it is the waist, MCP 2026-07-28, in which every
 * request stands alone; below it the server's own revision, found by a probe (2026-07-28,
 * transports/stdio#backward-compatibility), with the handshake that older revisions need.
 *
 * To a server of 2026-07-28 requests pass as they are, but for their ids, progress tokens and who the
 * client is. With an older one DTMA stands in for the client: it sets the log level, subscribes to
 * resources (subscriptions.ts) and holds calls that ask their caller something (held_calls.ts).
 *
 * Not here yet: tasks of 2025-11-25, which are not those of the waist; servers that are not on stdio.
 */
import { Connection, isObject, rateLimited } from "./connection.ts";
import {
  type Caller,
  errorResponse,
  type JsonRpcNotification,
  type JsonRpcRequest,
  type JsonRpcResponse,
  LOG_LEVELS,
  type RequestOptions,
  type ServerRequest,
} from "./connection.ts";
import { HeldCalls, isHeldState, lostCall, urlElicitations } from "./held_calls.ts";
import { objectMembers, objectText } from "./json_text.ts";
import { type Ask, bounded, listAll } from "./listing.ts";
import {
  CALLER_META,
  ErrorCode,
  HEADERS_METHOD,
  PIN_META,
  type PromptDefinition,
  REFUSED_METHOD,
  type ToolDefinition,
  WAIST_REVISION,
} from "./protocol.ts";
import { Listener, LISTENERS_LIMIT, Subscriptions, tooMany } from "./subscriptions.ts";
import type { TemplateDefinition } from "./tool_definition.ts";
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
  /** As {@link listTools}; empty of a server that does not say it has any. */
  listPrompts(signal?: AbortSignal): Promise<PromptDefinition[]>;
  listResourceTemplates(signal?: AbortSignal): Promise<TemplateDefinition[]>;
  /**
   * Passes a request of the waist to the server. Whatever goes wrong is a response with an error;
   * rejects only when `signal` is aborted, with its reason, and the server is told to cancel.
   * `subscriptions/listen` is answered when the session ends.
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
  /** Of them, those that wait for answers of their caller. */
  readonly held: number;
  /** Cancels the call that waits under this `requestState`, if it does; see held_calls.ts. */
  cancelHeld(requestState: unknown): void;
  /** Callers that wait for changes of a resource. */
  readonly listeners: number;
  /** When a call was last made or answered, by the monotonic clock. */
  readonly lastUsedMs: number;
  /**
   * Asks the server for a sign of life: any answer is one.
   * @returns the milliseconds it took; null when none came in time
   */
  ping(timeoutMs: number): Promise<number | null>;
  /** Tells the adapter of a remote server the headers to send from now on. */
  setHeaders(headers: Record<string, string>): void;
  /** Called when the server says that one of its lists changed, as often as it says so. */
  onListChanged: ((list: List) => void) | null;
  /** Called when the server asked something by this method, and could not say of whom. */
  onUnattributed: ((method: string) => void) | null;
  /** Resolves with the reason, for a person, when the session is over. */
  readonly closed: Promise<string>;
  /** Ends the session and leaves the server running; calls in flight are answered with the reason. */
  close(reason: string): void;
}

/** What a server lists, and says of that it changed. */
export type List = "tools" | "prompts" | "resources";

export interface SessionOptions {
  /** For the whole handshake, the probe included. */
  handshakeTimeoutMs: number;
  /** Begin with `initialize`: for a server that exits on an unknown first request. */
  skipProbe?: boolean;
  /** An earlier session with the server may have left calls behind, of callers that are not known. */
  isTakenOver?: boolean;
  /** How long a call waits for answers of its caller. */
  holdMs?: number;
  signal?: AbortSignal;
  /** What the server does against the protocol and what it logs; not yet fit to be shown. */
  log: (line: string) => void;
  /** Told what a remote server refused its adapter ({@link REFUSED_METHOD}); without it nobody is. */
  onRefused?: (params: unknown) => void;
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

/** Newest first. What differs between them is in no message of ours. */
const LEGACY_REVISIONS = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const CLIENT_INFO = { name: "mooring", title: "Mooring", version: DTMA_VERSION };

/** To a server of 2026-07-28, for a caller that says nothing of its own. */
const CLIENT_CAPABILITIES = {};

/**
 * To an older server, which is told once for all callers. A caller's client that cannot do one of
 * these is not asked: the server is answered as if it were not declared.
 */
const LEGACY_CAPABILITIES = {
  elicitation: { form: {}, url: {} },
  sampling: { tools: {} },
  roots: {},
};

/** What an older server is asked of the waist's methods, beside `server/discover`. */
const LEGACY_METHODS = new Set([
  "tools/call",
  "tools/list",
  "prompts/get",
  "prompts/list",
  "resources/list",
  "resources/read",
  "resources/templates/list",
  "completion/complete",
  "subscriptions/listen",
]);

/** Their results say on the waist how long they may be kept (2026-07-28, server/utilities/caching). */
const CACHEABLE = new Set([
  "tools/list",
  "prompts/list",
  "resources/list",
  "resources/read",
  "resources/templates/list",
]);

const META_PREFIX = "io.modelcontextprotocol/";

/** The servers that answer a probe answer at once; those that do not must not cost the start more. */
const PROBE_TIMEOUT_MS = 2000;

const PAGE_TIMEOUT_MS = 30_000;

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
  const session = new StdioSession(stdio, options);
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
  onListChanged: ((list: List) => void) | null = null;
  onUnattributed: ((method: string) => void) | null = null;
  lastUsedMs = performance.now();
  readonly closed: Promise<string>;
  readonly #connection: Connection;
  readonly #log: (line: string) => void;
  readonly #onRefused: SessionOptions["onRefused"];
  readonly #held: HeldCalls;
  readonly #subscriptions: Subscriptions;
  #era: "unknown" | "modern" | "legacy" = "unknown";
  /** The subscription to changes of the lists, with a server of 2026-07-28. */
  readonly #subscription = new AbortController();
  /** Callers' own subscriptions with a server of 2026-07-28, and those of them to resources. */
  #listening = 0;
  #listeningToResources = 0;
  /** The lowest that an older server was told, as an index of {@link LOG_LEVELS}. */
  #logLevel = Infinity;

  constructor(
    stdio: Parameters<typeof openSession>[0],
    { log, holdMs, isTakenOver, onRefused }: SessionOptions,
  ) {
    this.#log = rateLimited(log);
    this.#onRefused = onRefused;
    this.#connection = new Connection(stdio, {
      notification: (notification) => this.#notification(notification),
      request: (request) => this.#serverRequest(request),
      log,
    }, { isTakenOver });
    this.#held = new HeldCalls(this.#connection, {
      onUnattributed: (method) => this.onUnattributed?.(method),
      holdMs,
    });
    this.#subscriptions = new Subscriptions(async (method, uri) => {
      const options = { timeoutMs: PAGE_TIMEOUT_MS, background: true };
      const { error } = await this.#ask(method, { uri }, options);
      if (error && this.#connection.over === null) {
        this.#log(`${method} was refused: ${error.message.slice(0, 200)}`);
      }
      return error === undefined;
    });
    this.closed = this.#connection.closed;
    this.closed.then(() => {
      this.#held.close();
      this.#subscriptions.close();
    });
  }

  get inFlight(): number {
    return this.#connection.inFlight;
  }

  get held(): number {
    return this.#held.count;
  }

  get listeners(): number {
    return this.#subscriptions.count + this.#listeningToResources;
  }

  setHeaders(headers: Record<string, string>): void {
    this.#connection.notify(HEADERS_METHOD, { headers });
  }

  cancelHeld(requestState: unknown): void {
    this.#held.cancel(requestState);
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
    // Asked in any case: a server may have tools and not say so.
    const isSaid = isObject(this.#capabilities().tools);
    return await listAll<ToolDefinition>(this.#asking(signal), "tools", { mayLack: !isSaid });
  }

  async listPrompts(signal?: AbortSignal): Promise<PromptDefinition[]> {
    if (!isObject(this.#capabilities().prompts)) return [];
    return bounded(await listAll<PromptDefinition>(this.#asking(signal), "prompts"));
  }

  async listResourceTemplates(signal?: AbortSignal): Promise<TemplateDefinition[]> {
    if (!isObject(this.#capabilities().resources)) return [];
    // Many that have resources have no templates, and do not know the method.
    const options = { mayLack: true };
    const templates = await listAll<TemplateDefinition>(
      this.#asking(signal),
      "resourceTemplates",
      options,
    );
    if (templates.every(({ uriTemplate }) => typeof uriTemplate === "string")) {
      return bounded(templates);
    }
    throw new Error("It lists a resource template without a URI");
  }

  #asking(signal?: AbortSignal): Ask {
    return (method, params) => this.#ask(method, params, { signal, timeoutMs: PAGE_TIMEOUT_MS });
  }

  async call(
    request: JsonRpcRequest,
    options: Parameters<Session["call"]>[1] = {},
  ): Promise<JsonRpcResponse> {
    const { id, method } = request;
    const isLegacy = this.#era === "legacy";
    if (isLegacy && method === "server/discover") {
      return { jsonrpc: "2.0", id, result: this.#discoverResult() };
    }
    if (isLegacy && !LEGACY_METHODS.has(method)) {
      return errorResponse(id, -32601, "Method not found");
    }
    this.lastUsedMs = performance.now();
    const paramsText = request.paramsText ?? JSON.stringify(request.params ?? {});
    const params = objectMembers(paramsText);
    const meta = objectMembers(params.get("_meta") ?? "{}");
    if (method === "subscriptions/listen") {
      return await this.#listen(request, params, meta, options);
    }
    const logLevel = meta.get(META_PREFIX + "logLevel");
    const caller: Caller = {
      key: meta.get(CALLER_META),
      capabilities: meta.get(META_PREFIX + "clientCapabilities"),
      subject: params.get("name") ?? params.get("uri"),
    };
    const waiting = {
      ...options,
      caller,
      progressToken: meta.get("progressToken"),
      logLevel: logLevel && JSON.parse(logLevel),
    };
    const state = params.get("requestState");
    const isRetry = isLegacy && state !== undefined;
    if (!isRetry && state && isHeldState(JSON.parse(state))) return lostCall(id);
    if (isLegacy && logLevel) this.#lowerLogLevel(waiting.logLevel);
    const response = isRetry
      ? await this.#held.retry(request, params, waiting)
      : await this.#connection.request(
        method,
        (token) => this.#paramsText(params, meta, token),
        waiting,
      );
    this.lastUsedMs = performance.now();
    return isLegacy ? toWaist(response, request, caller) : completed(response, id);
  }

  async #listen(
    request: JsonRpcRequest,
    params: Map<string, string>,
    meta: Map<string, string>,
    { signal, onNotification }: Parameters<Session["call"]>[1],
  ): Promise<JsonRpcResponse> {
    if (this.#connection.over !== null) {
      return errorResponse(request.id, ErrorCode.serverUnavailable, this.#connection.over);
    }
    const wanted: unknown = JSON.parse(params.get("notifications") ?? "{}");
    const capabilities = this.#capabilities();
    if (this.#era === "legacy") {
      const options = { wanted, capabilities, signal, onNotification };
      return await this.#subscriptions.listen(request, options);
    }
    if (this.#listening >= LISTENERS_LIMIT) return tooMany(request.id);
    const { resourceSubscriptions: uris } = isObject(wanted) ? wanted : {};
    const isOfResources = Array.isArray(uris) && uris.length > 0;
    const listener = new Listener(request, onNotification);
    this.#listening++;
    if (isOfResources) this.#listeningToResources++;
    try {
      const { error, text } = await this.#connection.request(
        request.method,
        (token) => this.#paramsText(params, meta, token),
        { signal, background: true, onSubscribed: (notification) => listener.tell(notification) },
      );
      listener.end();
      if (error) return { jsonrpc: "2.0", id: request.id, error, text };
      return listener.result(request, text);
    } finally {
      listener.end();
      this.#listening--;
      if (isOfResources) this.#listeningToResources--;
    }
  }

  /** An older server has one level for all; who wants less of it is given less. */
  #lowerLogLevel(level: unknown): void {
    const wanted = LOG_LEVELS.indexOf(String(level));
    if (wanted < 0 || wanted >= this.#logLevel || !isObject(this.#capabilities().logging)) return;
    this.#logLevel = wanted;
    this.#ask("logging/setLevel", { level }, { background: true, timeoutMs: PAGE_TIMEOUT_MS })
      .then(({ error }) => {
        if (!error || this.#connection.over !== null) return;
        this.#log(`The server did not set its log level: ${error.message.slice(0, 200)}`);
      });
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
    const notifications: Record<string, true> = {};
    for (const list of ["tools", "prompts", "resources"] as const) {
      const declared = this.#capabilities()[list];
      if (isObject(declared) && declared.listChanged === true) {
        notifications[`${list}ListChanged`] = true;
      }
    }
    if (Object.keys(notifications).length > 0) this.#subscribe({ notifications });
  }

  /** Without it a server of 2026-07-28 does not say that its lists changed (patterns/subscriptions). */
  #subscribe(params: Record<string, unknown>): void {
    const options = { signal: this.#subscription.signal, background: true };
    this.#ask("subscriptions/listen", params, options).then(
      ({ error }) => {
        if (this.#connection.over !== null) return;
        const why = error ? `: ${error.message.slice(0, 200)}` : "";
        this.#log(`The server ended the subscription to changes of its lists${why}`);
      },
      () => {}, // Aborted by close().
    );
  }

  #initialize(): Promise<JsonRpcResponse> {
    this.#era = "legacy";
    const params = {
      protocolVersion: LEGACY_REVISIONS[0],
      capabilities: LEGACY_CAPABILITIES,
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
    meta.delete(CALLER_META);
    if (token !== undefined) meta.set("progressToken", token);
    const translated = new Map(params);
    // To an older server a retry is the call made anew: see urlElicitations.
    if (this.#era === "legacy") translated.delete("inputResponses");
    if (meta.size > 0) translated.set("_meta", objectText(meta));
    else translated.delete("_meta");
    return objectText(translated);
  }

  /** What a server of an older revision would answer to `server/discover`. */
  #discoverResult(): Record<string, unknown> {
    const { revision: _, capabilities: __, instructions, ...info } = this.serverInfo;
    // Its tasks are not those of the waist.
    const { tasks: ___, ...capabilities } = this.#capabilities();
    return {
      resultType: "complete",
      supportedVersions: [WAIST_REVISION],
      capabilities,
      ...(instructions === undefined ? {} : { instructions }),
      ...(Object.keys(info).length > 0 ? { _meta: { [META_PREFIX + "serverInfo"]: info } } : {}),
      ttlMs: 0,
      cacheScope: "private",
    };
  }

  #capabilities(): Record<string, unknown> {
    return isObject(this.serverInfo.capabilities) ? this.serverInfo.capabilities : {};
  }

  #notification(notification: JsonRpcNotification): void {
    const { method, params } = notification;
    if (method === REFUSED_METHOD) return this.#onRefused?.(params);
    const list = /^notifications\/(tools|prompts|resources)\/list_changed$/.exec(method)?.[1];
    if (list) this.onListChanged?.(list as List);
    if (this.#era !== "legacy") return;
    if (method === "notifications/cancelled") this.#held.takeBack(params?.requestId);
    else this.#subscriptions.tell(notification);
  }

  /** 2026-07-28 has no requests from a server, and answers to them are forbidden. */
  #serverRequest(request: ServerRequest): void {
    if (this.#era === "modern") this.#log(`The server asked ${request.method.slice(0, 100)}`);
    else if (request.method !== "ping") this.#held.ask(request);
    else this.#connection.answer(request.idText, { result: "{}" });
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

/** An older server's response in the words of the waist; what it says beyond them stays as it is. */
function toWaist(
  response: JsonRpcResponse,
  { id, method }: JsonRpcRequest,
  { capabilities }: Caller,
): JsonRpcResponse {
  const asked = response.error && urlElicitations(response, capabilities);
  if (asked) return { ...asked, id };
  return completed(
    response,
    id,
    CACHEABLE.has(method) ? { ttlMs: 0, cacheScope: "private" } : undefined,
  );
}

/** Absent means complete (2026-07-28, basic#resulttype); on the waist it is always said. */
function completed(
  response: JsonRpcResponse,
  id: JsonRpcRequest["id"],
  defaults?: Record<string, unknown>,
): JsonRpcResponse {
  const { result, text } = response;
  if (!result || Object.hasOwn(result, "resultType")) return { ...response, id };
  const added: Record<string, unknown> = { resultType: "complete" };
  for (const [key, value] of Object.entries(defaults ?? {})) {
    if (!Object.hasOwn(result, key)) added[key] = value;
  }
  const members = text!.slice(1).trimStart();
  const separator = members.startsWith("}") ? "" : ",";
  return {
    jsonrpc: "2.0",
    id,
    result: { ...added, ...result },
    text: `${JSON.stringify(added).slice(0, -1)}${separator}${members}`,
  };
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
