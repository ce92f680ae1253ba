import assert from "node:assert/strict";
import { createAgent } from "../../models/agents.ts";
import { findCatalogEntry } from "../../models/catalog_entries.ts";
import { grantManagement } from "../../models/management_grants.ts";
import { listServers } from "../../models/servers.ts";
import { enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { getWish, makeWish, wishOfAgent } from "../../models/wishes.ts";
import { KINDS, openWorld } from "../models/databases.ts";
import { FACTS } from "./api/app.ts";
import { openPageApp, ORIGIN, signedIn } from "./page_app.ts";

const HOSTILE = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>\u202e\u{e0041}`;
const TOKEN = "env.GITHUB_PERSONAL_ACCESS_TOKEN";

Deno.test({
  name: "the pages of agents' requests",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, owner, user, workspaceId, toolboxId } = world;
    const { publicKey } = { publicKey: "k".repeat(43) };
    await enrolToolbox(db, { token: world.enrolmentToken, publicKey, facts: FACTS });
    await touchToolbox(db, toolboxId, FACTS);
    const { app, close } = await openPageApp(world);
    const { cookie, person } = await signedIn(world, "member");
    const be = (role: string) =>
      owner`update public.members set role = ${role} where user_id = ${person.userId}`;
    const get = async (path: string) =>
      await (await app.request(ORIGIN + path, { headers: { cookie } })).text();
    const post = (path: string, form: Record<string, string> = {}, origin = ORIGIN) =>
      app.request(ORIGIN + path, {
        method: "POST",
        body: new URLSearchParams(form),
        headers: { cookie, origin },
      });
    const agentId = await createAgent(db, user, workspaceId, "Claude");
    const scopes = ["servers:write", "agents:write"];
    await grantManagement(db, user, agentId, { scopes, asks: scopes });
    const ask = async (slug: string, name = slug, values: Record<string, string> = {}) => {
      const { entry } = await findCatalogEntry(db, user, slug);
      return (await makeWish(db, { agentId, workspaceId }, {
        asked: { operation: "deploy_server", entry: slug, name, values },
        basis: { entry },
        wants: `deploy ${name}`,
        reason: `To help. ${HOSTILE}`,
      })).id;
    };
    const versionIn = (html: string) => /name="version" value="([0-9a-f]{64})"/.exec(html)![1];
    const isHarmless = (html: string) => {
      assert.doesNotMatch(html, /<script>alert|<img src=x/);
      assert.ok(!html.includes("\u202e") && !html.includes("\u{e0041}"));
    };

    await t.step("an empty list says where agents get to ask", async () => {
      const html = await get("/requests");
      assert.match(html, /Nothing waits for you/);
      assert.doesNotMatch(html, /class="count"/);
    });

    await t.step("what waits is counted on every page, and is text", async () => {
      await ask("memory", `Mine ${HOSTILE}`.slice(0, 80), { "env.X": HOSTILE });
      for (const path of ["/requests", "/", "/agents", `/agents/${agentId}`]) {
        const html = await get(path);
        assert.match(html, /<span class="count">1<\/span>/);
        isHarmless(html);
      }
      assert.match(await get("/"), /asks to deploy Mine/);
      assert.match(await get("/requests"), /\[U\+202E\]\[U\+E0041\]/);
    });

    await t.step("one that needs nothing is approved by one click in the list", async () => {
      const html = await get("/requests");
      const [, id] = /action="\/requests\/([0-9a-f-]{36})\/approve"/.exec(html)!;
      const page = await get(`/requests/${id}`);
      isHarmless(page);
      assert.match(page, /No network at all/);
      assert.match(page, /What the agent fills in/);
      const reply = await post(`/requests/${id}/approve`, { version: versionIn(html) });
      assert.equal(reply.status, 303);
      const [server] = await listServers(db, user, workspaceId);
      assert.equal(reply.headers.get("location"), `/servers/${server.id}?said=request-approved`);
      const twice = await post(`/requests/${id}/approve`, { version: versionIn(html) });
      assert.equal(twice.headers.get("location"), `/servers/${server.id}?said=request-approved`);
      assert.equal((await listServers(db, user, workspaceId)).length, 1);
      assert.match(await get(`/requests/${id}`), /Approved\s+by Bea/);
    });

    await t.step("one that needs a secret takes it on its page, and never shows it", async () => {
      const id = await ask("github");
      const list = await get("/requests");
      assert.doesNotMatch(list, new RegExp(`action="/requests/${id}/approve"`));
      const html = await get(`/requests/${id}`);
      assert.match(html, new RegExp(`name="${TOKEN}"[^>]*type="password"`));
      const version = versionIn(html);
      const missing = await post(`/requests/${id}/approve`, { version });
      assert.equal(missing.status, 422);
      assert.match(await missing.text(), /is needed/);
      const form = { version, [TOKEN]: "ghp_secret" };
      const stale = await post(`/requests/${id}/approve`, { ...form, version: "x" });
      assert.equal(stale.status, 409);
      const text = await stale.text();
      assert.match(text, /not what you saw any more/);
      assert.doesNotMatch(text, /ghp_secret/);
      assert.equal((await post(`/requests/${id}/approve`, form)).status, 303);
      assert.doesNotMatch(await get(`/requests/${id}`), /ghp_secret/);
    });

    await t.step("an entry that changed since is shown beside what it was", async () => {
      const id = await ask("everything");
      const version = versionIn(await get(`/requests/${id}`));
      await owner`
        update public.catalog_entries set entry = jsonb_set(entry, '{network,hosts}', '["evil.example:443"]')
        where slug = 'everything'`;
      const late = await post(`/requests/${id}/approve`, { version });
      assert.equal(late.status, 409);
      const html = await late.text();
      assert.match(html, /<mark>[^<]*evil\.example/);
      assert.doesNotMatch(html, /&quot;summary&quot;/, "what is the same is left out");
      assert.match(await get("/requests"), /Its entry was changed since/);
      assert.doesNotMatch(await get("/requests"), new RegExp(`action="/requests/${id}/approve"`));
      const now = versionIn(await get(`/requests/${id}`));
      assert.equal((await post(`/requests/${id}/approve`, { version: now })).status, 303);
    });

    await t.step("a rejection reaches the agent with its reason", async () => {
      const id = await ask("fetch", "Fetch");
      const long = await post(`/requests/${id}/reject`, { answer: "x".repeat(1001) });
      assert.equal(long.status, 422);
      assert.match(await long.text(), /x{1001}/, "what was typed is kept");
      const answer = `We have one ${HOSTILE}`;
      assert.equal((await post(`/requests/${id}/reject`, { answer })).status, 303);
      assert.equal((await wishOfAgent(db, agentId, id)).answer, answer);
      isHarmless(await get(`/requests/${id}`));
      assert.equal((await post(`/requests/${id}/reject`)).status, 409);
    });

    await t.step("viewers, strangers and other sites decide nothing", async () => {
      const id = await ask("memory", "Another");
      const { version } = await getWish(db, user, id);
      const elsewhere = await post(`/requests/${id}/approve`, { version }, "https://evil.example");
      assert.equal(elsewhere.status, 403);
      await be("viewer");
      assert.equal((await post(`/requests/${id}/approve`, { version })).status, 403);
      assert.equal((await post(`/requests/${id}/reject`)).status, 403);
      assert.match(await get(`/requests/${id}`), /Members of the workspace decide this/);
      await owner`delete from public.members where user_id = ${person.userId}`;
      await owner`insert into public.workspaces (id, name) values (${person.userId}, 'Own')`;
      await owner`
        insert into public.members (workspace_id, user_id, role) values (${person.userId}, ${person.userId}, 'owner')`;
      assert.equal((await post(`/requests/${id}/approve`, { version })).status, 404);
      assert.equal((await post("/requests/nonsense/approve", { version })).status, 404);
      assert.equal((await getWish(db, user, id)).state, "open");
    });

    await close();
    await world.close();
  },
});
