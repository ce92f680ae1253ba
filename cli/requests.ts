import type { WishShape } from "../routes/api/wishes.ts";
import type { Command, Line } from "./command.ts";
import { agentId, toolboxId } from "./find.ts";
import { ago } from "./output.ts";
import { confirm, secretTheyAsk } from "./prompt.ts";

const pathOf = (id: string) => `/requests/${encodeURIComponent(id)}`;

export const requestCommands: Command[] = [
  {
    words: "requests list",
    summary: "List what agents ask people to let them do",
    options: {
      decided: { help: "What is decided already, in place of what waits" },
      agent: { value: "AGENT", help: "Only this agent's" },
    },
    async run({ client, output, value, flag }) {
      const agent = value("agent");
      const requests = await client.list<WishShape>("/requests", {
        state: flag("decided") ? "decided" : "open",
        agent: agent && await agentId(client, agent),
      });
      output.list(requests, {
        id: ({ id }) => id,
        agent: ({ agentName }) => agentName,
        wants: ({ wants }) => `asks to ${wants}`,
        state: ({ state }) => state,
        asked: ({ createdAt }) => ago(createdAt),
      }, flag("decided") ? "None is decided yet." : "Nothing waits for a person.");
    },
  },
  {
    words: "requests get",
    summary: "Show a request, and what it would come to now",
    arguments: ["<request>"],
    async run({ client, output, args: [id] }) {
      const request = await client.get<WishShape>(pathOf(id));
      output.facts(request, factsOf(request));
    },
  },
  {
    words: "requests approve",
    summary: "Do what an agent asks for, as you",
    arguments: ["<request>"],
    options: {
      yes: { help: "Without being asked" },
      secret: {
        value: "INPUT",
        isRepeatable: true,
        help: "A secret that is not needed, too: as the needed ones, it is read from the " +
          "environment variable of its name, else asked for",
      },
      toolbox: { value: "TOOLBOX", help: "Where; else on the one that fits best" },
      label: { value: "KEY=VALUE", help: "On a toolbox with this label" },
      "agree-to-build-code": { help: "Its install scripts or Dockerfile may run at its build" },
    },
    async run(line) {
      const { client, output, args: [id], value, flag } = line;
      const request = await client.get<WishShape>(pathOf(id));
      if (!output.isJson) {
        for (const [name, fact] of Object.entries(factsOf(request))) {
          if (fact) output.tell(`${name}: ${fact}`);
        }
      }
      confirm(flag("yes"), `${request.agentName} asks to ${request.wants}: that is done as you.`);
      const toolbox = value("toolbox");
      const done = await client.post<WishShape>(`${pathOf(id)}/approve`, {
        version: request.version,
        inputs: await secretsFor(request, line),
        toolboxId: toolbox && await toolboxId(client, toolbox),
        label: value("label"),
        agreesToBuildCode: flag("agree-to-build-code"),
      });
      output.done(done, `Approved, and done: server ${done.serverId}`);
    },
  },
  {
    words: "requests reject",
    summary: "Say no to what an agent asks for",
    arguments: ["<request>", "[reason]"],
    async run({ client, output, args: [id, answer = ""] }) {
      const done = await client.post<WishShape>(`${pathOf(id)}/reject`, { answer });
      output.done(done, `Rejected: ${done.agentName} is told`);
    },
  },
];

async function secretsFor({ secrets }: WishShape, { values, output }: Line) {
  const given: Record<string, string> = {};
  for (const { field, name, isRequired } of secrets) {
    if (!isRequired && !values("secret").some((each) => each === name || each === field)) continue;
    given[field] = await secretTheyAsk(output, name);
  }
  return given;
}

function factsOf(request: WishShape): Record<string, string | null> {
  const { agentName, wants, reason, state, createdAt, expiresAt, decidedByName } = request;
  return {
    agent: agentName,
    "asks to": wants,
    "in its own words": reason,
    state: decidedByName ? `${state} by ${decidedByName}` : state,
    asked: ago(createdAt),
    expires: state === "open" ? expiresAt : null,
    entry: request.entry,
    gives: Object.entries(request.values).map((pair) => pair.join("=")).join(", "),
    changed: request.isChanged ? "The entry says something else than when it asked" : null,
    "in the way": request.obstacle,
    secrets: request.secrets.map(({ name, isRequired }) => isRequired ? `${name} (needed)` : name)
      .join(", "),
    "at its build": request.buildCode,
    answer: request.answer,
    server: request.serverId ?? request.server,
  };
}
