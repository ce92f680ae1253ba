import assert from "node:assert/strict";
import { v7 } from "uuid";
import { connectServer, createAgent, getAgent } from "../../models/agents.ts";
import { getConnection } from "../../models/connections.ts";
import { listDefinitions } from "../../models/definitions.ts";
import { managementGrant } from "../../models/management_grants.ts";
import { deployServer } from "../../models/servers.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { observation } from "../models/observation.ts";
import { openPageApp, ORIGIN, signedIn } from "./page_app.ts";

const HOSTILE = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>\u202e`;
/** With what a path and a form must carry unharmed. */
const ODD = `a/b?c=1&d #${HOSTILE}`;

Deno.test({
  name: "the pages of a toolbelt",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, owner, workspaceId, toolboxId } = world;
    const { cookie, person: bea } = await signedIn(world, "member");
    const opened = await openPageApp(world);
    const { app } = opened;
    const get = async (path: string) =>
      await (await app.request(ORIGIN + path, { headers: { cookie } })).text();
    const post = (
      path: string,
      form: Record<string, string> | [string, string][],
      headers: Record<string, string> = {},
    ) =>
      app.request(ORIGIN + path, {
        method: "POST",
        body: new URLSearchParams(form),
        headers: { cookie, origin: ORIGIN, ...headers },
      });

    const { serverId } = await deployServer(db, bea, {
      workspaceId,
      toolboxId,
      slug: "everything",
      form: {},
      idempotencyKey: crypto.randomUUID(),
    }, testKey);
    const agentId = await createAgent(db, bea, workspaceId, "Editor");
    await connectServer(db, bea, agentId, serverId);
    const epoch = v7();
    let sequence = 0;
    const report = (instructions: string) =>
      acceptReport(db, toolboxId, {
        epoch,
        sequence: ++sequence,
        observations: [{
          ...observation(serverId, 1, [
            {
              name: "read",
              description: "Reads a file",
              inputSchema: {
                type: "object",
                properties: {
                  path: { type: "string", description: HOSTILE },
                  lines: { type: "number" },
                  all: { type: "boolean" },
                  more: { type: "object" },
                },
                required: ["path", "lines"],
              },
            },
            { name: ODD, description: HOSTILE, inputSchema: { properties: { [ODD]: {} } } },
          ]),
          prompts: [{ name: ODD, description: HOSTILE, arguments: [{ name: HOSTILE }] }],
          resourceTemplates: [{ name: "t", uriTemplate: `x://{y}${HOSTILE}` }],
          instructions,
        }],
        events: [],
        removed: [],
      });
    await report(`Be kind\n${HOSTILE}`);
    await approveTools(db, bea, serverId, await listTools(db, bea, serverId));
    const agent = `/agents/${agentId}`, connection = `${agent}/connections/${serverId}`;
    const isHarmless = (html: string) => {
      assert.doesNotMatch(html, /<script>alert|<img src=x/);
      // What a form sends back goes back as it is.
      const seen = html.replace(/ (value|name)="[^"]*"/g, "");
      assert.ok(!seen.includes("\u202e"));
    };

    await t.step("a server's page shows and approves all that it lists", async () => {
      const html = await get(`/servers/${serverId}/tools`);
      isHarmless(html);
      assert.match(html, /Instructions, prompts and templates/);
      assert.match(html, /\[U\+202E\]/);
      assert.match(html, /about \d+ tokens/);
      const waiting = (await listDefinitions(db, bea, serverId)).map(({ kind, hash, name }) =>
        ["waiting", `${kind} ${hash} ${name}`] as [string, string]
      );
      const path = `/servers/${serverId}/definitions`;
      assert.equal((await post(path, [["act", "approve-all"], ...waiting])).status, 303);
      const states = async () =>
        (await listDefinitions(db, bea, serverId)).map(({ state }) => state);
      assert.deepEqual(await states(), ["approved", "approved", "approved"]);
      assert.equal((await post(path, {})).status, 422);
      assert.equal((await post(path, { pick: "tool x read" })).status, 404);
      assert.equal((await post(path, { pick: "nonsense" })).status, 404);
      await post(path, { act: "withdraw", pick: waiting[1][1] });
      assert.deepEqual(await states(), ["waiting", "approved", "approved"]);
      await report("Be quick");
      const changed = await get(`/servers/${serverId}/tools`);
      assert.match(changed, /<mark>[^<]*Be quick/);
      assert.match(changed, /<mark>[^<]*Be kind/);
      // What waited before is not approved as what it has become, and one is led to what it is now.
      const late = await post(path, [["act", "approve-all"], ...waiting]);
      assert.equal(late.status, 409);
      const said = await late.text();
      assert.match(said, /Changed since you looked, so not approved/);
      assert.match(said, new RegExp(`href="/servers/${serverId}/tools#definitions"`));
    });

    await t.step(
      "an agent's page says what its toolbelt costs, and keeps its settings",
      async () => {
        const html = await get(agent);
        isHarmless(html);
        assert.match(html, /about \d+ tokens<\/strong> for 2 tools/);
        // What was picked and changed goes with a connection: that is asked first.
        assert.match(html, /<summary[^>]* aria-label="Disconnect [^"]+"[^]*?What was picked/);
        const saved = await post(`${agent}/options`, { presents: "true", deniesByDefault: "true" });
        assert.equal(saved.status, 303);
        const { presents, deniesByDefault } = await getAgent(db, bea, agentId);
        assert.deepEqual([presents, deniesByDefault], ["search", true]);
        assert.match(await get(agent), /find_tools and call_tool, in place\s+of about 0 tokens/);
        await post(`${agent}/options`, { presents: "false", deniesByDefault: "false" });
      },
    );

    await t.step("so is what the page of a tried tool and the overview tell", async () => {
      isHarmless(await get(`/servers/${serverId}/tools/${encodeURIComponent(ODD)}`));
      const observed = observation(serverId, 1, null, "failed");
      for (const layer of Object.values(observed.layers)) layer.detail = HOSTILE;
      await owner`update public.toolboxes set last_seen_at = now()`;
      const observations = [observed];
      await acceptReport(db, toolboxId, {
        epoch,
        sequence: ++sequence,
        observations,
        events: [],
        removed: [],
      });
      const html = await get("/");
      isHarmless(html);
      assert.match(html, / failed<\/a><small>[^<]*\[U\+202E\]/);
      await report("Be quick");
    });

    await t.step("an admin says there whether it may manage Mooring", async () => {
      assert.match(await get(agent), /Admins and owners can change this/);
      const form = { "read": "true", "servers:write": "ask", "agents:write": "no" };
      assert.equal((await post(`${agent}/management`, form)).status, 403);
      const be = (role: string) =>
        owner`update public.members set role = ${role} where user_id = ${bea.userId}`;
      await be("admin");
      assert.equal((await post(`${agent}/management`, form)).status, 303);
      const grant = await managementGrant(db, bea, agentId);
      assert.deepEqual(grant?.scopes, ["read", "servers:write"]);
      assert.deepEqual(grant?.asks, ["servers:write"]);
      assert.match(await get(agent), /acts as Bea/);
      const none = { "read": "false", "servers:write": "no", "agents:write": "no" };
      assert.equal((await post(`${agent}/management`, none)).status, 303);
      assert.equal(await managementGrant(db, bea, agentId), null);
      await be("member");
    });

    await t.step(
      "tools are picked on the connection's page, of the server's own alone",
      async () => {
        const html = await get(connection);
        isHarmless(html);
        assert.match(html, /It gets 2 of 2 tools/);
        const form: [string, string][] = [["which", "picked"], ["tool", ODD], ["tool", "nonsense"]];
        assert.equal((await post(connection, form)).status, 303);
        assert.deepEqual((await getConnection(db, bea, agentId, serverId)).picked, [ODD]);
        await post(connection, { which: "picked" });
        assert.deepEqual((await getConnection(db, bea, agentId, serverId)).picked, []);
        assert.match(await get(connection), /It gets 0 of 2 tools/);
        await post(connection, { which: "default" });
        // Without script the choice above stays where it was, and a tick that is taken away counts.
        const page = await get(connection);
        const was = /name="was" value="([^"]*)"/.exec(page)![1].replaceAll("&quot;", '"');
        const all = (JSON.parse(was) as string[]).map((name): [string, string] => ["tool", name]);
        const asItWas: [string, string][] = [["which", "default"], ["was", was]];
        const picks = async () => (await getConnection(db, bea, agentId, serverId)).picked;
        await post(connection, [...asItWas, ...all]);
        assert.equal(await picks(), null);
        await post(connection, [...asItWas, ...all.slice(1)]);
        assert.deepEqual(await picks(), all.slice(1).map(([, name]) => name));
        await post(connection, { which: "default" });
        assert.equal((await getConnection(db, bea, agentId, serverId)).picked, null);
      },
    );

    await t.step("a tool is changed, with and without script", async () => {
      const path = `${connection}/tools/read`;
      isHarmless(await get(path));
      const form = {
        act: "save",
        name: "notes",
        description: "",
        "mode.path": "fixed",
        "arg.path": HOSTILE,
        "mode.lines": "default",
        "arg.lines": "10",
        "mode.more": "caller",
        "arg.more": "not JSON, and of no account",
      };
      assert.equal((await post(path, form)).status, 303);
      const change = async () =>
        (await getConnection(db, bea, agentId, serverId)).tools
          .find(({ name }) => name === "read")!.change;
      assert.deepEqual(await change(), {
        name: "notes",
        fixed: { path: HOSTILE },
        defaults: { lines: 10 },
      });
      const again = await get(path);
      isHarmless(again);
      assert.match(again, /value="notes"/);
      const live = await post(path, { ...form, "arg.lines": "many", name: "no spaces" }, {
        "hx-request": "true",
      });
      assert.equal(live.status, 422);
      const answer = await live.text();
      assert.match(answer, /^<div class="columns" id="tool-change">/);
      assert.match(answer, /lines must be a number/);
      const refused = await post(path, { ...form, name: "no spaces" });
      assert.equal(refused.status, 422);
      assert.match(await refused.text(), /A name has 1 to 40 letters/);
      assert.deepEqual((await change()).name, "notes", "nothing was kept of it");
      const long = {
        ...form,
        "arg.lines": "9007199254740993",
        "mode.more": "fixed",
        "arg.more": "[12345678901234567890]",
      };
      const saved = await post(path, long, { "hx-request": "true" });
      assert.match(await saved.text(), /value="9007199254740993"/, "with all of its digits");
      assert.match(await get(path), /value="9007199254740993"[^]*\[12345678901234567890\]/);
      const reset = await post(path, { act: "reset" }, { "hx-request": "true" });
      assert.match(await reset.text(), /Saved\./);
      assert.deepEqual(await change(), {});
    });

    await t.step("a tool is limited, and the list says so", async () => {
      const path = `${connection}/tools/read`;
      const change = async () =>
        (await getConnection(db, bea, agentId, serverId)).tools
          .find(({ name }) => name === "read")!.change;
      for (
        const [perMinute, atOnce] of [["0", "513"], ["100001", "0"], ["1.5", "-1"], ["x", "x"]]
      ) {
        const form = { act: "save", name: "notes", perMinute, atOnce };
        const refused = await post(path, form);
        assert.equal(refused.status, 422);
        const html = await refused.text();
        assert.match(html, /id="field-perMinute-mistake">A whole number from 1 to 100,000/);
        assert.match(html, /id="field-atOnce-mistake">A whole number from 1 to 512/);
        for (const [field, typed] of Object.entries({ name: "notes", perMinute, atOnce })) {
          assert.match(html, new RegExp(`name="${field}"[^>]* value="${typed}"`));
        }
      }
      assert.deepEqual(await change(), {});
      // Typed beside a mistake in another field, they are kept.
      const kept = { act: "save", name: "no spaces", perMinute: "60", atOnce: "2" };
      const html = await (await post(path, kept, { "hx-request": "true" })).text();
      assert.match(html, /name="perMinute"[^>]* value="60"/);
      assert.match(html, /name="atOnce"[^>]* value="2"/);
      assert.equal((await post(path, { ...kept, name: "" })).status, 303);
      assert.deepEqual(await change(), { perMinute: 60, atOnce: 2 });
      assert.match(await get(path), /name="perMinute"[^>]* value="60"/);
      assert.match(
        await get(connection),
        />at most 60 calls a minute<\/span><span>at most 2 calls at once</,
      );
      assert.equal(
        (await post(path, { ...kept, name: "", perMinute: " ", atOnce: "1" })).status,
        303,
      );
      assert.deepEqual(await change(), { atOnce: 1 });
      assert.match(await get(connection), />at most 1 call at once</);
      await post(path, { act: "reset" });
      assert.deepEqual(await change(), {});
    });

    await t.step("a tool of an odd name has a page, and its argument a field", async () => {
      const path = `${connection}/tools/${encodeURIComponent(ODD)}`;
      isHarmless(await get(path));
      const form = { act: "save", [`mode.${ODD}`]: "fixed", [`arg.${ODD}`]: `{"a":[1]}` };
      assert.equal((await post(path, form)).status, 303);
      const { tools } = await getConnection(db, bea, agentId, serverId);
      assert.deepEqual(tools.find(({ name }) => name === ODD)!.change.fixed, { [ODD]: { a: [1] } });
    });

    await t.step("a token's form that does not hold keeps what was typed", async () => {
      const again = await post(`${agent}/tokens`, { name: "x".repeat(81), expiresInDays: "30" });
      assert.equal(again.status, 422);
      const html = await again.text();
      assert.match(html, /value="x{81}"/);
      assert.match(html, /<option value="30" selected/);
      const form = { instructions: "y".repeat(20_001), asks: "always" };
      const conversing = await (await post(`${agent}/conversing`, form)).text();
      assert.match(conversing, /y{20001}/);
      assert.match(conversing, /<option value="always" selected/);
    });

    await t.step("what there is not is not found", async () => {
      for (
        const path of [
          `${agent}/connections/${v7()}`,
          `${agent}/connections/x`,
          `${connection}/tools/none`,
          `/agents/${v7()}/connections/${serverId}`,
        ]
      ) {
        assert.equal((await app.request(ORIGIN + path, { headers: { cookie } })).status, 404, path);
        assert.equal((await post(path, { act: "save" })).status, 404, path);
      }
    });

    await t.step(
      "where a form was sent to one is led to its page, and machines are not",
      async () => {
        const made = await post(`${agent}/tokens`, { name: "laptop", expiresInDays: "30" });
        assert.match(await made.text(), /role="alert"[^]*?Copy the token now/);
        const at = (path: string) => app.request(ORIGIN + path, { headers: { cookie } });
        for (
          const [path, page] of [
            [`${agent}/tokens`, agent],
            [`${connection}/remove`, connection],
            ["/workspace/retention", "/workspace"],
            ["/account/password", "/account"],
          ]
        ) {
          const led = await at(path);
          assert.equal(led.status, 303, path);
          assert.equal(led.headers.get("location"), page);
        }
        for (const path of ["/oauth/register", "/toolbox/enrol", "/servers/acts/x", "/nowhere"]) {
          assert.equal((await at(path)).status, 404, path);
        }
      },
    );

    await opened.close();
    await world.close();
  },
});
