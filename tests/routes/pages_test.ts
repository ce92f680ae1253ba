import assert from "node:assert/strict";
import { v7 } from "uuid";
import type { Outcome } from "../../models/calls.ts";
import { connectServer, createAgent } from "../../models/agents.ts";
import { deployServer, getServer } from "../../models/servers.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { listTools } from "../../models/tools.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { observation } from "../models/observation.ts";
import { openPageApp, ORIGIN, signedIn } from "./page_app.ts";

const HOSTILE = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`;

Deno.test({
  name: "the pages",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, owner, workspaceId, toolboxId } = world;
    // The world's owner has no password: this one signs in, as another member.
    const { cookie, person: bea } = await signedIn(world, "member");

    const opened = await openPageApp(world);
    const { app, calls } = opened;
    const get = (path: string, headers: Record<string, string> = { cookie }) =>
      app.request(ORIGIN + path, { headers });
    const post = (
      path: string,
      form: Record<string, string>,
      headers: Record<string, string> = {},
    ) =>
      app.request(ORIGIN + path, {
        method: "POST",
        body: new URLSearchParams(form),
        headers: { cookie, origin: ORIGIN, ...headers },
      });
    const deploy = (form: Record<string, string>, key = crypto.randomUUID()) =>
      post("/servers", { slug: "github", toolboxId, idempotencyKey: key, name: "GitHub", ...form });
    const secretField = "env.GITHUB_PERSONAL_ACCESS_TOKEN";

    await t.step(
      "without a session go to sign in and back; streams and forms answer 401",
      async () => {
        const page = await get("/servers?x=1", {});
        assert.equal(page.status, 303);
        assert.equal(page.headers.get("location"), "/sign-in?next=%2Fservers%3Fx%3D1");
        assert.equal((await get("/servers/live", {})).status, 401);
        assert.equal((await get("/marketplace/results", { "hx-request": "true" })).status, 401);
        const form = await post("/servers", {}, { cookie: "" });
        assert.equal(form.status, 401);
        assert.match(await form.text(), /Sign in in another tab, then reload this page/);
      },
    );

    await t.step("sign-in leads on to a path of this site alone", async () => {
      for (
        const next of [
          "//evil.example",
          "/\\evil.example",
          "https://evil.example",
          "javascript:alert(1)",
          "",
        ]
      ) {
        const response = await post("/sign-in", {
          email: "bea@example.com",
          password: "a long enough password",
          next,
        });
        assert.equal(response.headers.get("location"), "/", next);
      }
      const wrong = await post("/sign-in", {
        email: HOSTILE,
        password: "wrong wrong wrong",
        next: "/",
      });
      assert.equal(wrong.status, 422);
      assert.equal((await wrong.text()).includes("<script>alert"), false);
    });

    await t.step("who is signed in already goes on as well", async () => {
      const on = await get("/sign-in?next=%2Foauth%2Fauthorize%3Fa%3Db");
      assert.equal(on.headers.get("location"), "/oauth/authorize?a=b");
      const off = await get("/sign-in?next=%2F%2Fevil.example");
      assert.equal(off.headers.get("location"), "/");
      const code = await get("/sign-in/code?next=%2Fservers%3Fx%3D1");
      assert.match(await code.text(), /href="\/sign-in\?next=%2Fservers%3Fx%3D1">Begin again/);
    });

    await t.step("set-up is closed once there is an account", async () => {
      assert.equal((await get("/setup", {})).headers.get("location"), "/sign-in");
      assert.equal((await post("/setup", { code: "x" })).status, 303);
    });

    await t.step("forms of other sites are refused", async () => {
      const response = await post("/agents", { name: "x" }, { origin: "https://evil.example" });
      assert.equal(response.status, 403);
      assert.match(await response.text(), /another site/);
    });

    await t.step("what is no form is refused with what to do", async () => {
      const multipart = "multipart/form-data; boundary=x";
      for (
        const [path, body, type] of [
          ["/agents", "no form", multipart],
          ["/sign-in", "no form", multipart],
          ["/servers/acts", "", multipart],
          ["/agents", "--x\r\n", "multipart/form-data"],
        ]
      ) {
        const headers = { cookie, origin: ORIGIN, "content-type": type };
        const response = await app.request(ORIGIN + path, { method: "POST", body, headers });
        assert.equal(response.status, 400, path);
        assert.match(await response.text(), /The form could not be read[^<]*send it again/);
      }
    });

    await t.step("carry a strict policy and no inline script or style", async () => {
      for (
        const path of [
          "/",
          "/marketplace",
          "/marketplace/github",
          "/servers",
          "/agents",
          "/toolboxes",
          `/toolboxes/${toolboxId}`,
        ]
      ) {
        const response = await get(path);
        assert.equal(response.status, 200, path);
        assert.match(response.headers.get("content-security-policy")!, /script-src 'self'/);
        assert.equal(response.headers.get("cache-control"), "no-store");
        const html = await response.text();
        assert.match(html, /^<!doctype html>/i);
        assert.doesNotMatch(
          html,
          /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on/i,
          path,
        );
      }
    });

    await t.step(
      "a form that does not hold comes back with what was typed, but no secret",
      async () => {
        const empty = await deploy({ [secretField]: "", name: HOSTILE });
        assert.equal(empty.status, 422);
        const html = await empty.text();
        assert.match(html, /aria-invalid="true"/);
        assert.match(html, /is needed/);
        assert.equal(html.includes("<script>alert"), false);
        const large = await deploy({ [secretField]: "s".repeat(1_000_000) });
        assert.equal(large.status, 422);
        assert.equal((await large.text()).includes("ssssssss"), false);
        const huge = await deploy({ [secretField]: "s".repeat(3_000_000) });
        assert.equal(huge.status, 413);
        assert.equal((await get("/servers")).status, 200);
      },
    );

    await t.step("a form sent twice is one server", async () => {
      const key = crypto.randomUUID();
      const places = await Promise.all(
        Array.from(
          { length: 5 },
          async () => (await deploy({ [secretField]: "ghp_secret" }, key)).headers.get("location"),
        ),
      );
      assert.equal(new Set(places).size, 1);
    });

    const { serverId } = await deployServer(db, bea, {
      workspaceId,
      toolboxId,
      slug: "github",
      name: HOSTILE,
      form: { [secretField]: "ghp_verysecret" },
      idempotencyKey: crypto.randomUUID(),
    }, testKey);
    await owner`update public.toolboxes set last_seen_at = now()`;
    const epoch = v7();
    let sequence = 0;
    const report = (description: string) =>
      acceptReport(db, toolboxId, {
        epoch,
        sequence: ++sequence,
        observations: [{
          ...observation(serverId, 1, [{
            name: `evil ${HOSTILE}`,
            title: HOSTILE,
            description,
            inputSchema: {
              type: "object",
              properties: { [HOSTILE]: { type: "string", description: HOSTILE } },
            },
          }]),
          logTail: [HOSTILE, "\u001b[31mred\u202e"],
        }],
        events: [{
          serverId,
          generation: 1,
          at: new Date().toISOString(),
          layer: "tools",
          level: "warning",
          message: HOSTILE,
        }],
        removed: [],
      });
    await report(HOSTILE);

    await t.step(
      "what servers say of themselves is text on every page, and no secret is on any",
      async () => {
        const [tool] = await listTools(db, bea, serverId);
        await post(`/servers/${serverId}/tools`, {
          act: "approve",
          pick: `${tool.hash} ${tool.name}`,
        });
        await report(`${HOSTILE} changed \u200b`);
        await connectServer(
          db,
          bea,
          await createAgent(db, bea, workspaceId, `${HOSTILE}\u202e`),
          serverId,
        );
        const paths = [
          "/",
          "/servers",
          `/servers?q=${encodeURIComponent(HOSTILE)}`,
          `/servers/remove?server=${serverId}`,
          `/servers/${serverId}/generations/1`,
          "/agents/connections",
          ...["", "/tools", "/try", "/log", "/network", "/configuration", "/events"]
            .map((tab) => `/servers/${serverId}${tab}`),
          `/servers/${serverId}/tools/${encodeURIComponent(tool.name)}`,
        ];
        for (const path of paths) {
          const html = await (await get(path)).text();
          assert.equal(/<script>alert|<img src=x/.test(html), false, path);
          assert.equal(html.includes("ghp_verysecret"), false, path);
        }
        const html = await (await get(`/servers/${serverId}/tools`)).text();
        assert.match(html, /Changed: withheld/);
        assert.match(html, /\[U\+200B\]/);
        assert.match(await (await get(`/servers/${serverId}/log`)).text(), /\[U\+202E\]/);
      },
    );

    await t.step(
      "approval takes the definition that was on the page, not a later one",
      async () => {
        const [seen] = await listTools(db, bea, serverId);
        await report("yet another");
        const response = await post(`/servers/${serverId}/tools`, {
          act: "approve",
          pick: `${seen.hash} ${seen.name}`,
        });
        assert.equal(response.status, 409);
        assert.match(await response.text(), /Read them again/);
      },
    );

    await t.step(
      "a tool that is not approved is not tried, and one of a server that is down says so",
      async () => {
        const [tool] = await listTools(db, bea, serverId);
        const path = `/servers/${serverId}/tools/${encodeURIComponent(tool.name)}`;
        assert.match(await (await post(path, {})).text(), /Approve the tool as it is now/);
        await post(`/servers/${serverId}/tools`, {
          act: "approve",
          pick: `${tool.hash} ${tool.name}`,
        });
        const tried = await (await post(path, { raw: "{}" }, { "hx-request": "true" })).text();
        assert.match(tried, /gave no address|not be made/);
        assert.match(tried, /id="outcome"/);
        assert.match(await (await post(path, { raw: "[1]" })).text(), /Write a JSON object/);
      },
    );

    await t.step("a configuration form of an older generation is told", async () => {
      const response = await post(`/servers/${serverId}/configuration`, {
        baseGeneration: "0",
        [secretField]: "x",
      });
      assert.equal(response.status, 409);
      assert.equal((await getServer(db, bea, serverId)).generation, 1);
    });

    await t.step(
      "calls of the last hour and their failures are told, to this server alone",
      async () => {
        const html = async () => await (await get(`/servers/${serverId}`)).text();
        await calls.flush();
        // The trial above, which could not be made.
        assert.match(await html(), /1 call in the last hour: 1 \(100\.0 %\) failed, none ended/);
        const call = (outcome: Outcome, durationMs: number, agoMs = 60_000, of = serverId) =>
          calls.record({
            workspaceId,
            agentId: null,
            serverId: of,
            serverSlug: "github",
            tool: "search",
            via: "trial",
            startedAt: new Date(Date.now() - agoMs),
            durationMs,
            outcome,
            error: null,
            requestBytes: 1,
            responseBytes: 1,
          });
        for (let index = 0; index < 16; index++) call("ok", 20);
        call("tool_error", 20);
        call("error", 9000);
        call("indeterminate", 9000);
        call("error", 9000);
        call("cancelled", 9000);
        call("error", 1, 2 * 3_600_000);
        call("error", 1, 0, v7());
        await calls.flush();
        assert.match(
          await html(),
          /21 calls in the last hour: 4 \(19\.0 %\) failed, 1 ended with an error of the tool&#39;s own, half were answered within 20 ms and 95 % within 20 ms\./,
        );
      },
    );

    await t.step(
      "a server on a silent toolbox shows what was known, since when and why",
      async () => {
        await owner`update public.toolboxes set last_seen_at = now() - interval '10 minutes'`;
        const html = await (await get(`/servers/${serverId}`)).text();
        const layer = (name: string) =>
          new RegExp(`<li class="([a-z]+)" data-layer="${name}">[^]*?</li>`).exec(html)!;
        assert.equal(layer("host")[1], "failed");
        assert.match(layer("host")[0], /is silent: its containers run on.*Check that its machine/s);
        for (const name of ["image", "container", "handshake", "tools"]) {
          assert.equal(layer(name)[1], "unknown", name);
          assert.match(layer(name)[0], /Not known.*Was ready/s, name);
          // Not "since 5 minutes ago", which app.js would make of one that is relative.
          assert.match(layer(name)[0], /since <time datetime="[^"]*">/, name);
        }
        assert.match(html, /it is not known whether the server runs, and calls do not reach it/);
        assert.match(html, /is silent for 10 minutes/);
        const box = await (await get(`/toolboxes/${toolboxId}`)).text();
        assert.match(box, /Silent\..*last heard of.*<time.*calls do not reach them/s);
        await owner`update public.toolboxes set last_seen_at = now()`;
        const again = await (await get(`/servers/${serverId}`)).text();
        assert.match(again, /<li class="ready" data-layer="host">/);
        assert.match(again, /<li class="ready" data-layer="container">/);
      },
    );

    await t.step("a crash loop is told with its reason and the log's last 50 lines", async () => {
      const seen = observation(serverId, 1, null);
      const lines = Array.from({ length: 50 }, (_, index) => `line ${index} of \u001b[31mred`);
      const detail = "crash_looping: went down 5 times in a row, so it is not started again. " +
        "The server exited with code 3";
      await acceptReport(db, toolboxId, {
        epoch,
        sequence: ++sequence,
        observations: [{
          ...seen,
          layers: {
            ...seen.layers,
            container: { ...seen.layers.container, state: "failed", detail, nextStep: "Mend it." },
          },
          logTail: lines,
          volumes: [{ name: "data", bytes: 3 * 1024 ** 2 }, { name: "other", bytes: null }],
        }],
        events: [],
        removed: [],
      });
      const html = await (await get(`/servers/${serverId}`)).text();
      assert.match(html, /status failed.*crash_looping: went down 5 times.*exited with code 3/);
      assert.match(html, /Mend it\./);
      assert.match(html, /<code>data<\/code> 3\.0 MiB/);
      assert.match(html, /<code>other<\/code> not measured yet/);
      for (const index of lines.keys()) {
        assert.ok(html.includes(`line ${index} of [U+001B][31mred`), String(index));
      }
      await report("up again");
    });

    await t.step(
      "a refused host is listed as text, allowed, taken back and dismissed",
      async () => {
        const denial = (host: string, port: number) => ({
          serverId,
          host,
          port,
          reason: HOSTILE,
          count: 2,
          at: new Date().toISOString(),
        });
        await acceptReport(db, toolboxId, {
          epoch,
          sequence: ++sequence,
          observations: [],
          events: [],
          removed: [],
          denials: [denial("api.x.com", 443), denial(HOSTILE, 0)],
          samples: [{
            serverId,
            instance: null,
            at: new Date().toISOString(),
            cpus: 0.5,
            memoryBytes: 64 * 1024 ** 2,
            receivedBytes: 0,
            sentBytes: 0,
            pids: 7,
          }],
        });
        const html = async () => await (await get(`/servers/${serverId}/network`)).text();
        const before = await html();
        assert.match(before, /This server wanted <code>api\.x\.com:443<\/code>/);
        assert.equal(/<script>alert|<img src=x/.test(before), false);
        const overview = await (await get(`/servers/${serverId}`)).text();
        assert.match(overview, /64\.0 MiB of 512\.0 MiB/);
        assert.match(overview, /7 of 128/);
        assert.doesNotMatch(overview, /Not measured any more/);
        const hosts = (act: string, host: string) =>
          post(`/servers/${serverId}/hosts${act}`, { host });
        assert.equal((await hosts("", "API.x.com:443 ")).status, 303);
        const allowed = await html();
        assert.doesNotMatch(allowed, /This server wanted <code>api/);
        assert.match(allowed, /Allow no more: api\.x\.com:443/);
        assert.equal((await hosts("/disallow", "api.x.com:443")).status, 303);
        assert.doesNotMatch(await html(), /Allow no more/);
        assert.equal((await hosts("/dismiss", `${HOSTILE}:0`)).status, 303);
        assert.doesNotMatch(await html(), /This server wanted/);
        const refused = await hosts("", "not a host");
        assert.equal(refused.status, 422);
        const again = await refused.text();
        assert.match(again, /<title>Network of /);
        assert.match(again, /id="field-host"[^>]*aria-invalid="true"[^>]*value="not a host"/);
        assert.match(again, /id="field-host-mistake">A host is written as name:port/);
      },
    );

    await t.step("generations tell what they changed, and lead back", async () => {
      const before = await (await get(`/servers/${serverId}/configuration`)).text();
      assert.match(before, /<ins>api\.x\.com:443<\/ins>/);
      assert.match(before, /Allowed it to reach api\.x\.com:443/);
      const back = await (await get(`/servers/${serverId}/generations/1`)).text();
      assert.match(back, /Deployed /);
      assert.match(back, /Go back to generation 1/);
      const events = await (await get(`/servers/${serverId}/events`)).text();
      assert.match(events, new RegExp(`href="/servers/${serverId}/generations/1"`));
      for (const no of ["0", "99", "x", "-1"]) {
        assert.equal((await get(`/servers/${serverId}/generations/${no}`)).status, 404);
      }
      const { generation } = await getServer(db, bea, serverId);
      const response = await post(`/servers/${serverId}/rollback`, { generation: "1" });
      assert.equal(response.status, 303);
      assert.equal((await getServer(db, bea, serverId)).generation, generation + 1);
      assert.equal((await post(`/servers/${serverId}/rollback`, { generation: "x" })).status, 404);
      assert.equal((await post(`/servers/${serverId}/restart`, {})).status, 303);
    });

    await t.step("unknown and malformed ids are not found", async () => {
      for (
        const path of [
          `/servers/${v7()}`,
          "/servers/nonsense",
          "/agents/'",
          "/toolboxes/../../etc",
          "/marketplace/none",
          "/nothing",
        ]
      ) {
        assert.equal((await get(path)).status, 404, path);
      }
      assert.equal((await post(`/servers/${v7()}/stop`, {})).status, 404);
      assert.equal((await get("/servers/%00")).status, 422);
    });

    await t.step("the live page begins with its parts and follows changes", async () => {
      const response = await get(`/servers/${serverId}/live?tab=tools`);
      assert.match(response.headers.get("content-type")!, /^text\/event-stream/);
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      const until = async (wanted: RegExp) => {
        while (!wanted.test(text)) {
          const { done, value } = await reader.read();
          if (done) throw new Error(`The page ended without ${wanted}`);
          text += value;
        }
      };
      await until(/hx-target="#tools"[^]*\n\n/);
      assert.match(text, /^id: 1\ndata: <hx-partial/);
      text = "";
      await post(`/servers/${serverId}/stop`, {});
      await until(/Stopped|being stopped/);
      await reader.cancel();
    });

    await t.step("health says what is there", async () => {
      assert.deepEqual(await (await get("/healthz", {})).json(), { status: "alive" });
      assert.equal((await (await get("/readyz", {})).json()).checks.toolbox, true);
    });

    await t.step("assets are kept for ever and packed", async () => {
      const html = await (await get("/")).text();
      for (const [, path] of html.matchAll(/(?:src|href)="(\/static\/[^"]+)"/g)) {
        const response = await get(path, { "accept-encoding": "gzip" });
        assert.match(response.headers.get("cache-control")!, /immutable/);
        assert.equal(response.headers.get("content-encoding"), "gzip");
        await response.body?.cancel();
      }
    });

    await opened.close();
    await world.close();
  },
});
