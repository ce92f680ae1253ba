import { z } from "zod";
import { HostPort, Package, STDIO, Tier, Transport, VolumeSpec } from "../dtma/protocol.ts";
import type { Database, Sql, User } from "./db.ts";
import { NotFound } from "./errors.ts";
import { withoutNul } from "./events.ts";

/** A value a person may give when deploying; the words follow the official registry's server.json. */
export const Input = z.object({
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
});
export type CatalogEntry = z.infer<typeof CatalogEntry>;

export interface CatalogRow {
  id: string;
  source: string;
  entry: CatalogEntry;
}

/** An input that the deploy form asks, with the name of its form field. */
export interface AskedInput {
  field: string;
  kind: "argument" | "environment";
  input: Input & Partial<Argument>;
}

/** What the deploy form asks for an entry, in order: required ones first within each kind. */
export function askedInputs(entry: CatalogEntry): AskedInput[] {
  const environment = entry.environment.map((input) => (
    { field: `env.${input.name}`, kind: "environment" as const, input }
  ));
  const args = entry.arguments.map((input, index) => (
    { field: `arg.${index}`, kind: "argument" as const, input }
  ));
  return [...args, ...environment]
    .filter(({ input }) => input.value === undefined)
    .toSorted((a, b) => Number(b.input.isRequired) - Number(a.input.isRequired));
}

/** What of an entry's own code its build runs, for which a person is asked. */
export type BuildCode = "install-scripts" | "dockerfile";

/** What runs while an entry's image is built, before any container's limits hold; null: nothing of its own. */
export function buildCodeOf({ package: wanted }: Pick<CatalogEntry, "package">): BuildCode | null {
  switch (wanted.registry) {
    case "npm":
    case "pypi":
      return wanted.installScripts ? "install-scripts" : null;
    case "source":
      return "dockerfile";
    case "nuget":
    case "oci":
    case "remote":
      // A .NET tool is unpacked, an image is pulled, a remote server runs elsewhere: nothing of
      // theirs runs.
      return null;
  }
}

/**
 * Searches the marketplace: every word of the query, the last one as a prefix, so that it serves
 * search as you type; best match first, by title without a query.
 */
export async function searchCatalog(
  db: Database,
  user: User,
  { query = "", category = "", limit = 60, offset = 0 }: {
    query?: string;
    category?: string;
    limit?: number;
    offset?: number;
  },
): Promise<{ rows: CatalogRow[]; total: number; categories: { name: string; count: number }[] }> {
  const words = wordsOf(query);
  return await db.asUser(user, async (sql) => {
    // Each word as it is (names) or by its stem (descriptions); the last one also as a beginning.
    // A word that English texts are not indexed by ("the") asks nothing, unless it is being typed.
    const asked = words.map((word, index) => {
      const isLast = index === words.length - 1;
      const term = isLast ? `${word}:*` : word;
      const either = sql`(to_tsquery('simple', ${term}) || to_tsquery('english', ${term}))`;
      return isLast
        ? either
        : sql`case when numnode(to_tsquery('english', ${term})) = 0 then ''::tsquery else ${either} end`;
    }).reduce((all, one) => sql`${all} && ${one}`, sql`''::tsquery`);
    const matches = words.length > 0 ? sql`search @@ (${asked})` : sql`true`;
    const inCategory = category ? sql`entry ->> 'category' = ${withoutNul(category)}` : sql`true`;
    const order = words.length > 0 ? sql`ts_rank(search, ${asked}) desc,` : sql``;
    const rows = await sql<(CatalogRow & { total: number })[]>`
      select id, source, entry, count(*) over ()::int as total from catalog_entries
      where ${matches} and ${inCategory}
      order by ${order} entry ->> 'title', id
      limit ${limit} offset ${offset}`;
    const categories = await sql<{ name: string; count: number }[]>`
      select entry ->> 'category' as name, count(*)::int as count from catalog_entries
      where ${matches} group by 1 order by 1`;
    return {
      rows: rows.map(({ id, source, entry }) => ({ id, source, entry: CatalogEntry.parse(entry) })),
      total: rows[0]?.total ?? 0,
      categories: [...categories],
    };
  });
}

/** @throws {NotFound} */
export async function findCatalogEntry(
  db: Database,
  user: User,
  slug: string,
): Promise<CatalogRow> {
  return await db.asUser(user, (sql) => readCatalogEntry(sql, slug));
}

/**
 * {@link findCatalogEntry}, in another model's transaction.
 *
 * @throws {NotFound}
 */
export async function readCatalogEntry(sql: Sql, slug: string): Promise<CatalogRow> {
  const [row] = await sql<CatalogRow[]>`
    select id, source, entry from catalog_entries where slug = ${withoutNul(slug)}
    order by workspace_id nulls last limit 1`;
  if (!row) throw new NotFound("The marketplace has no such entry");
  return { ...row, entry: CatalogEntry.parse(row.entry) };
}

/**
 * Makes the built-in catalog equal to the given entries.
 *
 * @throws {z.ZodError} when one does not fit: then nothing changes
 */
export async function putBuiltinCatalog(db: Database, entries: unknown): Promise<void> {
  const parsed = z.array(CatalogEntry).parse(entries);
  await db.asApp`select mooring.put_builtin_catalog(${db.asApp.json(parsed)})`;
}

/** The words that a person typed, without what has a meaning to `to_tsquery`. */
function wordsOf(typed: string): string[] {
  return typed.slice(0, 200).toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
}
