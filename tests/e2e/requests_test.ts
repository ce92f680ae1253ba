/**
 * An agent asks, a person approves in the browser, and the server runs on the real engine: from the first
 * call of a real MCP client to a call of the tool that it asked for.
 */
import { Client, StreamableHTTPClientTransport } from "npm:@modelcontextprotocol/client@2.4.0";
import assert from "node:assert/strict";
import { freePort } from "../free_port.ts";
import { App, eventually, withDataDirectory } from "./app.ts";
import { missing, openBrowser, photograph, WatchedPage } from "./browser.ts";

const PASSWORD = "a long enough password";
/** An image is built out of npm packages from the network. */
const DEPLOY_TIMEOUT_MS = 300_000;

const reason = await missing();
if (reason) console.warn(`SKIPPED, an agent's request in the browser: ${reason}`);

// deno-lint-ignore no-explicit-any
type Result = any;

Deno.test({
  name: reason
    ? `An agent's request, approved in the browser (skipped: ${reason})`
    : "An agent's request, approved in the browser",
  ignore: reason !== null,
  fn: (t) =>
    withDataDirectory(async (dataDirectory) => {
      const environment = { OWNER_EMAIL: "ann@example.com", OWNER_PASSWORD: PASSWORD };
      const app = await App.start({ dataDirectory, port: freePort(), environment });
      const browser = await openBrowser();
      const clients: Client[] = [];
      try {
        await app.toolboxId();
        const context = await browser.newContext({
          viewport: { width: 1280, height: 800 },
          reducedMotion: "reduce",
        });
        const watched = await WatchedPage.open(context);
        const { page } = watched;
        let token = "";

        const clientOf = async (capabilities = {}) => {
          const client = new Client({ name: "requests", version: "1" }, {
            capabilities,
            versionNegotiation: { mode: "auto" },
          });
          clients.push(client);
          const headers = { Authorization: `Bearer ${token}` };
          await client.connect(
            new StreamableHTTPClientTransport(new URL(`${app.url}/mcp`), {
              requestInit: { headers },
            }),
          );
          return client;
        };
        const call = async (client: Client, name: string, args = {}): Promise<Result> => {
          const result = await client.callTool({ name: `mooring__${name}`, arguments: args });
          assert.notEqual(result.isError, true, JSON.stringify(result.content));
          return result.structuredContent;
        };

        await t.step("an agent is let ask", async () => {
          await page.goto(`${app.url}/sign-in`);
          await page.getByLabel("Email address").fill("ann@example.com");
          await page.getByLabel("Password").fill(PASSWORD);
          await page.getByRole("button", { name: "Sign in" }).click();
          await page.waitForURL(`${app.url}/`);
          await page.goto(`${app.url}/requests`);
          await photograph(page, "requests-empty");
          await page.goto(`${app.url}/agents`);
          await page.getByLabel("Name").fill("Claude");
          await page.getByRole("button", { name: "Create" }).click();
          await page.getByLabel("Search the catalog").check();
          await page.locator("form[action$='/management'] button").click();
          await page.getByText("Saved. The agent's toolbelt").waitFor();
          await page.locator("form[action$='/tokens'] [name=name]").fill("laptop");
          await page.getByRole("button", { name: "Create a token" }).click();
          token = await page.locator("#new-token").innerText();
        });

        const agent = await clientOf();
        let request: Result;
        await t.step("it finds a server and asks for it", async () => {
          const { items } = await call(agent, "search_catalog", { query: "everything" });
          assert.equal(items[0].slug, "everything");
          ({ request } = await call(agent, "deploy_server", {
            entry: "everything",
            name: "Trial",
            reason: "You asked me to\u202e add numbers",
          }));
          assert.equal(request.state, "open");
        });

        await t.step("a person sees what it would do, and approves it", async () => {
          await page.goto(`${app.url}/requests`);
          await page.getByText("You asked me to[U+202E] add numbers").waitFor();
          await photograph(page, "requests");
          await page.getByRole("link", { name: "Look at it" }).click();
          await page.waitForURL(`${app.url}/requests/${request.id}`);
          await photograph(page, "request");
          await page.getByRole("button", { name: "Approve and deploy" }).click();
          await page.getByText("Approved, and done").waitFor();
          await page.locator(".verdict .status.running").waitFor({ timeout: DEPLOY_TIMEOUT_MS });
          await page.locator("#server-tabs").getByRole("link", { name: /^Tools/ }).click();
          await page.locator("#tools").getByRole("button", { name: /^Approve all/ }).click();
          await page.getByText("All are approved").waitFor();
        });

        let server = "";
        await t.step(
          "the agent is told, and asks to be connected by showing the page",
          async () => {
            const told = await call(agent, "get_request", { request: request.id });
            assert.equal(told.state, "approved");
            server = told.server;
            assert.equal((await call(agent, "get_server", { server })).status, "running");
            const showing = await clientOf({ elicitation: { url: {} } });
            showing.setRequestHandler("elicitation/create", async ({ params }) => {
              // As a client's person does who says yes to the address that is shown.
              await page.goto((params as { url: string }).url);
              await page.getByRole("button", { name: "Approve and connect" }).click();
              await page.getByText("Approved, and done").waitFor();
              return { action: "accept" };
            });
            await showing.listTools();
            const connected = await call(showing, "connect_server", { server });
            assert.equal(connected.request.state, "approved");
          },
        );

        await t.step("and calls the tool that it asked for", async () => {
          const sum = async () =>
            (await agent.listTools()).tools.find(({ name }) => name === "trial__get-sum");
          await eventually("the agent gets the tool", async () => await sum() !== undefined);
          const result = await agent.callTool({
            name: "trial__get-sum",
            arguments: { a: 19, b: 23 },
          });
          assert.match(JSON.stringify(result.content), /42/);
        });

        await t.step("asked again it is there, and the events tell of it all", async () => {
          const again = await call(agent, "deploy_server", { entry: "everything", name: "Trial" });
          assert.equal(again.id, server);
          await page.goto(`${app.url}/workspace`);
          for (
            const said of [
              "Claude may manage Mooring: read, deploy servers when a person approves",
              "Claude asks to deploy Everything as Trial",
              "Approved what Claude asked for: to deploy Everything as Trial",
              "Approved what Claude asked for: to connect itself to Trial",
            ]
          ) await page.getByText(said).first().waitFor();
          await page.goto(`${app.url}/requests`);
          await page.getByText("Nothing waits for you").waitFor();
          watched.assertClean();
        });
      } finally {
        for (const client of clients) await client.close();
        await browser.close();
        await app.end();
      }
    }),
});
