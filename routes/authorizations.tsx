import { type Context, Hono } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import { getAgent } from "../models/agents.ts";
import { type AccountOf, beginSignIn, disconnect, finishSignIn } from "../models/authorizations.ts";
import { Invalid } from "../models/errors.ts";
import { clientMetadata, siteOf } from "../models/oauth.ts";
import { getServer, instancesOf } from "../models/servers.ts";
import { ClientNeeded, SignInFailed } from "../models/sign_in_failed.ts";
import {
  type AccountProps,
  ClientPage,
  SignInFailedPage,
  SignInPage,
} from "../views/authorization.tsx";
import type { Deps, Env } from "./deps.ts";
import { formOf, goTo, page } from "./render.tsx";

/** What Mooring says of itself to authorization servers: for everyone. */
export function clientMetadataRoutes({ baseUrl }: Deps) {
  return new Hono<Env>().get("/oauth/client.json", (c) => {
    c.header("cache-control", "public, max-age=3600");
    return c.json(clientMetadata(siteOf(baseUrl)));
  });
}

const OF_AGENT = "/agents/:agent/connections/:server/account";

/** Accounts at remote servers, of servers and of single agents: connect, come back from signing in, disconnect. */
export function authorizationRoutes(deps: Deps) {
  return new Hono<Env>()
    .get("/servers/:server/account", async (c) => await clientPage(c, accountIn(c)))
    .get(OF_AGENT, async (c) => await clientPage(c, accountIn(c)))
    .post(
      "/servers/:server/account",
      async (c) => await signInPage(c, deps, accountIn(c), await formOf(c)),
    )
    .post(OF_AGENT, async (c) => await signInPage(c, deps, accountIn(c), await formOf(c)))
    .post("/servers/:server/account/disconnect", async (c) => await forget(c, accountIn(c)))
    .post(`${OF_AGENT}/disconnect`, async (c) => await forget(c, accountIn(c)))
    .get("/oauth/callback", async (c) => {
      const returned = new URL(c.req.url).searchParams;
      const user = c.get("user");
      const token = getCookie(c, cookieName(deps)) ?? "";
      const { account, failure } = await finishSignIn(deps, user, returned, token);
      if (!failure) return goTo(c, pageOf(account), "account-connected");
      const props = { ...await whose(c, deps, account), message: failure.message };
      return page(c, titleOf(props), <SignInFailedPage {...props} />, 422);
    });

  async function clientPage(c: Context<Env>, account: AccountOf) {
    const { redirectUri } = siteOf(deps.baseUrl);
    const props = { ...await whose(c, deps, account), redirectUri, values: {} };
    return page(c, titleOf(props), <ClientPage {...props} />);
  }

  async function forget(c: Context<Env>, account: AccountOf) {
    await disconnect(deps, c.get("user"), account);
    return goTo(c, pageOf(account), "account-disconnected");
  }
}

function accountIn(c: Context<Env>): AccountOf {
  return { serverId: c.req.param("server")!, agentId: c.req.param("agent") ?? null };
}

/** Where an account stands. */
function pageOf({ serverId, agentId }: AccountOf): string {
  return agentId === null ? `/servers/${serverId}` : `/agents/${agentId}/connections/${serverId}`;
}

async function whose(
  c: Context<Env>,
  { db }: Deps,
  { serverId, agentId }: AccountOf,
): Promise<AccountProps> {
  const user = c.get("user");
  const server = await getServer(db, user, serverId);
  const agent = agentId === null ? null : await getAgent(db, user, agentId);
  return { server, agent, hasInstances: instancesOf(server.config) === "agent" };
}

/**
 * The page from which a person goes to sign in. A link and no redirect: the person sees where it leads,
 * and a form's redirect to another site is refused by the page's own policy (CSP, form-action).
 */
export async function signInPage(
  c: Context<Env>,
  deps: Deps,
  account: AccountOf,
  form: Record<string, string>,
) {
  const user = c.get("user");
  try {
    const { url, scope, browserToken } = await beginSignIn(deps, user, account, {
      form,
      baseUrl: deps.baseUrl,
      browserToken: getCookie(c, cookieName(deps)),
    });
    // Lax: it has to come with the navigation back from the authorization server.
    setCookie(c, cookieName(deps), browserToken, {
      httpOnly: true,
      secure: deps.baseUrl.protocol === "https:",
      sameSite: "Lax",
      path: "/",
      maxAge: 600,
    });
    const of = await whose(c, deps, account);
    return page(c, titleOf(of), <SignInPage {...of} url={url.href} scope={scope} />);
  } catch (error) {
    if (!(error instanceof SignInFailed || error instanceof Invalid)) throw error;
    const of = await whose(c, deps, account);
    const { message } = error;
    if (!(error instanceof ClientNeeded)) {
      const mayRetry = error instanceof SignInFailed;
      return page(c, titleOf(of), <SignInFailedPage {...{ ...of, message, mayRetry }} />, 422);
    }
    const { redirectUri } = siteOf(deps.baseUrl);
    const props = { ...of, message, redirectUri, values: form };
    return page(c, titleOf(of), <ClientPage {...props} />, 422);
  }
}

/** Binds a sign-in that is under way to the browser that began it. */
function cookieName({ baseUrl }: Deps): string {
  return baseUrl.protocol === "https:" ? "__Host-mooring_sign_in" : "mooring_sign_in";
}

function titleOf({ agent }: AccountProps): string {
  return agent ? `Connect an account for ${agent.name}` : "Connect an account";
}
