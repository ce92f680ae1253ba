/** One tools/call, from an agent or from a person's trial: sent over the waist and recorded. */
import { Buffer } from "node:buffer";
import { ErrorCode, objectMembers } from "../dtma/protocol.ts";
import type { CallRecorder, NewCall, Outcome } from "../models/calls.ts";
import type { Database, User } from "../models/db.ts";
import { parseExactly } from "../models/exact_json.ts";
import { type ToolbeltServer, toolForTrial } from "../models/toolbelts.ts";
import type { TrialOutcome } from "../models/trial_runs.ts";
import type { Outlet } from "./exchange.ts";
import { memberOf, sizeOf } from "./large_answer.ts";
import { isObject } from "./revisions.ts";
import { type Answer, type CallOptions, ifComplete, mayHave } from "./router.ts";
import {
  askTask,
  createdTask,
  idOfTask,
  pollMs,
  progressOf,
  taskWithoutId,
  type WaitedTask,
  waitForTask,
  wantsTasks,
} from "./task_wait.ts";
import {
  type Asking,
  askServer,
  clientOf,
  targetOf,
  type WaistClient,
  type WaistDeps,
} from "./waist.ts";

export interface ToolCallDeps extends WaistDeps {
  calls: CallRecorder;
}

export interface ToolCall {
  workspaceId: string;
  client: WaistClient;
  via: NewCall["via"];
  server: ToolbeltServer;
  /** The server as it is at another time, for a call that takes long; null when it may not be called. */
  serverNow: () => Promise<ToolbeltServer | null>;
  /**
   * The server's own name for the tool, the hash it is pinned by, its approved annotations, and what it
   * says of its execution (2025-11-25).
   */
  tool: { name: string; hash: string; annotations?: unknown; execution?: unknown };
  /**
   * The texts of the members of the caller's `params`, which are the call's to change; `arguments` reach the
   * server as they are written.
   */
  params: Map<string, string>;
  asking: Asking;
  /** The caller can be answered with a task; for any other a task is waited for. */
  takesTasks: boolean;
  /** The task that the call was made into at an earlier try, and waits for answers. */
  waited: Pick<WaitedTask, "taskId" | "answered"> | null;
  /** Keeps what another replica needs to wait for the call's task. */
  remember: ((kept: { task: WaitedTask; token: string | undefined }) => void) | undefined;
}

/**
 * Calls a tool. The pin goes with the call: a toolbox refuses it when the server's definition is no
 * longer the approved one, so that a change between list and call cannot slip through.
 *
 * What Mooring itself cannot do (server stopped, lost, too slow, changed) comes back as a result with
 * `isError`, which a model reads and can act upon; the server's own errors pass as they are.
 */
export async function callTool(
  deps: ToolCallDeps,
  call: ToolCall,
  options: CallOptions,
): Promise<Answer> {
  const startedAt = new Date();
  const started = performance.now();
  let answer: Answer | null = null;
  try {
    answer = await send(deps, call, options);
    return visibleToModels(answer);
  } finally {
    deps.calls.record({
      workspaceId: call.workspaceId,
      agentId: call.client.agentId,
      serverId: call.server.serverId,
      serverSlug: call.server.slug,
      tool: call.tool.name,
      via: call.via,
      startedAt,
      durationMs: performance.now() - started,
      ...outcomeOf(answer),
      requestBytes: Buffer.byteLength(call.params.get("arguments") ?? ""),
      responseBytes: answer ? sizeOf(answer) : 0,
      // What a person tries is theirs alone: its run keeps it.
      said: call.via === "bridge"
        ? deps.calls.said(call.workspaceId, call.params.get("arguments"), answer)
        : undefined,
    });
  }
}

/**
 * A person tries a tool on its page.
 *
 * @param args the arguments, checked by the server itself
 * @throws {NotFound | Forbidden | Conflict} {@link toolForTrial}
 */
export async function tryTool(
  deps: ToolCallDeps & { db: Database },
  user: User,
  trial: { serverId: string; name: string; args: Record<string, unknown> },
  signal?: AbortSignal,
  /** Where its questions are put and its progress is told; without it the server hears of neither. */
  page?: { ask: NonNullable<Outlet["ask"]>; onNotification: (text: string) => void },
): Promise<TrialOutcome> {
  const { workspaceId, server, tool } = await toolForTrial(
    deps.db,
    user,
    trial.serverId,
    trial.name,
  );
  const call: ToolCall = {
    workspaceId,
    client: {
      agentId: null,
      sessionId: null,
      capabilities: page ? `{"elicitation":{"form":{},"url":{}}}` : "{}",
      clientInfo: null,
      logLevel: null,
    },
    via: "trial",
    server,
    serverNow: () => Promise.resolve(server),
    tool,
    params: new Map([
      ["arguments", JSON.stringify(trial.args)],
      ...(page ? [["_meta", `{"progressToken":"trial"}`] as const] : []),
    ]),
    asking: page ? { ask: page.ask } : null,
    takesTasks: false,
    waited: null,
    remember: undefined,
  };
  const answer = ifComplete(
    await callTool(deps, call, { signal, onNotification: page?.onNotification }),
  );
  const value = parseExactly(answer.text) as Record<string, unknown>;
  if (answer.kind === "result") return { result: value };
  const { code, message } = JSON.parse(answer.text);
  return { error: { ...value, code, message } };
}

/** @returns a task for a caller that takes them alone */
async function send(deps: ToolCallDeps, call: ToolCall, options: CallOptions): Promise<Answer> {
  const { server, client, tool, asking, takesTasks, waited } = call;
  const { readOnlyHint, idempotentHint } = isObject(tool.annotations) ? tool.annotations : {};
  const meta = call.params.get("_meta");
  const token = meta?.startsWith("{") ? objectMembers(meta).get("progressToken") : undefined;
  const progress = progressOf(token, options.onNotification);
  const { instance } = targetOf(server, client);
  const wait = (task: Omit<WaitedTask, "instance">) =>
    waitForTask(deps, clientOf(client, meta), { ...task, instance }, asking, {
      ...options,
      serverNow: call.serverNow,
      cancels: () => true,
      remember: call.remember && ((task) => call.remember!({ task, token })),
      progress,
    });
  const ask = (mayBeTask: boolean) =>
    askServer(
      deps,
      client,
      {
        server,
        method: "tools/call",
        params: call.params.set("name", JSON.stringify(tool.name)),
        pin: tool.hash,
        // A person approved the annotations with the tool.
        isRepeatable: readOnlyHint === true || idempotentHint === true,
        mayBeTask,
      },
      asking,
      { ...options, onNotification: progress.onNotification },
    );

  if (waited) {
    const { taskId } = waited;
    const params = new Map([["inputResponses", call.params.get("inputResponses") ?? "{}"]]);
    const request = { server, method: "tasks/update", taskId, instance, params };
    const answer = await askTask(deps, clientOf(client, meta), request, options.signal);
    return answer.kind === "error" ? answer : await wait({ ...waited, pollMs: 0 });
  }
  // A client of 2026-07-28 can declare tasks, and is told so, but where it wants to hear of progress: then it
  // can wait as long as they take. An older one can do nothing but wait.
  const waits = client.capabilities !== null || token !== undefined;
  const mustBeTask = isObject(tool.execution) && tool.execution.taskSupport === "required";
  let answer = await ask(takesTasks || mustBeTask && waits);
  // It was not made.
  if (wantsTasks(answer) && waits) answer = await ask(true);
  const task = takesTasks ? null : createdTask(answer);
  if (!task) return answer;
  const taskId = idOfTask(task);
  if (taskId === null) return taskWithoutId();
  return await wait({ taskId, answered: [], pollMs: pollMs(task) });
}

const OWN_CODES = new Set<number>(Object.values(ErrorCode));

function ownError(answer: Answer): { code: number; message: string } | null {
  if (answer.kind !== "error") return null;
  const error = JSON.parse(answer.text) as { code: number; message: string };
  return OWN_CODES.has(error.code) ? error : null;
}

/** An error of Mooring's own as a tool's result, which a model reads and can act upon. */
export function visibleToModels(answer: Answer): Answer {
  const error = ownError(answer);
  if (!error) return answer;
  const result = {
    resultType: "complete",
    content: [{ type: "text", text: error.message }],
    isError: true,
    _meta: { "dev.mooring/errorCode": error.code },
  };
  return { kind: "result", text: JSON.stringify(result) };
}

function outcomeOf(answer: Answer | null): { outcome: Outcome; error: string | null } {
  if (!answer) return { outcome: "cancelled", error: "The caller went away" };
  if (answer.kind === "result") {
    // Asked for more: the call goes on with the client's next try, which is recorded as one of its own.
    const isError = mayHave(answer, "isError") && memberOf(answer, "isError") === "true";
    return { outcome: isError ? "tool_error" : "ok", error: null };
  }
  const { code, message } = JSON.parse(answer.text);
  const mayHaveRun = code === ErrorCode.indeterminate || code === ErrorCode.timedOut ||
    code === ErrorCode.answerTooLarge;
  return { outcome: mayHaveRun ? "indeterminate" : "error", error: String(message) };
}
