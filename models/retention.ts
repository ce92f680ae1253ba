/** How long a workspace keeps what happened in it, and the work that removes what is older. */
import { z } from "zod";
import type { Database, User } from "./db.ts";
import { Forbidden, Invalid, NotFound } from "./errors.ts";
import { inWorkspace } from "./workspaces.ts";

/** In days, as the database allows them. */
export const CALLS_KEPT_DAYS = [7, 30, 90, 180, 365, 730] as const;
export const BODIES_KEPT_DAYS = [1, 7, 30] as const;

export const Retention = z.object({
  /** Calls, the events of servers and toolboxes, and what people tried. */
  callsKeptDays: z.union(CALLS_KEPT_DAYS.map((days) => z.literal(days))),
  /** Whether what is said in calls is kept as well. */
  keepsBodies: z.boolean(),
  bodiesKeptDays: z.union(BODIES_KEPT_DAYS.map((days) => z.literal(days))),
});
export type Retention = z.infer<typeof Retention>;

/** @throws {NotFound} */
export async function getRetention(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<Retention> {
  const [row] = await db.asUser(user, (sql) =>
    sql<Retention[]>`
      select calls_kept_days as "callsKeptDays", keeps_bodies as "keepsBodies",
        bodies_kept_days as "bodiesKeptDays"
      from workspaces where id = ${workspaceId}`);
  if (!row) throw new NotFound("There is no such workspace");
  return row;
}

/**
 * Sets how long calls are kept; what is older is removed within minutes.
 *
 * @throws {Invalid} none of {@link CALLS_KEPT_DAYS}
 * @throws {Forbidden} for members and viewers
 */
export async function keepCalls(
  db: Database,
  user: User,
  workspaceId: string,
  days: number,
): Promise<void> {
  if (!Retention.shape.callsKeptDays.safeParse(days).success) {
    const message = `Choose one of ${CALLS_KEPT_DAYS.join(", ")} days`;
    throw new Invalid(message, { callsKeptDays: message });
  }
  await inWorkspace(db, user, async (sql) => {
    const { count } = await sql`
      update workspaces set calls_kept_days = ${days} where id = ${workspaceId}`;
    if (count > 0) return;
    const [seen] = await sql`select from workspaces where id = ${workspaceId}`;
    throw seen
      ? new Forbidden("Owners and admins choose how long calls are kept")
      : new NotFound("There is no such workspace");
  });
}

/**
 * Keeps what is said in calls from now on, or does not and deletes all that is kept; what is not said stays as
 * it is by then, whatever it was when the asker looked.
 *
 * @throws {Invalid} none of {@link BODIES_KEPT_DAYS}
 * @throws {Forbidden} for all but owners
 */
export async function keepBodies(
  db: Database,
  user: User,
  workspaceId: string,
  { isOn, days }: { isOn?: boolean; days?: number },
): Promise<void> {
  if (days !== undefined && !Retention.shape.bodiesKeptDays.safeParse(days).success) {
    const message = `Choose one of ${BODIES_KEPT_DAYS.join(", ")} days`;
    throw new Invalid(message, { bodiesKeptDays: message });
  }
  await inWorkspace(
    db,
    user,
    (sql) => sql`select mooring.keep_bodies(${workspaceId}, ${isOn ?? null}, ${days ?? null})`,
  );
}

/** Rows that one step removes: few, since the embedded database does nothing else meanwhile. */
const STEP_ROWS = 1000;

/**
 * Removes what is older than its workspace keeps it, if that is due, for at most so long.
 *
 * @returns how many rows
 */
export async function removeExpired(
  { db }: { db: Database },
  { budgetMs = 60_000, signal }: { budgetMs?: number; signal?: AbortSignal } = {},
): Promise<number> {
  const until = Date.now() + budgetMs;
  let all = 0;
  while (!signal?.aborted && Date.now() < until) {
    const [{ removed }] = await db.asApp<{ removed: number }[]>`
      select mooring.remove_expired(${STEP_ROWS}) as removed`;
    all += removed;
    if (removed < STEP_ROWS) break;
  }
  return all;
}
