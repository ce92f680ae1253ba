/**
 * Newer versions of what servers were deployed from: which server has one, what it would change, and
 * taking it, which is a next generation like any other and is gone back from like any other.
 */
import canonicalize from "canonicalize";
import { askedInputs, type CatalogEntry, readEntryRow } from "./catalog_entries.ts";
import type { Database, Sql, User } from "./db.ts";
import { counterparts, isSamePackage, titleOf } from "./entry_changes.ts";
import { Conflict, Invalid, NotFound } from "./errors.ts";
import { exactEntry, originOf } from "./exact_entry.ts";
import type { DigestOf } from "./image_digests.ts";
import { carry, idOf, type Offer, offerOf, standingOf, versionOf, wouldRun } from "./offers.ts";
import type { SecretsKey } from "./secrets.ts";
import { missingConsent, readForm, readOptions, secretName } from "./server_form.ts";
import {
  changing,
  CONSENTED,
  mustBeRunnable,
  nextGeneration,
  sayRequest,
  type Server,
  ServerConfig,
  writeSecrets,
} from "./servers.ts";

export interface UpdateStatus {
  /**
   * `uncatalogued`: what it was deployed from is in no catalog any more, or never was. `older`: its catalog
   * has an older version now, which is never offered. `listed_only`: a newer one that is not deployable here.
   */
  state: "uncatalogued" | "current" | "available" | "skipped" | "older" | "listed_only";
  /** The entry's slug. */
  slug: string | null;
  installed: string;
  /** What its catalog has. */
  listed: string | null;
  /** Of `listed_only`. */
  obstacle: string | null;
  /** Of `available` and `skipped`. */
  offer: Offer | null;
  /** The last change did not get ready, so the settings before are back. */
  failed: FailedUpdate | null;
}

export interface FailedUpdate {
  generation: number;
  /** The version it was to have. */
  version: string;
  at: Date;
  reason: string | null;
  log: string[];
}

interface Row {
  id: string;
  skipped: string | null;
  config: unknown;
  generationAt: Date;
  tools: string[];
  entryRow: Parameters<typeof readEntryRow>[0] | null;
  failed: (Omit<FailedUpdate, "version"> & { config: unknown }) | null;
}

/** Where a server stands with its catalog entry. @throws {NotFound} */
export async function getUpdate(
  db: Database,
  user: User,
  serverId: string,
): Promise<UpdateStatus> {
  return await db.asUser(user, async (sql) => (await readUpdate(sql, serverId)).status);
}

/** The servers of a workspace that have a newer version to take, with it. */
export async function listUpdates(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<Map<string, Offer>> {
  const rows = await db.asUser(user, (sql) =>
    readRows(
      sql,
      // What is as it was needs not be read whole.
      sql`s.workspace_id = ${workspaceId} and s.removed_at is null
        and e.entry is distinct from g.config -> 'entry'`,
    ));
  return new Map(rows.flatMap((row) => {
    const { state, offer } = statusOf(row);
    return state === "available" && offer ? [[row.id, offer]] : [];
  }));
}

/** A server that was deployed from an entry, as the entry's page names it. */
export interface DeployedServer {
  id: string;
  name: string;
  update: UpdateStatus;
}

/** The servers of a workspace that were deployed from an entry, by name. */
export async function listDeployed(
  db: Database,
  user: User,
  workspaceId: string,
  entryId: string,
): Promise<DeployedServer[]> {
  const rows = await db.asUser(user, (sql) =>
    readRows(
      sql,
      sql`s.workspace_id = ${workspaceId} and s.catalog_entry_id = ${entryId} and s.removed_at is null`,
    ));
  return rows.map((row) => ({ id: row.id, name: row.name, update: statusOf(row) }));
}

/**
 * Gives a server the newer version of its entry, as its next generation; a stopped one stays so. What was
 * given goes along, secrets too, and tools whose definitions differ wait for approval.
 *
 * @param request.update the offer that a person saw ({@link Offer})
 * @param request.form what the offer asks, by field; what it does not have goes on as it is
 * @param digestOf without it an image that its catalog names by a tag is not taken
 * @throws {Invalid} with a sentence for each field that does not hold
 * @throws {Conflict} it is not what is offered now
 */
export async function updateServer(
  db: Database,
  user: User,
  serverId: string,
  request: { update: string; form: Record<string, string> },
  secretsKey: SecretsKey,
  digestOf?: DigestOf,
): Promise<void> {
  // Before the transaction: it asks a registry.
  const { row: seen } = await db.asUser(user, (sql) => readUpdate(sql, serverId));
  const image = seen.entryRow && readEntryRow(seen.entryRow).entry.package;
  const digest = image?.registry === "image" && digestOf ? await digestOf(image) : null;
  await changing(db, user, serverId, async (sql, server) => {
    const { row, status } = await readUpdate(sql, serverId);
    const { offer } = status;
    if (!offer || offer.id !== request.update) {
      // A second click on the same button.
      if (!offer && status.state === "current" && wasTaken(server, request.update)) return;
      throw new Conflict(
        offer
          ? "The entry has changed since you looked: read what is offered now"
          : "There is nothing newer to take: the server has what its catalog has",
      );
    }
    const listed = readEntryRow(row.entryRow!);
    const carried = carry(server.config, wouldRun(listed, server.config));
    const form = { ...carried.form, ...request.form };
    const entry = exactEntry(listed, form, digest);
    await mustKeepTheirOwn(sql, server, entry);
    const consent = offer.asksConsent === null ? {} : missingConsent(entry, form);
    const { values, secrets } = readForm(entry, form, Object.keys(carried.secrets), consent);
    const options = readOptions({}, { entry, options: server.config.options });
    await mustBeRunnable(sql, server, { entry, options });
    const written = await writeSecrets(sql, server, secrets, secretsKey);
    const config: ServerConfig = {
      entry,
      values,
      secrets: { ...carried.secrets, ...written },
      options,
      origin: originOf(listed, form),
    };
    await nextGeneration(sql, user, server, config, server.running);
    await sql`update servers set skipped_update = null where id = ${server.id}`;
    await sayRequest(
      sql,
      user,
      server,
      `Updated ${spoken(offer)}: ${titleOf(entry.package)}${
        CONSENTED[offer.asksConsent ?? "none"]
      }`,
    );
  });
}

/** Offers a version no more; null: offers again what was skipped. @throws {Conflict} it is not what is offered */
export async function skipUpdate(
  db: Database,
  user: User,
  serverId: string,
  update: string | null,
): Promise<void> {
  await changing(db, user, serverId, async (sql, server) => {
    const { offer } = (await readUpdate(sql, serverId)).status;
    if (update !== null && offer?.id !== update) {
      throw new Conflict("That is not what is offered now: read what is");
    }
    await sql`update servers set skipped_update = ${update} where id = ${server.id}`;
    if (update !== null) {
      await sayRequest(sql, user, server, `Skipped the update ${spoken(offer!)}`);
    }
  });
}

/** An update in a few words, such as `from 1.2.0 to 1.3.0`. */
function spoken({ from, to, kind }: Offer): string {
  return kind === "revised"
    ? `to what is now said of ${to || "it"}`
    : `from ${from || "an earlier version"} to ${to || "another"}`;
}

function wasTaken({ config }: Server, update: string): boolean {
  const { origin } = config;
  return origin !== null &&
    [origin.version, idOf(origin.version, new Date(origin.updatedAt))].includes(update);
}

async function readUpdate(sql: Sql, serverId: string) {
  const [row] = await readRows(sql, sql`s.id = ${serverId}`);
  if (!row) throw new NotFound("There is no such server");
  return { row, status: statusOf(row) };
}

async function readRows(sql: Sql, which: ReturnType<Sql>): Promise<(Row & { name: string })[]> {
  return await sql<(Row & { name: string })[]>`
    select s.id, s.name, s.skipped_update as skipped, g.config, g.created_at as "generationAt",
      array(select x.name from tools x where x.server_id = s.id and x.present order by x.name) as tools,
      case when e.id is not null then json_build_object('id', e.id, 'source', e.source, 'sourceId', e.source_id,
        'entry', e.entry, 'version', coalesce(e.version, e.entry #>> '{package,version}', ''),
        'obstacle', e.obstacle, 'tools', e.tools, 'publishedAt', e.published_at, 'updatedAt', e.updated_at)
        end as "entryRow",
      (select json_build_object('generation', f.generation, 'at', f.created_at, 'config', f.config,
          'reason', f.failure, 'log', coalesce(f.failure_log, '[]'))
        from server_generations f
        where g.rolled_back_to is not null and f.server_id = s.id and f.generation = s.generation - 1) as failed
    from servers s
    join server_generations g on g.server_id = s.id and g.generation = s.generation
    left join catalog_entries e on e.id = s.catalog_entry_id
    where ${which} order by lower(s.name), s.id`;
}

function statusOf(row: Row): UpdateStatus {
  const config = ServerConfig.parse(row.config);
  const installed = config.origin?.version || versionOf(config.entry);
  const failed = row.failed && failedUpdate(row.failed, config);
  const common = { installed, failed, obstacle: null, offer: null };
  if (!row.entryRow) return { ...common, state: "uncatalogued", slug: null, listed: null };
  const listed = readEntryRow(row.entryRow);
  const standing = standingOf(config, listed, row.generationAt);
  const known = { ...common, slug: listed.entry.slug, listed: listed.version };
  if (standing === "current" || standing === "older") return { ...known, state: standing };
  if (listed.obstacle !== null) {
    return { ...known, state: "listed_only", obstacle: listed.obstacle };
  }
  const offer = offerOf(config, listed, standing, installed, row.tools);
  return { ...known, state: row.skipped === offer.id ? "skipped" : "available", offer };
}

/** Only where the generation that failed was of another entry: else it was no update. */
function failedUpdate(
  { config, at, ...failed }: NonNullable<Row["failed"]>,
  now: ServerConfig,
): FailedUpdate | null {
  const { entry, origin } = ServerConfig.parse(config);
  if (canonicalize(entry) === canonicalize(now.entry)) return null;
  return { ...failed, at: new Date(at), version: origin?.version || versionOf(entry) };
}

/**
 * Agents' own values are kept by what their server calls the secret: under another version of the entry
 * that name must not be another secret's.
 */
async function mustKeepTheirOwn(sql: Sql, server: Server, after: CatalogEntry): Promise<void> {
  const rows = await sql<{ agent: string; name: string }[]>`
    select a.name as agent, x.name from connection_secrets x join agents a on a.id = x.agent_id
    where x.server_id = ${server.id} order by 1, 2`;
  if (rows.length === 0) return;
  const before = server.config.entry;
  const isSame = isSamePackage(before.package, after.package);
  const known = counterparts(before, after);
  const stay = new Set(
    askedInputs(after).flatMap((asked) => {
      const earlier = known.get(asked.field);
      const name = earlier && secretName(earlier);
      return isSame && asked.input.isSecret && name === secretName(asked) ? [name] : [];
    }),
  );
  const gone = rows.find(({ name }) => !stay.has(name));
  if (gone) {
    throw new Invalid(
      `The agent "${gone.agent}" has a value of its own for ${gone.name}, which the new version asks for ` +
        "otherwise or not at all: take it back first, on the connection's page",
    );
  }
}
