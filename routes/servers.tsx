import { type Context, Hono } from "hono";
import { z } from "zod";
import { readBillOfMaterials, readServerLog } from "../mcp/server_records.ts";
import { getAuthorization } from "../models/authorizations.ts";
import { askedInputs } from "../models/catalog_entries.ts";
import { allowHost, disallowHost, dismissDenial, listDenials } from "../models/egress_denials.ts";
import { callFigures } from "../models/calls.ts";
import type { User } from "../models/db.ts";
import { Conflict, Invalid, NotFound } from "../models/errors.ts";
import { listEvents } from "../models/events.ts";
import { digestsBy } from "../models/image_digests.ts";
import { listSamples } from "../models/samples.ts";
import { readScans } from "../models/scans.ts";
import {
  deployServer,
  getServer,
  listGenerations,
  listServers,
  reconfigureServer,
  removeServer,
  restartServer,
  rollBackServer,
  runServer,
  stopServer,
} from "../models/servers.ts";
import { readServerTrust } from "../models/trust.ts";
import {
  getUpdate,
  listUpdates,
  skipUpdate,
  updateServer,
  type UpdateStatus,
} from "../models/updates.ts";
import { listDefinitions } from "../models/definitions.ts";
import { listTools } from "../models/tools.ts";
import { ServerAccount } from "../views/authorization.tsx";
import {
  ServerEvents,
  ServerFacts,
  ServerGone,
  ServerHead,
  ServerLayers,
  ServerLog,
  ServerPage,
  type ServerProps,
  ServerTrust,
} from "../views/server.tsx";
import { Generations } from "../views/server_generations.tsx";
import { NetworkNow } from "../views/server_network.tsx";
import { LogPage } from "../views/server_log.tsx";
import { ServerResources } from "../views/server_resources.tsx";
import { ServerUpdate } from "../views/update.tsx";
import { ServerVulnerabilities } from "../views/server_vulnerabilities.tsx";
import { ServerList, Servers } from "../views/servers.tsx";
import { DefinitionList } from "../views/definitions.tsx";
import { ToolList } from "../views/tools.tsx";
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

/** What is typed there, live news must not take away. */
function hasFields({ offer }: UpdateStatus): boolean {
  return offer !== null && (offer.asks.length > 0 || offer.asksConsent !== null);
}

/** Servers: deploy, watch, change, stop, start, remove. */
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
          <Servers {...await serversOf(c.get("user"), c.get("workspace").id)} />,
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
          content: <ServerList {...await serversOf(user, workspaceId)} />,
        },
      ]);
    })
    .get("/servers/:id", async (c) => page(c, ...await serverPage(c, c.req.param("id"))))
    .get("/servers/:id/live", (c) => {
      const id = c.req.param("id"), user = c.get("user");
      const concerns = (change: { server: string | null; table: string }) =>
        change.server === id || change.table === "toolboxes";
      return live(c, deps, concerns, async () => {
        try {
          const server = await getServer(db, user, id);
          const update = await getUpdate(db, user, id), scans = await readScans(db, user, id);
          return [
            { target: "#server-head", content: <ServerHead server={server} /> },
            { target: "#layers", content: <ServerLayers server={server} /> },
            ...(hasFields(update) ? [] : [{
              target: "#update",
              content: <ServerUpdate server={server} update={update} />,
            }]),
            {
              target: "#account",
              content: (
                <ServerAccount
                  server={server}
                  authorization={await getAuthorization(db, user, id)}
                />
              ),
            },
            { target: "#facts", content: <ServerFacts server={server} /> },
            { target: "#log", content: <ServerLog server={server} /> },
            {
              target: "#network",
              content: <NetworkNow server={server} denials={await listDenials(db, user, id)} />,
            },
            {
              target: "#resources",
              content: (
                <ServerResources
                  server={server}
                  samples={await listSamples(db, user, id)}
                  figures={await callFigures(db, user, id)}
                />
              ),
            },
            {
              target: "#vulnerabilities",
              content: <ServerVulnerabilities server={server} scans={scans} />,
            },
            {
              target: "#trust",
              content: (
                <ServerTrust
                  server={server}
                  trust={await readServerTrust(db, user, server, scans)}
                />
              ),
            },
            {
              target: "#generations",
              content: (
                <Generations
                  server={server}
                  generations={await listGenerations(db, user, id)}
                />
              ),
            },
            {
              target: "#events",
              content: <ServerEvents events={await listEvents(db, user, { serverId: id })} />,
            },
            {
              target: "#tools",
              content: <ToolList server={server} tools={await listTools(db, user, id)} />,
            },
            {
              target: "#definitions",
              content: (
                <DefinitionList serverId={id} definitions={await listDefinitions(db, user, id)} />
              ),
            },
          ];
        } catch (error) {
          if (!(error instanceof NotFound)) throw error;
          return [{ target: "#server-head", content: <ServerGone /> }];
        }
      });
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
    .get("/servers/:id/log", async (c) => {
      const { search = "", download } = c.req.query();
      const id = c.req.param("id"), user = c.get("user");
      const server = await getServer(db, user, id);
      const text = await readServerLog(deps, user, id, { search, signal: c.req.raw.signal });
      if (download === undefined) {
        return page(c, `Log of ${server.name}`, <LogPage {...{ server, text, search }} />);
      }
      return c.body(text, 200, {
        "content-type": "text/plain; charset=utf-8",
        "content-disposition": `attachment; filename="${server.slug}.log"`,
        "cache-control": "no-store",
      });
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
      return goTo(c, `/servers/${c.req.param("id")}`, "saved");
    })
    .post("/servers/:id/update", async (c) => {
      const id = c.req.param("id"), { update = "", ...form } = await formOf(c);
      try {
        await updateServer(db, c.get("user"), id, { update, form }, secretsKey, digestOf);
        return goTo(c, `/servers/${id}`, "updating");
      } catch (error) {
        if (!(error instanceof Invalid || error instanceof Conflict)) throw error;
        const mistakes = error instanceof Invalid ? error.fields : {};
        const updateAgain = { values: form, mistakes, mistake: error.message };
        const [title, content] = await serverPage(c, id, { updateAgain });
        return page(c, title, content, error instanceof Conflict ? 409 : 422);
      }
    })
    .post("/servers/:id/update/skip", async (c) => {
      const id = c.req.param("id"), { update } = await formOf(c);
      await skipUpdate(db, c.get("user"), id, update || null);
      return goTo(c, `/servers/${id}`, update ? "skipped" : "offered-again");
    })
    .post("/servers/:id/hosts", async (c) => {
      const { host = "" } = await formOf(c);
      await allowHost(db, c.get("user"), c.req.param("id"), host.trim().toLowerCase());
      return goTo(c, `/servers/${c.req.param("id")}#network-title`, "saved");
    })
    .post("/servers/:id/hosts/disallow", async (c) => {
      await disallowHost(db, c.get("user"), c.req.param("id"), (await formOf(c)).host ?? "");
      return goTo(c, `/servers/${c.req.param("id")}#network-title`, "saved");
    })
    .post("/servers/:id/hosts/dismiss", async (c) => {
      await dismissDenial(db, c.get("user"), c.req.param("id"), (await formOf(c)).host ?? "");
      return goTo(c, `/servers/${c.req.param("id")}#network-title`);
    })
    .post("/servers/:id/configuration", async (c) => {
      const id = c.req.param("id"), form = await formOf(c);
      try {
        const change = { form, baseGeneration: Number(form.baseGeneration) };
        await reconfigureServer(db, c.get("user"), id, change, secretsKey);
        return goTo(c, `/servers/${id}`, "saved");
      } catch (error) {
        if (!(error instanceof Invalid || error instanceof Conflict)) throw error;
        const mistakes = error instanceof Invalid ? error.fields : {};
        const [title, content] = await serverPage(c, id, {
          values: form,
          mistakes,
          mistake: error.message,
        });
        return page(c, title, content, error instanceof Conflict ? 409 : 422);
      }
    });

  async function serversOf(user: User, workspaceId: string) {
    return {
      servers: await listServers(db, user, workspaceId),
      updates: await listUpdates(db, user, workspaceId),
    };
  }

  async function serverPage(
    c: Context<Env>,
    id: string,
    again: {
      values?: Record<string, string>;
      mistakes?: Record<string, string>;
      mistake?: string;
      updateAgain?: ServerProps["updateAgain"];
    } = {},
  ) {
    const user = c.get("user");
    const server = await getServer(db, user, id), scans = await readScans(db, user, id);
    const props = {
      server,
      tools: await listTools(db, user, id),
      definitions: await listDefinitions(db, user, id),
      events: await listEvents(db, user, { serverId: id }),
      generations: await listGenerations(db, user, id),
      denials: await listDenials(db, user, id),
      samples: await listSamples(db, user, id),
      figures: await callFigures(db, user, id),
      scans,
      trust: await readServerTrust(db, user, server, scans),
      authorization: await getAuthorization(db, user, id),
      update: await getUpdate(db, user, id),
      asked: askedInputs(server.config.entry),
      ...again,
    };
    return [server.name, <ServerPage {...props} />] as const;
  }
}
