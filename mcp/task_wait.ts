/**
 * A client without tasks gets the plain result of a call that its server made a task of: the bridge looks at
 * the task until it has ended, puts its questions to the client as those of any call, and cancels it when the
 * client gives up.
 *
 * It is the bridge that waits, and not DTMA, since each look is a request of its own: a DTMA or a link that
 * restarts does not end the wait, nor does the time limit of a call. Nor need the end of a replica: a client of
 * 2026-07-28 that was asked something comes back with the task in its `requestState`, and one that takes its
 * session's stream up again (exchange.ts) finds the wait taken over. Who can do neither loses the answer; the
 * task itself goes on then until its server forgets it.
 */
import {
  abortSignalOf,
  type CallSignal,
  ErrorCode,
  objectMembers,
  objectText,
  TASK_PROGRESS_META,
  TASKS_EXTENSION,
} from "../dtma/protocol.ts";
import type { ToolbeltServer } from "../models/toolbelts.ts";
import type { Outlet } from "./exchange.ts";
import { messageText } from "./messages.ts";
import type { RequestStates, StateOf } from "./request_state.ts";
import { isObject, RpcCode } from "./revisions.ts";
import { type Answer, type CallOptions, failure } from "./router.ts";
import {
  type Asking,
  askServer,
  CANNOT_BE_ASKED,
  membersOfType,
  pause,
  putQuestions,
  undeclared,
  type WaistClient,
  type WaistDeps,
} from "./waist.ts";

/** A task of a server's that is waited for. */
export interface WaitedTask {
  /** The server's own. */
  taskId: string;
  /** Whose instance made it; null for the shared one. */
  instance: string | null;
  /** How soon it is looked at first. */
  pollMs: number;
  /** Keys of its questions that were answered: it may take them for open a little longer. */
  answered: string[];
}

export interface WaitOptions extends CallOptions {
  /** The server as it is now: a wait is long, and toolboxes move. Null when it cannot be called any more. */
  serverNow: () => Promise<ToolbeltServer | null>;
  /** Whether the task is to be cancelled, when the wait was given up. */
  cancels: () => boolean;
  /** The client has the task itself: whatever becomes of the wait, it stays, and is asked for again. */
  isClients?: boolean;
  /** Keeps the task where another replica finds it, should this one be lost. */
  remember?: (task: WaitedTask) => void;
  /** The progress that the client asked for. */
  progress: Progress;
  /** How long a server that cannot be asked is asked again. */
  lostMs?: number;
}

/** Where a server says nothing of it; and what it may say, for our sake and the client's. */
const POLL_MS = 1000, POLL_LEAST_MS = 50, POLL_MOST_MS = 5 * 60_000;
/** A toolbox, its DTMA or its server may be started anew meanwhile. */
const LOST_MS = 60_000;
/** The longest wait for a task that its server keeps for ever. */
const WAIT_LIMIT_MS = 24 * 60 * 60_000;
/** A client is told that its call goes on at least so often, for the sake of its own time limit. */
const TELL_EVERY_MS = 5000;

/** A message of a session, which is what it is kept as, is forgotten after a quarter of an hour. */
const REMEMBER_EVERY_MS = 5 * 60_000;

/** What a server that was asked in vain may answer soon. */
const PASSING = new Set<number>([
  ErrorCode.serverUnavailable,
  ErrorCode.indeterminate,
  ErrorCode.timedOut,
]);

function isPassing(answer: Answer): boolean {
  return answer.kind === "error" && PASSING.has(JSON.parse(answer.text).code);
}

/** The members of an answer that is a task, or null for any other. */
export function createdTask(answer: Answer): Map<string, string> | null {
  return membersOfType(answer, "task");
}

/** Longest id of a server's: sealed it has to fit into a header. */
const TASK_ID_LIMIT = 1024;

/** The server's id of a task; null where that is none. */
export function idOfTask(task: Map<string, string>): string | null {
  const id: unknown = JSON.parse(task.get("taskId") ?? "null");
  return typeof id === "string" && id.length <= TASK_ID_LIMIT ? id : null;
}

export function taskWithoutId(): Answer {
  return failure(ErrorCode.indeterminate, "The server made a task with an id that is none");
}

/** Whether a server refused a call since it makes nothing but a task of it. */
export function wantsTasks(answer: Answer): boolean {
  if (answer.kind === "result" || !answer.text.includes(TASKS_EXTENSION)) return false;
  const { code, data } = JSON.parse(answer.text);
  const required = isObject(data) ? data.requiredCapabilities : undefined;
  return code === RpcCode.missingClientCapability && isObject(required) &&
    isObject(required.extensions) && TASKS_EXTENSION in required.extensions;
}

/** How long after a look at a task the next one may be. */
export function pollMs(task: Map<string, string>): number {
  const wanted = Number(task.get("pollIntervalMs") ?? POLL_MS);
  return Math.min(Math.max(wanted || POLL_MS, POLL_LEAST_MS), POLL_MOST_MS);
}

/**
 * Waits until a task has ended.
 *
 * @returns what the call would have been answered with; or `input_required`, with the task in its
 *   `requestState`, for a client that is asked by its answers
 */
export async function waitForTask(
  deps: WaistDeps,
  client: WaistClient,
  task: WaitedTask,
  asking: Asking,
  options: WaitOptions,
): Promise<Answer> {
  const { serverNow, signal, cancels, isClients, remember, progress, lostMs = LOST_MS } = options;
  const answered = new Set(task.answered);
  const startedAt = Date.now();
  let waitMs = task.pollMs, lostAt: number | null = null, rememberedAt = -Infinity;
  let seen = new Map<string, string>();
  let asked: Asked | null = null;
  try {
    for (;;) {
      if (Date.now() - rememberedAt >= REMEMBER_EVERY_MS) {
        remember?.({ ...task, answered: [...answered] });
        rememberedAt = Date.now();
      }
      await rest();
      if (asked?.responses != null) {
        const { keys, responses } = asked;
        asked = null;
        if (typeof responses === "string") return giveUp(responses);
        const params = new Map([["inputResponses", objectText(responses)]]);
        const until = Date.now() + lostMs;
        // The client does not give them again.
        while (isPassing(await ask("tasks/update", params, signal)) && Date.now() < until) {
          await pause(Math.min(POLL_MS, lostMs), signal);
        }
        for (const key of keys) answered.add(key);
        [rememberedAt, lostAt] = [-Infinity, null];
        continue;
      }
      const answer = await ask("tasks/get", new Map(), signal);
      if (answer.kind === "error") {
        const { code, message } = JSON.parse(answer.text);
        if (code === RpcCode.invalidParams || code === RpcCode.methodNotFound) {
          return isClients ? answer : forgotten();
        }
        if (!PASSING.has(code)) return answer;
        lostAt ??= Date.now();
        // Whoever thinks of an answer is not hurried.
        if (Date.now() - lostAt >= lostMs && !asked) return lost(String(message));
        waitMs = Math.max(waitMs, Math.min(POLL_MS, lostMs));
        continue;
      }
      lostAt = null;
      seen = objectMembers(answer.text);
      const end = outcomeOf(seen);
      if (end) return end;
      const open = openQuestions(seen, answered);
      if (asked && !asked.keys.some((key) => open.has(key))) {
        // Its server has taken it back.
        asked.stop.abort();
        asked = null;
      }
      if (open.size > 0 && !asked) {
        const questions = new Map([["inputRequests", objectText(open)]]);
        if (!asking || undeclared(questions, client.capabilities!).length > 0) {
          return giveUp(CANNOT_BE_ASKED);
        }
        if ("states" in asking) return await needed(asking, open);
        asked = put([...open.keys()], questions, asking.ask, signal);
      }
      const ttlMs = JSON.parse(seen.get("ttlMs") ?? "null");
      const isLate = Date.now() - startedAt > (typeof ttlMs === "number" ? ttlMs : WAIT_LIMIT_MS);
      if (isLate && !asked) {
        return giveUp("The task that the server made of the call did not end in its time");
      }
      progress.goesOn(seen);
      waitMs = pollMs(seen);
    }
  } catch (error) {
    if (signal?.aborted && cancels()) cancel();
    throw error;
  } finally {
    asked?.stop.abort();
  }

  /** Until the next look or the client's answers, with word to the client that its call goes on. */
  async function rest(): Promise<void> {
    const until = asked?.isAnswered ?? signal;
    for (let leftMs = waitMs; leftMs > 0 && !asked?.responses; leftMs -= TELL_EVERY_MS) {
      await pause(Math.min(leftMs, TELL_EVERY_MS), until).catch(() => signal?.throwIfAborted());
      if (leftMs > TELL_EVERY_MS) progress.goesOn(seen);
    }
    signal?.throwIfAborted();
  }

  async function ask(
    method: string,
    params: Map<string, string>,
    until?: CallSignal,
  ): Promise<Answer> {
    const server = await serverNow();
    if (!server) {
      return failure(ErrorCode.serverUnavailable, "The server is not connected any more");
    }
    return await askTask(deps, client, { ...task, server, method, params }, until);
  }

  function cancel(): void {
    ask("tasks/cancel", new Map()).catch(() => {});
  }

  function giveUp(reason: string): Answer {
    if (isClients) return failure(ErrorCode.indeterminate, `${reason}. The task goes on`);
    cancel();
    return failure(ErrorCode.indeterminate, `${reason}. It was cancelled, and may have run`);
  }

  async function needed(
    { states, of }: { states: RequestStates; of: StateOf },
    open: Map<string, string>,
  ): Promise<Answer> {
    const { taskId } = task;
    const state = JSON.stringify({ taskId, answered: [...answered], asked: [...open.keys()] });
    const sealed = await states.seal(ofWait(of), state);
    return {
      kind: "result",
      text: `{"resultType":"input_required","inputRequests":${objectText(open)},` +
        `"requestState":${JSON.stringify(sealed)}}`,
    };
  }
}

/**
 * The task that a call goes on with, where its `requestState` says that it waits for one.
 * @param responses the text of its `inputResponses`: what they leave out is asked again
 */
export async function waitIn(
  states: RequestStates,
  of: StateOf,
  sealed: unknown,
  responses: string | undefined,
): Promise<Pick<WaitedTask, "taskId" | "answered"> | null> {
  // No server can have made one: its own states are bound to the call.
  const state = await states.open(ofWait(of), sealed).catch(() => null);
  if (state === null) return null;
  const { taskId, answered, asked = [] } = JSON.parse(state);
  const given = objectMembers(responses ?? "{}");
  return { taskId, answered: [...answered, ...asked.filter((key: string) => given.has(key))] };
}

function ofWait(of: StateOf): StateOf {
  return { ...of, method: `${of.method}, as a task` };
}

/** Asks a server about one of its tasks. */
export async function askTask(
  deps: WaistDeps,
  client: WaistClient,
  { server, method, taskId, instance, params }: {
    server: ToolbeltServer;
    method: string;
    taskId: string;
    instance: string | null;
    /** What the request has beside the task's id. */
    params: Map<string, string>;
  },
  signal?: CallSignal,
): Promise<Answer> {
  const all = new Map(params).set("taskId", JSON.stringify(taskId));
  // Each says how it is to be, and nothing more when it is said twice (SEP-2663, tasks/update and
  // tasks/cancel alike).
  const request = { server, method, params: all, isRepeatable: true, mayBeTask: true, instance };
  return await askServer(deps, client, request, null, { signal });
}

/** What a task's end is to whoever made the call; null while it has none. */
export function outcomeOf(task: Map<string, string>): Answer | null {
  const status: unknown = JSON.parse(task.get("status") ?? "null");
  const result = task.get("result"), error = task.get("error");
  if (status === "completed" && result?.startsWith("{")) {
    const members = objectMembers(result);
    if (!members.has("resultType")) members.set("resultType", `"complete"`);
    return { kind: "result", text: objectText(members) };
  }
  if (status === "failed" && error?.startsWith("{")) return { kind: "error", text: error };
  if (status === "cancelled") {
    const message: unknown = JSON.parse(task.get("statusMessage") ?? "null");
    const why = typeof message === "string" ? `: ${message}` : "";
    return failure(ErrorCode.indeterminate, `The call was cancelled${why}`);
  }
  if (status !== "completed" && status !== "failed") return null;
  return failure(ErrorCode.indeterminate, "The server's task ended without a result");
}

/** What a task asks, while it is put to the client. */
interface Asked {
  keys: string[];
  /** The client's answers, or why it was not asked. */
  responses: Map<string, string> | string | null;
  /** Aborted when they are there, or are not waited for. */
  isAnswered: AbortSignal;
  /** Takes the questions back. */
  stop: AbortController;
}

/** Meanwhile the task may end, or its server take the questions back: both are seen by looking at it. */
function put(
  keys: string[],
  questions: Map<string, string>,
  ask: NonNullable<Outlet["ask"]>,
  signal: CallSignal | undefined,
): Asked {
  const stop = new AbortController(), answered = new AbortController();
  const until = signal ? AbortSignal.any([abortSignalOf(signal), stop.signal]) : stop.signal;
  const isAnswered = AbortSignal.any([until, answered.signal]);
  const asked: Asked = { keys, responses: null, isAnswered, stop };
  const done = (responses: Map<string, string> | string) => {
    asked.responses = responses;
    answered.abort();
  };
  putQuestions(questions, ask, until)
    .then(done, (error) => done(`The client could not be asked: ${error}`));
  return asked;
}

function openQuestions(task: Map<string, string>, answered: Set<string>): Map<string, string> {
  const requests = task.get("inputRequests");
  const open = requests?.startsWith("{") ? objectMembers(requests) : new Map<string, string>();
  for (const key of answered) open.delete(key);
  return open;
}

function forgotten(): Answer {
  return failure(
    ErrorCode.indeterminate,
    "The server does not know the task any more that it made of the call: it was restarted, or forgot " +
      "it. It may have run",
  );
}

function lost(reason: string): Answer {
  // What was not made is the look at the task.
  const why = reason.replace(/, so the call was not made$/, "");
  return failure(
    ErrorCode.indeterminate,
    `The server made a task of the call, and cannot be asked for it: ${why}. It may have run`,
  );
}

/** The progress of a call, and of the task that it became. */
export interface Progress {
  /** Passes a notification on, and notes how far the progress is. */
  onNotification: CallOptions["onNotification"];
  /** Tells that a task goes on, by what was seen of it; not at each look. */
  goesOn(task: Map<string, string>): void;
}

/** @param token the text of the client's progress token, if it wants any progress */
export function progressOf(
  token: string | undefined,
  tell: CallOptions["onNotification"],
): Progress {
  let last = 0, toldAt = -Infinity, told: string | undefined;
  const send = (progress: Map<string, string>) => {
    last = Number(progress.get("progress"));
    toldAt = Date.now();
    const params = objectText(new Map([["progressToken", token!], ...progress]));
    tell?.(messageText("notifications/progress", params));
  };
  return {
    onNotification: (text) => {
      const { params } = JSON.parse(text);
      if (typeof params?.progress === "number") last = Math.max(last, params.progress);
      return tell?.(text);
    },
    goesOn(task) {
      if (token === undefined) return;
      const meta = task.get("_meta");
      const own = meta?.startsWith("{") ? objectMembers(meta).get(TASK_PROGRESS_META) : undefined;
      const made = own?.startsWith("{") ? objectMembers(own) : null;
      if (made && Number(made.get("progress")) > last) return send(made);
      // It must grow with each (2026-07-28, basic/patterns/progress).
      const message = task.get("statusMessage");
      if (made || message === told && Date.now() - toldAt < TELL_EVERY_MS) return;
      told = message;
      send(
        new Map([
          ["progress", String(Math.floor(last) + 1)],
          ...(message?.startsWith('"') ? [["message", message] as const] : []),
        ]),
      );
    },
  };
}
