import assert from "node:assert/strict";
import type postgres from "postgres";
import { readMigrations } from "../../database.ts";
import { connectAsOwner } from "../../models/db.ts";
import { openEmbedded } from "../../models/embedded.ts";
import { isMigrated, migrate, type Migration } from "../../models/migrations.ts";
import { KINDS } from "./databases.ts";

const compat = Deno.readTextFileSync(new URL("../../models/supabase_compat.sql", import.meta.url));
const migrations = await readMigrations();
const versions = migrations.map(({ version }) => version);

/** A database that was not migrated yet, with a way to connect to it as its owner. */
async function openEmpty(kind: string) {
  if (kind === "embedded") {
    const directory = await Deno.makeTempDir({ prefix: "mooring-test-" });
    const embedded = await openEmbedded(null, directory);
    return {
      connect: () => connectAsOwner(embedded),
      async close() {
        await embedded.close();
        await Deno.remove(directory, { recursive: true });
      },
    };
  }
  const { url, owner, close } = await KINDS.find(({ name }) => name === kind)!.open();
  const name = `empty_${crypto.randomUUID().replaceAll("-", "")}`;
  await owner.unsafe(`create database ${name}`);
  return {
    connect: () => connectAsOwner({ url: new URL(`/${name}`, url).href }),
    close,
  };
}

Deno.test("migrate refuses two migrations of one version", async () => {
  const twice = [...migrations, { ...migrations.at(-1)!, name: "another" }];
  await assert.rejects(
    migrate({} as postgres.Sql, twice, compat),
    /and another have one version/,
  );
});

for (const kind of KINDS) {
  Deno.test({
    name: `migrations, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const empty = await openEmpty(kind.name);
      const sql: postgres.Sql = empty.connect();
      const recorded = async () =>
        (await sql<{ version: string }[]>`
          select version from supabase_migrations.schema_migrations order by 1`)
          .map(({ version }) => version);

      await t.step(
        "migrate applies each once and records it where Supabase's CLI looks",
        async () => {
          // Two runners where the database has two sessions.
          const second = kind.name === "server" ? empty.connect() : null;
          const applied = await Promise.all(
            [sql, ...second ? [second] : []].map((runner) => migrate(runner, migrations, compat)),
          );
          await second?.end();
          assert.deepEqual(applied.flat().toSorted(), versions.toSorted());
          assert.deepEqual(await recorded(), versions.toSorted());
          const [row] = await sql`
              select name, statements from supabase_migrations.schema_migrations order by version`;
          assert.equal(row.name, migrations[0].name);
          assert.deepEqual(row.statements, [migrations[0].statements]);
        },
      );

      await t.step("migrate a second time changes nothing", async () => {
        assert.deepEqual(await migrate(sql, migrations, "this is not SQL"), []);
        assert.deepEqual(await recorded(), versions.toSorted());
        assert.equal(await isMigrated(sql, migrations), true);
      });

      const later = (version: string, statements: string): Migration => ({
        version,
        name: "later",
        statements,
      });

      await t.step(
        "migrate names the one that failed, takes it back and keeps those before",
        async () => {
          const more = [
            later("29990102000000", "create table public.half (); select broken"),
            later("29990101000000", "create table public.good ()"),
          ];
          await assert.rejects(
            migrate(sql, [...more, ...migrations], compat),
            /Migration 29990102000000_later failed: .*broken/,
          );
          assert.deepEqual(await recorded(), [...versions, "29990101000000"].toSorted());
          const [found] = await sql`
          select to_regclass('public.good') is not null as good, to_regclass('public.half') is null as half`;
          assert.deepEqual({ ...found }, { good: true, half: true });
          assert.equal(await isMigrated(sql, [...more, ...migrations]), false);
        },
      );

      await sql.end();
      await empty.close();
    },
  });
}

for (const kind of KINDS) {
  Deno.test({
    name: `accounts and clients of before are what they were, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn() {
      const empty = await openEmpty(kind.name);
      const sql: postgres.Sql = empty.connect();
      await migrate(sql, migrations.filter(({ version }) => version < "20261126000400"), compat);
      const [server, workspace, client, made] = Array.from(
        { length: 4 },
        () => crypto.randomUUID(),
      );
      await sql.begin(async (sql) => {
        // Their servers and agents are of no matter here.
        await sql`set local session_replication_role = replica`;
        await sql`insert into public.authorizations (server_id, workspace_id, state)
          values (${server}, ${workspace}, 'waiting')`;
        for (const [id, clientId] of [[client, "editor"], [made, null]]) {
          await sql`insert into public.agent_tokens (id, workspace_id, agent_id, name, token_hash, client_id)
            values (${id}, ${workspace}, ${server}, 'x', ${id}, ${clientId})`;
        }
      });
      await migrate(sql, migrations, compat);
      const [account] = await sql`select id, agent_id from public.authorizations`;
      assert.deepEqual({ ...account }, { id: server, agent_id: null });
      const scopes = await sql`select id, scope from public.agent_tokens`;
      assert.deepEqual(
        new Map(scopes.map(({ id, scope }) => [id, scope])),
        new Map([[client, "tools"], [made, null]]),
      );
      await sql.end();
      await empty.close();
    },
  });
}
