import assert from "node:assert/strict";
import { addMember } from "../models/databases.ts";
import { openApi } from "./api/app.ts";

const HOSTILE = `<script>alert(1)</script>"'`;

Deno.test({
  name: "the account's tokens and the API's page",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await using api = await openApi();
    const { baseUrl, identity, workspaceId } = api;
    const person = async (email: string) => {
      const made = await identity.createAccount(email, "Bea", "a long enough password");
      const cookie = made.getSetCookie()[0].split(";")[0];
      const { userId } = (await identity.userOf(new Headers({ cookie })))!;
      await addMember(api, workspaceId, userId, "viewer");
      return cookie;
    };
    const cookie = await person("bea@e.com"), another = await person("cy@e.com");
    const post = async (path: string, form: [string, string][], as = cookie) => {
      const response = await fetch(baseUrl.origin + path, {
        method: "POST",
        body: new URLSearchParams(form),
        headers: { cookie: as, origin: baseUrl.origin },
        redirect: "manual",
      });
      return { status: response.status, html: await response.text() };
    };
    const make = (name: string, scopes: string[]) =>
      post("/account/tokens", [
        ["name", name],
        ...scopes.map((s): [string, string] => ["scope", s]),
      ]);

    await t.step("has an empty state that says what to do", async () => {
      assert.match(await api.page("/account/tokens", cookie), /You have none yet. Make one below/);
    });

    await t.step("makes a token that is shown once and works as far as its scopes go", async () => {
      const made = await make("laptop", ["read"]);
      assert.equal(made.status, 200);
      const token = /mpt_[A-Za-z0-9_-]{43}/.exec(made.html)![0];
      const later = await api.page("/account/tokens", cookie);
      assert.equal(later.includes(token), false);
      assert.match(later, /laptop/);
      assert.equal((await api.send(token, "GET", "/servers")).status, 200);
      assert.equal((await api.send(token, "POST", "/agents", { name: "x" })).status, 403);
      assert.match(await api.page("/account/tokens", cookie), /used <time/);
    });

    await t.step("a form that does not hold keeps what was typed", async () => {
      const bad = await make(HOSTILE.repeat(5), ["read", "tools:call"]);
      assert.equal(bad.status, 422);
      assert.equal(bad.html.includes("<script>alert"), false);
      assert.match(bad.html, /Give a name of 1 to 80 characters/);
      assert.match(bad.html, /value="tools:call" checked/);
      for (const scopes of [[], ["everything"]]) {
        const none = await make("x", scopes);
        assert.equal(none.status, 422);
        assert.match(none.html, /Choose what the token may do/);
        assert.match(none.html, /value="x"/);
      }
    });

    await t.step("a token is its person's own to see and to revoke", async () => {
      const { html } = await make("theirs", ["read"]);
      const token = /mpt_[A-Za-z0-9_-]{43}/.exec(html)![0];
      const id = /tokens\/([0-9a-f-]{36})\/revoke/.exec(html)![1];
      assert.equal((await api.page("/account/tokens", another)).includes("theirs"), false);
      assert.equal((await post(`/account/tokens/${id}/revoke`, [], another)).status, 404);
      assert.equal((await api.send(token, "GET", "/me")).status, 200);
      assert.equal((await post(`/account/tokens/${id}/revoke`, [])).status, 303);
      assert.equal((await api.send(token, "GET", "/me")).status, 401);
    });

    await t.step("the API's page tells every operation, with a command for each", async () => {
      const html = await api.page("/api", cookie);
      const document = (await api.send(null, "GET", "/openapi.json")).body;
      const names = Object.values<Record<string, { operationId: string }>>(document.paths)
        .flatMap((path) => Object.values(path).map(({ operationId }) => operationId));
      for (const name of names) assert.match(html, new RegExp(`id="${name}"`));
      assert.equal(html.match(/Authorization: Bearer \$MOORING_TOKEN/g)!.length, names.length + 1);
      // Each link within the page leads somewhere.
      for (const [, target] of html.matchAll(/href="#([^"]+)"/g)) {
        assert.ok(html.includes(`id="${target}"`), target);
      }
      assert.doesNotMatch(html, /<script(?![^>]*src="\/static\/)/);
    });
  },
});
