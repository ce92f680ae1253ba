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
 * @param labels as {@link readLabels} takes them
 * @throws {Invalid} the name or a label does not hold, or another toolbox has the name
 * @throws {Forbidden} for members and viewers
 */
export async function addToolbox(
  db: Database,
  user: User,
  workspaceId: string,
  name: string,
  labels = "",
): Promise<{ toolboxId: string; enrolmentToken: string }> {
  const labelled = JSON.stringify(readLabels(labels));
  const toolboxId = v7(), enrolmentToken = newToken("mte");
  const hash = await tokenHash(enrolmentToken), named = validName(name);
  await asAdmin(db, user, async (sql) => {
    // A form sent twice is one toolbox.
    await sql`select pg_advisory_xact_lock(hashtextextended(${workspaceId}, 0))`;
    await mustBeFree(sql, workspaceId, named, toolboxId);
    await sql`
      insert into toolboxes (id, workspace_id, name, labels, enrolment_hash, enrolment_expires_at)
      values (${toolboxId}, ${workspaceId}, ${named}, ${labelled}::text::jsonb, ${hash},
        now() + interval '15 minutes')`;
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

/** Gives a toolbox another name. @throws {Invalid} {@link addToolbox} */
export async function renameToolbox(
  db: Database,
  user: User,
  toolboxId: string,
  name: string,
): Promise<void> {
  const named = validName(name);
  await changingToolbox(db, user, toolboxId, async (sql, box) => {
    if (box.name === named) return;
    await mustBeFree(sql, box.workspaceId, named, box.id);
    await sql`update toolboxes set name = ${named} where id = ${toolboxId}`;
    await say(sql, user, box, `Renamed from ${box.name} to ${named}`);
  });
}

const LABELS_LIMIT = 32;

/**
 * Reads labels as people write them, one `key=value` a line.
 * @throws {Invalid} naming the first line that does not hold
 */
export function readLabels(text: string): Record<string, string> {
  const labels = new Map<string, string>();
  for (const line of text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean)) {
    const [, key, value] = /^([A-Za-z0-9][A-Za-z0-9._/-]{0,62})\s*=\s*(.*)$/.exec(line) ?? [];
    // deno-lint-ignore no-control-regex
    if (!key || value.length > 120 || /[\u0000-\u001f\u007f]/.test(value)) {
      throw wrongLabels(
        `“${
          line.slice(0, 60)
        }” is no label: write key=value, the key in letters, digits and . _ / - ` +
          "and the value in at most 120 characters",
      );
    }
    if (labels.has(key)) throw wrongLabels(`The label ${key} is there twice: keep one`);
    labels.set(key, value.toWellFormed());
  }
  if (labels.size > LABELS_LIMIT) throw wrongLabels(`A toolbox has at most ${LABELS_LIMIT} labels`);
  return Object.fromEntries(labels);
}

function wrongLabels(message: string): Invalid {
  return new Invalid(message, { labels: message });
}

/** Replaces a toolbox's labels. @throws {Invalid} {@link readLabels} */
export async function labelToolbox(
  db: Database,
  user: User,
  toolboxId: string,
  text: string,
): Promise<void> {
  const labels = readLabels(text);
  await changingToolbox(db, user, toolboxId, async (sql, box) => {
    const { count } = await sql`
      update toolboxes set labels = ${JSON.stringify(labels)}::text::jsonb
      where id = ${toolboxId} and labels <> ${JSON.stringify(labels)}::text::jsonb`;
    if (count > 0) await say(sql, user, box, "Changed its labels");
  });
}

/** From now on no new server is placed on the toolbox; those that are there run on. */
export async function drainToolbox(db: Database, user: User, toolboxId: string): Promise<void> {
  await changingToolbox(db, user, toolboxId, async (sql, box) => {
    if (box.drainedAt) return;
    await sql`update toolboxes set drained_at = now() where id = ${toolboxId}`;
    await say(sql, user, box, "Drained: no new server is placed here");
  });
}

/** New servers are placed on the toolbox again. */
export async function undrainToolbox(db: Database, user: User, toolboxId: string): Promise<void> {
  await changingToolbox(db, user, toolboxId, async (sql, box) => {
    if (!box.drainedAt) return;
    await sql`update toolboxes set drained_at = null where id = ${toolboxId}`;
    await say(sql, user, box, "New servers are placed here again");
  });
}

/**
 * Asks a toolbox to make itself another key, which it does as soon as it is heard of.
 * @throws {Conflict} it has no key, or was revoked
 */
export async function askForNewKey(db: Database, user: User, toolboxId: string): Promise<void> {
  await changingToolbox(db, user, toolboxId, async (sql, box) => {
    if (box.revokedAt) throw new Conflict("The toolbox was revoked: add another one");
    if (!box.isEnrolled) throw new Conflict("The toolbox has no key yet: enrol it first");
    if (box.rotationAskedAt) return;
    await sql`update toolboxes set rotation_asked_at = now() where id = ${toolboxId}`;
    await say(sql, user, box, "Asked it for a new key");
  });
}

/**
 * Refuses a toolbox's key for good. What it runs runs on, out of reach.
 * @throws {Conflict} this machine's toolbox, which would enrol again by itself
 */
export async function revokeToolbox(db: Database, user: User, toolboxId: string): Promise<void> {
  await changingToolbox(db, user, toolboxId, async (sql, box) => {
    if (box.isLocal) {
      throw new Conflict("This machine's toolbox cannot be revoked: drain it instead");
    }
    if (box.revokedAt) return;
    await sql`
      update toolboxes set revoked_at = now(), enrolment_hash = null, enrolment_expires_at = null
      where id = ${toolboxId}`;
    await say(sql, user, box, "Revoked: its key is refused from now on");
  });
}

/**
 * Removes a revoked toolbox and its servers from Mooring. Nothing is removed on its host, which is
 * out of reach.
 *
 * @param typedName the toolbox's name, as the person typed it to confirm
 * @throws {Invalid} another name was typed
 * @throws {Conflict} it is not revoked, or this machine's
 */
export async function removeToolbox(
  db: Database,
  user: User,
  toolboxId: string,
  typedName: string,
): Promise<void> {
  await changingToolbox(db, user, toolboxId, async (sql, box) => {
    if (box.isLocal) throw new Conflict("This machine's toolbox cannot be removed");
    if (!box.revokedAt) throw new Conflict("Revoke the toolbox first: then it can be removed");
    if (typedName.trim() !== box.name) {
      const message = "That is not the toolbox's name: type it as it is written above";
      throw new Invalid(message, { confirmation: message });
    }
    const servers = await sql<{ name: string }[]>`
      select name from servers where toolbox_id = ${toolboxId} order by lower(name)`;
    await sql`delete from toolboxes where id = ${toolboxId}`;
    const lost = servers.length === 0
      ? "it had no servers"
      : `its servers went with it: ${servers.map(({ name }) => name).join(", ").slice(0, 1500)}`;
    await say(sql, user, box, `Removed the toolbox ${box.name}; ${lost}`);
  });
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
