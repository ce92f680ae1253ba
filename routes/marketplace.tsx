import { Hono } from "hono";
import {
  askedInputs,
  buildCodeOf,
  findCatalogEntry,
  searchCatalog,
} from "../models/catalog_entries.ts";
import { listToolboxes } from "../models/toolboxes.ts";
import { Entry, Marketplace, Results } from "../views/marketplace.tsx";
import type { Deps, Env } from "./deps.ts";
import { placing } from "./placing.ts";
import { fragment, page } from "./render.tsx";

/** The marketplace: search, and an entry with its deploy form. */
export function marketplaceRoutes({ db }: Deps) {
  return new Hono<Env>()
    .get(
      "/marketplace",
      async (c) =>
        page(c, "Marketplace", <Marketplace {...await search(c.get("user"), c.req.query())} />),
    )
    .get("/marketplace/results", async (c) => {
      const props = await search(c.get("user"), c.req.query());
      const query = new URLSearchParams({ q: props.query, category: props.category });
      c.header("hx-replace-url", c.req.path.replace(/\/results$/, `?${query}`));
      return fragment(c, <Results {...props} />);
    })
    .get("/marketplace/:slug", async (c) => {
      const { entry } = await findCatalogEntry(db, c.get("user"), c.req.param("slug"));
      const toolboxes = await listToolboxes(db, c.get("user"), c.get("workspace").id);
      return page(
        c,
        entry.title,
        <Entry
          entry={entry}
          asked={askedInputs(entry)}
          buildCode={buildCodeOf(entry)}
          {...placing(toolboxes, entry)}
          idempotencyKey={crypto.randomUUID()}
          values={{}}
          mistakes={{}}
        />,
      );
    });

  async function search(
    user: { userId: string },
    { q = "", category = "" }: Record<string, string>,
  ) {
    return { ...await searchCatalog(db, user, { query: q, category }), query: q, category };
  }
}
