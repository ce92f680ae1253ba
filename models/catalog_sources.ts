/** Where a workspace's catalog comes from: what people add, ask to be synced, write by hand and remove. */
import { v7 } from "uuid";
import { z } from "zod";
import { ArchiveError, isArchive, KEPT_LIMIT_BYTES, readArchive } from "./archive.ts";
import { type CatalogFile, importFiles, isCatalogFile } from "./catalog_files.ts";
import type { SyncOutcome } from "./catalog_sync.ts";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, Forbidden, Invalid, isDenied, NotFound } from "./errors.ts";
import { recordEvent, withoutNul } from "./events.ts";
import { slugOf } from "./imported.ts";
import { validName } from "./workspaces.ts";

export interface CatalogSource {
  id: string;
  slug: string;
  name: string;
  kind: "registry" | "url" | "upload" | "written";
  url: string | null;
  syncEveryMinutes: number | null;
  nextSyncAt: Date | null;
  /** Somebody works on it now, or it is about to begin. */
  isSyncing: boolean;
  /** Of the sync under way: how far it is. */
  progress: { pages: number; seen: number } | null;
  lastSync: (SyncOutcome & { at: string }) | null;
  entries: number;
  deployable: number;
  broken: number;
  /** Servers that were deployed from its entries: they stay when it goes. */
  servers: number;
}

export interface BrokenEntry {
  place: string;
  reason: string;
  raw: string;
}

/** How often a source can be synced, in minutes. */
export const SYNC_INTERVALS = [60, 360, 1440, 10_080] as const;

const SourceForm = z.object({
  name: z.string(),
  kind: z.enum(["registry", "url"], "must be a registry's API or a file's address"),
  url: z.string().trim().max(2000, "must be at most 2,000 characters long")
    .refine((url) => URL.canParse(url) && new URL(url).protocol === "https:", {
      message: "must be a whole https URL, such as https://registry.modelcontextprotocol.io",
      abort: true,
    })
    .transform((url) => new URL(url))
    .refine(({ username, password }) => !username && !password, {
      message: "must have no user or password in it: it is shown on pages",
    })
    .transform((url) => {
      url.hash = "";
      return url.href;
    }),
  syncEveryMinutes: z.preprocess(
    (value) => value === "" || value === undefined ? null : Number(value),
    z.union(
      [z.null(), z.number().int().min(15).max(43_200)],
      "must be on demand, or from 15 minutes to 30 days",
    ),
  ),
});

/**
 * Adds a source by its address; its first sync is wanted at once.
 *
 * @param form `name`, `kind`, `url`, `syncEveryMinutes`
 * @throws {Invalid} with a sentence for each field that does not hold
 * @throws {Forbidden} for members and viewers
 */
export async function addSource(
  db: Database,
  user: User,
  workspaceId: string,
  form: Record<string, string>,
): Promise<string> {
  const parsed = SourceForm.safeParse(form);
  if (!parsed.success) {
    const fields = Object.fromEntries(
      parsed.error.issues.map(({ path, message }) => [String(path[0]), `This ${message}`]),
    );
    throw new Invalid("The source could not be added: see below", fields);
  }
  const { name, kind, url, syncEveryMinutes } = parsed.data;
  return await asAdmin(db, user, async (sql) => {
    const [same] = await sql<{ name: string }[]>`
      select name from catalog_sources where workspace_id = ${workspaceId} and url = ${url}`;
    if (same) {
      const message = `${same.name} has this address already`;
      throw new Invalid(message, { url: message });
    }
    return await insertSource(sql, user, workspaceId, { name, kind, url, syncEveryMinutes });
  });
}

/** A file of a form: of one entry, a list of them, or an archive. */
export interface UploadedFile {
  name: string;
  bytes: Uint8Array;
}

/**
 * Adds a source of files that a person has: entries, lists of them, or archives of a folder.
 *
 * @throws {Invalid} nothing in them is an entry, or they cannot be read
 * @throws {Forbidden} {@link addSource}
 */
export async function uploadSource(
  db: Database,
  user: User,
  workspaceId: string,
  name: string,
  uploads: UploadedFile[],
): Promise<string> {
  const wrong = (message: string) => new Invalid(message, { files: message });
  const files = uploads.filter(({ bytes }) => bytes.length > 0);
  if (files.length === 0) {
    throw wrong("Choose a file: a server.json, a list of them, or an archive");
  }
  const documents: CatalogFile[] = [], taken = new Set<string>();
  let length = 0;
  for (const [index, file] of files.entries()) {
    try {
      const read = isArchive(file.bytes)
        ? await readArchive(file.bytes, isCatalogFile)
        : [{ path: pathOf(file.name), text: new TextDecoder().decode(file.bytes) }];
      // What two files hold under one name, as archives of two folders do, is two documents.
      const folder = read.some(({ path }) => taken.has(path)) ? `${index + 1}/` : "";
      for (const { path, text } of read) {
        taken.add(folder + path);
        documents.push({ path: folder + path, text });
      }
      length += read.reduce((sum, { text }) => sum + text.length, 0);
    } catch (error) {
      if (error instanceof ArchiveError) throw wrong(`${file.name.slice(0, 80)}: ${error.message}`);
      throw error;
    }
    // Hundreds of small archives fit into one form, and each may unpack to as much.
    if (length > KEPT_LIMIT_BYTES) {
      throw wrong("The files hold more than 32 MiB together: upload fewer of them at once");
    }
  }
  const found = importFiles(documents, false);
  if (found.entries.length + found.broken.length === 0) {
    throw wrong("There is no entry in it: no server.json, no registry.json and no server.yaml");
  }
  return await asAdmin(db, user, async (sql) => {
    const id = await insertSource(sql, user, workspaceId, { name, kind: "upload" });
    for (const { path, text } of documents) {
      await putDocument(sql, { id, workspaceId }, path, text);
    }
    return id;
  });
}

/**
 * Writes an entry by hand, as a `server.json`; one of the same name is replaced.
 *
 * @returns its source, the one of what is written in this workspace, and its slug
 * @throws {Invalid} it is no server.json
 * @throws {Forbidden} {@link addSource}
 */
export async function writeEntry(
  db: Database,
  user: User,
  workspaceId: string,
  text: string,
): Promise<{ sourceId: string; name: string }> {
  const wrong = (message: string) => new Invalid(message, { entry: message });
  if (text.trim() === "") throw wrong("Write or paste a server.json");
  const { entries, broken } = importFiles([{ path: "server.json", text }], true);
  if (broken.length > 0) throw wrong(broken[0].reason);
  if (entries.length !== 1) throw wrong("Write one entry here; a list is uploaded as a file");
  const { name } = entries[0];
  return await asAdmin(db, user, async (sql) => {
    await sql`select pg_advisory_xact_lock(hashtextextended(${workspaceId}, 1))`;
    const [written] = await sql<{ id: string }[]>`
      select id from catalog_sources where workspace_id = ${workspaceId} and kind = 'written'`;
    const id = written?.id ??
      await insertSource(sql, user, workspaceId, { name: "Written here", kind: "written" });
    await putDocument(sql, { id, workspaceId }, `${name}.json`, text);
    await sql`update catalog_sources set next_sync_at = now() where id = ${id}`;
    return { sourceId: id, name };
  });
}

/** Takes away an entry that was written by hand. @throws {NotFound} it was not */
export async function unwriteEntry(db: Database, user: User, entryId: string): Promise<void> {
  await asAdmin(db, user, async (sql) => {
    const [gone] = await sql<{ sourceId: string }[]>`
      delete from catalog_documents d using catalog_entries e, catalog_sources s
      where e.id = ${entryId} and s.id = e.source_id and s.kind = 'written'
        and d.source_id = s.id and d.path = e.name || '.json'
      returning d.source_id as "sourceId"`;
    if (!gone) throw new NotFound("There is no such entry that was written here");
    await sql`update catalog_sources set next_sync_at = now() where id = ${gone.sourceId}`;
  });
}

/** Asks for a sync now. @throws {NotFound | Forbidden} */
export async function requestSync(db: Database, user: User, sourceId: string): Promise<void> {
  await asAdmin(db, user, async (sql) => {
    const { count } = await sql`
      update catalog_sources set next_sync_at = now() where id = ${sourceId}`;
    if (count === 0) await refuse(sql, sourceId);
  });
}

/** Changes how often a source is synced; null: on demand. @throws {Invalid | NotFound | Forbidden} */
export async function scheduleSync(
  db: Database,
  user: User,
  sourceId: string,
  everyMinutes: string,
): Promise<void> {
  const minutes = everyMinutes === "" ? null : Number(everyMinutes);
  if (minutes !== null && !(Number.isInteger(minutes) && minutes >= 15 && minutes <= 43_200)) {
    throw new Invalid("A source is synced on demand, or every 15 minutes to 30 days");
  }
  await asAdmin(db, user, async (sql) => {
    const { count } = await sql`
      update catalog_sources set sync_every_minutes = ${minutes}, next_sync_at = ${
      minutes === null
        ? sql`null`
        : sql`least(next_sync_at, now() + make_interval(mins => ${minutes}))`
    } where id = ${sourceId} and kind in ('registry', 'url')`;
    if (count === 0) await refuse(sql, sourceId);
  });
}

/** Removes a source with its entries and their history. Servers that were deployed from them run on. */
export async function removeSource(db: Database, user: User, sourceId: string): Promise<void> {
  await asAdmin(db, user, async (sql) => {
    const [gone] = await sql<{ name: string; workspaceId: string }[]>`
      delete from catalog_sources where id = ${sourceId} returning name, workspace_id as "workspaceId"`;
    if (!gone) return await refuse(sql, sourceId);
    await recordEvent(sql, user, {
      workspaceId: gone.workspaceId,
      layer: "request",
      message: `Removed the catalog source ${gone.name}`,
    });
  });
}

/** The sources of a workspace, by name. */
export async function listSources(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<CatalogSource[]> {
  return await db.asUser(user, async (sql) =>
    await sql<CatalogSource[]>`
      select s.id, s.slug, s.name, s.kind, s.url, s.sync_every_minutes as "syncEveryMinutes",
        s.next_sync_at as "nextSyncAt", s.last_sync as "lastSync",
        (coalesce(s.leased_until > now(), false) or coalesce(s.next_sync_at <= now(), false)) as "isSyncing",
        case when s.state ? 'run' then jsonb_build_object(
          'pages', coalesce((s.state #>> '{run,pages}')::int, 0),
          'seen', coalesce((s.state #>> '{run,seen}')::int, 0)) end as progress,
        coalesce(e.entries, 0)::int as entries, coalesce(e.deployable, 0)::int as deployable,
        (select count(*)::int from catalog_broken_entries b where b.source_id = s.id) as broken,
        coalesce(e.servers, 0)::int as servers
      from catalog_sources s
      left join lateral (
        select count(*) as entries, count(*) filter (where c.deployable) as deployable,
          sum((select count(*) from servers v where v.catalog_entry_id = c.id)) as servers
        from catalog_entries c where c.source_id = s.id) e on true
      where s.workspace_id = ${workspaceId} order by lower(s.name), s.id`);
}

/** What the sources of a workspace are called, by slug, the built-in one too. */
export async function listSourceNames(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<Record<string, string>> {
  const rows = await db.asUser(user, async (sql) =>
    await sql<{ slug: string; name: string }[]>`
      select slug, name from catalog_sources where workspace_id = ${workspaceId}`);
  return Object.fromEntries([
    ["builtin", "Built in"],
    ...rows.map(({ slug, name }) => [slug, name]),
  ]);
}

/** What of a source could not be read, newest first. */
export async function listBroken(
  db: Database,
  user: User,
  sourceId: string,
): Promise<BrokenEntry[]> {
  return await db.asUser(user, async (sql) =>
    await sql<BrokenEntry[]>`
      select place, reason, raw from catalog_broken_entries where source_id = ${sourceId}
      order by seen_at desc, place limit 200`);
}

export interface EntryVersion {
  hash: string;
  version: string;
  obstacle: string | null;
  publishedAt: Date | null;
  firstSeenAt: Date;
}

/** The versions of an entry that were seen, newest first; of a built-in one none. */
export async function listVersions(
  db: Database,
  user: User,
  entryId: string,
): Promise<EntryVersion[]> {
  return await db.asUser(user, async (sql) =>
    await sql<EntryVersion[]>`
      select hash, version, obstacle, published_at as "publishedAt", first_seen_at as "firstSeenAt"
      from catalog_entry_versions where entry_id = ${entryId}
      order by coalesce(published_at, first_seen_at) desc, hash limit 50`);
}

/** An entry's text as its source has it: the version of now, or another by its hash. @throws {NotFound} */
export async function readRaw(
  db: Database,
  user: User,
  entryId: string,
  hash?: string,
): Promise<string> {
  const [row] = await db.asUser(user, async (sql) =>
    await sql<{ raw: string }[]>`
      select v.raw from catalog_entry_versions v join catalog_entries e on e.id = v.entry_id
      where e.id = ${entryId} and v.hash = ${hash ? withoutNul(hash) : sql`e.hash`}`);
  if (!row) throw new NotFound("There is no such version of this entry");
  return row.raw;
}

async function insertSource(
  sql: Sql,
  user: User,
  workspaceId: string,
  source: {
    name: string;
    kind: CatalogSource["kind"];
    url?: string;
    syncEveryMinutes?: number | null;
  },
): Promise<string> {
  const id = v7(), name = validName(source.name);
  await sql`select pg_advisory_xact_lock(hashtextextended(${workspaceId}, 2))`;
  const taken = await sql<{ slug: string; name: string }[]>`
    select slug, name from catalog_sources where workspace_id = ${workspaceId}`;
  if (taken.some((other) => other.name.toLowerCase() === name.toLowerCase())) {
    const message = "Another source has this name";
    throw new Invalid(message, { name: message });
  }
  if (taken.length >= SOURCES_LIMIT) {
    throw new Conflict(`A workspace has at most ${SOURCES_LIMIT} sources: remove one`);
  }
  // Whole words of its name, as many as leave room for a number.
  const base = slugOf(name).split("-").reduce((whole, word) =>
    whole.length + word.length < 17 ? `${whole}-${word}` : whole
  ).slice(0, 17);
  let slug = base;
  for (let n = 2; slug === "builtin" || taken.some((other) => other.slug === slug); n++) {
    slug = `${base}-${n}`;
  }
  await sql`
    insert into catalog_sources (id, workspace_id, slug, name, kind, url, sync_every_minutes, next_sync_at, created_by)
    values (${id}, ${workspaceId}, ${slug}, ${name}, ${source.kind}, ${source.url ?? null},
      ${source.syncEveryMinutes ?? null}, now(), ${user.userId})`;
  await recordEvent(sql, user, {
    workspaceId,
    layer: "request",
    message: `Added the catalog source ${name}`,
  });
  return id;
}

const SOURCES_LIMIT = 50;

async function putDocument(
  sql: Sql,
  { id, workspaceId }: { id: string; workspaceId: string },
  path: string,
  text: string,
): Promise<void> {
  if (text.length > 4_000_000) {
    const message = `${path.slice(0, 100)} is longer than 4 MB: take its archive apart`;
    throw new Invalid(message, { files: message });
  }
  await sql`
    insert into catalog_documents (source_id, workspace_id, path, body)
    values (${id}, ${workspaceId}, ${withoutNul(path).slice(0, 300)}, ${withoutNul(text)})
    on conflict (source_id, path) do update set body = excluded.body, updated_at = now()`;
}

/** A file's name as a path that says its format; one without an extension is taken for JSON. */
function pathOf(name: string): string {
  const last = withoutNul(name.split(/[/\\]/).at(-1) ?? "").slice(-200) || "server.json";
  return /\.(json|ya?ml)$/i.test(last) ? last : `${last}.json`;
}

async function refuse(sql: Sql, sourceId: string): Promise<never> {
  const [seen] = await sql`select from catalog_sources where id = ${sourceId}`;
  if (seen) throw new Forbidden(ADMINS_ONLY);
  throw new NotFound("There is no such catalog source");
}

/** Said to members and viewers. */
const ADMINS_ONLY =
  "Only owners and admins of the workspace can change where its catalog comes from: ask one of them";

async function asAdmin<T>(db: Database, user: User, work: (sql: Sql) => Promise<T>): Promise<T> {
  try {
    return await db.asUser(user, work);
  } catch (error) {
    if (isDenied(error)) throw new Forbidden(ADMINS_ONLY);
    throw error;
  }
}
