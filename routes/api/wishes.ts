import { z } from "zod";
import { buildCodeOf, secretsOf } from "../../models/catalog_entries.ts";
import { digestsBy } from "../../models/image_digests.ts";
import { BUILD_CONSENT } from "../../models/server_form.ts";
import {
  approveWish,
  getWish,
  listWishes,
  rejectWish,
  WISH_STATES,
  wishesNow,
  type WishNow,
} from "../../models/wishes.ts";
import { cursorOf, placeIn } from "./cursor.ts";
import { operation, paging, partOf } from "./operation.ts";
import { fieldsOf } from "./servers.ts";

const Wish = z.object({
  id: z.uuid(),
  agentId: z.uuid(),
  agentName: z.string(),
  operation: z.enum(["deploy_server", "connect_server"]),
  wants: z.string().describe('What the agent asks to do, after "asks to"'),
  reason: z.string().nullable().describe("The agent's own words, to be read with care"),
  state: z.enum(WISH_STATES),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
  decidedAt: z.iso.datetime().nullable(),
  decidedByName: z.string().nullable(),
  answer: z.string().nullable().describe("What who rejected it said to the agent"),
  serverId: z.uuid().nullable().describe("What came of it"),
  entry: z.string().nullable().describe("The slug of the catalog entry that it asks to deploy"),
  name: z.string().nullable().describe("What the server would be called"),
  values: z.record(z.string(), z.string()).describe("What it gives for inputs, by field"),
  server: z.uuid().nullable().describe("The server that it asks to be connected to"),
  obstacle: z.string().nullable().describe("Why it cannot be done now; null: it can"),
  isChanged: z.boolean().describe("The entry says something else than when the agent asked"),
  secrets: z.array(z.object({
    field: z.string(),
    name: z.string(),
    isRequired: z.boolean(),
  })).describe("What whoever approves it gives, since agents give no secrets"),
  buildCode: z.enum(["install-scripts", "dockerfile"]).nullable().describe(
    "What runs while the image is built, to which whoever approves it has to agree",
  ),
  version: z.string().describe("Another one once something else would be done"),
}).meta({ id: "AgentRequest" });
export type WishShape = z.infer<typeof Wish>;

const request = { request: z.uuid().describe("A request's id") };

export const wishOperations = [
  operation({
    name: "list_requests",
    method: "GET",
    path: "/requests",
    scopes: ["read"],
    summary: "List what agents ask people to let them do",
    description: "What waits for a person, oldest first; or what is decided, newest first.",
    input: z.strictObject({
      ...paging,
      state: z.enum(["open", "decided"]).default("open"),
      agent: z.uuid().optional(),
    }),
    output: partOf(Wish),
    run: async ({ deps: { db }, bearer: { user, workspace } }, given) => {
      const { limit, cursor, state, agent } = given;
      const found = await listWishes(db, user, workspace.id, {
        isOpen: state === "open",
        agentId: agent,
        limit: limit + 1,
        before: placeIn(cursor, z.uuid()),
      });
      const items = await wishesNow(db, user, found.slice(0, limit));
      const nextCursor = found.length > limit ? cursorOf(items.at(-1)!.id) : null;
      return { items: items.map(shown), nextCursor };
    },
  }),
  operation({
    name: "get_request",
    method: "GET",
    path: "/requests/{request}",
    scopes: ["read"],
    summary: "Read a request of an agent's, with what it would come to now",
    input: z.strictObject(request),
    output: Wish,
    versionOf: ({ version }) => version,
    run: async ({ deps: { db }, bearer }, { request }) =>
      shown(await getWish(db, bearer.user, request)),
  }),
  operation({
    name: "approve_request",
    method: "POST",
    path: "/requests/{request}/approve",
    scopes: ["servers:write", "agents:write"],
    summary: "Do what an agent asks for, as you",
    description: "Approved twice it is done once.",
    input: z.strictObject({
      ...request,
      version: z.string().max(64).describe("The request's version, as it was read"),
      inputs: z.record(z.string().max(200), z.string().max(65_536)).default({}).describe(
        "Its secrets, by an input's field or name",
      ),
      toolboxId: z.uuid().optional().describe(
        "Without it the fitting toolbox with fewest servers",
      ),
      label: z.string().max(200).optional().describe("key=value: on a toolbox with this label"),
      agreesToBuildCode: z.boolean().default(false).describe(
        "That its install scripts or Dockerfile run while its image is built",
      ),
    }),
    output: Wish,
    basedOn: "version",
    versionOf: ({ version }) => version,
    run: async ({ deps, bearer: { user } }, { request, inputs, agreesToBuildCode, ...given }) => {
      const { db, secretsKey, outside } = deps;
      const { row } = await getWish(db, user, request);
      const form = {
        ...fieldsOf(row ? secretsOf(row.entry) : [], inputs),
        [BUILD_CONSENT]: String(agreesToBuildCode),
      };
      const work = { db, secretsKey, digestOf: digestsBy(outside) };
      await approveWish(work, user, request, { ...given, form });
      return shown(await getWish(db, user, request));
    },
  }),
  operation({
    name: "reject_request",
    method: "POST",
    path: "/requests/{request}/reject",
    scopes: ["agents:write"],
    summary: "Say no to what an agent asks for",
    input: z.strictObject({
      ...request,
      answer: z.string().max(1000).default("").describe("Why, for the agent"),
    }),
    output: Wish,
    run: async ({ deps: { db }, bearer: { user } }, { request, answer }) => {
      await rejectWish(db, user, request, answer);
      return shown(await getWish(db, user, request));
    },
  }),
];

function shown({ asked, row, server, ...wish }: WishNow) {
  const isDeploy = asked.operation === "deploy_server";
  const gone = isDeploy
    ? row ? row.obstacle : "The marketplace does not have the entry any more"
    : server
    ? null
    : "The server is gone";
  return {
    ...wish,
    operation: asked.operation,
    entry: isDeploy ? asked.entry : null,
    name: isDeploy ? asked.name : null,
    values: isDeploy ? asked.values : {},
    server: isDeploy ? null : asked.serverId,
    obstacle: gone,
    secrets: row
      ? secretsOf(row.entry).map(({ field, input: { name, isRequired } }) => ({
        field,
        name,
        isRequired,
      }))
      : [],
    buildCode: row ? buildCodeOf(row.entry) : null,
  };
}
