/**
 * The OAuth 2.1 server of a Supabase project (Supabase Auth): MCP clients register and get their tokens there.
 * It sends a person to Mooring's page with an `authorization_id` alone, takes their word once for each client,
 * and its tokens name the client, which a grant of ours makes one agent.
 */
import {
  type AuthError,
  isAuthRetryableFetchError,
  type SupabaseClient,
} from "@supabase/supabase-js";
import { z } from "zod";
import {
  type Asked,
  ClientRefused,
  type ForeignAuthorizationServer,
  SCOPE,
  siteAddress,
} from "./authorization_server.ts";
import type { Database } from "./db.ts";
import type { Person } from "./identity.ts";
import { errorFields, type Log } from "./log.ts";
import { described, mayBeAnsweredAt } from "./oauth_clients.ts";
import { remembered } from "./remembered.ts";
import { refusalOf } from "./supabase_refusal.ts";

/** What of supabase_identity.ts this is made with. */
interface Parts {
  db: Database;
  baseUrl: URL;
  /** Without a slash at its end. */
  supabaseUrl: string;
  publishableKey: string;
  log: Log;
  /** The project's Auth as whoever the cookies are of. */
  authOf(headers: Headers): SupabaseClient["auth"];
  userOf(headers: Headers): Promise<Person | null>;
}

/** How long it may be remembered whether the project signs clients in. */
const METADATA_TTL_MS = 60_000;

/** Of the server's metadata (RFC 8414); only a project that signs clients in has it. */
const Metadata = z.object({ issuer: z.url(), authorization_endpoint: z.url() });

const OVER = "The request is over or unknown. Connect again from the client";

export function supabaseAuthorizationServer(parts: Parts): ForeignAuthorizationServer {
  const { db, baseUrl, supabaseUrl, publishableKey, log, authOf, userOf } = parts;
  let last: string | null = null;

  const server: ForeignAuthorizationServer = {
    // Clients are answered in any case: where the project is not, as it was when it last said.
    issuer: remembered(async () => {
      try {
        last = await readIssuer();
      } catch (error) {
        log.warn("It is not known whether the project signs clients in", errorFields(error));
      }
      return last;
    }, METADATA_TTL_MS),

    // It knows none but OpenID Connect's, and refuses others. `openid` asks for keys that not all projects have.
    scope: "email",

    // GET and PUT /user take any of its tokens: whoever has one can set another password there.
    note:
      "It also learns your email address, and it gets a sign-in of the Supabase project, which " +
      "Supabase itself and other apps of that project take for yours. Let in only what you would " +
      "trust with your account there.",

    async ask(headers, request) {
      // What Supabase remembers of clients that were ended here would let them in unasked, as nobody.
      await server.forgetEnded(headers);
      const details = answered(
        await authOf(headers).oauth.getAuthorizationDetails(authorizationOf(request)),
      );
      if (!("authorization_id" in details)) return { letInTo: answeredAt(details) };
      const { client, redirect_uri } = details;
      answeredAt({ redirect_url: redirect_uri });
      return {
        client: described(
          client.id,
          { name: client.name ?? "", uri: client.uri || null },
          redirect_uri,
        ),
        resource: siteAddress(baseUrl),
        // It has no scopes of Mooring's: how far a client goes, its grant says.
        scope: SCOPE,
      } satisfies Asked;
    },

    async allow(headers, request, { id }) {
      const approved = answered(
        await authOf(headers).oauth.approveAuthorization(authorizationOf(request), AS_DATA),
      );
      await db.asApp`select mooring.end_older_client_grants(${id})`;
      return answeredAt(approved);
    },

    async deny(headers, request) {
      return answeredAt(answered(
        await authOf(headers).oauth.denyAuthorization(authorizationOf(request), AS_DATA),
      ));
    },

    async forgetEnded(headers) {
      const person = await userOf(headers);
      if (!person) return;
      const { oauth } = authOf(headers);
      const kept = answered(await oauth.listGrants());
      const rows = await db.asApp<{ id: string }[]>`
        select id from mooring.clients_let_in(${person.userId}) as id`;
      const here = new Set(rows.map(({ id }) => id));
      for (const { client } of kept) {
        if (!here.has(client.id)) await oauth.revokeGrant({ clientId: client.id });
      }
    },
  };
  return server;

  async function readIssuer(): Promise<string | null> {
    const path = "/auth/v1/.well-known/oauth-authorization-server";
    const response = await fetch(supabaseUrl + path, {
      headers: { apikey: publishableKey },
      signal: AbortSignal.timeout(5000),
    });
    if (response.status === 404) {
      await response.body?.cancel();
      return null;
    }
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(`Supabase Auth answered ${response.status} to whom it signs in`);
    }
    return Metadata.parse(await response.json()).issuer;
  }
}

const AS_DATA = { skipBrowserRedirect: true };

/** The library puts it into a path as it is. */
function authorizationOf(request: URLSearchParams): string {
  const id = request.get("authorization_id") ?? "";
  if (!/^[A-Za-z0-9_-]{1,200}$/.test(id)) {
    throw new ClientRefused("The request has no number. Connect again from the client");
  }
  return id;
}

/** The project checked it as well; whoever made the client may have been its owner by hand. */
function answeredAt({ redirect_url }: { redirect_url: string }): URL {
  if (mayBeAnsweredAt(redirect_url)) return new URL(redirect_url);
  throw new ClientRefused("The client wants to be answered where no browser should be sent");
}

/** @throws {ClientRefused} */
function answered<T>({ data, error }: { data: T | null; error: AuthError | null }): T {
  if (data && !error) return data;
  // An unknown, a decided and another person's request are told alike.
  const isOver = error && error.status !== 429 && !isAuthRetryableFetchError(error) &&
    (error.status === 404 || error.code === "validation_failed");
  throw new ClientRefused(isOver || !error ? OVER : refusalOf(error).message);
}
