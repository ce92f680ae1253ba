/**
 * Requests of the waist: what goes from the bridge to a server's toolbox, whoever asked. Questions that
 * a server has for its client come back here and are put to it as its revision has it.
 */
import {
  CALLER_META,
  type CallSignal,
  CANCEL_METHOD,
  ErrorCode,
  INPUT_ERROR,
  LET_GO_METHOD,
  objectMembers,
  objectText,
  PIN_META,
  POLLS_META,
  TASKS_EXTENSION,
  WAIST_REVISION,
} from "../dtma/protocol.ts";
import type { ToolbeltServer } from "../models/toolbelts.ts";
import type { Target } from "./links.ts";
import type { Outlet } from "./exchange.ts";
import type { RequestStates, StateOf } from "./request_state.ts";
import { isObject, META, RpcCode, RpcError } from "./revisions.ts";
import {
  type Answer,
  type CallOptions,
  callServer,
  failure,
  mayHaveType,
  type RouterDeps,
} from "./router.ts";

export interface WaistDeps extends RouterDeps {
  version: string;
}

/** For whom a request is made, as a server is told. */
export interface WaistClient {
  agentId: string | null;
  sessionId: string | null;
  /** What it can do, as JSON; null to pass on what the request itself says, as 2026-07-28 does. */
  capabilities: string | null;
  /** Its name and version as JSON, where the request does not say it. */
  clientInfo: string | null;
  /** The least level of log messages, where the request does not say it. */
  logLevel: string | null;
}

export interface WaistRequest {
  server: ToolbeltServer;
  method: string;
  /** The texts of the members of `params`, with `_meta` as the client wrote it. */
  params: Map<string, string>;
  /** The hash of the definition that was approved, where there is one. */
  pin?: string;
  /** It may be sent again when it is not known whether it ran. */
  isRepeatable: boolean;
  /** The server may answer with a task, which whoever asks here can deal with; said of what can be one alone. */
  mayBeTask?: boolean;
  /** Whose instance is asked, where it is not the one that the client's requests go to now. */
  instance?: string | null;
}

/** How a server's questions are put to the client. */
export type Asking =
  /** As the client's own revision has it: the answer says what is needed, and the client tries again. */
  | { states: RequestStates; of: StateOf }
  /** On the stream of its request. A client of 2025-11-25 knows the error by which its servers ask, too. */
  | { ask: NonNullable<Outlet["ask"]>; takesErrors?: boolean }
  | null;

/** Questions and answers go to and fro at most so often in one call. */
const ROUNDS_LIMIT = 32;
/** A server that asks nothing and wants to be called again may be busy: SDK 2.x waits as long. */
const NOTHING_ASKED_MS = 250;
/** What servers ask, and the capability of clients that each is of. */
const QUESTIONS = new Map<unknown, string>([
  ["elicitation/create", "elicitation"],
  ["sampling/createMessage", "sampling"],
  ["roots/list", "roots"],
]);
/** To a client that hears of its servers' questions in no other way. */
export const CANNOT_BE_ASKED =
  "The server asks for what this client cannot give: it has no session to be asked in, or did not " +
  "declare that it can";

/**
 * The client of a request as that says itself who it is and what it can do, for requests of ours on its behalf.
 * @param meta the text of the request's `_meta`
 */
export function clientOf(client: WaistClient, meta: string | undefined): WaistClient {
  const said = meta?.startsWith("{") ? objectMembers(meta) : new Map<string, string>();
  return {
    ...client,
    capabilities: client.capabilities ?? said.get(META.clientCapabilities) ?? "{}",
    clientInfo: client.clientInfo ?? said.get(META.clientInfo) ?? null,
  };
}

/** Where requests to a server go, for a client. */
export function targetOf(
  server: ToolbeltServer,
  client: Pick<WaistClient, "agentId" | "sessionId">,
): Target {
  const { toolboxId, reach, address, serverId } = server;
  const instance = server.instances === "session"
    ? client.sessionId ?? client.agentId
    : client.agentId;
  return { toolboxId, reach, address, serverId, instance };
}

/**
 * Sends a request to a server and brings its answer, after all questions that it has for its client.
 *
 * Never throws but when `options.signal` aborts: what goes wrong is an {@link Answer} with an error.
 */
export function askServer(
  deps: WaistDeps,
  client: WaistClient,
  request: WaistRequest,
  asking: Asking,
  options: CallOptions,
): Answer | Promise<Answer> {
  if (request.server.unavailable) {
    return failure(ErrorCode.serverUnavailable, request.server.unavailable);
  }
  const target = targetOf(request.server, client);
  if (request.instance !== undefined) target.instance = request.instance;
  if (asking && "ask" in asking) {
    return askAndBeAsked(deps, target, client, request, asking, options);
  }
  const sent = send(deps, target, client, request, options);
  const answer = request.mayBeTask === undefined ? sent.then(refuseTask) : sent;
  return asking
    ? answer.then((answer) => sealed(answer, asking, client, request))
    : answer.then(refuseQuestions);
}

/** Nothing but a tool's call can be a task (SEP-2663, "Capability Negotiation"). */
function refuseTask(answer: Answer): Answer {
  return membersOfType(answer, "task")
    ? failure(ErrorCode.indeterminate, "The server made a task of what can be none")
    : answer;
}

async function askAndBeAsked(
  deps: WaistDeps,
  target: Target,
  client: WaistClient,
  request: WaistRequest,
  { ask, takesErrors = false }: Extract<Asking, { ask: unknown }>,
  options: CallOptions,
): Promise<Answer> {
  const params = new Map(request.params);
  for (let round = 0; round < ROUNDS_LIMIT; round++) {
    const answer = await send(deps, target, client, { ...request, params }, options);
    const needed = inputRequired(answer);
    if (!needed) return request.mayBeTask === undefined ? refuseTask(answer) : answer;
    const own = takesErrors
      ? objectMembers(needed.get("_meta") ?? "{}").get(INPUT_ERROR)
      : undefined;
    if (own?.startsWith("{")) return { kind: "error", text: own };
    if (undeclared(needed, client.capabilities!).length > 0) {
      return failure(ErrorCode.indeterminate, CANNOT_BE_ASKED);
    }
    const state = needed.get("requestState");
    const responses = await putQuestions(needed, ask, options.signal).catch((error) => {
      if (options.signal?.aborted && state) cancelHeld(deps, target, state);
      throw error;
    });
    if (typeof responses === "string") return failure(ErrorCode.indeterminate, responses);
    params.delete("requestState");
    if (state) params.set("requestState", state);
    params.delete("inputResponses");
    if (responses.size > 0) params.set("inputResponses", objectText(responses));
    else await pause(NOTHING_ASKED_MS, options.signal);
  }
  return failure(ErrorCode.indeterminate, "The server asks without end");
}

async function send(
  deps: WaistDeps,
  target: Target,
  client: WaistClient,
  request: WaistRequest,
  options: CallOptions,
): Promise<Answer> {
  if (options.onLetGo) options = tellingLetGo(options, options.onLetGo);
  const body = requestText(deps, client, request, options.onLetGo !== undefined);
  const answer = await callServer(deps, target, body, options);
  const isLost = answer.kind === "error" &&
    JSON.parse(answer.text).code === ErrorCode.indeterminate;
  // A call that waits for answers is lost with its server: to send it again would ask again.
  if (!isLost || !request.isRepeatable || request.params.has("requestState")) return answer;
  return await callServer(deps, target, body, options);
}

/** Keeps what is the toolbox's own from the client. */
function tellingLetGo(options: CallOptions, onLetGo: (retryMs: number) => void): CallOptions {
  const onNotification = (text: string) => {
    if (!text.includes(LET_GO_METHOD)) return options.onNotification?.(text);
    const { method, params } = JSON.parse(text);
    if (method !== LET_GO_METHOD) return options.onNotification?.(text);
    onLetGo(Number(params?.retryMs) || 0);
  };
  return { ...options, onNotification };
}

/** The request's text, with our metadata. */
function requestText(
  { version }: WaistDeps,
  client: WaistClient,
  { method, params, pin, mayBeTask = false }: WaistRequest,
  polls: boolean,
): string {
  const given = params.get("_meta");
  const said = given?.startsWith("{") ? objectMembers(given) : NOTHING_SAID;
  const capabilities = client.capabilities ?? said.get(META.clientCapabilities) ?? "{}";
  const clientInfo = said.get(META.clientInfo) ?? client.clientInfo ??
    `{"name":"mooring","version":${JSON.stringify(version)}}`;
  // Without a session all calls of an agent are one caller's: it alone has the agent's token.
  const caller = client.sessionId ?? client.agentId;
  let meta = `"${META.protocolVersion}":"${WAIST_REVISION}","${META.clientCapabilities}":${
    withTasks(capabilities, mayBeTask)
  },"${META.clientInfo}":${clientInfo}`;
  const logLevel = said.get(META.logLevel) ??
    (client.logLevel && JSON.stringify(client.logLevel));
  if (logLevel) meta += `,"${META.logLevel}":${logLevel}`;
  if (polls) meta += `,"${POLLS_META}":true`;
  if (pin !== undefined) meta += `,"${PIN_META}":${JSON.stringify(pin)}`;
  if (caller !== null) meta += `,"${CALLER_META}":${JSON.stringify(caller)}`;
  for (const [name, value] of said) {
    if (!OUR_META.has(name)) meta += `,${JSON.stringify(name)}:${value}`;
  }
  let members = "";
  for (const [name, value] of params) {
    if (name !== "_meta") members += `${JSON.stringify(name)}:${value},`;
  }
  return `{"jsonrpc":"2.0","id":1,"method":${
    JSON.stringify(method)
  },"params":{${members}"_meta":{${meta}}}}`;
}

const NOTHING_SAID: ReadonlyMap<string, string> = new Map();

/**
 * What we say ourselves of a request. Of these the last three are ours alone: what a client wrote under their
 * names must not reach a toolbox.
 */
const OUR_META = new Set<string>([
  META.protocolVersion,
  META.clientCapabilities,
  META.clientInfo,
  META.logLevel,
  PIN_META,
  CALLER_META,
  POLLS_META,
]);

/**
 * A client's capabilities with the extension of tasks or without it, whatever the client says itself: a
 * server answers with a task to nobody but who can be given one, or is waited for. `tasks` of 2025-11-25,
 * by which a client makes tasks of what it is asked, has no counterpart on the waist.
 */
function withTasks(capabilities: string, mayBeTask: boolean): string {
  if (!mayBeTask && !capabilities.includes("tasks")) return capabilities;
  const members = objectMembers(capabilities);
  members.delete("tasks");
  const extensions = members.get("extensions");
  const all = extensions?.startsWith("{") ? objectMembers(extensions) : new Map<string, string>();
  if (!mayBeTask) all.delete(TASKS_EXTENSION);
  else if (!all.has(TASKS_EXTENSION)) all.set(TASKS_EXTENSION, "{}");
  if (all.size > 0 || extensions !== undefined) members.set("extensions", objectText(all));
  return objectText(members);
}

/** What the server needs to know before it goes on, or null for any other answer. */
function inputRequired(answer: Answer): Map<string, string> | null {
  return membersOfType(answer, "input_required");
}

/** The members of a result of this type; null of any other answer. */
export function membersOfType(answer: Answer, type: string): Map<string, string> | null {
  if (answer.kind === "error" || !mayHaveType(answer, type)) return null;
  const members = objectMembers(answer.text);
  return members.get("resultType") === `"${type}"` ? members : null;
}

/**
 * What a client did not declare of what is needed of it: its server must not ask it that then (2026-07-28,
 * patterns/mrtr#server-requirements-basic-workflow). One of an older revision does not get so far with it.
 * @param capabilities the client's, as JSON
 */
export function undeclared(needed: Map<string, string>, capabilities: string): string[] {
  const declared: unknown = JSON.parse(capabilities);
  const asked: unknown = JSON.parse(needed.get("inputRequests") ?? "{}");
  const wanted = Object.values(isObject(asked) ? asked : {})
    .flatMap((question) => isObject(question) ? QUESTIONS.get(question.method) ?? [] : []);
  return [...new Set(wanted)].filter((name) => !isObject(declared) || !isObject(declared[name]));
}

async function sealed(
  answer: Answer,
  { states, of }: { states: RequestStates; of: StateOf },
  client: WaistClient,
  { params }: WaistRequest,
): Promise<Answer> {
  const needed = inputRequired(answer);
  if (!needed) return answer;
  const missing = undeclared(needed, clientOf(client, params.get("_meta")).capabilities!);
  if (missing.length > 0) {
    const error = {
      code: RpcCode.missingClientCapability,
      message: `The server needs what the client did not declare: ${missing.join(", ")}`,
      data: { requiredCapabilities: Object.fromEntries(missing.map((name) => [name, {}])) },
    };
    return { kind: "error", text: JSON.stringify(error) };
  }
  const state: unknown = JSON.parse(needed.get("requestState") ?? "null");
  const seal = await states.seal(of, typeof state === "string" ? state : null);
  return { kind: "result", text: objectText(needed.set("requestState", JSON.stringify(seal))) };
}

/** The server was told that this client cannot be asked, and asks all the same. */
function refuseQuestions(answer: Answer): Answer {
  if (!inputRequired(answer)) return answer;
  return failure(ErrorCode.indeterminate, CANNOT_BE_ASKED);
}

/** Puts the questions of `inputRequests` to the client, all at once. @returns their answers, or why they were not put */
export async function putQuestions(
  needed: Map<string, string>,
  ask: NonNullable<Outlet["ask"]>,
  signal: CallSignal = new AbortController().signal,
): Promise<Map<string, string> | string> {
  const questions = needed.get("inputRequests");
  if (questions === undefined) return new Map();
  if (!questions.startsWith("{")) return "The server's questions are no object";
  const puts: (() => Promise<[string, string]>)[] = [];
  for (const [key, text] of objectMembers(questions)) {
    const question: unknown = JSON.parse(text);
    const method = isObject(question) ? question.method : undefined;
    if (typeof method !== "string" || !QUESTIONS.has(method)) {
      return "The server asks for what no client can answer";
    }
    const params = objectMembers(text).get("params");
    puts.push(async () => {
      const answer = await ask(method, params?.startsWith("{") ? params : "{}", signal);
      return [key, inputResponse(method, answer)];
    });
  }
  // Not before all are known to be questions: nobody would wait for the answers.
  return new Map(await Promise.all(puts.map((put) => put())));
}

/**
 * Holds what a client of 2026-07-28 answers to what answers are (patterns/mrtr#error-handling): an older server
 * would be given them as they are.
 * @throws {RpcError}
 */
export function checkInputResponses(responses: unknown): void {
  if (isObject(responses) && Object.values(responses).every(isObject)) return;
  throw new RpcError(
    RpcCode.invalidParams,
    "params.inputResponses must be an object that has a result, an object too, for each question",
    200,
  );
}

/** The client's answer as the waist has it, where there is no error: one goes in a member of our own. */
function inputResponse(method: string, { kind, text }: Answer): string {
  if (kind === "result") return text;
  const error = new Map([[INPUT_ERROR, text]]);
  return objectText(
    method === "elicitation/create" ? new Map([["action", `"cancel"`], ...error]) : error,
  );
}

/** The client gave up a call that waits for its answers: its server is told. */
function cancelHeld(deps: WaistDeps, target: Target, state: string): void {
  const meta = `{"${META.protocolVersion}":"${WAIST_REVISION}"}`;
  const params = `{"requestState":${state},"_meta":${meta}}`;
  const body = `{"jsonrpc":"2.0","id":1,"method":"${CANCEL_METHOD}","params":${params}}`;
  callServer(deps, target, body).catch(() => {});
}

/** Rejects with the signal's reason. */
export function pause(ms: number, signal?: CallSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
