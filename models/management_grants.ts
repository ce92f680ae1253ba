/** Agents that manage Mooring itself: as the admin or owner who said so, as far as the grant goes. */
import { z } from "zod";
import { getAgent } from "./agents.ts";
import type { Database, User } from "./db.ts";
import { Forbidden, Invalid, isDenied } from "./errors.ts";
import type { TokenBearer } from "./personal_tokens.ts";
import { rejectBeyond } from "./wishes.ts";
import type { Role } from "./workspaces.ts";

/** What an agent may be granted. */
const ManagementScope = z.enum(["read", "servers:write", "agents:write"]);
export type ManagementScope = z.infer<typeof ManagementScope>;

export interface ManagementGrant {
  scopes: ManagementScope[];
  /** Of these a person has to approve each use (models/wishes.ts). */
  asks: ManagementScope[];
  grantedByName: string;
  createdAt: Date;
}

/** What an agent may do with Mooring, or null. */
export async function managementGrant(
  db: Database,
  user: User,
  agentId: string,
): Promise<ManagementGrant | null> {
  const [grant] = await db.asUser(user, (sql) =>
    sql<ManagementGrant[]>`
      select g.scopes, g.asks,
        coalesce(nullif(p.name, ''), p.email) as "grantedByName", g.created_at as "createdAt"
      from management_grants g join profiles p on p.user_id = g.granted_by
      where g.agent_id = ${agentId}`);
  return grant ?? null;
}

/**
 * Says what an agent may do with Mooring, in place of what was said before; with no scope: nothing. What it
 * asked for and may not do any more is rejected.
 *
 * @param grant.asks of the scopes, those that a person approves each use of
 * @throws {Forbidden} for all but admins and owners
 * @throws {Invalid} an unknown scope
 */
export async function grantManagement(
  db: Database,
  user: User,
  agentId: string,
  grant: { scopes: string[]; asks: string[] },
): Promise<void> {
  const parsed = z.array(ManagementScope).safeParse([...new Set(grant.scopes)]);
  if (!parsed.success) throw new Invalid("Choose what the agent may do");
  const scopes = parsed.data;
  const asks = scopes.filter((scope) => scope !== "read" && grant.asks.includes(scope));
  const { workspaceId } = await getAgent(db, user, agentId);
  try {
    await db.asUser(user, async (sql) => {
      const [may] = await sql`
        select ${workspaceId}::uuid in (select mooring.workspaces_as('admin')) as admin`;
      if (!may.admin) throw new Forbidden(ADMINS_ONLY);
      // One after the other: neither would see what the other puts in place of what both took away.
      await sql`select from agents where id = ${agentId} for no key update`;
      await sql`delete from management_grants where agent_id = ${agentId}`;
      await rejectBeyond(sql, user, agentId, scopes);
      if (scopes.length === 0) return;
      await sql`
        insert into management_grants (agent_id, workspace_id, granted_by, scopes, asks)
        values (${agentId}, ${workspaceId}, ${user.userId}, ${scopes}, ${asks})`;
    });
  } catch (error) {
    if (isDenied(error)) throw new Forbidden(ADMINS_ONLY);
    throw error;
  }
}

const ADMINS_ONLY = "Only admins and owners can let an agent manage Mooring";

/** As whom an agent acts, and how far. */
export interface Manager {
  bearer: Omit<TokenBearer, "expiresAt">;
  /** What a person has to approve each use of. */
  asks: ManagementScope[];
}

/** As whom an agent manages Mooring now; null when it may not, or who granted it left. */
export async function managerOf(db: Database, agentId: string): Promise<Manager | null> {
  const [row] = await db.asApp<
    {
      user_id: string;
      email: string;
      name: string;
      workspace_id: string;
      workspace_name: string;
      role: Role;
      scopes: ManagementScope[];
      asks: ManagementScope[];
    }[]
  >`select * from mooring.manager_of_agent(${agentId})`;
  if (!row) return null;
  const { user_id: userId, workspace_id: within, email, name, role, scopes } = row;
  return {
    bearer: {
      tokenId: agentId,
      user: { userId, within, email, name },
      workspace: { id: within, name: row.workspace_name, role },
      scopes,
    },
    asks: row.asks,
  };
}
