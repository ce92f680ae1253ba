import { z } from "zod";
import { findCatalogEntry } from "../../models/catalog_entries.ts";
import {
  addSource,
  listBroken,
  listSources,
  listVersions,
  readRaw,
  removeSource,
  requestSync,
  scheduleSync,
  unwriteEntry,
  uploadSource,
  writeEntry,
} from "../../models/catalog_sources.ts";
import { syncDueSources } from "../../models/catalog_sync.ts";
import { Invalid, NotFound } from "../../models/errors.ts";
import { part } from "./cursor.ts";
import { type Asked, operation, paging, partOf } from "./operation.ts";

const Source = z.object({
  id: z.uuid(),
  slug: z.string().describe("By which the catalog is searched"),
  name: z.string(),
  kind: z.enum(["registry", "url", "upload", "written"]),
  url: z.string().nullable(),
  syncEveryMinutes: z.int().nullable().describe("Null: on demand"),
  nextSyncAt: z.iso.datetime().nullable(),
  isSyncing: z.boolean(),
  progress: z.object({ pages: z.int(), seen: z.int() }).nullable(),
  lastSync: z.object({
    state: z.enum(["ok", "failed"]),
    at: z.iso.datetime({ offset: true }),
    reason: z.string().optional(),
    added: z.int(),
    changed: z.int(),
    removed: z.int(),
    seen: z.int().nullable(),
    broken: z.int(),
  }).nullable(),
  entries: z.int(),
  deployable: z.int(),
  broken: z.int().describe("That could not be read"),
  servers: z.int().describe("That were deployed from its entries"),
}).meta({ id: "CatalogSource" });
export type SourceShape = z.infer<typeof Source>;

const source = { source: z.uuid().describe("A catalog source's id") };
const entry = { slug: z.string().min(1).max(63).describe("A catalog entry's slug") };
const every = z.int().min(15).max(43_200).nullable().describe("Null: on demand");
const WRITES = ["catalog:write"] as const;

export const catalogSourceOperations = [
  operation({
    name: "list_catalog_sources",
    method: "GET",
    path: "/catalog-sources",
    scopes: ["read"],
    summary: "List where the catalog comes from",
    input: z.strictObject(paging),
    output: partOf(Source),
    run: async ({ deps: { db }, bearer: { user, workspace } }, paged) =>
      part(await listSources(db, user, workspace.id), paged),
  }),
  operation({
    name: "get_catalog_source",
    method: "GET",
    path: "/catalog-sources/{source}",
    scopes: ["read"],
    summary: "Read a catalog source: how its last sync went, and how far one is",
    input: z.strictObject(source),
    output: Source,
    run: (asked, { source }) => read(asked, source),
  }),
  operation({
    name: "add_catalog_source",
    method: "POST",
    path: "/catalog-sources",
    scopes: WRITES,
    summary: "Add a registry, or a file or an archive by its address (owners and admins)",
    description: "Its first sync begins at once.",
    input: z.strictObject({
      name: z.string().max(80),
      kind: z.enum(["registry", "url"]),
      url: z.string().max(2000),
      syncEveryMinutes: every.default(null),
    }),
    output: Source,
    isCreating: true,
    run: async (asked, { syncEveryMinutes, ...given }) => {
      const { deps: { db }, bearer: { user, workspace } } = asked;
      const form = { ...given, syncEveryMinutes: String(syncEveryMinutes ?? "") };
      return await read(asked, await addSource(db, user, workspace.id, form));
    },
  }),
  operation({
    name: "upload_catalog_source",
    method: "POST",
    path: "/catalog-sources/upload",
    scopes: WRITES,
    summary: "Add a source of files: entries, lists of them, or archives (owners and admins)",
    input: z.strictObject({
      name: z.string().max(80),
      files: z.array(z.strictObject({
        name: z.string().max(300),
        content: z.base64().max(4_000_000).describe("The file's bytes as base64"),
      })).min(1).max(500),
    }),
    output: Source,
    isCreating: true,
    run: async (asked, { name, files }) => {
      const { deps, bearer: { user, workspace } } = asked;
      const uploads = files.map(({ name, content }) => ({
        name,
        bytes: Uint8Array.from(atob(content), (char) => char.charCodeAt(0)),
      }));
      const id = await uploadSource(deps.db, user, workspace.id, name, uploads);
      await syncDueSources(deps, { sourceId: id });
      return await read(asked, id);
    },
  }),
  operation({
    name: "write_catalog_entry",
    method: "PUT",
    path: "/catalog-sources/written",
    scopes: WRITES,
    summary: "Write an entry by hand; one of the same name is replaced (owners and admins)",
    input: z.strictObject({
      entry: z.record(z.string(), z.unknown()).describe("A server.json, as the registry has it"),
    }),
    output: Source,
    run: async (asked, { entry }) => {
      const { deps, bearer: { user, workspace } } = asked;
      const text = JSON.stringify(entry, null, 2);
      const { sourceId } = await writeEntry(deps.db, user, workspace.id, text);
      await syncDueSources(deps, { sourceId });
      return await read(asked, sourceId);
    },
  }),
  operation({
    name: "remove_catalog_entry",
    method: "DELETE",
    path: "/catalog/{slug}",
    scopes: WRITES,
    summary: "Take away an entry that was written by hand (owners and admins)",
    input: z.strictObject(entry),
    run: async ({ deps, bearer: { user, workspace } }, { slug }) => {
      const { id, sourceId } = await findCatalogEntry(deps.db, user, slug, workspace.id);
      await unwriteEntry(deps.db, user, id);
      if (sourceId) await syncDueSources(deps, { sourceId });
    },
  }),
  operation({
    name: "sync_catalog_source",
    method: "POST",
    path: "/catalog-sources/{source}/sync",
    scopes: WRITES,
    summary: "Have a source synced now (owners and admins)",
    description: "Answers at once: isSyncing and lastSync say how it goes.",
    input: z.strictObject(source),
    output: Source,
    run: async (asked, { source }) => {
      await requestSync(asked.deps.db, asked.bearer.user, source);
      return await read(asked, source);
    },
  }),
  operation({
    name: "change_catalog_source",
    method: "PATCH",
    path: "/catalog-sources/{source}",
    scopes: WRITES,
    summary: "Say how often a source is synced (owners and admins)",
    input: z.strictObject({ ...source, syncEveryMinutes: every }),
    output: Source,
    run: async (asked, { source, syncEveryMinutes }) => {
      const { deps: { db }, bearer: { user } } = asked;
      await scheduleSync(db, user, source, String(syncEveryMinutes ?? ""));
      return await read(asked, source);
    },
  }),
  operation({
    name: "remove_catalog_source",
    method: "DELETE",
    path: "/catalog-sources/{source}",
    scopes: WRITES,
    summary: "Remove a source with its entries; servers that came of them stay (owners and admins)",
    input: z.strictObject(source),
    run: ({ deps: { db }, bearer }, { source }) => removeSource(db, bearer.user, source),
  }),
  operation({
    name: "list_broken_entries",
    method: "GET",
    path: "/catalog-sources/{source}/broken",
    scopes: ["read"],
    summary: "List the 200 newest of a source that could not be read, each with the reason",
    input: z.strictObject(source),
    output: z.object({
      items: z.array(z.object({ place: z.string(), reason: z.string(), raw: z.string() })),
    }),
    run: async (asked, { source }) => {
      await read(asked, source);
      return { items: await listBroken(asked.deps.db, asked.bearer.user, source) };
    },
  }),
  operation({
    name: "list_entry_versions",
    method: "GET",
    path: "/catalog/{slug}/versions",
    scopes: ["read"],
    summary: "List the 50 newest versions that were seen of an entry; of a built-in one none",
    input: z.strictObject(entry),
    output: z.object({
      items: z.array(z.object({
        hash: z.string(),
        version: z.string(),
        obstacle: z.string().nullable(),
        publishedAt: z.iso.datetime().nullable(),
        firstSeenAt: z.iso.datetime(),
      })),
    }),
    run: async ({ deps: { db }, bearer: { user, workspace } }, { slug }) => {
      const { id, sourceId } = await findCatalogEntry(db, user, slug, workspace.id);
      return { items: sourceId === null ? [] : await listVersions(db, user, id) };
    },
  }),
  operation({
    name: "read_entry_source",
    method: "GET",
    path: "/catalog/{slug}/raw",
    scopes: ["read"],
    summary: "Read an entry's text as its source has it",
    input: z.strictObject({
      ...entry,
      version: z.string().max(100).optional().describe("A version's hash; else that of now"),
    }),
    output: z.object({ raw: z.string() }),
    run: async ({ deps: { db }, bearer: { user, workspace } }, { slug, version }) => {
      const { id, sourceId, entry } = await findCatalogEntry(db, user, slug, workspace.id);
      if (sourceId !== null) return { raw: await readRaw(db, user, id, version) };
      if (version === undefined) return { raw: JSON.stringify(entry, null, 1) };
      const message = "A built-in entry has no other versions";
      throw new Invalid(message, { version: message });
    },
  }),
];

async function read({ deps: { db }, bearer: { user, workspace } }: Asked, id: string) {
  const found = (await listSources(db, user, workspace.id)).find((source) => source.id === id);
  if (!found) throw new NotFound("There is no such catalog source");
  return found;
}
