/**
 * That Mooring may act at a remote server for a person who signed in there: how they sign in, what is
 * kept of it, and how it is renewed. The toolbox gets the access token; the refresh token stays here,
 * sealed.
 */
import { z } from "zod";
import type { Refusal } from "../dtma/protocol.ts";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, Invalid, NotFound } from "./errors.ts";
import {
  Attempt,
  authorizationUrl,
  clientAt,
  Grant,
  renewedTokens,
  revoke,
  siteOf,
  type Tokens,
  tokensFor,
} from "./oauth.ts";
import { discover, scopeOf, scopesOf } from "./oauth_provider.ts";
import type { Outside } from "./outside.ts";
import { openSecret, type SealedSecret, sealSecret, type SecretsKey } from "./secrets.ts";
import { changing, sayRequest, type Server } from "./servers.ts";
import { SignInFailed } from "./sign_in_failed.ts";
import { newToken, tokenHash } from "./tokens.ts";

export interface Authorization {
  state: "waiting" | "signed_in" | "signed_out";
  /** For a person: why it is signed out, or could not be renewed just now. */
  trouble: string | null;
  issuer: string | null;
  scope: string;
  /** What the server asked for beyond that, when it refused a call; null: nothing. */
  wantedScope: string | null;
  signedInByName: string | null;
  signedInAt: Date | null;
  renewedAt: Date | null;
}

/** What signing in works with. */
export interface SignInDeps {
  db: Database;
  secretsKey: SecretsKey;
  outside: Outside;
}

/** The authorization of a server; null: it has none. */
export async function getAuthorization(
  db: Database,
  user: User,
  serverId: string,
): Promise<Authorization | null> {
  const [row] = await db.asUser(user, (sql) =>
    sql<Authorization[]>`
      select a.state, a.trouble, a.issuer, a.scope, a.wanted_scope as "wantedScope",
        a.signed_in_at as "signedInAt", a.renewed_at as "renewedAt",
        coalesce(nullif(p.name, ''), p.email) as "signedInByName"
      from authorizations a left join profiles p on p.user_id = a.signed_in_by
      where a.server_id = ${serverId}`);
  return row ?? null;
}

const TypedClient = z.object({
  clientId: z.string().trim().max(2000).regex(/^[\x20-\x7e]*$/, "has characters that no id has"),
  clientSecret: z.string().trim().max(2000),
}).partial();

const BROWSER_TOKEN = /^mbr_[A-Za-z0-9_-]{43}$/;

/** Where a person goes to sign in, and what they bring back. */
export interface SignIn {
  url: URL;
  /** For a cookie of the browser that began it; kept nowhere. */
  browserToken: string;
  scope: string;
}

/**
 * Begins a sign-in at a remote server: asks who signs people in there, and makes Mooring known.
 * @param form `clientId` and `clientSecret` of a client that a person registered; may be left out
 * @throws {SignInFailed} with what a person can do; {@link ClientNeeded} when they have to give a client
 */
export async function beginSignIn(
  { db, secretsKey, outside }: SignInDeps,
  user: User,
  serverId: string,
  { form, baseUrl, browserToken: held }: {
    form: Record<string, string>;
    baseUrl: URL;
    /** What the browser has of another sign-in that is under way, so that both can be ended. */
    browserToken?: string;
  },
): Promise<SignIn> {
  const typed = TypedClient.safeParse(form);
  if (!typed.success) throw new Invalid(`The client's id ${typed.error.issues[0].message}`);
  const { clientId: id, clientSecret: secret = "" } = typed.data;
  const server = await changeable(db, user, serverId);
  const url = remoteUrl(server);
  const site = siteOf(baseUrl);

  const { provider, scope } = await discover(outside, url);
  const before = await openGrant(db, secretsKey, server);
  // Credentials are one authorization server's alone (2026-07-28, #authorization-server-binding).
  const isSame = before?.provider.metadata.issuer === provider.metadata.issuer;
  const client = await clientAt(outside, provider, site, {
    typed: id ? { id, secret } : null,
    before: isSame ? before!.client : null,
  });
  const kept = isSame ? await getAuthorization(db, user, serverId) : null;
  const asked = scopesOf(scope, kept?.scope ?? "", kept?.wantedScope ?? "");
  const { url: at, state, attempt } = await authorizationUrl(provider, client, asked);

  const browserToken = held && BROWSER_TOKEN.test(held) ? held : newToken("mbr");
  const stateHash = await tokenHash(state);
  const { keyId, iv, ciphertext } = await sealSecret(
    secretsKey,
    stateHash,
    JSON.stringify(attempt),
  );
  await db.asApp`select mooring.put_authorization_request(${stateHash}, ${await tokenHash(
    browserToken,
  )}, ${user.userId}, ${serverId}, ${keyId}, ${iv}, ${ciphertext})`;
  return { url: at, browserToken, scope: attempt.scope };
}

/**
 * Ends a sign-in with what came back to the callback, once.
 * @throws {NotFound} it was not begun by this person in this browser, or over ten minutes ago
 * @throws {SignInFailed} with why, and the server that it was for
 */
export async function finishSignIn(
  deps: SignInDeps,
  user: User,
  returned: URLSearchParams,
  browserToken: string,
): Promise<{ serverId: string; failure: SignInFailed | null }> {
  const { db, secretsKey, outside } = deps;
  const state = returned.get("state") ?? "", stateHash = await tokenHash(state);
  const [taken] = await db.asApp<({ serverId: string } & SealedSecret)[]>`
    select server_id as "serverId", key_id as "keyId", iv, ciphertext
    from mooring.take_authorization_request(${stateHash}, ${await tokenHash(
    browserToken,
  )}, ${user.userId})`;
  if (!taken) {
    throw new NotFound(
      "This sign-in was not begun here, was ended before, or took longer than ten minutes: begin it again on the server's page",
    );
  }
  const { serverId } = taken;
  const attempt = Attempt.parse(JSON.parse(await openSecret(secretsKey, stateHash, taken)));
  try {
    const tokens = await tokensFor(outside, attempt, returned, state);
    await keepGrant(deps, user, serverId, attempt, tokens);
    return { serverId, failure: null };
  } catch (error) {
    if (error instanceof SignInFailed) return { serverId, failure: error };
    throw error;
  }
}

/** Keeps what a sign-in brought; the toolbox gets its access token at once. */
async function keepGrant(
  { db, secretsKey }: SignInDeps,
  user: User,
  serverId: string,
  { provider, client, scope }: Attempt,
  tokens: Tokens,
): Promise<void> {
  const { accessToken, refreshToken } = tokens;
  const grant: Grant = { provider, client, accessToken, refreshToken };
  const { keyId, iv, ciphertext } = await sealSecret(secretsKey, serverId, JSON.stringify(grant));
  const { issuer } = provider.metadata;
  await changing(db, user, serverId, async (sql, server) => {
    if (server.removedAt) throw new Conflict("The server is being removed");
    const renewInS = renewalDueS(tokens.expiresInS, refreshToken !== null);
    const row = {
      state: "signed_in",
      trouble: null,
      issuer,
      scope: tokens.scope ?? scope,
      wanted_scope: null,
      key_id: keyId,
      iv,
      ciphertext,
      renewing_until: null,
      signed_in_by: user.userId,
    };
    await sql`
      insert into authorizations ${
      sql({ ...row, server_id: serverId, workspace_id: server.workspaceId })
    }
      on conflict (server_id) do update set ${sql(row)}`;
    await sql`
      update authorizations set version = version + 1, signed_in_at = now(), renewed_at = now(),
        renew_at = now() + ${renewInS} * interval '1 second'
      where server_id = ${serverId}`;
    await sayRequest(sql, user, server, `Connected an account at ${new URL(issuer).host}`);
  });
}

/**
 * Forgets a server's authorization, and tells its authorization server where that takes it. A server
 * that has no other credentials will refuse calls from then on.
 */
export async function disconnect(
  { db, secretsKey, outside }: SignInDeps,
  user: User,
  serverId: string,
): Promise<void> {
  const server = await changeable(db, user, serverId);
  const grant = await openGrant(db, secretsKey, server);
  await changing(db, user, serverId, async (sql, server) => {
    const { count } = await sql`delete from authorizations where server_id = ${serverId}`;
    if (count > 0) await sayRequest(sql, user, server, "Disconnected the account");
  });
  // Forgotten in any case: the tokens are nowhere any more.
  if (grant) await revoke(outside, grant).catch(() => {});
}

// ── Renewal ───────────────────────────────────────────────────────────────────────────────────────

/** One replica's time to renew: longer than a request may take. */
const LEASE_S = 30;
/** After an authorization server did not answer. */
const RETRY_S = 30;
/** An access token that is refused so soon is not renewed again: the next would be refused too. */
const FRESH_S = 60;

/**
 * Renews what is due of a toolbox's servers; of several replicas one does. Where the authorization
 * server refuses for good, the person has to sign in again, and the server is stopped until then.
 */
export async function renewAuthorizations(deps: SignInDeps, toolboxId: string): Promise<void> {
  const { db, secretsKey, outside } = deps;
  const due = await db.asToolbox(
    toolboxId,
    (sql) =>
      sql<({ serverId: string; version: string } & SealedSecret)[]>`
      update authorizations set renewing_until = now() + ${LEASE_S} * interval '1 second'
      where state = 'signed_in' and renew_at <= now()
        and (renewing_until is null or renewing_until < now())
      returning server_id as "serverId", version::text, key_id as "keyId", iv, ciphertext`,
  );
  await Promise.all(due.map(async ({ serverId, version, ...sealed }) => {
    const grant = Grant.parse(JSON.parse(await openSecret(secretsKey, serverId, sealed)));
    try {
      const tokens = await renewedTokens(outside, grant);
      await keepRenewal(deps, toolboxId, { serverId, version }, grant, tokens);
    } catch (error) {
      if (!(error instanceof SignInFailed)) throw error;
      await keepFailure(db, toolboxId, { serverId, version }, error);
    }
  }));
}

async function keepRenewal(
  { db, secretsKey }: SignInDeps,
  toolboxId: string,
  { serverId, version }: { serverId: string; version: string },
  grant: Grant,
  { accessToken, refreshToken, expiresInS }: Tokens,
): Promise<void> {
  // One that is not replaced by another stays (RFC 6749, section 6).
  const renewed: Grant = {
    ...grant,
    accessToken,
    refreshToken: refreshToken ?? grant.refreshToken,
  };
  const { keyId, iv, ciphertext } = await sealSecret(secretsKey, serverId, JSON.stringify(renewed));
  const renewInS = renewalDueS(expiresInS, renewed.refreshToken !== null);
  await db.asToolbox(toolboxId, (sql) =>
    sql`
      update authorizations set trouble = null, key_id = ${keyId}, iv = ${iv}, ciphertext = ${ciphertext},
        version = version + 1, renewed_at = now(), renewing_until = null,
        renew_at = now() + ${renewInS} * interval '1 second'
      where server_id = ${serverId} and version = ${version}`);
}

async function keepFailure(
  db: Database,
  toolboxId: string,
  { serverId, version }: { serverId: string; version: string },
  { message, isFinal }: SignInFailed,
): Promise<void> {
  const trouble = message.slice(0, 1000);
  await db.asToolbox(toolboxId, async (sql) => {
    if (!isFinal) {
      await sql`
        update authorizations set trouble = ${trouble}, renewing_until = null,
          renew_at = now() + ${RETRY_S} * interval '1 second'
        where server_id = ${serverId} and version = ${version}`;
      return;
    }
    const { count } = await sql`
      update authorizations set state = 'signed_out', trouble = ${trouble}, renewing_until = null,
        renew_at = null
      where server_id = ${serverId} and version = ${version}`;
    if (count === 0) return;
    await sql`
      insert into events (workspace_id, server_id, at, layer, level, message)
      select workspace_id, id, now(), 'handshake', 'error', ${`The account has to be signed in again: ${trouble}`} from servers where id = ${serverId}`;
  });
}

/** When to renew: ahead of the end, by a quarter of the token's life and five minutes at most. */
function renewalDueS(expiresInS: number | null, isRenewable: boolean): number | null {
  if (expiresInS === null) return null;
  // Without a means to renew it, that is when it ends.
  return isRenewable ? expiresInS - Math.min(300, expiresInS / 4) : expiresInS;
}

/** Takes note of what remote servers refused, as their toolbox: a token, or a call for want of scope. */
export async function noteRefusals(sql: Sql, refusals: Refusal[]): Promise<void> {
  for (const { serverId, status, error, scope } of refusals) {
    if (status === 401) {
      await sql`
        update authorizations set renew_at = now()
        where server_id = ${serverId} and state = 'signed_in'
          and renewed_at < now() - ${FRESH_S} * interval '1 second'`;
    } else if (error === "insufficient_scope" && scope) {
      // 2026-07-28, authorization#step-up-authorization-flow
      await sql`
        update authorizations set wanted_scope = ${scopeOf(scope)}
        where server_id = ${serverId} and wanted_scope is distinct from ${scopeOf(scope)}`;
    }
  }
}

/** What requests to a signed-in server are authorized by: for its toolbox alone. */
export async function authorizationHeaders(
  secretsKey: SecretsKey,
  serverId: string,
  sealed: SealedSecret,
): Promise<Record<string, string>> {
  const { accessToken } = Grant.parse(JSON.parse(await openSecret(secretsKey, serverId, sealed)));
  return { authorization: `Bearer ${accessToken}` };
}

async function openGrant(
  db: Database,
  secretsKey: SecretsKey,
  { id, toolboxId }: Server,
): Promise<Grant | null> {
  const [sealed] = await db.asToolbox(toolboxId, (sql) =>
    sql<SealedSecret[]>`
      select key_id as "keyId", iv, ciphertext from authorizations
      where server_id = ${id} and ciphertext is not null`);
  return sealed ? Grant.parse(JSON.parse(await openSecret(secretsKey, id, sealed))) : null;
}

/** @throws {Forbidden} for viewers, {@link changing} */
async function changeable(db: Database, user: User, serverId: string): Promise<Server> {
  let found: Server;
  await changing(db, user, serverId, (_, server) => Promise.resolve(void (found = server)));
  return found!;
}

function remoteUrl({ config: { entry }, removedAt }: Server): URL {
  if (removedAt) throw new Conflict("The server is being removed");
  if (entry.package.registry !== "remote") {
    throw new Invalid("Accounts are connected to remote servers alone");
  }
  const url = new URL(entry.package.url);
  if (url.protocol !== "https:") {
    throw new Invalid("An account can be connected where the server's URL is https alone");
  }
  return url;
}
