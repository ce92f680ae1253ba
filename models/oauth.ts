/**
 * OAuth 2.1 at a remote MCP server, as its client (2026-07-28, basic/authorization): who signs people
 * in there, what Mooring is called there, and the tokens that come of it. The protocol itself is
 * oauth4webapi's; here is what MCP makes of it. Nothing is kept here.
 */
import * as oauth from "oauth4webapi";
import { z } from "zod";
import { type Outside, OutsideError } from "./outside.ts";

/** Why signing in, or renewing it, did not work: for a person. */
export class SignInFailed extends Error {
  override name = "SignInFailed";
  /** @param isFinal the same again would fail again: a person has to sign in anew */
  constructor(message: string, readonly isFinal = false) {
    super(message);
  }
}

/** Nothing registers Mooring there: a person has to give a client's id. */
export class ClientNeeded extends SignInFailed {
  override name = "ClientNeeded";
}

const Endpoint = z.url({ protocol: /^https$/, message: "must be an https URL" }).max(2000);

/** What is needed of an authorization server's metadata (RFC 8414, section 2). */
const Metadata = z.object({
  issuer: z.string().max(2000),
  authorization_endpoint: Endpoint,
  token_endpoint: Endpoint,
  registration_endpoint: Endpoint.optional(),
  revocation_endpoint: Endpoint.optional(),
  scopes_supported: z.array(z.string().max(200)).max(500).optional(),
  code_challenge_methods_supported: z.array(z.string().max(40)).max(20).optional(),
  token_endpoint_auth_methods_supported: z.array(z.string().max(60)).max(20).optional(),
  authorization_response_iss_parameter_supported: z.boolean().optional(),
  client_id_metadata_document_supported: z.boolean().optional(),
});

/** RFC 9728, section 2. */
const ResourceMetadata = z.object({
  resource: z.string().max(2000),
  authorization_servers: z.array(z.url({ protocol: /^https$/ }).max(2000)).min(1).max(20),
  scopes_supported: z.array(z.string().max(200)).max(100).optional(),
});

/** What Mooring is called at one authorization server; never shown to another one. */
const Client = z.object({
  clientId: z.string().min(1).max(2000),
  clientSecret: z.string().max(2000).nullable(),
  redirectUri: z.string(),
  /** `typed`: a person gave it; `registered`: RFC 7591; `document`: the id is our metadata's URL. */
  origin: z.enum(["typed", "registered", "document"]),
});
export type Client = z.infer<typeof Client>;

/** Where a person signs in for one remote server. */
export const Provider = z.object({ metadata: Metadata, resource: z.string().max(2000) });
export type Provider = z.infer<typeof Provider>;

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

const SCOPE_LIMIT = 2000;

// ── Discovery ─────────────────────────────────────────────────────────────────────────────────────

/** Who signs people in at a remote server, and for which scope it asks. */
export interface Discovered {
  provider: Provider;
  /** Empty: the server says none. */
  scope: string;
}

/**
 * Asks a remote server who signs people in there (RFC 9728), and that one how (RFC 8414, OpenID Connect
 * Discovery). A server of 2025-03-26, which has no metadata of its own, signs people in itself.
 * @throws {SignInFailed}
 */
export async function discover(outside: Outside, server: URL): Promise<Discovered> {
  const challenge = await challengeOf(outside, server);
  const found = await resourceMetadata(outside, server, challenge.metadataUrl);
  if (!found && !challenge.isThere) {
    throw new SignInFailed(
      `${server.host} neither asks for a sign-in nor says who signs people in: it may need none, or a header with a key`,
    );
  }
  const issuer = new URL(found?.authorization_servers[0] ?? server.origin);
  const metadata = await providerMetadata(outside, issuer);
  // 2026-07-28, security-considerations#authorization-code-protection
  if (!metadata.code_challenge_methods_supported?.includes("S256")) {
    throw new SignInFailed(
      `${issuer.host} does not say that it protects sign-ins by PKCE with S256, which MCP requires`,
    );
  }
  const wanted = challenge.scope ?? found?.scopes_supported?.join(" ") ?? "";
  const resource = found?.resource ?? canonical(server);
  return { provider: { metadata, resource }, scope: scopeOf(wanted) };
}

/** Asks without a token, which a protected server refuses with what a client has to know. */
async function challengeOf(outside: Outside, server: URL) {
  const response = await outside(server, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
    },
    body: JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "initialize",
      params: {
        protocolVersion: "2025-11-25",
        capabilities: {},
        clientInfo: { name: "mooring", version: "0" },
      },
    }),
  }).catch((error) => {
    throw failed("The remote server", error);
  });
  const text = (response.headers.get("www-authenticate") ?? "").slice(0, 8192);
  return {
    isThere: response.status === 401,
    metadataUrl: parameterOf(text, "resource_metadata"),
    scope: parameterOf(text, "scope"),
  };
}

function parameterOf(challenge: string, name: string): string | null {
  const found = new RegExp(
    `(?:^|[\\s,])${name}\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|([^\\s,"]+))`,
    "i",
  )
    .exec(challenge);
  return found ? (found[1]?.replaceAll(/\\(.)/g, "$1") ?? found[2]) : null;
}

async function resourceMetadata(outside: Outside, server: URL, stated: string | null) {
  const at = stated !== null ? [stated] : [
    ...(server.pathname === "/"
      ? []
      : [wellKnown(server, "oauth-protected-resource", server.pathname)]),
    wellKnown(server, "oauth-protected-resource"),
  ];
  for (const url of at) {
    const document = await json(outside, url, "The remote server");
    if (document === null) continue;
    const metadata = read(ResourceMetadata, document, `The metadata of ${server.host}`);
    if (!covers(metadata.resource, server)) {
      throw new SignInFailed(
        `The metadata of ${server.host} is about another server (${
          shown(metadata.resource)
        }), so a ` +
          "token for it would not be this server's",
      );
    }
    return metadata;
  }
  if (stated !== null) {
    throw new SignInFailed(`${server.host} names metadata that is not there (${shown(stated)})`);
  }
  return null;
}

/**
 * Whether metadata of a resource is about the server: the same origin, and its path or one above it, as
 * servers with several endpoints have it.
 */
function covers(resource: string, server: URL): boolean {
  if (!URL.canParse(resource)) return false;
  const { origin, pathname } = new URL(resource);
  const above = pathname.endsWith("/") ? pathname : `${pathname}/`;
  return origin === server.origin && `${server.pathname}/`.startsWith(above);
}

/** In the order that 2026-07-28, authorization-server-discovery, wants. */
async function providerMetadata(outside: Outside, issuer: URL) {
  const path = issuer.pathname.replace(/\/+$/, "");
  const at = [
    wellKnown(issuer, "oauth-authorization-server", path),
    wellKnown(issuer, "openid-configuration", path),
    ...(path ? [new URL(`${path}/.well-known/openid-configuration`, issuer).href] : []),
  ];
  for (const url of at) {
    const response = await answered(outside, url, "The authorization server");
    if (!response) continue;
    const document = await oauth.processDiscoveryResponse(issuer, response).catch((error) => {
      throw failed(`The authorization server ${issuer.host}`, error);
    });
    return read(Metadata, document, `The metadata of ${issuer.host}`);
  }
  throw new SignInFailed(`${issuer.host} does not say how people sign in there`);
}

function wellKnown(of: URL, name: string, path = ""): string {
  return new URL(`/.well-known/${name}${path}`, of.origin).href;
}

async function json(outside: Outside, url: string, who: string): Promise<unknown> {
  const response = await answered(outside, url, who);
  return response && await response.json().catch(() => null);
}

/** Null when there is nothing: a server may well answer an unknown path with 401, or a page. */
async function answered(outside: Outside, url: string, who: string): Promise<Response | null> {
  const response = await outside(url, { headers: { accept: "application/json" } })
    .catch((error) => {
      throw failed(who, error);
    });
  return response.status === 200 ? response : null;
}

/** RFC 8707, section 2; without a slash alone at its end (2026-07-28, #canonical-server-uri). */
function canonical(server: URL): string {
  const url = new URL(server);
  url.search = url.hash = "";
  return url.pathname === "/" ? url.origin : url.href;
}

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
      response,
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
    return tokensIn(await oauth.processAuthorizationCodeResponse(metadata, who, response), host);
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
    return tokensIn(await oauth.processRefreshTokenResponse(metadata, who, response), host);
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
    ? oauth.ClientSecretBasic(clientSecret)
    : oauth.ClientSecretPost(clientSecret);
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

// ── Scopes and words ──────────────────────────────────────────────────────────────────────────────

/** RFC 6749, section 3.3; what is no scope is left out, so that the rest can be used. */
export function scopeOf(text: string): string {
  const scopes = text.slice(0, SCOPE_LIMIT).split(/\s+/)
    .filter((scope) => /^[\x21\x23-\x5b\x5d-\x7e]{1,200}$/.test(scope));
  return [...new Set(scopes)].join(" ");
}

/** All scopes of both: what is asked for more must not lose what there is. */
export function scopesOf(...scopes: string[]): string {
  return scopeOf(scopes.join(" "));
}

/** Error codes with which the same request would be refused again (RFC 6749, section 5.2; RFC 8707). */
const FINAL = [
  ...["invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"],
  ...["unsupported_grant_type", "invalid_scope", "invalid_target"],
];

function failed(who: string, error: unknown): SignInFailed {
  if (error instanceof SignInFailed) return error;
  if (error instanceof OutsideError) return new SignInFailed(error.message);
  if (error instanceof oauth.AuthorizationResponseError) {
    const why = error.error === "access_denied" ? "the sign-in was refused" : shown(error.error);
    return new SignInFailed(`${who} says: ${why}${described(error.error_description)}`);
  }
  if (error instanceof oauth.ResponseBodyError) {
    const { error: code, error_description: description } = error;
    return new SignInFailed(
      `${who} refuses: ${shown(code)}${described(description)}`,
      FINAL.includes(code),
    );
  }
  if (error instanceof oauth.WWWAuthenticateChallengeError) {
    return new SignInFailed(`${who} does not take Mooring's client`, true);
  }
  // A library's message names a rule that was broken; it quotes nothing of the answer.
  const message = error instanceof Error ? error.message : String(error);
  return new SignInFailed(`${who} answers against the protocol: ${message.slice(0, 300)}`);
}

function described(description: string | undefined): string {
  return description ? `, "${shown(description)}"` : "";
}

/** Another side's words within a sentence of ours. */
function shown(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 200);
}

function read<T extends z.ZodType>(schema: T, document: unknown, what: string): z.infer<T> {
  const parsed = schema.safeParse(document);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new SignInFailed(
    `${what} does not hold: ${path.map(String).join(".").slice(0, 100)} ${message}`,
  );
}
