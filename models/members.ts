/** Who belongs to a workspace, and as what. */
import { z } from "zod";
import type { Database, User } from "./db.ts";
import { Invalid } from "./errors.ts";
import { inWorkspace, type Role } from "./workspaces.ts";

export const Roles = z.enum(["owner", "admin", "member", "viewer"]);

export interface Member {
  userId: string;
  name: string;
  email: string;
  role: Role;
  since: Date;
}

/** The members of a workspace: owners first, then by name. */
export async function listMembers(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<Member[]> {
  return await db.asUser(user, async (sql) => [
    ...await sql<Member[]>`
      select m.user_id as "userId", p.name, p.email, m.role, m.created_at as since
      from members m join profiles p on p.user_id = m.user_id
      where m.workspace_id = ${workspaceId}
      order by array_position(array['owner', 'admin', 'member', 'viewer'], m.role),
        lower(p.name), m.user_id`,
  ]);
}

/**
 * Makes a member more or less than they were. Nobody changes one who is more than themselves, or makes
 * anybody more than themselves.
 *
 * @throws {Forbidden} it takes a higher role
 * @throws {Conflict} it is the last owner
 */
export async function setRole(
  db: Database,
  user: User,
  workspaceId: string,
  memberId: string,
  role: string,
): Promise<void> {
  const parsed = Roles.safeParse(role);
  if (!parsed.success) throw new Invalid("Choose one of the roles");
  await inWorkspace(
    db,
    user,
    (sql) => sql`select mooring.set_role(${workspaceId}, ${memberId}, ${parsed.data})`,
  );
}

/**
 * Takes a member out of a workspace, or oneself. What they made there stays; their own tokens end.
 *
 * @throws {Forbidden | Conflict} {@link setRole}
 */
export async function removeMember(
  db: Database,
  user: User,
  workspaceId: string,
  memberId: string,
): Promise<void> {
  await inWorkspace(
    db,
    user,
    (sql) => sql`select mooring.remove_member(${workspaceId}, ${memberId})`,
  );
}

/** Makes another member an owner, and the asker, who was, an admin. @throws {Forbidden} */
export async function transferWorkspace(
  db: Database,
  user: User,
  workspaceId: string,
  memberId: string,
): Promise<void> {
  await inWorkspace(
    db,
    user,
    (sql) => sql`select mooring.transfer_workspace(${workspaceId}, ${memberId})`,
  );
}
