/**
 * The authorization server through better-auth's OAuth provider, for local_identity.ts. better-auth checks
 * requests, keeps codes and rotates tokens; which clients there are, what they may be for and what a
 * person is asked is Mooring's.
 */
import { createAuthEndpoint } from "better-auth/api";
import { AsyncLocalStorage } from "node:async_hooks";
import type { BetterAuthPlugin } from "better-auth";
import { v7 } from "uuid";
import { z } from "zod";
import {
  ACCESS_TOKEN_PREFIX,
  type Asked,
  type AuthorizationServer,
  ClientRefused,
  READ_SCOPE,
  REFRESH_TOKEN_PREFIX,
  resourceOf,
  SCOPE,
  SCOPES,
  scopesIn,
  siteAddress,
  type ToolScope,
} from "./authorization_server.ts";
import type { Database } from "./db.ts";
import type { SignInSource } from "./identity.ts";
import { described, findClient, registerClient } from "./oauth_clients.ts";
import type { Outside } from "./outside.ts";
import { newToken, tokenHash } from "./tokens.ts";

/** Which grant a consent is given under: better-auth asks for it without saying of which request. */
const granting = new AsyncLocalStorage<string>();

/** Pages that better-auth would send a browser to; here they are where it stands. */
const LOGIN = "/login", CONSENT = "/consent";

const A_DAY_S = 24 * 60 * 60;

/** How long a renewal waits, time and again, for what another of the same token is answered. */
const WAITS_FOR_ANOTHER_MS = [0, 50, 150, 400];

export async function authorizationPlugins(db: Database): Promise<BetterAuthPlugin[]> {
  const { oauthProvider } = await import("@better-auth/oauth-provider");
  const provider = oauthProvider({
    loginPage: LOGIN,
    consentPage: CONSENT,
    scopes: SCOPES,
    grantTypes: ["authorization_code", "refresh_token"],
    // Each request of a client looks its token up anyway, to see a revocation: a signature adds nothing.
    disableJwtPlugin: true,
    accessTokenExpiresIn: 60 * 60,
    refreshTokenExpiresIn: 60 * A_DAY_S,
    codeExpiresIn: 60,
    // Two windows of one client renew at once, and answers are lost: not each replay is a thief's.
    refreshTokenReuseInterval: 10,
    // What a token is for is asked of each request; that a client may name it, of nobody.
    enforcePerClientResources: false,
    storeTokens: { hash: (token) => tokenHash(token) },
    generateOpaqueAccessToken: () => withoutPrefix(newToken("moa")),
    generateRefreshToken: () => withoutPrefix(newToken("mor")),
    prefix: { opaqueAccessToken: ACCESS_TOKEN_PREFIX, refreshToken: REFRESH_TOKEN_PREFIX },
    postLogin: {
      page: LOGIN,
      shouldRedirect: () => false,
      consentReferenceId: () => granting.getStore(),
    },
    // Many people's clients share an address: an office's, or that of a chat's own servers.
    rateLimit: { token: { window: 60, max: 300 }, authorize: { window: 60, max: 120 } },
    schema: {
      oauthClient: { modelName: "auth.oauth_clients" },
      oauthResource: { modelName: "auth.oauth_resources" },
      oauthClientResource: { modelName: "auth.oauth_client_resources" },
      oauthRefreshToken: { modelName: "auth.oauth_refresh_tokens" },
      oauthAccessToken: { modelName: "auth.oauth_access_tokens" },
      oauthConsent: { modelName: "auth.oauth_consents" },
      oauthClientAssertion: { modelName: "auth.oauth_client_assertions" },
    },
  });
  // Its own registration refuses apps' schemes without a dot (Cursor's), and this computer to clients
  // that do not call themselves native (all before MCP 2026-07-28). In better-auth for its counting.
  const registration = {
    id: "client-registration",
    endpoints: {
      registerOAuthClient: createAuthEndpoint(REGISTER, {
        method: "POST",
        body: z.unknown(),
      }, async (c) => {
        try {
          return c.json({ registered: await registerClient(db, c.body) });
        } catch (error) {
          if (!(error instanceof ClientRefused)) throw error;
          return c.json({ refused: { message: error.message, code: error.code } });
        }
      }),
    },
    rateLimit: [{ pathMatcher: (path: string) => path === REGISTER, window: 60, max: 20 }],
  } satisfies BetterAuthPlugin;
  return [provider as BetterAuthPlugin, registration];
}

const REGISTER = "/clients/register";

/** What of local_identity.ts this is made with. */
interface Parts {
  db: Database;
  baseUrl: URL;
  outside: Outside | undefined;
  /** Asks better-auth; tries are counted. With `body` by POST, and a form as a form. */
  counted(
    path: string,
    body: object | null,
    from: SignInSource,
    cookie?: string,
  ): Promise<Response>;
}

export function localAuthorizationServer(parts: Parts): AuthorizationServer {
  const { db, baseUrl, outside, counted } = parts;
  const issuer = siteAddress(baseUrl);

  return {
    knowsMetadataAddresses: outside !== undefined,

    async register(metadata, from) {
      const isObject = typeof metadata === "object" && metadata !== null;
      const answer = await (await counted(REGISTER, isObject ? metadata : {}, from)).json();
      if (answer.refused) throw new ClientRefused(answer.refused.message, answer.refused.code);
      return answer.registered;
    },

    async ask(headers, request, from) {
      const { asked, wrong } = await begin(headers, request, from);
      return wrong ? outcome(wrong) : asked;
    },

    allow: (headers, request, { id, scope }, from) =>
      granting.run(id, () => decide(headers, request, scope, from)),

    deny: (headers, request, from) => decide(headers, request, null, from),

    async token(form, from) {
      const known = only(form, TOKEN_FIELDS);
      for (const named of known.getAll("resource")) {
        const resource = resourceOf(baseUrl, named);
        if (!resource) return refused("invalid_target", "That is no address of this bridge");
        known.set("resource", resource);
      }
      const isRenewal = known.get("grant_type") === "refresh_token";
      const renewed = known.get("refresh_token") ?? "";
      // better-auth calls it an invalid_token, which is no error of this endpoint (RFC 6749, section 5.2).
      if (isRenewal && renewed !== "" && !renewed.startsWith(REFRESH_TOKEN_PREFIX)) {
        return refused("invalid_grant", "That is no refresh token of Mooring's");
      }
      if (await asksForMore(known)) {
        return refused(
          "server_error",
          `The client was told to ask its person for ${SCOPE}, which renewing gives nobody`,
        );
      }
      let answer = await counted("/oauth2/token", known, from);
      for (const waitMs of WAITS_FOR_ANOTHER_MS) {
        if (answer.ok || !isRenewal || !await isJustRotated(known)) break;
        await answer.body?.cancel();
        await new Promise((resolve) => setTimeout(resolve, waitMs));
        answer = await counted("/oauth2/token", known, from);
      }
      const body = await answer.json();
      if (answer.ok) await forgetExpired(body.access_token);
      if (answer.ok && isRenewal && known.has("scope")) {
        await keepScopes(renewed, body.refresh_token);
      }
      return Response.json(body, { status: answer.status, headers: NO_STORE });
    },

    async revoke(clientId, token) {
      if (!/^mo[ar]_/.test(token)) return;
      const hash = await tokenHash(withoutPrefix(token));
      await db.asApp`select mooring.revoke_client_grant(${hash}, ${clientId})`;
    },
  };

  /**
   * Has better-auth look at a request: `wrong` is where it would say what does not hold; where all does it
   * is null, and better-auth takes a consent with `signedQuery`.
   */
  async function begin(headers: Headers, request: URLSearchParams, from: SignInSource) {
    const [clientId, redirectUri] = [request.get("client_id"), request.get("redirect_uri")];
    if (!clientId || !redirectUri) {
      throw new ClientRefused("The request names no client, or no address to answer at");
    }
    const client = await findClient(db, outside, clientId);
    const known = only(request, AUTHORIZE_FIELDS);
    // As far as its person may let it go, whatever it asks: what is granted is said with the consent. A client
    // that is not told to ask for offline_access would have its person sign in each hour.
    known.set("scope", SCOPES.join(" "));
    // The person chooses an agent each time, so what they consented to before answers nothing.
    known.set("prompt", "consent");
    const named = request.getAll("resource").filter(Boolean);
    // Clients before 2025-06-18 name none: theirs is the bridge.
    const resource = named.length === 0 ? issuer : resourceOf(baseUrl, named[0]);
    if (resource) {
      known.set("resource", resource);
      await db.asApp`insert into auth.oauth_resources (id, identifier, name)
        values (${v7()}, ${resource}, 'Mooring') on conflict do nothing`;
    }
    const path = `/oauth2/authorize?${known}`;
    const response = await counted(path, null, from, headers.get("cookie") ?? "");
    const text = response.headers.get("location");
    if (!text) {
      const { error_description } = await response.json();
      throw new ClientRefused(error_description ?? "The client's request does not hold");
    }
    await response.body?.cancel();
    const location = new URL(text, baseUrl.origin);
    const isHere = location.origin === baseUrl.origin;
    if (isHere && location.pathname !== CONSENT) throw new ClientRefused(refusalOf(location));
    // Not before better-auth knows the address as the client's own.
    const wrong = !isHere
      ? location
      : resource
      ? null
      : wrongTarget(redirectUri, known.get("state"));
    const asked: Asked = {
      client: described(clientId, client, redirectUri),
      resource: resource ?? issuer,
      scope: askedScope(request.get("scope") ?? ""),
    };
    return { asked, wrong, signedQuery: location.search.slice(1) };
  }

  /** RFC 8707, section 2. */
  function wrongTarget(redirectUri: string, state: string | null): URL {
    const location = new URL(redirectUri);
    location.searchParams.set("error", "invalid_target");
    location.searchParams.set("error_description", "That is no address of this bridge");
    if (state !== null) location.searchParams.set("state", state);
    location.searchParams.set("iss", issuer);
    return location;
  }

  async function decide(
    headers: Headers,
    request: URLSearchParams,
    granted: ToolScope | null,
    from: SignInSource,
  ): Promise<URL> {
    const { wrong, signedQuery } = await begin(headers, request, from);
    if (wrong) return outcome(wrong);
    const scope = granted && [...scopesIn(granted), "offline_access"].join(" ");
    const body = { accept: scope !== null, oauth_query: signedQuery, ...(scope && { scope }) };
    const response = await counted("/oauth2/consent", body, from, headers.get("cookie") ?? "");
    const { url, error_description } = await response.json();
    if (!url) throw new ClientRefused(error_description ?? "That was refused");
    return outcome(new URL(url, baseUrl.origin));
  }

  /** An answer to the client, who knows this server by the app's address (RFC 9207). */
  function outcome(location: URL): URL {
    if (location.searchParams.has("iss")) location.searchParams.set("iss", issuer);
    // Where better-auth answers who asks for a token in place of a code.
    const fragment = new URLSearchParams(location.hash.slice(1));
    if (fragment.has("iss")) {
      fragment.set("iss", issuer);
      location.hash = String(fragment);
    }
    return location;
  }

  /**
   * Whether a client renews its token since a call was beyond its scope. The SDKs 1.x do so, are given what
   * they had, and give up; told that it failed they ask their person, which is what is wanted of them.
   */
  async function asksForMore(form: URLSearchParams): Promise<boolean> {
    const token = form.get("refresh_token") ?? "";
    if (form.get("grant_type") !== "refresh_token" || !token.startsWith(REFRESH_TOKEN_PREFIX)) {
      return false;
    }
    const [{ wants }] = await db.asApp`
      select mooring.client_wants_more(${await tokenHash(withoutPrefix(token))}) as wants`;
    return wants;
  }

  /**
   * Whether another window of the client was given a new token for the same one just now: what it was answered
   * is this one's answer too, and is kept in a moment. better-auth refuses what comes before that.
   */
  async function isJustRotated(form: URLSearchParams): Promise<boolean> {
    const hash = await tokenHash(withoutPrefix(form.get("refresh_token") ?? ""));
    const [{ found }] = await db.asApp<{ found: boolean }[]>`
      select exists (select from auth.oauth_refresh_tokens
        where token = ${hash} and "clientId" = ${form.get("client_id") ?? ""}
          and "rotationReplayExpiresAt" > now()) as found`;
    return found;
  }

  /**
   * A refresh token is good for as much as the one that it follows, also where less was asked for this time (RFC
   * 6749, section 6): else a client that narrows one access token could never renew again.
   */
  async function keepScopes(before: string, after: string) {
    const [old, next] = await Promise.all(
      [before, after].map((token) => tokenHash(withoutPrefix(token))),
    );
    await db.asApp`
      update auth.oauth_refresh_tokens n set scopes = o.scopes from auth.oauth_refresh_tokens o
      where o.token = ${old} and n.token = ${next}`;
  }

  /** Of the grant that was just used: its tokens that are over. */
  async function forgetExpired(token: string) {
    const hash = await tokenHash(withoutPrefix(token));
    await db.asApp`
      with used as (select "referenceId" as id from auth.oauth_access_tokens where token = ${hash}),
      gone as (
        delete from auth.oauth_refresh_tokens
        where "referenceId" in (select id from used) and "expiresAt" < now())
      delete from auth.oauth_access_tokens
      where "referenceId" in (select id from used) and "expiresAt" < now()`;
  }
}

const AUTHORIZE_FIELDS = [
  "response_type",
  "client_id",
  "redirect_uri",
  "state",
  "code_challenge",
  "code_challenge_method",
];
const TOKEN_FIELDS = [
  "grant_type",
  "client_id",
  "code",
  "redirect_uri",
  "code_verifier",
  "refresh_token",
  "scope",
  "resource",
];
const NO_STORE = { "cache-control": "no-store" };

/** A parameter without a value is none (RFC 6749, sections 3.1 and 3.2). */
function only(given: URLSearchParams, names: string[]): URLSearchParams {
  return new URLSearchParams(
    [...given].filter(([name, value]) => names.includes(name) && value !== ""),
  );
}

/** A client that names none knows of none, and so of no step to more. */
function askedScope(scopes: string): ToolScope {
  const wanted = scopes.split(" ");
  return wanted.includes(READ_SCOPE) && !wanted.includes(SCOPE) ? READ_SCOPE : SCOPE;
}

function withoutPrefix(token: string): string {
  return token.slice(4);
}

function refused(error: string, error_description: string): Response {
  return Response.json({ error, error_description }, { status: 400, headers: NO_STORE });
}

/** Why better-auth sends a browser nowhere but to a page of errors, in Mooring's words. */
function refusalOf({ searchParams }: URL): string {
  const code = searchParams.get("error") ?? "";
  return REFUSALS[code] ?? "The client's request does not hold";
}

const REFUSALS: Record<string, string> = {
  invalid_redirect: "The client wants to be answered at an address that is not its own",
  unsupported_response_type: "The client asks for something other than a code",
};
