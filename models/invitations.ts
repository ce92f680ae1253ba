/** Invitations to a workspace, each a link that lets one person in, once. */
import { v7 } from "uuid";
import { z } from "zod";
import type { Database, User } from "./db.ts";
import { Conflict, Invalid } from "./errors.ts";
import { newToken, tokenHash } from "./tokens.ts";
import { inWorkspace, type Role } from "./workspaces.ts";

/** An owner is made of one who is in already, whom one sees. */
export const InvitationRole = z.enum(["admin", "member", "viewer"]);
/** How long a link may wait, in days. */
export const InvitationDays = z.enum(["1", "7", "30"]);

export interface Invitation {
  id: string;
  role: Role;
  createdAt: Date;
  expiresAt: Date;
  invitedBy: string;
}

/** The invitations that are open, newest first; none for members and viewers. */
export async function listInvitations(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<Invitation[]> {
  return await db.asUser(user, async (sql) => [
    ...await sql<Invitation[]>`
      select i.id, i.role, i.created_at as "createdAt", i.expires_at as "expiresAt",
        coalesce(nullif(p.name, ''), p.email, 'a former member') as "invitedBy"
      from invitations i left join profiles p on p.user_id = i.created_by
      where i.workspace_id = ${workspaceId} and i.accepted_at is null and i.revoked_at is null
        and i.expires_at > now()
      order by i.created_at desc, i.id desc`,
  ]);
}

/**
 * Makes an invitation. Its token is returned once; only the hash is kept.
 *
 * @throws {Invalid} the role or the number of days is none of those to choose from
 * @throws {Forbidden} for members and viewers
 */
export async function invite(
  db: Database,
  user: User,
  workspaceId: string,
  wish: { role: string; days: string },
): Promise<string> {
  const role = InvitationRole.safeParse(wish.role), days = InvitationDays.safeParse(wish.days);
  if (!role.success || !days.success) {
    throw new Invalid("Choose a role and how long the link waits");
  }
  const token = newToken("mwi"), hash = await tokenHash(token);
  await inWorkspace(
    db,
    user,
    (sql) =>
      sql`select mooring.invite(${workspaceId}, ${v7()}, ${role.data}, ${hash},
      make_interval(days => ${Number(days.data)}))`,
  );
  return token;
}

/** Ends an invitation that nobody accepted. @throws {NotFound | Forbidden} */
export async function revokeInvitation(
  db: Database,
  user: User,
  invitationId: string,
): Promise<void> {
  await inWorkspace(db, user, (sql) => sql`select mooring.revoke_invitation(${invitationId})`);
}

/** What a link says to whoever has it. */
export interface OpenInvitation {
  workspaceId: string;
  workspaceName: string;
  role: Role;
  invitedBy: string;
  expiresAt: Date;
}

/** The invitation of a link; null when it is unknown, expired, revoked, used or held by one who signs up. */
export async function invitationOf(db: Database, token: string): Promise<OpenInvitation | null> {
  const [invitation] = await db.asApp<OpenInvitation[]>`
    select workspace_id as "workspaceId", workspace_name as "workspaceName", role,
      invited_by as "invitedBy", expires_at as "expiresAt"
    from mooring.invitation_of(${await tokenHash(token)})`;
  return invitation ?? null;
}

/**
 * Spends an invitation: the person is a member from then on. One who is already stays what they are, and
 * the link stays open for whom it was meant.
 *
 * @param hold of {@link whileSigningUp}
 * @returns the workspace's id
 * @throws {Conflict} the link opens nothing any more
 */
export async function acceptInvitation(
  db: Database,
  user: User,
  token: string,
  hold: string | null = null,
): Promise<string> {
  const hash = await tokenHash(token);
  const [{ workspaceId }] = await inWorkspace(
    db,
    user,
    async (sql) => await sql`select mooring.accept_invitation(${hash}, ${hold}) as "workspaceId"`,
  );
  if (!workspaceId) throw new Conflict(INVITATION_OVER);
  return workspaceId;
}

/**
 * Keeps an invitation for one who makes an account, so that one link makes one account; it is open again
 * when they could not.
 *
 * @throws {Conflict} {@link acceptInvitation}
 */
export async function whileSigningUp<T>(
  db: Database,
  token: string,
  signUp: (hold: string) => Promise<T>,
): Promise<T> {
  const hash = await tokenHash(token);
  const [{ hold }] = await db.asApp<{ hold: string | null }[]>`
    select mooring.hold_invitation(${hash}) as hold`;
  if (!hold) throw new Conflict(INVITATION_OVER);
  try {
    return await signUp(hold);
  } finally {
    await db.asApp`select mooring.release_invitation(${hash}, ${hold})`;
  }
}

export const INVITATION_OVER =
  "This invitation was used or revoked, or is too old: ask whoever sent it for another one";
