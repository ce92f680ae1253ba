import type { ToolDefinition } from "../dtma/protocol.ts";
import type { Database, User } from "./db.ts";
import { Conflict, Forbidden, NotFound } from "./errors.ts";
import { recordEvent } from "./events.ts";

/** `changed`: approved once, but the server lists another definition now; it is withheld. */
export type ToolState = "waiting" | "approved" | "changed" | "gone";

export interface Tool {
  serverId: string;
  name: string;
  definition: ToolDefinition;
  hash: string;
  state: ToolState;
  approvedDefinition: ToolDefinition | null;
  approvedHash: string | null;
  approvedAt: Date | null;
  firstSeenAt: Date;
  changedAt: Date;
}

/** A server's tools: what needs a decision first, then by name. */
export async function listTools(db: Database, user: User, serverId: string): Promise<Tool[]> {
  return await db.asUser(user, async (sql) =>
    await sql<Tool[]>`
      select server_id as "serverId", name, definition, hash, approved_definition as "approvedDefinition",
        approved_hash as "approvedHash", approved_at as "approvedAt", first_seen_at as "firstSeenAt",
        changed_at as "changedAt",
        case when not present then 'gone' when approved_hash is null then 'waiting'
          when approved_hash = hash then 'approved' else 'changed' end as state
      from tools where server_id = ${serverId}
      order by array_position(array['changed', 'waiting', 'approved', 'gone'],
        case when not present then 'gone' when approved_hash is null then 'waiting'
          when approved_hash = hash then 'approved' else 'changed' end), name`);
}

/** @throws {NotFound} */
export async function getTool(
  db: Database,
  user: User,
  serverId: string,
  name: string,
): Promise<Tool> {
  const tool = (await listTools(db, user, serverId)).find((tool) => tool.name === name);
  if (!tool) throw new NotFound("The server has no such tool");
  return tool;
}

/**
 * Approves tools: exactly the definitions that the person saw, by their hashes. From now on agents
 * get them, as long as the server lists them unchanged.
 *
 * @throws {Conflict} naming the tools whose definition changed since; the others are approved
 * @throws {Forbidden} for viewers
 */
export async function approveTools(
  db: Database,
  user: User,
  serverId: string,
  picks: { name: string; hash: string }[],
): Promise<void> {
  const changed = await db.asUser(user, async (sql) => {
    const server = await findServer(sql, serverId);
    const approved: string[] = [];
    for (const { name, hash } of picks) {
      const { count } = await sql`
        update tools set approved_definition = definition, approved_hash = hash,
          approved_by = ${user.userId}, approved_at = now()
        where server_id = ${serverId} and name = ${name} and hash = ${hash}
          and approved_hash is distinct from hash`;
      if (count > 0) approved.push(name);
    }
    const known = await sql<{ name: string; hash: string; approved_hash: string | null }[]>`
      select name, hash, approved_hash from tools where server_id = ${serverId}`;
    const now = new Map(known.map((row) => [row.name, row]));
    const stale = picks.filter(({ name, hash }) => now.get(name)?.hash !== hash);
    const refused = picks.some(({ name, hash }) => {
      const row = now.get(name);
      return row?.hash === hash && row.approved_hash !== hash;
    });
    if (refused) throw new Forbidden("Only members of the workspace can approve tools");
    if (approved.length > 0) {
      await recordEvent(sql, user, {
        ...server,
        layer: "tools",
        message: `Approved ${namesOf(approved)}`,
      });
    }
    return stale.map(({ name }) => name);
  });
  if (changed.length > 0) {
    throw new Conflict(
      `Changed since you looked, so not approved: ${namesOf(changed)}. Read them again`,
    );
  }
}

/**
 * Takes approval back: agents no longer get these tools.
 *
 * @throws {Forbidden} for viewers
 */
export async function withdrawApproval(
  db: Database,
  user: User,
  serverId: string,
  names: string[],
): Promise<void> {
  await db.asUser(user, async (sql) => {
    const server = await findServer(sql, serverId);
    const rows = await sql<{ name: string }[]>`
      update tools set approved_definition = null, approved_hash = null, approved_by = null, approved_at = null
      where server_id = ${serverId} and name = any(${names}) and approved_hash is not null
      returning name`;
    if (rows.length === 0) {
      const [kept] = await sql`
        select from tools
        where server_id = ${serverId} and name = any(${names}) and approved_hash is not null limit 1`;
      if (kept) throw new Forbidden("Only members of the workspace can withdraw an approval");
      return;
    }
    await recordEvent(sql, user, {
      ...server,
      layer: "tools",
      message: `Withdrew the approval of ${namesOf(rows.map((row) => row.name))}`,
    });
  });
}

async function findServer(
  sql: Parameters<Parameters<Database["asUser"]>[1]>[0],
  serverId: string,
): Promise<{ serverId: string; workspaceId: string }> {
  const [server] = await sql`select workspace_id from servers where id = ${serverId}`;
  if (!server) throw new NotFound("There is no such server");
  return { serverId, workspaceId: server.workspace_id };
}

function namesOf(names: string[]): string {
  const shown = names.slice(0, 10).map((name) => name.slice(0, 60));
  return shown.join(", ") + (names.length > 10 ? ` and ${names.length - 10} more` : "");
}
