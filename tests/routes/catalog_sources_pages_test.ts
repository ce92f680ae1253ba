import assert from "node:assert/strict";
import type { Outside } from "../../models/outside.ts";
import { desiredOf } from "../../models/toolboxes.ts";
import { FakeRegistry } from "../catalogs/fake_registry.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { openPageApp, ORIGIN } from "./page_app.ts";

const DIGEST = `sha256:${"d".repeat(64)}`;

const WRITTEN = {
  name: "com.example/remote",
  title: "<b>Remote</b>",
  description: "A remote one\u202e of ours",
  version: "1.0.0",
  remotes: [{
    type: "streamable-http",
    url: "https://{region}.example.com/mcp",
    variables: { region: { description: "Where", isRequired: true, choices: ["eu", "us"] } },
    headers: [{
      name: "Authorization",
      value: "Bearer {token}",
      variables: { token: { isRequired: true, isSecret: true } },
    }],
  }],
};

Deno.test({
  name: "the pages of catalog sources, and what is deployed from them",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, owner, workspaceId, toolboxId, identity } = world;
    const account = async (email: string, role: string) => {
      const headers = await identity.createAccount(email, email, "a long enough password");
      const cookie = headers.getSetCookie()[0].split(";")[0];
      const { userId } = (await identity.userOf(new Headers({ cookie })))!;
      await owner`insert into public.members (workspace_id, user_id, role) values (${workspaceId}, ${userId}, ${role})`;
      return cookie;
    };
    const bea = await account("bea@example.com", "owner");
    const cid = await account("cid@example.com", "member");
    const registry = new FakeRegistry();
    registry.servers = Array.from({ length: 60 }, (_, n) => ({
      name: `com.example/tool-${n}`,
      version: "1.0.0",
      updatedAt: new Date(Date.UTC(2026, 0, 1, 0, n)).toISOString(),
      server: n === 0
        ? {
          packages: [{
            registryType: "oci",
            identifier: "ghcr.io/made/tool:1.0",
            transport: { type: "stdio" },
          }],
        }
        : n === 1
        ? { packages: [{ registryType: "mcpb", identifier: "x", transport: { type: "stdio" } }] }
        : {},
    }));
    const asked: string[] = [];
    // A container registry that wants a token, by its documented wire (OCI Distribution 1.1).
    const outside: Outside = (address, init) => {
      const url = new URL(address);
      if (url.host === "registry.example.com") return registry.outside(address, init);
      asked.push(`${init?.method ?? "GET"} ${url.host}${url.pathname}`);
      if (url.host === "token.example.com") {
        assert.equal(url.searchParams.get("scope"), "repository:made/tool:pull");
        return Promise.resolve(Response.json({ token: "t0ken" }));
      }
      const isKnown = new Headers(init?.headers).get("authorization") === "Bearer t0ken";
      return Promise.resolve(
        isKnown
          ? new Response(null, { headers: { "docker-content-digest": DIGEST } })
          : new Response(null, {
            status: 401,
            headers: {
              "www-authenticate":
                'Bearer realm="https://token.example.com/token",service="x",scope="repository:made/tool:pull"',
            },
          }),
      );
    };
    const opened = await openPageApp(world, { outside });
    const { app } = opened;
    const get = async (path: string, cookie = bea, status = 200) => {
      const response = await app.request(ORIGIN + path, { headers: { cookie } });
      assert.equal(response.status, status, path);
      return await response.text();
    };
    const post = (path: string, form: Record<string, string> | FormData, cookie = bea) =>
      app.request(ORIGIN + path, {
        method: "POST",
        body: form instanceof FormData ? form : new URLSearchParams(form),
        headers: { cookie, origin: ORIGIN },
      });
    const deploy = async (slug: string, form: Record<string, string> = {}) => {
      const made = await post("/servers", {
        slug,
        toolboxId,
        idempotencyKey: crypto.randomUUID(),
        name: `s ${crypto.randomUUID().slice(0, 8)}`,
        ...form,
      });
      return { made, id: made.headers.get("location")?.split("/").at(-1) };
    };
    const specOf = async (id: string) =>
      (await desiredOf(db, toolboxId, testKey)).servers.find(({ serverId }) => serverId === id)!;

    await t.step("without sources the page says what to do, and to whom", async () => {
      const page = await get("/marketplace/sources");
      assert.match(page, /No sources yet/);
      assert.match(page, /Add Official MCP registry/);
      const members = await get("/marketplace/sources", cid);
      assert.match(members, /Owners and admins/);
      assert.doesNotMatch(members, /<button>Add/);
      assert.equal((await post("/marketplace/sources", {}, cid)).status, 422);
      const form = { name: "X", kind: "url", url: "https://x.example.com", syncEveryMinutes: "" };
      assert.equal((await post("/marketplace/sources", form, cid)).status, 403);
    });

    await t.step("a form that does not hold keeps what was typed", async () => {
      const typed = { name: "Kept name", kind: "registry", url: "http://plain.example.com" };
      const refused = await post("/marketplace/sources", typed);
      assert.equal(refused.status, 422);
      const page = await refused.text();
      assert.match(page, /This must be a whole https URL/);
      assert.match(page, /value="Kept name"/);
      assert.match(page, /value="http:\/\/plain\.example\.com"/);
      assert.match(page, /value="registry" selected/);
      const written = await post("/marketplace/sources/write", { entry: '{"kept": ' });
      assert.match(await written.text(), /It is no JSON[^]*\{&quot;kept&quot;: <\/textarea>/);
    });

    await t.step("a source is added, synced by the schedule's call, and shown", async () => {
      const form = {
        name: "Registry",
        kind: "registry",
        url: "https://registry.example.com",
        syncEveryMinutes: "60",
      };
      assert.equal((await post("/marketplace/sources", form)).status, 303);
      assert.match(await get("/marketplace/sources"), /Syncing/);
      const called = await app.request(`${ORIGIN}/schedule/catalog`, { method: "POST" });
      assert.deepEqual(await called.json(), { synced: 1 });
      const page = await get("/marketplace/sources");
      assert.match(page, /60 entries/);
      assert.match(page, /59 deployable here/);
      assert.match(page, /60 new, 0 changed, 0 gone/);
      const again = await app.request(`${ORIGIN}/schedule/catalog`, { method: "POST" });
      assert.deepEqual(await again.json(), { synced: 0 }, "nothing is due");
    });

    await t.step("the marketplace filters, pages and shares what is asked", async () => {
      const first = await get("/marketplace?source=registry");
      assert.match(first, /1 to 24 of 60 entries/);
      assert.match(first, /href="\/marketplace\?source=registry&amp;page=2"/);
      const last = await get("/marketplace?source=registry&page=3");
      assert.match(last, /49 to 60 of 60 entries/);
      assert.doesNotMatch(last, /rel="next"/);
      const beyond = await get("/marketplace?source=registry&page=7");
      assert.match(beyond, /49 to 60 of 60 entries/, "the last page, where there are fewer");
      const undeployable = await get("/marketplace?source=registry&deployable=no");
      assert.match(undeployable, /listed, not deployable here/);
      assert.match(undeployable, /It is an MCPB bundle/);
      assert.match(undeployable, /Take back: Deployable here Only listed/);
      const results = await app.request(
        `${ORIGIN}/marketplace/results?q=tool&source=registry&page=3&secrets=`,
        { headers: { cookie: bea } },
      );
      assert.equal(results.headers.get("hx-replace-url"), "/marketplace?q=tool&source=registry");
      assert.match(await results.text(), /<hx-partial hx-target="#filters"/);
      // Whatever stands in the address.
      for (
        const odd of ["page=0", "page=x", "sort=nope", "secrets=maybe", "category=%00", "q=%F0"]
      ) {
        await get(`/marketplace?${odd}`);
      }
      assert.match(await get("/marketplace?q=gihtub"), /This is for “github”/);
      assert.match(await get("/marketplace?q=qqqqzzzz"), /Nothing matches/);
    });

    await t.step("an entry says why it cannot be deployed, and is not", async () => {
      const page = await get("/marketplace/registry--com-example-tool-1");
      assert.match(page, /Listed, not deployable here: It is an MCPB bundle/);
      assert.doesNotMatch(page, /What it will be allowed/);
      const { made } = await deploy("registry--com-example-tool-1");
      assert.equal(made.status, 422);
      assert.match(await made.text(), /Listed, not deployable here: It is an MCPB bundle/);
    });

    await t.step("an image by a tag is pinned to its digest when it is deployed", async () => {
      const page = await get("/marketplace/registry--com-example-tool-0");
      assert.match(page, /ghcr\.io\/made\/tool:1\.0/);
      assert.match(page, /Looked up when you deploy/);
      const { made, id } = await deploy("registry--com-example-tool-0");
      assert.equal(made.status, 303);
      assert.deepEqual((await specOf(id!)).package, {
        registry: "oci",
        image: "ghcr.io/made/tool",
        digest: DIGEST,
      });
      assert.deepEqual(asked, [
        "HEAD ghcr.io/v2/made/tool/manifests/1.0",
        "GET token.example.com/token",
        "HEAD ghcr.io/v2/made/tool/manifests/1.0",
      ]);
    });

    await t.step(
      "a written entry's URL and header are filled in; the secret stays one",
      async () => {
        const written = await post("/marketplace/sources/write", {
          entry: JSON.stringify(WRITTEN),
        });
        assert.equal(written.status, 303);
        const slug = "written-here--com-example-remote";
        const page = await get(`/marketplace/${slug}`);
        assert.match(page, /&lt;b&gt;Remote&lt;\/b&gt;/);
        assert.match(page, /A remote one\[U\+202E\] of ours/);
        assert.match(page, /name="url.region"/);
        const token = "env.HEADER_1_VALUE.token";
        const refused = await deploy(slug, { "url.region": "mars", [token]: "s3cret-token" });
        assert.equal(refused.made.status, 422);
        assert.match(await refused.made.text(), /must be one of eu, us/);
        const { made, id } = await deploy(slug, { "url.region": "eu", [token]: "s3cret-token" });
        assert.equal(made.status, 303);
        const spec = await specOf(id!);
        assert.deepEqual(spec.package, { registry: "remote", url: "https://eu.example.com/mcp" });
        assert.deepEqual(spec.network.hosts, ["eu.example.com:443"]);
        assert.deepEqual(spec.secrets, { HEADER_1_VALUE: "Bearer s3cret-token" });
        assert.deepEqual(spec.environment, { HEADER_1_NAME: "Authorization" });
        assert.doesNotMatch(await get(`/servers/${id}/configuration`), /s3cret-token/);
        const raw = await app.request(`${ORIGIN}/marketplace/${slug}/raw?download`, {
          headers: { cookie: bea },
        });
        assert.match(raw.headers.get("content-type")!, /^text\/plain/);
        assert.deepEqual(JSON.parse(await raw.text()), WRITTEN);
        assert.match(await get(`/marketplace/${slug}/raw`), /&lt;b&gt;Remote/);
        await get(`/marketplace/${slug}/raw?version=none`, bea, 404);
        assert.equal((await post(`/marketplace/${slug}/remove`, {})).status, 303);
      },
    );

    await t.step("files are uploaded, and what of them is broken is told", async () => {
      const body = new FormData();
      body.set("name", "Ours");
      body.append(
        "files",
        new File(['{"name":"com.example/a","description":"A","version":"1"}'], "server.json"),
      );
      body.append("files", new File(["{\u202e"], "b/server.json"));
      body.append("files", new File(["not a catalog"], "readme.json"));
      assert.equal((await post("/marketplace/sources/upload", body)).status, 303);
      const page = await get("/marketplace/sources");
      const [, path] = /href="(\/marketplace\/sources\/[0-9a-f-]+\/broken)"/.exec(page)!;
      const told = await get(path);
      assert.match(told, /It is no JSON/);
      assert.ok(!told.includes("\u202e") && told.includes("{[U+202E]"));
      await get("/marketplace/sources/01890000-0000-7000-8000-000000000000/broken", bea, 404);
      const none = new FormData();
      none.set("name", "Kept");
      none.append("files", new File(["{}"], "x.json"));
      const refused = await post("/marketplace/sources/upload", none);
      assert.equal(refused.status, 422);
      assert.match(await refused.text(), /value="Kept"[^]*There is no entry in it/);
    });

    await t.step("a source is removed with its entries, and its servers stay", async () => {
      const page = await get("/marketplace/sources");
      const [, id] = /id="source-registry"[^]*?\/marketplace\/sources\/([0-9a-f-]+)\/remove/.exec(
        page,
      )!;
      assert.match(page, /1 server deployed from them runs on/);
      assert.equal((await post(`/marketplace/sources/${id}/remove`, {}, cid)).status, 403);
      assert.equal(
        (await post(`/marketplace/sources/${id}/schedule`, { every: "360" })).status,
        303,
      );
      assert.match(await get("/marketplace/sources"), /value="360" selected/);
      assert.equal((await post(`/marketplace/sources/${id}/remove`, {})).status, 303);
      await get("/marketplace/registry--com-example-tool-0", bea, 404);
      assert.match(await get("/servers"), /ghcr\.io\/made\/tool/);
    });

    await opened.close();
    await world.close();
  },
});
