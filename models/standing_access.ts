/**
 * What acts for a person without their signing in: their personal tokens, and the clients that they let in. A new
 * password ends neither, as scripts and clients would stop with it; so the person is told, and may end all at once.
 */
import type { Database, Sql, User } from "./db.ts";

/** How many there are, in all workspaces. */
export interface StandingAccess {
  tokens: number;
  clients: number;
}

/** What works for a person now. */
export async function standingAccess(db: Database, user: User): Promise<StandingAccess> {
  const [found] = await db.asUser(user, (sql) =>
    sql<StandingAccess[]>`
      select (select count(*)::int from personal_tokens where ${working(sql)}) as tokens,
        (select count(*)::int from agent_tokens where ${letIn(sql, user)}) as clients`);
  return found;
}

/** Ends it; from the next request on it opens nothing. */
export async function endStandingAccess(db: Database, user: User): Promise<void> {
  await db.asUser(user, async (sql) => {
    await sql`update personal_tokens set revoked_at = now() where ${working(sql)}`;
    await sql`update agent_tokens set revoked_at = now() where ${letIn(sql, user)}`;
  });
}

function working(sql: Sql) {
  return sql`revoked_at is null and (expires_at is null or expires_at > now())`;
}

/** A viewer's clients open nothing. */
function letIn(sql: Sql, { userId }: User) {
  return sql`${working(sql)} and client_id is not null and granted_by = ${userId}
    and workspace_id in (select mooring.workspaces_as('member'))`;
}
