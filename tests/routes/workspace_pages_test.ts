import assert from "node:assert/strict";
import type { Role } from "../../models/workspaces.ts";
import { KINDS, openWorld } from "../models/databases.ts";
import { totp } from "./totp.ts";
import { openPageApp, ORIGIN } from "./page_app.ts";

const HOSTILE = `<img src=x onerror=alert(2)>"'\u202e`;
const PASSWORD = "a long enough password";

Deno.test({
  name: "the pages of workspaces and of the account",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { owner, workspaceId, identity } = world;
    const lines: string[] = [];
    const opened = await openPageApp(world, { say: (line) => lines.push(line) });
    const { app } = opened;

    /** A browser: keeps the cookies it is given. */
    class Browser {
      readonly cookies = new Map<string, string>();
      async #request(path: string, init: RequestInit = {}) {
        const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
        const headers = { cookie, "user-agent": "Firefox/1 Linux", ...init.headers as object };
        const response = await app.request(ORIGIN + path, { ...init, headers });
        for (const each of response.headers.getSetCookie()) {
          const [, name, value] = /^([^=]+)=([^;]*)/.exec(each)!;
          this.cookies.set(name, value);
        }
        return {
          status: response.status,
          location: response.headers.get("location"),
          html: await response.text(),
        };
      }
      get = (path: string) => this.#request(path);
      post = (path: string, form: Record<string, string> = {}, origin = ORIGIN) =>
        this.#request(path, {
          method: "POST",
          body: new URLSearchParams(form),
          headers: { origin },
        });
      async signIn(email: string, password = PASSWORD) {
        const answer = await this.post("/sign-in", { email, password });
        assert.equal(answer.location, "/", answer.html);
        return this;
      }
    }
    async function person(email: string, role?: Role) {
      const headers = await identity.createAccount(email, email.split("@")[0], PASSWORD);
      const cookie = headers.getSetCookie()[0].split(";")[0];
      const { userId } = (await identity.userOf(new Headers({ cookie })))!;
      if (role) {
        await owner`insert into public.members (workspace_id, user_id, role) values (${workspaceId}, ${userId}, ${role})`;
      }
      const browser = new Browser();
      browser.cookies.set("mooring_session", cookie.slice(cookie.indexOf("=") + 1));
      return { userId, browser };
    }
    const by = {
      owner: await person("owner@example.com", "owner"),
      admin: await person("admin@example.com", "admin"),
      member: await person("member@example.com", "member"),
      viewer: await person("viewer@example.com", "viewer"),
    };
    const linkOf = (html: string) => /\/join\?token=(mwi_[A-Za-z0-9_-]+)/.exec(html)![1];

    await t.step("each role is shown what it may do, and refused the rest", async () => {
      const seen = async (role: Role) => (await by[role].browser.get("/workspace")).html;
      const forms: Record<string, Role[]> = {
        "/workspace/invitations": ["admin", "owner"],
        "/workspace/name": ["admin", "owner"],
        "/workspace/transfer": ["owner"],
        "/workspace/leave": ["viewer", "member", "admin", "owner"], // two owners: each may go
        [`/workspace/members/${by.member.userId}/role`]: ["admin", "owner"],
        [`/workspace/members/${by.member.userId}/remove`]: ["admin", "owner"],
        [`/workspace/members/${by.owner.userId}/role`]: ["owner"],
      };
      for (const role of ["viewer", "member", "admin", "owner"] as Role[]) {
        const html = await seen(role);
        assert.match(html, new RegExp(`data-role="${role}"`));
        for (const [action, roles] of Object.entries(forms)) {
          // One's own row has no Remove: that is Leave.
          if (action.includes(by[role].userId) && action.endsWith("remove")) continue;
          assert.equal(
            html.includes(`action="${action}"`),
            roles.includes(role),
            `${role} ${action}`,
          );
        }
      }
      for (const role of ["viewer", "member"] as Role[]) {
        const { browser } = by[role];
        for (
          const [path, form] of [
            ["/workspace/name", { name: "Mine" }],
            ["/workspace/invitations", { role: "viewer", days: "7" }],
            ["/workspace/transfer", { memberId: by[role].userId }],
            ["/workspace/delete", { confirmation: "My workspace" }],
            [`/workspace/members/${by[role].userId}/role`, { role: "owner" }],
            [`/workspace/members/${by.owner.userId}/remove`, {}],
            ["/toolboxes", { name: "x" }],
          ] as [string, Record<string, string>][]
        ) assert.equal((await browser.post(path, form)).status, 403, `${role} ${path}`);
      }
      assert.equal((await by.viewer.browser.post("/agents", { name: "x" })).status, 403);
      assert.equal((await by.member.browser.post("/agents", { name: "x" })).status, 303);
      const makesOwner = await by.admin.browser.post(
        `/workspace/members/${by.admin.userId}/role`,
        { role: "owner" },
      );
      assert.equal(makesOwner.status, 403);
    });

    await t.step("forms of other sites are refused", async () => {
      for (
        const path of [
          "/workspace/delete",
          "/workspace/leave",
          "/workspaces",
          `/workspaces/${workspaceId}/switch`,
          "/account/password",
          "/account/sessions/end",
          "/join",
          "/join/sign-up",
        ]
      ) {
        const answer = await by.owner.browser.post(path, { name: "x" }, "https://evil.example");
        assert.equal(answer.status, 403, path);
        assert.match(answer.html, /another site/);
      }
    });

    await t.step("a link shown once lets a newcomer sign up, once", async () => {
      const made = await by.admin.browser.post("/workspace/invitations", {
        role: "member",
        days: "7",
      });
      const token = linkOf(made.html);
      assert.equal((await by.admin.browser.get("/workspace")).html.includes(token), false);
      assert.equal((await by.owner.browser.get("/workspace")).html.includes(token), false);

      const newcomer = new Browser();
      const page = await newcomer.get(`/join?token=${token}`);
      assert.equal(page.status, 200);
      assert.match(page.html, /My workspace/);
      const wrong = await newcomer.post("/join/sign-up", {
        token,
        email: "new@example.com",
        name: HOSTILE,
        password: "short",
      });
      assert.equal(wrong.status, 422);
      assert.match(wrong.html, /value="new@example.com"/);
      assert.equal(wrong.html.includes("<img src=x"), false);
      const taken = await newcomer.post("/join/sign-up", {
        token,
        email: "owner@example.com",
        name: "x",
        password: PASSWORD,
      });
      assert.equal(taken.status, 422, "an address that has an account");
      const joined = await newcomer.post("/join/sign-up", {
        token,
        email: "new@example.com",
        name: HOSTILE,
        password: PASSWORD,
      });
      assert.equal(joined.location, "/?said=joined", joined.html);
      const workspace = await newcomer.get("/workspace");
      assert.match(workspace.html, /data-role="member"/);
      assert.equal(workspace.html.includes("<img src=x"), false);
      assert.equal(workspace.html.includes("\u202e"), false);

      const late = new Browser();
      assert.equal((await late.get(`/join?token=${token}`)).status, 410);
      const again = await late.post("/join/sign-up", {
        token,
        email: "late@example.com",
        name: "Late",
        password: PASSWORD,
      });
      assert.equal(again.status, 409);
      const [{ accounts }] = await owner<{ accounts: number }[]>`
        select count(*)::int as accounts from auth.users where email = 'late@example.com'`;
      assert.equal(accounts, 0, "no account without an invitation");
      assert.equal(lines.join("\n").includes(token), false, "no token in the log");
    });

    await t.step("one who is signed in joins with one click, and others not by it", async () => {
      const made = await by.owner.browser.post("/workspace/invitations", {
        role: "viewer",
        days: "1",
      });
      const token = linkOf(made.html);
      const { browser } = await person("late@example.com");
      assert.equal((await browser.get("/servers")).status, 403);
      assert.match((await browser.get("/servers")).html, /New workspace/);
      assert.match((await by.admin.browser.get(`/join?token=${token}`)).html, /already/);
      assert.match((await browser.get(`/join?token=${token}`)).html, /late@example.com/);
      const joined = await browser.post("/join", { token });
      assert.equal(joined.location, "/workspace?said=joined");
      assert.equal((await browser.get("/servers")).status, 200);
      assert.equal((await browser.post("/join", { token })).status, 409);
    });

    await t.step(
      "make, switch, rename, delete; the choice is checked at each request",
      async () => {
        const { browser } = by.member;
        assert.equal((await browser.post("/workspaces", { name: " " })).status, 422);
        const made = await browser.post("/workspaces", { name: HOSTILE });
        assert.equal(made.location, "/workspace?said=workspace-made");
        const mine = browser.cookies.get("mooring_workspace")!;
        const page = await browser.get("/workspace");
        assert.match(page.html, /data-role="owner"/);
        assert.equal(page.html.includes("<img src=x"), false);
        // But in the field that changes it, which holds it as it is.
        assert.equal(page.html.replaceAll(/ value="[^"]*"/g, "").includes("\u202e"), false);
        assert.equal((await browser.get("/servers")).html.includes("<img src=x"), false);

        const back = await browser.post(`/workspaces/${workspaceId}/switch`);
        assert.equal(back.location, "/");
        assert.match((await browser.get("/workspace")).html, /data-role="member"/);
        assert.equal((await by.viewer.browser.post(`/workspaces/${mine}/switch`)).status, 404);
        by.viewer.browser.cookies.set("mooring_workspace", mine);
        assert.match((await by.viewer.browser.get("/workspace")).html, /My workspace/);
        by.viewer.browser.cookies.set("mooring_workspace", "'; drop table members; --");
        assert.match((await by.viewer.browser.get("/workspace")).html, /My workspace/);

        await browser.post(`/workspaces/${mine}/switch`);
        const refused = await browser.post("/workspace/delete", { confirmation: "wrong" });
        assert.equal(refused.status, 422);
        assert.match(refused.html, /value="wrong"/);
        assert.equal(
          (await browser.post("/workspace/name", { name: "Mine" })).location,
          "/workspace?said=workspace-renamed",
        );
        const deleted = await browser.post("/workspace/delete", { confirmation: "Mine" });
        assert.equal(deleted.location, "/workspaces?said=workspace-deleted");
        assert.match((await browser.get("/workspace")).html, /data-role="member"/);
        assert.ok(lines.some((line) => line.includes("A workspace was deleted")));
        // The first one has this machine's toolbox.
        const held = await by.owner.browser.get("/workspace");
        assert.match(held.html, /cannot be deleted yet/);
        const first = await by.owner.browser.post("/workspace/delete", {
          confirmation: "My workspace",
        });
        assert.equal(first.status, 409);
      },
    );

    await t.step(
      "a form of a workspace that another tab switched away from acts on neither",
      async () => {
        const { browser } = await person("tabs@example.com", "member");
        await browser.post("/workspaces", { name: "Beta" });
        const beta = browser.cookies.get("mooring_workspace")!;
        await browser.post(`/workspaces/${workspaceId}/switch`);
        const form = await browser.get("/agents");
        assert.match(form.html, new RegExp(`name="_workspace" value="${workspaceId}"`));
        await browser.post(`/workspaces/${beta}/switch`);
        const agents = async () =>
          (await owner<{ n: number }[]>`select count(*)::int as n from public.agents
          where name = 'From the other tab'`)[0].n;
        const sent = await browser.post("/agents", {
          name: "From the other tab",
          _workspace: workspaceId,
        });
        assert.equal(sent.status, 409);
        assert.match(sent.html, /You sent a form of <strong>My workspace<\/strong>/);
        assert.match(sent.html, /Nothing was changed/);
        assert.equal(await agents(), 0);
        const foreign = await browser.post("/agents", {
          name: "From the other tab",
          _workspace: crypto.randomUUID(),
        });
        assert.equal(foreign.status, 409);
        await browser.post(`/workspaces/${workspaceId}/switch`);
        const again = await browser.post("/agents", {
          name: "From the other tab",
          _workspace: workspaceId,
        });
        assert.equal(again.status, 303);
        assert.equal(await agents(), 1);

        // An address opens its workspace, and its forms act there.
        const path = again.location!.split("?")[0];
        await browser.post(`/workspaces/${beta}/switch`);
        const page = await browser.get(path);
        assert.match(page.html, /data-role="member"/);
        assert.match(page.html, new RegExp(`name="_workspace" value="${workspaceId}"`));
        assert.equal(browser.cookies.get("mooring_workspace"), workspaceId);
        const act = await browser.post(`${path}/tokens`, { name: "x", _workspace: workspaceId });
        assert.equal(act.status, 200);
        assert.equal((await browser.get(`/agents/${crypto.randomUUID()}`)).status, 404);
        assert.equal((await browser.get("/agents/not-an-id")).status, 404);
      },
    );

    await t.step("a member who is removed sees nothing at the next request", async () => {
      const { userId, browser } = await person("gone@example.com", "admin");
      assert.equal((await browser.get("/workspace")).status, 200);
      await by.owner.browser.post(`/workspace/members/${userId}/remove`);
      assert.equal((await browser.get("/workspace")).status, 403);
    });

    await t.step("the account: name, password, sessions", async () => {
      const { browser } = await person("acc@example.com", "viewer");
      const elsewhere = await new Browser().signIn("acc@example.com");
      const third = await new Browser().signIn("acc@example.com");
      assert.equal((await browser.post("/account/name", { name: "" })).status, 422);
      await browser.post("/account/name", { name: HOSTILE });
      assert.equal((await browser.get("/account")).html.includes("<img src=x"), false);
      const page = await browser.get("/account/security");
      assert.match(page.html, /Firefox on Linux/);
      for (const [, token] of [...elsewhere.cookies, ...third.cookies]) {
        assert.equal(page.html.includes(decodeURIComponent(token).split(".")[0]), false);
      }
      // Another person's session is not theirs to end.
      const [{ id: foreign }] = await owner<{ id: string }[]>`
        select s.id from auth.sessions s join auth.users u on u.id = s."userId"
        where u.email = 'owner@example.com' limit 1`;
      await browser.post(`/account/sessions/${foreign}/end`);
      assert.equal((await by.owner.browser.get("/account")).status, 200);

      const ids = [...page.html.matchAll(/\/account\/sessions\/([0-9a-f-]{36})\/end/g)];
      assert.equal(ids.length, 2);
      await browser.post(ids[0][0]);
      const open = async () => [
        (await elsewhere.get("/account")).status,
        (await third.get("/account")).status,
      ];
      assert.deepEqual((await open()).toSorted(), [200, 303]);

      const wrong = await browser.post("/account/password", {
        present: "wrong wrong wrong",
        next: "another long password",
      });
      assert.equal(wrong.status, 422);
      assert.match(wrong.html, /not your present password/);
      assert.equal(
        (await browser.post("/account/password", { present: PASSWORD, next: "short" })).status,
        422,
      );
      const changed = await browser.post("/account/password", {
        present: PASSWORD,
        next: "another long password",
      });
      assert.equal(changed.location, "/account/security?said=password-changed", changed.html);
      assert.deepEqual(await open(), [303, 303]);
      assert.equal((await browser.get("/account")).status, 200, "still signed in here");
      const other = await new Browser().signIn("acc@example.com", "another long password");
      const out = await browser.post("/account/sessions/end");
      assert.equal(out.location, "/sign-in?said=signed-out-everywhere");
      assert.equal((await other.get("/account")).status, 303);
      assert.equal((await browser.get("/account")).status, 303);
    });

    await t.step("with a second factor a password alone signs nobody in", async () => {
      const { browser } = await person("two@example.com", "member");
      const refused = await browser.post("/account/second-factor", { password: "wrong wrong" });
      assert.equal(refused.status, 422);
      const made = await browser.post("/account/second-factor", { password: PASSWORD });
      assert.equal(made.status, 200, made.html);
      const key = /id="second-factor-key"[^>]*><code>([A-Z2-7]+)/.exec(made.html)![1];
      const [backup] = /id="backup-codes"[^>]*><code>([^<]+)/.exec(made.html)![1].split("\n");
      // Not yet turned on: the password alone still does.
      await new Browser().signIn("two@example.com");
      assert.equal((await browser.post("/account/second-factor/on", { code: "000" })).status, 422);
      const on = await browser.post("/account/second-factor/on", { code: await totp(key) });
      assert.equal(on.location, "/account/security?said=second-factor-on", on.html);
      assert.match((await browser.get("/account/security")).html, /On: signing in asks/);
      const [stored] = await owner<{ secret: string }[]>`select secret from auth.two_factors`;
      assert.equal(stored.secret.includes(key), false);

      const password = async () => {
        const other = new Browser();
        // Another account's session does not stand in for the code.
        for (const [name, value] of by.owner.browser.cookies) other.cookies.set(name, value);
        const asked = await other.post("/sign-in", {
          email: "two@example.com",
          password: PASSWORD,
          next: "/servers",
        });
        assert.equal(asked.location, "/sign-in/code?next=%2Fservers");
        return other;
      };
      const other = await password();
      other.cookies.delete("mooring_session");
      assert.equal((await other.get("/servers")).status, 303, "not signed in yet");
      const wrong = await other.post("/sign-in/code", { code: "123456", next: "/servers" });
      assert.equal(wrong.status, 422);
      const right = await other.post("/sign-in/code", {
        code: await totp(key),
        next: "//evil.example",
      });
      assert.equal(right.location, "/", right.html);
      assert.match((await other.get("/account")).html, /two@example.com/);

      const byBackup = await password();
      assert.equal((await byBackup.post("/sign-in/code", { code: backup })).location, "/");
      assert.match((await byBackup.get("/account")).html, /two@example.com/);
      const twice = await password();
      assert.equal((await twice.post("/sign-in/code", { code: backup })).status, 422);
      assert.equal((await new Browser().post("/sign-in/code", { code: backup })).status, 422);

      const off = await other.post("/account/second-factor/off", { off: PASSWORD });
      assert.equal(off.location, "/account/security?said=second-factor-off", off.html);
      await new Browser().signIn("two@example.com");
    });

    await t.step("tries at the present password are limited", async () => {
      const { browser } = await person("tries@example.com", "viewer");
      const statuses = new Set<number>();
      for (let i = 0; i < 15; i++) {
        const form = { present: "wrong wrong wrong", next: "another long password" };
        statuses.add((await browser.post("/account/password", form)).status);
      }
      assert.deepEqual([...statuses].toSorted(), [422, 429]);
    });

    await opened.close();
    await world.close();
  },
});
