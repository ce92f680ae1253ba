/**
 * Tasks of 2025-11-25 (basic/utilities/tasks) as those of the waist (extension io.modelcontextprotocol/tasks
 * of 2026-07-28, SEP-2663). There the caller asks for a task, fetches its result by a request that blocks,
 * and is asked what the task wants to know meanwhile; on the waist the server decides, and `tasks/get` says
 * all. So DTMA decides in the server's name: a tool that may be a task is one for whoever declares the
 * extension, and one that must be is refused to others with -32021. (It is the bridge that waits for a task on
 * behalf of a client without them, since a wait of its own outlives a restart of this process.)
 *
 * A question in a task says whose it is, which no other question of these revisions does.
 */
import { abortSignalOf } from "./call_signal.ts";
import {
  type Connection,
  errorResponse,
  isObject,
  type JsonRpcRequest,
  type JsonRpcResponse,
  type RequestOptions,
  type ServerRequest,
} from "./connection.ts";
import { failed, notDeclared, outcomeIn, QUESTIONS, QUESTIONS_LIMIT } from "./held_calls.ts";
import { objectMembers, objectText } from "./json_text.ts";
import { LargeResponse } from "./large_response.ts";
import { ErrorCode, TASK_PROGRESS_META, TASKS_EXTENSION, type ToolDefinition } from "./protocol.ts";
import { sleep } from "./waiting.ts";

/** What the waist asks of tasks. */
export const TASK_METHODS = ["tasks/get", "tasks/update", "tasks/cancel"];

const RELATED_META = "io.modelcontextprotocol/related-task";

/** Tasks of one server that something is remembered of; the least recent is forgotten, one that asks nothing first. */
const TASKS_LIMIT = 1000;

/** A task that waits for its client puts its questions within this time, once it is asked for them. */
const ASKED_WITHIN_MS = 1000;
/** Questions that it asks at once come within this time, and are put together. */
const GATHER_MS = 10;

const METHOD_NOT_FOUND = -32601, INTERNAL = -32603, MISSING_CAPABILITY = -32021;

const OWN_CODES = new Set<number>(Object.values(ErrorCode));

type Options = Pick<RequestOptions, "signal" | "timeoutMs">;

/** What is remembered of a task while this process runs: what its server said beside its answers. */
interface Remembered {
  /** By the key that the caller answers under. */
  questions: Map<string, { idText: string; request: ServerRequest }>;
  /** Begins the keys, which must not be those of a DTMA before this one. */
  prefix: string;
  lastKey: number;
  /** Its server is asked for the result, on whose way its questions come. */
  isAskedFor: boolean;
  /** Resolved when it asks something. */
  asks: PromiseWithResolvers<void>;
  /** The newest progress, as text. */
  progress: string | null;
}

export class LegacyTasks {
  readonly #connection: Connection;
  readonly #capabilities: () => Record<string, unknown>;
  readonly #tasks = new Map<string, Remembered>();
  /** Tasks by the progress token of the call that made them. */
  readonly #tokens = new Map<number, string>();
  /** By a tool's name what it says of tasks: `required` or `optional`. */
  #support = new Map<string, unknown>();

  /** @param capabilities the server's */
  constructor(connection: Connection, capabilities: () => Record<string, unknown>) {
    this.#connection = connection;
    this.#capabilities = capabilities;
  }

  /** Whether the server makes tasks of calls. */
  get areServed(): boolean {
    const { tasks } = this.#capabilities();
    const { requests } = isObject(tasks) ? tasks : {};
    const { tools } = isObject(requests) ? requests : {};
    return isObject(tools) && isObject(tools.call);
  }

  /** Takes from the server's tools which of them are tasks. */
  learn(tools: ToolDefinition[]): void {
    this.#support = new Map(tools.flatMap(({ name, execution }) =>
      isObject(execution) &&
        (execution.taskSupport === "required" || execution.taskSupport === "optional")
        ? [[name, execution.taskSupport]]
        : []
    ));
  }

  /**
   * Makes a call one for a task, or for none: sets or deletes `task` of its params, which a server without
   * tasks would refuse the call for.
   * @returns why the call cannot be made; null when it can
   */
  prepare(
    { id }: JsonRpcRequest,
    params: Map<string, string>,
    capabilities: unknown,
  ): JsonRpcResponse | null {
    const given = params.get("task");
    params.delete("task");
    const support = this.areServed && this.#support.get(JSON.parse(params.get("name") ?? "null"));
    if (!support) return null;
    if (declaresTasks(capabilities)) {
      params.set("task", given?.startsWith("{") ? given : "{}");
      return null;
    }
    if (support === "optional") return null;
    const message =
      "The tool runs as a task alone, and the client did not declare that it has tasks";
    const data = { requiredCapabilities: { extensions: { [TASKS_EXTENSION]: {} } } };
    return { jsonrpc: "2.0", id, error: { code: MISSING_CAPABILITY, message, data } };
  }

  /**
   * The answer to a call, which may be a task.
   * @param token the progress token that the server was given
   */
  created(response: JsonRpcResponse, token: string | undefined): JsonRpcResponse {
    if (!this.areServed || response instanceof LargeResponse && !response.keys.has("task")) {
      return response;
    }
    const { result, text } = response;
    const { task } = result ?? {};
    if (!isObject(task) || typeof task.taskId !== "string") return response;
    this.#remembered(task.taskId);
    if (token !== undefined) this.#tokens.set(JSON.parse(token), task.taskId);
    const members = objectMembers(text!);
    const own = taskMembers(members.get("task")!);
    members.delete("task");
    return resultOf(response.id, new Map([["resultType", `"task"`], ...members, ...own]));
  }

  /** Answers a request of the waist about a task. */
  async answer(
    request: JsonRpcRequest,
    params: Map<string, string>,
    capabilities: unknown,
    options: Options,
  ): Promise<JsonRpcResponse> {
    const { id, method } = request;
    if (!this.areServed) return errorResponse(id, METHOD_NOT_FOUND, "Method not found");
    const taskText = params.get("taskId") ?? "null";
    const response = method === "tasks/get"
      ? await this.#get(taskText, capabilities, options)
      : method === "tasks/update"
      ? await this.#update(taskText, params.get("inputResponses") ?? "{}", options)
      : await this.#cancel(taskText, options);
    return response instanceof LargeResponse ? response.with(id, {}) : { ...response, id };
  }

  /** Takes a question that a task asks. @returns false for one that belongs to none */
  ask(request: ServerRequest): boolean {
    const { method, params, idText } = request;
    const taskId = relatedTask(params);
    if (taskId === null || !this.areServed || !QUESTIONS.includes(method)) return false;
    // It may be one whose call is not answered yet: who may be asked is looked at when somebody asks for it.
    const remembered = this.#remembered(taskId);
    if (remembered.questions.size >= QUESTIONS_LIMIT) {
      this.#connection.answer(idText, failed(INTERNAL, "It asks too much at once"));
    } else {
      const key = `${remembered.prefix}-${++remembered.lastKey}`;
      remembered.questions.set(key, { idText, request });
      remembered.asks.resolve();
    }
    return true;
  }

  /** The server takes a question back, by the id it gave it. */
  takeBack(id: unknown): void {
    for (const { questions } of this.#tasks.values()) {
      for (const [key, { idText }] of questions) {
        if (JSON.parse(idText) === id) questions.delete(key);
      }
    }
  }

  /** Progress of a call that a task was made of. */
  progress(token: number, paramsText: string): void {
    const task = this.#tasks.get(this.#tokens.get(token) ?? "");
    if (!task) return;
    const members = objectMembers(paramsText);
    members.delete("progressToken");
    task.progress = objectText(members);
  }

  /** The connection is over: so is what its server asked. */
  close(): void {
    this.#tasks.clear();
    this.#tokens.clear();
  }

  async #get(
    taskText: string,
    capabilities: unknown,
    options: Options,
  ): Promise<JsonRpcResponse> {
    const response = await this.#ask("tasks/get", taskText, options);
    if (response.error) return response;
    const members = taskMembers(response.text!);
    const taskId = String(JSON.parse(taskText));
    const status = JSON.parse(members.get("status") ?? "null");
    if (status === "completed" || status === "failed") {
      const end = await this.#ask("tasks/result", taskText, options);
      // Not the task's end but ours.
      if (end.error && OWN_CODES.has(end.error.code)) return end;
      this.#forget(taskId);
      members.set("status", end.error ? `"failed"` : `"completed"`);
      members.set(
        end.error ? "error" : "result",
        end.error ? end.text ?? JSON.stringify(end.error) : withoutRelated(end.text!),
      );
    } else if (status === "cancelled") this.#forget(taskId);
    else {
      const task = this.#remembered(taskId);
      if (status === "input_required") await this.#bringQuestions(task, taskText, options);
      const questions = this.#questionsFor(task, capabilities);
      // A server may ask and not say so, or say so and not ask.
      members.set("status", questions.size > 0 ? `"input_required"` : `"working"`);
      if (questions.size > 0) members.set("inputRequests", objectText(questions));
      if (task.progress !== null) {
        const given = members.get("_meta");
        const meta = objectMembers(given?.startsWith("{") ? given : "{}");
        members.set("_meta", objectText(meta.set(TASK_PROGRESS_META, task.progress)));
      }
    }
    return resultOf(response.id, new Map([["resultType", `"complete"`], ...members]));
  }

  /** A task that waits for its client asks when its result is asked for (tasks#input-required-status). */
  async #bringQuestions(task: Remembered, taskText: string, { signal }: Options): Promise<void> {
    if (!task.isAskedFor) {
      task.isAskedFor = true;
      // What it answers is fetched by whoever sees that the task has ended.
      this.#ask("tasks/result", taskText, {}).finally(() => task.isAskedFor = false);
    }
    if (task.questions.size > 0) return;
    const asked = new AbortController();
    task.asks.promise.then(() => asked.abort());
    const until = signal ? AbortSignal.any([abortSignalOf(signal), asked.signal]) : asked.signal;
    await sleep(ASKED_WITHIN_MS, until);
    if (task.questions.size > 0) await sleep(GATHER_MS, signal);
    signal?.throwIfAborted();
  }

  /** What the caller can be asked; the server is told at once of what it cannot. */
  #questionsFor(
    { questions }: Remembered,
    capabilities: unknown,
  ): Map<string, string> {
    const asked = new Map<string, string>();
    for (const [key, { idText, request }] of questions) {
      const undeclared = notDeclared(request, capabilities);
      if (undeclared) {
        questions.delete(key);
        this.#connection.answer(idText, undeclared.outcome);
        continue;
      }
      const members = objectMembers(request.paramsText);
      const params = withoutRelated(objectText(members));
      asked.set(key, `{"method":${JSON.stringify(request.method)},"params":${params}}`);
    }
    return asked;
  }

  async #update(
    taskText: string,
    responsesText: string,
    options: Options,
  ): Promise<JsonRpcResponse> {
    const task = this.#tasks.get(String(JSON.parse(taskText)));
    // Whether there is such a task its server knows alone.
    if (!task) return await this.#acknowledged(taskText, options);
    for (const [key, response] of objectMembers(responsesText)) {
      const question = task.questions.get(key);
      if (!question) continue;
      task.questions.delete(key);
      const outcome = outcomeIn(response);
      this.#connection.answer(
        question.idText,
        "result" in outcome ? { result: withRelated(outcome.result, taskText) } : outcome,
      );
    }
    if (task.questions.size === 0) task.asks = Promise.withResolvers();
    return acknowledgement();
  }

  async #cancel(taskText: string, options: Options): Promise<JsonRpcResponse> {
    const { tasks } = this.#capabilities();
    const canCancel = isObject(tasks) && isObject(tasks.cancel);
    const response = canCancel ? await this.#ask("tasks/cancel", taskText, options) : null;
    if (response?.result) {
      this.#forget(String(JSON.parse(taskText)));
      return acknowledgement();
    }
    if (response?.error && OWN_CODES.has(response.error.code)) return response;
    // One that has ended cannot be cancelled there, and can on the waist: nothing is wrong with it. A server
    // that cannot cancel goes on, which the waist leaves to it.
    return await this.#acknowledged(taskText, options);
  }

  /** An acknowledgement, if there is such a task. */
  async #acknowledged(taskText: string, options: Options): Promise<JsonRpcResponse> {
    const response = await this.#ask("tasks/get", taskText, options);
    return response.error ? response : acknowledgement();
  }

  /** Not as a call: what the server asks meanwhile is not about this, and says of which task it is. */
  #ask(method: string, taskText: string, options: Options): Promise<JsonRpcResponse> {
    const params = `{"taskId":${taskText}}`;
    return this.#connection.request(method, () => params, { ...options, background: true });
  }

  #remembered(taskId: string): Remembered {
    const known = this.#tasks.get(taskId);
    this.#tasks.delete(taskId);
    const task = known ?? {
      questions: new Map(),
      prefix: crypto.randomUUID().slice(0, 8),
      lastKey: 0,
      isAskedFor: false,
      asks: Promise.withResolvers<void>(),
      progress: null,
    };
    this.#tasks.set(taskId, task);
    if (this.#tasks.size > TASKS_LIMIT) {
      const ids = [...this.#tasks.keys()].slice(0, -1);
      this.#forget(ids.find((id) => this.#tasks.get(id)!.questions.size === 0) ?? ids[0]);
    }
    return task;
  }

  #forget(taskId: string): void {
    const task = this.#tasks.get(taskId);
    if (!task) return;
    this.#tasks.delete(taskId);
    for (const [token, each] of this.#tokens) if (each === taskId) this.#tokens.delete(token);
    for (const { idText } of task.questions.values()) {
      this.#connection.answer(idText, failed(INTERNAL, "The task that this was about is over"));
    }
  }
}

/** The members of a task of 2025-11-25 under the names of the waist. */
function taskMembers(text: string): Map<string, string> {
  const members = objectMembers(text);
  const ttl = members.get("ttl") ?? "null";
  const interval = members.get("pollInterval");
  members.delete("ttl");
  members.delete("pollInterval");
  members.set("ttlMs", ttl);
  if (interval !== undefined) members.set("pollIntervalMs", interval);
  return members;
}

/** Answers in a task say whose it is (tasks#associating-task-related-messages), and not by a client's id of it. */
function withRelated(text: string, taskText: string): string {
  const members = objectMembers(text);
  const meta = objectMembers(members.get("_meta") ?? "{}");
  meta.set(RELATED_META, `{"taskId":${taskText}}`);
  return objectText(members.set("_meta", objectText(meta)));
}

/** On the waist a result does not say whose task's it is: the task that it stands in does. */
function withoutRelated(text: string): string {
  const members = objectMembers(text);
  const meta = members.get("_meta");
  if (!meta?.includes(RELATED_META)) return text;
  const kept = objectMembers(meta);
  kept.delete(RELATED_META);
  if (kept.size > 0) members.set("_meta", objectText(kept));
  else members.delete("_meta");
  return objectText(members);
}

function relatedTask(params: unknown): string | null {
  const meta = isObject(params) ? params._meta : undefined;
  const related = isObject(meta) ? meta[RELATED_META] : undefined;
  return isObject(related) && typeof related.taskId === "string" ? related.taskId : null;
}

function declaresTasks(capabilities: unknown): boolean {
  const extensions = isObject(capabilities) ? capabilities.extensions : undefined;
  return isObject(extensions) && isObject(extensions[TASKS_EXTENSION]);
}

function acknowledgement(): JsonRpcResponse {
  return resultOf("", new Map([["resultType", `"complete"`]]));
}

function resultOf(id: JsonRpcRequest["id"], members: Map<string, string>): JsonRpcResponse {
  const text = objectText(members);
  return { jsonrpc: "2.0", id, result: JSON.parse(text), text };
}
