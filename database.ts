/** Opens the app's database for the self-hosted start: the given Postgres or the embedded one. */
import type { Config } from "./config.ts";
import { EmbeddedError, openEmbedded } from "./models/embedded.ts";
import { connect, connectAsOwner, type Database, type Target } from "./models/db.ts";
import { isMigrated, migrate, type Migration } from "./models/migrations.ts";

export interface OpenDatabase {
  db: Database;
  isMigrated(): Promise<boolean>;
  /**
   * Takes back the room of rows that are gone, and looks anew at what tables hold. Null where a server does
   * that by itself: the embedded Postgres has no autovacuum.
   */
  tidy: (() => Promise<void>) | null;
  close(): Promise<void>;
}

/**
 * Opens and migrates the database.
 *
 * @param progress told what takes a while
 * @throws {Error} when the database does not answer, or a migration fails
 */
export async function openDatabase(
  config: Pick<Config, "databaseUrl" | "dataDirectory">,
  progress: (line: string) => void,
): Promise<OpenDatabase> {
  const embedded = config.databaseUrl ? null : await openEmbeddedIn(config.dataDirectory, progress);
  const target: Target = embedded ?? { url: config.databaseUrl! };
  const migrations = await readMigrations();
  const owner = connectAsOwner(target);
  try {
    const applied = await migrate(owner, migrations, await read("models/supabase_compat.sql"));
    if (applied.length > 0) progress(`Applied ${applied.length} migration(s)`);
    if (embedded) {
      await owner`grant maintain on all tables in schema public, mooring to mooring_app`;
    }
  } catch (error) {
    throw isUnreachable(error)
      ? new TypeError(
        `The database of DATABASE_URL cannot be used: ${(error as Error).message}. Check that it ` +
          "runs, and that the address, user and database in DATABASE_URL are right",
      )
      : error;
  } finally {
    await owner.end();
  }
  await embedded?.becomeApp();
  const db = connect(target);
  return {
    db,
    isMigrated: () => isMigrated(db.asApp, migrations),
    tidy: embedded ? () => tidy(db) : null,
    async close() {
      await db.close();
      await embedded?.close();
    },
  };
}

/** Table by table, since the embedded database does nothing else meanwhile. */
async function tidy({ asApp }: Database): Promise<void> {
  // Of what was done within the last second the statistics may not know yet.
  await asApp`select pg_stat_force_next_flush()`;
  const tables = await asApp<{ name: string }[]>`
    select format('%I.%I', schemaname, relname) as name from pg_stat_user_tables
    where schemaname in ('public', 'mooring') and (n_dead_tup > 1000 or n_mod_since_analyze > 1000)`;
  for (const { name } of tables) await asApp.unsafe(`vacuum (analyze) ${name}`);
}

/** Not there, not let in (class 28) or no such database (3D000): a person's to mend. */
function isUnreachable(error: unknown): boolean {
  const { code = "" } = (error ?? {}) as { code?: string };
  return /^(ECONN|ENOTFOUND|EAI_|ETIMEDOUT|EHOSTUNREACH|CONNECT_TIMEOUT|28|3D000)/.test(code);
}

async function openEmbeddedIn(dataDirectory: string, progress: (line: string) => void) {
  const directory = `${dataDirectory}/postgres`;
  // There while the database is made: a start that was ended meanwhile left a part of one, which may not
  // open, and which holds nothing yet.
  const making = `${directory}.making`;
  const isNew = !await exists(directory) || await exists(making);
  progress(isNew ? "Making the embedded database" : "Opening the embedded database");
  try {
    if (isNew) {
      await Deno.writeTextFile(making, "");
      await removeTree(directory);
    }
    const embedded = await openEmbedded(directory, await socketDirectory(dataDirectory));
    // Or nothing goes into it: the next start would remove it.
    if (isNew) await Deno.remove(making);
    return embedded;
  } catch (error) {
    const isFull = error instanceof EmbeddedError && error.isDiskFull ||
      !await hasRoom(dataDirectory);
    const why = isFull ? "its disk is full: it needs about 50 MB" : (error as Error).message;
    // Its room is its owner's again.
    if (isNew) await removeTree(directory).catch(() => {});
    throw new TypeError(`The embedded database in ${directory} cannot be opened: ${why}`);
  }
}

async function removeTree(path: string): Promise<void> {
  await Deno.remove(path, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}

/** Whether a segment of the database's log would fit, which it does not start without. */
async function hasRoom(directory: string): Promise<boolean> {
  const probe = `${directory}/.room-test`;
  try {
    await Deno.writeFile(probe, new Uint8Array(16 * 1024 * 1024));
    return true;
  } catch {
    return false;
  } finally {
    await Deno.remove(probe).catch(() => {});
  }
}

/** A path of a unix socket has at most 107 bytes: under a long data directory it goes to /tmp. */
async function socketDirectory(dataDirectory: string): Promise<string> {
  const inside = `${dataDirectory}/socket`;
  if (new TextEncoder().encode(inside).length > 80) {
    return await Deno.makeTempDir({ prefix: "mooring-" });
  }
  await Deno.mkdir(inside, { recursive: true, mode: 0o700 });
  return inside;
}

/** The schema's migrations, from `supabase/migrations`. */
export async function readMigrations(): Promise<Migration[]> {
  const directory = new URL("./supabase/migrations/", import.meta.url);
  const migrations: Migration[] = [];
  for await (const { name } of Deno.readDir(directory)) {
    const [, version, title] = /^(\d+)_(.+)\.sql$/.exec(name) ?? [];
    if (!version) continue;
    const statements = await Deno.readTextFile(new URL(name, directory));
    migrations.push({ version, name: title, statements });
  }
  return migrations.toSorted((a, b) => a.version < b.version ? -1 : 1);
}

function read(path: string): Promise<string> {
  return Deno.readTextFile(new URL(`./${path}`, import.meta.url));
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
