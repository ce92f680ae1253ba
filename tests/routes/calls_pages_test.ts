import assert from "node:assert/strict";
import { v7 } from "uuid";
import { createAgent } from "../../models/agents.ts";
import type { NewCall } from "../../models/calls.ts";
import { keepBodies } from "../../models/retention.ts";
import { KINDS, openWorld } from "../models/databases.ts";
import { openPageApp, ORIGIN, signedIn } from "./page_app.ts";

const HOSTILE = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>\u202e`;

Deno.test({
  name: "the pages of calls",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, owner, user, workspaceId } = world;
    const { cookie } = await signedIn(world, "viewer");
    const { app, calls, close } = await openPageApp(world);
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

    await t.step("show a call, with what was said for who may see it", async () => {
      const { html: list } = await get("/calls?q=read_file");
      const path = /href="(\/calls\/[0-9a-f-]{36})"/.exec(list)![1];
      const bare = await get(path);
      assert.match(bare.html, /files \/ read_file/);
      assert.match(bare.html, /It is not kept in this workspace/);
      await keepBodies(db, user, workspaceId, { isOn: true, days: 7 });
      const shown = "said-a-thing";
      record({
        tool: shown,
        said: calls.said(workspaceId, `{"q":${JSON.stringify(HOSTILE)},"password":"hunter2"}`, {
          kind: "result",
          text: JSON.stringify({ content: [{ type: "text", text: HOSTILE }] }),
        }),
      });
      await calls.flush();
      const said =
        /href="(\/calls\/[0-9a-f-]{36})"/.exec((await get(`/calls?q=${shown}`)).html)![1];
      assert.match((await get(said)).html, /It may be kept, and is for owners and admins to see/);
      await owner`update public.members set role = 'admin' where user_id <> ${user.userId}`;
      const { html } = await get(said);
      assert.match(html, /The tool answered/);
      assert.match(html, /•••/);
      assert.match(html, /1 value masked/);
      assert.doesNotMatch(html, /<script>alert|<img src=x|hunter2/);
      assert.equal((await get(`/calls/${v7()}`)).response.status, 404);
      assert.equal((await get("/calls/nonsense")).response.status, 404);
    });

    await t.step("say what is kept, and change it by those who may", async () => {
      const post = (path: string, form: Record<string, string>) =>
        app.request(ORIGIN + path, {
          method: "POST",
          headers: { cookie, origin: ORIGIN },
          body: new URLSearchParams(form),
        });
      assert.match((await get("/workspace")).html, /kept for <strong>90 days/);
      assert.equal((await post("/workspace/retention", { callsKeptDays: "30" })).status, 303);
      assert.match((await get("/workspace")).html, /kept for <strong>30 days/);
      assert.equal((await post("/workspace/retention", { callsKeptDays: "1" })).status, 422);
      assert.equal((await post("/workspace/bodies", { isOn: "false" })).status, 403);
      assert.doesNotMatch((await get("/workspace")).html, /Stop and delete/);
      await owner`update public.members set role = 'owner' where user_id <> ${user.userId}`;
      assert.match((await get("/workspace")).html, /Stop and delete/);
      assert.equal((await post("/workspace/bodies", { isOn: "false" })).status, 303);
      assert.match((await get("/workspace")).html, /Keep what is said/);
      const upkeep = await app.request(`${ORIGIN}/schedule/upkeep`, { method: "POST" });
      assert.deepEqual(await upkeep.json(), { removed: 0 });
    });

    await t.step("refuse a page of nobody's with words", async () => {
      const { response, html } = await get("/calls?before=x");
      assert.equal(response.status, 422);
      assert.match(html, /There is no such page of calls/);
    });

    await t.step("say that calls are gone, of which the sums are left", async () => {
      await owner`delete from public.calls`;
      const { html } = await get("/calls");
      assert.match(html, /62 calls, 1 failed/);
      assert.match(html, /The calls themselves are kept no longer/);
    });

    await close();
    await world.close();
  },
});
