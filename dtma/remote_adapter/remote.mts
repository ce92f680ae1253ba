/**
 * One MCP server over HTTP, of any revision: Streamable HTTP with a session (2025-03-26 to
 * 2025-11-25) or stateless (2026-07-28), or HTTP+SSE (2024-11-05), found by what the server answers
 * to `initialize` (2026-07-28, streamable-http#backward-compatibility). Messages pass as text,
 * unchanged but for line breaks between tokens.
 */
import { eventsOf, type ServerSentEvent } from "./event_stream.mts";
import { Buffer } from "node:buffer";
import { Credentials, HEADERS_METHOD, REFUSED_METHOD } from "./credentials.mts";
import { ParamHeaders, plainHeader } from "./param_headers.mts";

export interface RemoteOptions {
  url: URL;
  /**
   * The transport of a server that was started now in the same network, and is waited for; null of a
   * remote one, whose transport is found.
   */
  beside?: "streamable-http" | "sse" | null;
  /** Sent with every request; an account's come later, from DTMA. */
  headers: Record<string, string>;
  /** Told each message of the server, as one line. */
  write(line: string): void;
  /** Told what a person should know. */
  log(line: string): void;
}

/** A message as far as it is looked at. */
interface Message {
  id?: string | number;
  method?: string;
  params?: Record<string, unknown> & { _meta?: Record<string, unknown> };
  result?: Record<string, unknown>;
  error?: { code?: unknown } | null;
}

type Deliver = (text: string, message: Message) => void;

/** A frame of 4 MiB and what an envelope adds: what DTMA reads at most. */
const MESSAGE_LIMIT = 4 * 1024 * 1024 + 64 * 1024;
const REFUSAL_LIMIT = 64 * 1024;

/** Waits before a stream that broke is opened again; doubles. */
const RETRY_MS = 1000;
const LONGEST_RETRY_MS = 30_000;
/** Tries in a row to take up a call's answer again that bring nothing, before the call is given up. */
const RESUME_LIMIT = 5;
/** A stream that held so long did bring something: a server that works on. */
const HELD_MS = 1000;
const ENDPOINT_TIMEOUT_MS = 15_000;
/** A server that starts is waited for so long: less than DTMA waits for its handshake (instance.ts). */
const LISTEN_TIMEOUT_MS = 25_000;
/** First pause before its port is tried again; doubles. */
const LISTEN_RETRY_MS = 25;
const LONGEST_LISTEN_RETRY_MS = 500;
/** A call's stream should end with its answer: one that does not is ended after so long. */
const LINGER_MS = 1000;
/** How long a server is waited for when its session is ended. */
const GOODBYE_MS = 1000;

/** Told to DTMA (its protocol.ts has the name too): a call's stream was let go, and is asked for again. */
const LET_GO_METHOD = "dev.mooring/letGo";
/** Likewise: the session was lost, and another one is open. */
const REOPENED_METHOD = "dev.mooring/reopened";
/** Likewise: an error of a call that was not made, in a session that DTMA has not listed. */
const UNLISTED_CODE = -31020;

const TOOLS_CHANGED = "notifications/tools/list_changed";

/** What is called by an approved definition, by what lists it. */
const LISTED_BY: Record<string, string | undefined> = {
  "tools/list": "tools/call",
  "prompts/list": "prompts/get",
};

/**
 * How many servers say that they do not know a session (the SDK's examples, and all that was made after them),
 * where they should answer 404 (2025-11-25, transports#session-management).
 */
const SESSION_UNKNOWN =
  /\b(no|not|invalid|unknown|expired)\b.*\bsession\b|\bsession\b.*\b(not|invalid|unknown|expired)\b|\bnot initialized\b/i;

const REVISION_META = "io.modelcontextprotocol/protocolVersion";
const METHOD_NOT_FOUND = -32601;
const INTERNAL_ERROR = -32603;
const HEADER_MISMATCH = -32020;

/**
 * Node's fetch gives up an answer that is silent for 300 s (undici's headersTimeout and bodyTimeout: seen
 * with Node 24.21), and whoever calls a tool has a limit of its own. Undici is no module of Node's, so
 * an agent is made by the constructor of the one that is there once something was fetched.
 */
async function patientAgent(): Promise<object> {
  await (await fetch("data:,")).body?.cancel();
  const { [Symbol.for("undici.globalDispatcher.1")]: there } = globalThis as Record<
    symbol,
    { constructor: new (options: object) => unknown } | undefined
  >;
  return there ? { dispatcher: new there.constructor({ headersTimeout: 0, bodyTimeout: 0 }) } : {};
}

const PATIENT = await patientAgent();

/** What a person should look at when a session cannot be opened: DTMA's session.ts has the sentences. */
type Advice = "port" | "transport" | "url" | "path" | "credentials";
const ADVICE_KEY = "dev.mooring/advice";

/** Why the server gave no answer, for a person. */
class RemoteError extends Error {
  readonly code: number;
  readonly advice: Advice | null;
  constructor(message: string, advice: Advice | null = null, code = INTERNAL_ERROR) {
    super(message);
    this.advice = advice;
    this.code = code;
  }
}

/** No connection to the server could be made, or it broke before an answer. */
class Unreachable extends RemoteError {
  /** Nothing was sent: it did not take the request. */
  readonly isUnsent: boolean;
  constructor(message: string, advice: Advice, isUnsent: boolean) {
    super(message, advice);
    this.isUnsent = isUnsent;
  }
}

/** The server does not know the session any more: what was asked has not run. */
class SessionLost extends Error {
  /** Null of HTTP+SSE, whose sessions have no name. */
  readonly session: string | null;
  constructor(session: string | null) {
    super("The session was lost");
    this.session = session;
  }
}

/** A call that may be of something that nobody approved: DTMA lists anew, and makes it again itself. */
function unlisted(): RemoteError {
  const message = "The server ended the session; the call was not made";
  return new RemoteError(message, null, UNLISTED_CODE);
}

export class Remote {
  readonly #options: RemoteOptions;
  /** Where a redirect of the server's own moved it to. */
  #url: URL;
  readonly #inFlight = new Map<string | number, AbortController>();
  readonly #paramHeaders = new ParamHeaders();
  readonly #credentials: Credentials;
  /** Of the legacy session: the request that opened it, to open it again when it is lost. */
  #initialize: { line: string; message: Message } | null = null;
  #session: string | null = null;
  /** Of a server that was initialized, with a session's name or without. */
  #revision: string | null = null;
  /** It was lost, and is not open again. */
  #isLost = false;
  /** What is called by definitions that DTMA knows of a session before this one alone. */
  readonly #unlisted = new Set<string | undefined>();
  #reopening: Promise<void> | null = null;
  /** Ends the streams of a session: its GET stream, or that of HTTP+SSE. */
  #sessionLife = new AbortController();
  /** It speaks HTTP+SSE, and not Streamable HTTP. */
  #isSse: boolean;
  /** Where messages go with HTTP+SSE, while its stream is open. */
  #endpoint: URL | null = null;

  constructor(options: RemoteOptions) {
    this.#options = options;
    this.#url = options.url;
    this.#isSse = options.beside === "sse";
    this.#credentials = new Credentials(
      options.headers,
      (params) => options.write(JSON.stringify({ jsonrpc: "2.0", method: REFUSED_METHOD, params })),
    );
  }

  /** Passes a message on. Never rejects: what goes wrong with a request is its answer. */
  async receive(line: string): Promise<void> {
    if (line.trim() === "") return;
    let message: Message;
    try {
      message = JSON.parse(line);
    } catch {
      return this.#options.log("A line that is not JSON was left out");
    }
    const { id, method } = message;
    if (method === HEADERS_METHOD && id === undefined) {
      return this.#credentials.renew(message.params?.headers);
    }
    if (method === "notifications/cancelled") return await this.#cancel(line, message);
    if (id === undefined || method === undefined) {
      await this.#send(line, message, undefined).catch((error) =>
        this.#options.log(`${method ?? "A response"} was not taken: ${messageOf(error)}`)
      );
      if (method === "notifications/initialized") this.#listen();
      return;
    }
    const call = new AbortController();
    this.#inFlight.set(id, call);
    try {
      await this.#request(line, message, call.signal);
    } catch (error) {
      if (!call.signal.aborted) this.#answer(id, method, error);
    } finally {
      this.#inFlight.delete(id);
    }
  }

  /** Ends the session at the server and all that is under way. */
  async close(): Promise<void> {
    this.#sessionLife.abort();
    for (const call of this.#inFlight.values()) call.abort();
    await this.#endSession();
  }

  async #endSession(): Promise<void> {
    if (this.#session === null) return;
    await fetch(this.#url, {
      method: "DELETE",
      // As #fetchOnce: another origin must not get the headers.
      redirect: "manual",
      headers: { ...this.#credentials.headers, ...this.#headers({}) },
      signal: AbortSignal.timeout(GOODBYE_MS),
    }).catch(() => {});
  }

  async #request(line: string, message: Message, signal: AbortSignal): Promise<void> {
    if (message.method === "initialize") {
      // Of a DTMA before, which did not end it: so that the server does not keep it for ever.
      void this.#endSession();
      this.#forgetSession();
      this.#isSse = this.#options.beside === "sse";
      this.#isLost = false;
      this.#unlisted.clear();
      this.#initialize = { line, message };
    } else if (this.#isLost) await this.#reopen();
    // Asked for since: DTMA holds calls back meanwhile, and what comes behind this goes by its answer.
    else this.#unlisted.delete(LISTED_BY[message.method!]);
    if (this.#unlisted.has(message.method)) throw unlisted();
    try {
      await this.#send(line, message, signal);
    } catch (error) {
      if (!(error instanceof SessionLost) || message.method === "initialize") throw error;
      // Another call may have found it lost, and opened another one, since this one was sent.
      if (error.session === null || error.session === this.#session || this.#reopening) {
        await this.#reopen();
      }
      if (Object.values(LISTED_BY).includes(message.method)) throw unlisted();
      await this.#send(line, message, signal);
    }
  }

  /** To whichever transport the server has. */
  async #send(
    line: string,
    message: Message,
    signal: AbortSignal | undefined,
    deliver: Deliver = (text) => this.#options.write(text),
  ): Promise<void> {
    if (this.#isSse) {
      // Its revisions are older than any discovery.
      if (message.method === "server/discover") throw methodNotFound();
      if (!this.#endpoint && message.method !== "initialize") throw new SessionLost(null);
      if (!this.#endpoint) await this.#openEndpoint();
      return await this.#sendToEndpoint(line, message, signal, deliver);
    }
    const session = this.#session;
    const response = await this.#post(line, message, signal);
    const type = response.headers.get("content-type") ?? "";
    if (!response.ok) return await this.#refused(response, session, line, message, signal, deliver);
    if (message.method === "initialize") this.#session = response.headers.get("mcp-session-id");
    const noting: Deliver = (text, received) => {
      deliver(this.#note(message, received) ?? text, received);
    };
    if (type.startsWith("text/event-stream")) {
      await this.#followAnswer(response, message, signal, noting);
    } else if (message.id !== undefined && message.method !== undefined) {
      const text = oneLine(await bodyText(response, MESSAGE_LIMIT));
      const received = parsed(text);
      if (received?.id !== message.id) {
        throw new RemoteError(`The server answered ${message.method} with no answer to it`);
      }
      noting(text, received);
    } else await response.body?.cancel();
  }

  async #post(
    body: string,
    message: Message,
    signal: AbortSignal | undefined,
  ): Promise<Response> {
    const url = this.#url, headers = this.#headers(message);
    const isFirst = message.method === "initialize" || message.method === "server/discover";
    const response = await this.#fetch(url, { method: "POST", headers, body, signal }, isFirst);
    const moved = movedTo(response, url);
    if (!moved) return response;
    await response.body?.cancel();
    this.#url = moved;
    return await this.#fetch(moved, { method: "POST", headers, body, signal });
  }

  /**
   * With the credentials of now; one that is refused is made again once, when they are renewed.
   *
   * @param isFirst a server beside that does not listen yet is waited for
   * @param patience for streams on which nobody's answer comes: they are opened anew after a silence
   */
  async #fetch(
    url: URL,
    init: RequestInit & { headers: Record<string, string> },
    isFirst = false,
    patience = PATIENT,
  ): Promise<Response> {
    for (let isAgain = false;; isAgain = true) {
      const sent = this.#credentials.headers;
      const headers = { ...sent, ...init.headers };
      const response = await this.#fetchOnce(url, { ...init, ...patience, headers }, isFirst);
      // A request that is refused has not run.
      const isRefused = response.status === 401 || response.status === 403;
      if (!isRefused || isAgain) return response;
      if (!await this.#credentials.afterRefusal(response, sent, init.signal)) return response;
      // It may have broken off meanwhile.
      await response.body?.cancel().catch(() => {});
    }
  }

  async #fetchOnce(url: URL, init: RequestInit, isFirst: boolean): Promise<Response> {
    const isBeside = this.#options.beside != null;
    const deadline = performance.now() + (isFirst && isBeside ? LISTEN_TIMEOUT_MS : 0);
    for (let waitMs = LISTEN_RETRY_MS;; waitMs = Math.min(2 * waitMs, LONGEST_LISTEN_RETRY_MS)) {
      try {
        // By hand: another origin must not get the headers, which hold secrets.
        return await fetch(url, { ...init, redirect: "manual" });
      } catch (error) {
        init.signal?.throwIfAborted();
        if (isUnsent(error) && performance.now() + waitMs < deadline) {
          await pause(waitMs, init.signal ?? undefined);
        } else throw isBeside ? notListening(url, error) : notAnswering(url, error);
      }
    }
  }

  /** An answer that comes as a stream, which is taken up again where it breaks, if it says how. */
  async #followAnswer(
    response: Response,
    message: Message,
    signal: AbortSignal | undefined,
    deliver: Deliver,
  ): Promise<void> {
    let isAnswered = false, last: ServerSentEvent | null = null, stream: Response | null = response;
    // A server may have its client come back as often as it likes (2025-11-25, transports): what is
    // counted is what brings nothing.
    for (let failures = 0;;) {
      const openedMs = performance.now(), before: ServerSentEvent | null = last;
      let isLetGo = false;
      try {
        if (stream?.body) {
          for await (const event of eventsOf(stream.body, MESSAGE_LIMIT)) {
            last = event;
            const text = oneLine(event.data), received = parsed(text);
            if (!received) continue;
            deliver(text, received);
            if (isAnswered || received.method !== undefined || received.id !== message.id) continue;
            isAnswered = true;
            setTimeout(() => this.#inFlight.get(message.id!)?.abort(), LINGER_MS);
          }
          isLetGo = true;
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof RangeError) throw new RemoteError(TOO_LARGE);
      }
      if (isAnswered || message.id === undefined) return;
      signal?.throwIfAborted();
      const hasHeld = stream !== null && performance.now() - openedMs >= HELD_MS;
      failures = last !== before || hasHeld ? 0 : failures + 1;
      if (last?.id == null || this.#revision === null || failures === RESUME_LIMIT) break;
      const retryMs = last.retryMs ?? RETRY_MS;
      if (isLetGo) this.#tellLetGo(message.id, retryMs);
      await pause(retryMs, signal);
      stream = await this.#openStream(last.id, signal).catch(() => null);
    }
    throw new RemoteError("The server's answer broke off: the call may have run");
  }

  #tellLetGo(requestId: Message["id"], retryMs: number): void {
    const params = { requestId, retryMs };
    this.#options.write(JSON.stringify({ jsonrpc: "2.0", method: LET_GO_METHOD, params }));
  }

  async #openStream(
    lastId: string | null,
    signal: AbortSignal | undefined,
    isFirst = false,
    patience?: object,
  ): Promise<Response> {
    const headers = {
      ...this.#headers({}),
      accept: "text/event-stream",
      ...(lastId === null ? {} : { "last-event-id": lastId }),
    };
    return await this.#fetch(this.#url, { headers, signal }, isFirst, patience);
  }

  /** The stream of what the server says by itself (2025-11-25, transports#listening-for-messages). */
  async #listen(): Promise<void> {
    if (this.#isSse || this.#revision === null) return;
    const { signal } = this.#sessionLife;
    let lastId: string | null = null, waitMs = RETRY_MS;
    while (!signal.aborted) {
      try {
        const response = await this.#openStream(lastId, signal, false, {});
        const type = response.headers.get("content-type") ?? "";
        // 4xx: there is no such stream; but for what is over after a while.
        const isRefused = response.status >= 400 && response.status < 500;
        if (isRefused && ![408, 429].includes(response.status)) {
          return void response.body?.cancel().catch(() => {});
        }
        if (response.ok && type.startsWith("text/event-stream")) {
          waitMs = RETRY_MS;
          for await (const event of eventsOf(response.body!, MESSAGE_LIMIT)) {
            lastId = event.id;
            waitMs = event.retryMs ?? RETRY_MS;
            const text = oneLine(event.data);
            if (parsed(text)) this.#options.write(text);
          }
        } else await response.body?.cancel();
      } catch {
        // Opened again below.
      }
      await pause(waitMs, signal).catch(() => {});
      waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS);
    }
  }

  /** What an error status says; `initialize` is tried again over HTTP+SSE where it may mean that. */
  async #refused(
    response: Response,
    /** That it was asked in. */
    session: string | null,
    line: string,
    message: Message,
    signal: AbortSignal | undefined,
    deliver: Deliver,
  ): Promise<void> {
    const { status } = response;
    const text = await bodyText(response, REFUSAL_LIMIT).catch(() => "");
    const received = parsed(text);
    const isLost = status === 404 || status === 400 && SESSION_UNKNOWN.test(text.slice(0, 1000));
    if (isLost && session !== null && message.method !== "initialize") {
      throw new SessionLost(session);
    }
    // Not OAuth's, which is a word in the same place.
    if (typeof received?.error === "object" && received.error !== null) {
      // A tool wants other headers than it listed (2026-07-28, streamable-http#client-behavior): it is another
      // one, which nobody approved, so it is listed anew and not called again from here.
      if (received.error.code === HEADER_MISMATCH && message.method === "tools/call") {
        this.#options.write(JSON.stringify({ jsonrpc: "2.0", method: TOOLS_CHANGED }));
      }
      if (message.id !== undefined) deliver(withId(text, message.id), received);
      return;
    }
    const mayBeSse = this.#options.beside == null && [400, 404, 405].includes(status);
    if (message.method === "initialize" && mayBeSse) {
      await this.#openEndpoint();
      return await this.#send(line, message, signal, deliver);
    }
    if (message.method === "server/discover" && status >= 400 && status < 500 && status !== 429) {
      // A server of an older revision: DTMA goes on with `initialize`.
      throw methodNotFound();
    }
    throw this.#refusal(response, text);
  }

  #refusal(response: Response, text = ""): RemoteError {
    const { status } = response, { port, pathname } = this.#url;
    // Which says it in a sentence (egress_proxy/http_side.mts).
    const byProxy = /^Mooring's egress proxy: \S+: (.{1,300})/.exec(text)?.[1];
    if (byProxy) return new RemoteError(byProxy, "url");
    if (this.#options.beside != null) {
      const where = `port ${port} and path ${pathname}`;
      return new RemoteError(`The server answers ${status} at ${where}`, "transport");
    }
    const advice = [401, 403].includes(status)
      ? "credentials"
      : [404, 405].includes(status)
      ? "path"
      : "url";
    return new RemoteError(refusal(response, this.#credentials.isAccount), advice);
  }

  // ── HTTP+SSE (2024-11-05, transports#http-with-sse) ──────────────────────────────────────────────

  /** Opens the stream, whose first event says where messages go. */
  async #openEndpoint(): Promise<void> {
    const life = this.#sessionLife;
    const response = await this.#openStream(null, life.signal, true);
    const type = response.headers.get("content-type") ?? "";
    if (!response.ok || !type.startsWith("text/event-stream")) {
      await response.body?.cancel();
      throw this.#refusal(response);
    }
    const { promise, resolve, reject } = Promise.withResolvers<URL>();
    const neither = new RemoteError(
      "The server speaks neither Streamable HTTP nor HTTP+SSE at this path",
      this.#options.beside == null ? "path" : "transport",
    );
    const timer = setTimeout(() => reject(neither), ENDPOINT_TIMEOUT_MS);
    this.#readEndpoint(response, life, resolve).catch(reject).then(() =>
      reject(new RemoteError("The server's stream ended at once"))
    );
    try {
      this.#endpoint = await promise;
      this.#isSse = true;
    } finally {
      clearTimeout(timer);
    }
  }

  async #readEndpoint(
    response: Response,
    life: AbortController,
    found: (endpoint: URL) => void,
  ): Promise<void> {
    try {
      for await (const event of eventsOf(response.body!, MESSAGE_LIMIT)) {
        if (event.type === "endpoint") {
          const endpoint = new URL(event.data, this.#url);
          // Another origin must not get the headers, which hold secrets.
          if (endpoint.origin !== this.#url.origin) {
            throw new RemoteError(
              `The server wants messages at another host, ${endpoint.host}`,
            );
          }
          found(endpoint);
          continue;
        }
        const text = oneLine(event.data), received = parsed(text);
        if (received) this.#deliverFromStream(text, received);
      }
    } finally {
      if (this.#sessionLife === life && !life.signal.aborted) {
        this.#endpoint = null;
        this.#session = null;
        this.#loseAnswers();
      }
    }
  }

  /** Requests that wait for their answer on the stream of HTTP+SSE. */
  readonly #waiting = new Map<
    string | number,
    { deliver: Deliver; resolve(): void; reject(error: unknown): void }
  >();

  /** No stream is there any more on which they could come. */
  #loseAnswers(): void {
    for (const { reject } of this.#waiting.values()) {
      reject(new RemoteError("The server's stream broke off: the call may have run"));
    }
    this.#waiting.clear();
  }

  #deliverFromStream(text: string, received: Message): void {
    const { id, method } = received;
    const call = method === undefined && id !== undefined ? this.#waiting.get(id) : undefined;
    if (!call) return this.#options.write(text);
    this.#waiting.delete(id!);
    call.deliver(text, received);
    call.resolve();
  }

  async #sendToEndpoint(
    line: string,
    message: Message,
    signal: AbortSignal | undefined,
    deliver: Deliver,
  ): Promise<void> {
    const { id, method } = message;
    const lost = new AbortController();
    const until = signal ? AbortSignal.any([signal, lost.signal]) : lost.signal;
    const posted = this.#postToEndpoint(line, until);
    if (id === undefined || method === undefined) return await posted;
    posted.catch(() => {});
    const answered = Promise.withResolvers<void>();
    answered.promise.catch(() => {});
    this.#waiting.set(id, { ...answered, deliver });
    signal?.addEventListener("abort", () => answered.reject(signal.reason), { once: true });
    try {
      // A server that lost the stream may leave the POST without an answer.
      await Promise.race([posted.then(() => answered.promise), answered.promise]);
    } catch (error) {
      lost.abort();
      throw error;
    } finally {
      this.#waiting.delete(id);
    }
  }

  async #postToEndpoint(body: string, signal: AbortSignal): Promise<void> {
    const headers = { "content-type": "application/json" };
    const response = await this.#fetch(this.#endpoint!, { method: "POST", headers, body, signal });
    await response.body?.cancel();
    if (response.status === 404) throw new SessionLost(null);
    if (!response.ok) throw this.#refusal(response);
  }

  // ── The session ──────────────────────────────────────────────────────────────────────────────────

  /** Opens a lost session again, once for all who found it lost. */
  #reopen(): Promise<void> {
    this.#reopening ??= (async () => {
      const opened = this.#initialize;
      if (!opened) throw new RemoteError("The server ended the session");
      this.#options.log("The server ended the session; another one is opened");
      this.#isLost = true;
      this.#forgetSession();
      let failed = false;
      const deliver: Deliver = (_, received) => failed ||= "error" in received;
      await this.#send(opened.line, opened.message, this.#sessionLife.signal, deliver);
      if (failed) throw new RemoteError("The server refused another session");
      const initialized = { method: "notifications/initialized" };
      await this.#send(JSON.stringify({ jsonrpc: "2.0", ...initialized }), initialized, undefined);
      this.#isLost = false;
      for (const method of Object.values(LISTED_BY)) this.#unlisted.add(method);
      this.#options.write(JSON.stringify({ jsonrpc: "2.0", method: REOPENED_METHOD }));
      this.#listen();
    })().finally(() => this.#reopening = null);
    return this.#reopening;
  }

  #forgetSession(): void {
    this.#sessionLife.abort();
    this.#sessionLife = new AbortController();
    this.#loseAnswers();
    this.#session = this.#revision = this.#endpoint = null;
  }

  /** 2026-07-28 cancels by closing the request's own stream; older ones by a message. */
  async #cancel(line: string, message: Message): Promise<void> {
    const call = this.#inFlight.get(message.params?.requestId as string | number);
    if (this.#revision !== null || this.#endpoint) {
      await this.#send(line, message, undefined).catch(() => {});
    }
    call?.abort();
  }

  /**
   * Takes what later requests need out of an answer.
   * @returns another text for it, where it lists a tool that must not be listed; else null
   */
  #note({ method, params }: Message, received: Message): string | null {
    const { result } = received;
    if (!result) return null;
    if (method === "initialize") this.#revision = String(result.protocolVersion);
    if (method !== "tools/list" || !Array.isArray(result.tools)) return null;
    const refused = this.#paramHeaders.learn(result.tools);
    // To older revisions the annotation means nothing.
    if (refused.size === 0 || params?._meta?.[REVISION_META] === undefined) return null;
    for (const why of refused.values()) this.#options.log(`A tool is left out, ${why}`);
    const tools = result.tools.filter((tool) => !refused.has(tool));
    return JSON.stringify({ ...received, result: { ...result, tools } });
  }

  #headers({ method, params }: Message): Record<string, string> {
    const headers: Record<string, string> = {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
    };
    const stateless = params?._meta?.[REVISION_META];
    if (typeof stateless === "string" && method !== undefined) {
      const name = method === "resources/read"
        ? params!.uri
        : method.startsWith("tasks/")
        ? params!.taskId
        : params!.name;
      return {
        ...headers,
        "mcp-protocol-version": stateless,
        "mcp-method": method,
        ...(typeof name === "string" ? { "mcp-name": plainHeader(name) } : {}),
        ...(method === "tools/call" ? this.#paramHeaders.of(params!) : {}),
      };
    }
    if (this.#session !== null) headers["mcp-session-id"] = this.#session;
    if (this.#revision !== null) headers["mcp-protocol-version"] = this.#revision;
    return headers;
  }

  #answer(id: string | number, method: string, error: unknown): void {
    const { code, advice } = error instanceof RemoteError
      ? error
      : { code: INTERNAL_ERROR, advice: null };
    // What of them was taken matters to nobody.
    const isOwn = ["initialize", "server/discover", "ping"].includes(method);
    let message = error instanceof SessionLost
      ? "The server ended the session twice in a row; the call was not made"
      : messageOf(error);
    if (error instanceof Unreachable && !isOwn) {
      message += error.isUnsent
        ? "; the call was not made"
        : ". Whether it took the request is not known";
    }
    // The probe that comes before `initialize` finds the same; of a session that was lost is told once.
    if (method !== "server/discover" && code !== UNLISTED_CODE) this.#options.log(message);
    const data = isOwn && advice ? { data: { [ADVICE_KEY]: advice } } : {};
    this.#options.write(JSON.stringify({ jsonrpc: "2.0", id, error: { code, message, ...data } }));
  }
}

const TOO_LARGE = "The server's answer is over 4 MiB. The call has run; ask for less at once";

function methodNotFound(): RemoteError {
  return new RemoteError("Method not found", null, METHOD_NOT_FOUND);
}

/** A server in a container beside, which runs: it would be ended with this one otherwise. */
function notListening({ port }: URL, error: unknown): Unreachable {
  const code = codeOf(error);
  return isUnsent(error)
    ? new Unreachable(`The container runs, but nothing answers on port ${port}`, "port", true)
    : new Unreachable(
      `The server broke off the connection to its port ${port}${code && ` (${code})`}`,
      "transport",
      false,
    );
}

function notAnswering(url: URL, error: unknown): Unreachable {
  const code = codeOf(error);
  const [, why] = REASONS.find(([pattern]) => pattern.test(code)) ?? [null, messageOf(error)];
  // It goes through a proxy, which may have taken a connection that led nowhere.
  return new Unreachable(
    `${url.host} does not answer: ${why}${code && ` (${code})`}`,
    "url",
    false,
  );
}

const REASONS: [RegExp, string][] = [
  [/^ECONNREFUSED$/, "it refuses the connection"],
  [/^(ENOTFOUND|EAI_AGAIN)$/, "its name has no address"],
  [/TIMEOUT|^ETIMEDOUT$/, "it took too long"],
  [/^(ECONNRESET|EPIPE|UND_ERR_SOCKET)$/, "it broke off the connection"],
  // As the egress proxy says it over TLS.
  [/ALERT_INTERNAL_ERROR$/, "nothing takes connections there"],
  [/ALERT_ACCESS_DENIED$/, "it may not be reached from this toolbox"],
  [/CERT|SELF_SIGNED|UNABLE_TO_/, "its certificate is not one that is trusted here"],
  [/SSL|TLS|^EPROTO$/, "it does not speak TLS there"],
];

/** Of each address that was tried no connection was made. */
function isUnsent(error: unknown): boolean {
  const { cause } = error as { cause?: { code?: string; errors?: { code?: string }[] } };
  const tried = cause?.errors ?? [cause];
  return tried.every((each) => /^(ECONNREFUSED|EADDRNOTAVAIL|ENETUNREACH)$/.test(each?.code ?? ""));
}

function codeOf(error: unknown): string {
  return (error as { cause?: { code?: string } }).cause?.code ?? "";
}

/** A redirect within the server's own origin, as frameworks make for a missing slash at the end. */
function movedTo(response: Response, from: URL): URL | null {
  if (response.status !== 307 && response.status !== 308) return null;
  const location = response.headers.get("location");
  if (!location || !URL.canParse(location, from)) return null;
  const to = new URL(location, from);
  return to.origin === from.origin ? to : null;
}

function refusal(response: Response, isAccount: boolean): string {
  const { status, headers } = response;
  if (isAccount && status === 401) {
    return "The remote server refused the account that Mooring signed in with (401), and it could not be " +
      "renewed just now: sign in again on the server's page";
  }
  const challenge = response.headers.get("www-authenticate") ?? "";
  if (isAccount && status === 403 && /\binsufficient_scope\b/.test(challenge)) {
    return "The remote server wants more rights for this than the account was given (403): sign in again " +
      "on the server's page, which asks for them";
  }
  if (status === 401 || status === 403) {
    const how = headers.get("www-authenticate");
    const scheme = how ? `, and asks for ${how.slice(0, 200)}` : "";
    return `The remote server refused the credentials (${status}${scheme}): check the headers that it gets`;
  }
  if (status === 429) {
    const after = headers.get("retry-after");
    return `The remote server takes no more requests for now (429)${
      after ? `; try again after ${after.slice(0, 40)}${/^\d+$/.test(after) ? " s" : ""}` : ""
    }`;
  }
  if (status >= 300 && status < 400) {
    const location = headers.get("location")?.slice(0, 200) ?? "nowhere";
    return `The remote server moved to ${location} (${status}): give that URL instead`;
  }
  return `The remote server answered ${status}`;
}

/** @throws {RemoteError} when it is longer than `limit` bytes */
async function bodyText(response: Response, limit: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > limit) throw new RemoteError(TOO_LARGE);
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

function parsed(text: string): Message | null {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : null;
  } catch {
    return null;
  }
}

/** In JSON a line break stands between tokens alone. */
function oneLine(text: string): string {
  return text.replaceAll(/[\r\n]+/g, " ").trim();
}

/** An error's text under the request's id, which a server that refuses early does not say. */
function withId(text: string, id: string | number): string {
  return JSON.stringify({ ...JSON.parse(text), jsonrpc: "2.0", id });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
