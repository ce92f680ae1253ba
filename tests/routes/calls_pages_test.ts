import assert from "node:assert/strict";
import { v7 } from "uuid";
import { createApp } from "../../app.ts";
import { createAgent } from "../../models/agents.ts";
import { CallRecorder, type NewCall } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import { createLog } from "../../models/log.ts";
import { openOutside } from "../../models/outside.ts";
import { derivedSecrets, newSecretsKeyText } from "../../models/secrets.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";

const ORIGIN = "http://127.0.0.1:4680";
const HOSTILE = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>\u202e`;

Deno.test({
  name: "the pages of calls",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, user, workspaceId, identity, owner } = world;
    const cookie =
      (await identity.createAccount("bea@example.com", "Bea", "a long enough password"))
        .getSetCookie()[0].split(";")[0];
    const bea = (await identity.userOf(new Headers({ cookie })))!;
    await owner`insert into public.members (workspace_id, user_id, role) values (${workspaceId}, ${bea.userId}, 'viewer')`;
    const log = createLog("text", () => {});
    const calls = new CallRecorder(db, log);
    const app = await createApp({
      db,
      identity,
      setup: null,
      secretsKey: testKey,
      appSigningKey: (await derivedSecrets(newSecretsKeyText())).appSigningKey,
      outside: openOutside(),
      changes: new Changes(db),
      links: null,
      calls,
      log,
      baseUrl: new URL(ORIGIN),
      version: "0",
      isMigrated: () => Promise.resolve(true),
    });
    const get = async (path: string) => {
      const response = await app.request(ORIGIN + path, { headers: { cookie } });
      return { response, html: await response.text() };
    };
    const agentId = await createAgent(db, user, workspaceId, "Editor");
    const record = (change: Partial<NewCall>) =>
      calls.record({
        workspaceId,
        agentId,
        serverId: v7(),
        serverSlug: "files",
        tool: "read_file",
        via: "bridge",
        startedAt: new Date(Date.now() - 1000),
        durationMs: 10,
        outcome: "ok",
        error: null,
        requestBytes: 1,
        responseBytes: 2,
        ...change,
      });

    await t.step("say what to do while there is no call", async () => {
      assert.match((await get("/calls")).html, /Nobody called a tool in this time/);
    });

    await t.step("show calls, what they sum up to, and hostile names as text", async () => {
      for (let i = 0; i < 60; i++) record({});
      record({ tool: HOSTILE, outcome: "error", error: HOSTILE });
      await calls.flush();
      const { html } = await get("/calls?by=tool");
      assert.match(html, /61 calls, 1 failed \(1\.6 %\)/);
      assert.match(html, /Editor/);
      assert.doesNotMatch(html, /<script>alert|<img src=x/);
      assert.ok(!html.includes("\u202e"));
    });

    await t.step("go from page to page by the address alone", async () => {
      const { html } = await get("/calls");
      const next = /href="(\/calls\?before=[^"]+)#calls-log" rel="next"/.exec(html)?.[1];
      assert.ok(next);
      const older = await get(next.replaceAll("&amp;", "&"));
      assert.match(older.html, /Earlier calls<\/h2>/);
      assert.match(older.html, /Newest calls/);
      assert.doesNotMatch(older.html, /hx-sse:connect/, "what is past does not change");
    });

    await t.step("answer a search as it is typed, and keep it in the address", async () => {
      const { response, html } = await get("/calls/results?q=read&period=hour&agent=&via=");
      assert.equal(response.headers.get("hx-replace-url"), "/calls?q=read&period=hour");
      assert.match(html, /^<div id="results">/);
      const odd = await get(`/calls/results?q=${encodeURIComponent(HOSTILE)}`);
      assert.match(odd.html, /1 call, 1 failed/);
      assert.match((await get("/calls?q=nothing-of-it")).html, /Nothing matches/);
    });

    await t.step("refuse a page of nobody's with words", async () => {
      const { response, html } = await get("/calls?before=x");
      assert.equal(response.status, 422);
      assert.match(html, /There is no such page of calls/);
    });

    await world.close();
  },
});
