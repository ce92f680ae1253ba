/** Personal access tokens: with one, a program acts as its person, in one workspace. */
import { v7 } from "uuid";
import { z } from "zod";
import type { Database, User } from "./db.ts";
import { Invalid, NotFound } from "./errors.ts";
import type { Person } from "./identity.ts";
import { newToken, tokenHash } from "./tokens.ts";
import { type Role, validName, type Workspace } from "./workspaces.ts";

/** What a token may do, of what its person may; each with what a page says of it. */
export const SCOPES = {
  "read": "Read all that you see: catalog, servers, logs, tools, agents, toolboxes, calls",
  "servers:write": "Deploy, change, stop, start and remove servers",
  "tools:approve": "Approve tools and take approval back",
  "tools:call": "Call tools, as their pages do",
  "agents:write": "Make and change agents, their tokens and connections",
  "catalog:write": "Add, sync and remove catalog sources (owners and admins)",
  "toolboxes:write": "Add, change, drain and revoke toolboxes",
  "calls:read-bodies": "Read what was said in calls, where it is kept (owners and admins)",
  "workspace:write":
    "Say how long calls are kept (owners and admins), and whether what is said is (owners)",
  "secrets:export": "Export servers' secrets, sealed with a passphrase (owners and admins)",
} as const;
export const Scope = z.enum(
  Object.keys(SCOPES) as [keyof typeof SCOPES, ...(keyof typeof SCOPES)[]],
);
export type Scope = z.infer<typeof Scope>;

export interface PersonalToken {
  id: string;
  name: string;
  scopes: Scope[];
  createdAt: Date;
  expiresAt: Date | null;
  revokedAt: Date | null;
  lastUsedAt: Date | null;
}

/** A person's own tokens for a workspace, newest first. */
export async function listPersonalTokens(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<PersonalToken[]> {
  return await db.asUser(user, async (sql) =>
    await sql<PersonalToken[]>`
      select id, name, scopes, created_at as "createdAt", expires_at as "expiresAt",
        revoked_at as "revokedAt", last_used_at as "lastUsedAt"
      from personal_tokens where workspace_id = ${workspaceId} order by created_at desc, id desc`);
}

/**
 * Makes a token. It is returned once; only its hash is kept.
 *
 * @param token.expiresInDays null for one that does not expire
 * @throws {Invalid} the name does not hold, or no scope was chosen
 */
export async function createPersonalToken(
  db: Database,
  user: User,
  workspaceId: string,
  token: { name: string; scopes: string[]; expiresInDays: number | null },
): Promise<{ id: string; token: string }> {
  const name = validName(token.name);
  const scopes = z.array(Scope).safeParse([...new Set(token.scopes)]);
  if (!scopes.success || scopes.data.length === 0) {
    const message = "Choose what the token may do";
    throw new Invalid(message, { scopes: message });
  }
  const id = v7(), text = newToken("mpt"), hash = await tokenHash(text);
  await db.asUser(user, (sql) =>
    sql`
      insert into personal_tokens (id, workspace_id, user_id, name, token_hash, scopes, expires_at)
      values (${id}, ${workspaceId}, ${user.userId}, ${name}, ${hash}, ${scopes.data},
        now() + make_interval(days => ${token.expiresInDays}))`);
  return { id, token: text };
}

/** Ends a token; from the next request on it opens nothing. @throws {NotFound} */
export async function revokePersonalToken(
  db: Database,
  user: User,
  tokenId: string,
): Promise<void> {
  await db.asUser(user, async (sql) => {
    const [token] = await sql`select from personal_tokens where id = ${tokenId}`;
    if (!token) throw new NotFound("You have no such token");
    await sql`
      update personal_tokens set revoked_at = now() where id = ${tokenId} and revoked_at is null`;
  });
}

/** Who acts with a personal token, and how far they may. */
export interface TokenBearer {
  tokenId: string;
  user: User & Person;
  workspace: Workspace;
  scopes: Scope[];
  expiresAt: Date | null;
}

/** Whose a token is, or null when it is unknown, revoked or expired. */
export async function bearerOfToken(db: Database, token: string): Promise<TokenBearer | null> {
  if (!/^mpt_[A-Za-z0-9_-]{43}$/.test(token)) return null;
  const [row] = await db.asApp<
    {
      token_id: string;
      user_id: string;
      email: string;
      name: string;
      workspace_id: string;
      workspace_name: string;
      role: Role;
      scopes: string[];
      expires_at: Date | null;
    }[]
  >`select * from mooring.person_of_token(${await tokenHash(token)})`;
  if (!row) return null;
  await db.asApp`select mooring.personal_token_was_used(${row.token_id})`;
  return {
    tokenId: row.token_id,
    user: {
      userId: row.user_id,
      within: row.workspace_id,
      email: row.email,
      name: row.name,
    },
    workspace: { id: row.workspace_id, name: row.workspace_name, role: row.role },
    // A scope that a later version took away opens nothing.
    scopes: row.scopes.filter((scope) => Scope.safeParse(scope).success) as Scope[],
    expiresAt: row.expires_at,
  };
}
