/**
 * What a server of an older revision asks while it works on a call, and the calls that are held for
 * it. On the waist a server asks nothing: its call is answered `input_required`, and made again with
 * the answers (2026-07-28, patterns/mrtr). So the caller of an older server's call is answered in
 * DTMA's own name, while the call itself goes on; the retry brings the answers and waits for it again.
 *
 * On stdio an older server does not say whose call its question is about. It is put to a caller only
 * when it can be about nobody else's call; another's question must never be seen.
 */
import {
  type Connection,
  errorResponse,
  isObject,
  type JsonRpcNotification,
  type JsonRpcRequest,
  type JsonRpcResponse,
  type OpenRequest,
  type Outcome,
  type RequestOptions,
  type ServerRequest,
} from "./connection.ts";
import { objectMembers, objectText } from "./json_text.ts";
import { ErrorCode, INPUT_ERROR } from "./protocol.ts";

/** What an older server may ask. */
export const QUESTIONS = ["elicitation/create", "sampling/createMessage", "roots/list"];

/** The calls that can be interrupted by a question (2026-07-28, patterns/mrtr#supported-requests). */
const INTERRUPTIBLE = ["tools/call", "prompts/get", "resources/read"];

/** Held at once of one server: each may keep an answer of up to 4 MiB for who comes back for it. */
const HELD_LIMIT = 32;

/** Of one call, not answered yet. */
export const QUESTIONS_LIMIT = 16;
const QUESTIONS_LENGTH_LIMIT = 1024 * 1024;

/** So long a person may take to answer. */
const HOLD_MS = 10 * 60_000;

/** Questions that a server asks at once come within this time, and are put together. */
const GATHER_MS = 10;

const METHOD_NOT_FOUND = -32601, INVALID_PARAMS = -32602, INTERNAL = -32603;

const STATE_PREFIX = "dtma-held:";

/** Whether a `requestState` was made here, by whichever DTMA. */
export function isHeldState(state: unknown): boolean {
  return typeof state === "string" && state.startsWith(STATE_PREFIX);
}

/** The response to a retry whose call is not held any more. */
export function lostCall(id: JsonRpcRequest["id"]): JsonRpcResponse {
  return errorResponse(
    id,
    ErrorCode.indeterminate,
    "The call does not wait for these answers any more: it was answered already, waited too long, " +
      "or its server was restarted. It may have run",
  );
}

interface HeldCall {
  open: OpenRequest;
  /** By the key that the caller answers under: the server's requests, and their text. */
  questions: Map<string, { request: ServerRequest; text: string }>;
  lastKey: number;
  /** Of what it asked at URLs. */
  elicitationIds: Set<unknown>;
  /** What its caller is told on coming back. */
  untold: JsonRpcNotification[];
  /** What it is called by while it waits for answers. */
  state: string | null;
  /** Until questions are put to the caller, or until it is held no longer. */
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class HeldCalls {
  readonly #connection: Connection;
  readonly #onUnattributed: (method: string) => void;
  readonly #holdMs: number;
  /** By the id of the request to the server; until it is answered. */
  readonly #calls = new Map<number, HeldCall>();
  readonly #waiting = new Map<string, HeldCall>();

  /** @param onUnattributed told the method of a question that nobody could be asked */
  constructor(
    connection: Connection,
    { onUnattributed, holdMs = HOLD_MS }: {
      onUnattributed: (method: string) => void;
      holdMs?: number;
    },
  ) {
    this.#connection = connection;
    this.#onUnattributed = onUnattributed;
    this.#holdMs = holdMs;
  }

  /** Calls that the server works on and nobody waits for. */
  get count(): number {
    let count = 0;
    for (const { open } of this.#waiting.values()) if (!open.answer) count++;
    return count;
  }

  /** The server asks: its request is put to the caller that it belongs to, or refused. */
  ask(request: ServerRequest): void {
    const { method, idText, paramsText } = request;
    const answer = (outcome: Outcome) => this.#connection.answer(idText, outcome);
    const refuse = (reason: string) => answer(failed(INTERNAL, reason));
    if (!QUESTIONS.includes(method)) return answer(NOT_FOUND);
    const all = this.#connection.calls();
    const able = all.filter(({ method }) => INTERRUPTIBLE.includes(method));
    if (all.length === 0) return refuse("No call is under way: there is nobody to ask");
    if (able.length === 0) return refuse(`Nothing can be asked during ${all[0].method}`);
    const refusals = able.map(({ options }) => notDeclared(request, options.caller!.capabilities));
    const calls = able.filter((_, index) => refusals[index] === null);
    if (calls.length === 0) {
      // Of several calls it is not known whose question it was.
      if (able.length === 1) able[0].options.onUndeclared?.(refusals[0]!.required);
      return answer(refusals[0]!.outcome);
    }
    if (!this.#connection.areOneCallers(all)) {
      this.#onUnattributed(method);
      return refuse(
        "Several calls are under way, and this request does not say which of them it is about. " +
          "Run this server with an instance for each agent or session",
      );
    }
    // Of one caller's several calls the newest that asked nothing yet: any of them may be the one.
    const open = calls.findLast(({ id, settle }) => settle && !this.#calls.has(id)) ??
      calls.findLast(({ settle }) => settle) ?? calls.at(-1)!;
    const held = this.#calls.get(open.id) ?? this.#begin(open);
    const text = `{"method":${JSON.stringify(method)},"params":${paramsText}}`;
    const length = [...held.questions.values()].reduce((sum, { text }) => sum + text.length, 0);
    if (held.questions.size >= QUESTIONS_LIMIT || length + text.length > QUESTIONS_LENGTH_LIMIT) {
      return refuse("It asks too much at once");
    }
    held.questions.set(String(++held.lastKey), { request, text });
    if (isObject(request.params) && typeof request.params.elicitationId === "string") {
      held.elicitationIds.add(request.params.elicitationId);
    }
    this.#gather(held);
  }

  /** A person was where the server asked them to go: told to the caller of the call that asked, while it lasts. */
  complete(notification: JsonRpcNotification): void {
    const id = notification.params?.elicitationId;
    for (const { open, elicitationIds, untold } of this.#calls.values()) {
      if (!elicitationIds.delete(id)) continue;
      if (open.settle) open.options.onNotification?.(notification);
      else untold.push(notification);
    }
  }

  /** The server takes a question back, by the id it gave it. */
  takeBack(id: unknown): void {
    for (const { questions } of [...this.#calls.values(), ...this.#waiting.values()]) {
      for (const [key, question] of questions) {
        if (JSON.parse(question.request.idText) === id) questions.delete(key);
      }
    }
  }

  /**
   * A retry: gives the server the answers, and waits for the answer to the call that was held.
   * @param params the members of the retry's params, as text
   */
  async retry(
    request: JsonRpcRequest,
    params: Map<string, string>,
    options: RequestOptions & { caller: NonNullable<RequestOptions["caller"]> },
  ): Promise<JsonRpcResponse> {
    const state = JSON.parse(params.get("requestState")!);
    const held = this.#waiting.get(state);
    if (!held || !isSameRequest(held.open, request.method, options.caller.subject)) {
      return lostCall(request.id);
    }
    this.#waiting.delete(state);
    clearTimeout(held.timer);
    held.timer = undefined;
    held.state = null;
    const responses = objectMembers(params.get("inputResponses") ?? "{}");
    for (const [key, { request }] of held.questions) {
      const response = responses.get(key);
      if (response === undefined) continue;
      held.questions.delete(key);
      this.#connection.answer(request.idText, outcomeIn(response));
    }
    if (held.open.answer) this.#handOver(held);
    for (const each of held.untold.splice(0)) options.onNotification?.(each);
    const answer = this.#connection.resume(held.open, options);
    // What was not answered, or asked meanwhile (patterns/mrtr#error-handling).
    if (held.questions.size > 0) this.#gather(held);
    return await answer;
  }

  /** The caller of a held call gives it up: so does the server. */
  cancel(state: unknown, reason = "The caller cancelled the request"): void {
    const held = this.#waiting.get(state as string);
    if (!held) return;
    this.#waiting.delete(held.state!);
    clearTimeout(held.timer);
    held.state = null;
    this.#connection.abandon(held.open, reason);
    this.#handOver(held);
  }

  /** The connection is over. */
  close(): void {
    for (const { timer } of [...this.#calls.values(), ...this.#waiting.values()]) {
      clearTimeout(timer);
    }
    this.#calls.clear();
    this.#waiting.clear();
  }

  #begin(open: OpenRequest): HeldCall {
    const held: HeldCall = {
      open,
      questions: new Map(),
      lastKey: 0,
      elicitationIds: new Set(),
      untold: [],
      state: null,
      timer: undefined,
    };
    this.#calls.set(open.id, held);
    open.onEnd = (isAnswered) => this.#ended(held, isAnswered);
    return held;
  }

  /** The server has answered the call, or was told to cancel it: it waits for no answers any more. */
  #ended(held: HeldCall, isAnswered: boolean): void {
    this.#calls.delete(held.open.id);
    if (!isAnswered) this.#refuseAll(held);
    // One that was answered while nobody waited keeps its answer for the retry, which brings those to its
    // questions as well.
    if (held.state !== null && this.#areAnothers(held)) return;
    if (held.state === null) clearTimeout(held.timer);
    this.#handOver(held);
  }

  /** What is asked and was not about a call that was answered can be about another one of its caller. */
  #areAnothers({ open }: HeldCall): boolean {
    const calls = this.#connection.calls();
    return calls.length > 0 && this.#connection.areOneCallers([open, ...calls]);
  }

  #handOver(held: HeldCall): void {
    if (!this.#areAnothers(held)) return this.#refuseAll(held);
    const asked = [...held.questions.values()];
    held.questions.clear();
    for (const { request } of asked) this.ask(request);
  }

  #refuseAll({ questions }: HeldCall, message = "The call that this was about is over"): void {
    for (const { request } of questions.values()) {
      this.#connection.answer(request.idText, failed(INTERNAL, message));
    }
    questions.clear();
  }

  #gather(held: HeldCall): void {
    // While nobody waits it has to wait for the retry.
    if (held.state === null) held.timer ??= setTimeout(() => this.#interrupt(held), GATHER_MS);
  }

  #interrupt(held: HeldCall): void {
    held.timer = undefined;
    if (!held.open.settle || held.questions.size === 0) return;
    if (this.#waiting.size >= HELD_LIMIT) {
      return this.#refuseAll(held, `${HELD_LIMIT} calls wait for answers, which is the limit`);
    }
    held.state = STATE_PREFIX + crypto.randomUUID() + crypto.randomUUID();
    this.#waiting.set(held.state, held);
    held.timer = setTimeout(
      () => this.cancel(held.state, `Nobody answered within ${this.#holdMs / 60_000} minutes`),
      this.#holdMs,
    );
    const requests = new Map([...held.questions].map(([key, { text }]) => [key, text]));
    const state = `"requestState":${JSON.stringify(held.state)}`;
    this.#connection.interrupt(held.open, inputRequired(objectText(requests), state));
  }
}

/**
 * A server of 2025-11-25 may refuse a call until its caller was somewhere on the web (`-32042`,
 * client/elicitation#url-elicitation-required-error); on the waist that is a question whose retry is
 * the call made anew. It comes with the server's own error, for a caller of that revision.
 */
export function urlElicitations(
  { error, text }: JsonRpcResponse,
  capabilities: unknown,
): JsonRpcResponse | null {
  const elicitations = isObject(error?.data) ? error.data.elicitations : undefined;
  if (error?.code !== -32042 || !Array.isArray(elicitations) || elicitations.length === 0) {
    return null;
  }
  const requests = new Map<string, string>();
  for (const [index, params] of elicitations.slice(0, QUESTIONS_LIMIT).entries()) {
    if (!isObject(params)) return null;
    const asked = { method: "elicitation/create", params: { mode: "url", ...params } };
    if (notDeclared(asked, capabilities)) return null;
    requests.set(String(index + 1), JSON.stringify(asked));
  }
  const own = `"_meta":{"${INPUT_ERROR}":${text ?? JSON.stringify(error)}}`;
  return inputRequired(objectText(requests), own);
}

/** @param more another member, as text */
function inputRequired(requestsText: string, more: string): JsonRpcResponse {
  const text = `{"resultType":"input_required","inputRequests":${requestsText},${more}}`;
  return { jsonrpc: "2.0", id: "", result: JSON.parse(text), text };
}

/** Why a caller's client is not asked something: the server's answer, and what was not declared. */
export interface Undeclared {
  outcome: Outcome;
  /** As `requiredCapabilities` of error -32021 has it (2026-07-28, basic#error-codes). */
  required: Record<string, unknown>;
}

/** Why a caller's client cannot be asked this; null when it declared that it can. */
export function notDeclared(
  { method, params }: Pick<ServerRequest, "method" | "params">,
  capabilities: unknown,
): Undeclared | null {
  const { elicitation, sampling, roots } = isObject(capabilities) ? capabilities : {};
  const asked = isObject(params) ? params : {};
  const unless = (able: boolean, required: Record<string, unknown>, outcome = NOT_FOUND) =>
    able ? null : { outcome, required };
  switch (method) {
    case "roots/list":
      return unless(isObject(roots), { roots: {} });
    case "sampling/createMessage": {
      const wantsTools = asked.tools !== undefined || asked.toolChoice !== undefined;
      const required = { sampling: wantsTools ? { tools: {} } : {} };
      if (!isObject(sampling)) return unless(false, required);
      return unless(
        !wantsTools || isObject(sampling.tools),
        required,
        failed(INVALID_PARAMS, "The caller's client does not sample with tools"),
      );
    }
    case "elicitation/create": {
      const mode = String(asked.mode ?? "form");
      const required = { elicitation: mode === "url" ? { url: {} } : {} };
      if (!isObject(elicitation)) return unless(false, required);
      // No mode in it means forms (client/elicitation#capabilities): clients of 2025-06-18 know of no modes, and
      // those of the SDK say other things there (`applyDefaults`, 1.22).
      const isAble = Object.hasOwn(elicitation, mode) ||
        mode === "form" && elicitation.url === undefined;
      return unless(
        isAble,
        required,
        failed(INVALID_PARAMS, `The caller's client does not do elicitation of mode ${mode}`),
      );
    }
    default:
      return unless(false, {});
  }
}

/** A caller's input response, as the server that asked is answered. */
export function outcomeIn(response: string): Outcome {
  const error = objectMembers(response).get(INPUT_ERROR);
  return error === undefined ? { result: response } : { error };
}

function isSameRequest(open: OpenRequest, method: string, subject: unknown): boolean {
  return open.method === method && open.options.caller!.subject === subject;
}

/** The server's question is answered with an error. */
export function failed(code: number, message: string): Outcome {
  return { error: JSON.stringify({ code, message: message.slice(0, 200) }) };
}

const NOT_FOUND = failed(METHOD_NOT_FOUND, "Method not found");
