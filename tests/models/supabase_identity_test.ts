import assert from "node:assert/strict";
import { ConfirmationNeeded, SignInRefused } from "../../models/identity.ts";
import { workspacesOf } from "../../models/workspaces.ts";
import { browser, EXAMPLE, follow, FROM, open, PASSWORD } from "../supabase/identity_world.ts";
import { SUPABASE } from "./databases.ts";

for (const algorithm of ["ES256", "HS256"] as const) {
  Deno.test({
    name: `Supabase Auth signs in and out, with tokens of ${algorithm}`,
    ignore: SUPABASE.ignore,
    async fn() {
      await using world = await open({ algorithm });
      const { identity, auth } = world;
      const account = await auth.addAccount({ email: "ann@example.com", password: PASSWORD });

      await assert.rejects(
        identity.signIn("ann@example.com", "wrong", FROM),
        new SignInRefused("The email address or the password is wrong"),
      );
      const cookies = await identity.signIn("ann@example.com", PASSWORD, FROM);
      for (const line of cookies.getSetCookie()) {
        assert.match(line, /^__Host-mooring_session(\.\d+)?=/);
        assert.match(line, /; Path=\/;/);
        assert.match(line, /HttpOnly; Secure; SameSite=Lax/);
      }
      const headers = browser(cookies);
      const ann = { userId: account.id, email: "ann@example.com", name: "ann" };
      assert.deepEqual(await identity.userOf(headers), ann);
      assert.equal(
        auth.asked.filter((path) => path === "GET /user").length,
        algorithm === "HS256" ? 1 : 0,
        "keys prove it here; only a shared secret is the project's to ask",
      );

      await identity.rename(headers, "Ann of Green");
      assert.equal((await identity.userOf(headers))?.name, "Ann of Green", "at once, here");

      const answer = await identity.signOut(headers);
      assert.equal(browser(cookies, answer).get("cookie"), "", "the browser forgets it");
      assert.equal(await identity.userOf(headers), null, "and so does a copy of the cookies");
      assert.equal(await identity.userOf(new Headers()), null);
    },
  });
}

Deno.test({
  name: "a session of Supabase is renewed before it ends, and the browser told",
  ignore: SUPABASE.ignore,
  // The library's own tries end later than the test.
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using world = await open({ accessTokenS: 60 });
    const { identity, auth } = world;
    await auth.addAccount({ email: "ann@example.com", password: PASSWORD });
    const first = browser(await identity.signIn("ann@example.com", PASSWORD, FROM));
    auth.state.accessTokenS = 3600;

    const [one, two] = await Promise.all([identity.renew(first), identity.renew(first)]);
    for (const renewal of [one, two]) {
      assert.ok(renewal);
      assert.equal((await identity.userOf(renewal.headers))?.email, "ann@example.com");
      assert.equal((await identity.userOf(browser(renewal.cookies)))?.email, "ann@example.com");
      assert.equal(await identity.renew(renewal.headers), null, "it holds for an hour now");
    }
    assert.equal(await identity.renew(new Headers()), null);

    // The project does not answer: the cookies stay for when it does.
    auth.state.isDown = true;
    const unrenewed = await identity.renew(first);
    assert.deepEqual(unrenewed?.cookies.getSetCookie(), []);
    auth.state.isDown = false;
    assert.equal((await identity.userOf(first))?.email, "ann@example.com");

    await identity.endAllSessions(one!.headers);
    const over = await identity.renew(first);
    assert.equal(await identity.userOf(over!.headers), null, "ended elsewhere, it is over");
  },
});

Deno.test({
  name: "tokens that Supabase did not give, or not to an account, sign nobody in",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open();
    const { identity, auth } = world;
    const account = await auth.addAccount({ email: "ann@example.com", password: PASSWORD });
    const { access_token, ...session } = await auth.openSession(account);
    const sessionId = JSON.parse(atob(access_token.split(".")[1])).session_id;
    const claims = auth.claimsOf(account, sessionId);
    const stranger = await crypto.subtle.generateKey(
      { name: "ECDSA", namedCurve: "P-256" },
      true,
      ["sign", "verify"],
    );
    const of = (token: string) => {
      const text = JSON.stringify({ ...session, access_token: token });
      return new Headers({ cookie: `__Host-mooring_session=base64-${base64Url(text)}` });
    };
    assert.equal((await identity.userOf(of(access_token)))?.userId, account.id);
    const wrong = {
      "of another key": await auth.sign(claims, {}, stranger.privateKey),
      "of a key nobody knows": await auth.sign(claims, { kid: "other" }),
      "unsigned": `${base64Url('{"alg":"none"}')}.${access_token.split(".")[1]}.`,
      "over": await auth.sign({ ...claims, exp: 1 }),
      "of the service": await auth.sign({ ...claims, role: "service_role" }),
      "of nobody": await auth.sign({ ...claims, is_anonymous: true }),
      "without a session": await auth.sign({ ...claims, session_id: undefined }),
      "of another's session": await auth.sign({ ...claims, sub: crypto.randomUUID() }),
      "no token": "x",
    };
    for (const [what, token] of Object.entries(wrong)) {
      assert.equal(await identity.userOf(of(token)), null, what);
    }
    const torn = new Headers({ cookie: "__Host-mooring_session.0=base64-eyJhY2Nlc3M" });
    assert.equal(await identity.userOf(torn), null);

    await world.owner`delete from auth.users where id = ${account.id}`;
    assert.equal(await identity.userOf(of(access_token)), null, "the account was deleted");
  },
});

Deno.test({
  name: "the owner of the first workspace is the confirmed OWNER_EMAIL alone",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open();
    const { identity, auth, db } = world;
    const workspaces = async (email: string) => {
      const person = await identity.userOf(
        browser(await identity.signIn(email, PASSWORD, FROM)),
      );
      return (await workspacesOf(db, person!)).map(({ name, role }) => `${name}: ${role}`);
    };
    await auth.addAccount({ email: "stranger@example.com", password: PASSWORD });
    assert.deepEqual(await workspaces("stranger@example.com"), [], "being first is nothing");
    await auth.addAccount({ email: "owner@example.com", password: PASSWORD });
    assert.deepEqual(await workspaces("owner@example.com"), ["My workspace: owner"]);
    assert.deepEqual(await workspaces("owner@example.com"), ["My workspace: owner"], "once");
    assert.deepEqual(await workspaces("stranger@example.com"), []);
  },
});

Deno.test({
  name: "where a project confirms addresses unseen nobody becomes the owner by an address",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open({ isAutoconfirming: true });
    const cookies = await world.identity.createAccount("owner@example.com", "Mallory", PASSWORD);
    const person = await world.identity.userOf(browser(cookies));
    assert.equal(person?.name, "Mallory");
    assert.deepEqual(await workspacesOf(world.db, person!), []);
    assert.match(world.said.join("\n"), /Nobody becomes the owner/);
  },
});

Deno.test({
  name: "a link in a mail and another site sign in, in the browser that began it",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open({ providers: ["github", "azure"] });
    const { identity, auth } = world;
    const elsewhere = identity.elsewhere!;
    await auth.addAccount({ email: "ann@example.com", password: PASSWORD });
    assert.deepEqual(await elsewhere.offers(), {
      byEmail: true,
      providers: [{ id: "github", name: "GitHub" }, { id: "azure", name: "Microsoft" }],
    });

    const began = await elsewhere.sendLink("ann@example.com", "/servers?a=1");
    assert.match(began.getSetCookie()[0], /code-verifier=.*HttpOnly; Secure/);
    const back = await follow(auth.mails[0].link);
    assert.equal(back.origin + back.pathname, `${EXAMPLE}/sign-in/callback`);
    assert.equal(back.searchParams.get("next"), "/servers?a=1");
    await assert.rejects(elsewhere.finish(new Headers(), back.searchParams), /another browser/);
    const done = await elsewhere.finish(browser(began), back.searchParams);
    assert.equal((await identity.userOf(browser(began, done)))?.email, "ann@example.com");
    await assert.rejects(elsewhere.finish(browser(began), back.searchParams), /was used/);

    await elsewhere.sendLink("nobody@example.com", "/");
    assert.equal(auth.mails.length, 1, "and nobody is told that there is no such account");

    const begun = await elsewhere.begin("github", "/");
    assert.equal(new URL(begun.url).origin, auth.url);
    const home = await follow(begun.url);
    const signedIn = await elsewhere.finish(browser(begun.cookies), home.searchParams);
    assert.equal((await identity.userOf(browser(signedIn)))?.name, "Gi Thub");
    await assert.rejects(elsewhere.begin("google", "/"), SignInRefused);
    const refused = new URLSearchParams({ error: "access_denied", error_description: "<b>" });
    await assert.rejects(
      elsewhere.finish(browser(begun.cookies), refused),
      new SignInRefused("The sign-in was not finished. Begin it again"),
    );
  },
});

Deno.test({
  name: "Supabase's accounts are made, confirmed, changed and got back by their owners",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open();
    const { identity, auth } = world;
    const asked = await identity.createAccount("bea@example.com", "Bea", PASSWORD).catch((e) => e);
    assert.ok(asked instanceof ConfirmationNeeded);
    await assert.rejects(
      identity.signIn("bea@example.com", PASSWORD, FROM),
      /Confirm your address/,
    );
    const home = await follow(auth.mails[0].link);
    const confirmed = await identity.elsewhere!.finish(browser(asked.cookies), home.searchParams);
    assert.equal((await identity.userOf(browser(confirmed)))?.name, "Bea");

    const here = browser(await identity.signIn("bea@example.com", PASSWORD, FROM));
    const there = browser(await identity.signIn("bea@example.com", PASSWORD, FROM));
    const next = "another long password";
    await assert.rejects(
      identity.changePassword(here, { present: "wrong", next }, FROM),
      new SignInRefused("The password is wrong"),
    );
    await identity.changePassword(here, { present: PASSWORD, next }, FROM);
    assert.equal((await identity.userOf(here))?.email, "bea@example.com");
    assert.equal(await identity.userOf(there), null, "signed out elsewhere");

    const wish = { email: "new@example.com", password: next };
    assert.equal(await identity.changeEmail(here, wish, FROM), "asked");
    assert.equal((await identity.userOf(here))?.email, "bea@example.com", "not yet");
    await follow(auth.mails.at(-1)!.link);
    assert.equal((await identity.userOf(here))?.email, "new@example.com");

    const began = await identity.sendPasswordLink("new@example.com", FROM);
    const back = await follow(auth.mails.at(-1)!.link);
    assert.equal(back.origin + back.pathname, `${EXAMPLE}/new-password`);
    const code = back.searchParams.get("code")!;
    const chosen = "the third long password";
    const chosenWish = { link: { token: code }, password: chosen };
    await assert.rejects(identity.resetPassword(new Headers(), chosenWish, FROM), /browser/);
    await identity.resetPassword(browser(began), chosenWish, FROM);
    assert.equal(await identity.userOf(here), null, "signed out everywhere");
    await assert.rejects(identity.resetPassword(browser(began), chosenWish, FROM), /was used/);
    await identity.signIn("new@example.com", chosen, FROM);

    const weak = await identity.sendPasswordLink("new@example.com", FROM);
    const again = (await follow(auth.mails.at(-1)!.link)).searchParams.get("code")!;
    await assert.rejects(
      identity.resetPassword(
        browser(weak),
        { link: { token: again }, password: "too short" },
        FROM,
      ),
      /Longer, please. The link is spent/,
    );
  },
});

Deno.test({
  name: "what is in the way of signing in at Supabase is told in words",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open();
    const { identity, auth } = world;
    const factors = [{ id: crypto.randomUUID(), status: "verified", factor_type: "phone" }];
    const mfa = { email: "mfa@example.com", password: PASSWORD, factors };
    const account = await auth.addAccount(mfa);
    await assert.rejects(identity.signIn("mfa@example.com", PASSWORD, FROM), /second factor/);
    const [{ open: sessions }] = await world.owner`select count(*)::int as open from auth.sessions`;
    assert.equal(sessions, 0, "and its session is not left behind");
    // The password gives a token elsewhere; it opens nothing here before the factor was asked for as well.
    const { access_token } = await auth.openSession(account);
    assert.equal(await identity.personOf(access_token), null);
    const session = JSON.parse(atob(access_token.split(".")[1])).session_id;
    const asked = await auth.sign({ ...auth.claimsOf(account, session), aal: "aal2" });
    assert.equal((await identity.personOf(asked))?.userId, account.id);

    auth.state.isBusy = true;
    const busy = await identity.signIn("a@example.com", PASSWORD, FROM).catch((e) => e);
    assert.equal(busy.retryAfterS, 60);
    auth.state.isBusy = false;
    auth.state.isDown = true;
    await assert.rejects(identity.signIn("a@example.com", PASSWORD, FROM), /does not answer/);
  },
});

function base64Url(text: string): string {
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
