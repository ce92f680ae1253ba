/**
 * JSON-RPC 2.0 with one server over its stdio: many requests in flight, each with an id and a
 * progress token of our own, so that no caller can touch or see another's. Knows of MCP what says
 * whose a message is: progress tokens, ids of subscriptions, `notifications/cancelled`.
 */
import type { CallSignal } from "./call_signal.ts";
import { BriefMap } from "./brief_map.ts";
import { after, type Deadline } from "./deadlines.ts";
import { type Frame, FrameWriter, readFrames, type SentFrame } from "./frames.ts";
import { objectMembers, objectText } from "./json_text.ts";
import { type LargeFrame, LargeResponse } from "./large_response.ts";
import { ErrorCode, LET_GO_METHOD } from "./protocol.ts";

export type JsonRpcId = string | number;

/** A request as a client makes it. */
export interface JsonRpcRequest {
  jsonrpc: "2.0";
  id: JsonRpcId;
  method: string;
  params?: Record<string, unknown>;
  /** The text of `params`, where it came as text: it goes on to the server as it is written. */
  paramsText?: string;
}

export interface JsonRpcNotification {
  jsonrpc: "2.0";
  method: string;
  params?: Record<string, unknown>;
  /** The text of `params` as the server wrote it, but for the progress token. */
  paramsText?: string;
}

/** Has either `result` or `error`. Write it with {@link responseText}, which loses nothing. */
export interface JsonRpcResponse {
  jsonrpc: "2.0";
  id: JsonRpcId;
  result?: Record<string, unknown>;
  error?: { code: number; message: string; data?: unknown };
  /** The text of `result` or `error` as the server wrote it. */
  text?: string;
}

/** The response as one line of JSON, with the numbers and unknown parts the server wrote. */
export function responseText(response: JsonRpcResponse): string {
  const key = response.error ? "error" : "result";
  const text = response.text ?? JSON.stringify(response[key]);
  return `{"jsonrpc":"2.0","id":${JSON.stringify(response.id)},"${key}":${text}}`;
}

/** The notification as one line of JSON. */
export function notificationText({ method, params, paramsText }: JsonRpcNotification): string {
  const text = paramsText ?? (params === undefined ? undefined : JSON.stringify(params));
  return `{"jsonrpc":"2.0","method":${JSON.stringify(method)}${text ? `,"params":${text}` : ""}}`;
}

/** A response of our own, in place of one that the server did not give. */
export function errorResponse(id: JsonRpcId, code: number, message: string): JsonRpcResponse {
  return { jsonrpc: "2.0", id, error: { code, message } };
}

/** What is known of who makes a request, by what its params say. */
export class Caller {
  constructor(
    /** Tells callers apart; without it every request is another caller's. */
    readonly key?: unknown,
    /** What the caller's client can be asked. */
    readonly capabilities?: unknown,
    /** The tool, prompt or resource that is asked for. */
    readonly subject?: unknown,
  ) {}
}

export interface RequestOptions {
  /** Of a request that is not DTMA's own. */
  caller?: Caller;
  signal?: CallSignal;
  timeoutMs?: number;
  /** The text of the caller's own progress token; without it the server is asked for none. */
  progressToken?: string;
  /** Lowest level of log messages the caller wants, if any: one of {@link LOG_LEVELS}. */
  logLevel?: string;
  /** A request of DTMA's own that stays open: log messages are not about it. */
  background?: boolean;
  onNotification?: (notification: JsonRpcNotification) => void;
  /** The caller is told when the server lets go of the stream of its answer. */
  polls?: boolean;
  /** Told what the caller's client would have to declare to be asked what the server just asked. */
  onUndeclared?: (required: Record<string, unknown>) => void;
  /** Of a subscription of 2026-07-28: told what carries its id. The server may end it by cancelling. */
  onSubscribed?: (notification: JsonRpcNotification) => void;
}

/** A request that the server makes, which only older revisions allow. */
export interface ServerRequest {
  method: string;
  params: unknown;
  /** `{}` where there are none. */
  paramsText: string;
  /** Its id, as the server wrote it. */
  idText: string;
}

/** The text of what a request is answered with. */
export type Outcome = { result: string } | { error: string };

/** What a {@link Connection} asks of the layer above it. */
export interface Receiver {
  /** A notification that belongs to no call. */
  notification(notification: JsonRpcNotification): void;
  /** The server asks something, and waits for {@link Connection.answer}. */
  request(request: ServerRequest): void;
  /** Progress of a request that was answered, by the progress token that it had: as a task goes on. */
  lateProgress?(token: number, paramsText: string): void;
  log(line: string): void;
}

/**
 * A request that was made of the server.
 *
 * A class, as all that is there for as long as a call is: of an object literal whose objects outlive a small
 * collection or two V8 makes the next ones old at once, after which each stays, with all that it points to,
 * until the next full collection (measured with Deno 2.9: a fifth of what a call costs).
 */
export class OpenRequest {
  /** Gives a response to who waits; null while nobody does. */
  settle: ((response: JsonRpcResponse) => void) | null = null;
  /** What the server answered while nobody waited. */
  answer: JsonRpcResponse | null = null;
  /** Called when the server has answered or need not any more. */
  onEnd: ((isAnswered: boolean) => void) | null = null;
  /** It told of progress since its deadline was set. */
  isProgressing = false;

  constructor(
    readonly number: number,
    /** With which the server knows it, and its progress. */
    readonly id: number,
    readonly method: string,
    readonly frame: SentFrame,
    /** Of who waits for the answer; while nobody does, of who waited last. */
    public options: RequestOptions,
  ) {}
}

/** Lowest first. */
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

/**
 * After a call was given up and is not answered, what the server says of no call may still be about
 * it for this long: nobody else gets it.
 */
const ABANDONED_MS = 60_000;
const ABANDONED_LIMIT = 1000;

/** So many calls are given up before their server counts as mute: one caller may be impatient. */
const GIVEN_UP = 3;

/** Progress extends a call's time limit, but not for ever (2025-11-25, basic/lifecycle#timeouts). */
const LONGEST_MS = 24 * 60 * 60_000;

export const SUBSCRIPTION_META = "io.modelcontextprotocol/subscriptionId";

/** Errors of Mooring's own: a server that uses their codes must not pass for us. */
const OWN_CODES = new Set<number>(Object.values(ErrorCode));

/** Starts reading at once. */
export class Connection {
  /** Resolves with the reason, for a person, when the connection is over. */
  readonly closed: Promise<string>;
  readonly #writer: FrameWriter;
  readonly #receiver: Receiver;
  /** By small numbers, which a map finds sooner than large ones. */
  readonly #open = new BriefMap<number, OpenRequest>();
  /** Calls that were given up since the server last said anything, and when the first of them was. */
  #givenUp = 0;
  #givenUpMs = 0;
  /** Given up and not answered, the oldest first. */
  readonly #abandoned = new Map<unknown, { caller: Caller; atMs: number }>();
  /**
   * Where ids begin: random, so that an answer to an earlier connection's request is not taken for one to ours.
   * They are integers, as every SDK's are, for there are servers that take no others (metoro-io/mcp-golang); and
   * fit into 32 bits, which is what an integer is in many of their languages.
   */
  readonly #base = crypto.getRandomValues(new Uint32Array(1))[0] >>> 2;
  readonly #complain: (line: string) => void;
  readonly #reading = new AbortController();
  #lastNumber = 0;
  #over: string | null = null;
  #resolveClosed!: (reason: string) => void;

  constructor(
    stdio: { stdin: WritableStream<Uint8Array>; stdout: ReadableStream<Uint8Array> },
    receiver: Receiver,
    { isTakenOver = false }: { isTakenOver?: boolean } = {},
  ) {
    if (isTakenOver) this.#abandoned.set(null, { caller: UNKNOWN_CALLER, atMs: performance.now() });
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
    this.#receiver = receiver;
    this.#complain = rateLimited((line) => receiver.log(line));
    this.#writer = new FrameWriter(
      stdio.stdin,
      (error) => this.close(`The server's input is closed (${messageOf(error)})`),
    );
    // An earlier connection may have left half a line in the server's buffer.
    this.#writer.send("");
    readFrames(stdio.stdout, (frame) => this.#take(frame), { signal: this.#reading.signal })
      .then(
        () => this.close("The server's output ended"),
        (error) => this.close(`The server's output broke off (${messageOf(error)})`),
      );
  }

  /** Requests of callers that the server has not answered. */
  get inFlight(): number {
    let count = 0;
    for (const { options } of this.#open.values()) if (!options.background) count++;
    return count;
  }

  /**
   * For how many milliseconds the server has said nothing, since the first of {@link GIVEN_UP} calls or more
   * that nobody waits for any more; 0 without so many.
   */
  get muteMs(): number {
    return this.#givenUp < GIVEN_UP ? 0 : performance.now() - this.#givenUpMs;
  }

  /** The reason why the connection is over, or null while it is not. */
  get over(): string | null {
    return this.#over;
  }

  /**
   * Asks the server. What goes wrong is a response too, with a code of {@link ErrorCode}; only an
   * abort rejects, with the signal's reason. `id` of the response is ours. A request that tells of
   * progress has its `timeoutMs` again.
   *
   * @param paramsText the text of `params`, given the text of the progress token to use, if any
   */
  request(
    method: string,
    paramsText: (progressToken: string | undefined) => string | undefined,
    options: RequestOptions = {},
  ): Promise<JsonRpcResponse> {
    const number = ++this.#lastNumber;
    const id = this.#base + number;
    if (options.signal?.aborted) return Promise.reject(options.signal.reason);
    if (this.#over !== null) return Promise.resolve(notMade(id, this.#over));
    const idText = String(id);
    const params = paramsText(options.progressToken === undefined ? undefined : idText);
    const frame = this.#writer.send(
      `{"jsonrpc":"2.0","id":${idText},"method":${JSON.stringify(method)}` +
        `${params === undefined ? "" : `,"params":${params}`}}`,
    );
    if (!frame) return Promise.resolve(notMade(id, "The server does not read its input"));
    const open = new OpenRequest(number, id, method, frame, options);
    this.#open.set(number, open);
    return this.#answerTo(open, options);
  }

  /** Gives who waits for a request something else than its answer, which {@link resume} waits for. */
  interrupt(open: OpenRequest, response: JsonRpcResponse): void {
    open.settle?.(response);
  }

  /** Waits again for the answer to a request that was interrupted; see {@link request}. */
  resume(open: OpenRequest, options: RequestOptions): Promise<JsonRpcResponse> {
    if (open.answer) return Promise.resolve(open.answer);
    if (options.signal?.aborted) {
      this.abandon(open, CANCELLED);
      return Promise.reject(options.signal.reason);
    }
    return this.#answerTo(open, options);
  }

  #answerTo(open: OpenRequest, options: RequestOptions): Promise<JsonRpcResponse> {
    const { signal, timeoutMs } = options;
    const { promise, resolve, reject } = Promise.withResolvers<JsonRpcResponse>();
    const onAbort = () => {
      timer?.cancel();
      open.settle = null;
      this.abandon(open, CANCELLED);
      reject(signal!.reason);
    };
    let extensions = 0;
    const onLate = () => {
      if (open.isProgressing && ++extensions < LONGEST_MS / timeoutMs!) {
        open.isProgressing = false;
        timer = after(timeoutMs!, onLate);
        return;
      }
      const waited = `${timeoutMs! / 1000} s`;
      open.settle = null;
      resolve(
        this.abandon(open, `No answer within ${waited}`)
          ? notMade(open.id, `The server did not read its input for ${waited}`)
          : errorResponse(
            open.id,
            ErrorCode.timedOut,
            `The server did not answer within ${waited}. It was asked to cancel, and may have run ` +
              "the call",
          ),
      );
      signal?.removeEventListener("abort", onAbort);
    };
    let timer: Deadline | undefined = timeoutMs === undefined
      ? undefined
      : after(timeoutMs, onLate);
    signal?.addEventListener("abort", onAbort, { once: true });
    open.options = options;
    open.isProgressing = false;
    open.settle = (response) => {
      timer?.cancel();
      signal?.removeEventListener("abort", onAbort);
      open.settle = null;
      resolve(response);
    };
    return promise;
  }

  notify(method: string, params?: Record<string, unknown>): void {
    if (this.#over !== null) return;
    if (!this.#writer.send(notificationText({ jsonrpc: "2.0", method, params }))) {
      this.#complain(`${method} was not sent: the server does not read its input`);
    }
  }

  /** Answers a request of the server. */
  answer(idText: string, outcome: Outcome): void {
    if (this.#over !== null) return;
    const text = "result" in outcome ? `"result":${outcome.result}` : `"error":${outcome.error}`;
    if (!this.#writer.send(`{"jsonrpc":"2.0","id":${idText},${text}}`)) {
      this.#complain("A request of the server was not answered: it does not read its input");
    }
  }

  /** Callers' requests under way, the oldest first. */
  calls(): OpenRequest[] {
    return [...this.#open.values()].filter(({ options }) => options.caller);
  }

  /**
   * Whether what the server says, and does not say of which call, can be about calls of one caller
   * alone: those under way, and those that were given up just now.
   */
  areOneCallers(calls: OpenRequest[]): boolean {
    this.#forgetAbandoned();
    const abandoned = [...this.#abandoned.values()].map(({ caller }) => caller);
    const callers = [...calls.map(({ options }) => options.caller!), ...abandoned];
    return callers.every((each) => isSame(each, callers[0]));
  }

  /** The server let go of the stream on which it will answer a request: who polls is told. */
  tellLetGo({ requestId, retryMs }: Record<string, unknown>): void {
    const { settle, options } = this.#openBy(requestId) ?? {};
    if (!settle || !options?.polls || typeof retryMs !== "number") return;
    options.onNotification?.({ jsonrpc: "2.0", method: LET_GO_METHOD, params: { retryMs } });
  }

  /** Ends the connection; every request in flight is answered with what became of it. */
  close(reason: string): void {
    if (this.#over !== null) return;
    const message = `${reason} before it answered; the call may have run`;
    const ends: [OpenRequest, JsonRpcResponse][] = [...this.#open.values()].map((open) => {
      if (this.#writer.withdraw(open.frame)) return [open, notMade(open.id, reason)];
      if (!open.options.onSubscribed) {
        return [open, errorResponse(open.id, ErrorCode.indeterminate, message)];
      }
      // A server that runs on would tell whoever attaches to it next.
      this.notify("notifications/cancelled", { requestId: open.id, reason });
      return [open, streamEnd(open)];
    });
    this.#over = reason;
    for (const [open, response] of ends) this.#end(open, response);
    this.#writer.release();
    this.#reading.abort();
    this.#resolveClosed(reason);
  }

  /** Forgets a request and tells the server. @returns true when the server had not been given it */
  abandon(open: OpenRequest, reason: string): boolean {
    if (!this.#open.delete(open.number)) return false;
    const isWithdrawn = this.#writer.withdraw(open.frame);
    if (!isWithdrawn) {
      const { caller } = open.options;
      if (caller) {
        this.#forgetAbandoned();
        this.#abandoned.set(open.id, { caller, atMs: performance.now() });
      }
      this.notify("notifications/cancelled", { requestId: open.id, reason });
      // Not of DTMA's own: that a busy server lists nothing is no sign that it hangs.
      if (caller && this.#givenUp++ === 0) this.#givenUpMs = performance.now();
    }
    open.onEnd?.(false);
    return isWithdrawn;
  }

  /** @param id as the server wrote it */
  #openBy(id: unknown): OpenRequest | undefined {
    // As text too, in which some write it back.
    const written = typeof id === "string" && /^\d{1,10}$/.test(id) ? Number(id) : id;
    return typeof written === "number" ? this.#open.get(written - this.#base) : undefined;
  }

  #forgetAbandoned(): void {
    const sinceMs = performance.now() - ABANDONED_MS;
    for (const [id, { atMs }] of this.#abandoned) {
      if (atMs > sinceMs && this.#abandoned.size < ABANDONED_LIMIT) break;
      this.#abandoned.delete(id);
    }
  }

  #end(open: OpenRequest, response: JsonRpcResponse): void {
    this.#open.delete(open.number);
    if (open.settle) open.settle(response);
    else open.answer = response;
    open.onEnd?.(true);
  }

  /** What nobody can read ends no calls of others. */
  #take(frame: Frame): void {
    try {
      this.#receive(frame);
    } catch (error) {
      this.#complain(`The server wrote a message that cannot be read: ${messageOf(error)}`);
    }
  }

  #receive(frame: Frame): void {
    if (this.#over !== null) return;
    this.#givenUp = 0;
    if (frame.kind === "large") return this.#receiveLarge(frame);
    if (frame.kind !== "message") return this.#receiveBroken(frame);
    const { value, members, text } = frame;
    if (Array.isArray(value)) {
      // A batch, which MCP 2025-03-26 alone has (basic#batching); its numbers become JavaScript's.
      for (const each of value) {
        const inner = JSON.stringify(each);
        if (isObject(each)) this.#receiveMessage(each, (key) => objectMembers(inner).get(key)!);
      }
    } else if (isObject(value)) {
      this.#receiveMessage(value, (key) => members.textOf(key)!);
    } else this.#complain(`The server wrote a line that is not a message: ${quote(text)}`);
  }

  /** @param textOf the text of a member that is there */
  #receiveMessage(message: Record<string, unknown>, textOf: (key: string) => string): void {
    const { id, method, params } = message;
    if (typeof method === "string") {
      if (id !== undefined) this.#request(method, params, id, textOf);
      else if (method === "notifications/progress") this.#progress(params, textOf);
      else if (method === "notifications/message") this.#logMessage(params, textOf);
      else this.#notification(method, params, textOf);
      return;
    }
    this.#answered(id, (id) => this.#response(id, message, textOf));
  }

  #receiveLarge({ id, result, keys }: LargeFrame): void {
    this.#answered(id, (id) => new LargeResponse(id, [result], keys));
  }

  /** @param id what the server wrote in its place */
  #answered(id: unknown, response: (id: number) => JsonRpcResponse): void {
    const open = this.#openBy(id);
    if (open) this.#end(open, response(open.id));
    else if (id === null || !this.#abandoned.delete(id)) {
      this.#complain(`The server answered a request that is not open: id ${quote(String(id))}`);
    }
  }

  #request(method: string, params: unknown, id: unknown, textOf: (key: string) => string): void {
    if (typeof id !== "string" && typeof id !== "number") return;
    const paramsText = params === undefined ? "{}" : textOf("params");
    this.#receiver.request({ method, params, paramsText, idText: textOf("id") });
  }

  #notification(method: string, params: unknown, textOf: (key: string) => string): void {
    const notification: JsonRpcNotification = {
      jsonrpc: "2.0",
      method,
      ...(isObject(params) ? { params, paramsText: textOf("params") } : {}),
    };
    const { _meta, requestId } = notification.params ?? {};
    const isEnd = method === "notifications/cancelled";
    const id = isEnd ? requestId : isObject(_meta) ? _meta[SUBSCRIPTION_META] : undefined;
    const open = this.#openBy(id);
    if (open?.options.onSubscribed) {
      if (isEnd) this.#end(open, streamEnd(open));
      else open.options.onSubscribed(notification);
    }
    this.#receiver.notification(notification);
  }

  #response(
    id: number,
    { result, error }: Record<string, unknown>,
    textOf: (key: string) => string,
  ): JsonRpcResponse {
    // Some servers write `"error": null` beside a result.
    if (isObject(result) && (error === undefined || error === null)) {
      return { jsonrpc: "2.0", id, result, text: textOf("result") };
    }
    if (isObject(error) && Number.isInteger(error.code) && typeof error.message === "string") {
      const received = error as { code: number; message: string; data?: unknown };
      if (!OWN_CODES.has(received.code)) {
        return { jsonrpc: "2.0", id, error: received, text: textOf("error") };
      }
      const members = objectMembers(textOf("error")).set("code", "-32603");
      return {
        jsonrpc: "2.0",
        id,
        error: { ...received, code: -32603 },
        text: objectText(members),
      };
    }
    return broken(id, "is neither a result nor an error");
  }

  #receiveBroken(frame: Extract<Frame, { excerpt: unknown }>): void {
    const what = {
      "oversized": "longer than 4 MiB",
      "invalid-utf8": "not UTF-8",
      "not-json": "not JSON",
      "too-deep": "nested too deeply",
      "unfinished": "cut off in its middle",
    }[frame.kind];
    const { head, tail } = frame.excerpt;
    this.#complain(
      `The server wrote a line that is ${what} (${frame.lengthBytes} bytes): ${quote(head)}`,
    );
    // An answer, and no stray line that quotes our request: it begins an object with an outcome.
    if (!/^\s*\{/.test(head) || !/"(result|error)"\s*:/.test(head + tail)) return;
    const ids = [head, tail].flatMap((text) => [...text.matchAll(/"id"\s*:\s*"?(\d{1,10})/g)]);
    const open = ids.map(([, id]) => this.#openBy(id)).find((each) => each !== undefined);
    if (!open || frame.kind === "unfinished") return;
    const { id } = open;
    this.#end(
      open,
      frame.kind === "oversized"
        ? errorResponse(
          id,
          ErrorCode.answerTooLarge,
          `The server's answer has ${frame.lengthBytes} bytes, over the limit of 4 MiB. The call ` +
            "has run; ask for less at once",
        )
        : broken(id, `is ${what}`),
    );
  }

  #progress(params: unknown, textOf: (key: string) => string): void {
    const token = isObject(params) ? params.progressToken : undefined;
    const open = this.#openBy(token);
    if (!open && typeof token === "number") {
      return this.#receiver.lateProgress?.(token, textOf("params"));
    }
    if (!open?.settle || open.options.progressToken === undefined) return;
    open.isProgressing = true;
    const { progressToken, onNotification } = open.options;
    const members = objectMembers(textOf("params")).set("progressToken", progressToken);
    onNotification?.({
      jsonrpc: "2.0",
      method: "notifications/progress",
      params: { ...params as object, progressToken: JSON.parse(progressToken) },
      paramsText: objectText(members),
    });
  }

  /**
   * On stdio a log message does not say whose request it is about. It goes to a caller who asked for
   * it, and only when it can be nobody else's. Any other goes to the server's log.
   */
  #logMessage(params: unknown, textOf: (key: string) => string): void {
    if (!isObject(params)) return;
    const calls = this.calls();
    const options = this.areOneCallers(calls)
      ? calls.findLast(({ settle }) => settle)?.options
      : undefined;
    if (options?.onNotification && options.logLevel !== undefined) {
      if (LOG_LEVELS.indexOf(params.level as string) < LOG_LEVELS.indexOf(options.logLevel)) return;
      const paramsText = textOf("params");
      options.onNotification({
        jsonrpc: "2.0",
        method: "notifications/message",
        params,
        paramsText,
      });
      return;
    }
    const { level, data } = params;
    const message = typeof data === "string" ? data : JSON.stringify(data) ?? "";
    this.#complain(`[${String(level).slice(0, 20)}] ${message.slice(0, 500)}`);
  }
}

/** Of calls that an earlier connection made. */
const UNKNOWN_CALLER = new Caller();

const CANCELLED = "The caller cancelled the request";

function isSame(one: Caller, other: Caller): boolean {
  return one === other || one.key !== undefined && one.key === other.key;
}

/** What a subscription ends with when its server does not answer it. */
function streamEnd({ id }: OpenRequest): JsonRpcResponse {
  return { jsonrpc: "2.0", id, result: {}, text: "{}" };
}

function notMade(id: JsonRpcId, reason: string): JsonRpcResponse {
  return errorResponse(id, ErrorCode.serverUnavailable, `${reason}; the call was not made`);
}

function broken(id: JsonRpcId, how: string): JsonRpcResponse {
  return errorResponse(
    id,
    ErrorCode.indeterminate,
    `The server's answer ${how}; the call may have run`,
  );
}

/** At most ten lines in ten seconds, then how many were left out: a flood must not be a second one. */
export function rateLimited(log: (line: string) => void): (line: string) => void {
  let windowMs = -Infinity, count = 0;
  return (line) => {
    const now = performance.now();
    if (now - windowMs > 10_000) {
      if (count > 10) log(`(${count - 10} more lines like the ones before)`);
      windowMs = now;
      count = 0;
    }
    if (++count <= 10) log(line);
  };
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? text.slice(0, 200) + "…" : text);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
