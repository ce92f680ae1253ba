import { Hono } from "hono";
import { listServers } from "../models/servers.ts";
import { getToolbox, listToolboxes } from "../models/toolboxes.ts";
import { ToolboxBody, Toolboxes, ToolboxPage } from "../views/toolboxes.tsx";
import type { Deps, Env } from "./deps.ts";
import { live } from "./live.ts";
import { page } from "./render.tsx";

/** Toolboxes: what they are and whether they answer. */
export function toolboxPageRoutes(deps: Deps) {
  const { db } = deps;

  return new Hono<Env>()
    .get("/toolboxes", async (c) =>
      page(
        c,
        "Toolboxes",
        <Toolboxes toolboxes={await listToolboxes(db, c.get("user"), c.get("workspace").id)} />,
      ))
    .get("/toolboxes/:id", async (c) => {
      const box = await getToolbox(db, c.get("user"), c.req.param("id"));
      const servers = await listServers(db, c.get("user"), box.workspaceId);
      const here = servers.filter((server) => server.toolboxId === box.id);
      return page(c, box.name, <ToolboxPage box={box} servers={here} />);
    })
    .get("/toolboxes/:id/live", (c) => {
      const id = c.req.param("id"), user = c.get("user");
      return live(c, deps, (change) => change.toolbox === id, async () => [
        { target: "#toolbox", content: <ToolboxBody box={await getToolbox(db, user, id)} /> },
      ]);
    });
}
