/**
 * Tasks that clients are given: of 2026-07-28 (the extension io.modelcontextprotocol/tasks, SEP-2663), and of
 * 2025-11-25 (basic/utilities/tasks) out of those.
 *
 * A task's id as a client has it holds the server that made it and whose instance that was, sealed and bound
 * to the agent: nothing is remembered here, any replica serves any of a task's requests, and another agent's
 * id is unknown. It has no expiry of its own: a task is gone when its server says so.
 */
import {
  type CallSignal,
  ErrorCode,
  objectMembers,
  objectText,
  type SigningKey,
  TASKS_EXTENSION,
  WAIST_REVISION,
} from "../dtma/protocol.ts";
import type { Database } from "../models/db.ts";
import { messagesAfter, putMessages, type Session } from "../models/sessions.ts";
import type { ToolbeltServer } from "../models/toolbelts.ts";
import type { NamedToolbelt } from "./aggregate.ts";
import type { Outlet } from "./exchange.ts";
import type { IncomingRequest } from "./messages.ts";
import { forRevision } from "./older_revisions.ts";
import { randomText } from "./questions.ts";
import { isObject, META, RpcCode, RpcError } from "./revisions.ts";
import { type Answer, callServer, failure } from "./router.ts";
import { seals } from "./seal.ts";
import { withShownUris } from "./shown_uris.ts";
import {
  askTask,
  createdTask,
  idOfTask,
  outcomeOf,
  pollMs,
  progressOf,
  taskWithoutId,
  waitForTask,
} from "./task_wait.ts";
import {
  type Asking,
  checkInputResponses,
  pause,
  targetOf,
  type WaistClient,
  type WaistDeps,
} from "./waist.ts";

/** The revision whose tasks are its own. */
export const LEGACY_TASKS = "2025-11-25";

/** A task where it is. */
interface TaskRef {
  serverId: string;
  /** Whose instance made it; null for the shared one. */
  instance: string | null;
  taskId: string;
}

/** A result that a server gave at once to a client of 2025-11-25, which had asked for a task. */
interface KeptRef {
  sessionId: string;
  stream: string;
  at: number;
}

/** Whose request about a task it is, and how it is asked for. */
export interface TaskAsker {
  agentId: string;
  named: NamedToolbelt;
  client: WaistClient;
  asking: Asking;
  notify: Outlet["notify"];
}

/** A server of the asker's as it is at the time; null when it is not the asker's any more. */
type ServerNow = (serverId: string) => Promise<ToolbeltServer | null>;

/** Whose call a task was made of. */
type Caller = Pick<TaskAsker, "agentId" | "client">;

/** Tasks of one listener: each is looked at on its own. */
export const LISTENED_LIMIT = 100;
/** What a session's messages are kept for (`mooring.put_mcp_messages`). */
const KEPT_MS = 15 * 60_000;

const RELATED_META = "io.modelcontextprotocol/related-task";

/** Whether a server makes tasks, of whichever generation. */
export function hasTasks({ capabilities }: ToolbeltServer): boolean {
  const { extensions } = capabilities ?? {};
  return isObject(extensions) && isObject(extensions[TASKS_EXTENSION]) ||
    hasLegacyTasks(capabilities);
}

function hasLegacyTasks(capabilities: ToolbeltServer["capabilities"]): boolean {
  const { tasks } = capabilities ?? {};
  const { requests } = isObject(tasks) ? tasks : {};
  const { tools } = isObject(requests) ? requests : {};
  return isObject(tools) && isObject(tools.call);
}

/** Whether a request of 2026-07-28 says that its client has tasks. */
export function declaresTasks({ params }: Pick<IncomingRequest, "params">): boolean {
  const capabilities = isObject(params._meta) ? params._meta[META.clientCapabilities] : undefined;
  const extensions = isObject(capabilities) ? capabilities.extensions : undefined;
  return isObject(extensions) && isObject(extensions[TASKS_EXTENSION]);
}

/** What is said to a client that would have to declare the extension. */
export function tasksNotDeclared(): RpcError {
  return new RpcError(
    RpcCode.missingClientCapability,
    `The client has to declare the extension ${TASKS_EXTENSION}`,
    400,
    { requiredCapabilities: { extensions: { [TASKS_EXTENSION]: {} } } },
  );
}

const supporting = new WeakMap<object, Record<string, unknown>>();

/**
 * A tool's definition for a client of 2025-11-25, which is told beforehand what may be a task. One that its
 * server runs as a task alone may be called without one here, since it is waited for; one of a server of
 * 2026-07-28, which decides at each call, may be called as one.
 */
export function withTaskSupport(
  definition: Record<string, unknown>,
  server: ToolbeltServer,
): Record<string, unknown> {
  const { execution } = definition;
  const support = isObject(execution) ? execution.taskSupport : undefined;
  const isAsIs = hasLegacyTasks(server.capabilities) ? support !== "required" : !hasTasks(server);
  if (isAsIs) return definition;
  let made = supporting.get(definition);
  if (!made) {
    const optional = { ...(isObject(execution) ? execution : {}), taskSupport: "optional" };
    supporting.set(definition, made = { ...definition, execution: optional });
  }
  return made;
}

/** Whether a client of 2025-11-25 may call a tool as a task. */
export function maySupportTasks(
  definition: Record<string, unknown>,
  server: ToolbeltServer,
): boolean {
  const { execution } = withTaskSupport(definition, server);
  return hasTasks(server) && isObject(execution) && execution.taskSupport === "optional";
}

export interface Tasks {
  /** The answer to a call: where it is a task, with an id of ours. */
  created(asker: Caller, server: ToolbeltServer, answer: Answer): Answer | Promise<Answer>;
  /**
   * The answer to a call of a client of 2025-11-25 that asked for a task, as it has it. A result that the
   * server gave at once is kept for it as long as a message of its session.
   */
  createdOfLegacy(
    asker: Caller,
    session: Session,
    server: ToolbeltServer,
    answer: Answer,
  ): Promise<Answer>;
  /** Answers `tasks/get`, `tasks/update` and `tasks/cancel` of 2026-07-28. @throws {RpcError} */
  answer(asker: TaskAsker, request: IncomingRequest, signal: CallSignal): Promise<Answer>;
  /** Answers `tasks/get`, `tasks/result` and `tasks/cancel` of 2025-11-25. @throws {RpcError} */
  answerLegacy(
    asker: TaskAsker,
    request: IncomingRequest,
    serverNow: ServerNow,
    signal: CallSignal,
  ): Promise<Answer>;
  /** Of these ids those of tasks that the agent can ask for now. */
  known(agentId: string, named: NamedToolbelt, ids: string[]): Promise<Map<string, TaskRef>>;
  /**
   * Tells of tasks whenever there is something new of one, until all have ended or the signal aborts.
   * @param followed by the ids that the client has
   * @param serverNow a server as it is at the time: toolboxes move, and connections end
   * @param tell told the members of what `tasks/get` answers
   */
  follow(
    asker: TaskAsker,
    followed: Map<string, TaskRef>,
    serverNow: ServerNow,
    tell: (task: Map<string, string>) => void,
    signal: AbortSignal,
  ): Promise<void>;
}

export function tasks(deps: WaistDeps & { db: Database; appSigningKey: SigningKey }): Tasks {
  const ids = seals(deps.appSigningKey, "mooring task id v1");

  return { created, createdOfLegacy, answer, answerLegacy, known, follow };

  function created(
    asker: Caller,
    server: ToolbeltServer,
    answer: Answer,
  ): Answer | Promise<Answer> {
    const task = createdTask(answer);
    return task ? sealedTask(asker, server, task) : answer;
  }

  async function sealedTask(
    { agentId, client }: Caller,
    server: ToolbeltServer,
    task: Map<string, string>,
  ): Promise<Answer> {
    const taskId = idOfTask(task);
    if (taskId === null) return taskWithoutId();
    const { instance } = targetOf(server, client);
    const id = await seal(agentId, { serverId: server.serverId, instance, taskId });
    return { kind: "result", text: objectText(task.set("taskId", JSON.stringify(id))) };
  }

  async function createdOfLegacy(
    asker: Caller,
    session: Session,
    server: ToolbeltServer,
    answer: Answer,
  ): Promise<Answer> {
    const made = await created(asker, server, answer);
    const task = createdTask(made);
    if (task) {
      const { more, own } = apart(task);
      return resultOf(more.set("task", objectText(begun(own))));
    }
    // What was not made at all has no task, and questions that nobody was asked have none either.
    if (made.kind === "error") return made;
    const stream = `task:${randomText()}`;
    const kept = await putMessages(deps.db, session.id, stream, [JSON.stringify(made)], 1);
    if (kept === null) return failure(ErrorCode.indeterminate, "The session was ended meanwhile");
    const ref = { sessionId: session.id, stream, at: Date.now() };
    const id = await seal(asker.agentId, ref);
    return resultOf(new Map([["task", objectText(begun(keptTask(id, ref, made)))]]));
  }

  async function answer(
    asker: TaskAsker,
    { method, params, paramsText }: IncomingRequest,
    signal: CallSignal,
  ): Promise<Answer> {
    const { id, ref, server } = await found(asker, params.taskId);
    if (method === "tasks/update") checkInputResponses(params.inputResponses);
    const given = objectMembers(paramsText);
    // Of calls alone.
    given.delete("requestState");
    const { taskId, instance } = ref;
    const request = { server, method, taskId, instance, params: given };
    const answer = await askTask(deps, asker.client, request, signal);
    if (answer.kind === "error") return answer;
    // As the extension's own examples have it, though it forbids it.
    return resultOf(shownTask(asker, server, id, answer).set("resultType", `"complete"`));
  }

  async function answerLegacy(
    asker: TaskAsker,
    request: IncomingRequest,
    serverNow: ServerNow,
    signal: CallSignal,
  ): Promise<Answer> {
    const { method, params } = request;
    const kept = await openKept(asker.agentId, params.taskId);
    if (kept) return await answerKept(request, kept);
    const { id, ref, server } = await found(asker, params.taskId);
    const { taskId, instance } = ref;
    const ask = async (method: string) => {
      const about = { server, method, taskId, instance, params: new Map<string, string>() };
      return await askTask(deps, asker.client, about, signal);
    };
    if (method === "tasks/result") {
      const meta = objectMembers(request.paramsText).get("_meta");
      const token = meta?.startsWith("{") ? objectMembers(meta).get("progressToken") : undefined;
      const task = { taskId, instance, pollMs: 0, answered: [] };
      const answer = await waitForTask(deps, asker.client, task, aboutTask(asker.asking, id), {
        signal,
        serverNow: () => serverNow(ref.serverId),
        cancels: () => false,
        isClients: true,
        progress: progressOf(token, (text) => {
          const members = objectMembers(text);
          const params = relatedTo(objectMembers(members.get("params")!), id);
          asker.notify(objectText(members.set("params", params)));
        }),
      });
      return withRelated(withShownUris(asker.named, server, answer), id);
    }
    let seen = await ask("tasks/get");
    if (seen.kind === "error") return seen;
    if (method === "tasks/cancel") {
      const status = JSON.parse(objectMembers(seen.text).get("status") ?? "null");
      if (outcomeOf(objectMembers(seen.text))) throw hasEnded(status);
      const cancelled = await ask(method);
      if (cancelled.kind === "error") return cancelled;
      const before = seen;
      // There it is cancelled when that is said; a server of 2026-07-28 may take its time, or forget it at once.
      for (let looks = 1;; looks++) {
        seen = await ask("tasks/get");
        if (seen.kind === "error") break;
        if (outcomeOf(objectMembers(seen.text)) || looks === CANCELLED_LOOKS) break;
        await pause(CANCELLED_LOOK_MS, signal);
      }
      if (seen.kind === "error") {
        if (JSON.parse(seen.text).code !== RpcCode.invalidParams) return seen;
        const gone = objectMembers(before.text).set("status", `"cancelled"`);
        seen = { kind: "result", text: objectText(gone) };
      }
    }
    return resultOf(legacyTask(shownTask(asker, server, id, seen)));
  }

  async function answerKept({ method, params }: IncomingRequest, ref: KeptRef): Promise<Answer> {
    const [message] = await messagesAfter(deps.db, ref.sessionId, ref.stream, 0);
    if (!message) throw noTask();
    const answer: Answer = JSON.parse(message.message);
    const id = String(params.taskId);
    if (method === "tasks/result") return withRelated(answer, id);
    if (method === "tasks/cancel") throw hasEnded("completed");
    return resultOf(legacyTask(keptTask(id, ref, answer)));
  }

  async function known(
    agentId: string,
    named: NamedToolbelt,
    given: string[],
  ): Promise<Map<string, TaskRef>> {
    const refs = new Map<string, TaskRef>();
    for (const id of given) {
      const ref = await open(agentId, id);
      if (ref && named.servers.some(({ serverId }) => serverId === ref.serverId)) refs.set(id, ref);
    }
    return refs;
  }

  async function follow(
    asker: TaskAsker,
    followed: Map<string, TaskRef>,
    serverNow: ServerNow,
    tell: (task: Map<string, string>) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const groups = Map.groupBy(
      followed,
      ([, { serverId, instance }]) => JSON.stringify([serverId, instance]),
    );
    await Promise.all([...groups.values()].map(async (group) => {
      const over = new AbortController();
      const wake = new Map<string, () => void>();
      // A server need not tell of its tasks: what it tells only makes a look sooner.
      const until = AbortSignal.any([signal, over.signal]);
      hear(asker, group.map(([, ref]) => ref), serverNow, wake, until).catch(() => {});
      try {
        await Promise.all(
          group.map(([id, ref]) => look(asker, id, ref, serverNow, tell, wake, signal)),
        );
      } catch (error) {
        if (!signal.aborted) throw error;
      } finally {
        over.abort();
      }
    }));
  }

  /** Looks at a task until it has ended. @param wake where it says how it is made to look at once */
  async function look(
    asker: TaskAsker,
    id: string,
    { serverId, taskId, instance }: TaskRef,
    serverNow: ServerNow,
    tell: (task: Map<string, string>) => void,
    wake: Map<string, () => void>,
    signal: AbortSignal,
  ): Promise<void> {
    let told = "";
    while (!signal.aborted) {
      const server = await serverNow(serverId);
      if (!server) return;
      const news = new AbortController();
      wake.set(taskId, () => news.abort());
      const about = { server, method: "tasks/get", taskId, instance };
      const answer = await askTask(deps, asker.client, { ...about, params: new Map() }, signal);
      let waitMs = RETRY_MS;
      if (answer.kind === "result") {
        const task = shownTask(asker, server, id, answer);
        task.delete("resultType");
        const text = objectText(task);
        if (text !== told) tell(task);
        told = text;
        if (outcomeOf(task)) return;
        waitMs = Math.max(pollMs(task), LOOK_LEAST_MS);
      } else if (JSON.parse(answer.text).code === RpcCode.invalidParams) return;
      await pause(waitMs, AbortSignal.any([signal, news.signal])).catch(() => {});
    }
  }

  /** Listens to a server for news of tasks that one of its instances made; again where its stream ended. */
  async function hear(
    asker: TaskAsker,
    refs: TaskRef[],
    serverNow: ServerNow,
    wake: Map<string, () => void>,
    signal: AbortSignal,
  ): Promise<void> {
    const [{ serverId, instance }] = refs;
    const body = JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "subscriptions/listen",
      params: {
        notifications: { taskIds: refs.map(({ taskId }) => taskId) },
        _meta: {
          [META.protocolVersion]: WAIST_REVISION,
          [META.clientCapabilities]: { extensions: { [TASKS_EXTENSION]: {} } },
        },
      },
    });
    let isAgain = false;
    const onNotification = (text: string) => {
      const { method, params } = JSON.parse(text);
      if (method === "notifications/tasks") wake.get(params?.taskId)?.();
      // What was told between two streams was told to nobody.
      else if (isAgain) { for (const look of wake.values()) look(); }
    };
    const options = { signal, onNotification, endsWithLink: true };
    for (let waitMs = HEAR_AGAIN_MS;; waitMs = Math.min(2 * waitMs, HEAR_AGAIN_LIMIT_MS)) {
      const server = await serverNow(serverId);
      if (!server) return;
      const target = { ...targetOf(server, asker.client), instance };
      const sinceMs = performance.now();
      const answer = await callServer(deps, target, body, options);
      if (performance.now() - sinceMs > HEARD_MS) waitMs = HEAR_AGAIN_MS;
      const isUnknown = answer.kind === "error" &&
        JSON.parse(answer.text).code === RpcCode.methodNotFound;
      if (isUnknown) return;
      await pause(waitMs, signal);
      isAgain = true;
    }
  }

  async function found(
    asker: TaskAsker,
    id: unknown,
  ): Promise<{ id: string; ref: TaskRef; server: ToolbeltServer }> {
    if (typeof id !== "string") {
      throw new RpcError(RpcCode.invalidParams, "params.taskId must be a string", 200);
    }
    const ref = await open(asker.agentId, id);
    const server = ref && serverOf(asker, ref.serverId);
    if (!ref || !server) throw noTask();
    return { id, ref, server };
  }

  async function seal(agentId: string, ref: TaskRef | KeptRef): Promise<string> {
    return await ids.seal([agentId, "stream" in ref ? "kept" : "task"], JSON.stringify(ref));
  }

  async function open(agentId: string, id: string): Promise<TaskRef | null> {
    const text = await ids.open([agentId, "task"], id);
    return text === null ? null : JSON.parse(text);
  }

  async function openKept(agentId: string, id: unknown): Promise<KeptRef | null> {
    const text = typeof id === "string" ? await ids.open([agentId, "kept"], id) : null;
    return text === null ? null : JSON.parse(text);
  }
}

/** How long after a server could not be asked it is asked again. */
const RETRY_MS = 5000;
/** Between two looks for a listener, of which there may be many: the server itself may tell sooner. */
const LOOK_LEAST_MS = 1000;
/** Before a server is listened to again whose stream ended. */
const HEAR_AGAIN_MS = 1000, HEAR_AGAIN_LIMIT_MS = 60_000;
/** A stream that held so long ended for a reason of its own. */
const HEARD_MS = 10_000;
/** How often, and after what, it is looked whether a task that is being cancelled is. */
const CANCELLED_LOOKS = 20, CANCELLED_LOOK_MS = 250;

function serverOf({ named }: TaskAsker, serverId: string): ToolbeltServer | undefined {
  return named.servers.find((server) => server.serverId === serverId);
}

/** The members of a task that a server told of, under the client's own id and with the URIs that it has. */
function shownTask(
  { named }: TaskAsker,
  server: ToolbeltServer,
  id: string,
  { text }: Answer,
): Map<string, string> {
  const members = objectMembers(text);
  if (members.has("taskId")) members.set("taskId", JSON.stringify(id));
  const result = members.get("result");
  if (result?.startsWith("{")) {
    members.set("result", withShownUris(named, server, { kind: "result", text: result }).text);
  }
  const error = members.get("error");
  if (error?.startsWith("{")) {
    members.set("error", forRevision({ kind: "error", text: error }, "", WAIST_REVISION).text);
  }
  return members;
}

/** What of a task's first answer is the task, and what is the answer's own. */
function apart(members: Map<string, string>) {
  const own = new Map(members), more = new Map<string, string>();
  const meta = own.get("_meta");
  if (meta !== undefined) more.set("_meta", meta);
  own.delete("_meta");
  return { own, more };
}

/** A task's members as 2025-11-25 has them. What it ended in is fetched there by `tasks/result`. */
function legacyTask(members: Map<string, string>): Map<string, string> {
  const legacy = new Map(members);
  const status = JSON.parse(legacy.get("status") ?? "null");
  const result = legacy.get("result");
  // There a tool that reports an error has failed.
  if (status === "completed" && result?.startsWith("{")) {
    if (objectMembers(result).get("isError") === "true") legacy.set("status", `"failed"`);
  }
  for (const name of ["resultType", "result", "error", "inputRequests"]) legacy.delete(name);
  const ttl = legacy.get("ttlMs") ?? "null", interval = legacy.get("pollIntervalMs");
  legacy.delete("ttlMs");
  legacy.delete("pollIntervalMs");
  legacy.set("ttl", ttl);
  if (interval !== undefined) legacy.set("pollInterval", interval);
  return legacy;
}

/** The first that is said of a task: there all begin so (2025-11-25, tasks#task-status-lifecycle). */
function begun(members: Map<string, string>): Map<string, string> {
  return legacyTask(members).set("status", `"working"`);
}

function keptTask(id: string, { at }: KeptRef, { text }: Answer): Map<string, string> {
  const time = new Date(at).toISOString();
  const task = { taskId: id, status: "completed", createdAt: time, lastUpdatedAt: time };
  const members = objectMembers(JSON.stringify({ ...task, ttlMs: KEPT_MS }));
  return members.set("result", text);
}

/** Questions of a task say whose they are (2025-11-25, tasks#associating-task-related-messages). */
function aboutTask(asking: Asking, id: string): Asking {
  if (!asking || "states" in asking) return asking;
  return {
    ask: (method, paramsText, signal) =>
      asking.ask(method, relatedTo(objectMembers(paramsText), id), signal),
  };
}

function withRelated({ kind, text }: Answer, id: string): Answer {
  return kind === "error" ? { kind, text } : { kind, text: relatedTo(objectMembers(text), id) };
}

function relatedTo(members: Map<string, string>, id: string): string {
  const meta = members.get("_meta");
  const all = meta?.startsWith("{") ? objectMembers(meta) : new Map<string, string>();
  all.set(RELATED_META, JSON.stringify({ taskId: id }));
  return objectText(members.set("_meta", objectText(all)));
}

/** One message for all reasons: another agent's task is none. */
function noTask(): RpcError {
  return new RpcError(RpcCode.invalidParams, "There is no such task", 200);
}

function hasEnded(status: unknown): RpcError {
  return new RpcError(
    RpcCode.invalidParams,
    `Cannot cancel the task: it has ended (${String(status).slice(0, 20)})`,
    200,
  );
}

function resultOf(members: Map<string, string>): Answer {
  return { kind: "result", text: objectText(members) };
}
