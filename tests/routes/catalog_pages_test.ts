import assert from "node:assert/strict";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { putBuiltinCatalog } from "../../models/catalog_entries.ts";
import { KINDS, openWorld } from "../models/databases.ts";
import { MADE_ENTRIES } from "../models/made_entries.ts";
import { openPageApp, ORIGIN, signedIn } from "./page_app.ts";

/** How pages name the packages of {@link MADE_ENTRIES}. */
const TITLES: Record<string, string> = {
  "made-npm": "npm · @made/up 1.2.3",
  "made-npm-scripts": "npm · made-up 2.0.0",
  "made-pypi": "PyPI · made_up 1.0",
  "made-pypi-scripts": "PyPI · made-up 1.1",
  "made-nuget": "NuGet · Made.Up 3.0.1",
  "made-oci": "image · docker.io/made/up@sha256:abc000000000…",
  "made-source": "source · https://git.example/made/up@0123456789ab…",
  "made-http": "npm · @modelcontextprotocol/server-everything 2026.8.31",
};
const CONSENTING = ["made-npm-scripts", "made-pypi-scripts", "made-source"];

Deno.test({
  name: "the pages of entries of every kind of package",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, toolboxId } = world;
    await putBuiltinCatalog(db, [...builtin, ...MADE_ENTRIES]);
    const { cookie } = await signedIn(world, "member");
    const opened = await openPageApp(world);
    const { app } = opened;
    const get = async (path: string) => {
      const response = await app.request(ORIGIN + path, { headers: { cookie } });
      assert.equal(response.status, 200, path);
      return await response.text();
    };
    const deploy = (slug: string, form: Record<string, string> = {}) =>
      app.request(`${ORIGIN}/servers`, {
        method: "POST",
        body: new URLSearchParams({
          slug,
          toolboxId,
          idempotencyKey: crypto.randomUUID(),
          name: slug,
          ...form,
        }),
        headers: { cookie, origin: ORIGIN },
      });

    await t.step("the marketplace says of each where it comes from", async () => {
      const html = await get("/marketplace?q=made");
      for (const name of ["npm", "PyPI", "NuGet", "image", "source"]) {
        assert.match(html, new RegExp(`<span class="badge">${name}</span>`), name);
      }
    });

    for (const { slug } of MADE_ENTRIES) {
      await t.step(`${slug} is shown by its registry, deployed, and shown so there`, async () => {
        const entry = await get(`/marketplace/${slug}`);
        assert.ok(entry.includes(`<code>${TITLES[slug]}</code>`), TITLES[slug]);
        const asks = CONSENTING.includes(slug);
        assert.equal(entry.includes('name="consent.build"'), asks);
        if (asks) {
          const refused = await deploy(slug, { "consent.build": "false", name: "Kept name" });
          assert.equal(refused.status, 422);
          const again = await refused.text();
          assert.match(again, /agree to it, or do not deploy this entry/);
          assert.match(again, /type="checkbox" value="true"(?! checked)/);
          assert.match(
            again,
            /id="field-consent\.build"[^>]*aria-invalid="true"[^>]*aria-describedby="field-consent\.build-mistake/,
          );
          assert.match(again, /value="Kept name"/);
        }
        const made = await deploy(slug, asks ? { "consent.build": "true" } : {});
        assert.equal(made.status, 303);
        const server = await get(made.headers.get("location")!);
        assert.ok(server.includes(`<code>${TITLES[slug]}</code>`));
        assert.equal(/agreeing to/.test(server), asks, "who agreed stands in the events");
      });
    }

    await t.step("what runs at the build is said plainly, and what is not cut short", async () => {
      const source = await get("/marketplace/made-source");
      assert.match(source, /Its Dockerfile runs what it likes while the image is built/);
      assert.match(source, /I agree that its Dockerfile runs on the toolbox/);
      assert.match(source, /0123456789abcdef0123456789abcdef01234567/);
      assert.match(source, /docker\/Dockerfile<\/code> of the git repository/);
      const scripts = await get("/marketplace/made-npm-scripts");
      assert.match(scripts, /Its packages run install scripts while the image is built/);
      assert.match(scripts, /I agree that its install scripts run on the toolbox/);
      const image = await get("/marketplace/made-oci");
      assert.match(image, new RegExp(`sha256:abc0{61}`));
      assert.match(image, /<code>\/bin\/made-up &lt;b&gt;\[U\+202E\]<\/code>/);
      assert.match(image, /nothing of it runs before the server does/);
      assert.match(await get("/marketplace/made-nuget"), /No install scripts run/);
      assert.match(await get("/servers"), /PyPI · made_up 1\.0/);
    });

    await t.step("how a server speaks is said in plain words, and may be changed", async () => {
      assert.match(await get("/marketplace?q=made"), /<span class="badge">speaks HTTP<\/span>/);
      const entry = await get("/marketplace/made-http");
      const spoken = "over Streamable HTTP, at port 3001 and path /mcp of its container";
      assert.ok(entry.includes(`<dd>MCP ${spoken}</dd>`));
      assert.ok(entry.includes(`<summary>It speaks ${spoken}</summary>`));
      const plain = await get("/marketplace/made-npm");
      assert.match(plain, /<dd>MCP on standard input and output<\/dd>/);
      assert.ok(!plain.includes("speaks HTTP</span>"));

      const wrong = { "option.transport": "sse", "option.port": "0", "option.path": "sse?key=1" };
      const refused = await deploy("made-npm", wrong);
      assert.equal(refused.status, 422);
      const again = await refused.text();
      assert.match(again, /<details class="more" open/);
      assert.match(again, /The port must be a number from 1 to 65535/);
      assert.match(again, /The path must begin with a slash/);
      assert.match(again, /value="sse\?key=1"/);
      assert.match(again, /<option value="sse" selected/);
      const unsafe = await deploy("made-http", { "option.tier": "untrusted" });
      assert.match(await unsafe.text(), /reached on standard input and output alone/);

      const given = { "option.transport": "sse", "option.port": "8080", "option.path": "/sse" };
      const made = await deploy("made-npm", given);
      assert.equal(made.status, 303);
      const server = await get(made.headers.get("location")!);
      assert.match(
        server,
        /<dd>MCP over HTTP\+SSE, at port 8080 and path \/sse of its container<\/dd>/,
      );
      const configuration = await get(`${pathIn(made)}/configuration`);
      assert.match(configuration, /name="option.port"[^>]*value="8080"/);
    });

    await t.step("a remote server is added by its URL, and its key is on no page", async () => {
      const add = (form: Record<string, string>, idempotencyKey = crypto.randomUUID()) =>
        app.request(`${ORIGIN}/servers/remote`, {
          method: "POST",
          body: new URLSearchParams({ toolboxId, idempotencyKey, ...form }),
          headers: { cookie, origin: ORIGIN },
        });
      assert.match(await get("/servers/remote"), /name="header.1"[^>]*value="Authorization"/);
      const refused = await add({ url: "ftp://x", name: "Kept name" });
      assert.equal(refused.status, 422);
      const again = await refused.text();
      assert.match(again, /must be a whole URL/);
      assert.match(again, /value="Kept name"/);
      const form = {
        url: "https://mcp.example.com/mcp",
        "header.1": "Authorization",
        "env.HEADER_1_VALUE": "Bearer a-secret-key",
      };
      const key = crypto.randomUUID();
      const [made, twice] = [await add(form, key), await add(form, key)];
      assert.equal(made.status, 303);
      assert.equal(made.headers.get("location"), twice.headers.get("location"));
      const server = await get(made.headers.get("location")!);
      assert.match(server, /remote · https:\/\/mcp\.example\.com\/mcp/);
      assert.match(await get(`${pathIn(made)}/network`), /mcp\.example\.com:443/);
      const configuration = await get(`${pathIn(made)}/configuration`);
      assert.ok(!configuration.includes("option.transport"), "which its URL says");
      for (const page of [server, configuration]) assert.ok(!page.includes("a-secret-key"));
    });

    await opened.close();
    await world.close();
  },
});

/** Where an answer leads, without what it has that page say. */
function pathIn(answer: Response): string {
  return answer.headers.get("location")!.replace(/[?#].*/, "");
}
