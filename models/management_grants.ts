/** Agents that manage Mooring itself: as the admin or owner who said so, as far as the grant goes. */
import { z } from "zod";
import { getAgent } from "./agents.ts";
import type { Database, User } from "./db.ts";
import { Forbidden, Invalid, isDenied } from "./errors.ts";
import type { TokenBearer } from "./personal_tokens.ts";
import type { Role } from "./workspaces.ts";

/** What an agent may be granted. */
const ManagementScope = z.enum(["read", "servers:write", "agents:write"]);
export type ManagementScope = z.infer<typeof ManagementScope>;

export interface ManagementGrant {
  scopes: ManagementScope[];
  /** What changes something is refused, and the agent told where a person does it. */
  leavesChangesToPeople: boolean;
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
      select g.scopes, g.leaves_changes_to_people as "leavesChangesToPeople",
        coalesce(nullif(p.name, ''), p.email) as "grantedByName", g.created_at as "createdAt"
      from management_grants g join profiles p on p.user_id = g.granted_by
      where g.agent_id = ${agentId}`);
  return grant ?? null;
}

/**
 * Says what an agent may do with Mooring, in place of what was said before; with no scope: nothing.
 *
 * @throws {Forbidden} for all but admins and owners
 * @throws {Invalid} an unknown scope
 */
export async function grantManagement(
  db: Database,
  user: User,
  agentId: string,
  grant: { scopes: string[]; leavesChangesToPeople: boolean },
): Promise<void> {
  const scopes = z.array(ManagementScope).safeParse([...new Set(grant.scopes)]);
  if (!scopes.success) throw new Invalid("Choose what the agent may do");
  const { workspaceId } = await getAgent(db, user, agentId);
  try {
    await db.asUser(user, async (sql) => {
      const [may] = await sql`
        select ${workspaceId}::uuid in (select mooring.workspaces_as('admin')) as admin`;
      if (!may.admin) throw new Forbidden(ADMINS_ONLY);
      await sql`delete from management_grants where agent_id = ${agentId}`;
      if (scopes.data.length === 0) return;
      await sql`
        insert into management_grants (agent_id, workspace_id, granted_by, scopes, leaves_changes_to_people)
        values (${agentId}, ${workspaceId}, ${user.userId}, ${scopes.data}, ${grant.leavesChangesToPeople})`;
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
  leavesChangesToPeople: boolean;
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
      leaves_changes_to_people: boolean;
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
    leavesChangesToPeople: row.leaves_changes_to_people,
  };
}
