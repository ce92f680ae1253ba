/** A server's log and its image's parts, as a person reads them: the pages before a real data path. */
import assert from "node:assert/strict";
import { dataPath } from "../../dtma/data_path.ts";
import { EngineAbsentError } from "../../dtma/docker.ts";
import { generateSigningKey, type HostFacts } from "../../dtma/protocol.ts";
import { deployServer } from "../../models/servers.ts";
import { enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { openPageApp, ORIGIN, signedIn } from "./page_app.ts";

const HOSTILE = "<script>alert(1)</script>";

Deno.test({
  name: "the pages of what a toolbox keeps of a server",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, workspaceId, toolboxId, identity } = world;
    const { cookie } = await signedIn(world, "viewer");
    const { serverId } = await deployServer(db, world.user, {
      workspaceId,
      toolboxId,
      slug: "everything",
      name: "Ünï cörn",
      form: {},
      idempotencyKey: crypto.randomUUID(),
    }, testKey);

    const opened = await openPageApp(world);
    const { app, appSigningKey } = opened;
    const get = (path: string) => app.request(ORIGIN + path, { headers: { cookie } });

    const kept = [
      "Step 1/9 : FROM base",
      `an Error: \u001b[31mred\u202e and ${HOSTILE}`,
      "another error of the server's",
      "all is well",
    ];
    let bom: () => Promise<Record<string, unknown> | null> = () => Promise.resolve(null);
    const toolbox = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      dataPath({
        logOf: (id) => Promise.resolve(id === serverId ? kept.join("\n") + "\n" : null),
        bomOf: (id) => id === serverId ? bom() : Promise.resolve(null),
        reach: () => Promise.resolve({ unavailable: "It is stopped" }),
        appPublicKey: () => appSigningKey.publicKey,
        log: () => {},
      }),
    );
    const facts: HostFacts = {
      dtmaVersion: "0",
      protocolVersion: 2,
      reach: "direct",
      address: `http://127.0.0.1:${toolbox.addr.port}`,
      engine: { state: "absent", reason: "a test", advice: "none" },
    };
    const { publicKey } = await generateSigningKey();
    await enrolToolbox(db, { token: world.enrolmentToken, publicKey, facts });
    await touchToolbox(db, toolboxId, facts);
    const path = `/servers/${serverId}`;

    await t.step("the log is read whole, as text, of a server that is not up too", async () => {
      const html = await (await get(`${path}/log?all`)).text();
      assert.match(html, /Step 1\/9 : FROM base/);
      assert.match(html, /\[U\+001B\]\[31mred\[U\+202E\] and &lt;script&gt;/);
      for (const raw of ["\u001b", "\u202e", "<script>alert"]) assert.ok(!html.includes(raw));
    });

    await t.step("the log is searched by words, whatever their case and order", async () => {
      const html = await (await get(`${path}/log?search=ERROR+an`)).text();
      const shown = /<pre[^]*<\/pre>/.exec(html)![0];
      assert.match(shown, /an Error/);
      assert.match(shown, /another error/);
      assert.doesNotMatch(shown, /all is well|Step 1/);
      assert.match(html, /value="ERROR an"/);
      const none = await (await get(`${path}/log?search=${encodeURIComponent(HOSTILE + "x")}`))
        .text();
      assert.match(none, /No line has these words/);
      assert.equal(none.includes("<script>alert"), false);
    });

    await t.step("the log is downloaded as plain text, the search with it", async () => {
      const response = await get(`${path}/log?download`);
      assert.equal(await response.text(), kept.join("\n") + "\n");
      assert.match(response.headers.get("content-type")!, /^text\/plain/);
      assert.equal(
        response.headers.get("content-disposition"),
        'attachment; filename="uni-corn.log"',
      );
      const found = await get(`${path}/log?download&search=well`);
      assert.equal(await found.text(), "all is well\n");
    });

    await t.step("the bill of materials is linked and downloaded", async () => {
      const document = { bomFormat: "CycloneDX", components: [{ name: HOSTILE }] };
      bom = () => Promise.resolve(document);
      const response = await get(`${path}/bom`);
      assert.deepEqual(await response.json(), document);
      assert.match(response.headers.get("content-type")!, /^application\/vnd\.cyclonedx\+json/);
      assert.equal(
        response.headers.get("content-disposition"),
        'attachment; filename="uni-corn.cdx.json"',
      );
    });

    await t.step("why there is no bill of materials is told", async () => {
      bom = () => Promise.resolve(null);
      const none = await get(`${path}/bom`);
      assert.equal(none.status, 404);
      bom = () => Promise.reject(new EngineAbsentError("There is no Docker socket", "Install it"));
      const away = await get(`${path}/bom`);
      assert.equal(away.status, 409);
      assert.match(await away.text(), /cannot be read now\. There is no Docker socket/);
    });

    await t.step("strangers find neither", async () => {
      const other = (await identity.createAccount("eve@example.com", "Eve", "a long password here"))
        .getSetCookie()[0].split(";")[0];
      for (const what of ["log", "log?all", "log?download", "bom"]) {
        const response = await app.request(`${ORIGIN}${path}/${what}`, {
          headers: { cookie: other },
        });
        assert.equal([403, 404].includes(response.status), true, `${what} ${response.status}`);
        assert.equal((await response.text()).includes("all is well"), false);
      }
    });

    await t.step("a toolbox that is not there is told, with a way to try again", async () => {
      await toolbox.shutdown();
      for (const what of ["log?all", "log?search=well", "log?download", "bom"]) {
        const response = await get(`${path}/${what}`);
        assert.equal(response.status, 409, what);
        assert.match(await response.text(), /toolbox does not answer/);
      }
      // The end of it is the app's own.
      assert.equal((await get(`${path}/log`)).status, 200);
    });

    await opened.close();
    await world.close();
  },
});
