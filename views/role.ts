import type { Role } from "../models/workspaces.ts";

/** What each role may do, in a sentence; README's "Security model" has the table. */
export const ROLE_SAYS: Record<Role, string> = {
  viewer: "Sees everything but secrets, and changes nothing.",
  member: "Deploys servers, approves and calls tools, connects agents.",
  admin: "Does what members do, and looks after toolboxes and members.",
  owner: "Does everything, the workspace's transfer and deletion too.",
};

/** From the least to the most. */
export const ROLES: Role[] = ["viewer", "member", "admin", "owner"];

/** Whether a role reaches at least as far as another. */
export function reaches(role: Role, minimum: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(minimum);
}
