import { z } from "zod";
import {
  connectServer,
  createAgent,
  createToken,
  disconnectServer,
  getAgent,
  listAgents,
  removeAgent,
  renameAgent,
  revokeToken,
  setAgentOptions,
} from "../../models/agents.ts";
import { TOOL_SCOPES } from "../../models/authorization_server.ts";
import { secretsOf } from "../../models/catalog_entries.ts";
import {
  changeConnectionSecrets,
  forgetField,
  listConnectionSecrets,
} from "../../models/connection_secrets.ts";
import { managementGrant } from "../../models/management_grants.ts";
import { getServer } from "../../models/servers.ts";
import { EDGE_STATES, mapConnections, MapFilter } from "../../models/connection_map.ts";
import { ToolChange } from "../../models/connection_options.ts";
import { changeTool, getConnection, listConnections, pickTools } from "../../models/connections.ts";
import { costOfConnection } from "../../views/connection.tsx";
import { part } from "./cursor.ts";
import { type Asked, operation, paging, partOf } from "./operation.ts";
import { fieldsOf } from "./servers.ts";

const Token = z.object({
  id: z.uuid(),
  name: z.string(),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime().nullable(),
  revokedAt: z.iso.datetime().nullable(),
  lastUsedAt: z.iso.datetime().nullable(),
  clientHost: z.string().nullable().describe(
    "Of a client that signed a person in: where answers to it go",
  ),
  scope: z.enum(TOOL_SCOPES).nullable().describe(
    "How far such a client may go; null: as far as the agent",
  ),
  wantedMoreAt: z.iso.datetime().nullable().describe("When it last called a tool beyond its scope"),
});

const AgentShape = z.object({
  id: z.uuid(),
  name: z.string(),
  createdAt: z.iso.datetime(),
  deniesByDefault: z.boolean().describe("Of a server it gets no tool that was not picked"),
  presents: z.enum(["tools", "search"]).describe(
    "search: it is given find_tools and call_tool in place of all definitions",
  ),
  instructions: z.string().describe("What it is told at the head of each conversation"),
  asks: z.enum(["never", "writes", "always"]).describe(
    "Which calls it asks a person for in a conversation; writes: of tools not known to only read",
  ),
  tokens: z.array(Token),
  connections: z.array(z.object({
    serverId: z.uuid(),
    serverName: z.string(),
    serverSlug: z.string(),
    running: z.boolean(),
    toolsApproved: z.int(),
    toolsTotal: z.int(),
  })),
}).meta({ id: "Agent" });
export type AgentShape = z.infer<typeof AgentShape>;

const Json = z.record(z.string(), z.unknown());
/** ToolChange of the model, which checks it: its recursive JSON would have no name in a document. */
const Change = z.strictObject({
  name: z.string().optional().describe("In place of the tool's own: 1 to 40 of a-z A-Z 0-9 _ -"),
  description: z.string().optional().describe("In place of the tool's own"),
  defaults: Json.optional().describe("Arguments that the caller may leave out"),
  fixed: Json.optional().describe("Arguments that the caller does not see and has no say in"),
  perMinute: ToolChange.shape.perMinute.describe(
    "How many calls the agent may make of it in a minute; each replica counts for itself",
  ),
  atOnce: ToolChange.shape.atOnce.describe("How many of its calls may be under way at once"),
});

const ConnectionShape = z.object({
  agentId: z.uuid(),
  agentName: z.string(),
  serverId: z.uuid(),
  serverName: z.string(),
  serverSlug: z.string(),
  deniesByDefault: z.boolean(),
  version: z.string().describe("Another one once what was picked or changed is other"),
  picked: z.array(z.string()).nullable().describe("Null: what the agent's default says"),
  tools: z.array(z.object({
    name: z.string(),
    state: z.enum(["waiting", "approved", "changed"]),
    isAllowed: z.boolean(),
    change: z.object(Change.shape),
    shown: Json.describe("The definition as the agent sees it"),
  })),
}).meta({ id: "Connection" });

const Credentials = z.object({
  items: z.array(z.object({
    field: z.string(),
    name: z.string(),
    label: z.string().optional(),
    isOwn: z.boolean().describe("The agent has a value of its own"),
  })),
});

const agent = { agent: z.uuid().describe("An agent's id") };
export const connection = { ...agent, server: z.uuid().describe("A server's id") };

const version = z.string().max(64).optional().describe(
  "The connection's version that the change was made from; left out: whatever it is",
);

const options = {
  deniesByDefault: AgentShape.shape.deniesByDefault.optional(),
  presents: AgentShape.shape.presents.optional(),
  instructions: AgentShape.shape.instructions.max(20_000).optional(),
  asks: AgentShape.shape.asks.optional(),
};

const Mapped = z.object({
  agentId: z.uuid(),
  agentName: z.string(),
  serverId: z.uuid(),
  serverName: z.string(),
  serverSlug: z.string(),
  toolboxId: z.uuid(),
  toolboxName: z.string(),
  state: z.enum(EDGE_STATES).describe("withheld: the agent is given none of its tools"),
  detail: z.string().describe("One sentence for it"),
  tools: z.object({
    given: z.int(),
    withheld: z.int().describe("That it would get were they approved as they are now"),
  }),
  tokens: z.int().describe("What the given tools cost a model: an estimate"),
}).meta({ id: "MappedConnection" });
export type Mapped = z.infer<typeof Mapped>;

export const agentOperations = [
  operation({
    name: "list_agents",
    method: "GET",
    path: "/agents",
    scopes: ["read"],
    summary: "List the agents",
    input: z.strictObject(paging),
    output: partOf(AgentShape),
    run: async ({ deps: { db }, bearer: { user, workspace } }, paged) =>
      part(await listAgents(db, user, workspace.id), paged),
  }),
  operation({
    name: "create_agent",
    method: "POST",
    path: "/agents",
    scopes: ["agents:write"],
    summary: "Make an agent",
    input: z.strictObject({ name: z.string().max(200), ...options }),
    output: AgentShape,
    isCreating: true,
    run: async ({ deps: { db }, bearer: { user, workspace } }, { name, ...given }) => {
      const id = await createAgent(db, user, workspace.id, name);
      if (Object.keys(given).length > 0) await setAgentOptions(db, user, id, given);
      return await getAgent(db, user, id);
    },
  }),
  operation({
    name: "get_agent",
    method: "GET",
    path: "/agents/{agent}",
    scopes: ["read"],
    summary: "Read an agent",
    input: z.strictObject(agent),
    output: AgentShape,
    run: ({ deps: { db }, bearer }, { agent }) => getAgent(db, bearer.user, agent),
  }),
  operation({
    name: "change_agent",
    method: "PATCH",
    path: "/agents/{agent}",
    scopes: ["agents:write"],
    summary: "Rename an agent, or change how it gets its tools",
    input: z.strictObject({ ...agent, name: z.string().max(200).optional(), ...options }),
    output: AgentShape,
    run: async ({ deps: { db }, bearer: { user } }, { agent: id, name, ...given }) => {
      if (name !== undefined) await renameAgent(db, user, id, name);
      if (Object.keys(given).length > 0) await setAgentOptions(db, user, id, given);
      return await getAgent(db, user, id);
    },
  }),
  operation({
    name: "remove_agent",
    method: "DELETE",
    path: "/agents/{agent}",
    scopes: ["agents:write"],
    summary: "Remove an agent with its tokens and connections; its calls stay",
    input: z.strictObject(agent),
    run: ({ deps: { db }, bearer }, { agent }) => removeAgent(db, bearer.user, agent),
  }),
  operation({
    name: "create_agent_token",
    method: "POST",
    path: "/agents/{agent}/tokens",
    scopes: ["agents:write"],
    summary: "Make a token with which an agent reaches its tools; it is shown once",
    input: z.strictObject({
      ...agent,
      name: z.string().max(200),
      expiresInDays: z.int().min(1).max(3650).nullable().default(90)
        .describe("Null: it does not expire"),
    }),
    output: z.object({ id: z.uuid(), token: z.string(), bridgeUrl: z.string() }),
    isCreating: true,
    run: async ({ deps: { db, baseUrl }, bearer: { user } }, { agent, ...token }) => ({
      ...await createToken(db, user, agent, token),
      bridgeUrl: `${baseUrl.href.replace(/\/$/, "")}/mcp`,
    }),
  }),
  operation({
    name: "revoke_agent_token",
    method: "DELETE",
    path: "/agents/{agent}/tokens/{token}",
    scopes: ["agents:write"],
    summary: "Revoke an agent's token: from the next request on it opens nothing",
    input: z.strictObject({ ...agent, token: z.uuid() }),
    run: ({ deps: { db }, bearer }, { agent, token }) => revokeToken(db, bearer.user, agent, token),
  }),
  operation({
    name: "map_connections",
    method: "GET",
    path: "/connections",
    scopes: ["read"],
    summary: "List who is connected to what in the workspace, and whether it holds",
    input: z.strictObject({
      agent: z.uuid().optional(),
      toolbox: z.uuid().optional(),
      state: z.enum([...EDGE_STATES, "trouble"]).optional().describe("trouble: any but connected"),
    }),
    output: z.object({ items: z.array(Mapped) }),
    run: async ({ deps: { db }, bearer: { user, workspace } }, asked) => {
      const filter = MapFilter.parse(asked);
      const map = await mapConnections(db, user, workspace.id, filter, { limit: Infinity });
      const servers = new Map(map.servers.map((server) => [server.id, server]));
      return {
        items: map.edges.map(({ serverId, connection, given, withheld, ...edge }) => {
          const { name, slug, toolboxId, toolboxName } = servers.get(serverId)!;
          return {
            ...edge,
            agentName: connection.agentName,
            serverId,
            serverName: name,
            serverSlug: slug,
            toolboxId,
            toolboxName,
            tools: { given, withheld },
            tokens: costOfConnection(connection),
          };
        }),
      };
    },
  }),
  operation({
    name: "list_connections",
    method: "GET",
    path: "/agents/{agent}/connections",
    scopes: ["read"],
    summary: "List an agent's connections, with its toolbelt as it sees it",
    input: z.strictObject(agent),
    output: z.object({ items: z.array(ConnectionShape) }),
    run: async ({ deps: { db }, bearer: { user } }, { agent }) => {
      await getAgent(db, user, agent);
      return { items: await listConnections(db, user, agent) };
    },
  }),
  operation({
    name: "get_connection",
    method: "GET",
    path: "/agents/{agent}/connections/{server}",
    scopes: ["read"],
    summary: "Read what of a server an agent gets, and how it sees it",
    input: z.strictObject(connection),
    output: ConnectionShape,
    versionOf: ({ version }) => version,
    run: (asked, input) => read(asked, input),
  }),
  operation({
    name: "connect_server",
    method: "PUT",
    path: "/agents/{agent}/connections/{server}",
    scopes: ["agents:write"],
    summary: "Connect an agent to a server, and say which of its tools it gets",
    input: z.strictObject({
      ...connection,
      picked: z.array(z.string().max(1024)).max(1000).nullable().optional().describe(
        "Tools by the server's own names; null: what the agent's default says; left out: as it is",
      ),
      version,
    }),
    output: ConnectionShape,
    basedOn: "version",
    versionOf: ({ version }) => version,
    run: async (asked, { picked, version, ...connection }) => {
      const { deps: { db }, bearer: { user } } = asked;
      await connectServer(db, user, connection.agent, connection.server);
      if (picked !== undefined) {
        await pickTools(db, user, connection.agent, connection.server, picked, version);
      }
      return await read(asked, connection);
    },
  }),
  operation({
    name: "list_own_credentials",
    method: "GET",
    path: "/agents/{agent}/connections/{server}/credentials",
    scopes: ["read"],
    summary: "List a server's secrets, and which of them the agent has values of its own for",
    input: z.strictObject(connection),
    output: Credentials,
    run: (asked, input) => credentials(asked, input),
  }),
  operation({
    name: "change_own_credentials",
    method: "PATCH",
    path: "/agents/{agent}/connections/{server}/credentials",
    scopes: ["agents:write", "servers:write"],
    summary: "Give an agent values of its own for a server's secrets, or take them back",
    description: "What is not named stays. No operation shows a value.",
    input: z.strictObject({
      ...connection,
      inputs: z.record(z.string().max(200), z.string().min(1).max(65_536).nullable()).default({})
        .describe("By an input's field or name; null takes the agent's own back"),
      instancePerAgent: z.boolean().default(false).describe(
        "Lets the server have an instance for each agent, which this needs",
      ),
    }),
    output: Credentials,
    run: async (asked, { inputs, instancePerAgent, ...which }) => {
      const { deps: { db, secretsKey }, bearer: { user } } = asked;
      const secrets = secretsOf((await getServer(db, user, which.server)).config.entry);
      const form: Record<string, string> = { instancePerAgent: String(instancePerAgent) };
      for (const [field, value] of Object.entries(fieldsOf(secrets, inputs))) {
        const own = secrets.find((each) => each.field === field)!;
        if (value === "") form[forgetField(own)] = "true";
        else form[field] = value;
      }
      const ids = { agentId: which.agent, serverId: which.server };
      await changeConnectionSecrets(db, user, ids, form, secretsKey);
      return await credentials(asked, which);
    },
  }),
  operation({
    name: "get_agent_management",
    method: "GET",
    path: "/agents/{agent}/management",
    scopes: ["read"],
    summary: "Read what an agent may do with Mooring itself",
    description: "An admin says so on the agent's page: a token could give itself more.",
    input: z.strictObject(agent),
    output: z.object({
      scopes: z.array(z.string()).describe("Empty: nothing"),
      asks: z.array(z.string()).describe("Of these a person has to approve each use"),
      grantedByName: z.string().nullable(),
      createdAt: z.iso.datetime().nullable(),
    }),
    run: async ({ deps: { db }, bearer }, { agent }) => {
      await getAgent(db, bearer.user, agent);
      return await managementGrant(db, bearer.user, agent) ??
        { scopes: [], asks: [], grantedByName: null, createdAt: null };
    },
  }),
  operation({
    name: "disconnect_server",
    method: "DELETE",
    path: "/agents/{agent}/connections/{server}",
    scopes: ["agents:write"],
    summary: "Disconnect an agent from a server, with what was picked and changed there",
    input: z.strictObject(connection),
    run: ({ deps: { db }, bearer }, { agent, server }) =>
      disconnectServer(db, bearer.user, agent, server),
  }),
  operation({
    name: "change_tool",
    method: "PUT",
    path: "/agents/{agent}/connections/{server}/tools/{tool}",
    scopes: ["agents:write"],
    summary: "Say how an agent sees and may call a tool; an empty object gives it back as it is",
    input: z.strictObject({
      ...connection,
      tool: z.string().min(1).max(1024).describe("As its server calls it"),
      ...Change.shape,
      version,
    }),
    output: ConnectionShape,
    basedOn: "version",
    versionOf: ({ version }) => version,
    run: async (asked, { agent, server, tool, version, ...given }) => {
      const { deps: { db }, bearer: { user } } = asked;
      // The model checks that it is JSON, which all that came as JSON is.
      const change = given as Parameters<typeof changeTool>[5];
      await changeTool(db, user, agent, server, tool, change, version);
      return await read(asked, { agent, server });
    },
  }),
];

async function credentials(
  { deps: { db }, bearer: { user } }: Asked,
  which: { agent: string; server: string },
) {
  await getConnection(db, user, which.agent, which.server);
  const server = await getServer(db, user, which.server);
  const secrets = await listConnectionSecrets(db, user, which.agent, server);
  return {
    items: secrets.map(({ asked: { field, input: { name, label } }, isOwn }) => ({
      field,
      name,
      label,
      isOwn,
    })),
  };
}

async function read(
  { deps: { db }, bearer }: Asked,
  { agent, server }: { agent: string; server: string },
) {
  return await getConnection(db, bearer.user, agent, server);
}
