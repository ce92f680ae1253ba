import { type Context, Hono } from "hono";
import { z } from "zod";
import { readBillOfMaterials } from "../mcp/server_records.ts";
import { disallowHost, dismissDenial } from "../models/egress_denials.ts";
import { Invalid } from "../models/errors.ts";
import { rollBackServer } from "../models/generations.ts";
import { digestsBy } from "../models/image_digests.ts";
import { actOnServers, SERVER_ACTS, whatGoesAlong } from "../models/server_acts.ts";
import { needsOf, searchServers, ServerFilter } from "../models/server_search.ts";
import {
  deployServer,
  getServer,
  removeServer,
  restartServer,
  runServer,
  stopServer,
} from "../models/servers.ts";
import { listUpdates } from "../models/updates.ts";
import { tabPath } from "../views/server.tsx";
import { ServerChoices, serversPath } from "../views/server_filters.tsx";
import { RemovalPage } from "../views/server_removal.tsx";
import {
  type ActedProps,
  ActedServers,
  ServerResults,
  Servers,
  ServersLive,
} from "../views/servers.tsx";
import type { Deps, Env } from "./deps.ts";
import { entryPage } from "./entry_page.tsx";
import { live } from "./live.ts";
import { basePathOf, formOf, fragment, goTo, page } from "./render.tsx";

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
    .get("/servers", async (c) => {
      const isAllTicked = c.req.query("tick") === "all";
      return page(c, "Servers", <Servers {...await search(c)} isAllTicked={isAllTicked} />);
    })
    .get("/servers/results", async (c) => {
      const results = await search(c);
      c.header("hx-replace-url", basePathOf(c) + serversPath(results.filter));
      return fragment(
        c,
        <>
          <ServerResults {...results} />
          <hx-partial hx-target="#servers-live" hx-swap="outerHTML">
            <ServersLive {...results} />
          </hx-partial>
          <hx-partial hx-target="#server-choices" hx-swap="outerMorph">
            <ServerChoices filter={results.filter} facets={results.found.facets} />
          </hx-partial>
        </>,
      );
    })
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
    .get("/servers/live", (c) =>
      live(
        c,
        deps,
        ({ table, workspace }) =>
          workspace === c.get("workspace").id && LISTED_TABLES.includes(table),
        async () => [
          { target: "#results", content: <ServerResults {...await search(c)} /> },
        ],
      ))
    .get("/servers/remove", async (c) => {
      const ids = c.req.queries("server") ?? [];
      const all = await whatGoesAlong(db, c.get("user"), c.get("workspace").id, idsOf(ids));
      const list = listPath(c.req.query("list"));
      return page(c, "Remove servers", <RemovalPage all={all} list={list} />);
    })
    .post("/servers/acts", async (c) => {
      const { act, server = [], list, deleteVolumes } = await c.req.parseBody({ all: true });
      const ids = idsOf([server].flat().filter((id) => typeof id === "string"));
      if (act === "removal" && ids.length > 0) {
        const asked = new URLSearchParams(ids.map((id) => ["server", id]));
        asked.set("list", listPath(String(list)));
        const path = `/servers/remove?${asked}`;
        if (!c.req.header("hx-request")) return c.redirect(basePathOf(c) + path, 303);
        c.header("hx-redirect", basePathOf(c) + path);
        return c.body(null, 204);
      }
      const chosen = ServerActs.safeParse(act === "removal" ? "remove" : act);
      if (!chosen.success) throw new Invalid("Choose what to do with the servers");
      const acted = await actOnServers(db, c.get("user"), c.get("workspace").id, ids, chosen.data, {
        deleteVolumes: [deleteVolumes].flat().includes("true"),
      }).then((results): ActedProps => ({ act: chosen.data, results }), (error) => {
        if (!(error instanceof Invalid)) throw error;
        return { mistake: `${error.message}.` };
      });
      const status = acted.mistake ? 422 : 200;
      if (c.req.header("hx-request")) return fragment(c, <ActedServers {...acted} />, status);
      const found = await searchFor(c, filterOf(queryIn(listPath(String(list)))));
      return page(c, "Servers", <Servers {...found} acted={acted} />, status);
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
    .post("/servers/:id/hosts/disallow", async (c) => {
      await disallowHost(db, c.get("user"), c.req.param("id"), (await formOf(c)).host ?? "");
      return goTo(c, tabPath(c.req.param("id"), "network"), "hosts-saved");
    })
    .post("/servers/:id/hosts/dismiss", async (c) => {
      await dismissDenial(db, c.get("user"), c.req.param("id"), (await formOf(c)).host ?? "");
      return goTo(c, tabPath(c.req.param("id"), "network"));
    });

  async function searchFor(c: Context<Env>, filter: ServerFilter) {
    const user = c.get("user"), workspaceId = c.get("workspace").id;
    const [found, updates] = await Promise.all([
      searchServers(db, user, workspaceId, filter),
      listUpdates(db, user, workspaceId),
    ]);
    const servers = found.servers.map((server) => ({
      ...server,
      needs: needsOf(server),
      offer: updates.get(server.id) ?? null,
    }));
    return { filter, found: { ...found, servers } };
  }

  function search(c: Context<Env>) {
    return searchFor(c, filterOf(c.req.query()));
  }
}

/** Whose changes may be ones of the list: not what its servers are measured at, and are called. */
const LISTED_TABLES = [
  "definitions",
  "egress_denials",
  // Of a sign-in that ended or was renewed.
  "events",
  "observations",
  "servers",
  "toolboxes",
  "tools",
];

const ServerActs = z.enum(SERVER_ACTS);

function filterOf({ q, ...asked }: Record<string, string>): ServerFilter {
  return ServerFilter.parse({ ...asked, text: q ?? "" });
}

/** Malformed ones are of no server. */
function idsOf(ids: string[]): string[] {
  return ids.filter((id) => z.uuid().safeParse(id).success);
}

/** The list that a form was sent from, said anew: an address that a form brings leads anywhere. */
function listPath(list: string | undefined): string {
  return serversPath(filterOf(queryIn(list ?? "")));
}

function queryIn(path: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(path.split("?")[1] ?? ""));
}
