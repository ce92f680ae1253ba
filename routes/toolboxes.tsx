import { type Context, Hono } from "hono";
import { dtmaCommands } from "../models/dtma_command.ts";
import { Invalid } from "../models/errors.ts";
import { listEvents } from "../models/events.ts";
import {
  addToolbox,
  askForNewKey,
  drainToolbox,
  labelToolbox,
  removeToolbox,
  renameToolbox,
  renewEnrolmentToken,
  revokeToolbox,
  undrainToolbox,
} from "../models/fleet.ts";
import { listServers } from "../models/servers.ts";
import { getToolbox, listToolboxes } from "../models/toolboxes.ts";
import {
  ToolboxBody,
  ToolboxEvents,
  ToolboxPage,
  type ToolboxProps,
  ToolboxServers,
} from "../views/toolbox.tsx";
import { Enrolment } from "../views/toolbox_enrolment.tsx";
import { Toolboxes, type ToolboxesProps, ToolboxList } from "../views/toolboxes.tsx";
import type { Deps, Env } from "./deps.ts";
import { live } from "./live.ts";
import { formOf, goTo, page } from "./render.tsx";

/** Toolboxes: add, look at, change, drain, revoke, remove. */
export function toolboxPageRoutes(deps: Deps) {
  const { db } = deps;

  return new Hono<Env>()
    .get("/toolboxes", (c) => listPage(c))
    .post("/toolboxes", async (c) => {
      const { name = "", labels = "" } = await formOf(c);
      try {
        const { toolboxId, enrolmentToken } = await addToolbox(
          db,
          c.get("user"),
          c.get("workspace").id,
          name,
          labels,
        );
        // In the answer itself: a token in an address would be in histories and logs.
        return await toolboxPage(c, toolboxId, { enrolmentToken });
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return await listPage(c, { name, labels, mistakes: error.fields });
      }
    })
    .get("/toolboxes/live", (c) => {
      const user = c.get("user"), workspaceId = c.get("workspace").id;
      const concerns = (change: { workspace: string | null; table: string }) =>
        change.workspace === workspaceId && ["toolboxes", "servers"].includes(change.table);
      return live(c, deps, concerns, async () => [{
        target: "#toolboxes",
        content: <ToolboxList toolboxes={await listToolboxes(db, user, workspaceId)} />,
      }]);
    })
    .get("/toolboxes/:id", (c) => toolboxPage(c, c.req.param("id")))
    .get("/toolboxes/:id/live", (c) => {
      const id = c.req.param("id"), mayChange = isAdmin(c);
      const isWatched = c.req.query("enrolling") !== undefined;
      const concerns = (change: { toolbox: string | null; table: string }) =>
        change.toolbox === id || change.table === "observations" || change.table === "events";
      return live(c, deps, concerns, async () => {
        const { box, servers, events } = await read(c, id);
        // A command stays on the page that shows it until its token is spent.
        const isPending = isWatched && box.enrolmentExpiresAt !== null && !box.revokedAt;
        return [
          ...(isPending ? [] : [{
            target: "#enrolment",
            content: <Enrolment {...{ box, mayChange, isWatched, commands: null }} />,
          }]),
          { target: "#toolbox", content: <ToolboxBody box={box} /> },
          { target: "#box-servers", content: <ToolboxServers box={box} servers={servers} /> },
          { target: "#box-events", content: <ToolboxEvents events={events} /> },
        ];
      });
    })
    .post("/toolboxes/:id/token", async (c) => {
      const id = c.req.param("id");
      const enrolmentToken = await renewEnrolmentToken(db, c.get("user"), id);
      return await toolboxPage(c, id, { enrolmentToken });
    })
    .post("/toolboxes/:id/name", (c) =>
      formAgain(c, async (id, { name = "" }) => {
        await renameToolbox(db, c.get("user"), id, name);
        return goTo(c, `/toolboxes/${id}`, "renamed");
      }))
    .post("/toolboxes/:id/labels", (c) =>
      formAgain(c, async (id, { labels = "" }) => {
        await labelToolbox(db, c.get("user"), id, labels);
        return goTo(c, `/toolboxes/${id}`, "labelled");
      }))
    .post("/toolboxes/:id/drain", async (c) => {
      await drainToolbox(db, c.get("user"), c.req.param("id"));
      return goTo(c, `/toolboxes/${c.req.param("id")}`, "drained");
    })
    .post("/toolboxes/:id/undrain", async (c) => {
      await undrainToolbox(db, c.get("user"), c.req.param("id"));
      return goTo(c, `/toolboxes/${c.req.param("id")}`, "undrained");
    })
    .post("/toolboxes/:id/key", async (c) => {
      await askForNewKey(db, c.get("user"), c.req.param("id"));
      return goTo(c, `/toolboxes/${c.req.param("id")}`, "key-asked");
    })
    .post("/toolboxes/:id/revoke", async (c) => {
      await revokeToolbox(db, c.get("user"), c.req.param("id"));
      return goTo(c, `/toolboxes/${c.req.param("id")}`, "toolbox-revoked");
    })
    .post("/toolboxes/:id/remove", (c) =>
      formAgain(c, async (id, { confirmation = "" }) => {
        await removeToolbox(db, c.get("user"), id, confirmation);
        return goTo(c, "/toolboxes", "toolbox-removed");
      }));

  async function listPage(
    c: Context<Env>,
    again?: Pick<ToolboxesProps, "name" | "labels" | "mistakes">,
  ) {
    const toolboxes = await listToolboxes(db, c.get("user"), c.get("workspace").id);
    const content = <Toolboxes toolboxes={toolboxes} mayChange={isAdmin(c)} {...again} />;
    return page(c, "Toolboxes", content, again ? 422 : 200);
  }

  /** A form of a toolbox's page: one that does not hold comes back with what was typed. */
  async function formAgain(
    c: Context<Env>,
    take: (id: string, form: Record<string, string>) => Promise<Response>,
  ) {
    const id = c.req.param("id")!, values = await formOf(c);
    try {
      return await take(id, values);
    } catch (error) {
      if (!(error instanceof Invalid)) throw error;
      return await toolboxPage(c, id, { again: { values, mistakes: error.fields } });
    }
  }

  async function toolboxPage(
    c: Context<Env>,
    id: string,
    { enrolmentToken, again }: { enrolmentToken?: string; again?: ToolboxProps["again"] } = {},
  ) {
    const seen = await read(c, id);
    const commands = enrolmentToken ? dtmaCommands(deps.baseUrl, enrolmentToken) : null;
    const mayChange = isAdmin(c);
    const content = <ToolboxPage {...{ ...seen, mayChange, commands, again }} />;
    return page(c, seen.box.name, content, again ? 422 : 200);
  }

  async function read(c: Context<Env>, id: string) {
    const user = c.get("user");
    const box = await getToolbox(db, user, id);
    const servers = await listServers(db, user, box.workspaceId);
    return {
      box,
      servers: servers.filter((server) => server.toolboxId === box.id),
      events: await listEvents(db, user, { toolboxId: id }, { limit: 20 }),
    };
  }
}

function isAdmin(c: Context<Env>): boolean {
  return ["owner", "admin"].includes(c.get("workspace").role);
}
