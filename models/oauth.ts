/**
 * OAuth 2.1 at a remote MCP server, as its client (2026-07-28, basic/authorization): what Mooring is
 * called there, and the tokens that come of a sign-in. The protocol itself is oauth4webapi's; here is
 * what MCP makes of it. Nothing is kept here.
 */
import * as oauth from "oauth4webapi";
import { z } from "zod";
import { Provider, scopeOf } from "./oauth_provider.ts";
import type { Outside } from "./outside.ts";
import { ClientNeeded, failed, SignInFailed } from "./sign_in_failed.ts";

/** What Mooring is called at one authorization server; never shown to another one. */
const Client = z.object({
  clientId: z.string().min(1).max(2000),
  clientSecret: z.string().max(2000).nullable(),
  redirectUri: z.string(),
  /** `typed`: a person gave it; `registered`: RFC 7591; `document`: the id is our metadata's URL. */
  origin: z.enum(["typed", "registered", "document"]),
});
export type Client = z.infer<typeof Client>;

/** What is kept sealed of a sign-in that is under way. */
export const Attempt = z.object({
  provider: Provider,
  client: Client,
  scope: z.string(),
  verifier: z.string(),
});
export type Attempt = z.infer<typeof Attempt>;

/** What is kept sealed of one that succeeded. */
export const Grant = z.object({
  provider: Provider,
  client: Client,
  accessToken: z.string(),
  refreshToken: z.string().nullable(),
});
export type Grant = z.infer<typeof Grant>;

/** A grant's tokens as they were given just now. */
export interface Tokens {
  accessToken: string;
  /** Null: none was given. */
  refreshToken: string | null;
  /** Null: it was not said. */
  expiresInS: number | null;
  /** What was granted, if that is another scope than was asked for. */
  scope: string | null;
}

/** A token as header lines can carry it (RFC 6750, section 2.1, and what servers really issue). */
const TOKEN = /^[\x21-\x7e]{1,8192}$/;

// ── Registration ──────────────────────────────────────────────────────────────────────────────────

/** Mooring as a client, by where it is reached. */
export interface Site {
  redirectUri: string;
  /** Where its client metadata document is (draft-ietf-oauth-client-id-metadata-document). */
  documentUrl: string;
}

/** @throws {SignInFailed} where authorization servers could not send people back to */
export function siteOf(baseUrl: URL): Site {
  const base = baseUrl.href.replace(/\/+$/, "");
  if (baseUrl.protocol !== "https:" && !isLoopback(baseUrl)) {
    throw new SignInFailed(
      "Accounts are connected over https alone (or on this machine): let Mooring be reached by https, and set BASE_URL",
    );
  }
  return { redirectUri: `${base}/oauth/callback`, documentUrl: `${base}/oauth/client.json` };
}

/** The client metadata document, which is what is registered too. */
export function clientMetadata({ redirectUri, documentUrl }: Site) {
  return {
    client_id: documentUrl,
    client_name: "Mooring",
    client_uri: new URL(redirectUri).origin,
    redirect_uris: [redirectUri],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
    application_type: isLoopback(new URL(redirectUri)) ? "native" : "web",
  };
}

/**
 * What Mooring is called at an authorization server, by the first that applies: what a person typed;
 * what it was called there before; its metadata document; a registration.
 * @throws {ClientNeeded} none does
 */
export async function clientAt(
  outside: Outside,
  { metadata }: Provider,
  site: Site,
  { typed, before }: { typed: { id: string; secret: string } | null; before: Client | null },
): Promise<Client> {
  const { redirectUri } = site;
  if (typed) {
    return { clientId: typed.id, clientSecret: typed.secret || null, redirectUri, origin: "typed" };
  }
  if (before?.redirectUri === redirectUri) return before;
  if (metadata.client_id_metadata_document_supported && redirectUri.startsWith("https:")) {
    return { clientId: site.documentUrl, clientSecret: null, redirectUri, origin: "document" };
  }
  const { host } = new URL(metadata.issuer);
  if (!metadata.registration_endpoint) {
    throw new ClientNeeded(
      `${host} takes no clients by itself: register Mooring there, with ${redirectUri} as its redirect URI, ` +
        "and give the client's id",
    );
  }
  const { client_id: _, ...asked } = clientMetadata(site);
  try {
    const response = await oauth.dynamicClientRegistrationRequest(
      metadata,
      asked,
      through(outside),
    );
    const { client_id, client_secret } = await oauth.processDynamicClientRegistrationResponse(
      await corrected(response, withExpiry, 201),
    );
    return Client.parse({
      clientId: client_id,
      clientSecret: client_secret ?? null,
      redirectUri,
      origin: "registered",
    });
  } catch (error) {
    throw new ClientNeeded(
      `${
        failed(`${host}, asked to register Mooring,`, error).message
      }. You can register it there ` +
        `yourself, with ${redirectUri} as its redirect URI, and give the client's id`,
    );
  }
}

/** Many say a secret and not when it expires, which RFC 7591 (section 3.2.1) wants of them: never, then. */
function withExpiry(said: Said): Said {
  return said.client_secret ? { client_secret_expires_at: 0, ...said } : said;
}

function isLoopback({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
}

// ── Signing in ────────────────────────────────────────────────────────────────────────────────────

/** The page at which a person signs in, and what must come back from it. */
export async function authorizationUrl(
  provider: Provider,
  client: Client,
  scope: string,
): Promise<{ url: URL; state: string; attempt: Attempt }> {
  const { metadata, resource } = provider;
  const verifier = oauth.generateRandomCodeVerifier(), state = oauth.generateRandomState();
  const url = new URL(metadata.authorization_endpoint);
  const asked = withRefresh(scope, metadata.scopes_supported);
  const parameters = {
    response_type: "code",
    client_id: client.clientId,
    redirect_uri: client.redirectUri,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    resource,
    ...(asked && { scope: asked }),
    // Without it OpenID Connect gives no refresh token (Core 1.0, section 11).
    ...(asked.split(" ").includes("offline_access") && { prompt: "consent" }),
  };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  return { url, state, attempt: { provider, client, scope: asked, verifier } };
}

/** 2026-07-28, authorization#refresh-tokens. */
function withRefresh(scope: string, supported: string[] = []): string {
  const scopes = new Set(scope.split(" ").filter(Boolean));
  if (supported.includes("offline_access")) scopes.add("offline_access");
  return [...scopes].join(" ");
}

/**
 * Trades what came back to the callback for tokens. The issuer is checked first (RFC 9207): an answer
 * of another server's is neither used nor shown.
 * @throws {SignInFailed}
 */
export async function tokensFor(
  outside: Outside,
  { provider, client, verifier }: Attempt,
  returned: URLSearchParams,
  state: string,
): Promise<Tokens> {
  const { metadata, resource } = provider;
  const { host } = new URL(metadata.issuer);
  const who = { client_id: client.clientId };
  try {
    const parameters = oauth.validateAuthResponse(metadata, who, returned, state);
    const response = await oauth.authorizationCodeGrantRequest(
      metadata,
      who,
      authentication(provider, client),
      parameters,
      client.redirectUri,
      verifier,
      { ...through(outside), additionalParameters: { resource } },
    );
    const given = await corrected(response, withoutIdToken);
    return tokensIn(await oauth.processAuthorizationCodeResponse(metadata, who, given), host);
  } catch (error) {
    throw failed(host, error);
  }
}

/**
 * Renews a grant by its refresh token.
 * @throws {SignInFailed} final when the token is not taken any more
 */
export async function renewedTokens(
  outside: Outside,
  { provider, client, refreshToken }: Grant,
): Promise<Tokens> {
  const { metadata, resource } = provider;
  const { host } = new URL(metadata.issuer);
  if (refreshToken === null) {
    throw new SignInFailed(`${host} gave no means to renew the sign-in, and it has ended`, true);
  }
  const who = { client_id: client.clientId };
  try {
    const response = await oauth.refreshTokenGrantRequest(
      metadata,
      who,
      authentication(provider, client),
      refreshToken,
      { ...through(outside), additionalParameters: { resource } },
    );
    const given = await corrected(response, withoutIdToken);
    return tokensIn(await oauth.processRefreshTokenResponse(metadata, who, given), host);
  } catch (error) {
    throw failed(host, error);
  }
}

/** Tells the authorization server that a grant is needed no more (RFC 7009), where it takes that. */
export async function revoke(outside: Outside, grant: Grant): Promise<void> {
  const { provider, client, refreshToken, accessToken } = grant;
  const { metadata } = provider;
  if (!metadata.revocation_endpoint) return;
  for (const token of [refreshToken, accessToken]) {
    if (token === null) continue;
    const response = await oauth.revocationRequest(
      metadata,
      { client_id: client.clientId },
      authentication(provider, client),
      token,
      through(outside),
    );
    await oauth.processRevocationResponse(response);
  }
}

function authentication({ metadata }: Provider, { clientSecret }: Client): oauth.ClientAuth {
  if (clientSecret === null) return oauth.None();
  // RFC 8414, section 2: basic where nothing is said.
  const methods = metadata.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
  return methods.includes("client_secret_basic")
    ? basic(clientSecret)
    : oauth.ClientSecretPost(clientSecret);
}

/**
 * RFC 6749, section 2.3.1, with no more encoded than a form needs: many servers decode nothing, and
 * oauth4webapi writes even `-` otherwise.
 */
function basic(secret: string): oauth.ClientAuth {
  const encoded = (text: string) => new URLSearchParams({ "": text }).toString().slice(1);
  return (_server, client, _body, headers) =>
    headers.set(
      "authorization",
      `Basic ${btoa(`${encoded(client.client_id)}:${encoded(secret)}`)}`,
    );
}

/**
 * Who the person is there, which nothing here asks (OpenID Connect gives it with the scope `openid`). Looked at, it
 * would be refused for each way of signing it but RS256.
 */
function withoutIdToken({ id_token: _, ...said }: Said): Said {
  return said;
}

type Said = Record<string, unknown>;

/** A success as what reads it wants it: SDKs take any status of one, so servers give any. */
async function corrected(
  response: Response,
  correct: (said: Said) => Said,
  status = 200,
): Promise<Response> {
  const said = response.ok ? await response.clone().json().catch(() => null) : null;
  const isObject = typeof said === "object" && said !== null;
  return isObject ? Response.json(correct(said), { status }) : response;
}

function tokensIn(given: oauth.TokenEndpointResponse, host: string): Tokens {
  const { access_token, refresh_token, token_type, expires_in, scope } = given;
  // A token that wants a proof with each request (DPoP) would be refused as a bearer's.
  const isFit = token_type === "bearer" && TOKEN.test(access_token) &&
    (refresh_token === undefined || refresh_token.length <= 8192);
  if (!isFit) throw new SignInFailed(`${host} gave a token of a kind that is not known here`);
  return {
    accessToken: access_token,
    refreshToken: refresh_token ?? null,
    expiresInS: expires_in ?? null,
    scope: scope === undefined ? null : scopeOf(scope),
  };
}

function through(outside: Outside) {
  return { [oauth.customFetch]: outside };
}
