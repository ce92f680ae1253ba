import { z } from "zod";
import { getAgent } from "../../models/agents.ts";
import { listCalls } from "../../models/calls.ts";
import { Invalid } from "../../models/errors.ts";
import { getServer } from "../../models/servers.ts";
import { cursorOf, placeIn } from "./cursor.ts";
import { operation, paging, partOf } from "./operation.ts";

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

const Place = z.object({ startedAt: z.iso.datetime(), id: z.uuid() });

export const callOperations = [
  operation({
    name: "list_calls",
    method: "GET",
    path: "/calls",
    scopes: ["read"],
    summary: "List calls, newest first: of the workspace, of one agent or of one server",
    input: z.strictObject({
      ...paging,
      agent: z.uuid().optional(),
      server: z.uuid().optional(),
    }),
    output: partOf(CallShape),
    run: async ({ deps: { db }, bearer: { user, workspace } }, input) => {
      const { limit, cursor, agent, server } = input;
      if (agent && server) {
        const message = "Ask for an agent's calls or for a server's, not for both at once";
        throw new Invalid(message, { server: message });
      }
      if (agent) await getAgent(db, user, agent);
      if (server) await getServer(db, user, server);
      const of = agent
        ? { agentId: agent }
        : server
        ? { serverId: server }
        : { workspaceId: workspace.id };
      const place = placeIn(cursor, Place);
      const before = place && { ...place, startedAt: new Date(place.startedAt) };
      const found = await listCalls(db, user, of, { limit: limit + 1, before });
      const items = found.slice(0, limit);
      const last = items.at(-1);
      return {
        items,
        nextCursor: found.length > limit && last
          ? cursorOf({ startedAt: last.startedAt, id: last.id })
          : null,
      };
    },
  }),
];
