/** Clients that are known by the address of their metadata, which is read over real TLS. */
import assert from "node:assert/strict";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createAgent } from "../../models/agents.ts";
import { localIdentity } from "../../models/local_identity.ts";
import { openOutside } from "../../models/outside.ts";
import { KINDS, openWorld } from "../models/databases.ts";
import { openPageApp, ORIGIN, signedIn } from "../routes/page_app.ts";
import { makeCertificates } from "./certificates.ts";
import { CALLBACK, decide, exchange, ping, request } from "./client_flow.ts";

const options = { sanitizeResources: false, sanitizeOps: false };

Deno.test("a client is known by the address of its metadata", options, async (t) => {
  const certificates = await makeCertificates(["client.test"]);
  const world = await openWorld(KINDS[0]);
  let body: (address: string) => unknown = () => null;
  let asked = 0;
  const server = createServer(certificates, (incoming, response) => {
    asked++;
    if (incoming.url === "/moved.json") {
      return void response.writeHead(302, { location: "/target.json" }).end();
    }
    const document = body(`https://client.test:${port}${incoming.url}`);
    response.writeHead(document ? 200 : 404).end(JSON.stringify(document));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const addresses = { "client.test": ["127.0.0.1"], "private.test": ["127.0.0.1"] };
  const outside = openOutside({ addresses, privateHosts: ["client.test"], ca: certificates.ca });
  const secret = "a secret for tests, long enough";
  const identity = localIdentity(world.db, { secret, baseUrl: new URL(ORIGIN), outside });
  const { app, close } = await openPageApp({ db: world.db, identity });
  const { cookie, person } = await signedIn({ ...world, identity }, "member");
  const agentId = await createAgent(world.db, person, world.workspaceId, "Ann's editor");
  const shown = async (path: string) => {
    const response = await app.request(ORIGIN + path, { headers: { cookie } });
    return { status: response.status, html: await response.text() };
  };
  const metadata = (client_id: string, more: object = {}) => ({
    client_id,
    client_name: "An editor",
    client_uri: "https://client.test",
    redirect_uris: [CALLBACK],
    token_endpoint_auth_method: "none",
    ...more,
  });
  const address = (path: string) => `https://client.test:${port}${path}`;

  await t.step("and the server says that it may", async () => {
    const response = await app.request(`${ORIGIN}/.well-known/oauth-authorization-server`);
    assert.equal((await response.json()).client_id_metadata_document_supported, true);
  });

  await t.step("its person lets it in, and its metadata is not read for each request", async () => {
    body = (address) => metadata(address);
    const client = address("/client.json");
    const { status, html } = await shown(await request(client));
    assert.equal(status, 200);
    assert.ok(html.includes(client), "the page names the address");
    const to = await decide(app, cookie, await request(client), { agent: agentId });
    const { body: tokens } = await exchange(app, client, to.searchParams.get("code")!);
    assert.equal((await ping(app, tokens.access_token)).status, 200);
    assert.equal(asked, 1);
  });

  await t.step("metadata that is another's, or does not hold, is refused", async () => {
    const wrongs: [string, (address: string) => unknown, RegExp][] = [
      ["/none.json", () => null, /no metadata of its own/],
      ["/other.json", () => metadata(address("/client.json")), /no metadata of its own/],
      [
        "/script.json",
        (address) => metadata(address, { redirect_uris: ["javascript:alert(1)"] }),
        /redirect_uris/,
      ],
      ["/unnamed.json", (address) => metadata(address, { client_name: " " }), /client_name/],
      [
        "/secret.json",
        (address) => metadata(address, { token_endpoint_auth_method: "client_secret_post" }),
        /token_endpoint_auth_method/,
      ],
      [
        "/secret-in-it.json",
        (address) => metadata(address, { client_secret: "known to all" }),
        /client_secret: has no place/,
      ],
      // Whoever can make a site redirect would speak for it.
      ["/moved.json", () => metadata(address("/moved.json")), /no metadata of its own/],
      ["/long.json", (address) => metadata(address, { more: "x".repeat(20_000) }), /more than/],
      [
        "/elsewhere.json",
        (address) => metadata(address, { redirect_uris: ["https://client.test/callback"] }),
        /not its own/,
      ],
    ];
    for (const [path, document, words] of wrongs) {
      body = document;
      const { status, html } = await shown(await request(address(path)));
      assert.equal(status, 422, path);
      assert.match(html, words);
    }
  });

  await t.step("an address that is not as URLs are written names no metadata", async () => {
    const before = asked;
    const odd = [
      address("/a/../client.json"),
      address("/%2e/client.json"),
      address("/client.json#part"),
      address("/client.json#"),
      address("/client.json").replace("client.test", "CLIENT.test"),
      address("/client.json").replace("://", "://ann:secret@"),
      address("/"),
      "https://[",
    ];
    for (const client of odd) {
      body = () => metadata(client);
      const { status, html } = await shown(await request(client));
      assert.equal(status, 422, client);
      assert.match(html, /names no metadata/, client);
    }
    assert.equal(asked, before);
  });

  await t.step("a host of a private network is not asked", async () => {
    const before = asked;
    const { status } = await shown(await request(`https://private.test:${port}/client.json`));
    assert.equal(status, 422);
    assert.equal(asked, before);
  });

  await t.step("what it says is read again after a while", async () => {
    const client = address("/client.json");
    body = (address) => metadata(address, { redirect_uris: ["https://client.test/new"] });
    assert.equal((await shown(await request(client))).status, 200);
    await world.db.asApp`
      update auth.oauth_clients set "updatedAt" = now() - interval '1 hour'`;
    assert.equal((await shown(await request(client))).status, 422);
  });

  await t.step("nobody who is not signed in makes Mooring ask an address", async () => {
    const before = asked;
    const away = await app.request(ORIGIN + await request(address("/fresh.json")));
    assert.equal(away.status, 303);
    assert.equal(asked, before);
  });

  server.close();
  await close();
  await world.close();
});
