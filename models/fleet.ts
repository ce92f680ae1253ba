/** What people do with toolboxes: add, name, label, drain, revoke and remove them. */
import { v7 } from "uuid";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, Forbidden, Invalid, isDenied, NotFound } from "./errors.ts";
import { recordEvent } from "./events.ts";
import { newToken, tokenHash } from "./tokens.ts";
import { validName } from "./workspaces.ts";

/** Said to members and viewers. */
const ADMINS_ONLY =
  "Only owners and admins of the workspace can change its toolboxes: ask one of them";

/**
 * Adds a toolbox, which a DTMA becomes that starts with the token: single-use, valid for 15 minutes,
 * and kept as a hash alone.
 *
 * @throws {Invalid} the name does not hold, or another toolbox has it
 * @throws {Forbidden} for members and viewers
 */
export async function addToolbox(
  db: Database,
  user: User,
  workspaceId: string,
  name: string,
): Promise<{ toolboxId: string; enrolmentToken: string }> {
  const toolboxId = v7(), enrolmentToken = newToken("mte");
  const hash = await tokenHash(enrolmentToken), named = validName(name);
  await asAdmin(db, user, async (sql) => {
    // A form sent twice is one toolbox.
    await sql`select pg_advisory_xact_lock(hashtextextended(${workspaceId}, 0))`;
    await mustBeFree(sql, workspaceId, named, toolboxId);
    await sql`
      insert into toolboxes (id, workspace_id, name, enrolment_hash, enrolment_expires_at)
      values (${toolboxId}, ${workspaceId}, ${named}, ${hash}, now() + interval '15 minutes')`;
    await recordEvent(sql, user, {
      workspaceId,
      toolboxId,
      layer: "toolbox",
      message: `Added the toolbox ${named}`,
    });
  });
  return { toolboxId, enrolmentToken };
}

/**
 * Makes a toolbox's enrolment token anew; one made before is void. Of an enrolled toolbox the key of
 * now serves until the token is spent.
 *
 * @throws {Conflict} it was revoked, or is this machine's, which enrols by itself
 * @throws {Forbidden} {@link addToolbox}
 */
export async function renewEnrolmentToken(
  db: Database,
  user: User,
  toolboxId: string,
): Promise<string> {
  const token = newToken("mte"), hash = await tokenHash(token);
  await changingToolbox(db, user, toolboxId, async (sql, box) => {
    if (box.isLocal) {
      throw new Conflict("This machine's toolbox enrols by itself when Mooring starts");
    }
    if (box.revokedAt) throw new Conflict("The toolbox was revoked: add another one");
    await sql`
      update toolboxes set enrolment_hash = ${hash}, enrolment_expires_at = now() + interval '15 minutes'
      where id = ${toolboxId}`;
    await say(sql, user, box, "Made a new enrolment token");
  });
  return token;
}

async function mustBeFree(sql: Sql, workspaceId: string, name: string, toolboxId: string) {
  const [taken] = await sql`
    select from toolboxes
    where workspace_id = ${workspaceId} and lower(name) = lower(${name}) and id <> ${toolboxId}`;
  if (!taken) return;
  const message = "The workspace has a toolbox of this name: give another one";
  throw new Invalid(message, { name: message });
}

/** What {@link changingToolbox} reads of a toolbox. */
interface Changed {
  id: string;
  workspaceId: string;
  name: string;
  isLocal: boolean;
  isEnrolled: boolean;
  drainedAt: Date | null;
  revokedAt: Date | null;
  rotationAskedAt: Date | null;
}

/** Changes of one toolbox follow each other; whom the policy lets see but not lock it is refused. */
async function changingToolbox(
  db: Database,
  user: User,
  toolboxId: string,
  change: (sql: Sql, box: Changed) => Promise<void>,
) {
  await asAdmin(db, user, async (sql) => {
    const locked = await sql`select from toolboxes where id = ${toolboxId} for no key update`;
    const [box] = await sql<Changed[]>`
      select id, workspace_id as "workspaceId", name, is_local as "isLocal",
        public_key is not null as "isEnrolled", drained_at as "drainedAt", revoked_at as "revokedAt",
        rotation_asked_at as "rotationAskedAt"
      from toolboxes where id = ${toolboxId}`;
    if (!box) throw new NotFound("There is no such toolbox");
    if (locked.length === 0) throw new Forbidden(ADMINS_ONLY);
    await change(sql, box);
  });
}

async function asAdmin(db: Database, user: User, work: (sql: Sql) => Promise<void>) {
  try {
    await db.asUser(user, work);
  } catch (error) {
    if (isDenied(error)) throw new Forbidden(ADMINS_ONLY);
    throw error;
  }
}

function say(sql: Sql, user: User, box: Changed, message: string) {
  const { id: toolboxId, workspaceId } = box;
  return recordEvent(sql, user, { workspaceId, toolboxId, layer: "toolbox", message });
}
