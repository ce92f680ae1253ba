import type { HostFacts, ToolDefinition } from "../dtma/protocol.ts";
import type { Database } from "./db.ts";
import { type Layers, statusOf } from "./servers.ts";

/** A tool that an agent may have: approved, present and unchanged. */
export interface ToolbeltTool {
  serverId: string;
  serverSlug: string;
  /** As its server calls it. */
  name: string;
  definition: ToolDefinition;
  hash: string;
}

export interface ToolbeltServer {
  serverId: string;
  slug: string;
  name: string;
  /** Its toolbox's data path, null when that is not known. */
  address: string | null;
  /** Why calls cannot be made now, with what to do; null when they can. */
  unavailable: string | null;
}

export interface Toolbelt {
  servers: ToolbeltServer[];
  /** In a stable order: by server, then by name. */
  tools: ToolbeltTool[];
}

/** What an agent may list and call now. Reads the pins, never a server: a dead one delays nobody. */
export async function toolbeltOf(db: Database, agentId: string): Promise<Toolbelt> {
  return await db.asAgent(agentId, async (sql) => {
    const servers = await sql<(Omit<ToolbeltServer, "address" | "unavailable"> & Seen)[]>`
      select s.id as "serverId", s.slug, s.name, s.running, s.removed_at as "removedAt", t.facts,
        t.name as "toolboxName", o.layers, s.generation, o.generation as "observedGeneration",
        extract(epoch from now() - t.last_seen_at)::float8 as "silentS"
      from servers s join toolboxes t on t.id = s.toolbox_id left join observations o on o.server_id = s.id
      where s.removed_at is null order by s.slug, s.id`;
    const tools = await sql<ToolbeltTool[]>`
      select x.server_id as "serverId", s.slug as "serverSlug", x.name, x.definition, x.hash
      from tools x join servers s on s.id = x.server_id
      where x.present and x.hash = x.approved_hash and s.removed_at is null
      order by s.slug, s.id, x.name`;
    return {
      servers: servers.map((seen) => ({
        serverId: seen.serverId,
        slug: seen.slug,
        name: seen.name,
        address: seen.facts?.address ?? null,
        unavailable: whyUnavailable(seen),
      })),
      tools: [...tools],
    };
  });
}

/** What is read of a server to know whether it can be called. */
export interface Seen {
  name: string;
  running: boolean;
  removedAt: Date | null;
  facts: HostFacts | null;
  toolboxName: string;
  layers: Layers | null;
  generation: number;
  observedGeneration: number | null;
  silentS: number | null;
}

/** Why a server cannot be called now, for a person or a model; null when it can. */
export function whyUnavailable(seen: Seen): string | null {
  // A roll-out in progress does not end the old instance's calls by itself: DTMA has the last word.
  if (!seen.layers) return `The server "${seen.name}" was not started yet`;
  const { status, statusDetail } = statusOf(seen, seen.layers, seen.silentS);
  if (status === "running" || seen.observedGeneration !== seen.generation) return null;
  return `The server "${seen.name}" is ${status.replaceAll("_", " ")}: ${statusDetail}`;
}
