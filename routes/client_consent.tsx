/** The page on which a person lets an MCP client act as one of their agents. */
import { type Context, Hono } from "hono";
import { createAgent, grantClient, listAgents, revokeToken } from "../models/agents.ts";
import {
  type Asked,
  ClientRefused,
  type ConsentAsker,
  type LetInBefore,
  READ_SCOPE,
  SCOPE,
} from "../models/authorization_server.ts";
import { listWorkspaceConnections } from "../models/connections.ts";
import { Invalid } from "../models/errors.ts";
import { SignInRefused } from "../models/identity.ts";
import { managementGrant } from "../models/management_grants.ts";
import {
  BackAsBefore,
  BackToClient,
  ClientConsent,
  ClientRefusedPage,
} from "../views/client_consent.tsx";
import { sourceOf } from "./account.tsx";
import type { Deps, Env } from "./deps.ts";
import { formOf, page } from "./render.tsx";

const TITLE = "Connect a client";

/** The choice that is no agent of theirs yet. */
const NEW = "new";

export function clientConsentRoutes({ db, identity }: Deps): Hono<Env> {
  const { authorizationServer, foreignAuthorizationServer } = identity;
  const server: ConsentAsker | undefined = authorizationServer ?? foreignAuthorizationServer;
  if (!server) return new Hono<Env>();

  return new Hono<Env>()
    .get("/oauth/authorize", (c) =>
      answering(c, async () => {
        const asked = await ask(c, server);
        if (asked instanceof URL) return wrong(c, asked);
        return "letInTo" in asked ? backAsBefore(c, asked) : await consent(c, asked);
      }))
    .post("/oauth/authorize", (c) =>
      answering(c, async () => {
        const asked = await ask(c, server);
        if (asked instanceof URL) return wrong(c, asked);
        if ("letInTo" in asked) return backAsBefore(c, asked);
        const form = await formOf(c);
        if (form.decision !== "allow") {
          const denied = await server.deny(c.req.raw.headers, requestOf(c), sourceOf(c));
          return back(c, asked, denied, false);
        }
        try {
          return back(c, asked, await allow(c, server, asked, form), true);
        } catch (error) {
          if (!(error instanceof Invalid)) throw error;
          return await consent(c, asked, { ...form, mistake: error.message });
        }
      }));

  /** Lets the client in. A grant whose client gets no answer is none. */
  async function allow(
    c: Context<Env>,
    server: ConsentAsker,
    { client }: Asked,
    { agent = NEW, name = "", scope = "" }: Record<string, string>,
  ): Promise<URL> {
    const user = c.get("user");
    const agentId = agent === NEW
      ? await createAgent(db, user, c.get("workspace").id, name)
      : agent;
    const granted = scope === SCOPE ? SCOPE : READ_SCOPE;
    const { id, isNew } = await grantClient(db, user, agentId, client, granted);
    try {
      const grant = { id, scope: granted };
      return await server.allow(c.req.raw.headers, requestOf(c), grant, sourceOf(c));
    } catch (error) {
      if (isNew) await revokeToken(db, user, agentId, id);
      throw error;
    }
  }

  async function consent(
    c: Context<Env>,
    { client, scope }: Asked,
    typed: { agent?: string; name?: string; scope?: string; mistake?: string } = {},
  ) {
    const user = c.get("user"), { id } = c.get("workspace");
    const agents = await listAgents(db, user, id);
    const grants = await Promise.all(agents.map(({ id }) => managementGrant(db, user, id)));
    const props = {
      client,
      asked: scope,
      agents,
      managers: agents.filter((_, index) => grants[index]).map(({ id }) => id),
      connections: await listWorkspaceConnections(db, user, id),
      action: `/oauth/authorize${new URL(c.req.url).search}`,
      workspaceName: c.get("workspace").name,
      hasOthers: c.get("workspaces").length > 1,
      note: foreignAuthorizationServer?.note,
      ...typed,
    };
    return page(c, TITLE, <ClientConsent {...props} />, typed.mistake ? 422 : 200);
  }
}

async function ask(c: Context<Env>, server: ConsentAsker) {
  return await server.ask(c.req.raw.headers, requestOf(c), sourceOf(c));
}

function requestOf(c: Context<Env>): URLSearchParams {
  return new URL(c.req.url).searchParams;
}

/**
 * Sends the browser back by a page and not by a redirect: a form's redirect to another site is refused by
 * the page's own policy (CSP, form-action), and an app's scheme leaves the browser where it is.
 */
function back(c: Context<Env>, { client }: Asked, to: URL, isAllowed: boolean) {
  c.header("refresh", `0; url=${to.href}`);
  return page(c, TITLE, <BackToClient client={client} to={to.href} isAllowed={isAllowed} />);
}

function backAsBefore(c: Context<Env>, { letInTo: { href } }: LetInBefore) {
  c.header("refresh", `0; url=${href}`);
  return page(c, TITLE, <BackAsBefore to={href} />);
}

/**
 * Tells the person, and leaves it to them to go back: anybody can register a client and make a link to a
 * request that does not hold, which must not lead people away (RFC 9700, section 4.11.2).
 */
function wrong(c: Context<Env>, to: URL) {
  const why = to.searchParams.get("error_description") ?? "The request does not hold";
  return page(c, TITLE, <ClientRefusedPage message={why} to={to.href} />, 422);
}

async function answering(c: Context<Env>, answer: () => Promise<Response>): Promise<Response> {
  try {
    return await answer();
  } catch (error) {
    if (error instanceof ClientRefused) {
      return page(c, TITLE, <ClientRefusedPage message={error.message} />, 422);
    }
    if (!(error instanceof SignInRefused) || !error.retryAfterS) throw error;
    c.header("retry-after", String(error.retryAfterS));
    return page(c, TITLE, <ClientRefusedPage message={error.message} />, 429);
  }
}
