/** One tools/call, from an agent or from a person's trial: sent over the waist and recorded. */
import { ErrorCode, objectMembers } from "../dtma/protocol.ts";
import type { CallRecorder, NewCall, Outcome } from "../models/calls.ts";
import type { Database, User } from "../models/db.ts";
import { type ToolbeltServer, toolForTrial } from "../models/toolbelts.ts";
import type { Outlet } from "./exchange.ts";
import { isObject } from "./revisions.ts";
import type { Answer, CallOptions } from "./router.ts";
import { type Asking, askServer, type WaistClient, type WaistDeps } from "./waist.ts";

export interface ToolCallDeps extends WaistDeps {
  calls: CallRecorder;
}

export interface ToolCall {
  workspaceId: string;
  client: WaistClient;
  via: NewCall["via"];
  server: ToolbeltServer;
  /** The server's own name for the tool, the hash it is pinned by, and its approved annotations. */
  tool: { name: string; hash: string; annotations?: unknown };
  /** The texts of the members of the caller's `params`; `arguments` reach the server as they are written. */
  params: Map<string, string>;
  asking: Asking;
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
      requestBytes: byteLength(call.params.get("arguments") ?? ""),
      responseBytes: byteLength(answer?.text ?? ""),
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
): Promise<{ result?: Record<string, unknown>; error?: { code: number; message: string } }> {
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
    tool,
    params: new Map([
      ["arguments", JSON.stringify(trial.args)],
      ...(page ? [["_meta", `{"progressToken":"trial"}`] as const] : []),
    ]),
    asking: page ? { ask: page.ask } : null,
  };
  const answer = await callTool(deps, call, { signal, onNotification: page?.onNotification });
  return { [answer.kind]: JSON.parse(answer.text) };
}

async function send(deps: ToolCallDeps, call: ToolCall, options: CallOptions): Promise<Answer> {
  const { server, client, tool, asking } = call;
  const { readOnlyHint, idempotentHint } = isObject(tool.annotations) ? tool.annotations : {};
  return await askServer(
    deps,
    client,
    {
      server,
      method: "tools/call",
      params: new Map(call.params).set("name", JSON.stringify(tool.name)),
      pin: tool.hash,
      // A person approved the annotations with the tool.
      isRepeatable: readOnlyHint === true || idempotentHint === true,
    },
    asking,
    options,
  );
}

function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

const OWN_CODES = new Set<number>(Object.values(ErrorCode));

function ownError(answer: Answer): { code: number; message: string } | null {
  if (answer.kind !== "error") return null;
  const error = JSON.parse(answer.text) as { code: number; message: string };
  return OWN_CODES.has(error.code) ? error : null;
}

/** An error of Mooring's own as a tool's result, which a model reads and can act upon. */
function visibleToModels(answer: Answer): Answer {
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
    const isError = objectMembers(answer.text).get("isError") === "true";
    return { outcome: isError ? "tool_error" : "ok", error: null };
  }
  const { code, message } = JSON.parse(answer.text);
  const mayHaveRun = code === ErrorCode.indeterminate || code === ErrorCode.timedOut ||
    code === ErrorCode.answerTooLarge;
  return { outcome: mayHaveRun ? "indeterminate" : "error", error: String(message) };
}
