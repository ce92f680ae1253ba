import type { Database, User } from "./db.ts";
import { Invalid } from "./errors.ts";

export type Role = "owner" | "admin" | "member" | "viewer";

export interface Workspace {
  id: string;
  name: string;
  /** What the asker is in it. */
  role: Role;
}

/** The workspaces a person belongs to, oldest first. */
export async function workspacesOf(db: Database, user: User): Promise<Workspace[]> {
  return await db.asUser(user, async (sql) => [
    ...await sql<Workspace[]>`
      select w.id, w.name, m.role from workspaces w
      join members m on m.workspace_id = w.id and m.user_id = ${user.userId}
      order by w.created_at, w.id`,
  ]);
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
