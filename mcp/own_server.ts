/**
 * Mooring itself as a server of the toolbelt of an agent that may manage it. It is one like any other to
 * names, scopes, lists and tool search; its tools are the app's, which gives them ({@link OwnTools}).
 */
import { Buffer } from "node:buffer";
import type { ToolDefinition } from "../dtma/protocol.ts";
import type { CallRecorder } from "../models/calls.ts";
import type { Changes } from "../models/changes.ts";
import { errorFields, type Log } from "../models/log.ts";
import type { Toolbelt, ToolbeltServer } from "../models/toolbelts.ts";
import type { Outlet } from "./exchange.ts";
import { messageText } from "./messages.ts";
import { isObject } from "./revisions.ts";
import type { Answer } from "./router.ts";
import type { Caller } from "./sessions.ts";

/** No server has this id. */
export const OWN_SERVER = "00000000-0000-0000-0000-000000000000";
const SLUG = "mooring";

/** What Mooring gives such agents. */
export interface OwnTools {
  /** The tools that an agent may call now. */
  of(agentId: string): Promise<ToolDefinition[]>;
  call(
    agentId: string,
    name: string,
    args: Record<string, unknown>,
    signal: AbortSignal,
  ): Promise<OwnAnswer>;
  /** What became of a wish, as the answer of the tool that made it. */
  outcome(agentId: string, wishId: string): Promise<OwnAnswer>;
  /** The agent's person does not want it. */
  withdraw(agentId: string, wishId: string): Promise<OwnAnswer>;
}

export interface OwnAnswer {
  /** A CallToolResult; what a model can mend is one with isError. */
  result: Record<string, unknown>;
  /** What a person has to decide first, and where; `result` says so too, to who cannot be shown a page. */
  waits?: { wishId: string; url: string; message: string };
}

/** How a client shows its person a page (elicitation in URL mode). */
export type ShowsPage =
  /** 2026-07-28: the answer says so, and the call comes back with what the person said to it. */
  | {
    seal(wishId: string): Promise<string>;
    back: { wishId: string; responses: unknown } | null;
  }
  /** 2025-11-25: asked on the stream of the call. */
  | { ask: NonNullable<Outlet["ask"]>; notify: Outlet["notify"] };

/** How long a call waits for a person who looks at the page: clients give up after a minute. */
const DECIDES_WITHIN_MS = 45_000;
const QUESTION = "approval";

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
    knowsInstanceAccounts: false,
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
        limits: null,
      })),
    ],
  };
}

interface OwnToolDeps {
  ownTools?: OwnTools;
  calls: CallRecorder;
  changes: Changes;
  log: Log;
}

/** Calls a tool of Mooring's own, and records it as any call. @param shows null: the client shows no pages */
export async function callOwnTool(
  deps: OwnToolDeps,
  { agentId, workspaceId }: Caller,
  tool: { name: string; serverSlug: string },
  args: Record<string, unknown>,
  shows: ShowsPage | null,
  signal: AbortSignal,
): Promise<Answer> {
  const startedAt = new Date(), started = performance.now();
  let result: Record<string, unknown>, error: string | null = null;
  try {
    const answer = shows && "back" in shows && shows.back
      ? await answered(deps, agentId, shows.back.wishId, shows.back.responses, signal)
      : await deps.ownTools!.call(agentId, tool.name, args, signal);
    const shown = answer.waits && shows
      ? await showPage(deps, agentId, answer.waits, shows, signal)
      : null;
    // Not the call's end: it comes back.
    if (shown && "kind" in shown) return shown;
    ({ result } = shown ?? answer);
  } catch (thrown) {
    signal.throwIfAborted();
    deps.log.error("A tool of Mooring's own failed", errorFields(thrown));
    error = "Mooring failed to do this; its log says why";
    result = { content: [{ type: "text", text: error }], isError: true };
  }
  const text = JSON.stringify({ resultType: "complete", ...result });
  deps.calls.record({
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

/**
 * Has the client show its person the page where they decide. The address opens nothing by itself: whoever
 * opens it has to be signed in, and to be one who may decide.
 */
async function showPage(
  deps: OwnToolDeps,
  agentId: string,
  { wishId, url, message }: NonNullable<OwnAnswer["waits"]>,
  shows: ShowsPage,
  signal: AbortSignal,
): Promise<Answer | OwnAnswer | null> {
  if ("ask" in shows) {
    const params = { mode: "url", url, message, elicitationId: wishId };
    const { kind, text } = await shows.ask("elicitation/create", JSON.stringify(params), signal);
    if (kind === "error") return null;
    const answer = await answered(deps, agentId, wishId, { [QUESTION]: JSON.parse(text) }, signal);
    if (!answer.waits) {
      const about = JSON.stringify({ elicitationId: wishId });
      shows.notify(messageText("notifications/elicitation/complete", about));
    }
    return answer;
  }
  // It was shown already, and nobody has decided yet.
  if (shows.back) return null;
  const params = { mode: "url", url, message };
  return {
    kind: "result",
    text: JSON.stringify({
      resultType: "input_required",
      inputRequests: { [QUESTION]: { method: "elicitation/create", params } },
      requestState: await shows.seal(wishId),
    }),
  };
}

/** What a call ends with once its person was shown the page, and said whether they look at it. */
async function answered(
  { ownTools, changes }: OwnToolDeps,
  agentId: string,
  wishId: string,
  responses: unknown,
  signal: AbortSignal,
): Promise<OwnAnswer> {
  const response = isObject(responses) ? responses[QUESTION] : undefined;
  const action = isObject(response) ? response.action : undefined;
  if (action === "decline") return await ownTools!.withdraw(agentId, wishId);
  if (action !== "accept") return await ownTools!.outcome(agentId, wishId);
  const wakeUps = changes.subscribe(({ table, agent }) => table === "wishes" && agent === agentId);
  try {
    const until = performance.now() + DECIDES_WITHIN_MS;
    for (;;) {
      const outcome = await ownTools!.outcome(agentId, wishId);
      const leftMs = until - performance.now();
      if (!outcome.waits || leftMs <= 0) return outcome;
      // A wake-up can be lost.
      await wakeUps.next(Math.min(leftMs, 5000), signal);
      signal.throwIfAborted();
    }
  } finally {
    wakeUps.close();
  }
}
