import { Hono } from "hono";
import { listAgents } from "../models/agents.ts";
import { listServers } from "../models/servers.ts";
import { listToolboxes } from "../models/toolboxes.ts";
import { listWishes } from "../models/wishes.ts";
import { Home, HomeBody } from "../views/home.tsx";
import type { Deps, Env } from "./deps.ts";
import { live } from "./live.ts";
import { page } from "./render.tsx";

/** The overview. */
export function homeRoutes(deps: Deps) {
  const { db } = deps;

  return new Hono<Env>()
    .get(
      "/",
      async (c) =>
        page(c, "Overview", <Home {...await load(c.get("user"), c.get("workspace").id)} />),
    )
    .get("/live", (c) => {
      const user = c.get("user"), workspaceId = c.get("workspace").id;
      return live(c, deps, (change) => change.workspace === workspaceId, async () => [
        { target: "#overview", content: <HomeBody {...await load(user, workspaceId)} /> },
      ]);
    });

  async function load(user: { userId: string }, workspaceId: string) {
    return {
      servers: await listServers(db, user, workspaceId),
      agents: await listAgents(db, user, workspaceId),
      toolboxes: await listToolboxes(db, user, workspaceId),
      wishes: await listWishes(db, user, workspaceId, { isOpen: true, limit: 12 }),
    };
  }
}
