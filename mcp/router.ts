/** From the bridge to the toolbox that runs a server: over a link, else one signed HTTP request per call. */
import {
  abortSignalOf,
  boundedBody,
  type CallSignal,
  ErrorCode,
  FRAME_LIMIT_BYTES,
  type Link,
  LinkError,
  objectMembers,
  objectText,
  type SigningKey,
  signRequest,
} from "../dtma/protocol.ts";
import { LargeAnswer } from "./large_answer.ts";
import type { Links, Target, Way } from "./links.ts";
import { isObject } from "./revisions.ts";

/** A call's end: the text of its `result` or of its `error`, as the server wrote it. */
export interface Answer {
  kind: "result" | "error";
  text: string;
}

/** A quick look whether a result's `resultType` may be this one. */
export function mayHaveType(answer: Answer, type: string): boolean {
  const quoted = `"${type}"`;
  return answer instanceof LargeAnswer
    ? answer.member("resultType") === quoted
    : answer.text.includes(quoted);
}

/**
 * An answer for a client that knows complete results alone, to which one of another type is none (2026-07-28,
 * basic#resulttype): it becomes an error that has the result in its data.
 */
export function ifComplete(answer: Answer): Answer {
  if (answer.kind === "error") return answer;
  const written = answer instanceof LargeAnswer
    ? answer.member("resultType")
    : objectMembers(answer.text).get("resultType");
  return isComplete(written) ? answer : incomplete(answer, written!);
}

/** Whether a result is complete by the text of its `resultType`, which those of older revisions have not. */
export function isComplete(written: string | undefined): boolean {
  return written === undefined || written === `"complete"` || JSON.parse(written) === "complete";
}

/** The error that {@link ifComplete} makes of a result of another type. */
export function incomplete(answer: Answer, written: string): Answer {
  const { text } = failure(
    ErrorCode.indeterminate,
    `The server answered with a result of the type ${
      written.slice(0, 100)
    }, which its caller does not know. ` +
      "What was asked of it may have been done; the result is in this error's data",
  );
  const data = objectText(new Map([["dev.mooring/result", answer.text]]));
  return { kind: "error", text: objectText(objectMembers(text).set("data", data)) };
}

/** A quick look whether a result may have a member of this name, which an escape may be written in. */
export function mayHave(answer: Answer, name: string): boolean {
  return answer instanceof LargeAnswer || answer.text.includes(name) || answer.text.includes("\\u");
}

export interface CallOptions {
  signal?: CallSignal;
  /**
   * Told each notification that comes before the answer, as one line of JSON. While a returned promise
   * is pending a link holds the server's next ones back.
   */
  onNotification?: (text: string) => unknown;
  /**
   * Told when the server lets go of the stream on which it will answer, to be asked again after a while:
   * of who can let go as well. (askServer tells it apart from notifications.)
   */
  onLetGo?: (retryMs: number) => void;
  /** It has no end of its own: a link that ends does not wait for it. */
  endsWithLink?: boolean;
}

export interface RouterDeps {
  appSigningKey: SigningKey;
  /** Null on an edge isolate, which does not live long enough for them. */
  links: Links | null;
}

/**
 * Sends one request of the waist to a server's toolbox.
 *
 * Never throws but when `options.signal` aborts: what goes wrong on the way is an {@link Answer} with
 * an error of {@link ErrorCode}. A request that surely was not served is `serverUnavailable`; one
 * that may have been is `indeterminate`, and must not be repeated by itself.
 *
 * @param target the server, and its toolbox
 * @param body the JSON-RPC request's text
 */
export async function callServer(
  deps: RouterDeps,
  target: Target,
  body: string,
  options: CallOptions = {},
): Promise<Answer> {
  for (let isSecond = false;; isSecond = true) {
    const found = deps.links ? deps.links.wayTo(target, options.signal) : wayOf(target);
    const way = found instanceof Promise ? await found : found;
    if ("unavailable" in way) return notMade(`The server cannot be reached: ${way.unavailable}`);
    if ("base" in way) {
      const asked = request(deps.appSigningKey, way.base, target, body, options);
      if (!options.endsWithLink) deps.links?.waitFor(asked);
      const answer = await asked;
      if (answer) return answer;
      deps.links?.forget(target.toolboxId);
    } else {
      const answer = await callOver(way.link, target, body, options);
      if (answer) return answer;
    }
    if (isSecond) return notMade("The link to the toolbox broke");
  }
}

/** The way without links. */
function wayOf({ reach, address }: Target): Way {
  if (reach === "tunnel") return { unavailable: "only a long-lived app can reach its toolbox" };
  return address === null
    ? { unavailable: "its toolbox gave no address that calls may go to" }
    : { base: new URL(address) };
}

/**
 * Calls over a link. What {@link callServer} says of the answer holds here too.
 *
 * @returns null when the call was surely not made, and may be made again on another link
 */
export function callOver(
  link: Link,
  target: Pick<Target, "serverId" | "instance">,
  body: string,
  options: CallOptions,
): Promise<Answer | null> {
  return link.call(target, body, options).then(answerOfLink, (error) => {
    options.signal?.throwIfAborted();
    if (error instanceof RangeError) return failure(ErrorCode.answerTooLarge, TOO_LARGE);
    if (!(error instanceof LinkError)) throw error;
    if (!error.mayHaveRun) return null;
    return failure(
      ErrorCode.indeterminate,
      `The link to the toolbox broke (${error.message}): the call may have run`,
    );
  });
}

function answerOfLink(answer: string | Uint8Array): Answer {
  return typeof answer === "string" ? answerIn(answer, 200, null) : largeAnswer(answer);
}

/**
 * One signed request: to the data path of a toolbox, or to the replica that forwards to it.
 *
 * @returns null when that replica has no link to the toolbox any more
 */
async function request(
  appSigningKey: SigningKey,
  base: URL,
  { serverId, instance, reach }: Target,
  body: string,
  options: CallOptions,
): Promise<Answer | null> {
  // A replica's forward has a path of its own, at the end of which the server stands.
  const path = base.pathname === "/" ? `/mcp/${serverId}` : `${base.pathname}${serverId}`;
  const url = new URL(path, base);
  if (instance !== null) url.searchParams.set("instance", instance);
  const bytes = new TextEncoder().encode(body);
  const signed = signRequest(
    { method: "POST", url, body: bytes },
    { keyId: "app", privateKey: appSigningKey.privateKey },
  );
  let response: Response;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: {
        ...signed,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
      },
      // As a stream, which is sent once: Deno's fetch sends any other body again, POST or not, on a new
      // connection when a kept one breaks after the request (2.9, seen by tests/chaos): the call would
      // run twice, or a refused second connection would read as if it had never been sent.
      body: new Blob([bytes]).stream(),
      redirect: "error",
      signal: options.signal && abortSignalOf(options.signal),
    });
  } catch (error) {
    options.signal?.throwIfAborted();
    return wasNeverSent(error) ? notMade("The server's toolbox does not answer") : failure(
      ErrorCode.indeterminate,
      "The connection to the toolbox broke: the call may have run",
    );
  }
  if (reach === "tunnel" && response.status === 503) {
    await response.body?.cancel();
    return null;
  }
  try {
    const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
    const text = isStream
      ? await lastMessage(response.body!, options.onNotification)
      : new TextDecoder("utf-8", { fatal: true }).decode(
        await boundedBody(asUnpacked(response), ANSWER_LIMIT),
      );
    return answerIn(text, response.status, response.headers.get("date"));
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof RangeError) return failure(ErrorCode.answerTooLarge, TOO_LARGE);
    return failure(
      ErrorCode.indeterminate,
      "The toolbox's answer broke off: the call may have run",
    );
  }
}

/** Without the length of a packed body, which says nothing of what `fetch` unpacks it to. */
function asUnpacked(response: Response): Response {
  return response.headers.has("content-encoding") ? new Response(response.body) : response;
}

/** Whether the request cannot have reached the toolbox: no connection was made. */
function wasNeverSent(error: unknown): boolean {
  return /client error \(connect\)|tcp connect|connection refused|dns error/i.test(describe(error));
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.message} ${describe(error.cause ?? "")}` : String(error);
}

/** What a data path answers before it gives a call to its server, beside an error as JSON. */
const NOT_SERVED = [404, 413, 503];

/** @param date the `Date` header of the answer */
function answerIn(text: string, status: number, date: string | null): Answer {
  const answer = jsonRpcAnswer(text);
  if (answer) return answer;
  if (status === 401 || status === 403) {
    return notMade(`The toolbox refused the app's signature (${clocks(date)})`);
  }
  return NOT_SERVED.includes(status) ? notMade(`The toolbox answered ${status}`) : failure(
    ErrorCode.indeterminate,
    `The toolbox answered ${status} with what is no answer to a call: the call may have run`,
  );
}

/** What is known of the clocks, where a signature was refused: their difference is the usual reason. */
function clocks(date: string | null): string {
  const offsetS = Math.round((Date.parse(date ?? "") + 500 - Date.now()) / 1000);
  if (Number.isNaN(offsetS)) return "check that both clocks are right";
  if (Math.abs(offsetS) < 2) return "both clocks agree";
  return `its clock is ${Math.abs(offsetS)} s ${
    offsetS > 0 ? "ahead of" : "behind"
  } the app's: set both clocks right`;
}

/** @param reason a sentence without its full stop */
function notMade(reason: string): Answer {
  return failure(ErrorCode.serverUnavailable, `${reason}, so the call was not made`);
}

/** The answer in a JSON-RPC response's text, or null when the text is none. */
function jsonRpcAnswer(text: string): Answer | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isObject(value)) return null;
  for (const kind of ["result", "error"] as const) {
    if (isObject(value[kind])) return { kind, text: objectMembers(text).get(kind)! };
  }
  return null;
}

function largeAnswer(bytes: Uint8Array): Answer {
  return LargeAnswer.of(bytes) ?? failure(
    ErrorCode.indeterminate,
    "The toolbox answered with what is no result: the call may have run",
  );
}

/** An error of Mooring's own: a code of {@link ErrorCode} with a sentence for a person. */
export function failure(code: number, message: string): Answer {
  return { kind: "error", text: JSON.stringify({ code, message }) };
}

/** Reads a stream of server-sent events to its last message, which is the response. */
async function lastMessage(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  onNotification: CallOptions["onNotification"],
): Promise<string> {
  let data: string[] = [], length = 0;
  for await (const line of linesOf(body)) {
    if (line.startsWith("data:")) {
      data.push(line.slice(5).replace(/^ /, ""));
      length += line.length;
      if (length > ANSWER_LIMIT) throw tooLarge();
    }
    if (line !== "" || data.length === 0) continue;
    const event = data.join("\n");
    data = [];
    length = 0;
    // Throws on what is no JSON, which must not go on to a client.
    const message: unknown = JSON.parse(event);
    if (!isObject(message)) throw new Error("An event is not a message");
    if (typeof message.method !== "string") return event;
    // In JSON a line break stands between tokens alone.
    await onNotification?.(event.replaceAll("\n", " "));
  }
  throw new Error("The stream ended without a response");
}

/** The lines of a text, which end with LF, CRLF or CR. Each character is looked at once. */
async function* linesOf(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let line = "", held = "";
  for await (const chunk of decoded(body)) {
    const text = held + chunk;
    // A CR at the end may be half of a CRLF.
    held = text.endsWith("\r") ? "\r" : "";
    const [first, ...rest] = text.slice(0, text.length - held.length).split(/\r\n|\r|\n/);
    line += first;
    for (const next of rest) {
      yield line;
      line = next;
    }
    if (line.length > ANSWER_LIMIT) throw tooLarge();
  }
  if (held) yield line;
}

function decoded(body: ReadableStream<Uint8Array<ArrayBuffer>>): ReadableStream<string> {
  return body.pipeThrough(new TextDecoderStream("utf-8", { fatal: true }));
}

/** A frame and what the envelope adds to it. */
const ANSWER_LIMIT = FRAME_LIMIT_BYTES + 64 * 1024;

const TOO_LARGE = `The server's answer is over ${FRAME_LIMIT_BYTES / 1024 / 1024} MiB`;

function tooLarge(): RangeError {
  return new RangeError(TOO_LARGE);
}
