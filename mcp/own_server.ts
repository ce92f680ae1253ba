/**
 * Mooring itself as a server of the toolbelt of an agent that may manage it. It is one like any other to
 * names, scopes, lists and tool search; its tools are the app's, which gives them ({@link OwnTools}).
 */
import { Buffer } from "node:buffer";
import type { ToolDefinition } from "../dtma/protocol.ts";
import type { CallRecorder } from "../models/calls.ts";
import { errorFields, type Log } from "../models/log.ts";
import type { Toolbelt, ToolbeltServer } from "../models/toolbelts.ts";
import type { Answer } from "./router.ts";
import type { Caller } from "./sessions.ts";

/** No server has this id. */
export const OWN_SERVER = "00000000-0000-0000-0000-000000000000";
const SLUG = "mooring";

/** What Mooring gives such agents. */
export interface OwnTools {
  /** The tools that an agent may call now. */
  of(agentId: string): Promise<ToolDefinition[]>;
  /** Calls one. @returns a CallToolResult; what a model can mend is one with isError */
  call(
    agentId: string,
    name: string,
    args: Record<string, unknown>,
    signal: AbortSignal,
  ): Promise<Record<string, unknown>>;
}

/** A toolbelt with Mooring's own tools; the same one where there are none. */
export function withOwnServer(toolbelt: Toolbelt, tools: ToolDefinition[]): Toolbelt {
  if (tools.length === 0) return toolbelt;
  // A person's server of this name keeps it, and what its tools are called.
  const taken = new Set(toolbelt.servers.map(({ slug }) => slug));
  let slug = SLUG;
  for (let number = 2; taken.has(slug); number++) slug = `${SLUG}-${number}`;
  const server: ToolbeltServer = {
    serverId: OWN_SERVER,
    slug,
    name: "Mooring",
    toolboxId: OWN_SERVER,
    reach: "direct",
    address: null,
    instances: "shared",
    knowsInstanceInputs: false,
    capabilities: { tools: {} },
    instructions:
      "Finds, deploys and connects MCP servers. A person approves a new server's tools; " +
      "until then no agent gets them.",
    unavailable: null,
  };
  return {
    ...toolbelt,
    servers: [...toolbelt.servers, server],
    tools: [
      ...toolbelt.tools,
      ...tools.map((definition) => ({
        serverId: OWN_SERVER,
        serverSlug: slug,
        name: definition.name,
        hash: "",
        definition,
        shownName: definition.name,
        defaults: {},
        fixed: {},
      })),
    ],
  };
}

/** Calls a tool of Mooring's own, and records it as any call. */
export async function callOwnTool(
  { ownTools, calls, log }: { ownTools?: OwnTools; calls: CallRecorder; log: Log },
  { agentId, workspaceId }: Caller,
  tool: { name: string; serverSlug: string },
  args: Record<string, unknown>,
  signal: AbortSignal,
): Promise<Answer> {
  const startedAt = new Date(), started = performance.now();
  let result: Record<string, unknown>, error: string | null = null;
  try {
    result = await ownTools!.call(agentId, tool.name, args, signal);
  } catch (thrown) {
    log.error("A tool of Mooring's own failed", errorFields(thrown));
    error = "Mooring failed to do this; its log says why";
    result = { content: [{ type: "text", text: error }], isError: true };
  }
  const text = JSON.stringify({ resultType: "complete", ...result });
  calls.record({
    workspaceId,
    agentId,
    serverId: null,
    serverSlug: tool.serverSlug,
    tool: tool.name,
    via: "bridge",
    startedAt,
    durationMs: performance.now() - started,
    outcome: error ? "error" : result.isError === true ? "tool_error" : "ok",
    error,
    requestBytes: Buffer.byteLength(JSON.stringify(args)),
    responseBytes: Buffer.byteLength(text),
  });
  return { kind: "result", text };
}
