/** What people call things on a command line: by id, or by the name that lists show. */
import type { AgentShape } from "../routes/api/agents.ts";
import type { ServerSummary } from "../routes/api/servers.ts";
import type { ToolboxShape } from "../routes/api/toolboxes.ts";
import type { Client } from "./client.ts";
import { UsageError } from "./command.ts";

/** Nothing is called so. */
export class NothingSo extends Error {
  override name = "NothingSo";
}

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A server's id, by its id, slug or name. */
export function serverId(client: Client, name: string): Promise<string> {
  return idOf<ServerSummary>(client, "/servers", "server", name, ({ slug }) => slug);
}

/** An agent's id, by its id or name. */
export function agentId(client: Client, name: string): Promise<string> {
  return idOf<AgentShape>(client, "/agents", "agent", name);
}

/** A toolbox's id, by its id or name. */
export function toolboxId(client: Client, name: string): Promise<string> {
  return idOf<ToolboxShape>(client, "/toolboxes", "toolbox", name);
}

async function idOf<Item extends { id: string; name: string }>(
  client: Client,
  path: string,
  noun: string,
  name: string,
  slugOf: (item: Item) => string | undefined = () => undefined,
): Promise<string> {
  if (ID.test(name)) return name;
  const all = await client.list<Item>(path);
  const bySlug = all.find((item) => slugOf(item) === name);
  if (bySlug) return bySlug.id;
  const named = all.filter((item) => item.name.toLowerCase() === name.toLowerCase());
  if (named.length > 1) {
    throw new UsageError(`${named.length} are called ${name}: give the ${noun}'s id`);
  }
  if (named.length === 0) throw new NothingSo(`There is no ${noun} ${name}`);
  return named[0].id;
}
