import { type Context, Hono } from "hono";
import { getAuthorization } from "../models/authorizations.ts";
import { changeConnectionSecrets, listConnectionSecrets } from "../models/connection_secrets.ts";
import type { ToolChange } from "../models/connection_options.ts";
import { changeTool, getConnection, pickTools } from "../models/connections.ts";
import { Invalid, NotFound } from "../models/errors.ts";
import { getServer, instancesOf } from "../models/servers.ts";
import { ConnectionPage, type ConnectionPageProps } from "../views/connection.tsx";
import {
  type ArgumentField,
  modeField,
  ToolChangeForm,
  ToolChangePage,
  type ToolChangeProps,
} from "../views/tool_change.tsx";
import { visibleText } from "../views/visible_text.ts";
import { argumentFields, argumentsOf } from "./argument_fields.ts";
import type { Deps, Env } from "./deps.ts";
import { formOf, fragment, goTo, page } from "./render.tsx";

const CONNECTION = "/agents/:id/connections/:server";
const TOOL = `${CONNECTION}/tools/:name` as const;

/** What of a server an agent gets, and how it sees it. */
export function connectionRoutes({ db, secretsKey }: Deps) {
  return new Hono<Env>()
    .get(CONNECTION, async (c) => {
      const props = await loadPage(c);
      return page(c, titleOf(props.connection), <ConnectionPage {...props} />);
    })
    .post(`${CONNECTION}/secrets`, async (c) => {
      const { id: agentId, server: serverId } = c.req.param();
      const form = await formOf(c);
      try {
        const which = { agentId, serverId };
        await changeConnectionSecrets(db, c.get("user"), which, form, secretsKey);
        return goTo(c, `/agents/${agentId}/connections/${serverId}`, "credentials-saved");
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        const props = await loadPage(c);
        const again = { values: form, mistakes: error.fields, mistake: error.message };
        return page(c, titleOf(props.connection), <ConnectionPage {...props} {...again} />, 422);
      }
    })
    .post(CONNECTION, async (c) => {
      const { id, server } = c.req.param(), user = c.get("user");
      const { which, tool = [], was } = await c.req.parseBody({ all: true });
      const ticked = [tool].flat().filter((name) => typeof name === "string");
      // Whoever takes a tick away picks, though the choice above still says "all": without script it stays there.
      const isPicked = which === "picked" ||
        was !== undefined && was !== JSON.stringify(ticked.toSorted());
      // Of the server's own tools alone: what else a form says is nothing to keep.
      const { tools } = await getConnection(db, user, id, server);
      const picked = tools.map(({ name }) => name).filter((name) => ticked.includes(name));
      await pickTools(db, user, id, server, isPicked ? picked : null);
      return goTo(c, `/agents/${id}/connections/${server}`, "belt-saved");
    })
    .get(TOOL, async (c) => {
      const props = await load(c);
      return page(
        c,
        `${visibleText(c.req.param("name"))}, ${titleOf(props.connection)}`,
        <ToolChangePage {...props} />,
      );
    })
    .post(TOOL, async (c) => {
      const { id, server, name } = c.req.param();
      const form = await formOf(c);
      const props = await load(c);
      const isFragment = c.req.header("hx-request") !== undefined;
      try {
        const change = form.act === "reset" ? {} : changeIn(form, props.fields);
        if (change.name === name) delete change.name;
        await changeTool(db, c.get("user"), id, server, name, change);
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        const again = { ...props, values: form, mistakes: error.fields, mistake: error.message };
        return isFragment ? fragment(c, <ToolChangeForm {...again} />, 422) : page(
          c,
          `${visibleText(c.req.param("name"))}, ${titleOf(props.connection)}`,
          <ToolChangePage {...again} />,
          422,
        );
      }
      if (isFragment) return fragment(c, <ToolChangeForm {...await load(c)} isSaved />);
      return goTo(c, `/agents/${id}/connections/${server}`, "belt-saved");
    });

  async function loadPage(
    c: Context<Env, typeof CONNECTION | `${typeof CONNECTION}/secrets`>,
  ): Promise<ConnectionPageProps> {
    const { id, server: serverId } = c.req.param(), user = c.get("user");
    const connection = await getConnection(db, user, id, serverId);
    const server = await getServer(db, user, serverId);
    return {
      connection,
      server,
      account: await getAuthorization(db, user, { serverId, agentId: id }),
      secrets: await listConnectionSecrets(db, user, id, server),
      hasInstances: instancesOf(server.config) === "agent",
    };
  }

  async function load(c: Context<Env, typeof TOOL>): Promise<ToolChangeProps> {
    const { id, server, name } = c.req.param();
    const connection = await getConnection(db, c.get("user"), id, server);
    const tool = connection.tools.find((tool) => tool.name === name);
    if (!tool) throw new NotFound("The server has no such tool");
    const fields = argumentFields(tool.definition.inputSchema);
    return { connection, tool, fields, values: {}, mistakes: {} };
  }
}

function titleOf({ serverName, agentName }: { serverName: string; agentName: string }): string {
  return `${serverName} for ${agentName}`;
}

/** What a form says is changed. @throws {Invalid} naming the arguments that do not hold */
function changeIn(form: Record<string, string>, fields: ArgumentField[]): ToolChange {
  const wanted = (mode: string) =>
    fields.filter((field) => form[modeField(field)] === mode)
      .map((field) => ({ ...field, required: true }));
  // Both at once, so that all mistakes are told.
  const said = argumentsOf([...wanted("default"), ...wanted("fixed")], form);
  const valuesOf = (mode: string) => {
    const names = wanted(mode).map(({ name }) => name);
    return names.length > 0
      ? Object.fromEntries(names.map((name) => [name, said[name]]))
      : undefined;
  };
  return Object.fromEntries(
    Object.entries({
      name: form.name?.trim() || undefined,
      description: form.description?.trim() || undefined,
      defaults: valuesOf("default"),
      fixed: valuesOf("fixed"),
      perMinute: limitIn(form.perMinute),
      atOnce: limitIn(form.atOnce),
    }).filter(([, value]) => value !== undefined),
  );
}

/** Undefined where nothing was said; NaN, which no limit is, for what is no whole number. */
function limitIn(text = ""): number | undefined {
  const said = text.trim();
  if (said === "") return undefined;
  return /^\d+$/.test(said) ? Number(said) : NaN;
}
