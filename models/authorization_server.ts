/**
 * What lets MCP clients connect with a URL alone (MCP 2026-07-28, basic/authorization): the bridge says
 * who signs people in for it, and that one hands out tokens that stand for a person's grant: this client
 * may be that agent. Self-hosted it is better-auth (local_authorization_server.ts).
 */
import type { Identity, SignInSource } from "./identity.ts";

/**
 * How far a client may go as the agent, the least first; each is all of those before it, and more:
 * `tools:read` lists all, reads prompts and resources, and calls the tools that say in their approved
 * annotations that they only read; `tools` calls all that the agent is given.
 */
export const TOOL_SCOPES = ["tools:read", "tools"] as const;
export type ToolScope = (typeof TOOL_SCOPES)[number];
export const [READ_SCOPE, SCOPE] = TOOL_SCOPES;

/** All that may be asked for. `offline_access` is that a token is renewed without the person. */
export const SCOPES = [...TOOL_SCOPES, "offline_access"];

/** The scopes that are in one, itself among them: a client that asked for a lesser one finds it granted. */
export function scopesIn(scope: ToolScope): ToolScope[] {
  return TOOL_SCOPES.slice(0, TOOL_SCOPES.indexOf(scope) + 1);
}

/** Whether a token is good for what a scope is for (MCP 2026-07-28, step-up: hierarchies count). */
export function permits(granted: string[], needed: ToolScope): boolean {
  return TOOL_SCOPES.slice(TOOL_SCOPES.indexOf(needed)).some((scope) => granted.includes(scope));
}

/** How a client's tokens start, the short-lived one and what renews it; behind it is what is hashed. */
export const ACCESS_TOKEN_PREFIX = "moa_";
export const REFRESH_TOKEN_PREFIX = "mor_";

export interface AuthorizationServer {
  /** Whether a client may be known by the address of its metadata. */
  knowsMetadataAddresses: boolean;
  /** Registers a client (RFC 7591). @throws {ClientRefused} */
  register(metadata: unknown, from: SignInSource): Promise<Record<string, unknown>>;
  /**
   * What a client asks a signed-in person for, or where to send the browser with the answer that it is
   * asked wrongly.
   *
   * @throws {ClientRefused} where no answer may go: the client or its address is not known
   */
  ask(headers: Headers, request: URLSearchParams, from: SignInSource): Promise<Asked | URL>;
  /** Where to send the browser with a person's yes, which is this grant. @throws {ClientRefused} */
  allow(
    headers: Headers,
    request: URLSearchParams,
    grant: { id: string; scope: ToolScope },
    from: SignInSource,
  ): Promise<URL>;
  /** Where to send the browser with their no. @throws {ClientRefused} */
  deny(headers: Headers, request: URLSearchParams, from: SignInSource): Promise<URL>;
  /** The token endpoint (OAuth 2.1, section 3.2). */
  token(form: URLSearchParams, from: SignInSource): Promise<Response>;
  /** Ends a client's grant by one of its tokens (RFC 7009); an unknown one is none already. */
  revoke(clientId: string, token: string): Promise<void>;
}

/** What has a person's word from Mooring's page, be it Mooring's own or another. */
export type ConsentAsker = Pick<ForeignAuthorizationServer, "ask" | "allow" | "deny">;

/**
 * An authorization server that is not Mooring's: clients register and get their tokens there, and it sends
 * people to Mooring's page alone. For a person a client is one agent: the grant that it was given last.
 */
export interface ForeignAuthorizationServer extends Pick<AuthorizationServer, "allow" | "deny"> {
  /** What it calls itself (RFC 8414); null while it signs no clients in. */
  issuer(): Promise<string | null>;
  /** What clients are to ask it for, of what it knows. */
  scope: string;
  /** What a person should know of its tokens before they let a client in. */
  note: string;
  /** As {@link AuthorizationServer.ask}; it may know the person's word already. */
  ask(
    headers: Headers,
    request: URLSearchParams,
    from: SignInSource,
  ): Promise<Asked | LetInBefore | URL>;
  /** Has it forget the clients of whoever the request's cookies are of that are no agent here any more. */
  forgetEnded(headers: Headers): Promise<void>;
}

/** The person let the client in before: it goes on as the agent that they chose then. */
export interface LetInBefore {
  letInTo: URL;
}

/**
 * Who signs clients in, as they are told it; null where nobody does, and they bring an agent's token. A scope
 * is one to ask for in place of Mooring's own.
 */
export async function clientSignIn(
  { authorizationServer, foreignAuthorizationServer: foreign }: Pick<
    Identity,
    "authorizationServer" | "foreignAuthorizationServer"
  >,
  baseUrl: URL,
): Promise<{ issuer: string; scope?: string } | null> {
  if (authorizationServer) return { issuer: siteAddress(baseUrl) };
  const issuer = await foreign?.issuer();
  return foreign && issuer ? { issuer, scope: foreign.scope } : null;
}

export interface Asked {
  client: Client;
  /** Which of the bridge's addresses the token will be good for. */
  resource: string;
  /** How far it wants to go: its person may grant less, or more. */
  scope: ToolScope;
}

/** A client, as it describes itself: nothing of it is proven but where answers to it go. */
export interface Client {
  id: string;
  name: string;
  /** Its page, or null. */
  uri: string | null;
  /** Where answers go: a host, this computer, or an app by its scheme. */
  host: string;
}

/** Why a client or its request is refused, for a person and, with `code`, for a program. */
export class ClientRefused extends Error {
  override name = "ClientRefused";
  constructor(
    message: string,
    readonly code: "invalid_client_metadata" | "invalid_redirect_uri" | "invalid_request" =
      "invalid_request",
    readonly retryAfterS?: number,
  ) {
    super(message);
  }
}

/** The app's address without a slash at its end: the issuer, and what paths are put behind. */
export function siteAddress(baseUrl: URL): string {
  return baseUrl.origin + baseUrl.pathname.replace(/\/+$/, "");
}

const ENDPOINT = /^\/(mcp|sse)(\/[a-z0-9][a-z0-9-]{0,80})?$/;

/**
 * The bridge's address that a client names (RFC 8707), as tokens name it, or null if it is none: one of
 * its endpoints, or the app's own address for all of them.
 */
export function resourceOf(baseUrl: URL, named: string): string | null {
  const site = siteAddress(baseUrl);
  if (!URL.canParse(named)) return null;
  const { origin, pathname, search, hash } = new URL(named);
  const address = origin + pathname.replace(/\/+$/, "");
  if (search || hash || !`${address}/`.startsWith(`${site}/`)) return null;
  const path = address.slice(site.length);
  return path === "" || ENDPOINT.test(path) ? address : null;
}

/** Whether a token for some addresses is good at one: it is one of them, or below one. */
export function isFor(resources: string[], address: string): boolean {
  return resources.some((resource) => `${address}/`.startsWith(`${resource}/`));
}

/** Where the metadata of an endpoint is, `path` being empty or `/mcp`, `/mcp/demo` … (RFC 9728, section 3). */
export function resourceMetadataAddress(baseUrl: URL, path: string): string {
  return `${siteAddress(baseUrl)}/.well-known/oauth-protected-resource${path}`;
}

/** RFC 9728, section 2. */
export function resourceMetadata(baseUrl: URL, path: string) {
  const site = siteAddress(baseUrl);
  return {
    resource: site + path,
    authorization_servers: [site],
    // What is enough to begin with; a call that needs more says so (2026-07-28, scope selection).
    scopes_supported: [READ_SCOPE],
    bearer_methods_supported: ["header"],
    resource_name: "Mooring",
  };
}

/** RFC 8414, section 2. */
export function serverMetadata(baseUrl: URL, server: AuthorizationServer) {
  const site = siteAddress(baseUrl);
  return {
    issuer: site,
    authorization_endpoint: `${site}/oauth/authorize`,
    token_endpoint: `${site}/oauth/token`,
    registration_endpoint: `${site}/oauth/register`,
    revocation_endpoint: `${site}/oauth/revoke`,
    scopes_supported: SCOPES,
    response_types_supported: ["code"],
    response_modes_supported: ["query"],
    grant_types_supported: ["authorization_code", "refresh_token"],
    token_endpoint_auth_methods_supported: ["none"],
    revocation_endpoint_auth_methods_supported: ["none"],
    code_challenge_methods_supported: ["S256"],
    authorization_response_iss_parameter_supported: true,
    client_id_metadata_document_supported: server.knowsMetadataAddresses,
  };
}
