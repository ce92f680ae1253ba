import { z } from "zod";
import { AgentInstance, Health, LAYERS, Sandbox, Tier, Transport } from "../../dtma/protocol.ts";
import { type AskedInput, askedInputs, findCatalogEntry } from "../../models/catalog_entries.ts";
import { Invalid } from "../../models/errors.ts";
import { getGeneration, listGenerations, rollBackServer } from "../../models/generations.ts";
import {
  headerNameField,
  mustTakeAccount,
  REMOTE_HEADERS,
  remoteEntry,
} from "../../models/remote_servers.ts";
import { BUILD_CONSENT } from "../../models/server_form.ts";
import { digestsBy } from "../../models/image_digests.ts";
import { ServerOptions } from "../../models/server_options.ts";
import {
  matches,
  needsOf,
  SERVER_KINDS,
  SERVER_NEEDS,
  ServerFilter,
} from "../../models/server_search.ts";
import { SERVER_STATUSES } from "../../models/server_status.ts";
import {
  deployEntry,
  deployServer,
  getServer,
  listServers,
  reconfigureServer,
  removeServer,
  restartServer,
  runServer,
  type Server,
  stopServer,
} from "../../models/servers.ts";
import { listUpdates } from "../../models/updates.ts";
import { EntryShape, PackageShape } from "./catalog.ts";
import { cursorOf, part, placeIn } from "./cursor.ts";
import { type Asked, Int, operation, paging, partOf } from "./operation.ts";

const LayerShape = z.object({
  state: z.enum(["waiting", "working", "ready", "idle", "stopped", "failed", "unknown"]),
  detail: z.string(),
  nextStep: z.string().optional().describe("What a person can do about it"),
  progress: z.number().optional().describe("0 to 1, where it is known"),
  since: z.iso.datetime(),
}).meta({ id: "Layer" });

const ServerSummary = z.object({
  id: z.uuid(),
  name: z.string(),
  slug: z.string().describe("In the names of its tools; unique in the workspace"),
  status: z.enum(SERVER_STATUSES),
  statusDetail: z.string().describe("One sentence: why it is so, and what to do"),
  generation: z.int(),
  running: z.boolean().describe("Whether it is to run"),
  package: PackageShape,
  toolboxId: z.uuid(),
  toolboxName: z.string(),
  tools: z.object({
    total: z.int(),
    approved: z.int(),
    changed: z.int().describe("Approved once, and another definition now: withheld"),
    waiting: z.int(),
  }),
  needs: z.array(z.enum(SERVER_NEEDS)).describe("Why it needs a person"),
  createdAt: z.iso.datetime(),
}).meta({ id: "ServerSummary" });

const ListedServer = ServerSummary.extend({
  update: z.string().nullable().describe("The version of its entry that is offered, if one is"),
}).meta({ id: "ListedServer" });
export type ListedServer = z.infer<typeof ListedServer>;

export const ServerShape = ServerSummary.extend({
  entry: EntryShape,
  inputs: z.record(z.string(), z.string()).describe("What was given for its inputs, by field"),
  secrets: z.array(z.string()).describe("The names of those that have a value"),
  options: ServerOptions,
  tier: Tier,
  host: LayerShape.extend({ isHeard: z.boolean() }),
  layers: z.object(Object.fromEntries(LAYERS.map((layer) => [layer, LayerShape])) as Record<
    (typeof LAYERS)[number],
    typeof LayerShape
  >),
  observedGeneration: z.int().nullable(),
  servingGeneration: z.int().nullable().describe("The generation that answers calls"),
  imageDigest: z.string().nullable(),
  containerId: z.string().nullable(),
  restarts: z.int(),
  health: Health.nullable(),
  instances: z.array(AgentInstance),
  volumes: z.array(z.object({ name: z.string(), bytes: z.number().nullable() })),
  sandbox: Sandbox.nullable(),
  unsandboxed: z.string().nullable(),
  serverInfo: z.record(z.string(), z.unknown()).nullable(),
  observedAt: z.iso.datetime().nullable(),
}).meta({ id: "Server" });

export type ServerSummary = z.infer<typeof ServerSummary>;
export type ServerShape = z.infer<typeof ServerShape>;

const changes = z.array(z.object({
  name: z.string(),
  before: z.string().nullable(),
  after: z.string().nullable(),
}));
const Generation = z.object({
  generation: z.int(),
  createdAt: z.iso.datetime(),
  createdByName: z.string().nullable(),
  reason: z.string().nullable().describe("What was asked for"),
  readyAt: z.iso.datetime().nullable().describe("Null: it never got ready"),
  rolledBackTo: z.int().nullable().describe("Made by Mooring: whose settings it has"),
  changes: changes.describe("From the generation before; of secrets only that they changed"),
  lostSecrets: z.array(z.string()).describe(
    "Secrets whose values of then are kept no longer: with any there is no way back to it",
  ),
}).meta({ id: "Generation" });
export type Generation = z.infer<typeof Generation>;

const WayBack = Generation.extend({
  changesNow: changes.describe("What going back to it would change now"),
}).meta({ id: "WayBack" });
export type WayBack = z.infer<typeof WayBack>;

export const serverId = { server: z.uuid().describe("A server's id") };

export const Value = z.union([z.string(), z.number(), z.boolean(), z.array(z.string())]);
export const inputs = (value: z.ZodType<z.infer<typeof Value> | null>) =>
  z.record(z.string().max(200), value).default({}).describe(
    "By an input's field or name, as its catalog entry lists them; secrets too",
  );
const options = z.strictObject({
  memoryMiB: z.int().min(64).max(65_536),
  instances: z.enum(["shared", "agent", "session"]),
  idleStopMinutes: z.number().min(0.5).max(10_080).nullable().describe("Null: it never sleeps"),
  tier: Tier,
  transport: Transport.describe(
    "How it speaks in its container; stdio, or HTTP at a port and path",
  ),
}).partial().default({});
export const placed = {
  name: z.string().max(80).optional(),
  toolboxId: z.uuid().optional().describe("Without it the fitting toolbox with fewest servers"),
  label: z.string().max(200).optional().describe("key=value: on a toolbox with this label"),
};

type Given = Record<string, z.infer<typeof Value> | null>;

export const serverOperations = [
  operation({
    name: "list_servers",
    method: "GET",
    path: "/servers",
    scopes: ["read"],
    summary: "List the servers",
    input: z.strictObject({
      ...paging,
      slug: z.string().max(63).optional(),
      search: z.string().max(200).optional().describe(
        "Words that its name, slug, package or toolbox have",
      ),
      status: z.enum(SERVER_STATUSES).optional(),
      toolbox: z.uuid().optional(),
      kind: z.enum(SERVER_KINDS).optional().describe("From where what runs comes"),
      needs: z.enum([...SERVER_NEEDS, "any"]).optional().describe(
        "Only those that need a person: definitions to read, hosts that were refused, or a crash loop",
      ),
      hasUpdate: z.boolean().optional().describe("Only those with a newer version, or without"),
    }),
    output: partOf(ListedServer),
    run: async ({ deps: { db }, bearer }, { slug, search, hasUpdate, limit, cursor, ...asked }) => {
      const servers = await listServers(db, bearer.user, bearer.workspace.id);
      const updates = await listUpdates(db, bearer.user, bearer.workspace.id);
      const filter = ServerFilter.parse({ ...asked, text: search });
      return part(
        servers.filter((server) =>
          (slug === undefined || server.slug === slug) &&
          (hasUpdate === undefined || updates.has(server.id) === hasUpdate) &&
          matches(server, filter)
        ).map((server) => ({
          ...summarized(server),
          update: updates.get(server.id)?.to ?? null,
        })),
        { limit, cursor },
      );
    },
  }),
  operation({
    name: "get_server",
    method: "GET",
    path: "/servers/{server}",
    scopes: ["read"],
    summary: "Read a server: what it is to be, and what is seen of it",
    input: z.strictObject(serverId),
    output: ServerShape,
    versionOf: ({ generation }) => generation,
    run: (asked, { server }) => readServer(asked, server),
  }),
  operation({
    name: "deploy_server",
    method: "POST",
    path: "/servers",
    scopes: ["servers:write"],
    summary: "Deploy a catalog entry",
    description:
      "Answers at once: its toolbox takes it up from there, and status says how far it is. " +
      "Its tools are for a person to approve.",
    input: z.strictObject({
      entry: z.string().min(1).max(63).describe("The catalog entry's slug"),
      ...placed,
      inputs: inputs(Value),
      options,
      agreesToBuildCode: z.boolean().default(false).describe(
        "That its install scripts or Dockerfile run while its image is built",
      ),
    }),
    output: ServerShape,
    isCreating: true,
    versionOf: ({ generation }) => generation,
    run: async (asked, input) => {
      const { deps, bearer: { user, workspace }, idempotencyKey } = asked;
      const { db, secretsKey, outside } = deps;
      const { entry } = await findCatalogEntry(db, user, input.entry);
      const { name, toolboxId, label } = input;
      const made = await deployServer(
        db,
        user,
        {
          workspaceId: workspace.id,
          slug: input.entry,
          name,
          toolboxId,
          label,
          idempotencyKey,
          reusesSame: asked.isAgent,
          form: {
            ...fieldsOf(askedInputs(entry), input.inputs),
            ...optionFields(input.options),
            [BUILD_CONSENT]: String(input.agreesToBuildCode),
          },
        },
        secretsKey,
        digestsBy(outside),
      );
      return await readServer(asked, made.serverId);
    },
  }),
  operation({
    name: "add_remote_server",
    method: "POST",
    path: "/servers/remote",
    scopes: ["servers:write"],
    summary: "Add a server that runs elsewhere, by its URL",
    input: z.strictObject({
      url: z.string().max(2000),
      ...placed,
      headers: z.array(z.strictObject({ name: z.string(), value: z.string() }))
        .max(REMOTE_HEADERS.length).default([]).describe("Sent with each request; kept as secrets"),
      signsIn: z.boolean().default(false).describe(
        "It is called with an account: it does not run before a person signed in (get_server_account)",
      ),
    }),
    output: ServerShape,
    isCreating: true,
    versionOf: ({ generation }) => generation,
    run: async (asked, { url, headers, signsIn, ...placed }) => {
      const { deps: { db, secretsKey }, bearer: { user, workspace }, idempotencyKey } = asked;
      const form: Record<string, string> = { url };
      headers.forEach(({ name, value }, index) => {
        form[headerNameField(REMOTE_HEADERS[index])] = name;
        form[`env.HEADER_${REMOTE_HEADERS[index]}_VALUE`] = value;
      });
      const entry = remoteEntry(form);
      if (signsIn) mustTakeAccount(entry);
      const request = { ...placed, workspaceId: workspace.id, idempotencyKey, form };
      const made = await deployEntry(
        db,
        user,
        { ...request, entry, awaitsSignIn: signsIn },
        secretsKey,
      );
      return await readServer(asked, made.serverId);
    },
  }),
  operation({
    name: "change_server",
    method: "PATCH",
    path: "/servers/{server}",
    scopes: ["servers:write"],
    summary: "Change a server's inputs and options",
    description:
      "What is not named stays as it is; null takes an input's value away. A change makes " +
      "the next generation, which takes over once its tools are listed.",
    input: z.strictObject({
      ...serverId,
      generation: Int.describe("The generation that the change was made from"),
      inputs: inputs(Value.nullable()),
      options,
    }),
    output: ServerShape,
    basedOn: "generation",
    versionOf: ({ generation }) => generation,
    run: async (asked, { server: id, generation, inputs, options }) => {
      const { deps: { db, secretsKey }, bearer: { user } } = asked;
      const { config } = await getServer(db, user, id);
      const form = {
        ...config.values,
        ...fieldsOf(askedInputs(config.entry), inputs),
        ...optionFields(options),
      };
      await reconfigureServer(db, user, id, { form, baseGeneration: generation }, secretsKey);
      return await readServer(asked, id);
    },
  }),
  ...([
    ["start", "Let a server run; one that failed is tried anew", runServer],
    ["stop", "Stop a server until it is started again", stopServer],
    ["restart", "Start a server anew, with the configuration it has", restartServer],
  ] as const).map(([verb, summary, change]) =>
    operation({
      name: `${verb}_server`,
      method: "POST",
      path: `/servers/{server}/${verb}`,
      scopes: ["servers:write"],
      summary,
      input: z.strictObject(serverId),
      output: ServerShape,
      versionOf: ({ generation }) => generation,
      run: async (asked, { server }) => {
        await change(asked.deps.db, asked.bearer.user, server);
        return await readServer(asked, server);
      },
    })
  ),
  operation({
    name: "remove_server",
    method: "DELETE",
    path: "/servers/{server}",
    scopes: ["servers:write"],
    summary: "Remove a server with its container, network, image and secrets",
    description:
      "It is listed as removing until its toolbox says that all is gone. Its calls and events stay.",
    input: z.strictObject({
      ...serverId,
      deleteVolumes: z.boolean().default(false).describe("What it keeps in volumes goes too"),
    }),
    run: ({ deps: { db }, bearer }, { server, deleteVolumes }) =>
      removeServer(db, bearer.user, server, { deleteVolumes }),
  }),
  operation({
    name: "list_generations",
    method: "GET",
    path: "/servers/{server}/generations",
    scopes: ["read"],
    summary:
      "List a server's generations, newest first, with who made each, why, and what it changed",
    input: z.strictObject({ ...serverId, ...paging }),
    output: partOf(Generation),
    run: async ({ deps: { db }, bearer }, { server, limit, cursor }) => {
      await getServer(db, bearer.user, server);
      const before = placeIn(cursor, Int.min(1));
      const found = await listGenerations(db, bearer.user, server, { limit: limit + 1, before });
      const items = found.slice(0, limit);
      const isLast = found.length <= limit;
      return { items, nextCursor: isLast ? null : cursorOf(items.at(-1)!.generation) };
    },
  }),
  operation({
    name: "get_generation",
    method: "GET",
    path: "/servers/{server}/generations/{generation}",
    scopes: ["read"],
    summary: "Read a server's generation, and what going back to it would change now",
    input: z.strictObject({
      ...serverId,
      generation: z.string().regex(/^[1-9]\d{0,8}$/).describe("Its number"),
    }),
    output: WayBack,
    run: ({ deps: { db }, bearer }, { server, generation }) =>
      getGeneration(db, bearer.user, server, Number(generation)),
  }),
  operation({
    name: "roll_back_server",
    method: "POST",
    path: "/servers/{server}/rollback",
    scopes: ["servers:write"],
    summary: "Give a server the settings of an earlier generation again, secrets too",
    input: z.strictObject({ ...serverId, generation: Int.min(1) }),
    output: ServerShape,
    versionOf: ({ generation }) => generation,
    run: async (asked, { server, generation }) => {
      await rollBackServer(asked.deps.db, asked.bearer.user, server, generation);
      return await readServer(asked, server);
    },
  }),
];

/** A server as it is answered. */
export async function readServer({ deps: { db }, bearer }: Asked, id: string) {
  return shown(await getServer(db, bearer.user, id));
}

function summarized(server: Server) {
  return { ...server, package: server.config.entry.package, needs: needsOf(server) };
}

/** Of secrets their names alone. */
function shown(server: Server) {
  const { entry, values, secrets, options } = server.config;
  return {
    ...summarized(server),
    entry,
    inputs: values,
    secrets: Object.keys(secrets),
    options,
  };
}

/** The fields of a deploy form that inputs are given for. @throws {Invalid} naming unknown ones */
export function fieldsOf(asked: AskedInput[], given: Given): Record<string, string> {
  const fields: Record<string, string> = {};
  const mistakes: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    const field = asked.find(({ field, input }) => field === name || input.name === name)?.field;
    if (!field) mistakes[`inputs.${name}`] = `The entry has no input ${name.slice(0, 60)}`;
    else {
      fields[field] = value === null ? "" : Array.isArray(value) ? value.join("\n") : String(value);
    }
  }
  if (Object.keys(mistakes).length > 0) throw new Invalid("Some inputs are unknown", mistakes);
  return fields;
}

function optionFields({ transport, ...given }: z.infer<typeof options>): Record<string, string> {
  const speaks = transport && { ...transport, transport: transport.type };
  return Object.fromEntries(
    Object.entries({ ...given, ...speaks }).map((
      [name, value],
    ) => [`option.${name}`, String(value ?? "")]),
  );
}
