import { z } from "zod";
import { tryTool } from "../../mcp/tool_call.ts";
import {
  approveDefinitions,
  KINDS,
  listDefinitions,
  withdrawDefinitions,
} from "../../models/definitions.ts";
import { getServer } from "../../models/servers.ts";
import { getTool, listTools } from "../../models/tools.ts";
import { type Asked, operation } from "./operation.ts";
import { serverId } from "./servers.ts";

const Json = z.record(z.string(), z.unknown());
const Definition = z.object({
  kind: z.enum(KINDS),
  name: z.string().describe("A template's is its URI template"),
  state: z.enum(["waiting", "approved", "changed", "gone"]).describe(
    "changed: approved once, but the server lists another definition now, so it is withheld",
  ),
  definition: Json.describe("As the server lists it now: text of its own, to be read with care"),
  hash: z.string().describe("What an approval pins"),
  approvedDefinition: Json.nullable(),
  approvedHash: z.string().nullable(),
  approvedAt: z.iso.datetime().nullable(),
  firstSeenAt: z.iso.datetime(),
  changedAt: z.iso.datetime(),
}).meta({ id: "Definition" });
export type DefinitionShape = z.infer<typeof Definition>;
const All = z.object({ items: z.array(Definition) });

const tool = { ...serverId, tool: z.string().min(1).max(1024).describe("As its server calls it") };

export const toolOperations = [
  operation({
    name: "list_tools",
    method: "GET",
    path: "/servers/{server}/tools",
    scopes: ["read"],
    summary: "List a server's tools, what needs a decision first",
    input: z.strictObject(serverId),
    output: All,
    run: async ({ deps: { db }, bearer: { user } }, { server }) => {
      await getServer(db, user, server);
      const tools = await listTools(db, user, server);
      return { items: tools.map((tool) => ({ ...tool, kind: "tool" as const })) };
    },
  }),
  operation({
    name: "list_definitions",
    method: "GET",
    path: "/servers/{server}/definitions",
    scopes: ["read"],
    summary: "List a server's tools, prompts, resource templates and instructions",
    input: z.strictObject(serverId),
    output: All,
    run: (asked, { server }) => all(asked, server),
  }),
  operation({
    name: "get_tool",
    method: "GET",
    path: "/servers/{server}/tools/{tool}",
    scopes: ["read"],
    summary: "Read a tool",
    input: z.strictObject(tool),
    output: Definition,
    run: async ({ deps: { db }, bearer: { user } }, { server, tool }) => {
      await getServer(db, user, server);
      return { ...await getTool(db, user, server, tool), kind: "tool" as const };
    },
  }),
  operation({
    name: "approve_definitions",
    method: "POST",
    path: "/servers/{server}/approvals",
    scopes: ["tools:approve"],
    summary: "Approve definitions, each by the hash that was read",
    description:
      "Connected agents get these now, for as long as the server lists them unchanged. Those that " +
      "changed since are named in the 409; the others of their kind are approved.",
    input: z.strictObject({
      ...serverId,
      definitions: z.array(z.strictObject({
        kind: z.enum(KINDS).default("tool"),
        name: z.string().min(1).max(1024),
        hash: z.string().min(1).max(100),
      })).min(1).max(1000),
    }),
    output: All,
    run: async (asked, { server, definitions }) => {
      const { deps: { db }, bearer: { user } } = asked;
      for (const kind of KINDS) {
        const picks = definitions.filter((each) => each.kind === kind);
        if (picks.length > 0) await approveDefinitions(db, user, server, kind, picks);
      }
      return await all(asked, server);
    },
  }),
  operation({
    name: "withdraw_approvals",
    method: "POST",
    path: "/servers/{server}/approvals/withdraw",
    scopes: ["tools:approve"],
    summary: "Take approval back: agents no longer get these",
    input: z.strictObject({
      ...serverId,
      kind: z.enum(KINDS).default("tool"),
      names: z.array(z.string().min(1).max(1024)).min(1).max(1000),
    }),
    output: All,
    run: async (asked, { server, kind, names }) => {
      await withdrawDefinitions(asked.deps.db, asked.bearer.user, server, kind, names);
      return await all(asked, server);
    },
  }),
  operation({
    name: "call_tool",
    method: "POST",
    path: "/servers/{server}/tools/{tool}/call",
    scopes: ["tools:call"],
    summary: "Try an approved tool, as its page does",
    description: "The call is recorded. result is the server's own answer; error the protocol's.",
    input: z.strictObject({ ...tool, arguments: Json.default({}) }),
    output: z.object({
      result: Json.optional(),
      error: z.object({ code: z.number(), message: z.string(), data: z.unknown().optional() })
        .optional(),
      durationMs: z.number(),
    }),
    run: async ({ deps, bearer, signal }, { server, tool, arguments: args }) => {
      const started = performance.now();
      const trial = { serverId: server, name: tool, args };
      const answer = await tryTool(deps, bearer.user, trial, signal);
      return { ...answer, durationMs: performance.now() - started };
    },
  }),
];

async function all({ deps: { db }, bearer: { user } }: Asked, server: string) {
  await getServer(db, user, server);
  const tools = await listTools(db, user, server);
  return {
    items: [
      ...tools.map((tool) => ({ ...tool, kind: "tool" as const })),
      ...await listDefinitions(db, user, server),
    ],
  };
}
