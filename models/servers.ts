import canonicalize from "canonicalize";
import { v7 } from "uuid";
import { z } from "zod";
import {
  type AgentInstance,
  type Health,
  HostFacts,
  type Layer,
  packageTitle,
  type Sandbox,
  type Tier,
  type Transport,
} from "../dtma/protocol.ts";
import type { Authorization } from "./authorizations.ts";
import { buildCodeOf, CatalogEntry, hashOfEntry, readCatalogEntry } from "./catalog_entries.ts";
import type { Database, Sql, User } from "./db.ts";
import { isSamePackage, titleOf } from "./entry_changes.ts";
import { Conflict, Forbidden, Invalid, isDenied, NotFound } from "./errors.ts";
import { recordEvent } from "./events.ts";
import { digestFor, exactEntry, Origin, originOf } from "./exact_entry.ts";
import type { DigestOf } from "./image_digests.ts";
import { sealSecret, type SecretsKey } from "./secrets.ts";
import { missingConsent, readForm, readOptions } from "./server_form.ts";
import { ServerOptions } from "./server_options.ts";
import { type HostLayer, hostLayer, type ShownLayer, shownLayers } from "./server_host.ts";
import {
  isCrashLooping,
  type Layers,
  presentLayers,
  type ServerStatus,
  statusOf,
} from "./server_status.ts";
import {
  lacksApis,
  lacksLabel,
  lacksSandbox,
  lacksTransport,
  nothingFits,
  place,
  whyNever,
  type Wish,
} from "./placement.ts";
import { readToolboxes, type Toolbox } from "./toolboxes.ts";
import { validName } from "./workspaces.ts";

/** What a generation says: the catalog entry as it was, and what was given for its inputs. */
export const ServerConfig = z.object({
  entry: CatalogEntry,
  /** By form field; secrets are not among them. */
  values: z.record(z.string(), z.string()),
  /** The ids of its secrets, by name: another value is another secret, and this one stays. */
  secrets: z.record(z.string(), z.uuid()).default({}),
  options: ServerOptions.prefault({}),
  /** Null: of no catalog's, or made before this was kept. */
  origin: Origin.nullable().default(null),
});
export type ServerConfig = z.infer<typeof ServerConfig>;

/** How far a server is trusted: what its person says, or else its entry. */
export function tierOf({ entry, options }: Pick<ServerConfig, "entry" | "options">): Tier {
  return options.tier ?? entry.tier;
}

/** How a server speaks: as its person says, or else its entry. */
export function transportOf(
  { entry, options }: Pick<ServerConfig, "entry" | "options">,
): Transport {
  return options.transport ?? entry.transport;
}

/** Whose an instance of the server is: as its person says, or else its entry. */
export function instancesOf({ entry, options }: Pick<ServerConfig, "entry" | "options">) {
  return options.instances ?? entry.instances;
}

export interface Server {
  id: string;
  workspaceId: string;
  toolboxId: string;
  toolboxName: string;
  name: string;
  slug: string;
  generation: number;
  running: boolean;
  removedAt: Date | null;
  createdAt: Date;
  config: ServerConfig;
  observedGeneration: number | null;
  /** What its toolbox is for it. */
  host: HostLayer;
  /** Always all four, for the present generation. */
  layers: Record<Layer, ShownLayer>;
  status: ServerStatus;
  /** One sentence: why it is so, and what to do where something is to be done. */
  statusDetail: string;
  imageDigest: string | null;
  containerId: string | null;
  restarts: number;
  /** The generation that answers calls. */
  servingGeneration: number | null;
  health: Health | null;
  instances: AgentInstance[];
  volumes: { name: string; bytes: number | null }[];
  tier: Tier;
  /** What its container runs in; null: on the host's kernel, or not known. */
  sandbox: Sandbox | null;
  /** Why it is not in the sandbox that its toolbox has. */
  unsandboxed: string | null;
  serverInfo: Record<string, unknown> | null;
  logTail: string[];
  observedAt: Date | null;
  tools: { total: number; approved: number; changed: number; waiting: number };
  /** Prompts, templates and instructions that agents do not get before somebody reads them. */
  definitionsWithheld: number;
  /** To how many places it wanted to go, and was refused. */
  denials: number;
  /** It ends again and again, or did until its toolbox left it alone. */
  isCrashLooping: boolean;
  /** Of a remote server that is called with an account; null: it is not. */
  authorization: Pick<Authorization, "state" | "trouble"> | null;
}

/**
 * The servers of a workspace, by name.
 * @param only by id; without it all
 */
export async function listServers(
  db: Database,
  user: User,
  workspaceId: string,
  { only }: { only?: string[] } = {},
): Promise<Server[]> {
  return await db.asUser(
    user,
    (sql) =>
      readServers(
        sql,
        sql`s.workspace_id = ${workspaceId} and ${only ? sql`s.id = any(${only})` : sql`true`}`,
      ),
  );
}

/** @throws {NotFound} */
export async function getServer(db: Database, user: User, serverId: string): Promise<Server> {
  return await db.asUser(user, (sql) => readServer(sql, serverId));
}

/**
 * Deploys a catalog entry on a toolbox, pinned to what its tag and URL are now: the server, its first
 * generation, its secrets and the event are written in one transaction; the toolbox pulls it from there.
 *
 * @param digestOf without it an image that its catalog names by a tag is not deployed
 * @throws {Invalid} with a sentence for each field that does not hold; also where no toolbox fits, or the
 *   chosen one takes no new server, or the entry cannot be deployed here
 * @throws {NotFound} no such entry or toolbox in reach
 * @throws {Forbidden} for viewers
 */
export async function deployServer(
  db: Database,
  user: User,
  request: Deployment & {
    slug: string;
    /** {@link hashOfEntry} of the entry as it was read: another one is not deployed. */
    entryHash?: string;
  },
  secretsKey: SecretsKey,
  digestOf?: DigestOf,
): Promise<{ serverId: string; created: boolean }> {
  const digest = await digestFor(db, user, request, digestOf);
  const entryOf = async (sql: Sql) => {
    const row = await readCatalogEntry(sql, request.slug, request.workspaceId);
    if (request.entryHash && await hashOfEntry(row.entry) !== request.entryHash) {
      throw new Conflict("The catalog's entry was changed since you read it: read it again");
    }
    const entry = exactEntry(row, request.form, digest);
    return { id: row.id, entry, origin: originOf(row, request.form) };
  };
  return await deploy(db, user, request, entryOf, secretsKey);
}

/**
 * Deploys an entry that stands in no catalog.
 * @throws {Invalid | Forbidden} as {@link deployServer}
 */
export async function deployEntry(
  db: Database,
  user: User,
  request: Deployment & { entry: CatalogEntry },
  secretsKey: SecretsKey,
): Promise<{ serverId: string; created: boolean }> {
  const entry = { id: null, entry: request.entry, origin: null };
  return await deploy(db, user, request, () => Promise.resolve(entry), secretsKey);
}

/** What a deploy form says, whatever it deploys. */
export interface Deployment {
  workspaceId: string;
  /** Without it the app chooses ({@link place}). */
  toolboxId?: string;
  /** `key=value`: on a toolbox that has this label. */
  label?: string;
  name?: string;
  /** Its slug, if no other server has it; without it one is made of the name. */
  serverSlug?: string;
  /** How it is to run, where the form does not say. */
  options?: ServerOptions;
  form: Record<string, string>;
  /** A uuid made with the form: sent twice, it is one server. */
  idempotencyKey: string;
  /** It is not run before a person signed in for it (models/authorizations.ts). */
  awaitsSignIn?: boolean;
  /** A server that is the same (`sameServer`) is answered in place of another one. */
  reusesSame?: boolean;
  /** What becomes true with it, in the same transaction. */
  also?: (sql: Sql, serverId: string) => Promise<void>;
}

async function deploy(
  db: Database,
  user: User,
  request: Deployment,
  entryOf: (
    sql: Sql,
  ) => Promise<{ id: string | null; entry: CatalogEntry; origin: Origin | null }>,
  secretsKey: SecretsKey,
): Promise<{ serverId: string; created: boolean }> {
  try {
    return await db.asUser(user, async (sql) => {
      // One at a time in a workspace: a form sent twice finds its first server, and no two take a slug.
      await sql`select pg_advisory_xact_lock(hashtextextended(${request.workspaceId}, 0))`;
      const made = await serverOfKey(sql, request);
      if (made) return made;

      const { id: entryId, entry, origin } = await entryOf(sql);
      const options = readOptions(request.form, {
        entry,
        options: request.options ?? ServerOptions.parse({}),
      });
      const toolboxId = await placeFor(sql, request, {
        memoryMiB: entry.memoryMiB,
        label: request.label,
        tier: tierOf({ entry, options }),
        transport: transportOf({ entry, options }),
        registry: entry.package.registry,
      });

      const { values, secrets } = readForm(
        entry,
        request.form,
        [],
        missingConsent(entry, request.form),
      );
      const name = validName(request.name?.trim() || entry.title);
      const same = request.reusesSame
        ? await readSame(sql, { ...request, slug: entry.slug, name, values })
        : null;
      if (same !== null) return { serverId: same, created: false };
      const serverId = v7();
      await sql`
        insert into servers (id, workspace_id, toolbox_id, catalog_entry_id, name, slug, idempotency_key, created_by)
        values (${serverId}, ${request.workspaceId}, ${toolboxId}, ${entryId}, ${name},
          ${await freeSlug(
        sql,
        request.workspaceId,
        name,
        request.serverSlug,
      )}, ${request.idempotencyKey}, ${user.userId})`;
      const server = { id: serverId, workspaceId: request.workspaceId };
      const config: ServerConfig = {
        entry,
        values,
        secrets: await writeSecrets(sql, server, secrets, secretsKey),
        options,
        origin,
      };
      await writeGeneration(sql, user, server, 1, config);
      if (request.awaitsSignIn) {
        await sql`
          insert into authorizations (server_id, workspace_id, state)
          values (${serverId}, ${request.workspaceId}, 'waiting')`;
      }
      await recordEvent(sql, user, {
        workspaceId: request.workspaceId,
        serverId,
        layer: "request",
        message: `Deployed ${packageTitle(entry.package)}${
          CONSENTED[buildCodeOf(entry) ?? "none"]
        }`,
      });
      await request.also?.(sql, serverId);
      return { serverId, created: true };
    });
  } catch (error) {
    if (isDenied(error)) throw new Forbidden("Only members of the workspace can deploy servers");
    throw error;
  }
}

/** What of a server makes another one of it needless: its catalog entry, name and inputs. */
export interface SameServer {
  workspaceId: string;
  slug: string;
  name: string;
  values: Record<string, string>;
}

/** The id of the server that is there with the same entry, name and inputs, whoever deployed it. */
export async function sameServer(
  db: Database,
  user: User,
  wanted: SameServer,
): Promise<string | null> {
  return await db.asUser(user, (sql) => readSame(sql, wanted));
}

async function readSame(
  sql: Sql,
  { workspaceId, slug, name, values }: SameServer,
): Promise<string | null> {
  const [same] = await sql<{ id: string }[]>`
    select s.id from servers s
    join server_generations g on g.server_id = s.id and g.generation = s.generation
    where s.workspace_id = ${workspaceId} and s.removed_at is null and s.name = ${name}
      and g.config #>> '{entry,slug}' = ${slug} and g.config -> 'values' = ${sql.json(values)}
    order by s.created_at, s.id limit 1`;
  return same?.id ?? null;
}

/** What the person who deployed agreed to, in the event that bears their name. */
export const CONSENTED = {
  "none": "",
  "install-scripts": ", agreeing to its packages' install scripts",
  "dockerfile": ", agreeing to what its Dockerfile runs",
};

/**
 * Gives a server another configuration, as its next generation, and lets it run. A secret left
 * empty keeps its value. Without a difference nothing is made.
 *
 * @param change.baseGeneration the generation the form was made from
 * @throws {Invalid} {@link deployServer}
 * @throws {Conflict} when the server has a newer generation than the form, or is being removed
 */
export async function reconfigureServer(
  db: Database,
  user: User,
  serverId: string,
  change: { form: Record<string, string>; baseGeneration: number },
  secretsKey: SecretsKey,
): Promise<void> {
  await changing(db, user, serverId, async (sql, server) => {
    if (server.generation !== change.baseGeneration) {
      throw new Conflict(
        "The server's configuration was changed while you edited it: reload the page and try again",
      );
    }
    const { entry, secrets: kept } = server.config;
    const { values, secrets } = readForm(entry, change.form, Object.keys(kept));
    const options = readOptions(change.form, server.config);
    await mustBeRunnable(sql, server, { entry, options });
    const config: ServerConfig = { ...server.config, values, secrets: kept, options };
    // Canonical: jsonb gives keys back in an order of its own.
    const isSame = Object.keys(secrets).length === 0 && server.running &&
      canonicalize(config) === canonicalize(server.config);
    if (isSame) return;
    const written = await writeSecrets(sql, server, secrets, secretsKey);
    await nextGeneration(sql, user, server, { ...config, secrets: { ...kept, ...written } });
    await sayRequest(sql, user, server, "Changed the configuration");
  });
}

/** Lets a server run. Of one that failed it makes a new generation, so that its toolbox tries anew. */
export async function runServer(db: Database, user: User, serverId: string): Promise<void> {
  await changing(db, user, serverId, async (sql, server) => {
    if (server.running && server.status !== "failed") return;
    await nextGeneration(sql, user, server, server.config);
    await sayRequest(sql, user, server, server.running ? "Asked to try again" : "Started");
  });
}

/** Starts a server anew, with the configuration it has. */
export async function restartServer(db: Database, user: User, serverId: string): Promise<void> {
  await changing(db, user, serverId, async (sql, server) => {
    const { options } = server.config;
    await nextGeneration(sql, user, server, {
      ...server.config,
      options: { ...options, restart: options.restart + 1 },
    });
    await sayRequest(sql, user, server, "Asked to restart");
  });
}

/** Stops a server until it is run again. */
export async function stopServer(db: Database, user: User, serverId: string): Promise<void> {
  await changing(db, user, serverId, async (sql, server) => {
    if (!server.running) return;
    await sql`update servers set running = false where id = ${server.id}`;
    await sayRequest(sql, user, server, "Stopped");
  });
}

/**
 * Removes a server with its container, network, image and secrets. It is gone once its toolbox
 * says that all is removed; its calls and events stay.
 *
 * @param options.deleteVolumes what it keeps in volumes goes too; else that stays on the toolbox
 */
export async function removeServer(
  db: Database,
  user: User,
  serverId: string,
  { deleteVolumes = false } = {},
): Promise<void> {
  await changing(db, user, serverId, async (sql, server) => {
    if (server.removedAt) return;
    await sql`
      update servers set removed_at = now(), running = false, delete_volumes = ${deleteVolumes}
      where id = ${server.id}`;
    await sayRequest(sql, user, server, "Asked to be removed");
  });
}

/** Runs a change on a server as a person, for other models of servers; a viewer, whose rows no update reaches, is refused. */
export async function changing(
  db: Database,
  user: User,
  serverId: string,
  change: (sql: Sql, server: Server) => Promise<void>,
) {
  try {
    await db.asUser(user, async (sql) => {
      // The lock makes transitions of one server follow each other; the policy hides it from viewers.
      // Not `for update`: a report that holds the toolbox's row, which a transition takes next, would
      // wait for it at a foreign key's check, a deadlock.
      const locked = await sql`select from servers where id = ${serverId} for no key update`;
      const server = await readServer(sql, serverId);
      if (locked.length === 0) {
        throw new Forbidden("Only members of the workspace can change servers");
      }
      await change(sql, server);
    });
  } catch (error) {
    if (isDenied(error)) throw new Forbidden("Only members of the workspace can change servers");
    throw error;
  }
}

/** The toolbox a person chose, if it takes new servers; else the one that fits best. */
async function placeFor(
  sql: Sql,
  { workspaceId, toolboxId }: { workspaceId: string; toolboxId?: string },
  wish: Wish,
): Promise<string> {
  const boxes = await readToolboxes(sql, sql`t.workspace_id = ${workspaceId}`);
  if (toolboxId) {
    const box = boxes.find(({ id }) => id === toolboxId);
    if (!box || box.revokedAt) throw new NotFound("This workspace has no such toolbox");
    const never = whyNever(box);
    if (never) throw new Invalid(never, { toolboxId: never });
    const lacking = wish.label && lacksLabel(box, wish.label);
    if (lacking) {
      throw new Invalid(`${lacking}: choose another toolbox, or no label`, { label: lacking });
    }
    refuseUnrunnable(box, wish);
    return box.id;
  }
  const placed = place(boxes, wish).toolboxId;
  if (placed) return placed;
  const message = nothingFits(boxes, wish);
  throw new Invalid(message, { [wish.label ? "label" : "toolboxId"]: message });
}

/** That a server's toolbox can run it: better told in the form than by a generation that fails. */
export async function mustBeRunnable(
  sql: Sql,
  server: Server,
  config: Pick<ServerConfig, "entry" | "options">,
): Promise<void> {
  const tier = tierOf(config), transport = transportOf(config);
  const isSame = tier === server.tier && transport.type === transportOf(server.config).type;
  if (isSame) return;
  const [box] = await readToolboxes(sql, sql`t.id = ${server.toolboxId}`);
  if (box) refuseUnrunnable(box, { tier, transport });
}

/** @throws {Invalid} */
function refuseUnrunnable(
  box: Toolbox,
  wish: Pick<Wish, "tier" | "transport" | "registry">,
): void {
  const unsafe = lacksSandbox(box, wish);
  if (unsafe) throw new Invalid(unsafe, { "option.tier": unsafe });
  const old = lacksTransport(box, wish);
  if (old) throw new Invalid(old, { "option.transport": old });
  const none = lacksApis(box, wish);
  if (none) throw new Invalid(none, { toolboxId: none });
}

/** Also one that was removed since: a click that comes late must not bring it back. */
async function serverOfKey(
  sql: Sql,
  { workspaceId, idempotencyKey }: { workspaceId: string; idempotencyKey: string },
): Promise<{ serverId: string; created: false } | null> {
  const [{ id }] = await sql<{ id: string | null }[]>`
    select mooring.server_of_deploy(${workspaceId}, ${idempotencyKey}) as id`;
  return id === null ? null : { serverId: id, created: false };
}

/** The wanted slug, or else one of the name, that no other server of the workspace has. */
async function freeSlug(
  sql: Sql,
  workspaceId: string,
  name: string,
  wanted?: string,
): Promise<string> {
  if (wanted !== undefined) {
    const [taken] = await sql`
      select from servers where workspace_id = ${workspaceId} and slug = ${wanted}`;
    if (!taken) return wanted;
  }
  const words = name.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").match(/[a-z0-9]+/g);
  const base = (words ?? ["server"]).join("-").slice(0, 32).replace(/-+$/, "");
  const taken = new Set(
    (await sql<{ slug: string }[]>`
      select slug from servers where workspace_id = ${workspaceId} and slug like ${base + "%"}`)
      .map((row) => row.slug),
  );
  let slug = base;
  for (let number = 2; taken.has(slug); number++) slug = `${base}-${number}`;
  return slug;
}

/** @param running whether the server is to run from then on */
export async function nextGeneration(
  sql: Sql,
  user: User,
  server: Server,
  config: ServerConfig,
  running = true,
) {
  if (server.removedAt) throw new Conflict("The server is being removed: deploy another one");
  await mustKeepInstances(sql, server.id, config);
  await mustKeepHost(sql, server, config);
  const generation = server.generation + 1;
  await writeGeneration(sql, user, server, generation, config);
  await sql`
    update servers set generation = ${generation}, running = ${running} where id = ${server.id}`;
}

/** What a person signed in for at one host is never sent to another one, nor by a way back. */
async function mustKeepHost(sql: Sql, server: Server, config: ServerConfig): Promise<void> {
  const before = server.config.entry.package;
  if (isSamePackage(before, config.entry.package)) return;
  const [own] = server.authorization ? [] : await sql`
    select from authorizations where server_id = ${server.id} limit 1`;
  if (!server.authorization && !own) return;
  throw new Invalid(
    `It is called with an account at ${
      titleOf(before)
    }, and would be at another host then: disconnect the ` +
      `account first, on ${own ? "the page of the agent that it is of" : "the server's page"}`,
  );
}

/** Agents with credentials of their own have instances of their own (connection_secrets.ts, authorizations.ts). */
async function mustKeepInstances(sql: Sql, serverId: string, config: ServerConfig): Promise<void> {
  if (instancesOf(config) === "agent") return;
  const agents = await sql<{ name: string }[]>`
    select a.name from agents a where a.id in (
      select agent_id from connection_secrets where server_id = ${serverId}
      union all select agent_id from authorizations where server_id = ${serverId})
    order by 1 limit 3`;
  if (agents.length === 0) return;
  const names = agents.map(({ name }) => `"${name}"`).join(", ");
  const mistake =
    `Agents have credentials of their own for it (${names}), which takes an instance for each agent: take ` +
    "those back first, on the connection's page";
  throw new Invalid(mistake, { "option.instances": mistake });
}

async function writeGeneration(
  sql: Sql,
  user: User,
  server: { id: string; workspaceId: string },
  generation: number,
  config: ServerConfig,
) {
  await sql`
    insert into server_generations (server_id, workspace_id, generation, config, created_by)
    values (${server.id}, ${server.workspaceId}, ${generation}, ${
    sql.json(config)
  }, ${user.userId})`;
}

/** How many generations back a secret's value is kept for. */
const SECRETS_KEPT_GENERATIONS = 20;

/** For models of servers. @returns the ids of the new secrets, by name */
export async function writeSecrets(
  sql: Sql,
  server: { id: string; workspaceId: string },
  secrets: Record<string, string>,
  key: SecretsKey,
): Promise<Record<string, string>> {
  const ids: Record<string, string> = {};
  for (const [name, value] of Object.entries(secrets)) {
    // A row of its own each time: the ciphertext is bound to its id, and older generations keep theirs.
    const id = ids[name] = v7();
    const { keyId, iv, ciphertext } = await sealSecret(key, id, value);
    await sql`
      insert into secrets (id, workspace_id, server_id, name, key_id, iv, ciphertext)
      values (${id}, ${server.workspaceId}, ${server.id}, ${name}, ${keyId}, ${iv}, ${ciphertext})`;
  }
  if (Object.keys(secrets).length > 0) {
    await sql`
      delete from secrets x where x.server_id = ${server.id} and x.id <> all (${
      Object.values(ids)
    }::uuid[])
        and x.id::text not in (
          select value from server_generations g, jsonb_each_text(g.config -> 'secrets')
          where g.server_id = ${server.id} and g.generation > (
            select generation from servers where id = ${server.id}) - ${SECRETS_KEPT_GENERATIONS})`;
  }
  return ids;
}

export function sayRequest(sql: Sql, user: User, server: Server, message: string) {
  const { id: serverId, workspaceId } = server;
  return recordEvent(sql, user, { workspaceId, serverId, layer: "request", message });
}

async function readServer(sql: Sql, serverId: string): Promise<Server> {
  const [server] = await readServers(sql, sql`s.id = ${serverId}`);
  if (!server) throw new NotFound("There is no such server");
  return server;
}

async function readServers(sql: Sql, which: ReturnType<Sql>): Promise<Server[]> {
  type Told = "host" | "layers" | "status" | "statusDetail" | "tier" | "isCrashLooping";
  const rows = await sql<(Omit<Server, Told> & {
    layers: Layers | null;
    gaveUp: boolean;
    generationAt: Date;
    facts: unknown;
    lastSeenAt: Date | null;
    knowsTiers: boolean;
    knowsTransports: boolean;
    knowsHeaders: boolean;
    silentS: number | null;
    toolboxRevokedAt: Date | null;
  })[]>`
    select s.id, s.workspace_id as "workspaceId", s.toolbox_id as "toolboxId", t.name as "toolboxName",
      s.name, s.slug, s.generation, s.running, s.removed_at as "removedAt", s.created_at as "createdAt",
      g.config, o.generation as "observedGeneration", o.layers, o.image_digest as "imageDigest",
      o.container_id as "containerId", coalesce(o.restarts, 0) as restarts,
      o.serving_generation as "servingGeneration", o.health, coalesce(o.instances, '[]') as instances,
      coalesce(o.volumes, '[]') as volumes, nullif(o.sandbox, 'null') as sandbox, o.unsandboxed,
      coalesce((t.facts ->> 'knowsTiers')::boolean, false) as "knowsTiers",
      coalesce((t.facts ->> 'knowsTransports')::boolean, false) as "knowsTransports",
      coalesce((t.facts ->> 'knowsHeaders')::boolean, false) as "knowsHeaders",
      (select json_build_object('state', a.state, 'trouble', a.trouble)
       from authorizations a where a.server_id = s.id and a.agent_id is null) as authorization,
      o.server_info as "serverInfo", coalesce(o.log_tail, '[]') as "logTail",
      o.observed_at as "observedAt",
      g.created_at as "generationAt", t.facts, t.last_seen_at as "lastSeenAt",
      extract(epoch from now() - t.last_seen_at)::float8 as "silentS",
      t.revoked_at as "toolboxRevokedAt",
      (select json_build_object(
        'total', count(*),
        'approved', count(*) filter (where x.hash = x.approved_hash),
        'changed', count(*) filter (where x.hash <> x.approved_hash),
        'waiting', count(*) filter (where x.approved_hash is null))
       from tools x where x.server_id = s.id and x.present) as tools,
      (select count(*)::int from definitions x where x.server_id = s.id and x.present
        and x.hash is distinct from x.approved_hash) as "definitionsWithheld",
      (select count(*)::int from egress_denials d where d.server_id = s.id) as denials,
      coalesce(o.gave_up, false) as "gaveUp"
    from servers s
    join server_generations g on g.server_id = s.id and g.generation = s.generation
    join toolboxes t on t.id = s.toolbox_id
    left join observations o on o.server_id = s.id
    where ${which} order by lower(s.name), s.id`;
  return rows.map((read) => {
    const { silentS, lastSeenAt, toolboxRevokedAt, generationAt, facts, gaveUp, ...known } = read;
    const { knowsTiers, knowsTransports, knowsHeaders, ...row } = known;
    const layers = presentLayers({ ...row, generationAt });
    const host = hostLayer({
      ...row,
      lastSeenAt,
      silentS,
      toolboxRevokedAt,
      facts: HostFacts.safeParse(facts).data ?? null,
    });
    const config = ServerConfig.parse(row.config);
    const tier = tierOf(config);
    const isOverHttp = transportOf(config).type !== "stdio";
    const refused = tier === "untrusted" && !knowsTiers
      ? "tier" as const
      : isOverHttp && !knowsTransports
      ? "transport" as const
      : null;
    const isHeaderless = row.authorization !== null && !knowsHeaders;
    return {
      ...row,
      config,
      tier,
      host,
      layers: shownLayers(layers, host),
      isCrashLooping: isCrashLooping({ ...row, gaveUp }, layers),
      ...statusOf({ ...row, refused, isHeaderless }, layers, silentS, toolboxRevokedAt !== null),
    };
  });
}
