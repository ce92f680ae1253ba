import type {
  HostFacts,
  PromptDefinition,
  ServerSpec,
  TemplateDefinition,
  ToolDefinition,
} from "../dtma/protocol.ts";
import type { Authorization } from "./authorizations.ts";
import {
  type CallLimits,
  callLimits,
  changedDefinition,
  type ConnectionOptions,
  isAllowed,
  readConnectionOptions,
} from "./connection_options.ts";
import type { Database, Sql, User } from "./db.ts";
import { type Kind, pinsOf } from "./definitions.ts";
import { Conflict, Forbidden, NotFound } from "./errors.ts";
import { type Layers, statusOf } from "./server_status.ts";
import { usableAddress } from "./toolboxes.ts";

/** A definition that an agent may have: approved, present and unchanged. */
interface Pinned {
  serverId: string;
  serverSlug: string;
  /** As its server calls it; a template's URI template. */
  name: string;
  /** The pin of the server's own definition. */
  hash: string;
}

export interface ToolbeltTool extends Pinned {
  /** As this agent sees it, but for its name. */
  definition: ToolDefinition;
  /** What the agent calls it in place of its own name, if a person said so. */
  shownName: string;
  /** Arguments that the caller may leave out, and those that it has no say in. */
  defaults: Record<string, unknown>;
  fixed: Record<string, unknown>;
  /** Null: it may call it as often as it likes. */
  limits: CallLimits | null;
}

export interface ToolbeltPrompt extends Pinned {
  definition: PromptDefinition;
}

export interface ToolbeltTemplate extends Pinned {
  definition: TemplateDefinition;
}

export interface ToolbeltServer {
  serverId: string;
  slug: string;
  name: string;
  toolboxId: string;
  /** How calls come to its toolbox. */
  reach: HostFacts["reach"];
  /** Its toolbox's data path, null when that is not known or calls come through a tunnel. */
  address: string | null;
  /** Whose instance a call goes to. */
  instances: ServerSpec["instances"];
  /** Its toolbox starts an agent's instance with the agent's own credentials. */
  knowsInstanceInputs: boolean;
  /** … and with the agent's own account. */
  knowsInstanceAccounts: boolean;
  /** As the server said in the handshake; null when that is not known. */
  capabilities: Record<string, unknown> | null;
  /** What the server says of itself to models, as it was approved. */
  instructions: string | null;
  /** Why calls cannot be made now, with what to do; null when they can. */
  unavailable: string | null;
}

export interface Toolbelt {
  servers: ToolbeltServer[];
  /** In a stable order: by server, then by name. */
  tools: ToolbeltTool[];
  prompts: ToolbeltPrompt[];
  templates: ToolbeltTemplate[];
  /** All tools, or two with which they are found and called. */
  presents: "tools" | "search";
}

/** What an agent may list and call now. Reads the pins, never a server: a dead one delays nobody. */
export async function toolbeltOf(db: Database, agentId: string): Promise<Toolbelt> {
  return await db.asAgent(agentId, async (sql) => {
    const [agent] = await sql<{ presents: Toolbelt["presents"]; deniesByDefault: boolean }[]>`
      select presents, denies_by_default as "deniesByDefault" from agents where id = ${agentId}`;
    const servers = await readToolbeltServers(sql, sql`s.removed_at is null`);
    const connections = await sql<{ serverId: string; options: string }[]>`
      select server_id as "serverId", options::text from connections where agent_id = ${agentId}`;
    const own = await sql<Own[]>`
      select server_id as "serverId", null as account from connection_secrets where agent_id = ${agentId}
      union all
      select server_id, state from authorizations where agent_id = ${agentId}`;
    const options = new Map(
      connections.map((row) => [row.serverId, readConnectionOptions(row.options)]),
    );
    const tools = await readPinned<ToolDefinition>(sql, "tool");
    const others = {
      prompts: await readPinned<PromptDefinition>(sql, "prompt"),
      templates: await readPinned<TemplateDefinition>(sql, "template"),
      instructions: await readPinned<{ text: string }>(sql, "instructions"),
    };
    const said = new Map(others.instructions.map((row) => [row.serverId, row.definition.text]));
    return {
      servers: servers.map((each) => ({
        ...each,
        instructions: said.get(each.serverId) ?? null,
        unavailable: each.unavailable ??
          whyNotItsOwn(each, own.filter(({ serverId }) => serverId === each.serverId)),
      })),
      tools: shownTools(tools, options, agent?.deniesByDefault ?? true),
      prompts: others.prompts,
      templates: others.templates,
      presents: agent?.presents ?? "tools",
    };
  });
}

async function readPinned<T>(sql: Sql, kind: Kind): Promise<(Pinned & { definition: T })[]> {
  const { table, which } = pinsOf(sql, kind);
  return [
    ...await sql<(Pinned & { definition: T })[]>`
      select x.server_id as "serverId", s.slug as "serverSlug", x.name, x.definition, x.hash
      from (select * from ${table} where ${which}) x join servers s on s.id = x.server_id
      where x.present and x.hash = x.approved_hash and s.removed_at is null
      order by s.slug, s.id, x.name`,
  ];
}

/** The tools that an agent gets, as a person said that it is to see them. */
function shownTools(
  tools: (Pinned & { definition: ToolDefinition })[],
  options: Map<string, ConnectionOptions>,
  deniesByDefault: boolean,
): ToolbeltTool[] {
  const own = new Set(tools.map(({ serverId, name }) => `${serverId} ${name}`));
  const taken = new Set<string>();
  return tools.flatMap((tool) => {
    const connection = options.get(tool.serverId);
    if (!connection || !isAllowed(connection, tool.name, deniesByDefault)) return [];
    const change = Object.hasOwn(connection.changes, tool.name)
      ? connection.changes[tool.name]
      : {};
    const shown = `${tool.serverId} ${change.name}`;
    // A name that another tool of the server has, or was given, would hide one of the two.
    const isFree = change.name !== undefined && !own.has(shown) && !taken.has(shown);
    if (isFree) taken.add(shown);
    return [{
      ...tool,
      definition: changedDefinition(tool.definition, change),
      shownName: isFree ? change.name! : tool.name,
      defaults: change.defaults ?? {},
      fixed: change.fixed ?? {},
      limits: callLimits(change),
    }];
  });
}

/**
 * A tool as a person may try it: approved, of a server in a workspace where they are a member.
 *
 * @throws {NotFound} no such server or tool
 * @throws {Forbidden} for viewers
 * @throws {Conflict} when it is not approved as it is now
 */
export async function toolForTrial(
  db: Database,
  user: User,
  serverId: string,
  name: string,
): Promise<{ workspaceId: string; server: ToolbeltServer; tool: { name: string; hash: string } }> {
  return await db.asUser(user, async (sql) => {
    const [server] = await readToolbeltServers(sql, sql`s.id = ${serverId}`);
    if (!server) throw new NotFound("There is no such server");
    const [row] = await sql`
      select s.workspace_id, s.workspace_id in (select mooring.workspaces_as('member')) as allowed,
        x.hash, x.present and x.hash is not distinct from x.approved_hash as approved
      from servers s left join tools x on x.server_id = s.id and x.name = ${name}
      where s.id = ${serverId}`;
    if (!row.allowed) throw new Forbidden("Only members of the workspace can try tools");
    if (!row.hash) throw new NotFound("The server has no such tool");
    if (!row.approved) throw new Conflict("Approve the tool as it is now, then try it");
    return { workspaceId: row.workspace_id, server, tool: { name, hash: row.hash } };
  });
}

/**
 * Where to ask a server's toolbox about it, whether it runs or not.
 * @throws {NotFound} no such server in the person's reach
 */
export async function toolboxOfServer(
  db: Database,
  user: User,
  serverId: string,
): Promise<ToolbeltServer> {
  const [server] = await db.asUser(
    user,
    (sql) => readToolbeltServers(sql, sql`s.id = ${serverId}`),
  );
  if (!server) throw new NotFound("There is no such server");
  return server;
}

async function readToolbeltServers(sql: Sql, which: ReturnType<Sql>): Promise<ToolbeltServer[]> {
  const servers = await sql<
    (Pick<ToolbeltServer, "serverId" | "slug" | "name" | "toolboxId"> & Seen & {
      capabilities: unknown;
      instances: ToolbeltServer["instances"];
    })[]
  >`
    select s.id as "serverId", s.slug, s.name, s.running, s.removed_at as "removedAt", t.facts,
      t.id as "toolboxId", t.is_local as "isLocal", t.name as "toolboxName", o.layers, s.generation,
      o.generation as "observedGeneration", o.serving_generation as "servingGeneration",
      extract(epoch from now() - t.last_seen_at)::float8 as "silentS",
      t.revoked_at is not null as "isToolboxRevoked", s.instances,
      (select a.state from authorizations a where a.server_id = s.id and a.agent_id is null) as "signIn",
      o.server_info -> 'capabilities' as capabilities
    from servers s join toolboxes t on t.id = s.toolbox_id left join observations o on o.server_id = s.id
    where ${which} order by s.slug, s.id`;
  return servers.map((seen) => ({
    serverId: seen.serverId,
    slug: seen.slug,
    name: seen.name,
    toolboxId: seen.toolboxId,
    reach: seen.facts?.reach ?? "direct",
    address: usableAddress(seen.facts, seen.isLocal),
    instances: seen.instances,
    knowsInstanceInputs: seen.facts?.knowsInstanceInputs ?? false,
    knowsInstanceAccounts: seen.facts?.knowsInstanceAccounts ?? false,
    capabilities: asObject(seen.capabilities),
    instructions: null,
    unavailable: whyUnavailable(seen),
  }));
}

/** What an agent has of its own at a server: values of secrets, or with a state an account. */
interface Own {
  serverId: string;
  account: Authorization["state"] | null;
}

/** Why an agent with credentials of its own cannot be served: those of all are not for it. */
function whyNotItsOwn(
  { name, instances, knowsInstanceInputs, knowsInstanceAccounts }: ToolbeltServer,
  own: Own[],
): string | null {
  if (own.length === 0) return null;
  const account = own.find(({ account }) => account !== null)?.account;
  if (account && account !== "signed_in") {
    return `This agent's own account at the server "${name}" waits for a person to sign in again, on the ` +
      "agent's page of that server";
  }
  if (instances !== "agent") {
    return `This agent has credentials of its own for the server "${name}", which has no instance for each ` +
      "agent any more: a person has to change one of the two";
  }
  return (account ? knowsInstanceAccounts : knowsInstanceInputs)
    ? null
    : `This agent has credentials of its own for the server "${name}", and the ` +
      "DTMA of its toolbox is too old to use them: update Mooring there";
}

function asObject(value: unknown): Record<string, unknown> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Record<string, unknown>
    : null;
}

/** What is read of a server to know whether it can be called. */
interface Seen {
  name: string;
  running: boolean;
  removedAt: Date | null;
  facts: HostFacts | null;
  isLocal: boolean;
  toolboxName: string;
  layers: Layers | null;
  generation: number;
  observedGeneration: number | null;
  servingGeneration: number | null;
  silentS: number | null;
  isToolboxRevoked: boolean;
  /** Null where it is called with no account. */
  signIn: Authorization["state"] | null;
}

/** Why a server cannot be called now, for a person or a model; null when it can. */
function whyUnavailable(seen: Seen): string | null {
  if (seen.running && seen.signIn && seen.signIn !== "signed_in") {
    return `The server "${seen.name}" waits for a person to sign in for it, on its page`;
  }
  // A roll-out in progress does not end the old instance's calls by itself: DTMA has the last word.
  if (!seen.layers) return `The server "${seen.name}" was not started yet`;
  const { status, statusDetail } = statusOf(
    seen,
    seen.layers,
    seen.silentS,
    seen.isToolboxRevoked,
  );
  const isServed = status === "running" || status === "idle" || status !== "toolbox_unreachable" &&
      seen.running && seen.servingGeneration !== null;
  if (isServed) return null;
  if (seen.observedGeneration !== seen.generation && !seen.isToolboxRevoked) return null;
  return `The server "${seen.name}" is ${status.replaceAll("_", " ")}: ${statusDetail}`;
}
