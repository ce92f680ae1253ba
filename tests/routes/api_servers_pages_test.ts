/** The pages that add a REST API, and those of its operations: the document from a real web server. */
import assert from "node:assert/strict";
import { getServer } from "../../models/servers.ts";
import { openApp } from "../oauth/app.ts";
import { makeCertificates } from "../oauth/certificates.ts";

const FAR = "docs.example.test";

const notes = (summary: string, more: object = {}) => ({
  openapi: "3.0.3",
  info: { title: "Notes <script>alert(1)</script>", version: "1" },
  servers: [{ url: "v1" }],
  components: {
    securitySchemes: { "<b>": { type: "apiKey", in: "header", name: "X-Key" } },
  },
  paths: {
    "/notes": {
      get: { operationId: "list", tags: ["notes"], summary, responses: {} },
      post: { operationId: "add", tags: ["notes"], responses: {} },
    },
    ...more,
  },
});

Deno.test({
  name: "a REST API is added from its document's address, and checked again",
  // The embedded database's worker outlives a test by a moment.
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const { ca, cert, key } = await makeCertificates([FAR]);
    let served: BodyInit = JSON.stringify(notes("List notes")), status = 200;
    const far = Deno.serve(
      { hostname: "127.0.0.1", port: 0, cert, key, onListen() {} },
      () => new Response(served, { status }),
    );
    const url = `https://${FAR}:${(far.addr as Deno.NetAddr).port}/docs/openapi.json`;
    await using app = await openApp({
      outside: { privateHosts: [FAR], addresses: { [FAR]: ["127.0.0.1"] }, ca },
    });
    const { db, user, toolboxId } = app;
    const asked = async (path: string, form: Record<string, string>) => {
      const response = await app.post(path, form);
      return {
        status: response.status,
        page: await response.text(),
        at: response.headers.get("location"),
      };
    };
    const form = () => ({
      toolboxId,
      idempotencyKey: crypto.randomUUID(),
      operation: "GET /notes",
    });
    let choosing = "", server = "";

    await t.step("what does not hold is told, and what was typed stays", async () => {
      const cases: [Record<string, string>, RegExp][] = [
        [{}, /Give the document(&#39;|')s address/],
        [{ url: "http://docs.example.test/" }, /whole https URL/],
        [{ url: "https://u:p@docs.example.test/" }, /no password in it/],
        [{ url: "https://localhost/openapi.json" }, /private network/],
        [{ url: "https://127.0.0.1/openapi.json" }, /is an address/],
        [{ document: "typed: text" }, /no member `openapi`/],
      ];
      for (const [given, why] of cases) {
        const { status, page } = await asked("/servers/api", given);
        assert.equal(status, 422, page);
        assert.match(page, why);
        for (const typed of Object.values(given)) assert.ok(page.includes(typed));
      }
      status = 404;
      assert.match((await asked("/servers/api", { url })).page, /answers 404/);
      status = 200;
    });

    await t.step("its operations are listed as text, reading ones chosen", async () => {
      choosing = (await asked("/servers/api", { url })).at!;
      const page = await (await app.get(choosing)).text();
      assert.ok(!page.includes("<script>alert"), "a document's words are text");
      assert.match(page, /value="GET \/notes" checked/);
      assert.doesNotMatch(page, /value="POST \/notes" checked/);
      // Relative to where the document is.
      assert.ok(page.includes(`${url.replace("openapi.json", "v1")}</option>`));
    });

    await t.step(
      "a form that does not hold keeps what was chosen, and shows no secret",
      async () => {
        const { status, page } = await asked(choosing, {
          ...form(),
          operation: "POST /notes",
          server: "other",
          baseUrl: "https://10.0.0.1/",
          "env.AUTH_B": "their-secret",
        });
        assert.equal(status, 422);
        assert.match(page, /must name its host/);
        assert.match(page, /value="POST \/notes" checked/);
        assert.doesNotMatch(page, /value="GET \/notes" checked/);
        assert.ok(page.includes("https://10.0.0.1/") && !page.includes("their-secret"));
        assert.match((await asked(choosing, { ...form(), operation: "" })).page, /one operation/);
      },
    );

    await t.step(
      "it is deployed, and the toolbox is told the plan and the secret apart",
      async () => {
        server = (await asked(choosing, { ...form(), server: "0", "env.AUTH_B": "their-secret" }))
          .at!;
        const serverId = server.split("/").at(-1)!;
        const spec = await app.desired(serverId);
        assert.equal(spec.package.registry, "openapi");
        assert.deepEqual(spec.secrets, { AUTH_B: "their-secret" });
        assert.deepEqual(spec.network.hosts, [new URL(url).host]);
        assert.ok(!JSON.stringify(spec.package).includes("their-secret"));
        const page = await (await app.get(server)).text();
        assert.match(page, /Choose others, or check its document/);
        assert.equal((await app.get(`${server}/api`)).headers.get("location"), choosing);
      },
    );

    await t.step("of a form that was open twice a second server has the document too", async () => {
      const other = (await asked(choosing, { ...form(), server: "0" })).at!;
      assert.notEqual(other, server);
      assert.notEqual((await app.get(`${other}/api`)).headers.get("location"), choosing);
      assert.equal((await app.get(`${server}/api`)).headers.get("location"), choosing);
    });

    await t.step("checked again, it says what is another one and what is gone", async () => {
      const { at } = await asked(`${choosing}/check`, {});
      assert.match(await (await app.get(at!)).text(), /are in this document as they are now/);
      served = JSON.stringify(notes("List all notes", { "/more": { get: { responses: {} } } }));
      const changed = (await asked(`${choosing}/check`, {})).at!;
      const page = await (await app.get(changed)).text();
      assert.match(page, /list<\/code>.*has changed<\/strong>: description/);
      served = JSON.stringify({ ...notes(""), paths: { "/more": { get: { responses: {} } } } });
      const gone = (await asked(`${choosing}/check`, {})).at!;
      assert.match(await (await app.get(gone)).text(), /list<\/code>.*is gone<\/strong>/);
      served = "<html>";
      const { status, page: failed } = await asked(`${choosing}/check`, {});
      assert.equal(status, 422);
      assert.match(failed, /web page, not an OpenAPI document/);

      const saved = await asked(changed, {
        operation: "GET /notes",
        tellsShape: "true",
        baseGeneration: "1",
      });
      assert.match(saved.at!, new RegExp(`^${server}`));
      const serverId = server.split("/").at(-1)!;
      assert.equal((await getServer(db, user, serverId)).generation, 2);
      assert.deepEqual((await app.desired(serverId)).secrets, { AUTH_B: "their-secret" });
      // Of the server's documents the one that is used is kept.
      assert.equal((await app.get(choosing)).status, 404);
      assert.equal((await app.get(gone)).status, 404);
      const late = await asked(changed, { operation: "GET /notes", baseGeneration: "1" });
      assert.equal(late.status, 409);
    });

    await t.step("a viewer adds none, and a stranger sees none", async () => {
      const viewer = app.browser(await app.person("vic", "viewer"));
      const text = JSON.stringify(notes("x"));
      assert.equal((await viewer.post("/servers/api", { document: text })).status, 403);
      const draft = (await asked("/servers/api", { document: text })).at!;
      const refused = await viewer.post(draft, {
        ...form(),
        server: "other",
        baseUrl: "https://notes.example.com",
      });
      assert.equal(refused.status, 403);
      assert.equal((await app.get("/servers/api/nonsense")).status, 404);
      assert.equal((await app.get(`/servers/api/${crypto.randomUUID()}`)).status, 404);
    });
    await far.shutdown();
  },
});
