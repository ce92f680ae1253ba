/** A server's generations: who made each, why, what it changed, and the way back to it. */
import type { Database, Sql, User } from "./db.ts";
import { Conflict, NotFound } from "./errors.ts";
import { type Change, changesBetween } from "./server_changes.ts";
import { changing, nextGeneration, sayRequest, ServerConfig } from "./servers.ts";

export interface Generation {
  generation: number;
  createdAt: Date;
  createdByName: string | null;
  /** What was asked for, as the event says that was written with it. */
  reason: string | null;
  config: ServerConfig;
  /** Null: it never got ready. */
  readyAt: Date | null;
  /** Made by the app: whose settings it has. */
  rolledBackTo: number | null;
  /** Why it was gone back from, and what it wrote last. */
  failure: string | null;
  failureLog: string[];
  /** From the generation before. */
  changes: Change[];
  /** The secrets whose values of then are kept no longer: there is no way back to it. */
  lostSecrets: string[];
}

/**
 * A server's generations, newest first.
 *
 * @param before only those that are older than this one
 */
export async function listGenerations(
  db: Database,
  user: User,
  serverId: string,
  { limit = 50, before }: { limit?: number; before?: number } = {},
): Promise<Generation[]> {
  return await db.asUser(
    user,
    (sql) =>
      readGenerations(
        sql,
        serverId,
        before === undefined ? sql`true` : sql`g.generation < ${before}`,
        limit,
      ),
  );
}

/** One generation, and what going back to it would change now. */
export interface WayBack extends Generation {
  /** From the generation that the server has now. */
  changesNow: Change[];
}

/** @throws {NotFound} no such server or generation */
export async function getGeneration(
  db: Database,
  user: User,
  serverId: string,
  generation: number,
): Promise<WayBack> {
  return await db.asUser(user, async (sql) => {
    const [one] = await readGenerations(sql, serverId, sql`g.generation = ${generation}`, 1);
    const [present] = await readGenerations(sql, serverId, sql`true`, 1);
    if (!one || !present) throw new NotFound(`The server has no generation ${generation}`);
    return { ...one, changesNow: changesBetween(present.config, one.config) };
  });
}

/**
 * Gives a server the settings of an earlier generation again, secrets too, as its next one.
 * @throws {NotFound} no such generation
 * @throws {Conflict} it needs a secret that is not kept any more
 */
export async function rollBackServer(
  db: Database,
  user: User,
  serverId: string,
  generation: number,
): Promise<void> {
  await changing(db, user, serverId, async (sql, server) => {
    const [row] = generation < server.generation
      ? await readGenerations(sql, serverId, sql`g.generation = ${generation}`, 1)
      : [];
    if (!row) throw new NotFound(`The server has no earlier generation ${generation}`);
    if (row.lostSecrets.length > 0) {
      throw new Conflict(
        `What generation ${generation} had as ${
          row.lostSecrets.join(", ")
        } is not kept any more: ` +
          "give the server its settings, and the secret, in its configuration",
      );
    }
    await nextGeneration(sql, user, server, row.config);
    await sayRequest(sql, user, server, `Went back to the settings of generation ${generation}`);
  });
}

async function readGenerations(
  sql: Sql,
  serverId: string,
  which: ReturnType<Sql>,
  limit: number,
): Promise<Generation[]> {
  const rows = await sql<
    (Omit<Generation, "config" | "changes"> & { config: unknown; before: unknown })[]
  >`
    select g.generation, g.created_at as "createdAt", g.config, g.ready_at as "readyAt",
      g.rolled_back_to as "rolledBackTo", g.failure, coalesce(g.failure_log, '[]') as "failureLog",
      coalesce(nullif(p.name, ''), p.email) as "createdByName",
      b.config as before,
      (select e.message from events e
        where e.server_id = g.server_id and e.generation = g.generation and e.layer = 'request'
        order by e.id limit 1) as reason,
      array(select key from jsonb_each_text(g.config -> 'secrets')
        where not exists (select from secrets x where x.id::text = value) order by key) as "lostSecrets"
    from server_generations g
    left join server_generations b
      on b.server_id = g.server_id and b.generation = g.generation - 1
    left join profiles p on p.user_id = g.created_by
    where g.server_id = ${serverId} and ${which} order by g.generation desc limit ${limit}`;
  return rows.map(({ before, ...row }) => {
    const config = ServerConfig.parse(row.config);
    const changes = before === null ? [] : changesBetween(ServerConfig.parse(before), config);
    return { ...row, config, changes };
  });
}
