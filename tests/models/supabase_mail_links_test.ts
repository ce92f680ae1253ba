/** Links of mails as supabase/templates writes them, opened in another browser than the one that asked. */
import assert from "node:assert/strict";
import { parse } from "node:path";
import { ConfirmationNeeded } from "../../models/identity.ts";
import { browser, EXAMPLE, FROM, linkOf, open, PASSWORD } from "../supabase/identity_world.ts";
import { SUPABASE } from "./databases.ts";

const options = { ignore: SUPABASE.ignore };
const ANYWHERE = new Headers();

Deno.test({
  name: "a link signs in in any browser, once, and as nobody else than it says",
  ...options,
  async fn() {
    await using world = await open();
    const { identity, auth } = world;
    const elsewhere = identity.elsewhere!;
    const email = "ann+mooring@example.com";
    await auth.addAccount({ email, password: PASSWORD });
    await elsewhere.sendLink(email, "/servers?a=1");
    const { anyBrowsers } = auth.mails[0];
    assert.ok(anyBrowsers.startsWith(`${EXAMPLE}/sign-in/confirm?token_hash=pkce_`));
    assert.equal(
      new URL(anyBrowsers).searchParams.get("redirect_to"),
      `${EXAMPLE}/sign-in/callback?next=${encodeURIComponent("/servers?a=1")}`,
    );
    const link = linkOf(anyBrowsers);
    assert.equal(link.email, email);
    const cookies = await elsewhere.confirm(ANYWHERE, { ...link, email: email.toUpperCase() });
    assert.equal((await identity.userOf(browser(cookies)))?.email, email);
    await assert.rejects(elsewhere.confirm(ANYWHERE, link), /was used, is too old/);

    // Mallory sends a link of her own account, and says in it that it is Ann's.
    const mallory = await auth.addAccount({ email: "mallory@example.com", password: PASSWORD });
    await elsewhere.sendLink("mallory@example.com", "/");
    const forged = { ...linkOf(auth.mails.at(-1)!.anyBrowsers), email };
    await assert.rejects(elsewhere.confirm(browser(cookies), forged), /of another account/);
    const [{ open: sessions }] = await world.owner`
      select count(*)::int as open from auth.sessions where user_id = ${mallory.id}`;
    assert.equal(sessions, 0);

    // Whoever was signed in here is signed out once the link held, and not before.
    await elsewhere.sendLink("mallory@example.com", "/");
    const next = linkOf(auth.mails.at(-1)!.anyBrowsers);
    await auth.addAccount({ email: "bob@example.com", password: PASSWORD });
    const bob = browser(await identity.signIn("bob@example.com", PASSWORD, FROM));
    await assert.rejects(elsewhere.confirm(bob, { ...next, token: "made up" }), /was used/);
    assert.equal((await identity.userOf(bob))?.email, "bob@example.com");
    const over = await elsewhere.confirm(bob, next);
    assert.equal((await identity.userOf(browser(over)))?.email, "mallory@example.com");
    assert.equal(await identity.userOf(bob), null);
  },
});

Deno.test({
  name: "an account is confirmed, invited, got back and given another address in any browser",
  ...options,
  async fn() {
    await using world = await open({ confirmsChangesTwice: true });
    const { identity, auth } = world;
    const elsewhere = identity.elsewhere!;
    const last = () => linkOf(auth.mails.at(-1)!.anyBrowsers);
    await identity.createAccount("bea@example.com", "Bea", PASSWORD).catch((error) => {
      assert.ok(error instanceof ConfirmationNeeded);
    });
    const confirmed = await elsewhere.confirm(ANYWHERE, last());
    assert.equal((await identity.userOf(browser(confirmed)))?.name, "Bea");

    const password = "another long password";
    await identity.sendPasswordLink("bea@example.com", FROM);
    assert.ok(auth.mails.at(-1)!.anyBrowsers.startsWith(`${EXAMPLE}/new-password?`));
    const link = last();
    const mistaken = { ...link, email: "ann@example.com" };
    await assert.rejects(
      identity.resetPassword(ANYWHERE, { link: { ...link, type: "email" }, password }, FROM),
      /was used/,
      "it is for a password alone",
    );
    await identity.resetPassword(ANYWHERE, { link, password }, FROM);
    await identity.signIn("bea@example.com", password, FROM);
    await assert.rejects(
      identity.resetPassword(ANYWHERE, { link: mistaken, password }, FROM),
      /was used/,
    );

    await auth.invite("cho@example.com");
    assert.equal(last().type, "invite");
    await identity.resetPassword(ANYWHERE, { link: last(), password }, FROM);
    const cho = browser(await identity.signIn("cho@example.com", password, FROM));

    const wish = { email: "new@example.com", password };
    assert.equal(await identity.changeEmail(cho, wish, FROM), "asked");
    const [toNew, toOld] = auth.mails.slice(-2);
    assert.deepEqual([toNew.to, toOld.to], ["new@example.com", "cho@example.com"]);
    assert.equal(linkOf(toOld.anyBrowsers).email, "new@example.com", "what it becomes");
    assert.equal(await elsewhere.confirmEmail(linkOf(toOld.anyBrowsers)), "asked");
    assert.equal((await identity.userOf(cho))?.email, "cho@example.com", "not yet");
    assert.equal(await elsewhere.confirmEmail(linkOf(toNew.anyBrowsers)), "changed");
    assert.equal((await identity.userOf(cho))?.email, "new@example.com");
    await assert.rejects(elsewhere.confirmEmail(linkOf(toNew.anyBrowsers)), /was used/);
  },
});

Deno.test("config.toml names each template, and they name no field that Auth does not give", async () => {
  const root = new URL("../../", import.meta.url);
  const config = await Deno.readTextFile(new URL("supabase/config.toml", root));
  const named = [...config.matchAll(
    /\[auth\.email\.template\.(\w+)\]\nsubject = ".+"\ncontent_path = "(.+)"/g,
  )];
  const files = [...Deno.readDirSync(new URL("supabase/templates", root))].map(({ name }) => name);
  assert.deepEqual(
    named.map(([, name, path]) => [`${name}.html`, path]).toSorted(),
    files.map((file) => [file, `./supabase/templates/${file}`]).toSorted(),
  );
  for (const file of files) {
    assert.equal(parse(file).ext, ".html");
    const text = await Deno.readTextFile(new URL(`supabase/templates/${file}`, root));
    const fields = [...text.matchAll(/\{\{ \.(\w+) \}\}/g)].map(([, field]) => field);
    const known = ["SiteURL", "TokenHash", "Email", "NewEmail", "RedirectTo"];
    assert.deepEqual(fields.filter((field) => !known.includes(field)), [], file);
    assert.doesNotMatch(text, /ConfirmationURL/, "that is spent by looking at it");
  }
});
