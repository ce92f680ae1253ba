import { Hono } from "hono";
import { z } from "zod";
import { CATALOG_SORTS, findCatalogEntry, searchCatalog } from "../models/catalog_entries.ts";
import { listSourceNames, readRaw, unwriteEntry } from "../models/catalog_sources.ts";
import { RawEntry } from "../views/catalog_origin.tsx";
import { Marketplace, type MarketplaceProps, Results } from "../views/marketplace.tsx";
import { addressOf, Filters } from "../views/marketplace_filters.tsx";
import type { Deps, Env } from "./deps.ts";
import { entryPage } from "./entry_page.tsx";
import { fragment, goTo, page } from "./render.tsx";

const PAGE_SIZE = 24;

const yesNo = z.enum(["", "yes", "no"]).catch("");
const word = z.string().max(80).catch("");

/** What an address asks; what it does not say, or says wrongly, is not asked. */
const Query = z.object({
  q: z.string().transform((text) => text.slice(0, 200)).catch(""),
  category: word,
  runtime: word,
  source: word,
  secrets: yesNo,
  network: yesNo,
  deployable: yesNo,
  verified: yesNo,
  sort: z.enum(CATALOG_SORTS).catch("best"),
  page: z.coerce.number().int().min(1).max(100_000).catch(1),
}).transform(({ q, ...asked }) => ({ query: q, ...asked }));

/** The marketplace: search, and an entry with its deploy form. */
export function marketplaceRoutes(deps: Deps) {
  const { db } = deps;
  return new Hono<Env>()
    .get(
      "/marketplace",
      async (c) =>
        page(
          c,
          "Marketplace",
          <Marketplace {...await search(c.get("user"), c.get("workspace").id, c.req.query())} />,
        ),
    )
    .get("/marketplace/results", async (c) => {
      const query = c.req.query();
      // Another search begins at its first page.
      const props = await search(c.get("user"), c.get("workspace").id, { ...query, page: "1" });
      c.header("hx-replace-url", c.req.path.replace(/\/results$/, addressOf(props.asked)));
      return fragment(
        c,
        <>
          <Results {...props} />
          <hx-partial hx-target="#filters" hx-swap="outerMorph">
            <Filters {...props} />
          </hx-partial>
        </>,
      );
    })
    .get("/marketplace/:slug", (c) => entryPage(c, deps, c.req.param("slug")))
    .get("/marketplace/:slug/raw", async (c) => {
      const user = c.get("user"), { version, download } = c.req.query();
      const row = await findCatalogEntry(db, user, c.req.param("slug"), c.get("workspace").id);
      const raw = row.sourceId === null
        ? JSON.stringify(row.entry, null, 1)
        : await readRaw(db, user, row.id, version);
      if (download === undefined) {
        return page(
          c,
          row.entry.title,
          <RawEntry row={row} raw={raw} hash={version ?? null} />,
        );
      }
      return c.body(raw, 200, {
        // Never as what a browser would run or show.
        "content-type": "text/plain; charset=utf-8",
        "content-disposition": `attachment; filename="${row.entry.slug}.txt"`,
        "cache-control": "no-store",
      });
    })
    .post("/marketplace/:slug/remove", async (c) => {
      const row = await findCatalogEntry(
        db,
        c.get("user"),
        c.req.param("slug"),
        c.get("workspace").id,
      );
      await unwriteEntry(db, c.get("user"), row.id);
      return goTo(c, "/marketplace/sources", "source-asked");
    });

  async function search(
    user: { userId: string },
    workspaceId: string,
    query: Record<string, string>,
  ): Promise<MarketplaceProps> {
    const asked = Query.parse(query);
    const { sort, page: number, ...filters } = asked;
    const results = await searchCatalog(db, user, {
      ...filters,
      sort,
      workspaceId,
      limit: PAGE_SIZE,
      offset: (number - 1) * PAGE_SIZE,
    });
    // Of a link whose results have become fewer: the last page that there is, as the servers' list has it.
    const last = Math.max(1, Math.ceil(results.total / PAGE_SIZE));
    if (number > last) return await search(user, workspaceId, { ...query, page: String(last) });
    const sourceNames = await listSourceNames(db, user, workspaceId);
    return { ...results, asked, sourceNames, pageSize: PAGE_SIZE };
  }
}
