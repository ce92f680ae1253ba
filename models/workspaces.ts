import { v7 } from "uuid";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, Forbidden, Invalid, isDenied, NotFound } from "./errors.ts";

export type Role = "owner" | "admin" | "member" | "viewer";

export interface Workspace {
  id: string;
  name: string;
  /** What the asker is in it. */
  role: Role;
  /** Agents' requests that wait for a person, where they were counted. */
  openWishes?: number;
}

/** The workspaces a person belongs to, oldest first. */
export async function workspacesOf(db: Database, user: User): Promise<Workspace[]> {
  return await db.asUser(user, async (sql) => [
    ...await sql<Workspace[]>`
      select w.id, w.name, m.role, (select count(*)::int from wishes x
        where x.workspace_id = w.id and x.state = 'open' and x.expires_at > now()) as "openWishes"
      from workspaces w
      join members m on m.workspace_id = w.id and m.user_id = ${user.userId}
      order by w.created_at, w.id`,
  ]);
}

/**
 * Makes a workspace, which the person owns.
 *
 * @returns its id
 * @throws {Invalid} the name does not hold
 * @throws {Conflict} they own as many as a person may
 */
export async function createWorkspace(db: Database, user: User, name: string): Promise<string> {
  const id = v7(), named = validName(name);
  await inWorkspace(db, user, (sql) => sql`select mooring.create_workspace(${id}, ${named})`);
  return id;
}

/** Gives a workspace another name. @throws {Invalid} @throws {Forbidden} for members and viewers */
export async function renameWorkspace(db: Database, user: User, workspaceId: string, name: string) {
  const named = validName(name);
  await inWorkspace(db, user, async (sql) => {
    const { count } = await sql`update workspaces set name = ${named} where id = ${workspaceId}`;
    if (count > 0) return;
    const [seen] = await sql`select from workspaces where id = ${workspaceId}`;
    throw seen ? new Forbidden(ROLE_TOO_LOW) : new NotFound("There is no such workspace");
  });
}

/** What of a workspace runs on somebody's host, and so stands in the way of deleting it. */
export interface Holdings {
  servers: { id: string; name: string; isBeingRemoved: boolean }[];
  toolboxes: { id: string; name: string; isLocal: boolean; isRevoked: boolean }[];
  /** What would go with it. */
  agents: number;
  members: number;
}

export async function holdingsOf(db: Database, user: User, workspaceId: string): Promise<Holdings> {
  return await db.asUser(user, async (sql) => {
    const servers = await sql<Holdings["servers"]>`
      select id, name, removed_at is not null as "isBeingRemoved" from servers
      where workspace_id = ${workspaceId} order by lower(name), id`;
    const toolboxes = await sql<Holdings["toolboxes"]>`
      select id, name, is_local as "isLocal", revoked_at is not null as "isRevoked" from toolboxes
      where workspace_id = ${workspaceId} order by lower(name), id`;
    const [counts] = await sql<{ agents: number; members: number }[]>`
      select (select count(*)::int from agents where workspace_id = ${workspaceId}) as agents,
        (select count(*)::int from members where workspace_id = ${workspaceId}) as members`;
    return { servers, toolboxes, ...counts };
  });
}

/**
 * Deletes a workspace with its agents, tokens, calls, events, members and invitations.
 *
 * @param typedName the workspace's name, as the person typed it to confirm
 * @throws {Invalid} another name was typed
 * @throws {Conflict} servers or toolboxes are left: without their rows nobody would end what they run
 * @throws {Forbidden} for all but owners
 */
export async function deleteWorkspace(
  db: Database,
  user: User,
  workspaceId: string,
  typedName: string,
): Promise<{ name: string }> {
  return await inWorkspace(db, user, async (sql) => {
    const [workspace] = await sql<{ name: string }[]>`
      select name from workspaces where id = ${workspaceId}`;
    if (!workspace) throw new NotFound("There is no such workspace");
    if (typedName.trim() !== workspace.name) {
      const message = "That is not the workspace's name: type it as it is written above";
      throw new Invalid(message, { confirmation: message });
    }
    const [{ deleted }] = await sql`select mooring.delete_workspace(${workspaceId}) as deleted`;
    if (!deleted) {
      throw new Conflict("Servers or toolboxes are left: remove them first, then delete it");
    }
    return workspace;
  });
}

/** Said to those whose role does not reach. */
const ROLE_TOO_LOW = "Your role in this workspace does not allow that: ask an owner";

/**
 * Does work as a person, and says in the model's words what the functions of
 * `20261125002500_workspaces.sql` refuse.
 */
export async function inWorkspace<T>(
  db: Database,
  user: User,
  work: (sql: Sql) => Promise<T>,
): Promise<T> {
  try {
    return await db.asUser(user, work);
  } catch (error) {
    if (isDenied(error)) throw new Forbidden(ROLE_TOO_LOW);
    switch ((error as { code?: string } | null)?.code) {
      case "P0002":
        throw new NotFound((error as Error).message);
      case "MLAST":
        throw new Conflict(
          "A workspace needs an owner, and this is its last one: make another member an owner first",
        );
      case "MMANY":
        throw new Conflict(`${(error as Error).message}: remove some first`);
    }
    throw error;
  }
}

/** A name as people give it: trimmed, 1 to 80 characters, no control characters. */
export function validName(name: string, field = "name"): string {
  const trimmed = name.trim();
  // deno-lint-ignore no-control-regex
  if (!trimmed || trimmed.length > 80 || /[\u0000-\u001f\u007f]/.test(trimmed)) {
    const message = "Give a name of 1 to 80 characters";
    throw new Invalid(message, { [field]: message });
  }
  return trimmed;
}
