import type { EventShape } from "../routes/api/server_records.ts";
import type { EntryWithInputs } from "../routes/api/catalog.ts";
import type {
  Generation,
  ListedServer,
  ServerShape,
  ServerSummary,
  WayBack,
} from "../routes/api/servers.ts";
import type { UpdateShape } from "../routes/api/updates.ts";
import { type Client, Exit } from "./client.ts";
import { type Command, type Line, numberIn, pairsIn, UsageError } from "./command.ts";
import { serverId, toolboxId } from "./find.ts";
import { ago, type Output } from "./output.ts";
import { confirm, secret, secretTheyAsk } from "./prompt.ts";

const SETTINGS = {
  set: { value: "INPUT=VALUE", isRepeatable: true, help: "An input that its catalog entry asks" },
  secret: {
    value: "INPUT",
    isRepeatable: true,
    help: "A secret input: read from the environment variable of its name, else asked for",
  },
  memory: { value: "MIB", help: "Memory" },
  instances: { value: "KIND", help: "shared, or one for each agent or session" },
  "idle-stop": { value: "MINUTES", help: "Sleeps after so long without a call; never" },
  tier: { value: "TIER", help: "standard or untrusted" },
  wait: { help: "Until it runs or failed" },
};

export const serverCommands: Command[] = [
  {
    words: "servers list",
    summary: "List the servers",
    options: {
      search: { value: "WORDS", help: "Only those whose name, package or toolbox has the words" },
      status: { value: "STATUS", help: "Only those that are running, failed …" },
      toolbox: { value: "TOOLBOX", help: "Only those of a toolbox" },
      kind: { value: "KIND", help: "Only npm, pypi, nuget, oci, source, remote or openapi" },
      needs: {
        value: "WHY",
        help: "Only those that need you: any, or definitions, denials, crash_loop",
      },
      updates: { help: "Only those whose catalog entry has a newer version" },
    },
    async run({ client, output, value, flag }) {
      const toolbox = value("toolbox");
      const servers = await client.list<ListedServer>("/servers", {
        search: value("search"),
        status: value("status"),
        toolbox: toolbox && await toolboxId(client, toolbox),
        kind: value("kind"),
        needs: value("needs"),
        hasUpdate: flag("updates") ? "true" : undefined,
      });
      output.list(
        servers,
        {
          slug: ({ slug }) => slug,
          status: ({ status }) => status,
          tools: ({ tools }) => `${tools.approved}/${tools.total}`,
          toolbox: ({ toolboxName }) => toolboxName,
          name: ({ name }) => name,
          id: ({ id }) => id,
          needs: ({ needs }) => needs.join(", "),
          update: ({ update }) => update ?? "",
        },
        flag("updates")
          ? "Every server has what its catalog has."
          : "There is no server. Find one with `catalog search`, and deploy it with `servers deploy`.",
      );
    },
  },
  {
    words: "servers get",
    summary: "Show a server",
    arguments: ["<server>"],
    async run({ client, output, args: [name] }) {
      show(output, await client.get(`/servers/${await serverId(client, name)}`));
    },
  },
  {
    words: "servers deploy",
    summary: "Deploy a catalog entry",
    arguments: ["<entry>"],
    options: {
      name: { value: "NAME", help: "What to call it" },
      toolbox: { value: "TOOLBOX", help: "Where; else on the one that fits best" },
      label: { value: "KEY=VALUE", help: "On a toolbox with this label" },
      ...SETTINGS,
      "agree-to-build-code": { help: "Its install scripts or Dockerfile may run at its build" },
    },
    async run(line) {
      const { client, output, args: [entry], value, flag } = line;
      const options = optionsIn(line);
      const { inputs } = await client.get<EntryWithInputs>(`/catalog/${encodeURIComponent(entry)}`);
      const toolbox = value("toolbox");
      const made = await client.create<ServerShape>("/servers", {
        entry,
        name: value("name"),
        toolboxId: toolbox && await toolboxId(client, toolbox),
        label: value("label"),
        inputs: await inputsIn(line, inputs),
        options,
        agreesToBuildCode: flag("agree-to-build-code"),
      });
      return await settled(line, made, `Deployed as ${made.slug}`, output);
    },
  },
  {
    words: "servers remote",
    summary: "Add a server that runs elsewhere, by its URL",
    arguments: ["<url>"],
    options: {
      name: { value: "NAME", help: "What to call it" },
      header: {
        value: "NAME",
        isRepeatable: true,
        help: "A header that is sent with each request: its value is asked for",
      },
      wait: SETTINGS.wait,
    },
    async run(line) {
      const { client, output, args: [url], value, values } = line;
      const headers = [];
      for (const name of values("header")) headers.push({ name, value: await secret(name) });
      const made = await client.create<ServerShape>("/servers/remote", {
        url,
        name: value("name"),
        headers,
      });
      return await settled(line, made, `Added as ${made.slug}`, output);
    },
  },
  {
    words: "servers set",
    summary: "Change a server's inputs and options",
    arguments: ["<server>"],
    options: SETTINGS,
    details: "What is not named stays as it is. --set INPUT= takes a value away.",
    async run(line) {
      const { client, output, args: [name] } = line;
      const id = await serverId(client, name);
      const { generation } = await client.get<ServerShape>(`/servers/${id}`);
      const inputs = Object.fromEntries(
        Object.entries(await inputsIn(line, [])).map(([name, given]) => [name, given || null]),
      );
      const body = { generation, inputs, options: optionsIn(line) };
      const made = await client.patch<ServerShape>(`/servers/${id}`, body);
      return await settled(line, made, `${made.slug} is of generation ${made.generation}`, output);
    },
  },
  {
    words: "servers update",
    summary: "Give a server the newer version of its catalog entry",
    arguments: ["<server>"],
    options: {
      check: { help: "Only say what it would change" },
      skip: { help: "Offer this version no more" },
      yes: { help: "Without being asked" },
      set: SETTINGS.set,
      secret: SETTINGS.secret,
      "agree-to-build-code": { help: "Its install scripts or Dockerfile may run at its build" },
      wait: SETTINGS.wait,
    },
    details: "If it does not get ready, the settings of before come back by themselves.",
    async run(line) {
      const { client, output, args: [name], flag } = line;
      const id = await serverId(client, name), path = `/servers/${id}/update`;
      const status = await client.get<UpdateShape>(path);
      const { offer } = status;
      if (!offer || flag("check")) {
        output.text(status, `${offer ? inWords(offer) : NOTHING_NEWER[status.state]}\n`);
        return;
      }
      if (flag("skip")) {
        const skipped = await client.post<UpdateShape>(`${path}/skip`, { update: offer.id });
        output.done(skipped, `${offer.to} of ${name} is skipped`);
        return;
      }
      confirm(flag("yes"), inWords(offer));
      const made = await client.post<ServerShape>(path, {
        update: offer.id,
        inputs: await inputsIn(line, offer.asks.map((ask) => ({ ...ask, isRequired: true }))),
        agreesToBuildCode: flag("agree-to-build-code"),
      });
      const code = await settled(line, made, `${made.slug} is updated to ${offer.to}`, output);
      if (!flag("wait")) return code;
      const { failed } = await client.get<UpdateShape>(path);
      if (!failed) return code;
      output.tell(`It did not get ready, so the settings of before are back: ${failed.reason}`);
      return Exit.failed;
    },
  },
  ...([
    ["start", "Let a server run; one that failed is tried anew", "is started"],
    ["stop", "Stop a server until it is started again", "is being stopped"],
    ["restart", "Start a server anew", "is started anew"],
  ] as const).map(([verb, summary, said]): Command => ({
    words: `servers ${verb}`,
    summary,
    arguments: ["<server>"],
    options: verb === "stop" ? {} : { wait: SETTINGS.wait },
    async run(line) {
      const { client, output, args: [name] } = line;
      const id = await serverId(client, name);
      const server = await client.post<ServerShape>(`/servers/${id}/${verb}`);
      return await settled(line, server, `${server.slug} ${said}`, output);
    },
  })),
  {
    words: "servers remove",
    summary: "Remove a server with its container, network, image and secrets",
    arguments: ["<server>"],
    options: {
      yes: { help: "Without being asked" },
      "delete-volumes": { help: "What it keeps in volumes goes too" },
    },
    async run({ client, output, args: [name], flag }) {
      const id = await serverId(client, name);
      const deleteVolumes = flag("delete-volumes");
      confirm(
        flag("yes"),
        `${name} goes with its container, network, image and secrets` +
          (deleteVolumes ? ", and with what it keeps in volumes." : "; its volumes stay."),
      );
      await client.delete(`/servers/${id}?deleteVolumes=${deleteVolumes}`);
      output.done({ id }, `${name} is being removed`);
    },
  },
  {
    words: "servers generations",
    summary: "List what a server's generations changed",
    arguments: ["<server>"],
    options: { limit: { value: "N", help: "How many; else 50" } },
    async run(line) {
      const { client, output, args: [name] } = line;
      const path = `/servers/${await serverId(client, name)}/generations`;
      const all = await client.list<Generation>(path, {}, numberIn(line, "limit") ?? 50);
      output.list(all, {
        generation: ({ generation }) => generation,
        made: ({ createdAt }) => ago(createdAt),
        by: ({ createdByName, rolledBackTo }) =>
          createdByName ?? (rolledBackTo ? `back to ${rolledBackTo}` : ""),
        ready: ({ readyAt }) => readyAt ? "yes" : "no",
        changed: ({ changes }) => changes.map(({ name }) => name).join(", "),
        why: ({ reason }) => reason ?? "",
      }, "");
    },
  },
  {
    words: "servers diff",
    summary: "Show what a generation changed, and what going back to it would change now",
    arguments: ["<server>", "<generation>"],
    async run({ client, output, args: [name, generation] }) {
      const id = await serverId(client, name);
      const row = await client.get<WayBack>(`/servers/${id}/generations/${numbered(generation)}`);
      const lines = (title: string, changes: WayBack["changes"]) => [
        title,
        ...changes.map(({ name, before, after }) =>
          `  ${name}: ${before ?? "(not there)"} -> ${after ?? "(not there)"}`
        ),
        ...(changes.length === 0 ? ["  nothing"] : []),
      ];
      output.text(
        row,
        [
          ...lines(`Generation ${generation} changed:`, row.changes),
          ...lines("Going back to it would change:", row.changesNow),
          ...(row.lostSecrets.length > 0
            ? [`There is no way back: ${row.lostSecrets.join(", ")} of then is kept no longer`]
            : []),
          "",
        ].join("\n"),
      );
    },
  },
  {
    words: "servers rollback",
    summary: "Give a server the settings of an earlier generation again",
    arguments: ["<server>", "<generation>"],
    options: { wait: SETTINGS.wait },
    async run(line) {
      const { client, output, args: [name, generation] } = line;
      const body = { generation: numbered(generation) };
      const id = await serverId(client, name);
      const made = await client.post<ServerShape>(`/servers/${id}/rollback`, body);
      return await settled(line, made, `${made.slug} has the settings of ${generation}`, output);
    },
  },
  {
    words: "servers events",
    summary: "List what happened to a server, newest first",
    arguments: ["<server>"],
    options: { limit: { value: "N", help: "How many; else 50" } },
    async run(line) {
      const { client, output, args: [name] } = line;
      const path = `/servers/${await serverId(client, name)}/events`;
      const events = await client.list<EventShape>(path, {}, numberIn(line, "limit") ?? 50);
      output.list(events, {
        at: ({ at }) => output.isTerminal ? ago(at) : at,
        layer: ({ layer }) => layer,
        level: ({ level }) => level,
        message: ({ message, actorName }) => actorName ? `${message} (${actorName})` : message,
      }, "Nothing happened yet.");
    },
  },
  {
    words: "servers logs",
    summary: "Print what a server wrote to its standard error",
    arguments: ["<server>"],
    options: {
      search: { value: "WORDS", help: "Only lines with these words" },
      follow: { help: "Go on as it grows, until Ctrl-C" },
    },
    async run({ client, output, args: [name], value, flag }) {
      const path = `/servers/${await serverId(client, name)}/log`;
      const read = async () => {
        const { text } = await client.get<{ text: string }>(path, { search: value("search") });
        return text;
      };
      let seen = await read();
      output.text({ text: seen }, seen);
      while (flag("follow")) {
        await new Promise((resolve) => setTimeout(resolve, 2000));
        const text = await read(), news = addedTo(seen, text);
        if (news) output.text({ text: news }, news);
        seen = text;
      }
    },
  },
];

/** Said where there is no offer. */
const NOTHING_NEWER: Record<UpdateShape["state"], string> = {
  uncatalogued: "What it was deployed from is in no catalog",
  current: "It has what its catalog has",
  older: "Its catalog has an older version than it",
  listed_only: "Its catalog has another version, which cannot be deployed here",
  available: "",
  skipped: "",
};

/** What an update changes, a line each. */
function inWords({ from, to, changes, asksConsent }: NonNullable<UpdateShape["offer"]>): string {
  const lines = changes.map(({ name, before, after, widens }) =>
    `  ${name}: ${[before, after].filter((side) => side !== null).join(" -> ")}${
      before !== null && after === null ? " (gone)" : ""
    }${widens ? " (more than before)" : ""}`
  );
  if (asksConsent) lines.push("  Say --agree-to-build-code: code of its own runs at its build");
  return [`From ${from || "an earlier version"} to ${to}:`, ...lines].join("\n");
}

/** What came since: of a log whose beginning was dropped, what stands behind its last known lines. */
export function addedTo(before: string, after: string): string {
  if (after.startsWith(before)) return after.slice(before.length);
  const known = before.slice(-500);
  const at = known === "" ? -1 : after.lastIndexOf(known);
  return at < 0 ? after : after.slice(at + known.length);
}

/** Inputs of `--set` and `--secret`; of the entry's own secrets that are needed, those too. */
async function inputsIn(
  line: Line,
  asked: Pick<
    EntryWithInputs["inputs"][number],
    "name" | "field" | "label" | "isRequired" | "isSecret"
  >[],
): Promise<Record<string, string>> {
  const given = pairsIn(line, "set");
  for (const name of line.values("secret")) given[name] = await secret(name);
  for (const { name, field, label = name, isRequired, isSecret } of asked) {
    if (!isRequired || !isSecret || given[name] !== undefined || given[field] !== undefined) {
      continue;
    }
    given[field] = await secretTheyAsk(line.output, name, label);
  }
  return given;
}

function optionsIn(line: Line): Record<string, unknown> {
  const idle = line.value("idle-stop");
  if (idle !== undefined && idle !== "never" && !(Number(idle) > 0)) {
    throw new UsageError("--idle-stop takes minutes, or never");
  }
  return Object.fromEntries(
    Object.entries({
      memoryMiB: numberIn(line, "memory"),
      instances: line.value("instances"),
      idleStopMinutes: idle === "never" ? null : idle && Number(idle),
      tier: line.value("tier"),
    }).filter(([, given]) => given !== undefined),
  );
}

/** What a server came to: with --wait, once it runs or failed. */
export async function settled(
  { client, flag }: { client: Client; flag: Line["flag"] },
  server: ServerShape,
  said: string,
  output: Output,
): Promise<number> {
  if (!flag("wait")) {
    output.done(server, said);
    return Exit.done;
  }
  output.tell(said);
  let now = server, told = "";
  while (now.status === "starting" || now.observedGeneration !== now.generation) {
    if (
      ["failed", "signed_out", "stopped", "removing", "toolbox_unreachable"].includes(now.status)
    ) break;
    if (now.statusDetail !== told) output.tell(told = now.statusDetail);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    now = await client.get(`/servers/${server.id}`);
  }
  output.done(now, `${now.slug} is ${now.status}: ${now.statusDetail}`);
  return now.status === "running" || now.status === "idle" ? Exit.done : Exit.failed;
}

function show(output: Output, server: ServerShape) {
  output.facts(server, {
    "name": server.name,
    "slug": server.slug,
    "id": server.id,
    "status": `${server.status}: ${server.statusDetail}`,
    "toolbox": server.toolboxName,
    "generation": server.generation,
    "package": packageOf(server),
    ...Object.fromEntries(
      Object.entries(server.layers).map((
        [name, { state, detail }],
      ) => [name, `${state} ${detail}`]),
    ),
    "tools": `${server.tools.approved} of ${server.tools.total} approved, ` +
      `${server.tools.waiting} waiting, ${server.tools.changed} changed`,
    "hosts": [...server.entry.network.hosts, ...server.options.hosts].join(", ") || "none",
    ...Object.fromEntries(Object.entries(server.inputs)),
    "secrets": server.secrets.join(", "),
    "restarts": server.restarts,
    "seen": ago(server.observedAt),
  });
}

function packageOf({ package: given }: Pick<ServerSummary, "package">): string {
  switch (given.registry) {
    case "oci":
      return `${given.image}@${given.digest}`;
    case "source":
      return `${given.location}@${given.revision}`;
    case "remote":
    case "openapi":
      return given.url;
    default:
      return `${given.registry} ${given.name}@${given.version}`;
  }
}

/** @throws {UsageError} */
function numbered(generation: string): number {
  if (!/^\d{1,9}$/.test(generation)) throw new UsageError("<generation> is a number");
  return Number(generation);
}
