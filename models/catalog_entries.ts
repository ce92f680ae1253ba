import canonicalize from "canonicalize";
import { z } from "zod";
import {
  HostPort,
  OciPackage,
  Package,
  STDIO,
  Tier,
  Transport,
  VolumeSpec,
} from "../dtma/protocol.ts";
import type { Database, Sql, User } from "./db.ts";
import { NotFound } from "./errors.ts";
import { withoutNul } from "./events.ts";
import { mostAlike } from "./mistyped.ts";
import { tokenHash } from "./tokens.ts";

/** What one value may be; the words follow the official registry's server.json. */
export const Variable = z.object({
  name: z.string().min(1).max(128),
  label: z.string().max(120).optional(),
  description: z.string().max(1000).optional(),
  isRequired: z.boolean().default(false),
  isSecret: z.boolean().default(false),
  format: z.enum(["string", "number", "boolean", "filepath"]).default("string"),
  default: z.string().max(4096).optional(),
  placeholder: z.string().max(200).optional(),
  choices: z.array(z.string().max(200)).max(100).optional(),
  /** Fixed: used as it is and not asked. */
  value: z.string().max(4096).optional(),
});
export type Variable = z.infer<typeof Variable>;

/** Variables by the name that stands in braces where they are put in. */
const Variables = z.record(z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/), Variable);

/** A value a person may give when deploying. */
export const Input = Variable.extend({
  /** What is asked in place of the value itself: `Bearer {token}` asks for `token`. */
  variables: Variables.optional(),
});
export type Input = z.infer<typeof Input>;

/** A command-line argument: a named one is two items (`--name value`), a boolean one its bare name. */
export const Argument = Input.extend({
  type: z.enum(["positional", "named"]),
  /** One value a line in the form; each becomes an argument of its own. */
  isRepeated: z.boolean().default(false),
});
export type Argument = z.infer<typeof Argument>;

export const CatalogEntry = z.object({
  slug: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/),
  title: z.string().min(1).max(80),
  summary: z.string().min(1).max(200),
  description: z.string().max(4000),
  category: z.string().max(40),
  homepage: z.url({ protocol: /^https?$/ }),
  license: z.string().max(80),
  /** Exact; the toolbox makes the image from it. */
  package: Package,
  arguments: z.array(Argument).max(32),
  // Such names only, as ServerSpec has them: a toolbox refuses all of its servers over one bad spec.
  environment: z.array(
    Input.extend({
      name: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/),
      /** Its value goes into a file in memory, and the variable names the file. */
      isFile: z.boolean().default(false),
    }),
  ).max(64),
  network: z.object({ hosts: z.array(HostPort).max(64) }),
  /** Directories that the server keeps its data in. */
  volumes: z.array(VolumeSpec).max(4).default([]),
  memoryMiB: z.int().min(64).max(65_536).default(512),
  /** One for all, or one for each agent or session: for a server that keeps what it is told in memory. */
  instances: z.enum(["shared", "agent", "session"]).default("shared"),
  /** `untrusted`: not to run without a kernel of its own. */
  tier: Tier.default("standard"),
  /** How it speaks in its container, started with the entry's arguments and environment. */
  transport: Transport.default(STDIO),
  /** Of a remote server's URL, in which they stand in braces. */
  urlVariables: Variables.optional(),
});
export type CatalogEntry = z.infer<typeof CatalogEntry>;

/** An image by a tag, which its owner can move: the digest is looked up at the deploy, and kept. */
export const TaggedImage = z.object({
  registry: z.literal("image"),
  image: OciPackage.shape.image,
  tag: z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/),
});
export type TaggedImage = z.infer<typeof TaggedImage>;

/** What Mooring makes no container of; the entry's row says why. */
export const OtherPackage = z.object({
  registry: z.literal("other"),
  /** As its source calls it, such as `mcpb`. */
  type: z.string().min(1).max(40),
  name: z.string().max(500),
});

/** An entry as the marketplace lists it: what it deploys may be to be pinned still, or not for here. */
export const ListedEntry = CatalogEntry.extend({
  homepage: CatalogEntry.shape.homepage.optional(),
  package: z.discriminatedUnion("registry", [Package, TaggedImage, OtherPackage]),
});
export type ListedEntry = z.infer<typeof ListedEntry>;

/** Whether what runs here is an adapter of Mooring's own, before what runs elsewhere. */
export function runsElsewhere(
  { registry }: { registry: ListedEntry["package"]["registry"] },
): boolean {
  return registry === "remote" || registry === "openapi";
}

/** A tool as a catalog names it; what the server itself lists may differ. */
export interface NamedTool {
  name: string;
  description?: string;
}

export interface CatalogRow {
  id: string;
  /** The slug of its source, or `builtin`. */
  source: string;
  /** Null: built in. */
  sourceId: string | null;
  sourceName: string;
  entry: ListedEntry;
  version: string;
  /** Why it cannot be deployed here, as a sentence without its stop; null: it can. */
  obstacle: string | null;
  /** What a person should know before deploying it. */
  notes: string[];
  tools: NamedTool[];
  publishedAt: Date | null;
  updatedAt: Date;
  /**
   * It can be deployed, and either what runs is named exactly by a catalog that checked whose package it
   * is (the built-in one, the official registry), or that very package got ready in this workspace.
   */
  isVerified: boolean;
}

/** An input that the deploy form asks, with the name of its form field. */
export interface AskedInput {
  field: string;
  kind: "argument" | "environment" | "url";
  /** What its value is kept under where it is a secret. */
  secret: string;
  input: Input & Partial<Argument>;
}

/** What of an entry its deploy form is made of. */
export type EntryInputs = Pick<ListedEntry, "arguments" | "environment" | "urlVariables">;

/** What the deploy form asks for an entry, in order: required ones first within each kind. */
export function askedInputs(entry: EntryInputs): AskedInput[] {
  const ofUrl = Object.entries(entry.urlVariables ?? {}).map(([name, input]) => (
    { field: `url.${name}`, kind: "url" as const, secret: `url.${name}`, input }
  ));
  const args = entry.arguments.flatMap((input, index) =>
    askedOf({ field: `arg.${index}`, kind: "argument", secret: `arg.${index}`, input })
  );
  const environment = entry.environment.flatMap((input) =>
    askedOf({ field: `env.${input.name}`, kind: "environment", secret: input.name, input })
  );
  return [...ofUrl, ...args, ...environment]
    .filter(({ input }) => input.value === undefined)
    .toSorted((a, b) => Number(b.input.isRequired) - Number(a.input.isRequired));
}

/** What of it is secret. */
export function secretsOf(entry: EntryInputs): AskedInput[] {
  return askedInputs(entry).filter(({ input }) => input.isSecret);
}

/** Of a template its variables, else the input itself. */
function askedOf(asked: AskedInput): AskedInput[] {
  const { variables } = asked.input;
  if (!variables) return [asked];
  return Object.entries(variables).map(([name, input]) => {
    const field = `${asked.field}.${name}`;
    return { field, kind: asked.kind, secret: field, input };
  });
}

/** Another one when an entry says something else: of its text in canonical form (RFC 8785), SHA-256. */
export async function hashOfEntry(entry: ListedEntry): Promise<string> {
  return await tokenHash(canonicalize(entry)!);
}

/** What of an entry's own code its build runs, for which a person is asked. */
export type BuildCode = "install-scripts" | "dockerfile";

/** What runs while an entry's image is built, before any container's limits hold; null: nothing of its own. */
export function buildCodeOf({ package: wanted }: Pick<ListedEntry, "package">): BuildCode | null {
  switch (wanted.registry) {
    case "npm":
    case "pypi":
      return wanted.installScripts ? "install-scripts" : null;
    case "source":
      return "dockerfile";
    case "nuget":
    case "oci":
    case "image":
    case "remote":
    case "openapi":
    case "other":
      // A .NET tool is unpacked, an image is pulled, a remote server and an API run elsewhere: nothing of
      // theirs runs.
      return null;
  }
}

/** What the marketplace is searched by; empty: whatever it is. */
export interface CatalogFilters {
  query: string;
  category: string;
  /** `npm`, `pypi`, `nuget`, `oci`, `source`, `remote` or `other`. */
  runtime: string;
  /** A source's slug, or `builtin`. */
  source: string;
  secrets: "" | "yes" | "no";
  network: "" | "yes" | "no";
  deployable: "" | "yes" | "no";
  /** {@link CatalogRow.isVerified} */
  verified: "" | "yes" | "no";
}

export const CATALOG_SORTS = ["best", "title", "updated"] as const;
export type CatalogSort = typeof CATALOG_SORTS[number];

/** A value that the results have, and how many of them, whatever else of its own kind is chosen. */
export interface Facet {
  value: string;
  count: number;
}

export interface CatalogResults {
  rows: CatalogRow[];
  total: number;
  categories: { name: string; count: number }[];
  facets: Record<Exclude<keyof CatalogFilters, "query">, Facet[]>;
  /** What was searched in place of words that no entry has. */
  meant: string | null;
}

/**
 * Searches the marketplace: every word of the query, the last one as a prefix, so that it serves
 * search as you type; best match first, by title without a query. Where no entry has them, what was likely
 * meant is searched instead.
 *
 * @param options.workspaceId whose entries, beside the built-in ones; without it those of all the person's
 */
export async function searchCatalog(
  db: Database,
  user: User,
  { limit = 60, offset = 0, sort = "best", workspaceId, ...given }: Partial<CatalogFilters> & {
    workspaceId?: string;
    sort?: CatalogSort;
    limit?: number;
    offset?: number;
  },
): Promise<CatalogResults> {
  const filters = { ...NO_FILTERS, ...given };
  const words = wordsOf(filters.query);
  return await db.asUser(user, async (sql) => {
    const find = async (words: string[]) => {
      const [{ found }] = await sql<{ found: { groups: Counted[]; ids: string[] } }[]>`
        select mooring.search_catalog(${workspaceId ?? null}, ${words},
          ${withoutNul(filters.category)}, ${withoutNul(filters.runtime)}, ${
        withoutNul(filters.source)
      }, ${truth(filters.secrets)}, ${truth(filters.network)}, ${truth(filters.deployable)},
          ${truth(filters.verified)}, ${sort}, ${limit}, ${offset}) as found`;
      return { ids: found.ids, groups: found.groups.map(groupOf) };
    };
    let { groups, ids } = await find(words);
    let meant: string[] | null = null;
    if (words.length > 0 && groups.length === 0) {
      meant = await meantWords(sql, workspaceId, words);
      if (meant) ({ groups, ids } = await find(meant));
    }
    const rows = ids.length === 0
      ? []
      : await sql<(Omit<CatalogRow, "entry"> & { entry: unknown })[]>`
      select ${columns(sql, workspaceId)} from catalog_entries where id = any (${ids}::uuid[])`;
    const byId = new Map(rows.map((row) => [row.id, row]));
    const facets = facetsOf(groups, filters);
    return {
      rows: ids.map((id) => byId.get(id)).filter((row) => row !== undefined).map(readRow),
      total: totalOf(groups, filters),
      categories: facets.category.map(({ value, count }) => ({ name: value, count })),
      facets,
      meant: meant && groups.length > 0 ? meant.join(" ") : null,
    };
  });
}

/** A mistyped query's words, each as an entry has it; those that are like none are left out. Null: all are. */
async function meantWords(
  sql: Sql,
  workspaceId: string | undefined,
  words: string[],
): Promise<string[] | null> {
  const alike = await sql<{ asked: string; word: string }[]>`
    select asked_word as asked, word
    from mooring.catalog_words_like(${workspaceId ?? null}, ${words})`;
  const meant = words.map((asked) => {
    const words = alike.filter((row) => row.asked === asked).map(({ word }) => word);
    return mostAlike(asked, words);
  }).filter((word) => word !== null);
  return meant.length === 0 || meant.join(" ") === words.join(" ") ? null : meant;
}

const NO_FILTERS: CatalogFilters = {
  query: "",
  category: "",
  runtime: "",
  source: "",
  secrets: "",
  network: "",
  deployable: "",
  verified: "",
};

function truth(asked: "" | "yes" | "no"): boolean | null {
  return asked === "" ? null : asked === "yes";
}

/** How many results there are of each combination: from these few every count is made. */
type Group = Record<Exclude<keyof CatalogFilters, "query">, string> & { count: number };

type Counted =
  & Omit<Group, "secrets" | "network" | "deployable" | "verified">
  & Record<"secrets" | "network" | "deployable" | "verified", boolean>;

function groupOf(counted: Counted): Group {
  const word = (is: boolean) => is ? "yes" : "no";
  return {
    ...counted,
    secrets: word(counted.secrets),
    network: word(counted.network),
    deployable: word(counted.deployable),
    verified: word(counted.verified),
  };
}

const FACETS = [
  "category",
  "runtime",
  "source",
  "secrets",
  "network",
  "deployable",
  "verified",
] as const;

function totalOf(groups: Group[], filters: CatalogFilters): number {
  return groups.filter((group) => FACETS.every((name) => isChosen(group, filters, name)))
    .reduce((sum, { count }) => sum + count, 0);
}

function isChosen(group: Group, filters: CatalogFilters, name: typeof FACETS[number]): boolean {
  return filters[name] === "" || group[name] === filters[name];
}

function facetsOf(groups: Group[], filters: CatalogFilters): CatalogResults["facets"] {
  const facets = FACETS.map((name) => {
    const counts = new Map<string, number>();
    for (const group of groups) {
      if (!FACETS.every((other) => other === name || isChosen(group, filters, other))) continue;
      counts.set(group[name], (counts.get(group[name]) ?? 0) + group.count);
    }
    const values = [...counts].map(([value, count]) => ({ value, count }));
    return [name, values.toSorted((a, b) => a.value < b.value ? -1 : 1)];
  });
  return Object.fromEntries(facets);
}

/** @throws {NotFound} */
export async function findCatalogEntry(
  db: Database,
  user: User,
  slug: string,
  workspaceId?: string,
): Promise<CatalogRow> {
  return await db.asUser(user, (sql) => readCatalogEntry(sql, slug, workspaceId));
}

/**
 * {@link findCatalogEntry}, in another model's transaction.
 *
 * @throws {NotFound}
 */
export async function readCatalogEntry(
  sql: Sql,
  slug: string,
  workspaceId?: string,
): Promise<CatalogRow> {
  const [row] = await sql<(Omit<CatalogRow, "entry"> & { entry: unknown })[]>`
    select ${columns(sql, workspaceId)} from catalog_entries where slug = ${withoutNul(slug)}
      and ${workspaceId ? sql`(workspace_id is null or workspace_id = ${workspaceId})` : sql`true`}
    order by workspace_id nulls first limit 1`;
  if (!row) throw new NotFound("The marketplace has no such entry");
  return readRow(row);
}

function columns(sql: Sql, workspaceId?: string) {
  return sql`id, source, source_id as "sourceId", entry, coalesce(version, entry #>> '{package,version}', '') as version,
    obstacle, notes, tools, published_at as "publishedAt", updated_at as "updatedAt",
    coalesce((select s.name from catalog_sources s where s.id = source_id), 'Built in') as "sourceName",
    -- As mooring.search_catalog has it.
    deployable and (is_pinned and (source_id is null or exists (
        select from catalog_sources s where s.id = source_id and mooring.is_official_registry(s.kind, s.url)))
      or exists (select from catalog_proofs p where p.entry_id = catalog_entries.id
        and p.package = entry -> 'package' and ${
    workspaceId ? sql`p.workspace_id = ${workspaceId}` : sql`true`
  })) as "isVerified"`;
}

function readRow(row: Omit<CatalogRow, "entry"> & { entry: unknown }): CatalogRow {
  return { ...row, entry: ListedEntry.parse(row.entry) };
}

/** An entry's row as JSON carries it, for other models. */
export function readEntryRow(
  row: Omit<StoredRow, "publishedAt" | "updatedAt"> & {
    publishedAt: string | null;
    updatedAt: string;
  },
): Omit<CatalogRow, "sourceName" | "notes" | "isVerified"> {
  const { publishedAt, updatedAt } = row;
  return {
    ...row,
    entry: ListedEntry.parse(row.entry),
    publishedAt: publishedAt === null ? null : new Date(publishedAt),
    updatedAt: new Date(updatedAt),
  };
}

type StoredRow = Omit<CatalogRow, "entry" | "sourceName" | "notes" | "isVerified"> & {
  entry: unknown;
};

/**
 * Makes the built-in catalog equal to the given entries.
 *
 * @throws {z.ZodError} when one does not fit: then nothing changes
 */
export async function putBuiltinCatalog(db: Database, entries: unknown): Promise<void> {
  const parsed = z.array(CatalogEntry).parse(entries);
  await db.asApp`select mooring.put_builtin_catalog(${db.asApp.json(parsed)})`;
  await db.asApp`select mooring.refresh_catalog_words(null)`;
}

/**
 * {@link putBuiltinCatalog} where another version is in the tables, or none: of many short-lived processes
 * the first writes it. Two at once write the same.
 */
export async function putBuiltinCatalogOnce(db: Database, entries: unknown): Promise<void> {
  const version = await tokenHash(JSON.stringify(entries));
  const [{ differs }] = await db.asApp`
    select mooring.builtin_catalog_differs(${version}) as differs`;
  if (!differs) return;
  await putBuiltinCatalog(db, entries);
  await db.asApp`select mooring.note_builtin_catalog(${version})`;
}

/** The words that a person typed, without what has a meaning to `to_tsquery`. */
function wordsOf(typed: string): string[] {
  return typed.slice(0, 200).toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
}
