import assert from "node:assert/strict";
import { createLog } from "../../models/log.ts";
import { supabaseIdentity } from "../../models/supabase_identity.ts";
import { SUPABASE } from "../models/databases.ts";
import { PUBLISHABLE_KEY, startAuthServer } from "../supabase/auth_server.ts";
import { openPageApp } from "./page_app.ts";
import { totp } from "./totp.ts";

const BASE = "http://127.0.0.1:4680/functions/v1/app";
const PASSWORD = "a long enough password";

/** The app's pages over a stand-in project, as a browser that keeps cookies sees them. */
async function open(accessTokenS?: number) {
  const database = await SUPABASE.open();
  const auth = await startAuthServer({
    owner: database.owner,
    accessTokenS,
    siteUrl: BASE,
    providers: ["github"],
  });
  const identity = supabaseIdentity(database.db, {
    supabaseUrl: new URL(auth.url),
    publishableKey: PUBLISHABLE_KEY,
    baseUrl: new URL(BASE),
    ownerEmail: "ann@example.com",
    log: createLog("text", () => {}),
  });
  const pages = await openPageApp({ db: database.db, identity }, { baseUrl: BASE });
  const jar = new Map<string, string>();
  const visit = async (path: string, form?: Record<string, string>) => {
    const response = await pages.app.request(path.startsWith("http") ? path : `${BASE}${path}`, {
      method: form ? "POST" : "GET",
      body: form && new URLSearchParams(form),
      headers: {
        cookie: [...jar].map((pair) => pair.join("=")).join("; "),
        ...(form ? { origin: new URL(BASE).origin } : {}),
      },
    });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
      if (/max-age=0/i.test(line)) jar.delete(name);
      else jar.set(name, value);
    }
    const location = response.headers.get("location") ?? "";
    return { status: response.status, location, html: await response.text() };
  };
  return {
    ...database,
    auth,
    app: pages.app,
    jar,
    visit,
    async [Symbol.asyncDispose]() {
      await pages.close();
      await auth.close();
      await database.close();
    },
  };
}

Deno.test({
  name: "pages sign in through Supabase Auth, by all that the project has",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open();
    const { auth, visit, jar } = world;
    await auth.addAccount({ email: "ann@example.com", password: PASSWORD });

    const guarded = await visit("/servers");
    assert.equal(guarded.location, "/functions/v1/app/sign-in?next=%2Fservers");
    assert.equal(
      (await visit("/setup")).location,
      "/functions/v1/app/sign-in",
      "nothing to set up",
    );
    const { html } = await visit("/sign-in?next=/servers");
    assert.match(html, /Sign in by a link in a mail/);
    assert.match(html, /sign-in\/with\/github\?next=%2Fservers"[^>]*>\s*Sign in with GitHub/);
    assert.doesNotMatch(mainOf(html), /passkey|Google|set up/i);

    const wrong = await visit("/sign-in", { email: "ann@example.com", password: "x", next: "/" });
    assert.equal(wrong.status, 422);
    assert.match(wrong.html, /The email address or the password is wrong/);
    assert.match(wrong.html, /value="ann@example.com"/);
    const right = { email: "ann@example.com", password: PASSWORD, next: "/servers" };
    assert.equal((await visit("/sign-in", right)).location, "/functions/v1/app/servers");
    assert.equal((await visit("/servers")).status, 200);
    assert.equal((await visit("/")).status, 200, "the overview, below a path of its own");
    assert.equal((await visit("")).status, 200);

    const security = await visit("/account/security");
    assert.equal(security.status, 200);
    assert.match(security.html, /Sign out everywhere/);
    assert.match(security.html, /name="password"[^>]*>[\s\S]*Set it up/);
    assert.doesNotMatch(mainOf(security.html), /passkey|backup code/i);

    await visit("/sign-out", {});
    assert.equal(jar.size, 0);
    const sent = { linkEmail: "ann@example.com", next: "/agents" };
    assert.match((await visit("/sign-in/link", sent)).location, /said=sign-in-link-sent$/);
    const response = await fetch(auth.mails[0].link, { redirect: "manual" });
    await response.body?.cancel();
    const back = await visit(response.headers.get("location")!);
    assert.equal(back.location, "/functions/v1/app/agents");
    assert.equal((await visit("/agents")).status, 200);

    await visit("/account/sessions/end", {});
    const with_ = await visit("/sign-in/with/github?next=//evil.example");
    assert.equal(with_.status, 303);
    assert.ok(with_.location.startsWith(`${auth.url}/auth/v1/authorize?provider=github`));
    assert.ok(!with_.location.includes("evil"));
    const unfinished = await visit("/sign-in/callback?error=x&error_description=<script>");
    assert.equal(unfinished.status, 422);
    assert.match(unfinished.html, /The sign-in was not finished/);
    assert.doesNotMatch(mainOf(unfinished.html), /<script>/);
  },
});

Deno.test({
  name: "a page renews its visitor's session, and goes on with it",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open(60);
    const { auth, visit, jar } = world;
    await auth.addAccount({ email: "ann@example.com", password: PASSWORD });
    await visit("/sign-in", { email: "ann@example.com", password: PASSWORD, next: "/" });
    const before = jar.get("mooring_session");
    auth.state.accessTokenS = 3600;
    // The body of a form is still there after the request was made anew.
    const renamed = await visit("/account/name", { name: "Ann of Green" });
    assert.match(renamed.location, /said=name-changed$/);
    assert.notEqual(jar.get("mooring_session"), before);
    assert.match((await visit("/account")).html, /value="Ann of Green"/);
    assert.equal(auth.asked.filter((path) => path === "POST /token").length, 2, "once, no more");
  },
});

Deno.test({
  name: "a forgotten password is chosen anew, and an invitation joined, through Supabase's mails",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open();
    const { auth, visit, jar } = world;
    await auth.addAccount({ email: "ann@example.com", password: PASSWORD });
    await visit("/new-password/link", { email: "ann@example.com" });
    const response = await fetch(auth.mails[0].link, { redirect: "manual" });
    await response.body?.cancel();
    const link = response.headers.get("location")!;
    assert.match((await visit(link)).html, /Set the password/);
    const token = new URL(link).searchParams.get("code")!;
    const set = { token, password: "another long password" };
    assert.match((await visit("/new-password", set)).location, /sign-in\?said=password-set$/);
    const right = { email: "ann@example.com", password: set.password, next: "/" };
    assert.equal((await visit("/sign-in", right)).status, 303);

    const invited = await visit("/workspace/invitations", { role: "member", days: "1" });
    const invitation = /token=(mwi_[A-Za-z0-9_-]+)/.exec(invited.html)?.[1];
    assert.ok(invitation, "the link is shown");
    await visit("/sign-out", {});
    const bea = { email: "bea@example.com", name: "Bea", password: PASSWORD };
    const joining = await visit("/join/sign-up", { token: invitation, ...bea });
    assert.match(joining.location, /sign-in\?said=confirm-address$/);
    const confirmed = await fetch(auth.mails.at(-1)!.link, { redirect: "manual" });
    await confirmed.body?.cancel();
    await visit(confirmed.headers.get("location")!);
    assert.match((await visit(`/join?token=${invitation}`)).html, /signed in as bea@example.com/);
    assert.match((await visit("/join", { token: invitation })).location, /workspace\?said=joined$/);
    assert.ok(jar.size > 0);
  },
});

Deno.test({
  name: "the API takes a sign-in's own token, in the workspace that is named or the oldest",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open();
    const { auth, visit } = world;
    const account = await auth.addAccount({ email: "ann@example.com", password: PASSWORD });
    await visit("/sign-in", { email: "ann@example.com", password: PASSWORD, next: "/" });
    const { access_token } = await auth.openSession(account);
    const ask = async (token: string, workspace?: string) => {
      const response = await world.app.request(`${BASE}/api/v1/me`, {
        headers: {
          authorization: `Bearer ${token}`,
          ...(workspace ? { "mooring-workspace": workspace } : {}),
        },
      });
      return { status: response.status, body: await response.json() };
    };
    const bob = await auth.addAccount({ email: "bob@example.com", password: PASSWORD });
    const stranger = await auth.openSession(bob);
    assert.equal((await ask(stranger.access_token)).status, 401, "they are in no workspace");
    const { status, body } = await ask(access_token);
    assert.equal(status, 200);
    assert.equal(body.person.email, "ann@example.com");
    assert.equal(body.workspace.name, "My workspace");
    assert.ok(body.scopes.includes("tools:call"));
    assert.equal((await ask(access_token, body.workspace.id)).status, 200);
    assert.equal((await ask(stranger.access_token, body.workspace.id)).status, 401);
    assert.equal((await ask(access_token, crypto.randomUUID())).status, 401);
    assert.equal((await ask(`${access_token}x`)).status, 401);
    assert.equal((await ask(PUBLISHABLE_KEY)).status, 401);
    await visit("/account/sessions/end", {});
    assert.equal((await ask(access_token)).status, 401, "signed out everywhere");
  },
});

Deno.test({
  name: "a second factor is set up, asked for after each way in, and turned off",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open();
    const { auth, visit, jar } = world;
    const account = await auth.addAccount({ email: "ann@example.com", password: PASSWORD });
    const right = { email: "ann@example.com", password: PASSWORD, next: "/servers" };
    await visit("/sign-in", right);

    const wrong = await visit("/account/second-factor", { password: "x" });
    assert.equal(wrong.status, 422);
    assert.match(wrong.html, /The password is wrong/);
    const made = await visit("/account/second-factor", { password: PASSWORD });
    assert.equal(made.status, 200);
    assert.match(made.html, /There are no backup codes/);
    assert.doesNotMatch(made.html, /Keep these codes/);
    const key = /secret=([A-Z2-7]+)/.exec(made.html)![1];
    const mistyped = await visit("/account/second-factor/on", { code: "000000" });
    assert.match(mistyped.html, /not the code of now/);
    const on = await visit("/account/second-factor/on", { code: await totp(key) });
    assert.match(on.location, /said=second-factor-on$/);
    const security = mainOf((await visit("/account/security")).html);
    assert.match(security, /On: signing in asks for a code/);
    assert.match(security, /at every app of this Supabase project/);
    assert.doesNotMatch(security, /backup codes\b/);

    const code = async (asked: { location: string }) => {
      assert.match(asked.location, /\/sign-in\/code\?next=/);
      assert.match((await visit("/servers")).location, /\/sign-in\?next=/, "not signed in yet");
      const { html } = await visit(asked.location.replace("/functions/v1/app", ""));
      assert.doesNotMatch(html, /backup/);
      const refused = await visit("/sign-in/code", { code: "000000", next: "/servers" });
      assert.equal(refused.status, 422);
      const done = await visit("/sign-in/code", { code: await totp(key), next: "/servers" });
      assert.equal(done.location, "/functions/v1/app/servers");
      assert.equal((await visit("/servers")).status, 200);
      await visit("/sign-out", {});
      assert.equal(jar.size, 0);
    };
    await visit("/sign-out", {});
    await code(await visit("/sign-in", right));
    await visit("/sign-in/link", { linkEmail: "ann@example.com", next: "/servers" });
    const followed = await fetch(auth.mails.at(-1)!.link, { redirect: "manual" });
    await followed.body?.cancel();
    await code(await visit(followed.headers.get("location")!));
    await visit("/sign-in/link", { linkEmail: "ann@example.com", next: "/servers" });
    await code(await visit("/sign-in/confirm", formOf(auth.mails.at(-1)!.anyBrowsers)));

    // What the chat and the API are given: the token of a password alone is nobody's.
    const { access_token } = await auth.openSession(account);
    const reply = await world.app.request(`${BASE}/api/v1/me`, {
      headers: { authorization: `Bearer ${access_token}` },
    });
    assert.equal(reply.status, 401);
    await reply.body?.cancel();
    const chat = await world.app.request(`${BASE}/functions/v1/chat`, {
      method: "POST",
      body: "{}",
      headers: { authorization: `Bearer ${access_token}`, "content-type": "application/json" },
    });
    assert.equal(chat.status, 401);
    await chat.body?.cancel();

    await visit("/new-password/link", { email: "ann@example.com" });
    const link = auth.mails.at(-1)!.anyBrowsers;
    const form = mainOf((await visit(link)).html);
    assert.match(form, /For <strong>ann@example.com<\/strong>/);
    assert.doesNotMatch(form, /name="code"/);
    const wish = { ...formOf(link), password: "another long password" };
    const asked = await visit("/new-password", wish);
    assert.equal(asked.status, 200);
    assert.match(asked.html, /name="code"/);
    const again = await visit("/new-password", { ...wish, code: "000000" });
    assert.equal(again.status, 422);
    const set = await visit("/new-password", { ...wish, code: await totp(key) });
    assert.match(set.location, /said=password-set$/);

    await visit("/sign-in", { ...right, password: wish.password });
    await visit("/sign-in/code", { code: await totp(key), next: "/" });
    const off = await visit("/account/second-factor/off", { off: wish.password });
    assert.match(off.location, /said=second-factor-off$/);
    assert.match((await visit("/account/security")).html, /Set it up/);
  },
});

Deno.test({
  name: "a link of a mail says whose it is and is spent by a click alone",
  ignore: SUPABASE.ignore,
  async fn() {
    await using world = await open();
    const { auth, visit, jar } = world;
    await auth.addAccount({ email: "ann@example.com", password: PASSWORD });
    await auth.addAccount({ email: "bob@example.com", password: PASSWORD });
    await visit("/sign-in/link", { linkEmail: "ann@example.com", next: "/agents" });
    jar.clear(); // another browser
    const link = auth.mails[0].anyBrowsers;
    for (let looks = 0; looks < 3; looks++) {
      const { status, html } = await visit(link);
      assert.equal(status, 200);
      assert.match(mainOf(html), /You will be signed in as <strong>ann@example\.com<\/strong>/);
      assert.match(mainOf(html), /did somebody else send you the link/);
    }
    assert.ok(!auth.asked.includes("POST /verify"), "looking spends nothing");
    await visit("/sign-in", { email: "bob@example.com", password: PASSWORD, next: "/" });
    assert.match(mainOf((await visit(link)).html), /signed in as bob@example\.com: that ends/);

    const foreign = await world.app.request(`${BASE}/sign-in/confirm`, {
      method: "POST",
      body: new URLSearchParams(formOf(link)),
      headers: { origin: "https://evil.example" },
    });
    assert.equal(foreign.status, 403);
    const done = await visit("/sign-in/confirm", { ...formOf(link), next: "/agents" });
    assert.equal(done.location, "/functions/v1/app/agents");
    assert.match((await visit("/account")).html, /ann@example\.com/);
    const spent = await visit("/sign-in/confirm", formOf(link));
    assert.equal(spent.status, 422);
    assert.match(spent.html, /The link was used/);

    const broken = await visit("/sign-in/confirm?token_hash=x&type=sms&email=ann@example.com");
    assert.equal(broken.status, 422);
    assert.match(broken.html, /The link is not whole/);
    const hostile = await visit(
      `/sign-in/confirm?token_hash=x&type=email&email=${
        encodeURIComponent('"><script>@example.com')
      }&redirect_to=${encodeURIComponent(`${BASE}/sign-in/callback?next=//evil.example`)}`,
    );
    assert.doesNotMatch(mainOf(hostile.html), /<script>|evil/);

    await visit("/account/email", { email: "new@example.com", password: PASSWORD });
    jar.clear();
    const change = auth.mails.at(-1)!.anyBrowsers;
    assert.match(mainOf((await visit(change)).html), /sign in with <strong>new@example\.com/);
    const changed = await visit("/sign-in/confirm", formOf(change));
    assert.equal(changed.location, "/functions/v1/app/sign-in?said=email-changed");
    assert.equal(jar.size, 0, "it signs nobody in");
  },
});

/** What the form holds that a link of our templates leads to. */
function formOf(link: string): Record<string, string> {
  const { searchParams } = new URL(link);
  return { ...Object.fromEntries(searchParams), next: "/servers" };
}

function mainOf(html: string): string {
  return html.slice(html.indexOf("<main"));
}
