/** Agents' toolbelts as one replica knows them: a cache with an expiry, dropped when the database tells of a change. */
import type { Changes } from "../models/changes.ts";
import type { Change, Database } from "../models/db.ts";
import { type Toolbelt, toolbeltOf } from "../models/toolbelts.ts";
import { type NamedToolbelt, nameToolbelt } from "./aggregate.ts";
import { type OwnTools, withOwnServer } from "./own_server.ts";

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
  "management_grants",
]);

interface Entry {
  at: number;
  toolbelt: Promise<Toolbelt>;
  /** Null while it is being read. */
  read: Toolbelt | null;
  /** Something of it has changed since. */
  isOutdated: boolean;
}

export interface Toolbelts {
  /**
   * An agent's toolbelt under the names of a scope: a server's slug, or null for all servers. At once where it
   * is known, as it is in nearly every call.
   */
  of(agentId: string, scope: string | null): NamedToolbelt | Promise<NamedToolbelt>;
}

/** Whether a change may be one of a toolbelt. */
export function concernsToolbelts({ table }: Change): boolean {
  return TABLES.has(table);
}

export function toolbelts(
  { db, changes, ownTools }: { db: Database; changes: Changes; ownTools?: OwnTools },
): Toolbelts {
  const cached = new Map<string, Entry>();
  const named = new WeakMap<Toolbelt, Map<string | null, NamedToolbelt>>();
  /** Of each with all its servers; the same as of the one before it. */
  const seenUris = new WeakMap<Toolbelt, Map<string, string>>();
  changes.watch(concernsToolbelts, drop);

  /** Of five hundred agents a change concerns few. */
  function drop(change: Change | null) {
    for (const [agentId, entry] of cached) {
      if (!change || !entry.read || concerns(change, agentId, entry.read)) entry.isOutdated = true;
    }
  }

  /** That a silent toolbox is heard of again is a change of which nobody is told. */
  function servesMs({ read }: Entry): number {
    const isUp = read !== null && !read.servers.some(({ unavailable }) => unavailable);
    return isUp && changes.untoldMs() < TOOLBELT_MS ? TOLD_TOOLBELT_MS : TOOLBELT_MS;
  }

  function read(agentId: string): Toolbelt | Promise<Toolbelt> {
    const known = cached.get(agentId);
    if (known && !known.isOutdated && Date.now() - known.at < servesMs(known)) {
      return known.read ?? known.toolbelt;
    }
    // One that is as it was stays the same object, by which names, pages and a search index are kept.
    const toolbelt = Promise.all([toolbeltOf(db, agentId), ownTools?.of(agentId)]).then(
      ([own, tools = []]) => {
        const read = withOwnServer(own, tools), before = known?.read;
        if (!before) return read;
        if (isSame(before, read)) return before;
        // A client reads and follows what it listed before another server came.
        seenUris.set(read, seenIn(before));
        return read;
      },
    );
    const entry: Entry = { at: Date.now(), toolbelt, read: null, isOutdated: false };
    toolbelt.then(
      (read) => entry.read = read,
      () => cached.get(agentId) === entry && cached.delete(agentId),
    );
    if (cached.size > 1000) cached.clear();
    cached.set(agentId, entry);
    return toolbelt;
  }

  function seenIn(toolbelt: Toolbelt): Map<string, string> {
    let seen = seenUris.get(toolbelt);
    if (!seen) seenUris.set(toolbelt, seen = new Map());
    return seen;
  }

  function namedIn(toolbelt: Toolbelt, scope: string | null): NamedToolbelt {
    let scopes = named.get(toolbelt);
    if (!scopes) named.set(toolbelt, scopes = new Map());
    let found = scopes.get(scope);
    if (!found) {
      // A stranger's slugs must not pile up.
      if (scopes.size > 100) scopes.clear();
      const seen = scope === null ? seenIn(toolbelt) : undefined;
      scopes.set(scope, found = nameToolbelt(toolbelt, scope, seen));
    }
    return found;
  }

  return {
    of(agentId, scope) {
      const toolbelt = read(agentId);
      return toolbelt instanceof Promise
        ? toolbelt.then((read) => namedIn(read, scope))
        : namedIn(toolbelt, scope);
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

/** A definition is what its pin and the connection's options make of it. */
function isSame(one: Toolbelt, other: Toolbelt): boolean {
  return fingerprint(one) === fingerprint(other);
}

function fingerprint(toolbelt: Toolbelt): string {
  const { servers, presents, tools, prompts, templates } = toolbelt;
  const shown = tools.map(({ definition, ...tool }) => [
    tool,
    definition.title,
    definition.description,
  ]);
  const pins = [...prompts, ...templates].map(({ serverId, name, hash }) => [serverId, name, hash]);
  return JSON.stringify([servers, presents, shown, pins]);
}
