/** Agents' toolbelts as one replica knows them: a cache with an expiry, dropped when the database tells of a change. */
import type { Changes } from "../models/changes.ts";
import type { Change, Database } from "../models/db.ts";
import { type Toolbelt, toolbeltOf } from "../models/toolbelts.ts";
import { type NamedToolbelt, nameToolbelt } from "./aggregate.ts";

/** How long a read toolbelt serves where it is not known that no change was missed, and where it is. */
const TOOLBELT_MS = 2000;
const TOLD_TOOLBELT_MS = 30_000;
/** What a toolbelt is made of. */
const TABLES = new Set([
  "tools",
  "definitions",
  "servers",
  "observations",
  "connections",
  "toolboxes",
  "agents",
]);

interface Entry {
  at: number;
  toolbelt: Promise<Toolbelt>;
  /** Null while it is being read. */
  read: Toolbelt | null;
}

export interface Toolbelts {
  /** An agent's toolbelt under the names of a scope: a server's slug, or null for all servers. */
  of(agentId: string, scope: string | null): Promise<NamedToolbelt>;
}

/** Whether a change may be one of a toolbelt. */
export function concernsToolbelts({ table }: Change): boolean {
  return TABLES.has(table);
}

export function toolbelts({ db, changes }: { db: Database; changes: Changes }): Toolbelts {
  const cached = new Map<string, Entry>();
  const named = new WeakMap<Toolbelt, Map<string | null, NamedToolbelt>>();
  changes.watch(concernsToolbelts, drop);

  /** Of five hundred agents a change concerns few. */
  function drop(change: Change | null) {
    for (const [agentId, { read }] of cached) {
      if (!change || !read || concerns(change, agentId, read)) cached.delete(agentId);
    }
  }

  /** That a silent toolbox is heard of again is a change of which nobody is told. */
  function servesMs({ read }: Entry): number {
    const isUp = read !== null && !read.servers.some(({ unavailable }) => unavailable);
    return isUp && changes.untoldMs() < TOOLBELT_MS ? TOLD_TOOLBELT_MS : TOOLBELT_MS;
  }

  function read(agentId: string): Promise<Toolbelt> {
    const known = cached.get(agentId);
    if (known && Date.now() - known.at < servesMs(known)) return known.toolbelt;
    const toolbelt = toolbeltOf(db, agentId);
    const entry: Entry = { at: Date.now(), toolbelt, read: null };
    toolbelt.then(
      (read) => entry.read = read,
      () => cached.get(agentId) === entry && cached.delete(agentId),
    );
    if (cached.size > 1000) cached.clear();
    cached.set(agentId, entry);
    return toolbelt;
  }

  return {
    async of(agentId, scope) {
      const toolbelt = await read(agentId);
      let scopes = named.get(toolbelt);
      if (!scopes) named.set(toolbelt, scopes = new Map());
      let found = scopes.get(scope);
      if (!found) {
        // A stranger's slugs must not pile up.
        if (scopes.size > 100) scopes.clear();
        scopes.set(scope, found = nameToolbelt(toolbelt, scope));
      }
      return found;
    },
  };
}

/** A server that is new to an agent is told of by its connection, which names the agent. */
function concerns({ agent, server, toolbox }: Change, agentId: string, { servers }: Toolbelt) {
  if (agent === null && server === null && toolbox === null) return true;
  return agent === agentId ||
    servers.some((each) =>
      each.serverId === server || each.toolboxId === toolbox && server === null
    );
}
