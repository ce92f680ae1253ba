import { type Context, Hono } from "hono";
import { getCookie, setCookie } from "hono/cookie";
import { beginSignIn, disconnect, finishSignIn } from "../models/authorizations.ts";
import { Invalid } from "../models/errors.ts";
import { clientMetadata, siteOf } from "../models/oauth.ts";
import { getServer } from "../models/servers.ts";
import { ClientNeeded, SignInFailed } from "../models/sign_in_failed.ts";
import { ClientPage, SignInFailedPage, SignInPage } from "../views/authorization.tsx";
import type { Deps, Env } from "./deps.ts";
import { formOf, goTo, page } from "./render.tsx";

/** What Mooring says of itself to authorization servers: for everyone. */
export function clientMetadataRoutes({ baseUrl }: Deps) {
  return new Hono<Env>().get("/oauth/client.json", (c) => {
    c.header("cache-control", "public, max-age=3600");
    return c.json(clientMetadata(siteOf(baseUrl)));
  });
}

/** Accounts at remote servers: connect, come back from signing in, disconnect. */
export function authorizationRoutes(deps: Deps) {
  return new Hono<Env>()
    .get("/servers/:id/account", async (c) => {
      const server = await getServer(deps.db, c.get("user"), c.req.param("id"));
      const { redirectUri } = siteOf(deps.baseUrl);
      return page(c, TITLE, <ClientPage server={server} redirectUri={redirectUri} values={{}} />);
    })
    .post(
      "/servers/:id/account",
      async (c) => await signInPage(c, deps, c.req.param("id"), await formOf(c)),
    )
    .post("/servers/:id/account/disconnect", async (c) => {
      await disconnect(deps, c.get("user"), c.req.param("id"));
      return goTo(c, `/servers/${c.req.param("id")}`, "account-disconnected");
    })
    .get("/oauth/callback", async (c) => {
      const returned = new URL(c.req.url).searchParams;
      const user = c.get("user");
      const token = getCookie(c, cookieName(deps)) ?? "";
      const { serverId, failure } = await finishSignIn(deps, user, returned, token);
      if (!failure) return goTo(c, `/servers/${serverId}`, "account-connected");
      const server = await getServer(deps.db, user, serverId);
      return page(c, TITLE, <SignInFailedPage server={server} message={failure.message} />, 422);
    });
}

/**
 * The page from which a person goes to sign in. A link and no redirect: the person sees where it leads,
 * and a form's redirect to another site is refused by the page's own policy (CSP, form-action).
 */
export async function signInPage(
  c: Context<Env>,
  deps: Deps,
  serverId: string,
  form: Record<string, string>,
) {
  const user = c.get("user");
  try {
    const { url, scope, browserToken } = await beginSignIn(deps, user, serverId, {
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
    const server = await getServer(deps.db, user, serverId);
    return page(c, TITLE, <SignInPage server={server} url={url.href} scope={scope} />);
  } catch (error) {
    if (!(error instanceof SignInFailed || error instanceof Invalid)) throw error;
    const server = await getServer(deps.db, user, serverId);
    const { message } = error;
    if (!(error instanceof ClientNeeded)) {
      return page(c, TITLE, <SignInFailedPage server={server} message={message} />, 422);
    }
    const { redirectUri } = siteOf(deps.baseUrl);
    const props = { server, message, redirectUri, values: form };
    return page(c, TITLE, <ClientPage {...props} />, 422);
  }
}

/** Binds a sign-in that is under way to the browser that began it. */
function cookieName({ baseUrl }: Deps): string {
  return baseUrl.protocol === "https:" ? "__Host-mooring_sign_in" : "mooring_sign_in";
}

const TITLE = "Connect an account";
