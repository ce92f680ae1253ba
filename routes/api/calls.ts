import { z } from "zod";
import { getAgent } from "../../models/agents.ts";
import { readCallBody } from "../../models/call_bodies.ts";
import { CallFilter, searchCalls, summarizeCalls } from "../../models/call_search.ts";
import { getCall } from "../../models/calls.ts";
import { NotFound } from "../../models/errors.ts";
import { getServer } from "../../models/servers.ts";
import { cursorOf, placeIn } from "./cursor.ts";
import { type Asked, operation, paging, partOf } from "./operation.ts";

const CallShape = z.object({
  id: z.uuid(),
  agentId: z.uuid().nullable(),
  agentName: z.string().nullable(),
  serverId: z.uuid().nullable(),
  serverSlug: z.string(),
  tool: z.string(),
  via: z.enum(["bridge", "trial"]).describe("trial: a person tried the tool"),
  startedAt: z.iso.datetime(),
  durationMs: z.number(),
  outcome: z.enum(["ok", "tool_error", "error", "cancelled", "indeterminate"]).describe(
    "tool_error: the tool's own word; error: it was not run; indeterminate: it may have run",
  ),
  error: z.string().nullable(),
  requestBytes: z.int(),
  responseBytes: z.int(),
}).meta({ id: "Call" });
export type CallShape = z.infer<typeof CallShape>;

const FiguresShape = z.object({
  calls: z.int(),
  failed: z.int().describe("Not answered by the server: refused, lost, too late"),
  toolErrors: z.int().describe("Answered by the tool that it failed"),
  medianMs: z.number().nullable().describe("Of those that were answered; at most 5 % off"),
  p95Ms: z.number().nullable(),
});

const SummaryShape = z.object({
  total: FiguresShape,
  history: z.object({
    from: z.iso.datetime(),
    until: z.iso.datetime(),
    partMs: z.int().describe("How long each part is"),
    buckets: z.array(z.object({
      at: z.iso.datetime(),
      ok: z.int(),
      failed: z.int(),
      medianMs: z.number().nullable(),
      p95Ms: z.number().nullable(),
    })).describe("Parts without calls are left out"),
  }),
  groups: z.array(FiguresShape.extend({
    id: z.uuid().nullable().describe("A server's or an agent's, where it is there still"),
    name: z.string(),
  })).describe("Those with the most calls, fifty at most"),
  isCut: z.boolean().describe("More errors have the text than the 5,000 that were counted"),
}).meta({ id: "CallSummary" });

const KeptShape = z.object({
  value: z.unknown().describe("Null where it was too large to keep"),
  masked: z.int().describe("How many values were masked"),
  isCut: z.boolean(),
});
const BodyShape = z.object({
  arguments: KeptShape,
  answer: KeptShape.extend({ kind: z.enum(["result", "error"]) }).nullable()
    .describe("Null: the caller went away"),
}).meta({ id: "CallBody" });

/** The filters of the page of calls; here one that does not hold is refused, and not passed over. */
const { period, via, outcome } = CallFilter.shape;
const filters = {
  text: z.string().max(200).default("").describe("Part of a tool's name, its server's or an error"),
  agent: z.uuid().optional(),
  server: z.uuid().optional(),
  outcome: outcome.unwrap().unwrap().optional()
    .describe("failed: each that did not end as its tool meant it"),
  via: via.unwrap().unwrap().optional(),
  period: period.unwrap().default("all").describe("How far back"),
};

/** @throws {NotFound} the agent or the server is not there */
async function filterOf(
  { deps: { db }, bearer: { user } }: Asked,
  { text, agent, server, outcome, via, period }: z.output<z.ZodObject<typeof filters>>,
): Promise<CallFilter> {
  if (agent) await getAgent(db, user, agent);
  if (server) await getServer(db, user, server);
  return CallFilter.parse({ text, agent, server, outcome, via, period });
}

export const callOperations = [
  operation({
    name: "list_calls",
    method: "GET",
    path: "/calls",
    scopes: ["read"],
    summary: "Search calls, newest first",
    description: "Calls are kept as long as the workspace says: get_retention.",
    input: z.strictObject({ ...paging, ...filters }),
    output: partOf(CallShape),
    run: async (asked, { limit, cursor, ...given }) => {
      const { deps: { db }, bearer: { user, workspace } } = asked;
      const filter = await filterOf(asked, given);
      const place = placeIn(cursor, z.string()) ?? null;
      const { calls, next } = await searchCalls(db, user, workspace.id, filter, {
        limit,
        cursor: place,
      });
      return { items: calls, nextCursor: next && cursorOf(next) };
    },
  }),
  operation({
    name: "summarize_calls",
    method: "GET",
    path: "/calls/summary",
    scopes: ["read"],
    summary: "Sum up calls: how many, how they ended and how long they took, over time and by tool",
    description:
      "From what was counted when they were recorded, so calls that are not kept any more count as well.",
    input: z.strictObject({ ...filters, by: z.enum(["tool", "server", "agent"]).default("tool") }),
    output: SummaryShape,
    run: async (asked, { by, ...given }) => {
      const { deps: { db }, bearer: { user, workspace } } = asked;
      return await summarizeCalls(db, user, workspace.id, await filterOf(asked, given), by);
    },
  }),
  operation({
    name: "get_call",
    method: "GET",
    path: "/calls/{call}",
    scopes: ["read"],
    summary: "Read one call",
    input: z.strictObject({ call: z.uuid() }),
    output: CallShape,
    run: ({ deps: { db }, bearer: { user } }, { call }) => getCall(db, user, call),
  }),
  operation({
    name: "get_call_body",
    method: "GET",
    path: "/calls/{call}/body",
    scopes: ["read", "calls:read-bodies"],
    summary: "Read what was said in a call, where it is kept (owners and admins)",
    description: "Secrets are masked, and long values cut.",
    input: z.strictObject({ call: z.uuid() }),
    output: BodyShape,
    run: async ({ deps, bearer: { user } }, { call }) => {
      const body = await readCallBody(deps, user, call);
      if (!body) throw new NotFound("Nothing that was said in such a call is kept for you to see");
      return body;
    },
  }),
];
