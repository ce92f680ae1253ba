/** Applies `supabase/migrations` and records them where the Supabase CLI does, so either may go first. */
import type postgres from "postgres";
import type { AppSql } from "./db_pool.ts";

export interface Migration {
  /** The file name's leading digits. */
  version: string;
  name: string;
  statements: string;
}

/** Runs one script of many statements on the database. */
type Execute = (script: string) => Promise<unknown>;

/**
 * Applies the migrations that the database has not had yet, each in a transaction, in order of
 * version; two runners at once wait for each other.
 *
 * @param sql a connection of a superuser or a role with BYPASSRLS (on Supabase: `postgres`)
 * @param compat makes what Supabase has and this database lacks; run when it has no schema `auth`
 * @returns the versions applied now
 * @throws {Error} naming the migration that failed; those before it stay applied; or two of one version,
 *   of which one would be taken for done
 */
export async function migrate(
  sql: postgres.Sql,
  migrations: Migration[],
  compat: string,
): Promise<string[]> {
  const applied: string[] = [];
  const byVersion = new Map<string, string>();
  for (const { version, name } of migrations) {
    const other = byVersion.get(version);
    if (other !== undefined) {
      throw new Error(`The migrations ${other} and ${name} have one version, ${version}`);
    }
    byVersion.set(version, name);
  }
  await once(sql, async (execute, transaction) => {
    const [{ exists }] = await transaction`
      select exists (select from pg_namespace where nspname = 'auth') as exists`;
    if (!exists) await execute(compat);
    await execute(`
      create schema if not exists supabase_migrations;
      create table if not exists supabase_migrations.schema_migrations (
        version text primary key, statements text[], name text)`);
  });
  for (const migration of migrations.toSorted((a, b) => a.version < b.version ? -1 : 1)) {
    await once(sql, async (execute, transaction) => {
      const [done] = await transaction`
        select from supabase_migrations.schema_migrations where version = ${migration.version}`;
      if (done) return;
      try {
        await execute(migration.statements);
      } catch (error) {
        throw new Error(`Migration ${migration.version}_${migration.name} failed: ${error}`, {
          cause: error,
        });
      }
      await transaction`
        insert into supabase_migrations.schema_migrations (version, name, statements)
        values (${migration.version}, ${migration.name}, ${[migration.statements]})`;
      applied.push(migration.version);
    });
  }
  // So that the app can tell whether it stands on the schema it was built for.
  // Under the lock too: of two grants at once Postgres refuses one ("tuple concurrently updated").
  await once(sql, (execute) =>
    execute(`grant usage on schema supabase_migrations to mooring_app;
      grant select on supabase_migrations.schema_migrations to mooring_app`));
  return applied;
}

/** True when every migration is in the database's record. */
export async function isMigrated(
  sql: AppSql,
  migrations: Pick<Migration, "version">[],
): Promise<boolean> {
  const rows = await sql<{ version: string }[]>`
    select version from supabase_migrations.schema_migrations`;
  const versions = new Set(rows.map((row) => row.version));
  return migrations.every((migration) => versions.has(migration.version));
}

async function once(
  sql: postgres.Sql,
  work: (execute: Execute, transaction: postgres.TransactionSql) => Promise<unknown>,
) {
  await sql.begin(async (transaction) => {
    await transaction`select pg_advisory_xact_lock(7000)`;
    await work((script) => transaction.unsafe(script).simple(), transaction);
  });
}
