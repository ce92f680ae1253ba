import { type Context, Hono } from "hono";
import { mapConnections, MapFilter } from "../models/connection_map.ts";
import { ConnectionMapPage, Connections, mapPath } from "../views/connection_map.tsx";
import type { Deps, Env } from "./deps.ts";
import { live } from "./live.ts";
import { basePathOf, page } from "./render.tsx";

/** Whose changes may be ones of the picture. */
const MAPPED_TABLES = [
  "agents",
  "connections",
  "observations",
  "servers",
  "toolboxes",
  "tools",
];

/** A picture of who is connected to what. */
export function connectionMapRoutes(deps: Deps) {
  return new Hono<Env>()
    .get("/agents/connections", async (c) => {
      const props = await load(c);
      if (c.req.header("hx-request")) {
        c.header("hx-push-url", basePathOf(c) + mapPath(props.filter));
      }
      return page(c, "Connections", <ConnectionMapPage {...props} />);
    })
    .get("/agents/connections/live", (c) =>
      live(
        c,
        deps,
        ({ table, workspace }) =>
          workspace === c.get("workspace").id && MAPPED_TABLES.includes(table),
        async () => [{ target: "#connections", content: <Connections {...await load(c)} /> }],
      ));

  async function load(c: Context<Env>) {
    const filter = MapFilter.parse(c.req.query());
    const map = await mapConnections(deps.db, c.get("user"), c.get("workspace").id, filter);
    return { filter, map };
  }
}
