/**
 * Who signs people in at a remote MCP server, found as 2026-07-28 has it
 * (authorization-server-discovery): the server's metadata (RFC 9728) names an authorization server,
 * whose own (RFC 8414, OpenID Connect Discovery) says how.
 */
import * as oauth from "oauth4webapi";
import { z } from "zod";
import type { Outside } from "./outside.ts";
import { failed, shown, SignInFailed } from "./sign_in_failed.ts";

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

/** Where a person signs in for one remote server. */
export const Provider = z.object({ metadata: Metadata, resource: z.string().max(2000) });
export type Provider = z.infer<typeof Provider>;

const SCOPE_LIMIT = 2000;

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

/**
 * Asks without a token, which a protected server refuses with what a client has to know. Some let anybody
 * begin, and refuse the first use.
 */
async function challengeOf(outside: Outside, server: URL) {
  const first = await unauthorized(outside, server, "initialize", {
    protocolVersion: "2025-11-25",
    capabilities: {},
    clientInfo: { name: "mooring", version: "0" },
  });
  const response = first.status === 401
    ? first
    : await unauthorized(outside, server, "tools/list", {});
  const text = (response.headers.get("www-authenticate") ?? "").slice(0, 8192);
  return {
    isThere: response.status === 401,
    metadataUrl: parameterOf(text, "resource_metadata"),
    scope: parameterOf(text, "scope"),
  };
}

async function unauthorized(outside: Outside, server: URL, method: string, params: object) {
  return await outside(server, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2025-11-25",
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  }).catch((error) => {
    throw failed("The remote server", error);
  });
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
  const { origin, pathname, search, hash, username, password } = new URL(resource);
  // RFC 8707, section 2: no part; and a query is another resource's, unless it is the server's own.
  if (hash || username || password || (search && search !== server.search)) return false;
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
    // A page for whatever path is asked is no metadata, and the next place may have it.
    if (!response || await response.clone().json().catch(() => undefined) === undefined) continue;
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

function read<T extends z.ZodType>(schema: T, document: unknown, what: string): z.infer<T> {
  const parsed = schema.safeParse(document);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new SignInFailed(
    `${what} does not hold: ${path.map(String).join(".").slice(0, 100)} ${message}`,
  );
}
