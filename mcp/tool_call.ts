/** One tools/call, from an agent or from a person's trial: sent over the waist and recorded. */
import {
  ErrorCode,
  objectMembers,
  objectText,
  PIN_META,
  WAIST_REVISION,
} from "../dtma/protocol.ts";
import type { CallRecorder, NewCall, Outcome } from "../models/calls.ts";
import type { Database, User } from "../models/db.ts";
import { type ToolbeltServer, toolForTrial } from "../models/toolbelts.ts";
import { META } from "./revisions.ts";
import { type Answer, type CallOptions, callServer, failure, type RouterDeps } from "./router.ts";

export interface ToolCallDeps extends RouterDeps {
  calls: CallRecorder;
  version: string;
}

export interface ToolCall {
  workspaceId: string;
  agentId: string | null;
  via: NewCall["via"];
  server: ToolbeltServer;
  /** The server's own name for the tool, and the hash it is pinned by. */
  tool: { name: string; hash: string };
  /** The text of the caller's `params`; its `arguments` reach the server as they are written. */
  paramsText: string;
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
      agentId: call.agentId,
      serverId: call.server.serverId,
      serverSlug: call.server.slug,
      tool: call.tool.name,
      via: call.via,
      startedAt,
      durationMs: performance.now() - started,
      ...outcomeOf(answer),
      requestBytes: byteLength(call.paramsText),
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
): Promise<{ result?: Record<string, unknown>; error?: { code: number; message: string } }> {
  const { workspaceId, server, tool } = await toolForTrial(
    deps.db,
    user,
    trial.serverId,
    trial.name,
  );
  const paramsText = JSON.stringify({ name: trial.name, arguments: trial.args });
  const call = { workspaceId, agentId: null, via: "trial" as const, server, tool, paramsText };
  const answer = await callTool(deps, call, { signal });
  return { [answer.kind]: JSON.parse(answer.text) };
}

async function send(deps: ToolCallDeps, call: ToolCall, options: CallOptions): Promise<Answer> {
  const { server } = call;
  if (server.unavailable) return failure(ErrorCode.serverUnavailable, server.unavailable);
  const { toolboxId, reach, address, serverId } = server;
  // Where a server has an instance for each agent, this agent's answers.
  const target = { toolboxId, reach, address, serverId, instance: call.agentId };
  return await callServer(deps, target, waistRequest(deps, call), options);
}

/** The request of the waist: the caller's, with the server's own name and our metadata. */
function waistRequest(deps: ToolCallDeps, call: ToolCall): string {
  const params = objectMembers(call.paramsText);
  const given = params.get("_meta");
  const meta = given?.startsWith("{") ? objectMembers(given) : new Map<string, string>();
  meta.set(META.protocolVersion, JSON.stringify(WAIST_REVISION));
  // What the client could answer is not passed on yet: elicitation and sampling come with a later
  // revision of the bridge, and a server must not count on them before.
  meta.set(META.clientCapabilities, "{}");
  if (!meta.has(META.clientInfo)) {
    meta.set(META.clientInfo, JSON.stringify({ name: "mooring", version: deps.version }));
  }
  meta.set(PIN_META, JSON.stringify(call.tool.hash));
  params.set("name", JSON.stringify(call.tool.name));
  params.set("_meta", objectText(meta));
  return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${objectText(params)}}`;
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
    const isError = objectMembers(answer.text).get("isError") === "true";
    return { outcome: isError ? "tool_error" : "ok", error: null };
  }
  const { code, message } = JSON.parse(answer.text);
  const mayHaveRun = code === ErrorCode.indeterminate || code === ErrorCode.timedOut ||
    code === ErrorCode.answerTooLarge;
  return { outcome: mayHaveRun ? "indeterminate" : "error", error: String(message) };
}
