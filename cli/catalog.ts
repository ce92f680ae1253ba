import type { EntrySummary, EntryWithInputs } from "../routes/api/catalog.ts";
import type { CallShape } from "../routes/api/calls.ts";
import { type Command, numberIn } from "./command.ts";
import { agentId, serverId } from "./find.ts";
import { ago } from "./output.ts";

export const catalogCommands: Command[] = [
  {
    words: "catalog search",
    summary: "Search the catalog, best match first",
    arguments: ["[word…]"],
    options: {
      category: { value: "NAME", help: "Only of this category" },
      verified: { help: "Only those whose package was checked, or that ran here" },
      limit: { value: "N", help: "How many; else 50" },
    },
    async run(line) {
      const { client, output, args, value, flag } = line;
      const query = {
        query: args.join(" "),
        category: value("category"),
        isVerified: flag("verified") ? "true" : undefined,
      };
      const found = await client.list<EntrySummary>(
        "/catalog",
        query,
        numberIn(line, "limit") ?? 50,
      );
      output.list(found, {
        entry: ({ slug }) => slug,
        category: ({ category }) => category,
        from: ({ package: { registry } }) => registry,
        summary: ({ summary }) => summary,
      }, "Nothing has these words.");
    },
  },
  {
    words: "catalog get",
    summary: "Show a catalog entry, and what deploying it asks",
    arguments: ["<entry>"],
    async run({ client, output, args: [slug] }) {
      const found = await client.get<EntryWithInputs>(`/catalog/${encodeURIComponent(slug)}`);
      const { entry, inputs, buildCode } = found;
      output.facts(found, {
        title: entry.title,
        summary: entry.summary,
        license: entry.license,
        homepage: entry.homepage,
        hosts: entry.network.hosts.join(", ") || "none",
        memory: `${entry.memoryMiB} MiB`,
        "at its build": buildCode,
        ...Object.fromEntries(inputs.map(({ name, isRequired, isSecret, label, description }) => [
          name,
          [isRequired && "needed", isSecret && "secret", label, description].filter(Boolean)
            .join(", "),
        ])),
      });
    },
  },
  {
    words: "calls",
    summary: "Search calls, newest first",
    arguments: ["[text]"],
    details: "The text is part of a tool's name, its server's or an error.",
    options: {
      agent: { value: "AGENT", help: "Only this agent's" },
      server: { value: "SERVER", help: "Only this server's" },
      outcome: {
        value: "OUTCOME",
        help: "ok, failed, tool_error, error, cancelled, indeterminate",
      },
      via: { value: "VIA", help: "bridge: agents' calls; trial: what people tried" },
      period: { value: "PERIOD", help: "hour, day, week, month; else all" },
      limit: { value: "N", help: "How many; else 50" },
    },
    async run(line) {
      const { client, output, value } = line;
      const [agent, server] = [value("agent"), value("server")];
      const query = {
        text: line.args[0],
        outcome: value("outcome"),
        via: value("via"),
        period: value("period"),
        agent: agent && await agentId(client, agent),
        server: server && await serverId(client, server),
      };
      const calls = await client.list<CallShape>("/calls", query, numberIn(line, "limit") ?? 50);
      output.list(calls, {
        id: ({ id }) => id,
        at: ({ startedAt }) => output.isTerminal ? ago(startedAt) : startedAt,
        who: ({ agentName, via }) => agentName ?? (via === "trial" ? "a person" : ""),
        tool: ({ serverSlug, tool }) => `${serverSlug} / ${tool}`,
        outcome: ({ outcome }) => outcome,
        ms: ({ durationMs }) => Math.round(durationMs),
        error: ({ error }) => error ?? "",
      }, "No call found.");
    },
  },
  {
    words: "calls body",
    summary: "Print what was said in a call, where the workspace keeps it",
    arguments: ["<call>"],
    async run({ client, output, args: [id] }) {
      output.json(await client.get(`/calls/${encodeURIComponent(id)}/body`));
    },
  },
];
