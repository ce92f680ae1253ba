import type { Enrolment, ToolboxShape } from "../routes/api/toolboxes.ts";
import { type Command, pairsIn, UsageError } from "./command.ts";
import { toolboxId } from "./find.ts";
import { ago } from "./output.ts";
import { confirm } from "./prompt.ts";

/** How a DTMA is run. */
const WAYS = ["source", "program", "container", "service"] as const;

export const toolboxCommands: Command[] = [
  {
    words: "toolboxes list",
    summary: "List the toolboxes",
    async run({ client, output }) {
      output.list(await client.list<ToolboxShape>("/toolboxes"), {
        name: ({ name }) => name,
        state: stateOf,
        servers: ({ servers }) => servers,
        labels: ({ labels }) => Object.entries(labels).map((pair) => pair.join("=")).join(" "),
        seen: ({ lastSeenAt }) => ago(lastSeenAt),
        id: ({ id }) => id,
      }, "There is no toolbox. Add one with `toolboxes add`.");
    },
  },
  {
    words: "toolboxes get",
    summary: "Show a toolbox",
    arguments: ["<toolbox>"],
    async run({ client, output, args: [name] }) {
      const box = await client.get<ToolboxShape>(`/toolboxes/${await toolboxId(client, name)}`);
      const engine = box.facts?.engine;
      output.facts(box, {
        name: box.name,
        id: box.id,
        state: stateOf(box),
        why: box.refusal,
        engine: engine?.state === "ready"
          ? `${engine.version}, ${engine.cpus} processors, ${
            Math.round(engine.memoryBytes / 1024 ** 2)
          } MiB`
          : engine?.reason,
        dtma: box.facts?.dtmaVersion,
        servers: box.servers,
        promised: `${box.promisedMiB} MiB`,
        labels: Object.entries(box.labels).map((pair) => pair.join("=")).join(" "),
        seen: ago(box.lastSeenAt),
      });
    },
  },
  {
    words: "toolboxes add",
    summary: "Add a toolbox, and print the command that enrols it",
    arguments: ["<name>"],
    options: {
      label: { value: "KEY=VALUE", isRepeatable: true, help: "A label" },
      as: { value: "WAY", help: "source, program, container (else) or service" },
    },
    async run(line) {
      const { client, output, args: [name], value } = line;
      const as = WAYS.find((way) => way === (value("as") ?? "container"));
      if (!as) throw new UsageError(`--as takes ${WAYS.join(", ")}`);
      const made = await client.create<Enrolment>("/toolboxes", {
        name,
        labels: pairsIn(line, "label"),
      });
      const { warning, ...commands } = made.commands;
      output.text(made, `${commands[as]}\n`);
      if (output.isJson) return;
      output.tell("Run it on the Docker host within 15 minutes; it serves once.");
      if (warning) output.tell(warning);
    },
  },
  {
    words: "toolboxes rename",
    summary: "Give a toolbox another name",
    arguments: ["<toolbox>", "<name>"],
    async run({ client, output, args: [box, name] }) {
      const now = await client.patch(`/toolboxes/${await toolboxId(client, box)}`, { name });
      output.done(now, `It is called ${name} now`);
    },
  },
  ...([["drain", true, "No new server is placed there"], [
    "undrain",
    false,
    "New servers are placed there again",
  ]] as const).map(([verb, isDrained, said]): Command => ({
    words: `toolboxes ${verb}`,
    summary: said,
    arguments: ["<toolbox>"],
    async run({ client, output, args: [name] }) {
      const now = await client.patch(`/toolboxes/${await toolboxId(client, name)}`, { isDrained });
      output.done(now, said);
    },
  })),
  {
    words: "toolboxes revoke",
    summary: "Refuse a toolbox's key for good; what runs there runs on, out of reach",
    arguments: ["<toolbox>"],
    options: { yes: { help: "Without being asked" } },
    async run({ client, output, args: [name], flag }) {
      const id = await toolboxId(client, name);
      confirm(flag("yes"), `${name} is refused for good; what runs there is out of reach then.`);
      output.done(await client.post(`/toolboxes/${id}/revoke`), `${name} is revoked`);
    },
  },
  {
    words: "toolboxes remove",
    summary: "Remove a revoked toolbox and its servers from Mooring",
    arguments: ["<toolbox>"],
    options: { yes: { help: "Without being asked" } },
    async run({ client, output, args: [name], flag }) {
      const box = await client.get<ToolboxShape>(`/toolboxes/${await toolboxId(client, name)}`);
      confirm(flag("yes"), `${box.name} goes with its ${box.servers} servers; not on its host.`);
      const confirmation = encodeURIComponent(box.name);
      await client.delete(`/toolboxes/${box.id}?confirmation=${confirmation}`);
      output.done({ id: box.id }, `${box.name} is removed`);
    },
  },
];

function stateOf(box: ToolboxShape): string {
  if (box.revokedAt) return "revoked";
  if (!box.isEnrolled) return "not enrolled";
  if (box.refusal) return "refused";
  return (box.isOnline ? "online" : "silent") + (box.drainedAt ? ", drained" : "");
}
