import assert from "node:assert/strict";
import { SecondFactorNeeded, SignInRefused } from "../../models/identity.ts";
import { totp } from "../routes/totp.ts";
import { browser, follow, FROM, linkOf, open, PASSWORD } from "../supabase/identity_world.ts";
import { SUPABASE } from "./databases.ts";

const ANN = { email: "ann@example.com", password: PASSWORD };
const options = { ignore: SUPABASE.ignore };

/** A person who is signed in and has an authenticator app, with its key. */
async function withApp(world: Awaited<ReturnType<typeof open>>) {
  const { identity, auth } = world;
  const account = await auth.addAccount(ANN);
  const first = browser(await identity.signIn(ANN.email, PASSWORD, FROM));
  const { key } = await identity.makeSecondFactor(first, PASSWORD, FROM);
  const cookies = await identity.turnOnSecondFactor(first, await totp(key), FROM);
  return { account, key, headers: browser(cookies) };
}

/** What a sign-in asked for a code with. */
async function asked(signingIn: Promise<unknown>): Promise<Headers> {
  const error = await signingIn.then(() => null, (error) => error);
  assert.ok(error instanceof SecondFactorNeeded, String(error));
  for (const line of error.cookies.getSetCookie()) {
    // Besides the session it may delete what proved that the asker exchanged a code.
    if (/session(\.\d+)?=base64/.test(line)) assert.match(line, /Max-Age=600/);
  }
  return browser(error.cookies);
}

Deno.test({
  name: "an authenticator app is set up at Supabase, and asked for from then on",
  ...options,
  async fn() {
    await using world = await open();
    const { identity, auth } = world;
    const account = await auth.addAccount(ANN);
    const here = browser(await identity.signIn(ANN.email, PASSWORD, FROM));
    const there = browser(await identity.signIn(ANN.email, PASSWORD, FROM));
    assert.equal(await identity.hasSecondFactor(here), false);
    assert.equal(identity.renewBackupCodes, null, "Supabase has none");

    await assert.rejects(
      identity.makeSecondFactor(here, "wrong", FROM),
      new SignInRefused("The password is wrong"),
    );
    const givenUp = await identity.makeSecondFactor(here, PASSWORD, FROM);
    assert.match(givenUp.uri, /^otpauth:\/\/totp\/Mooring%20at%20mooring\.example:/);
    assert.deepEqual(givenUp.backupCodes, []);
    const { key } = await identity.makeSecondFactor(here, PASSWORD, FROM);
    assert.equal(account.factors.length, 1, "what was given up is not left behind");
    assert.equal(await identity.hasSecondFactor(here), false, "not before a code was right");
    await identity.signIn(ANN.email, PASSWORD, FROM);
    for (const wrong of ["000000", "no code", await totp(givenUp.key)]) {
      await assert.rejects(identity.turnOnSecondFactor(here, wrong, FROM), /not the code of now/);
    }

    const on = browser(await identity.turnOnSecondFactor(here, ` ${await totp(key)} `, FROM));
    assert.equal(await identity.hasSecondFactor(on), true);
    assert.equal((await identity.userOf(on))?.email, ANN.email);
    assert.equal(await identity.userOf(here), null, "the token of before says no code was given");
    assert.equal(await identity.userOf(there), null, "and those elsewhere have to give one");
    await assert.rejects(
      identity.makeSecondFactor(on, PASSWORD, FROM),
      /There is a second factor already/,
    );

    // By password: the session that waits for the code opens nothing.
    const waiting = await asked(identity.signIn(ANN.email, PASSWORD, FROM));
    assert.equal(await identity.userOf(waiting), null);
    await assert.rejects(identity.hasSecondFactor(waiting), /signed out/);
    await assert.rejects(identity.turnOffSecondFactor(waiting, PASSWORD, FROM), /signed out/);
    await assert.rejects(identity.signInWithCode(waiting, "123", FROM), /not the code of now/);
    const done = await identity.signInWithCode(waiting, await totp(key), FROM);
    assert.match(done.getSetCookie()[0], /Max-Age=\d{7,}/, "as long as any session");
    assert.equal((await identity.userOf(browser(done)))?.userId, account.id);
    await assert.rejects(
      identity.signInWithCode(new Headers(), await totp(key), FROM),
      new SignInRefused("That took too long. Sign in again"),
    );

    // A password and an address can be changed with the code given.
    const next = "another long password";
    const passwords = { present: PASSWORD, next };
    const changed = browser(done, await identity.changePassword(browser(done), passwords, FROM));
    assert.equal((await identity.userOf(changed))?.userId, account.id);

    await assert.rejects(identity.turnOffSecondFactor(changed, "wrong", FROM), /password is wrong/);
    const off = browser(await identity.turnOffSecondFactor(changed, next, FROM));
    assert.equal(await identity.hasSecondFactor(off), false);
    await identity.signIn(ANN.email, next, FROM);
  },
});

Deno.test({
  name: "links and other sites are asked for the code as well",
  ...options,
  async fn() {
    await using world = await open();
    const { identity, auth } = world;
    const elsewhere = identity.elsewhere!;
    const { account, key } = await withApp(world);

    const began = await elsewhere.sendLink(ANN.email, "/");
    const back = await follow(auth.mails.at(-1)!.link);
    const waiting = await asked(elsewhere.finish(browser(began), back.searchParams));
    assert.equal(await identity.userOf(waiting), null);
    const done = await identity.signInWithCode(waiting, await totp(key), FROM);
    assert.equal((await identity.userOf(browser(done)))?.userId, account.id);

    await elsewhere.sendLink(ANN.email, "/");
    const link = linkOf(auth.mails.at(-1)!.anyBrowsers);
    const other = await asked(elsewhere.confirm(new Headers(), link));
    assert.equal(await identity.userOf(other), null);
    await identity.signInWithCode(other, await totp(key), FROM);
  },
});

Deno.test({
  name: "whoever forgot their password gives the code as well, and no mailbox alone changes it",
  ...options,
  async fn() {
    await using world = await open();
    const { identity, auth } = world;
    const { headers, key } = await withApp(world);
    const password = "the third long password";
    const began = browser(await identity.sendPasswordLink(ANN.email, FROM));
    const back = await follow(auth.mails.at(-1)!.link);
    const wish = { link: { token: back.searchParams.get("code")! }, password };

    const waiting = await asked(identity.resetPassword(began, wish, FROM));
    assert.equal(await identity.userOf(waiting), null, "it signs nobody in");
    await assert.rejects(
      identity.signInWithCode(waiting, await totp(key), FROM),
      /took too long/,
      "nor with a code",
    );
    await assert.rejects(
      identity.resetPassword(waiting, { ...wish, code: "000000" }, FROM),
      /not the code of now/,
    );
    // A session that is signed in is no link.
    const signedIn = { ...wish, code: await totp(key) };
    await assert.rejects(identity.resetPassword(headers, signedIn, FROM), /took too long/);
    const set = await identity.resetPassword(waiting, { ...wish, code: await totp(key) }, FROM);
    assert.equal(browser(set).get("cookie"), "");
    assert.equal(await identity.userOf(headers), null, "signed out everywhere");
    await assert.rejects(identity.signIn(ANN.email, PASSWORD, FROM), /password is wrong/);
    await asked(identity.signIn(ANN.email, password, FROM));
  },
});

Deno.test({
  name: "a token of a password alone opens nothing at the project's own API",
  ...options,
  async fn() {
    await using world = await open();
    const { auth, db, owner } = world;
    const { account } = await withApp(world);
    const bob = await auth.addAccount({ email: "bob@example.com", password: PASSWORD });
    const workspaceId = crypto.randomUUID();
    await owner`insert into public.workspaces (id, name) values (${workspaceId}, 'Ours')`;
    for (const { id } of [account, bob]) {
      await owner`insert into public.members (workspace_id, user_id, role)
        values (${workspaceId}, ${id}, 'owner')`;
    }
    /** As PostgREST asks, with a token's claims. */
    const sees = (sub: string, aal: string) =>
      owner.begin(async (sql) => {
        await sql`select set_config('role', 'authenticated', true),
          set_config('request.jwt.claims', ${
          JSON.stringify({ role: "authenticated", sub, aal })
        }, true)`;
        return (await sql`select 1 from public.workspaces`).length;
      });
    assert.equal(await sees(account.id, "aal1"), 0);
    assert.equal(await sees(account.id, "aal2"), 1);
    assert.equal(await sees(account.id, "made up"), 0);
    assert.equal(await sees(bob.id, "aal1"), 1, "who has no second factor needs none");
    const asUser = await db.asUser(
      { userId: account.id },
      (sql) => sql`select 1 from public.workspaces`,
    );
    assert.equal(asUser.length, 1, "the app looked before it asks");
    const others = await owner<{ table: string }[]>`
      select tablename as table from pg_policies
      where 'authenticated' = any(roles) and permissive = 'PERMISSIVE'
        and coalesce(qual, '') || coalesce(with_check, '') !~ 'workspaces_as'`;
    assert.deepEqual(others.map(({ table }) => table), ["profiles"], "all else goes by it");
  },
});
