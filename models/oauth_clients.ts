/** The clients that better-auth's OAuth provider knows, in its own table; for local_authorization_server.ts. */
import { v7 } from "uuid";
import { z } from "zod";
import { type Client, ClientRefused } from "./authorization_server.ts";
import type { Database } from "./db.ts";
import { withoutNul } from "./events.ts";
import { type Outside, OutsideError } from "./outside.ts";

/** How long metadata that was read from a client's address serves, and how large it may be. */
const METADATA_SERVES = "10 minutes";
const METADATA_LIMIT_BYTES = 16 * 1024;

/** How long a client stays that nobody let in. */
const UNUSED = "30 days";

/** Schemes that run or read something where a browser is sent to them. */
const UNFIT_SCHEMES =
  /^(javascript|data|vbscript|file|ftp|blob|about|mailto|view-source|ws|wss|chrome|intent):$/;

/**
 * Where an answer may go: over TLS, to this computer (RFC 8252, section 7.3), or to an app by a scheme of
 * its own. Cursor's has no dot, so RFC 8252's reversed domain names are not asked for.
 */
export function mayBeAnsweredAt(text: string): boolean {
  if (!URL.canParse(text) || /[#\p{Cc}]/u.test(text)) return false;
  const { protocol, hostname, username, password } = new URL(text);
  if (username || password || UNFIT_SCHEMES.test(protocol)) return false;
  return protocol !== "http:" || LOOPBACK.test(hostname);
}

const RedirectUri = z.string().max(2000).refine(
  mayBeAnsweredAt,
  "is neither https, nor http to this computer, nor an app's own scheme",
);

const LOOPBACK = /^(localhost|127\.0\.0\.1|\[::1\])$/;

/** What is needed of a client's metadata (RFC 7591, section 2); the rest is the client's own affair. */
const Metadata = z.object({
  redirect_uris: z.array(RedirectUri).min(1).max(20),
  client_name: z.string().trim().max(200).transform(withoutNul).optional(),
  client_uri: z.url({ protocol: /^https?$/ }).max(2000).regex(/^\P{Cc}*$/u).optional()
    .catch(undefined),
  grant_types: z.array(z.string().max(100)).max(10).optional(),
});

/** What its own document has to say besides, and what nobody can keep secret in one (section 4.1 of the draft). */
const Document = Metadata.extend({
  client_name: z.string().trim().min(1).max(200).transform(withoutNul),
  token_endpoint_auth_method: z.string().max(100)
    .regex(/^(?!client_secret)/, "takes a secret, which a public document cannot hold").optional(),
  client_secret: z.never("has no place in a public document").optional(),
});

/**
 * Registers a client under a new id, without a secret: of a program on somebody's computer it would be
 * none, and PKCE protects the code either way (OAuth 2.1, section 2.4).
 *
 * @throws {ClientRefused}
 */
export async function registerClient(db: Database, body: unknown) {
  const metadata = metadataOf(Metadata, body);
  const { grant_types } = metadata;
  if (grant_types && !grant_types.includes("authorization_code")) {
    throw new ClientRefused("Clients use the grant authorization_code", "invalid_client_metadata");
  }
  const clientId = v7();
  await putClient(db, clientId, metadata);
  await db.asApp`
    delete from auth.oauth_clients c where "createdAt" < now() - ${UNUSED}::interval
      and not exists (select from auth.oauth_consents g where g."clientId" = c."clientId")`;
  return {
    client_id: clientId,
    client_id_issued_at: Math.floor(Date.now() / 1000),
    ...metadata,
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  };
}

/**
 * The client of an id, with the addresses it may be answered at. An id that is an address is the one of its
 * metadata (client ID metadata documents, draft-ietf-oauth-client-id-metadata-document), read through `outside`.
 *
 * @throws {ClientRefused} it is unknown, or its metadata is not to be had or does not hold
 */
export async function findClient(db: Database, outside: Outside | undefined, clientId: string) {
  const [row] = await db.asApp<
    { name: string; uri: string | null; redirectUris: string[]; isFresh: boolean }[]
  >`select coalesce(name, '') as name, uri, "redirectUris"::jsonb as "redirectUris",
      "updatedAt" > now() - ${METADATA_SERVES}::interval as "isFresh"
    from auth.oauth_clients where "clientId" = ${clientId} and disabled is not true`;
  const isAddress = clientId.startsWith("https://");
  if (!isAddress && !row) {
    throw new ClientRefused("Mooring does not know this client. Remove it there and connect again");
  }
  if (!isAddress || row?.isFresh) return row;
  if (!outside) throw new ClientRefused("Clients are not known by an address here");
  const metadata = await readMetadata(outside, clientId);
  await putClient(db, clientId, metadata);
  return {
    name: metadata.client_name ?? "",
    uri: metadata.client_uri ?? null,
    redirectUris: metadata.redirect_uris,
  };
}

/** What a person is told of a client: nothing that it made up stands without where answers to it go. */
export function described(
  clientId: string,
  { name, uri }: { name: string; uri: string | null },
  redirectUri: string,
): Client {
  const host = placeOf(redirectUri);
  return { id: clientId, name: shownName(name) || host, uri, host };
}

function placeOf(redirectUri: string): string {
  const { protocol, host, hostname } = new URL(redirectUri);
  if (LOOPBACK.test(hostname)) return "this computer";
  return protocol === "https:" ? host : `an app on this computer (${protocol.slice(0, 60)})`;
}

/** Without what is not seen or turns text around, which could make a name look like another. */
function shownName(name: string): string {
  return name.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "").trim().slice(0, 80).trim();
}

async function readMetadata(outside: Outside, clientId: string) {
  if (!mayNameMetadata(clientId)) {
    throw new ClientRefused("The client's address names no metadata");
  }
  let document: unknown;
  try {
    const response = await outside(clientId, {
      headers: { accept: "application/json" },
      limitBytes: METADATA_LIMIT_BYTES,
      // Else whoever can make a site redirect would be a client of its name.
      followsRedirects: false,
    });
    document = response.status === 200 ? await response.json() : null;
  } catch (error) {
    const why = error instanceof OutsideError ? error.message : "it is no JSON";
    throw new ClientRefused(`The client's metadata could not be read: ${why}`);
  }
  if ((document as { client_id?: unknown } | null)?.client_id !== clientId) {
    throw new ClientRefused("The client's address leads to no metadata of its own");
  }
  return metadataOf(Document, document);
}

/**
 * Section 3 of the draft. An address that is written in another way than URLs are, such as with dot segments, would
 * be asked at another one than it shows.
 */
function mayNameMetadata(clientId: string): boolean {
  if (clientId.length > 2000 || !URL.canParse(clientId)) return false;
  const { href, pathname, username, password } = new URL(clientId);
  return href === clientId && pathname !== "/" && !href.includes("#") && !username && !password;
}

function metadataOf<T extends z.ZodType>(schema: T, body: unknown): z.infer<T> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  const isRedirect = path[0] === "redirect_uris";
  throw new ClientRefused(
    `${path.map(String).join(".").slice(0, 100) || "The metadata"}: ${message}`,
    isRedirect ? "invalid_redirect_uri" : "invalid_client_metadata",
  );
}

async function putClient(db: Database, clientId: string, metadata: z.infer<typeof Metadata>) {
  // Lists as the plugin's adapter writes them: JSON in text.
  const redirectUris = JSON.stringify(metadata.redirect_uris);
  await db.asApp`
    insert into auth.oauth_clients (id, "clientId", name, uri, "redirectUris", "grantTypes",
      "responseTypes", "tokenEndpointAuthMethod", "applicationType", "requirePKCE")
    values (${v7()}, ${clientId}, ${metadata.client_name ?? null}, ${metadata.client_uri ?? null},
      ${redirectUris}, '["authorization_code","refresh_token"]', '["code"]', 'none', 'native', true)
    on conflict ("clientId") do update set name = excluded.name, uri = excluded.uri,
      "redirectUris" = excluded."redirectUris", "updatedAt" = now()`;
}
