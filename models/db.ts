/**
 * The database: one driver (postgres.js) for the embedded Postgres, any Postgres and Supabase.
 *
 * The app connects as `mooring_app`, which owns nothing and sees no row. All work on rows is done
 * as somebody, in a transaction that takes on a role for its length, so that row level security is
 * the second lock behind every query.
 */
import postgres from "postgres";
import { type AppSql, backoffMs, DbPool, type Sql } from "./db_pool.ts";

export type { Sql };

/** The signed-in person a transaction works for; `userId` is `auth.users.id`. */
export interface User {
  userId: string;
  /** The one workspace that they act in, as with a personal token; else all that they belong to. */
  within?: string;
}

/** A row changed somewhere: where to look. What is not known of the row is null. */
export interface Change {
  table: string;
  workspace: string | null;
  server: string | null;
  toolbox: string | null;
  agent: string | null;
  /** Of an MCP client's session, and of the messages that wait for it. */
  session?: string;
  stream?: string;
  /** Of a person's trial of a tool. */
  run?: string;
  /** Of a person's conversation with an agent. */
  conversation?: string;
}

/**
 * Wakes on changes; the callback must read the tables for what changed. It is given null when changes may
 * have been missed, since the connection was made anew. Resolves to the way to stop.
 */
export type Listen = (onChange: (change: Change | null) => void) => Promise<() => Promise<void>>;

export interface Database {
  /** As a person: sees what their memberships allow. */
  asUser<T>(user: User, work: (sql: Sql) => Promise<T>): Promise<T>;
  /** As an agent: sees itself and what it is connected to. */
  asAgent<T>(agentId: string, work: (sql: Sql) => Promise<T>): Promise<T>;
  /** As a toolbox: sees itself and the servers placed on it. */
  asToolbox<T>(toolboxId: string, work: (sql: Sql) => Promise<T>): Promise<T>;
  /** As the app itself: the `mooring.*` functions granted to it, and no table. */
  asApp: AppSql;
  /** Wake-ups, or null where the database cannot give them (a transaction pooler): then poll. */
  listen: Listen | null;
  close(): Promise<void>;
}

/** Where the database is. */
export type Target =
  /** Any Postgres; `pooled` when a transaction pooler stands before it (Supavisor, PgBouncer). */
  | { url: string; pooled?: boolean; max?: number }
  /** The embedded one (models/embedded.ts). */
  | { socketDirectory: string };

/**
 * Opens a pool that works as `mooring_app`. Nothing is sent before the first query.
 *
 * @param target the URL's user must be `mooring_app` or a member of it; behind a pooler it must be
 *   `mooring_app` itself, since a pooler drops the start-up parameter that chooses the role
 */
export function connect(target: Target): Database {
  if ("socketDirectory" in target) return connectEmbedded(target.socketDirectory);
  const options = {
    ...SETTINGS,
    max: 1,
    prepare: !target.pooled,
    // Behind a pooler one by one within a transaction, too: postgres.js sends so many behind the first.
    ...(target.pooled ? { max_pipeline: 0 } : {}),
    connection: {
      application_name: "mooring",
      ...(target.pooled ? {} : { role: "mooring_app" }),
    },
  };
  const sql = postgres(target.url, options);
  const pool = new DbPool(sql, target.max ?? 10);
  // On a connection of its own. Without LISTEN (a pooler gives none) readers poll.
  const listen: Listen = async (onChange) => {
    const { unlisten } = await sql.listen(
      "mooring",
      (text) => onChange(JSON.parse(text)),
      () => onChange(null),
    );
    return unlisten;
  };
  return {
    ...database(pool, target.pooled ? null : listen),
    async close() {
      await Promise.all([pool.close(), sql.end({ timeout: 5 })]);
    },
  };
}

/** Opens a connection for migrations: as the URL's own user, one at a time. */
export function connectAsOwner(target: Target): postgres.Sql {
  return "socketDirectory" in target
    ? postgres({ ...SETTINGS, ...embedded(target.socketDirectory) })
    : postgres(target.url, { ...SETTINGS, max: 1 });
}

const SETTINGS = {
  onnotice: () => {},
  connect_timeout: 10,
  // Seconds. The driver's own goes up to 20, and every query that fails meanwhile makes it longer: a
  // database that was away for 2 s was back for the app after 23 (tests/chaos).
  backoff: (retries: number) => backoffMs(retries) / 1000,
  // None: it would end a connection amid a transaction, of which postgres.js does not know (db_pool.ts).
  max_lifetime: null,
};

function embedded(socketDirectory: string) {
  return { host: socketDirectory, port: 5432, user: "postgres", database: "postgres", max: 1 };
}

/**
 * PGlite is one session: a NOTIFY comes back on whichever connection ran it, so the one connection
 * itself listens, through the option that postgres.js's own `listen` uses inside.
 */
function connectEmbedded(socketDirectory: string): Database {
  const listeners = new Set<(change: Change | null) => void>();
  const options = {
    ...SETTINGS,
    ...embedded(socketDirectory),
    onnotify: (_channel: string, text: string) => {
      for (const onChange of listeners) onChange(JSON.parse(text));
    },
  };
  const pool = new DbPool(postgres(options), 1);
  return database(pool, async (onChange) => {
    await pool.asApp`listen mooring`;
    listeners.add(onChange);
    return () => Promise.resolve(void listeners.delete(onChange));
  });
}

function database(pool: DbPool, listen: Listen | null): Database {
  function as<T>(role: string, claims: object, work: (sql: Sql) => Promise<T>): Promise<T> {
    return pool.asApp.begin(async (transaction) => {
      await transaction`select set_config('role', ${role}, true),
        set_config('request.jwt.claims', ${JSON.stringify({ role, ...claims })}, true)`;
      return await work(transaction);
    });
  }
  return {
    asUser: ({ userId, within }, work) =>
      as("authenticated", { sub: userId, mooring_workspace: within }, work),
    asAgent: (agentId, work) => as("mooring_agent", { agent_id: agentId }, work),
    asToolbox: (toolboxId, work) => as("mooring_toolbox", { toolbox_id: toolboxId }, work),
    asApp: pool.asApp,
    listen,
    close: () => pool.close(),
  };
}
