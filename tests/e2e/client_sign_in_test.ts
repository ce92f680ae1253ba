/**
 * The SDKs' own OAuth over the whole app: given the bridge's address alone, a client has its person sign in
 * and consent in Chromium, and calls a tool. The tool is one of Mooring's own, so no container is needed.
 */
import assert from "node:assert/strict";
import axe from "npm:axe-core@4.10.3";
import {
  Client,
  SSEClientTransport,
  StreamableHTTPClientTransport,
} from "npm:@modelcontextprotocol/client@2.4.0";
import { Client as ClientV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/index.js";
import { StdioClientTransport as StdioV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/stdio.js";
import { SSEClientTransport as SseV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/sse.js";
import { StreamableHTTPClientTransport as TransportV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/streamableHttp.js";
import type { Page } from "npm:playwright-core@1.65.1";
import { createAgent, getAgent } from "../../models/agents.ts";
import { localIdentity } from "../../models/local_identity.ts";
import { grantManagement } from "../../models/management_grants.ts";
import { freePort } from "../free_port.ts";
import { addMember, KINDS, openWorld } from "../models/databases.ts";
import { openPageApp } from "../routes/page_app.ts";
import { CHROMIUM, hasChromium, openBrowser, photograph, WatchedPage } from "./browser.ts";

const MCP_REMOTE = "mcp-remote@0.15.1";
const PASSWORD = "a long enough password";
const reason = await hasChromium() ? null : `there is no Chromium at ${CHROMIUM}`;
if (reason) console.warn(`SKIPPED, clients' sign-in in the browser: ${reason}`);

/** What the SDKs have a client keep; where the person is to go is kept as well. */
class Keeper {
  authorizationUrl: URL | null = null;
  // deno-lint-ignore no-explicit-any -- the SDKs' own, of two versions
  kept: Record<string, any> = {};
  constructor(readonly redirectUrl: string, readonly name: string) {}
  get clientMetadata() {
    return { client_name: this.name, redirect_uris: [this.redirectUrl] };
  }
  clientInformation = () => this.kept.client;
  saveClientInformation = (client: unknown) => void (this.kept.client = client);
  tokens = () => this.kept.tokens;
  saveTokens = (tokens: unknown) => void (this.kept.tokens = tokens);
  codeVerifier = () => this.kept.verifier;
  saveCodeVerifier = (verifier: string) => void (this.kept.verifier = verifier);
  state = () => "a state";
  redirectToAuthorization = (url: URL) => void (this.authorizationUrl = url);
}

interface Transport {
  finishAuth(code: string, iss?: string): Promise<void>;
  close(): Promise<void>;
}

Deno.test({
  name: reason ? `Clients sign in (skipped: ${reason})` : "Clients sign in through the browser",
  ignore: reason !== null,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const port = freePort(), baseUrl = `http://localhost:${port}`;
    const world = await openWorld(KINDS[0]);
    const { db, workspaceId } = world;
    const identity = localIdentity(db, { secret: "s".repeat(40), baseUrl: new URL(baseUrl) });
    const cookies = await identity.createAccount("bea@example.com", "Bea", PASSWORD);
    const cookie = cookies.getSetCookie()[0].split(";")[0];
    const bea = (await identity.userOf(new Headers({ cookie })))!;
    await addMember(world, workspaceId, bea.userId, "owner");
    const agentId = await createAgent(db, bea, workspaceId, "Bea's editor");
    await grantManagement(db, bea, agentId, {
      scopes: ["read", "servers:write"],
      asks: ["servers:write"],
    });
    const { app, close } = await openPageApp({ db, identity }, { baseUrl });
    // Streams that a page or a client holds open are not waited for.
    const ending = new AbortController();
    const http = Deno.serve(
      { hostname: "127.0.0.1", port, signal: ending.signal, onListen() {} },
      (request) => app.fetch(request, { clientIp: "127.0.0.1" }),
    );
    let returned = Promise.withResolvers<URLSearchParams>();
    const callback = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      const url = new URL(request.url);
      if (url.pathname === "/callback") returned.resolve(url.searchParams);
      return new Response("Back at the client");
    });
    const redirectUrl = `http://127.0.0.1:${callback.addr.port}/callback`;
    const home = await Deno.makeTempDir({ prefix: "mooring-client-" });
    const browser = await openBrowser();
    const watched = await WatchedPage.open(await browser.newContext({ reducedMotion: "reduce" }));
    const { page } = watched;

    /** Has the person decide. @returns what the client is told */
    async function decide(
      keeper: Keeper,
      decision: "Allow" | "Deny",
      agent: string | null = "Bea's editor",
    ) {
      returned = Promise.withResolvers();
      await page.goto(keeper.authorizationUrl!.href);
      if (new URL(page.url()).pathname === "/sign-in") await signIn(page);
      await page.getByRole("heading", { name: /use your tools/ }).waitFor();
      if (agent === null) await page.getByText("It is Bea's editor already").waitFor();
      else await page.getByRole("radio", { name: agent }).check();
      await page.getByRole("button", { name: decision }).click();
      await page.waitForURL(`${redirectUrl}?**`);
      return await returned.promise;
    }

    // deno-lint-ignore no-explicit-any -- of two versions of the SDK
    type Any = any;
    const clients: [string, () => Any, (keeper: Keeper) => Any][] = [
      [
        "SDK v2",
        () => new Client({ name: "test", version: "1" }),
        (keeper) =>
          new StreamableHTTPClientTransport(new URL(`${baseUrl}/mcp`), {
            authProvider: keeper as Any,
          }),
      ],
      [
        "SDK v2, HTTP+SSE",
        () => new Client({ name: "test", version: "1" }),
        (keeper) =>
          new SSEClientTransport(new URL(`${baseUrl}/sse`), { authProvider: keeper as Any }),
      ],
      [
        "SDK 1.x",
        () => new ClientV1({ name: "test", version: "1" }),
        (keeper) => new TransportV1(new URL(`${baseUrl}/mcp`), { authProvider: keeper as Any }),
      ],
      [
        "SDK 1.x, HTTP+SSE",
        () => new ClientV1({ name: "test", version: "1" }),
        (keeper) => new SseV1(new URL(`${baseUrl}/sse`), { authProvider: keeper as Any }),
      ],
    ];
    try {
      for (const [name, open, transportOf] of clients) {
        await t.step(`${name}: an address alone leads to a tool's answer`, async (t) => {
          const keeper = new Keeper(redirectUrl, name);
          const first: Transport = transportOf(keeper);
          await assert.rejects(open().connect(first), /[Uu]nauthorized/);
          const told = await decide(keeper, "Allow");
          assert.equal(told.get("state"), "a state");
          assert.equal(told.get("iss"), baseUrl);
          await first.finishAuth(told.get("code")!, told.get("iss")!);
          await first.close();
          const client = open();
          await client.connect(transportOf(keeper));
          const { tools } = await client.listTools();
          const tool = tools.find(({ name }: { name: string }) => /search_catalog/.test(name));
          const result = await client.callTool({ name: tool.name, arguments: { query: "memory" } });
          assert.match(JSON.stringify(result.content), /memory/i);
          const change = tools.find(({ name }: { name: string }) => /withdraw_request/.test(name));
          const changing = () =>
            client.callTool({ name: change.name, arguments: { request: crypto.randomUUID() } });
          if (name.includes("SSE")) {
            // Its answers come on a stream, where nothing but the error itself can say so.
            await assert.rejects(changing(), /ask for tools/);
          } else {
            await t.step(
              "and a call beyond what it was let leads to its person again",
              async () => {
                keeper.authorizationUrl = null;
                await assert.rejects(changing(), /[Uu]nauthorized/);
                assert.ok(keeper.authorizationUrl, "it asks its person");
                const asked = new URL(keeper.authorizationUrl).searchParams.get("scope")!;
                assert.ok(asked.split(" ").includes("tools"), asked);
                const told = await decide(keeper, "Allow", null);
                await client.transport.finishAuth(told.get("code")!, told.get("iss")!);
                assert.match(JSON.stringify(await changing()), /no such request/i);
              },
            );
          }
          await client.close();

          await t.step("and a token that is over is renewed unasked", async () => {
            keeper.kept.tokens.access_token = `moa_${"x".repeat(43)}`;
            keeper.authorizationUrl = null;
            const before = keeper.kept.tokens.refresh_token;
            const client = open();
            await client.connect(transportOf(keeper));
            assert.ok((await client.listTools()).tools.length > 0);
            assert.notEqual(keeper.kept.tokens.refresh_token, before);
            assert.equal(keeper.authorizationUrl, null);
            await client.close();
          });
        });
      }

      await t.step(
        "mcp-remote, before a client on stdio, leads its person there as well",
        async () => {
          const transport = new StdioV1({
            command: "npx",
            args: [
              "-y",
              MCP_REMOTE,
              `${baseUrl}/mcp`,
              String(freePort()),
              "--transport",
              "http-only",
            ],
            // Its tokens are kept under the home directory, and the person's browser is the test's.
            env: { PATH: Deno.env.get("PATH")!, HOME: home, BROWSER: "true" },
            stderr: "pipe",
          });
          const asked = Promise.withResolvers<URL>();
          let said = "";
          // deno-lint-ignore no-explicit-any -- node's own stream
          (transport.stderr as any).on("data", (bytes: Uint8Array) => {
            said += new TextDecoder().decode(bytes);
            const [address] = /http:\S+\/oauth\/authorize\S+(?=\s)/.exec(said) ?? [];
            if (address) asked.resolve(new URL(address));
          });
          const client = new ClientV1({ name: "test", version: "1" });
          const connected = client.connect(transport);
          connected.catch((error: unknown) => asked.reject(new Error(`${error}: ${said}`)));
          await page.goto((await asked.promise).href);
          await page.getByRole("radio", { name: "Bea's editor" }).check();
          await page.getByRole("button", { name: "Allow" }).click();
          await connected;
          const { tools } = await client.listTools();
          assert.ok(tools.some(({ name }: { name: string }) => /search_catalog/.test(name)));
          await client.close();
        },
      );

      await t.step("the person sees who asks, light and dark, wide and narrow", async () => {
        const keeper = new Keeper(
          redirectUrl,
          "An <b>editor</b> with a rather long name of its own",
        );
        await assert.rejects(
          new Client({ name: "test", version: "1" }).connect(
            new StreamableHTTPClientTransport(new URL(`${baseUrl}/mcp`), {
              authProvider: keeper as Any,
            }),
          ),
        );
        await page.goto(keeper.authorizationUrl!.href);
        await page.getByText("this computer", { exact: true }).waitFor();
        await photograph(page, "client-consent");
        assert.deepEqual(await violations(page), []);
        const told = await decide(keeper, "Deny");
        assert.equal(told.get("error"), "access_denied");
        assert.equal(told.get("code"), null);
      });

      await t.step("its clients stand on the agent's page, until they are revoked", async () => {
        await page.goto(`${baseUrl}/agents/${agentId}`);
        const section = page.getByRole("region", { name: "Connected clients" });
        assert.equal(await section.getByRole("listitem").count(), clients.length + 1);
        await photograph(page, "agent-clients");
        assert.deepEqual(await violations(page), []);
        await section.getByRole("listitem").first().getByText("Revoke").first().click();
        await page.getByRole("button", { name: "Revoke" }).last().click();
        await page.getByText("The token is revoked.").waitFor();
        const { tokens } = await getAgent(db, bea, agentId);
        assert.equal(tokens.filter(({ revokedAt }) => revokedAt).length, 1);
      });
      watched.assertClean(baseUrl);
    } finally {
      await browser.close();
      ending.abort();
      await Promise.race([http.finished, new Promise((resolve) => setTimeout(resolve, 2000))]);
      await callback.shutdown();
      await close();
      await world.close();
      await Deno.remove(home, { recursive: true });
    }
  },
});

async function signIn(page: Page) {
  await page.getByLabel("Email address").fill("bea@example.com");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

async function violations(page: Page): Promise<string[]> {
  // The policy of the page takes no script of a test's: it runs beside it.
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() =>
    // deno-lint-ignore no-explicit-any -- axe puts itself there
    (globalThis as any).axe.run(document)
  );
  return violations.map(({ id, nodes }: { id: string; nodes: { html: string }[] }) =>
    `${id}: ${nodes[0].html}`
  );
}
