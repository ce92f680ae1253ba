import { z } from "zod";
import {
  NpmPackage,
  NugetPackage,
  OciPackage,
  PypiPackage,
  RemotePackage,
  SourcePackage,
} from "../../dtma/protocol.ts";
import {
  askedInputs,
  buildCodeOf,
  CATALOG_SORTS,
  findCatalogEntry,
  ListedEntry,
  OtherPackage,
  searchCatalog,
  TaggedImage,
} from "../../models/catalog_entries.ts";
import { cursorOf, placeIn } from "./cursor.ts";
import { Int, operation, paging, partOf } from "./operation.ts";

const OBSTACLE = "Why it cannot be deployed here; null: it can";

/** Without a REST API's plan, which is long and of no use but to its adapter. */
export const PackageShape = z.discriminatedUnion("registry", [
  NpmPackage,
  PypiPackage,
  NugetPackage,
  OciPackage,
  SourcePackage,
  RemotePackage,
  z.object({ registry: z.literal("openapi"), url: z.url() }),
]);

export const EntryShape = ListedEntry.extend({
  package: z.discriminatedUnion("registry", [PackageShape, TaggedImage, OtherPackage]),
}).meta({ id: "CatalogEntry" });

const EntrySummary = EntryShape.pick({
  slug: true,
  title: true,
  summary: true,
  category: true,
  package: true,
  homepage: true,
  license: true,
}).extend({
  source: z.string(),
  obstacle: z.string().nullable().describe(OBSTACLE),
  isVerified: z.boolean(),
}).meta({ id: "CatalogEntrySummary" });
export type EntrySummary = z.infer<typeof EntrySummary>;

const Entry = z.object({
  source: z.string(),
  obstacle: z.string().nullable().describe(OBSTACLE),
  entry: EntryShape,
  inputs: z.array(z.object({
    field: z.string().describe("What deploying calls it; its name will do as well"),
    name: z.string(),
    label: z.string().optional(),
    description: z.string().optional(),
    kind: z.enum(["argument", "environment", "url"]),
    isRequired: z.boolean(),
    isSecret: z.boolean(),
    isRepeated: z.boolean().optional(),
    format: z.enum(["string", "number", "boolean", "filepath"]),
    choices: z.array(z.string()).optional(),
    default: z.string().optional(),
  })).describe("What deploying asks"),
  buildCode: z.enum(["install-scripts", "dockerfile"]).nullable().describe(
    "What runs while its image is built, to which whoever deploys has to agree",
  ),
}).meta({ id: "CatalogEntryWithInputs" });
export type EntryWithInputs = z.infer<typeof Entry>;

export const catalogOperations = [
  operation({
    name: "search_catalog",
    method: "GET",
    path: "/catalog",
    scopes: ["read"],
    summary: "Search the catalog, best match first",
    description:
      "A cursor is a position here: entries that are added meanwhile may shift what follows.",
    input: z.strictObject({
      ...paging,
      query: z.string().max(200).default(""),
      category: z.string().max(40).default(""),
      runtime: z.enum(["npm", "pypi", "nuget", "oci", "source", "remote", "other"]).optional()
        .describe("What it is deployed from"),
      source: z.string().max(80).optional().describe("A catalog source's slug, or builtin"),
      needsSecret: z.boolean().optional().describe("It cannot be deployed without a secret"),
      usesNetwork: z.boolean().optional()
        .describe("It names hosts that it reaches, or runs elsewhere"),
      isDeployable: z.boolean().optional().describe("It can be deployed here"),
      isVerified: z.boolean().optional().describe(
        "Named exactly by a catalog that checked whose it is, or got ready in this workspace as it is",
      ),
      sort: z.enum(CATALOG_SORTS).default("best"),
    }),
    output: partOf(EntrySummary).extend({
      total: z.int(),
      categories: z.array(z.object({ name: z.string(), count: z.int() })),
    }),
    run: async ({ deps: { db }, bearer: { user, workspace } }, { limit, cursor, ...asked }) => {
      const offset = placeIn(cursor, Int) ?? 0;
      const { needsSecret, usesNetwork, isDeployable, isVerified, runtime, source, ...words } =
        asked;
      const { rows, total, categories } = await searchCatalog(db, user, {
        ...words,
        runtime: runtime ?? "",
        source: source ?? "",
        secrets: wordOf(needsSecret),
        network: wordOf(usesNetwork),
        deployable: wordOf(isDeployable),
        verified: wordOf(isVerified),
        workspaceId: workspace.id,
        limit,
        offset,
      });
      const end = offset + rows.length;
      return {
        items: rows.map(({ source, obstacle, isVerified, entry }) => (
          { ...entry, source, obstacle, isVerified }
        )),
        nextCursor: rows.length === limit && end < total ? cursorOf(end) : null,
        total,
        categories,
      };
    },
  }),
  operation({
    name: "get_catalog_entry",
    method: "GET",
    path: "/catalog/{slug}",
    scopes: ["read"],
    summary: "Read a catalog entry, with what deploying it asks",
    input: z.strictObject({ slug: z.string().min(1).max(63) }),
    output: Entry,
    run: async ({ deps: { db }, bearer: { user } }, { slug }) => {
      const { source, obstacle, entry } = await findCatalogEntry(db, user, slug);
      return {
        source,
        obstacle,
        entry,
        inputs: askedInputs(entry).map(({ field, kind, input }) => ({ ...input, field, kind })),
        buildCode: buildCodeOf(entry),
      };
    },
  }),
];

function wordOf(asked: boolean | undefined): "" | "yes" | "no" {
  return asked === undefined ? "" : asked ? "yes" : "no";
}
