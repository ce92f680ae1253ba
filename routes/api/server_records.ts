import { z } from "zod";
import { HostPort, ImageScan } from "../../dtma/protocol.ts";
import { readBillOfMaterials, readServerLog } from "../../mcp/server_records.ts";
import { callFigures } from "../../models/call_search.ts";
import {
  allowHost,
  disallowHost,
  dismissDenial,
  listDenials,
} from "../../models/egress_denials.ts";
import { type Event, listEvents } from "../../models/events.ts";
import { listSamples } from "../../models/samples.ts";
import { readScans } from "../../models/scans.ts";
import { getServer } from "../../models/servers.ts";
import { getToolbox } from "../../models/toolboxes.ts";
import { cursorOf, placeIn } from "./cursor.ts";
import { type Asked, operation, paging, partOf } from "./operation.ts";
import { serverId } from "./servers.ts";

const EventShape = z.object({
  id: z.string(),
  serverId: z.uuid().nullable(),
  at: z.iso.datetime(),
  layer: z.enum(["request", "image", "container", "handshake", "tools", "toolbox", "workspace"]),
  level: z.enum(["info", "warning", "error"]),
  message: z.string(),
  generation: z.int().nullable().describe("Of its server, that it is about"),
  actorName: z.string().nullable().describe("The person who caused it, if one did"),
}).meta({ id: "Event" });
export type EventShape = z.infer<typeof EventShape>;

const host = HostPort.describe("name:port, such as api.example.com:443");
const Network = z.object({
  entryHosts: z.array(z.string()).describe("That its catalog entry declares"),
  allowedHosts: z.array(z.string()).describe("That a person allowed beside those"),
  denials: z.array(z.object({
    host: z.string(),
    port: z.int().describe("0: its name was asked for, and it was not connected to"),
    reason: z.string(),
    count: z.int(),
    firstAt: z.iso.datetime(),
    lastAt: z.iso.datetime(),
  })),
}).meta({ id: "Network" });

export const serverRecordOperations = [
  ...([
    ["list_events", "/events", {}, "List what happened in the workspace, newest first"],
    ["list_server_events", "/servers/{server}/events", serverId, "List a server's events"],
    [
      "list_toolbox_events",
      "/toolboxes/{toolbox}/events",
      { toolbox: z.uuid() },
      "List a toolbox's events",
    ],
  ] as const).map(([name, path, of, summary]) =>
    operation({
      name,
      method: "GET",
      path,
      scopes: ["read"],
      summary,
      input: z.strictObject({ ...of, ...paging }),
      output: partOf(EventShape),
      run: (asked, input) => events(asked, input as EventsAsked),
    })
  ),
  operation({
    name: "read_server_log",
    method: "GET",
    path: "/servers/{server}/log",
    scopes: ["read"],
    summary: "Read what a server wrote to its standard error, oldest line first",
    input: z.strictObject({
      ...serverId,
      search: z.string().max(500).default("").describe("Only lines with these words"),
    }),
    output: z.object({ text: z.string() }),
    run: async ({ deps, bearer, signal }, { server, search }) => ({
      text: await readServerLog(deps, bearer.user, server, { search, signal }),
    }),
  }),
  operation({
    name: "read_bill_of_materials",
    method: "GET",
    path: "/servers/{server}/bill-of-materials",
    scopes: ["read"],
    summary: "Read what a server's image holds (CycloneDX)",
    input: z.strictObject(serverId),
    output: z.record(z.string(), z.unknown()),
    run: ({ deps, bearer, signal }, { server }) =>
      readBillOfMaterials(deps, bearer.user, server, signal),
  }),
  operation({
    name: "read_server_usage",
    method: "GET",
    path: "/servers/{server}/usage",
    scopes: ["read"],
    summary: "Read what a server took of its toolbox, and how its calls went, in the last hour",
    input: z.strictObject(serverId),
    output: z.object({
      calls: z.object({
        calls: z.int(),
        failed: z.int(),
        toolErrors: z.int(),
        medianMs: z.number().nullable(),
        p95Ms: z.number().nullable(),
      }),
      samples: z.array(z.object({
        at: z.iso.datetime(),
        instance: z.string().nullable(),
        cpus: z.number().describe("1 is one whole processor"),
        memoryBytes: z.number(),
        receivedBytes: z.number(),
        sentBytes: z.number(),
        pids: z.int(),
      })),
    }),
    run: async ({ deps: { db }, bearer: { user } }, { server }) => {
      await getServer(db, user, server);
      return {
        calls: await callFigures(db, user, server),
        samples: await listSamples(db, user, server),
      };
    },
  }),
  operation({
    name: "read_vulnerabilities",
    method: "GET",
    path: "/servers/{server}/vulnerabilities",
    scopes: ["read"],
    summary: "Read what a scanner found in a server's image, if there is one",
    input: z.strictObject(serverId),
    output: z.object({
      scan: ImageScan.nullable(),
      scanner: z.string().nullable().optional().describe("Null: its toolbox has none"),
    }),
    run: async ({ deps: { db }, bearer: { user } }, { server }) => {
      await getServer(db, user, server);
      return await readScans(db, user, server);
    },
  }),
  operation({
    name: "read_server_network",
    method: "GET",
    path: "/servers/{server}/network",
    scopes: ["read"],
    summary: "Read what a server may reach, and what it was refused",
    input: z.strictObject(serverId),
    output: Network,
    run: (asked, { server }) => network(asked, server),
  }),
  ...([
    [
      "allow_host",
      "POST",
      "/servers/{server}/hosts",
      "Let a server reach one more host",
      allowHost,
    ],
    [
      "disallow_host",
      "DELETE",
      "/servers/{server}/hosts/{host}",
      "Take an allowed host back",
      disallowHost,
    ],
    [
      "dismiss_denial",
      "DELETE",
      "/servers/{server}/denials/{host}",
      "List a refused host no more, until it is asked for again",
      dismissDenial,
    ],
  ] as const).map(([name, method, path, summary, change]) =>
    operation({
      name,
      method,
      path,
      scopes: ["servers:write"],
      summary,
      input: z.strictObject({ ...serverId, host }),
      output: Network,
      run: async (asked, { server, host }) => {
        await change(asked.deps.db, asked.bearer.user, server, host);
        return await network(asked, server);
      },
    })
  ),
];

async function network({ deps: { db }, bearer: { user } }: Asked, server: string) {
  const { config } = await getServer(db, user, server);
  return {
    entryHosts: config.entry.network.hosts,
    allowedHosts: config.options.hosts,
    denials: await listDenials(db, user, server),
  };
}

interface EventsAsked {
  server?: string;
  toolbox?: string;
  limit: number;
  cursor?: string;
}

async function events(
  { deps: { db }, bearer: { user, workspace } }: Asked,
  { server, toolbox, limit, cursor }: EventsAsked,
): Promise<{ items: Event[]; nextCursor: string | null }> {
  if (server) await getServer(db, user, server);
  if (toolbox) await getToolbox(db, user, toolbox);
  const of = server
    ? { serverId: server }
    : toolbox
    ? { toolboxId: toolbox }
    : { workspaceId: workspace.id };
  const before = placeIn(cursor, z.string().regex(/^\d{1,18}$/));
  const found = await listEvents(db, user, of, { limit: limit + 1, before });
  const items = found.slice(0, limit);
  return { items, nextCursor: found.length > limit ? cursorOf(items.at(-1)!.id) : null };
}
