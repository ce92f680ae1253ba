/** A workspace's servers: searched, filtered, in order, and a page at a time. */
import { z } from "zod";
import { packageTitle } from "../dtma/protocol.ts";
import type { Database, User } from "./db.ts";
import { SERVER_STATUSES } from "./server_status.ts";
import { listServers, type Server } from "./servers.ts";

/** Why a server needs a person. */
export const SERVER_NEEDS = ["definitions", "denials", "crash_loop"] as const;
export type ServerNeed = (typeof SERVER_NEEDS)[number];

/** From where what runs comes. */
export const SERVER_KINDS = ["npm", "pypi", "nuget", "oci", "source", "remote", "openapi"] as const;
export type ServerKind = (typeof SERVER_KINDS)[number];

/** `-` before it: the other way round. */
export const SERVER_SORTS = ["name", "status", "tools", "toolbox", "deployed"] as const;
export type ServerSort = (typeof SERVER_SORTS)[number];

/**
 * What is searched for. Read from an address, which anybody may have written: what does not hold is as
 * if it were not there.
 */
export const ServerFilter = z.object({
  /** Each word is part of the name, the slug, the package or the toolbox's name. */
  text: z.string().max(200).catch(""),
  status: z.enum(SERVER_STATUSES).nullable().catch(null),
  /** A toolbox's id. */
  toolbox: z.uuid().nullable().catch(null),
  kind: z.enum(SERVER_KINDS).nullable().catch(null),
  /** `any`: whatever it is. */
  needs: z.enum([...SERVER_NEEDS, "any"]).nullable().catch(null),
  sort: z.enum(SERVER_SORTS.flatMap((sort) => [sort, `-${sort}` as const])).catch("name"),
  page: z.coerce.number().int().min(1).max(10_000).catch(1),
});
export type ServerFilter = z.infer<typeof ServerFilter>;

/** How many servers have a value, so many as there would be with it chosen. */
export type Facet<Value extends string> = { value: Value; count: number }[];

export interface ServerPage {
  /** Of the page that is asked for, or the last one where there are fewer. */
  servers: Server[];
  page: number;
  pages: number;
  /** How many match, and how many there are. */
  found: number;
  total: number;
  facets: {
    status: Facet<Server["status"]>;
    toolbox: (Facet<string>[number] & { name: string })[];
    kind: Facet<ServerKind>;
    needs: Facet<ServerNeed | "any">;
  };
}

const PAGE_SIZE = 50;

/**
 * A page of a workspace's servers. A server's status is made of what many tables say and of the time, so
 * all servers are read; a workspace has hundreds, and what takes time is to show them.
 */
export async function searchServers(
  db: Database,
  user: User,
  workspaceId: string,
  filter: ServerFilter,
): Promise<ServerPage> {
  const all = await listServers(db, user, workspaceId);
  const found = inOrder(all.filter((server) => matches(server, filter)), filter.sort);
  const pages = Math.max(1, Math.ceil(found.length / PAGE_SIZE));
  const page = Math.min(filter.page, pages);
  const without = (name: "status" | "toolbox" | "kind" | "needs") =>
    all.filter((server) => matches(server, { ...filter, [name]: null }));
  return {
    servers: found.slice((page - 1) * PAGE_SIZE, page * PAGE_SIZE),
    page,
    pages,
    found: found.length,
    total: all.length,
    facets: {
      status: counted(without("status"), ({ status }) => [status], SERVER_STATUSES),
      toolbox: toolboxesOf(without("toolbox")),
      kind: counted(without("kind"), (server) => [kindOf(server)], SERVER_KINDS),
      needs: counted(without("needs"), (server) => {
        const needs = needsOf(server);
        return needs.length > 0 ? ["any" as const, ...needs] : [];
      }, ["any", ...SERVER_NEEDS] as const),
    },
  };
}

/** What of a server waits for a person. */
export function needsOf(server: Server): ServerNeed[] {
  if (server.removedAt) return [];
  const { changed, waiting } = server.tools;
  const isSo: Record<ServerNeed, boolean> = {
    definitions: changed + waiting + server.definitionsWithheld > 0,
    denials: server.denials > 0,
    crash_loop: server.isCrashLooping,
  };
  return SERVER_NEEDS.filter((need) => isSo[need]);
}

export function matches(
  server: Server,
  { text, status, toolbox, kind, needs }: Omit<ServerFilter, "sort" | "page">,
): boolean {
  if (status !== null && server.status !== status) return false;
  if (toolbox !== null && server.toolboxId !== toolbox) return false;
  if (kind !== null && kindOf(server) !== kind) return false;
  if (needs === "any" && needsOf(server).length === 0) return false;
  if (needs !== null && needs !== "any" && !needsOf(server).includes(needs)) return false;
  if (!text.trim()) return true;
  const { name, slug, toolboxName, config } = server;
  const said = [name, slug, toolboxName, packageTitle(config.entry.package)].join("\n")
    .toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => said.includes(word));
}

/** An image that is named by its tag is one as soon as it is deployed. */
function kindOf(server: Server): ServerKind {
  const { registry } = server.config.entry.package;
  return SERVER_KINDS.find((kind) => kind === registry) ?? "oci";
}

/** The worst first: what the order by status is for. */
const URGENCY: Server["status"][] = [
  "failed",
  "signed_out",
  "toolbox_unreachable",
  "removing",
  "starting",
  "stopped",
  "idle",
  "running",
];

function inOrder(servers: Server[], sort: ServerFilter["sort"]): Server[] {
  const [by, sign] = sort.startsWith("-") ? [sort.slice(1), -1] : [sort, 1];
  const keys: Record<ServerSort, (server: Server) => number | string> = {
    name: () => 0,
    status: ({ status }) => URGENCY.indexOf(status),
    tools: ({ tools }) => -tools.approved,
    toolbox: ({ toolboxName }) => toolboxName.toLowerCase(),
    deployed: ({ createdAt }) => -createdAt.getTime(),
  };
  const keyOf = keys[by as ServerSort];
  // They are read by name, which stays the order among equals.
  if (by === "name") return sign === 1 ? servers : servers.toReversed();
  return servers.toSorted((a, b) => {
    const [one, other] = [keyOf(a), keyOf(b)];
    return one === other ? 0 : one < other ? -sign : sign;
  });
}

function counted<Value extends string>(
  servers: Server[],
  valuesOf: (server: Server) => Value[],
  values: readonly Value[],
): Facet<Value> {
  const counts = new Map<Value, number>();
  for (const server of servers) {
    for (const value of valuesOf(server)) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return values.flatMap((value) => {
    const count = counts.get(value);
    return count ? [{ value, count }] : [];
  });
}

function toolboxesOf(servers: Server[]): ServerPage["facets"]["toolbox"] {
  const boxes = new Map<string, { value: string; name: string; count: number }>();
  for (const { toolboxId: value, toolboxName: name } of servers) {
    const count = (boxes.get(value)?.count ?? 0) + 1;
    boxes.set(value, { value, name, count });
  }
  return [...boxes.values()].sort((a, b) => a.name.localeCompare(b.name));
}
