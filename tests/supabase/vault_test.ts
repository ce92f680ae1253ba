/** SECRETS_KEY in Supabase Vault: a stand-in of it, with the grants of the real one (hosted_supabase.sql). */
import assert from "node:assert/strict";
import { connectAsOwner } from "../../models/db.ts";
import { openSecret, sealSecret, secretsKeyFrom } from "../../models/secrets.ts";
import { secretsKeyText } from "../../supabase/functions/app/secrets_key.ts";
import { KINDS, SUPABASE } from "../models/databases.ts";

const key = (id: string, letter: string) => `${id}:${btoa(letter.repeat(32))}`;

for (const kind of KINDS) {
  Deno.test({
    name: `without Vault the key has to be given (${kind.name})`,
    ignore: kind.ignore,
    async fn() {
      const { db, close } = await kind.open();
      try {
        await assert.rejects(
          secretsKeyText(db, null),
          /SECRETS_KEY is needed.*mooring_secrets_key/,
        );
        assert.equal(await secretsKeyText(db, key("one", "a")), key("one", "a"));
      } finally {
        await close();
      }
    },
  });
}

Deno.test({
  name: "the key is read out of Supabase Vault by the app alone, and can be another one",
  ignore: SUPABASE.ignore,
  async fn(t) {
    const { db, owner, url, close } = await SUPABASE.open();
    const project = connectAsOwner({ url: url!.replace("mooring_app@", "postgres@") });
    try {
      await assert.rejects(secretsKeyText(db, null), /is needed/, "nothing is in it yet");

      // As docs/supabase.md has it, in the SQL editor.
      const [{ id }] = await project<{ id: string }[]>`
        select vault.create_secret(${key("one", "a")}, 'mooring_secrets_key') as id`;
      await project`select vault.create_secret('another secret', 'another')`;
      const text = await secretsKeyText(db, null);
      assert.equal(text, key("one", "a"));
      assert.equal(
        await secretsKeyText(db, key("env", "e")),
        key("env", "e"),
        "what is given wins",
      );
      const before = await sealSecret(await secretsKeyFrom(text), "row", "hush");

      await t.step("a new key seals, and the one before opens what it sealed", async () => {
        const both = `${key("two", "b")},${key("one", "a")}`;
        await project`select vault.update_secret(${id}, ${both})`;
        const keys = await secretsKeyFrom(await secretsKeyText(db, null));
        assert.equal(keys.current.id, "two");
        assert.equal(await openSecret(keys, "row", before), "hush");
        const after = await sealSecret(keys, "row", "hush");
        assert.equal(after.keyId, "two");
      });

      await t.step("one of another form is refused, and not said", async () => {
        await project`select vault.update_secret(${id}, 'hidden')`;
        await assert.rejects(secretsKeyText(db, null), (error: Error) => {
          assert.match(error.message, /must be id:base64/);
          assert.doesNotMatch(error.message, /hidden/);
          return true;
        });
        await project`select vault.update_secret(${id}, ${key("one", "a")})`;
      });

      await t.step("no role of the project's API comes to it, nor Mooring's others", async () => {
        const roles = ["anon", "authenticated", "service_role", "mooring_agent", "mooring_toolbox"];
        for (const role of roles) {
          await assert.rejects(
            owner.begin(async (sql) => {
              // As PostgREST does, and as the app does for people, agents and toolboxes.
              await sql`select set_config('role', ${role}, true)`;
              await sql`select mooring.secrets_key()`;
            }),
            { code: "42501" },
            role,
          );
        }
        for (const role of [...roles, "mooring_app"].filter((role) => role !== "service_role")) {
          for (const from of ["vault.secrets", "vault.decrypted_secrets"]) {
            await assert.rejects(
              owner.begin(async (sql) => {
                await sql`select set_config('role', ${role}, true)`;
                await sql`select 1 from ${sql(from)}`;
              }),
              { code: "42501" },
              `${role} ${from}`,
            );
          }
        }
      });

      await t.step("no other secret of Vault comes out", async () => {
        const [{ source }] = await owner<{ source: string }[]>`
          select prosrc as source from pg_proc where oid = 'mooring.secrets_key'::regproc`;
        assert.match(source, /where name = \$1/);
        await project`delete from vault.secrets where id = ${id}`;
        await assert.rejects(secretsKeyText(db, null), /is needed/);
      });

      await t.step("before its migrations it says that they are missing", async () => {
        await owner`drop function mooring.secrets_key`;
        await assert.rejects(secretsKeyText(db, null), /lacks its migrations \(supabase db push\)/);
      });
    } finally {
      await project.end();
      await close();
    }
  },
});
