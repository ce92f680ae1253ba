/** supabase/seed.sql, applied to a stand-in for a stack of the Supabase CLI, after its migrations. */
import assert from "node:assert/strict";
import { connectAsOwner } from "../../models/db.ts";
import { workspacesOf } from "../../models/workspaces.ts";
import { secretsKeyText } from "../../supabase/functions/app/secrets_key.ts";
import { SUPABASE } from "../models/databases.ts";

const SEED = await Deno.readTextFile(new URL("../../supabase/seed.sql", import.meta.url));
/** The one that the CLI's documents print. */
const KNOWN = "super-secret-jwt-token-with-at-least-32-characters-long";

Deno.test({
  name: "the seed makes people, a key and a password where the CLI's stack is, and nowhere else",
  ignore: SUPABASE.ignore,
  async fn() {
    const { db, owner, url, close } = await SUPABASE.open();
    // As the CLI applies it: the project's `postgres`, the whole file.
    const project = connectAsOwner({ url: url!.replace("mooring_app@", "postgres@") });
    const seed = () => project.unsafe(SEED).simple();
    const counts = async () => {
      const [row] = await owner`
        select (select count(*)::int from auth.users) as users,
          (select count(*)::int from auth.identities) as identities,
          (select count(*)::int from public.members) as members,
          (select count(*)::int from vault.secrets) as secrets,
          (select rolpassword from pg_authid where rolname = 'mooring_app') is not null as password`;
      return { ...row };
    };
    const nothing = { users: 0, identities: 0, members: 0, secrets: 0, password: false };
    try {
      await seed();
      assert.deepEqual(await counts(), nothing, "a hosted project tells no such secret");
      await project`select set_config('app.settings.jwt_secret', 'its own', false)`;
      await seed();
      assert.deepEqual(await counts(), nothing);

      await project`select set_config('app.settings.jwt_secret', ${KNOWN}, false)`;
      await seed();
      const seeded = { users: 3, identities: 3, members: 3, secrets: 1, password: true };
      assert.deepEqual(await counts(), seeded);
      const key = await secretsKeyText(db, null);
      await owner`update public.members set role = 'admin' where role = 'viewer'`;
      await seed();
      assert.deepEqual(await counts(), seeded, "as often as one likes");
      assert.equal(await secretsKeyText(db, null), key, "what was sealed goes on to open");

      const people = await owner<{ id: string; email: string; right: boolean; empty: boolean }[]>`
        select id, email, email_confirmed_at is not null
          and encrypted_password = extensions.crypt('a password for developers', encrypted_password) as right,
          confirmation_token = '' and recovery_token = '' and email_change_token_new = ''
          and email_change = '' as empty
        from auth.users order by email`;
      assert.ok(people.every(({ right, empty }) => right && empty));
      const roles = [];
      for (const { id } of people) {
        const [{ name, role }] = await workspacesOf(db, { userId: id });
        roles.push(`${name}: ${role}`);
      }
      const changed = ["Development: owner", "Development: member", "Development: admin"];
      assert.deepEqual(roles, changed, "and what a developer changed stays");
    } finally {
      await owner`alter role mooring_app password null`;
      await project.end();
      await close();
    }
  },
});
