/**
 * That Mooring may act at a remote server for a person who signed in there: how they sign in, what is
 * kept of it, and how it is renewed. The toolbox gets the access token; the refresh token stays here,
 * sealed. A server is called with one account for all, and may be called with another for one agent, whose
 * instance of it is then its own.
 */
import { v7 } from "uuid";
import { z } from "zod";
import type { Refusal } from "../dtma/protocol.ts";
import { letHaveInstances } from "./connection_secrets.ts";
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
import { changing, instancesOf, sayRequest, type Server } from "./servers.ts";
import { ClientNeeded, SignInFailed } from "./sign_in_failed.ts";
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

/** Whose account at a remote server: one agent's, or with null the one that it is called with for all. */
export interface AccountOf {
  serverId: string;
  agentId: string | null;
}

/** An account; null: there is none. */
export async function getAuthorization(
  db: Database,
  user: User,
  { serverId, agentId }: AccountOf,
): Promise<Authorization | null> {
  const [row] = await db.asUser(user, (sql) =>
    sql<Authorization[]>`
      select a.state, a.trouble, a.issuer, a.scope, a.wanted_scope as "wantedScope",
        a.signed_in_at as "signedInAt", a.renewed_at as "renewedAt",
        coalesce(nullif(p.name, ''), p.email) as "signedInByName"
      from authorizations a left join profiles p on p.user_id = a.signed_in_by
      where a.server_id = ${serverId} and a.agent_id is not distinct from ${agentId}::uuid`);
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
 * @param form `clientId` and `clientSecret` of a client that a person registered, may be left out; for an
 *   agent's own account `instancePerAgent`, where the server has one instance for all
 * @throws {SignInFailed} with what a person can do; {@link ClientNeeded} when they have to give a client
 */
export async function beginSignIn(
  { db, secretsKey, outside }: SignInDeps,
  user: User,
  account: AccountOf,
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
  const { serverId, agentId } = account;
  const server = await changeable(db, user, account);
  const url = remoteUrl(server);
  if (agentId !== null) mustHaveInstances(server, form);
  const site = siteOf(baseUrl);

  const { provider, scope } = await discover(outside, url);
  // An agent's first sign-in is by the client that the server's own account made known there.
  const before = await openGrant(db, secretsKey, server, agentId) ??
    await openGrant(db, secretsKey, server, null);
  // Credentials are one authorization server's alone (2026-07-28, #authorization-server-binding).
  const isSame = before?.provider.metadata.issuer === provider.metadata.issuer;
  // Many forget whom they registered, and say so to the browser alone, where nothing comes back from.
  const mayBeForgotten = before?.client.origin === "registered" && before.state === "signed_out";
  const known = isSame ? before!.client : null;
  const client = await clientAt(outside, provider, site, {
    typed: id ? { id, secret } : null,
    before: mayBeForgotten ? null : known,
  }).catch((error) => {
    // Where none is registered now it may be known still.
    if (!(error instanceof ClientNeeded) || known?.redirectUri !== site.redirectUri) throw error;
    return known;
  });
  const kept = isSame ? await getAuthorization(db, user, account) : null;
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
  )}, ${user.userId}, ${serverId}, ${keyId}, ${iv}, ${ciphertext}, ${agentId})`;
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
): Promise<{ account: AccountOf; failure: SignInFailed | null }> {
  const { db, secretsKey, outside } = deps;
  const state = returned.get("state") ?? "", stateHash = await tokenHash(state);
  const [taken] = await db.asApp<(AccountOf & SealedSecret)[]>`
    select server_id as "serverId", agent_id as "agentId", key_id as "keyId", iv, ciphertext
    from mooring.take_authorization_request(${stateHash}, ${await tokenHash(
    browserToken,
  )}, ${user.userId})`;
  if (!taken) {
    throw new NotFound(
      "This sign-in was not begun here, was ended before, or took longer than ten minutes: begin it again on the server's page",
    );
  }
  const { serverId, agentId } = taken;
  const account = { serverId, agentId };
  const attempt = Attempt.parse(JSON.parse(await openSecret(secretsKey, stateHash, taken)));
  try {
    const tokens = await tokensFor(outside, attempt, returned, state);
    await keepGrant(deps, user, account, attempt, tokens);
    return { account, failure: null };
  } catch (error) {
    if (error instanceof SignInFailed) return { account, failure: error };
    throw error;
  }
}

/** Keeps what a sign-in brought; the toolbox gets its access token at once. */
async function keepGrant(
  { db, secretsKey }: SignInDeps,
  user: User,
  { serverId, agentId }: AccountOf,
  { provider, client, scope }: Attempt,
  tokens: Tokens,
): Promise<void> {
  const { accessToken, refreshToken } = tokens;
  const grant: Grant = { provider, client, accessToken, refreshToken };
  // Another one each time: what an agent's instance began at the server under one account ends with it.
  const id = agentId === null ? serverId : v7();
  const { keyId, iv, ciphertext } = await sealSecret(secretsKey, id, JSON.stringify(grant));
  const { issuer } = provider.metadata;
  await changing(db, user, serverId, async (sql, server) => {
    if (server.removedAt) throw new Conflict("The server is being removed");
    const agent = agentId === null ? null : await connectedAgent(sql, serverId, agentId);
    if (agent) await letHaveInstances(sql, user, server, { instancePerAgent: "true" });
    const renewInS = renewalDueS(tokens.expiresInS, refreshToken !== null);
    const row = {
      id,
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
      sql({ ...row, server_id: serverId, agent_id: agentId, workspace_id: server.workspaceId })
    }
      on conflict (server_id, agent_id) do update set ${sql(row)}`;
    await sql`
      update authorizations set version = version + 1, signed_in_at = now(), renewed_at = now(),
        renew_at = now() + ${renewInS} * interval '1 second'
      where id = ${id}`;
    const whose = agent ? `the agent "${agent.name}" with an account of its own` : "an account";
    await sayRequest(sql, user, server, `Connected ${whose} at ${new URL(issuer).host}`);
  });
}

/**
 * Forgets an account, and tells its authorization server where that takes it. A server that has no other
 * credentials will refuse calls from then on; an agent is served with the server's own again.
 */
export async function disconnect(
  { db, secretsKey, outside }: SignInDeps,
  user: User,
  account: AccountOf,
): Promise<void> {
  const { serverId, agentId } = account;
  const server = await changeable(db, user, account);
  const grant = await openGrant(db, secretsKey, server, agentId);
  await changing(db, user, serverId, async (sql, server) => {
    const agent = agentId === null ? null : await connectedAgent(sql, serverId, agentId);
    const { count } = await sql`
      delete from authorizations
      where server_id = ${serverId} and agent_id is not distinct from ${agentId}::uuid`;
    const whose = agent ? `the agent "${agent.name}" from its own account` : "the account";
    if (count > 0) await sayRequest(sql, user, server, `Disconnected ${whose}`);
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

/** An account as it is when its renewal begins. */
interface Renewing {
  id: string;
  version: string;
}

/**
 * Renews what is due of a toolbox's servers; of several replicas one does. Where the authorization
 * server refuses for good, the person has to sign in again, and the server is stopped until then; of an
 * agent's own account the agent alone waits.
 */
export async function renewAuthorizations(deps: SignInDeps, toolboxId: string): Promise<void> {
  const { db, secretsKey, outside } = deps;
  const due = await db.asToolbox(
    toolboxId,
    (sql) =>
      sql<(Renewing & SealedSecret)[]>`
      update authorizations set renewing_until = now() + ${LEASE_S} * interval '1 second'
      where id in (
        select id from authorizations
        where state = 'signed_in' and renew_at <= now()
          and (renewing_until is null or renewing_until < now())
        -- As reports of refused calls lock them.
        order by id for no key update)
      returning id, version::text, key_id as "keyId", iv, ciphertext`,
  );
  await Promise.all(due.map(async ({ id, version, ...sealed }) => {
    const grant = Grant.parse(JSON.parse(await openSecret(secretsKey, id, sealed)));
    try {
      const tokens = await renewedTokens(outside, grant);
      await keepRenewal(deps, toolboxId, { id, version }, grant, tokens);
    } catch (error) {
      if (!(error instanceof SignInFailed)) throw error;
      await keepFailure(db, toolboxId, { id, version }, error);
    }
  }));
}

async function keepRenewal(
  { db, secretsKey }: SignInDeps,
  toolboxId: string,
  { id, version }: Renewing,
  grant: Grant,
  { accessToken, refreshToken, expiresInS }: Tokens,
): Promise<void> {
  // One that is not replaced by another stays (RFC 6749, section 6).
  const renewed: Grant = {
    ...grant,
    accessToken,
    refreshToken: refreshToken ?? grant.refreshToken,
  };
  const { keyId, iv, ciphertext } = await sealSecret(secretsKey, id, JSON.stringify(renewed));
  const renewInS = renewalDueS(expiresInS, renewed.refreshToken !== null);
  await db.asToolbox(toolboxId, (sql) =>
    sql`
      update authorizations set trouble = null, key_id = ${keyId}, iv = ${iv}, ciphertext = ${ciphertext},
        version = version + 1, renewed_at = now(), renewing_until = null,
        renew_at = now() + ${renewInS} * interval '1 second'
      where id = ${id} and version = ${version}`);
}

async function keepFailure(
  db: Database,
  toolboxId: string,
  { id, version }: Renewing,
  { message, isFinal }: SignInFailed,
): Promise<void> {
  const trouble = message.slice(0, 1000);
  await db.asToolbox(toolboxId, async (sql) => {
    if (!isFinal) {
      await sql`
        update authorizations set trouble = ${trouble}, renewing_until = null,
          renew_at = now() + ${RETRY_S} * interval '1 second'
        where id = ${id} and version = ${version}`;
      return;
    }
    const [gone] = await sql`
      update authorizations set state = 'signed_out', trouble = ${trouble}, renewing_until = null,
        renew_at = null
      where id = ${id} and version = ${version}
      returning workspace_id, server_id, agent_id`;
    if (!gone) return;
    const whose = gone.agent_id === null ? "The account" : "An agent's own account";
    await sql`
      insert into events (workspace_id, server_id, at, layer, level, message)
      values (${gone.workspace_id}, ${gone.server_id}, now(), 'handshake', 'error',
        ${`${whose} has to be signed in again: ${trouble}`})`;
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
  for (const { serverId, account, status, error, scope } of refusals) {
    const id = account ?? serverId;
    if (status === 401) {
      await sql`
        update authorizations set renew_at = now()
        where id = ${id} and server_id = ${serverId} and state = 'signed_in'
          and renewed_at < now() - ${FRESH_S} * interval '1 second'`;
    } else if (error === "insufficient_scope" && scope) {
      // 2026-07-28, authorization#step-up-authorization-flow
      await sql`
        update authorizations set wanted_scope = ${scopeOf(scope)}
        where id = ${id} and server_id = ${serverId}
          and wanted_scope is distinct from ${scopeOf(scope)}`;
    }
  }
}

/** What requests to a signed-in server are authorized by: for its toolbox alone. */
export async function authorizationHeaders(
  secretsKey: SecretsKey,
  id: string,
  sealed: SealedSecret,
): Promise<Record<string, string>> {
  const { accessToken } = Grant.parse(JSON.parse(await openSecret(secretsKey, id, sealed)));
  return { authorization: `Bearer ${accessToken}` };
}

async function openGrant(
  db: Database,
  secretsKey: SecretsKey,
  { id: serverId, toolboxId }: Server,
  agentId: string | null,
): Promise<(Grant & Pick<Authorization, "state">) | null> {
  const [row] = await db.asToolbox(
    toolboxId,
    (sql) =>
      sql<(Pick<Authorization, "state"> & { id: string } & SealedSecret)[]>`
      select id, state, key_id as "keyId", iv, ciphertext from authorizations
      where server_id = ${serverId} and agent_id is not distinct from ${agentId}::uuid
        and ciphertext is not null`,
  );
  if (!row) return null;
  const grant = Grant.parse(JSON.parse(await openSecret(secretsKey, row.id, row)));
  return { ...grant, state: row.state };
}

/** @throws {Forbidden} for viewers, {@link changing}; {NotFound} of an agent that is not connected */
async function changeable(
  db: Database,
  user: User,
  { serverId, agentId }: AccountOf,
): Promise<Server> {
  let found: Server;
  await changing(db, user, serverId, async (sql, server) => {
    if (agentId !== null) await connectedAgent(sql, serverId, agentId);
    found = server;
  });
  return found!;
}

async function connectedAgent(
  sql: Sql,
  serverId: string,
  agentId: string,
): Promise<{ name: string }> {
  const [agent] = await sql<{ name: string }[]>`
    select a.name from connections c join agents a on a.id = c.agent_id
    where c.agent_id = ${agentId} and c.server_id = ${serverId}`;
  if (!agent) throw new NotFound("The agent is not connected to such a server");
  return agent;
}

/** Said before a person goes to sign in; the server gets them when there is an account. */
function mustHaveInstances({ config }: Server, { instancePerAgent }: Record<string, string>): void {
  if (instancesOf(config) === "agent" || instancePerAgent === "true") return;
  const mistake = "The server needs an instance for each agent: tick this, or connect no account";
  throw new Invalid(mistake, { instancePerAgent: mistake });
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
