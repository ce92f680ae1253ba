import { Hono } from "hono";
import { z } from "zod";
import { readBillOfMaterials } from "../mcp/server_records.ts";
import { allowHost, disallowHost, dismissDenial } from "../models/egress_denials.ts";
import { Invalid } from "../models/errors.ts";
import { digestsBy } from "../models/image_digests.ts";
import {
  deployServer,
  getServer,
  listServers,
  removeServer,
  restartServer,
  rollBackServer,
  runServer,
  stopServer,
} from "../models/servers.ts";
import { tabPath } from "../views/server.tsx";
import { ServerList, Servers } from "../views/servers.tsx";
import type { Deps, Env } from "./deps.ts";
import { entryPage } from "./entry_page.tsx";
import { live } from "./live.ts";
import { formOf, goTo, page } from "./render.tsx";

const Deployment = z.object({
  slug: z.string().min(1).max(63),
  /** Left empty: the app chooses. */
  toolboxId: z.preprocess((value) => value || undefined, z.uuid().optional()),
  /** Left empty: any toolbox will do. */
  label: z.preprocess((value) => value || undefined, z.string().max(200).optional()),
  idempotencyKey: z.uuid(),
  name: z.string().optional(),
});

/** Servers: listed, deployed, stopped, started, removed; what one is stands in server_tabs.tsx. */
export function serverRoutes(deps: Deps) {
  const { db, secretsKey } = deps;
  const digestOf = digestsBy(deps.outside);

  return new Hono<Env>()
    .get(
      "/servers",
      async (c) =>
        page(
          c,
          "Servers",
          <Servers servers={await listServers(db, c.get("user"), c.get("workspace").id)} />,
        ),
    )
    .post("/servers", async (c) => {
      const form = await formOf(c);
      const parsed = Deployment.safeParse(form);
      if (!parsed.success) {
        throw new Invalid("The form is not whole: open the entry again and deploy from there");
      }
      const request = { ...parsed.data, workspaceId: c.get("workspace").id, form };
      try {
        const { serverId } = await deployServer(db, c.get("user"), request, secretsKey, digestOf);
        return goTo(c, `/servers/${serverId}`);
      } catch (error) {
        if (error instanceof Invalid) return await entryPage(c, deps, form.slug, { form, error });
        throw error;
      }
    })
    .get("/servers/live", (c) => {
      const user = c.get("user"), workspaceId = c.get("workspace").id;
      return live(c, deps, (change) => change.workspace === workspaceId, async () => [
        {
          target: "#servers",
          content: <ServerList servers={await listServers(db, user, workspaceId)} />,
        },
      ]);
    })
    .post("/servers/:id/run", async (c) => {
      await runServer(db, c.get("user"), c.req.param("id"));
      return goTo(c, `/servers/${c.req.param("id")}`);
    })
    .post("/servers/:id/stop", async (c) => {
      await stopServer(db, c.get("user"), c.req.param("id"));
      return goTo(c, `/servers/${c.req.param("id")}`);
    })
    .post("/servers/:id/remove", async (c) => {
      const { deleteVolumes } = await formOf(c);
      await removeServer(db, c.get("user"), c.req.param("id"), {
        deleteVolumes: deleteVolumes === "true",
      });
      return goTo(c, `/servers/${c.req.param("id")}`);
    })
    .get("/servers/:id/bom", async (c) => {
      const id = c.req.param("id"), user = c.get("user");
      const server = await getServer(db, user, id);
      const bom = await readBillOfMaterials(deps, user, id, c.req.raw.signal);
      return c.body(JSON.stringify(bom, null, 1), 200, {
        "content-type": "application/vnd.cyclonedx+json; version=1.6",
        "content-disposition": `attachment; filename="${server.slug}.cdx.json"`,
        "cache-control": "no-store",
      });
    })
    .post("/servers/:id/restart", async (c) => {
      await restartServer(db, c.get("user"), c.req.param("id"));
      return goTo(c, `/servers/${c.req.param("id")}`);
    })
    .post("/servers/:id/rollback", async (c) => {
      const { generation } = await formOf(c);
      await rollBackServer(db, c.get("user"), c.req.param("id"), Number(generation) || 0);
      return goTo(c, tabPath(c.req.param("id"), "configuration"), "saved");
    })
    .post("/servers/:id/hosts", async (c) => {
      const { host = "" } = await formOf(c);
      await allowHost(db, c.get("user"), c.req.param("id"), host.trim().toLowerCase());
      return goTo(c, tabPath(c.req.param("id"), "network"), "saved");
    })
    .post("/servers/:id/hosts/disallow", async (c) => {
      await disallowHost(db, c.get("user"), c.req.param("id"), (await formOf(c)).host ?? "");
      return goTo(c, tabPath(c.req.param("id"), "network"), "saved");
    })
    .post("/servers/:id/hosts/dismiss", async (c) => {
      await dismissDenial(db, c.get("user"), c.req.param("id"), (await formOf(c)).host ?? "");
      return goTo(c, tabPath(c.req.param("id"), "network"));
    });
}
