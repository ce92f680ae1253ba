import type { AgentShape, Mapped } from "../routes/api/agents.ts";
import { type Command, numberIn } from "./command.ts";
import { agentId, serverId, toolboxId } from "./find.ts";
import { ago } from "./output.ts";
import { confirm } from "./prompt.ts";

export const agentCommands: Command[] = [
  {
    words: "agents list",
    summary: "List the agents",
    async run({ client, output }) {
      output.list(await client.list<AgentShape>("/agents"), {
        name: ({ name }) => name,
        servers: ({ connections }) => connections.map(({ serverSlug }) => serverSlug).join(", "),
        tokens: ({ tokens }) => tokens.filter(({ revokedAt }) => !revokedAt).length,
        id: ({ id }) => id,
      }, "There is no agent. Make one with `agents create`.");
    },
  },
  {
    words: "agents get",
    summary: "Show an agent",
    arguments: ["<agent>"],
    async run({ client, output, args: [name] }) {
      const agent = await client.get<AgentShape>(`/agents/${await agentId(client, name)}`);
      output.facts(agent, {
        name: agent.name,
        id: agent.id,
        made: ago(agent.createdAt),
        presents: agent.presents,
        gets: agent.deniesByDefault ? "only tools that were picked" : "all approved tools",
        servers: agent.connections.map(({ serverSlug, toolsApproved }) =>
          `${serverSlug} (${toolsApproved} tools)`
        ).join(", "),
        tokens: agent.tokens.filter(({ revokedAt }) => !revokedAt).map(({ name, lastUsedAt, id }) =>
          `${name} (${id}, used ${ago(lastUsedAt)})`
        ).join(", "),
      });
    },
  },
  {
    words: "agents connections",
    summary: "List who is connected to what, and whether it holds",
    options: {
      agent: { value: "AGENT", help: "Only those of an agent" },
      toolbox: { value: "TOOLBOX", help: "Only those to servers of a toolbox" },
      state: {
        value: "STATE",
        help: "Only connected, withheld, server_down, toolbox_offline; trouble: any but connected",
      },
    },
    async run({ client, output, value }) {
      const agent = value("agent"), toolbox = value("toolbox");
      const asked = new URLSearchParams();
      if (agent) asked.set("agent", await agentId(client, agent));
      if (toolbox) asked.set("toolbox", await toolboxId(client, toolbox));
      if (value("state")) asked.set("state", value("state")!);
      const { items } = await client.get<{ items: Mapped[] }>(`/connections?${asked}`);
      output.list(items, {
        agent: ({ agentName }) => agentName,
        server: ({ serverSlug }) => serverSlug,
        toolbox: ({ toolboxName }) => toolboxName,
        state: ({ state }) => state,
        tools: ({ tools }) => tools.given,
        tokens: ({ tokens }) => tokens,
        detail: ({ detail }) => detail,
      }, "No agent is connected to a server so. Connect one with `agents connect`.");
    },
  },
  {
    words: "agents create",
    summary: "Make an agent",
    arguments: ["<name>"],
    options: {
      search: { help: "It is given find_tools and call_tool in place of all definitions" },
      "deny-by-default": { help: "It gets only tools that are picked" },
    },
    async run({ client, output, args: [name], flag }) {
      const agent = await client.create<AgentShape>("/agents", {
        name,
        presents: flag("search") ? "search" : "tools",
        deniesByDefault: flag("deny-by-default"),
      });
      output.done(agent, `Made ${agent.name} (${agent.id})`);
    },
  },
  {
    words: "agents rename",
    summary: "Give an agent another name",
    arguments: ["<agent>", "<name>"],
    async run({ client, output, args: [agent, name] }) {
      const now = await client.patch(`/agents/${await agentId(client, agent)}`, { name });
      output.done(now, `It is called ${name} now`);
    },
  },
  {
    words: "agents remove",
    summary: "Remove an agent with its tokens and connections; its calls stay",
    arguments: ["<agent>"],
    options: { yes: { help: "Without being asked" } },
    async run({ client, output, args: [name], flag }) {
      const id = await agentId(client, name);
      confirm(flag("yes"), `${name} goes with its tokens and connections; its calls stay.`);
      await client.delete(`/agents/${id}`);
      output.done({ id }, `${name} is removed`);
    },
  },
  {
    words: "agents connect",
    summary: "Connect an agent to a server",
    arguments: ["<agent>", "<server>"],
    options: {
      tool: { value: "TOOL", isRepeatable: true, help: "Only these tools" },
      all: { help: "No longer only those that were picked" },
    },
    async run({ client, output, args: [agent, server], values, flag }) {
      const path = `/agents/${await agentId(client, agent)}/connections/${await serverId(
        client,
        server,
      )}`;
      const tools = values("tool");
      const picked = flag("all") ? null : tools.length > 0 ? tools : undefined;
      output.done(await client.put(path, { picked }), `${agent} is connected to ${server}`);
    },
  },
  {
    words: "agents disconnect",
    summary: "Disconnect an agent from a server, with what was picked and changed there",
    arguments: ["<agent>", "<server>"],
    async run({ client, output, args: [agent, server] }) {
      const from = await serverId(client, server);
      await client.delete(`/agents/${await agentId(client, agent)}/connections/${from}`);
      output.done({}, `${agent} is no longer connected to ${server}`);
    },
  },
  {
    words: "agents token",
    summary: "Make a token for an agent; it is shown this once",
    arguments: ["<agent>", "<name>"],
    options: {
      expires: { value: "DAYS", help: "After so many days; else 90" },
      "never-expires": { help: "It does not expire" },
    },
    async run(line) {
      const { client, output, args: [agent, name], flag } = line;
      const days = flag("never-expires") ? null : numberIn(line, "expires");
      const path = `/agents/${await agentId(client, agent)}/tokens`;
      const made = await client.create<{ token: string; bridgeUrl: string }>(path, {
        name,
        expiresInDays: days,
      });
      output.text(made, made.token + "\n");
      if (!output.isJson) output.tell(`For ${made.bridgeUrl}, as Authorization: Bearer …`);
    },
  },
  {
    words: "agents revoke",
    summary: "Revoke an agent's token",
    arguments: ["<agent>", "<token-id>"],
    async run({ client, output, args: [agent, token] }) {
      const id = await agentId(client, agent);
      await client.delete(`/agents/${id}/tokens/${encodeURIComponent(token)}`);
      output.done({}, "The token is revoked");
    },
  },
];
