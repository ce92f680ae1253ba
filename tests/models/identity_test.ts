import assert from "node:assert/strict";
import { SignInRefused } from "../../models/identity.ts";
import { localIdentity } from "../../models/local_identity.ts";
import { workspacesOf } from "../../models/workspaces.ts";
import { migrate } from "../../models/migrations.ts";
import { readMigrations } from "../../database.ts";
import { putLocalToolbox } from "../../models/toolboxes.ts";
import { KINDS } from "./databases.ts";

const FROM = { clientIp: "127.0.0.1", userAgent: "test" };
const PASSWORD = "a long enough password";

for (const kind of KINDS) {
  Deno.test({
    name: `identity and migrations, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const database = await kind.open();
      const { db, owner } = database;
      await putLocalToolbox(db, { enrol: false });
      const identity = localIdentity(db, {
        secret: "s".repeat(40),
        baseUrl: new URL("http://127.0.0.1"),
      });
      const cookieOf = (headers: Headers) =>
        new Headers({ cookie: headers.getSetCookie()[0].split(";")[0] });

      await t.step("an account whose making broke off is none, and is made again", async () => {
        const brokenOff = localIdentity({
          ...db,
          asApp: new Proxy(db.asApp, {
            apply(sql, self, [texts, ...values]) {
              if (texts[0].includes("put_profile")) throw new Error("The process ended here");
              return Reflect.apply(sql, self, [texts, ...values]);
            },
          }),
        }, { secret: "s".repeat(40), baseUrl: new URL("http://127.0.0.1") });
        await assert.rejects(
          brokenOff.createAccount("Ann@example.com", "Ann", PASSWORD),
          /ended here/,
        );
        assert.equal((await owner`select from auth.users`).length, 1);
        assert.equal(await identity.hasAccounts(), false, "set-up is open still");
      });

      await t.step(
        "createAccount makes the first person owner of the first workspace, and no other",
        async () => {
          assert.equal(await identity.hasAccounts(), false);
          const ann = await identity.createAccount("ann@example.com", "Ann", PASSWORD);
          const person = await identity.userOf(cookieOf(ann));
          assert.equal(person?.email, "ann@example.com");
          assert.deepEqual((await workspacesOf(db, person!)).map(({ role }) => role), ["owner"]);
          const bob = await identity.userOf(
            cookieOf(await identity.createAccount("bob@example.com", "Bob", PASSWORD)),
          );
          assert.deepEqual(await workspacesOf(db, bob!), []);
          assert.equal(await identity.hasAccounts(), true);
          await assert.rejects(
            identity.createAccount("ann@example.com", "Ann", PASSWORD),
            SignInRefused,
          );
          await assert.rejects(
            identity.createAccount("carl@example.com", "Carl", "short"),
            SignInRefused,
          );
          const [{ password }] = await owner`select password from auth.accounts limit 1`;
          assert.equal(String(password).includes(PASSWORD), false);
        },
      );

      await t.step(
        "signIn says the same of a wrong password and an unknown address; signOut ends it",
        async () => {
          const words = async (email: string, password: string) => {
            const error = await identity.signIn(email, password, FROM).catch((error) => error);
            assert.ok(error instanceof SignInRefused);
            return error.message;
          };
          assert.equal(
            await words("ann@example.com", "wrong wrong wrong"),
            await words("nobody@example.com", PASSWORD),
          );
          const cookies = await identity.signIn("ann@example.com", PASSWORD, FROM);
          const headers = cookieOf(cookies);
          assert.ok(await identity.userOf(headers));
          await identity.signOut(headers);
          assert.equal(await identity.userOf(headers), null);
          assert.equal(
            await identity.userOf(new Headers({ cookie: "mooring_session=forged.x" })),
            null,
          );
        },
      );

      await t.step("signIn is limited", async () => {
        let refused: SignInRefused | null = null;
        for (let i = 0; i < 20 && !refused?.retryAfterS; i++) {
          refused = await identity.signIn("ann@example.com", "wrong wrong wrong", FROM)
            .catch((e) => e);
        }
        assert.ok(refused!.retryAfterS! > 0);
      });

      await t.step("a mailbox gets five links to a new password, and a console all", async () => {
        for (const [openPasswordLinks, sent] of [[undefined, 5], [Infinity, 2]]) {
          const mails: string[] = [];
          const sending = localIdentity(db, {
            secret: "s".repeat(40),
            baseUrl: new URL("http://127.0.0.1"),
            sendMail: ({ to }) => Promise.resolve(void mails.push(to)),
            openPasswordLinks,
          });
          const tries = openPasswordLinks ? 2 : 7;
          for (let n = 0; n < tries; n++) {
            await sending.sendPasswordLink("bob@example.com", {
              ...FROM,
              clientIp: `10.0.${tries}.${n}`,
            });
          }
          assert.deepEqual(mails, Array(sent).fill("bob@example.com"));
        }
      });

      await t.step("cookies are __Host- and Secure over https", async () => {
        const secure = localIdentity(db, {
          secret: "s".repeat(40),
          baseUrl: new URL("https://mooring.example"),
        });
        const [cookie] = (await secure.createAccount("dora@example.com", "Dora", PASSWORD))
          .getSetCookie();
        assert.match(cookie, /^__Host-/);
        assert.match(cookie, /; Secure/i);
        assert.match(cookie, /; HttpOnly/i);
        assert.match(cookie, /; SameSite=Lax/i);
        assert.match(cookie, /; Path=\/(;|$)/i);
        assert.doesNotMatch(cookie, /Domain=/i);
      });

      await t.step("a passkey is its person's own, and the last way in stays", async () => {
        const at = new URL("https://mooring.example");
        const { createAccount, passkeys, userOf } = localIdentity(db, {
          secret: "s".repeat(40),
          baseUrl: at,
        });
        const person = async (email: string) => {
          const cookies = cookieOf(await createAccount(email, "Eve", PASSWORD));
          return { cookies, userId: (await userOf(cookies))!.userId };
        };
        const eve = await person("eve@example.com"), fay = await person("fay@example.com");
        const keep = async (userId: string) => {
          const id = crypto.randomUUID();
          await owner`
            insert into auth.passkeys (id, "userId", name, "publicKey", "credentialID", counter,
              "deviceType", "backedUp", "createdAt")
            values (${id}, ${userId}, 'A key', 'x', ${id}, 0, 'singleDevice', false, now())`;
          return id;
        };
        const first = await keep(eve.userId), second = await keep(eve.userId);
        await passkeys!.remove(fay.cookies, first);
        await passkeys!.rename(fay.cookies, first, "Mine now");
        assert.deepEqual((await passkeys!.list(fay.cookies)).length, 0);
        assert.deepEqual((await passkeys!.list(eve.cookies)).map(({ name }) => name), [
          "A key",
          "A key",
        ]);
        await owner`update auth.accounts set password = null where "userId" = ${eve.userId}`;
        await passkeys!.remove(eve.cookies, first);
        await assert.rejects(passkeys!.remove(eve.cookies, second), /last way into your account/);
        assert.equal((await passkeys!.list(eve.cookies)).length, 1);
        await assert.rejects(passkeys!.add(eve.cookies, "x", {}, FROM), SignInRefused);
        await assert.rejects(
          passkeys!.beginAdding(fay.cookies, "wrong wrong wrong", FROM),
          SignInRefused,
        );
        const { options, cookies } = await passkeys!.beginAdding(fay.cookies, PASSWORD, FROM);
        assert.equal((options as { rp: { id: string } }).rp.id, "mooring.example");
        assert.match(cookies.getSetCookie()[0], /^__Host-mooring_passkey=.*HttpOnly/i);
        await assert.rejects(passkeys!.signIn(new Headers(), { id: first }, FROM), SignInRefused);
      });

      await t.step("passkeys need a name and, but for localhost, TLS", () => {
        const has = (url: string) =>
          localIdentity(db, { secret: "s".repeat(40), baseUrl: new URL(url) }).passkeys !== null;
        for (const url of ["https://mooring.example", "http://localhost:4680"]) {
          assert.ok(has(url), url);
        }
        for (
          const url of [
            "http://127.0.0.1:4680",
            "https://127.0.0.1",
            "https://[::1]",
            "http://mooring.example",
          ]
        ) assert.ok(!has(url), url);
      });

      await t.step("migrate is recorded where the Supabase CLI looks, and done once", async () => {
        const migrations = await readMigrations();
        if (kind.name === "server") {
          const runs = await Promise.all([
            migrate(owner, migrations, ""),
            migrate(owner, migrations, ""),
          ]);
          assert.deepEqual(runs, [[], []]);
        }
        const rows = await owner`
          select version, name from supabase_migrations.schema_migrations order by version`;
        assert.deepEqual(
          rows.map(({ version }) => version),
          migrations.map(({ version }) => version),
        );
      });

      await database.close();
    },
  });
}
