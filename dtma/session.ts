/**
 * The MCP session with one server over stdio. Above it is the waist, MCP 2026-07-28, in which every
 * request stands alone; below it the server's own revision, found by a probe (2026-07-28,
 * transports/stdio#backward-compatibility), with the handshake that older revisions need.
 *
 * To a server of 2026-07-28 requests pass as they are, but for their ids, progress tokens and who the
 * client is. With an older one DTMA stands in for the client: it sets the log level, subscribes to
 * resources (subscriptions.ts) and holds calls that ask their caller something (held_calls.ts).
 *
 * Servers over HTTP have an adapter before them, which is on stdio (adapter.ts, remote_adapter/).
 *
 * Its tasks, which are others before 2026-07-28, are legacy_tasks.ts's.
 */
import type { CallSignal } from "./call_signal.ts";
import { Connection, isObject, rateLimited } from "./connection.ts";
import {
  Caller,
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
import { LargeResponse } from "./large_response.ts";
import { LegacyTasks, TASK_METHODS } from "./legacy_tasks.ts";
import { type Ask, bounded, listAll } from "./listing.ts";
import {
  CALLER_META,
  ErrorCode,
  HEADERS_METHOD,
  INPUT_ERROR,
  LET_GO_METHOD,
  PIN_META,
  POLLS_META,
  type PromptDefinition,
  REFUSED_METHOD,
  REOPENED_METHOD,
  TASKS_EXTENSION,
  type ToolDefinition,
  WAIST_REVISION,
} from "./protocol.ts";
import {
  ACKNOWLEDGED,
  Listener,
  LISTENERS_LIMIT,
  Subscriptions,
  tooMany,
} from "./subscriptions.ts";
import type { TemplateDefinition } from "./tool_definition.ts";
import { DTMA_VERSION } from "./version.ts";
import { sleep } from "./waiting.ts";

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
      signal?: CallSignal;
      timeoutMs?: number;
      onNotification?: (notification: JsonRpcNotification) => void;
    },
  ): Promise<JsonRpcResponse>;
  /** Calls that the server has not answered. */
  readonly inFlight: number;
  /** How long the server has been silent, in milliseconds, while several callers gave up; else 0. */
  readonly muteMs: number;
  /** Of them, those that wait for answers of their caller. */
  readonly held: number;
  /** Cancels the call that waits under this `requestState`, if it does; see held_calls.ts. */
  cancelHeld(requestState: unknown): void;
  /** Callers that wait for changes of a resource or a task. */
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
  /**
   * Called when the server says that one of its lists changed, as often as it says so; and when one may
   * have changed (`isSaid` is false) while the server could not say so.
   */
  onListChanged: ((list: List, isSaid: boolean) => void) | null;
  /**
   * Called when a remote server's session is another one, in which each name may be of something else, after
   * {@link onListChanged} for all lists. A call that came too late for it has {@link UNLISTED_CODE}.
   */
  onReopened: (() => void) | null;
  /** Called when the server asked something by this method, and could not say of whom. */
  onUnattributed: ((method: string) => void) | null;
  /** Resolves with the reason, for a person, when the session is over. */
  readonly closed: Promise<string>;
  /** Ends the session and leaves the server running; calls in flight are answered with the reason. */
  close(reason: string): void;
}

const LISTS = ["tools", "prompts", "resources"] as const;
/** What a server lists, and says of that it changed. */
export type List = typeof LISTS[number];

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

/** To a server of 2026-07-28 in requests of our own: it may list by them what it has for which client. */
const OWN_CAPABILITIES = { ...LEGACY_CAPABILITIES, extensions: { [TASKS_EXTENSION]: {} } };

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
const CAPABILITIES_META = META_PREFIX + "clientCapabilities";
const LOG_LEVEL_META = META_PREFIX + "logLevel";
/** Of a call's `_meta` what is said to DTMA. */
const OWN_META = [PIN_META, CALLER_META, POLLS_META];

/** In the `data` of the adapter's errors (remote_adapter/remote.mts): what a person should look at. */
const ADVICE_KEY = "dev.mooring/advice";

/** By words, so that no server writes what is shown as Mooring's advice. */
const ADVICE = {
  port:
    "Look at the log below for the port that the server listens on, and check the port that its " +
    "entry declares; many servers take theirs from the variable PORT or an argument.",
  transport:
    "Check the path and the transport that its entry declares; most servers have theirs at " +
    "/mcp or at /sse.",
  url: "Check the URL, and that the server is up and can be reached from the toolbox.",
  path: "Check the URL's path; most servers have theirs at /mcp or at /sse.",
  credentials: "Add the server anew with the header that it asks for, and a key that is valid.",
};

/** The servers that answer a probe answer at once; those that do not must not cost the start more. */
const PROBE_TIMEOUT_MS = 2000;

const PAGE_TIMEOUT_MS = 30_000;

const OWN_CODES = new Set<number>(Object.values(ErrorCode));

/** First wait before the subscription to changes of the lists is made again; doubles. */
const RESUBSCRIBE_MS = 1000;
const LONGEST_RESUBSCRIBE_MS = 5 * 60_000;
/** One that held so long was in order. */
const SUBSCRIBED_MS = 10_000;

const METHOD_NOT_FOUND = -32601, UNSUPPORTED_VERSION = -32022, MISSING_CAPABILITY = -32021;

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
  onListChanged: ((list: List, isSaid: boolean) => void) | null = null;
  onReopened: (() => void) | null = null;
  onUnattributed: ((method: string) => void) | null = null;
  lastUsedMs = performance.now();
  readonly closed: Promise<string>;
  readonly #connection: Connection;
  readonly #log: (line: string) => void;
  readonly #onRefused: SessionOptions["onRefused"];
  readonly #held: HeldCalls;
  readonly #subscriptions: Subscriptions;
  readonly #tasks: LegacyTasks;
  #era: "unknown" | "modern" | "legacy" = "unknown";
  /** The subscription to changes of the lists, with a server of 2026-07-28. */
  readonly #subscription = new AbortController();
  /** Callers' own subscriptions with a server of 2026-07-28, and those to resources or tasks. */
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
      lateProgress: (token, paramsText) => this.#tasks.progress(token, paramsText),
      log,
    }, { isTakenOver });
    this.#held = new HeldCalls(this.#connection, {
      onUnattributed: (method) => this.onUnattributed?.(method),
      holdMs,
    });
    this.#subscriptions = new Subscriptions(async (method, uri) => {
      const options = { timeoutMs: PAGE_TIMEOUT_MS, background: true };
      const { error, text = JSON.stringify(error) } = await this.#ask(method, { uri }, options);
      if (!error) return null;
      if (this.#connection.over === null) {
        this.#log(`${method} was refused: ${error.message.slice(0, 200)}`);
      }
      return text;
    });
    this.#tasks = new LegacyTasks(this.#connection, () => this.#capabilities());
    this.closed = this.#connection.closed;
    this.closed.then(() => {
      this.#held.close();
      this.#tasks.close();
      this.#subscriptions.close();
    });
  }

  get inFlight(): number {
    return this.#connection.inFlight;
  }

  get muteMs(): number {
    return this.#connection.muteMs;
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
    // A remote server may be away for a while; one beside its adapter has closed its port.
    if (error && adviceOf(error) === "port") return null;
    return performance.now() - startedMs;
  }

  async handshake(skipProbe: boolean): Promise<void> {
    const probe = skipProbe ? null : this.#probe();
    let verdict = probe && await inTime(probe, PROBE_TIMEOUT_MS);
    // It may refuse one request's version and take the next one's (2026-07-28, basic/versioning).
    if (verdict && mayTakeAnother(verdict)) {
      verdict = await inTime(this.#probe(), PROBE_TIMEOUT_MS) ?? verdict;
    }
    if (this.#connection.over !== null) throw this.#gone(!skipProbe);
    if (verdict && this.#isModern(verdict)) return this.#beginModern(verdict);

    const answer = await this.#initialize();
    if (answer.result) return this.#beginLegacy(answer.result);
    if (this.#connection.over !== null) throw this.#gone(!skipProbe);
    // A server that starts slowly answers the probe late, and refuses `initialize` if it is modern.
    const late = probe && await inTime(probe, 0);
    if (late && this.#isModern(late)) return this.#beginModern(late);
    const advice = adviceOf(answer.error!);
    if (advice) throw new HandshakeError(answer.error!.message.slice(0, 500), ADVICE[advice]);
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
    const options = { mayLack: !isSaid };
    const tools = await listAll<ToolDefinition>(this.#asking(signal), "tools", options);
    if (this.#era === "legacy") this.#tasks.learn(tools);
    return tools;
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
    const isOfTasks = TASK_METHODS.includes(method);
    if (isLegacy && !isOfTasks && !LEGACY_METHODS.has(method)) {
      return errorResponse(id, METHOD_NOT_FOUND, "Method not found");
    }
    this.lastUsedMs = performance.now();
    const paramsText = request.paramsText ?? JSON.stringify(request.params ?? {});
    const given = request.params ?? JSON.parse(paramsText);
    const meta: Record<string, unknown> = isObject(given._meta) ? given._meta : {};
    const params = objectMembers(paramsText);
    if (method === "subscriptions/listen") {
      return await this.#listen(request, params, meta, options);
    }
    const caller = new Caller(
      meta[CALLER_META],
      meta[CAPABILITIES_META],
      given.name ?? given.uri,
    );
    if (isLegacy && isOfTasks) {
      return await this.#tasks.answer(request, params, caller.capabilities, options);
    }
    const waiting = new Waiting(caller, options, meta, params);
    const isRetry = isLegacy && given.requestState !== undefined;
    if (!isRetry && isHeldState(given.requestState)) return lostCall(id);
    if (isLegacy && waiting.logLevel !== undefined) this.#lowerLogLevel(waiting.logLevel);
    const refused = isLegacy && !isRetry && method === "tools/call"
      ? this.#tasks.prepare(request, params, caller.capabilities)
      : null;
    if (refused) return refused;
    let progressToken: string | undefined;
    const response = isRetry
      ? await this.#held.retry(request, params, waiting)
      : await this.#connection.request(
        method,
        (token) => this.#paramsText(params, meta, progressToken = token),
        waiting,
      );
    this.lastUsedMs = performance.now();
    if (!isLegacy) return completed(response, id);
    if (response.error && waiting.undeclared) {
      return missingCapability(response, id, waiting.undeclared);
    }
    const made = method === "tools/call" ? this.#tasks.created(response, progressToken) : response;
    return toWaist(made, request, caller);
  }

  async #listen(
    request: JsonRpcRequest,
    params: Map<string, string>,
    meta: Record<string, unknown>,
    { signal, onNotification }: Parameters<Session["call"]>[1],
  ): Promise<JsonRpcResponse> {
    if (this.#connection.over !== null) {
      return errorResponse(request.id, ErrorCode.serverUnavailable, this.#connection.over);
    }
    const wanted: unknown = JSON.parse(params.get("notifications") ?? "{}");
    const capabilities = this.#capabilities();
    if (this.#era === "legacy") {
      const hasTasks = this.#tasks.areServed;
      const options = { wanted, capabilities, hasTasks, signal, onNotification };
      return await this.#subscriptions.listen(request, options);
    }
    if (this.#listening >= LISTENERS_LIMIT) return tooMany(request.id);
    const { resourceSubscriptions: uris, taskIds } = isObject(wanted) ? wanted : {};
    const isOfResources = [uris, taskIds].some((each) => Array.isArray(each) && each.length > 0);
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
  #lowerLogLevel(level: string): void {
    const wanted = LOG_LEVELS.indexOf(level);
    if (wanted >= this.#logLevel || !isObject(this.#capabilities().logging)) return;
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
    const lists = LISTS.filter((list) => {
      const declared = this.#capabilities()[list];
      return isObject(declared) && declared.listChanged === true;
    });
    if (lists.length > 0) this.#subscribe(lists);
  }

  /**
   * Without it a server of 2026-07-28 does not say that its lists changed (patterns/subscriptions). A
   * stream over HTTP ends now and then, by whatever lies between: it is opened again.
   */
  async #subscribe(lists: List[]): Promise<void> {
    const { signal } = this.#subscription;
    const notifications = Object.fromEntries(lists.map((list) => [`${list}ListChanged`, true]));
    let isAgain = false;
    const onSubscribed = ({ method }: JsonRpcNotification) => {
      if (!isAgain || method !== ACKNOWLEDGED) return;
      for (const list of lists) this.onListChanged?.(list, false);
    };
    for (let waitMs = RESUBSCRIBE_MS;; waitMs = Math.min(2 * waitMs, LONGEST_RESUBSCRIBE_MS)) {
      const startedMs = performance.now();
      const options = { signal, background: true, onSubscribed };
      // Rejects when it is aborted by close().
      const answer = await this.#ask("subscriptions/listen", { notifications }, options)
        .catch(() => null);
      if (!answer || this.#connection.over !== null) return;
      const why = answer.error ? `: ${answer.error.message.slice(0, 200)}` : "";
      this.#log(`The server ended the subscription to changes of its lists${why}`);
      // It has none, whatever it declared.
      if (answer.error?.code === METHOD_NOT_FOUND) return;
      if (performance.now() - startedMs > SUBSCRIBED_MS) waitMs = RESUBSCRIBE_MS;
      await sleep(waitMs, signal);
      isAgain = true;
    }
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
      capabilities: protocolVersion === "2024-11-05" ? withCompletions(capabilities) : capabilities,
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
    const own = new Map([[CAPABILITIES_META, JSON.stringify(OWN_CAPABILITIES)]]);
    const meta = { _meta: JSON.parse(objectText(modernMeta(own))) };
    const text = JSON.stringify(era === "modern" ? { ...params, ...meta } : params);
    return this.#connection.request(method, () => text, options);
  }

  /**
   * A caller's params in the server's revision; everything that is not protocol stays as it is.
   *
   * @param params their members' texts, which become the server's
   * @param meta the value of their `_meta`
   */
  #paramsText(
    params: Map<string, string>,
    meta: Record<string, unknown>,
    token: string | undefined,
  ): string {
    const isLegacy = this.#era === "legacy";
    // To an older server a retry is the call made anew: see urlElicitations.
    if (isLegacy) params.delete("inputResponses");
    if (isLegacy && token === undefined && !Object.keys(meta).some(isForOlderServers)) {
      params.delete("_meta");
      return objectText(params);
    }
    const callers = objectMembers(params.get("_meta") ?? "{}");
    const servers = isLegacy ? legacyMeta(callers) : modernMeta(callers);
    if (token !== undefined) servers.set("progressToken", token);
    params.set("_meta", objectText(servers));
    return objectText(params);
  }

  /** What a server of an older revision would answer to `server/discover`. */
  #discoverResult(): Record<string, unknown> {
    const { revision: _, capabilities: __, instructions, ...info } = this.serverInfo;
    const { tasks: ___, ...others } = this.#capabilities();
    const extensions = { ...(isObject(others.extensions) ? others.extensions : {}) };
    if (this.#tasks.areServed) extensions[TASKS_EXTENSION] = {};
    return {
      resultType: "complete",
      supportedVersions: [WAIST_REVISION],
      capabilities: Object.keys(extensions).length > 0 ? { ...others, extensions } : others,
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
    if (method === LET_GO_METHOD) return this.#connection.tellLetGo(params ?? {});
    if (method === REOPENED_METHOD) return this.#reopened();
    const list = /^notifications\/(tools|prompts|resources)\/list_changed$/.exec(method)?.[1];
    if (list) this.onListChanged?.(list as List, true);
    if (this.#era !== "legacy") return;
    if (method === "notifications/cancelled") {
      this.#held.takeBack(params?.requestId);
      this.#tasks.takeBack(params?.requestId);
    } else if (method === "notifications/elicitation/complete") this.#held.complete(notification);
    else this.#subscriptions.tell(notification);
  }

  /** A remote server's session is another one: it was told nothing, and could not tell what changed. */
  #reopened(): void {
    for (const list of LISTS) this.onListChanged?.(list, false);
    this.onReopened?.();
    this.#logLevel = Infinity;
    this.#subscriptions.again();
  }

  /** 2026-07-28 has no requests from a server, and answers to them are forbidden. */
  #serverRequest(request: ServerRequest): void {
    if (this.#era === "modern") this.#log(`The server asked ${request.method.slice(0, 100)}`);
    else if (request.method === "ping") this.#connection.answer(request.idText, { result: "{}" });
    else if (!this.#tasks.ask(request)) this.#held.ask(request);
  }
}

/** Who waits for the answer to a call; a class for the reason that {@link OpenRequest} has. */
class Waiting implements RequestOptions {
  readonly signal: CallSignal | undefined;
  readonly timeoutMs: number | undefined;
  readonly onNotification: RequestOptions["onNotification"];
  readonly progressToken: string | undefined;
  readonly logLevel: string | undefined;
  readonly polls: boolean;
  /** What the caller's client would have had to declare for what the server asked. */
  undeclared: Record<string, unknown> | null = null;

  constructor(
    readonly caller: Caller,
    { signal, timeoutMs, onNotification }: Parameters<Session["call"]>[1],
    meta: Record<string, unknown>,
    params: Map<string, string>,
  ) {
    this.signal = signal;
    this.timeoutMs = timeoutMs;
    this.onNotification = onNotification;
    if (meta.progressToken !== undefined) {
      this.progressToken = objectMembers(params.get("_meta")!).get("progressToken");
    }
    const level = meta[LOG_LEVEL_META];
    // A caller's input: what is no level asks for nothing.
    if (level !== undefined && LOG_LEVELS.includes(level as string)) {
      this.logLevel = level as string;
    }
    this.polls = meta[POLLS_META] === true;
  }

  onUndeclared(required: Record<string, unknown>): void {
    this.undeclared = { ...this.undeclared, ...required };
  }
}

/** To a server of an older revision what is the newest revision's protocol means nothing. */
function isForOlderServers(key: string): boolean {
  return !key.startsWith(META_PREFIX) && !OWN_META.includes(key);
}

function legacyMeta(meta: Map<string, string>): Map<string, string> {
  return new Map([...meta].filter(([key]) => isForOlderServers(key)));
}

/** The client that a server sees is DTMA; what the caller can do is the caller's to say. */
function modernMeta(meta: Map<string, string>): Map<string, string> {
  const translated = new Map(meta)
    .set(META_PREFIX + "protocolVersion", JSON.stringify(WAIST_REVISION))
    .set(META_PREFIX + "clientInfo", JSON.stringify(CLIENT_INFO));
  if (!translated.has(CAPABILITIES_META)) {
    translated.set(CAPABILITIES_META, JSON.stringify(CLIENT_CAPABILITIES));
  }
  for (const key of OWN_META) translated.delete(key);
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

/**
 * A call failed after its server asked what the caller's client did not declare: the waist names what is
 * missing (2026-07-28, basic#error-codes), with the server's own error in the data.
 */
function missingCapability(
  { error, text = JSON.stringify(error) }: JsonRpcResponse,
  id: JsonRpcRequest["id"],
  required: Record<string, unknown>,
): JsonRpcResponse {
  // What went wrong on our side is no answer of the server's.
  if (OWN_CODES.has(error!.code)) return { jsonrpc: "2.0", id, error, text };
  const missing = Object.keys(required).join(", ");
  const members = new Map([
    ["code", String(MISSING_CAPABILITY)],
    ["message", JSON.stringify(`The server needs what the client did not declare: ${missing}`)],
    ["data", `{"requiredCapabilities":${JSON.stringify(required)},"${INPUT_ERROR}":${text}}`],
  ]);
  const own = objectText(members);
  return { jsonrpc: "2.0", id, error: JSON.parse(own), text: own };
}

/**
 * The capabilities of a server of 2024-11-05 that may complete: it had none by which to say so (2025-03-26,
 * changelog). One that does not says that it knows no such method.
 */
function withCompletions(capabilities: unknown): unknown {
  if (!isObject(capabilities)) return capabilities;
  const { prompts, resources } = capabilities;
  return isObject(prompts) || isObject(resources)
    ? { completions: {}, ...capabilities }
    : capabilities;
}

/** Whether a server refused a probe's version and names it as one that it supports. */
function mayTakeAnother({ error }: JsonRpcResponse): boolean {
  const supported = isObject(error?.data) ? error.data.supported : undefined;
  return error?.code === UNSUPPORTED_VERSION && Array.isArray(supported) &&
    supported.includes(WAIST_REVISION);
}

/** Absent means complete (2026-07-28, basic#resulttype); on the waist it is always said. */
function completed(
  response: JsonRpcResponse,
  id: JsonRpcRequest["id"],
  defaults?: Record<string, unknown>,
): JsonRpcResponse {
  if (response instanceof LargeResponse) return completedLarge(response, id, defaults);
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

function completedLarge(
  response: LargeResponse,
  id: JsonRpcRequest["id"],
  defaults?: Record<string, unknown>,
): LargeResponse {
  return response.with(
    id,
    response.keys.has("resultType") ? {} : { resultType: "complete", ...defaults },
  );
}

/** The word by which the adapter before a server says what is wrong with reaching it; null of others. */
function adviceOf({ data }: { data?: unknown }): keyof typeof ADVICE | null {
  const word = isObject(data) ? data[ADVICE_KEY] : undefined;
  return typeof word === "string" && Object.hasOwn(ADVICE, word)
    ? word as keyof typeof ADVICE
    : null;
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
