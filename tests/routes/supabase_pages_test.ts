import assert from "node:assert/strict";
import { createLog } from "../../models/log.ts";
import { supabaseIdentity } from "../../models/supabase_identity.ts";
import { SUPABASE } from "../models/databases.ts";
import { PUBLISHABLE_KEY, startAuthServer } from "../supabase/auth_server.ts";
import { openPageApp } from "./page_app.ts";

const BASE = "http://127.0.0.1:4680/functions/v1/app";
const PASSWORD = "a long enough password";

/** The app's pages over a stand-in project, as a browser that keeps cookies sees them. */
async function open(accessTokenS?: number) {
  const database = await SUPABASE.open();
  const auth = await startAuthServer({ owner: database.owner, accessTokenS });
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
    assert.doesNotMatch(mainOf(security.html), /passkey|second factor|authenticator/i);

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

function mainOf(html: string): string {
  return html.slice(html.indexOf("<main"));
}
