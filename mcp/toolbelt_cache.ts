/** Agents' toolbelts as one replica knows them: a cache with an expiry, dropped when the database tells of a change. */
import type { Changes } from "../models/changes.ts";
import type { Change, Database } from "../models/db.ts";
import { type Toolbelt, toolbeltOf } from "../models/toolbelts.ts";
import { type NamedToolbelt, nameToolbelt } from "./aggregate.ts";

/** How long a read toolbelt serves where the database cannot tell of changes. */
const TOOLBELT_MS = 2000;
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

export interface Toolbelts {
  /** An agent's toolbelt under the names of a scope: a server's slug, or null for all servers. */
  of(agentId: string, scope: string | null): Promise<NamedToolbelt>;
}

/** Whether a change may be one of a toolbelt. */
export function concernsToolbelts({ table }: Change): boolean {
  return TABLES.has(table);
}

export function toolbelts({ db, changes }: { db: Database; changes: Changes }): Toolbelts {
  const cached = new Map<string, { at: number; toolbelt: Promise<Toolbelt> }>();
  const named = new WeakMap<Toolbelt, Map<string | null, NamedToolbelt>>();
  changes.watch(concernsToolbelts, () => cached.clear());

  function read(agentId: string): Promise<Toolbelt> {
    const known = cached.get(agentId);
    if (known && Date.now() - known.at < TOOLBELT_MS) return known.toolbelt;
    const toolbelt = toolbeltOf(db, agentId);
    const entry = { at: Date.now(), toolbelt };
    toolbelt.catch(() => cached.get(agentId) === entry && cached.delete(agentId));
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
