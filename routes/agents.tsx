import { type Context, Hono } from "hono";
import { z } from "zod";
import {
  connectServer,
  createAgent,
  createToken,
  disconnectServer,
  getAgent,
  listAgents,
  removeAgent,
  revokeToken,
  setAgentOptions,
} from "../models/agents.ts";
import { clientSignIn } from "../models/authorization_server.ts";
import { SEARCH_TOOLS } from "../mcp/search.ts";
import { listCalls } from "../models/calls.ts";
import { listConnections } from "../models/connections.ts";
import { Invalid } from "../models/errors.ts";
import { errorFields } from "../models/log.ts";
import { grantManagement, managementGrant } from "../models/management_grants.ts";
import { listServers } from "../models/servers.ts";
import { AgentCalls, AgentPage, type AgentProps, Agents, AgentToolbelt } from "../views/agents.tsx";
import { tokensOf } from "../views/token_cost.ts";
import type { Deps, Env } from "./deps.ts";
import { live } from "./live.ts";
import { formOf, goTo, page } from "./render.tsx";

const TokenForm = z.object({
  name: z.string(),
  expiresInDays: z.enum(["30", "90", "365", "never"]).default("90"),
});

const Asks = z.enum(["never", "writes", "always"]);

/** What find_tools and call_tool cost a model. */
const SEARCH_TOKENS = SEARCH_TOOLS.reduce((sum, tool) => sum + tokensOf(tool), 0);

/** Whose changes may be ones of the toolbelt. */
const TOOLBELT_TABLES = ["tools", "connections", "agents", "servers"];

/** Agents: their toolbelts, tokens and calls. */
export function agentRoutes(deps: Deps) {
  const { db } = deps;

  return new Hono<Env>()
    .get(
      "/agents",
      async (c) =>
        page(
          c,
          "Agents",
          <Agents agents={await listAgents(db, c.get("user"), c.get("workspace").id)} />,
        ),
    )
    .post("/agents", async (c) => {
      const { name = "" } = await formOf(c);
      try {
        return goTo(
          c,
          `/agents/${await createAgent(db, c.get("user"), c.get("workspace").id, name)}`,
        );
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        const agents = await listAgents(db, c.get("user"), c.get("workspace").id);
        return page(
          c,
          "Agents",
          <Agents agents={agents} mistakes={error.fields} name={name} />,
          422,
        );
      }
    })
    .get("/agents/:id", (c) => agentPage(c, c.req.param("id")))
    .get("/agents/:id/live", (c) => {
      const agentId = c.req.param("id"), user = c.get("user");
      return live(
        c,
        deps,
        ({ table, agent }) => agent === agentId || TOOLBELT_TABLES.includes(table),
        async () => [
          {
            target: "#toolbelt",
            content: <AgentToolbelt {...await toolbelt(c, agentId)} />,
          },
          {
            target: "#calls",
            content: (
              <AgentCalls agentId={agentId} calls={await listCalls(db, user, { agentId })} />
            ),
          },
        ],
      );
    })
    .post("/agents/:id/options", async (c) => {
      const { presents, deniesByDefault } = await formOf(c);
      await setAgentOptions(db, c.get("user"), c.req.param("id"), {
        presents: presents === "true" ? "search" : "tools",
        deniesByDefault: deniesByDefault === "true",
      });
      return goTo(c, `/agents/${c.req.param("id")}`, "belt-saved");
    })
    .post("/agents/:id/conversing", async (c) => {
      const { instructions = "", asks } = await formOf(c);
      const parsed = Asks.safeParse(asks);
      if (!parsed.success) throw new Invalid("Say which calls it asks you for");
      const id = c.req.param("id");
      try {
        await setAgentOptions(db, c.get("user"), id, { instructions, asks: parsed.data });
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return await agentPage(c, id, { instructions, asks: parsed.data, mistakes: error.fields });
      }
      return goTo(c, `/agents/${id}`, "conversing-saved");
    })
    .post("/agents/:id/management", async (c) => {
      const { read, ...changes } = await formOf(c);
      const granted = Object.keys(changes).filter((name) => changes[name] !== "no");
      await grantManagement(db, c.get("user"), c.req.param("id"), {
        scopes: [...read === "true" ? ["read"] : [], ...granted],
        asks: granted.filter((name) => changes[name] !== "allowed"),
      });
      return goTo(c, `/agents/${c.req.param("id")}`, "belt-saved");
    })
    .post("/agents/:id/remove", async (c) => {
      await removeAgent(db, c.get("user"), c.req.param("id"));
      await forgetClients(c);
      return goTo(c, "/agents", "agent-removed");
    })
    .post("/agents/:id/tokens", async (c) => {
      const id = c.req.param("id");
      const parsed = TokenForm.safeParse(await formOf(c));
      if (!parsed.success) throw new Invalid("Give the token a name and an expiry");
      const { name, expiresInDays } = parsed.data;
      try {
        const { token } = await createToken(db, c.get("user"), id, {
          name,
          expiresInDays: expiresInDays === "never" ? null : Number(expiresInDays),
        });
        // In the answer to the form itself: a token never stands in an address.
        return await agentPage(c, id, { newToken: token });
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return await agentPage(c, id, { token: parsed.data, mistakes: error.fields });
      }
    })
    .post("/agents/:id/tokens/:token/revoke", async (c) => {
      await revokeToken(db, c.get("user"), c.req.param("id"), c.req.param("token"));
      await forgetClients(c);
      return goTo(c, `/agents/${c.req.param("id")}`, "revoked");
    })
    .post("/agents/:id/connections", async (c) => {
      const { serverId = "" } = await formOf(c);
      await connectServer(db, c.get("user"), c.req.param("id"), serverId);
      return goTo(c, `/agents/${c.req.param("id")}`, "connected");
    })
    .post("/agents/:id/connections/:server/remove", async (c) => {
      await disconnectServer(db, c.get("user"), c.req.param("id"), c.req.param("server"));
      return goTo(c, `/agents/${c.req.param("id")}`, "disconnected");
    });

  /** Another authorization server keeps clients' sign-ins; here they open nothing whether it forgets them or not. */
  async function forgetClients(c: Context<Env>) {
    try {
      await deps.identity.foreignAuthorizationServer?.forgetEnded(c.req.raw.headers);
    } catch (error) {
      deps.log.warn("A client's sign-in could not be ended where it was made", errorFields(error));
    }
  }

  async function toolbelt(c: Context<Env>, id: string) {
    const user = c.get("user");
    const agent = await getAgent(db, user, id);
    return {
      agent,
      connections: await listConnections(db, user, id),
      servers: await listServers(db, user, agent.workspaceId),
      searchTokens: SEARCH_TOKENS,
    };
  }

  async function agentPage(
    c: Context<Env>,
    id: string,
    { newToken = null, mistakes, ...typed }:
      & { newToken?: string | null; mistakes?: Record<string, string> }
      & Pick<AgentProps, "instructions" | "asks" | "token"> = {},
  ) {
    const user = c.get("user");
    const { agent, ...belt } = await toolbelt(c, id);
    const props = {
      agent,
      ...belt,
      grant: await managementGrant(db, user, id),
      mayGrant: ["admin", "owner"].includes(c.get("workspace").role),
      calls: await listCalls(db, user, { agentId: id }),
      bridgeUrl: `${deps.baseUrl.href.replace(/\/$/, "")}/mcp`,
      clientsSignIn: await clientSignIn(deps.identity, deps.baseUrl) !== null,
      newToken,
      ...typed,
      mistakes,
    };
    return page(c, agent.name, <AgentPage {...props} />, mistakes ? 422 : 200);
  }
}
