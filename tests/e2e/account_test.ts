/** Connecting an account in Chromium: from the form to a real authorization server's pages and back. */
import assert from "node:assert/strict";
import { renewAuthorizations } from "../../models/authorizations.ts";
import { connectServer, createAgent } from "../../models/agents.ts";
import { freePort } from "../free_port.ts";
import { openApp } from "../oauth/app.ts";
import { startAuthorizationServer } from "../oauth/authorization_server.ts";
import { makeCertificates } from "../oauth/certificates.ts";
import { startProtectedServer } from "../oauth/protected_server.ts";
import { CHROMIUM, hasChromium, openBrowser, photograph, WatchedPage } from "./browser.ts";

const reason = await hasChromium() ? null : `there is no Chromium at ${CHROMIUM}`;
if (reason) console.warn(`SKIPPED, accounts in the browser: ${reason}`);

Deno.test({
  name: reason ? `Accounts in the browser (skipped: ${reason})` : "Accounts in the browser",
  ignore: reason !== null,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const certificates = await makeCertificates(["localhost"]);
    using authorizationServer = await startAuthorizationServer({ certificates });
    await using far = startProtectedServer(authorizationServer, certificates);
    const port = freePort();
    const baseUrl = `http://127.0.0.1:${port}`;
    await using app = await openApp({
      baseUrl,
      outside: { privateHosts: ["localhost"], ca: certificates.ca },
    });
    await using _http = Deno.serve(
      { hostname: "127.0.0.1", port, onListen() {} },
      (request) => app.app.fetch(request),
    );
    const browser = await openBrowser();
    try {
      const context = await browser.newContext({
        reducedMotion: "reduce",
        ignoreHTTPSErrors: true,
      });
      const watched = await WatchedPage.open(context);
      const { page } = watched;
      await page.goto(`${baseUrl}/sign-in`);
      await page.getByLabel("Email address").fill("bea@example.com");
      await page.getByLabel("Password").fill("a long enough password");
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.waitForURL(`${baseUrl}/`);

      await page.goto(`${baseUrl}/servers/remote`);
      await page.getByLabel("URL").fill(far.url);
      await page.getByLabel("Name").fill("Far away");
      const other = page.getByRole("group", { name: "Another header" });
      await other.getByLabel("Header").fill("X-Own");
      await other.getByLabel("Value").fill("the value of all");
      await photograph(page, "remote-server-form");
      await page.getByRole("button", { name: "Add and sign in" }).click();
      const onwards = page.getByRole("link", { name: /Continue to localhost/ });
      await onwards.waitFor();
      await photograph(page, "account-sign-in");
      await onwards.click();

      await page.waitForURL(/\/interaction\//);
      await page.getByPlaceholder("Enter any login").fill("bea");
      await page.getByPlaceholder("and password").fill("any");
      await page.getByRole("button", { name: "Sign-in" }).click();
      await page.getByRole("button", { name: "Continue" }).click();

      await page.locator("#said", { hasText: "The account is connected" }).waitFor();
      const account = page.locator("#account");
      await account.getByText(new URL(far.url).hostname).first().waitFor();
      assert.match(await account.innerText(), /Rights\s+tools:read/);
      await photograph(page, "account-connected");

      // The sign-in ends elsewhere: the page says so by itself.
      const serverId = /servers\/([0-9a-f-]{36})/.exec(page.url())![1];
      const { provider } = authorizationServer;
      const { headers } = await app.desired(serverId);
      const token = await provider.AccessToken.find(headers!.authorization.replace("Bearer ", ""));
      await (await provider.Grant.find(token!.grantId!))!.destroy();
      await app.due(serverId);
      await renewAuthorizations(app.deps, app.toolboxId);
      await account.getByText(/Sign in again:/).waitFor();
      await page.locator("#server-head").getByText("Sign-in needed").waitFor();
      await photograph(page, "account-signed-out");

      await account.getByRole("link", { name: "Give a client's id" }).click();
      await page.getByLabel("Client id").waitFor();
      await photograph(page, "account-client");
      await page.goBack();
      await account.getByRole("button", { name: "Sign in again" }).click();
      await page.getByRole("link", { name: /Continue to localhost/ }).click();
      await page.getByRole("button", { name: "Continue" }).click();
      await page.locator("#said", { hasText: "The account is connected" }).waitFor();

      // An agent with a header's value of its own.
      const agentId = await createAgent(app.db, app.user, app.workspaceId, "Ann's");
      await connectServer(app.db, app.user, agentId, serverId);
      await page.goto(`${baseUrl}/agents/${agentId}/connections/${serverId}`);
      await page.getByLabel("Header X-Own").fill("the value of Ann's");
      await photograph(page, "connection-account-none");
      const credentials = page.getByRole("form", { name: "Credentials of its own" });
      await credentials.getByLabel("Run an instance of the server for each agent").check();
      await credentials.getByRole("button", { name: "Save" }).click();
      await page.getByText("It has a value of its own").waitFor();
      await photograph(page, "connection-secrets");
      assert.ok(!(await page.content()).includes("the value of"));
      const { instanceInputs } = await app.desired(serverId);
      assert.equal(instanceInputs![agentId].secrets.HEADER_2_VALUE, "the value of Ann's");
      await page.getByLabel(/Take its own Header X-Own back/).check();
      await page.getByRole("button", { name: "Save" }).click();
      await page.getByText("it works with the server's own").waitFor();

      // And with an account of its own.
      const own = page.getByRole("region", { name: "Account of its own" });
      await own.getByRole("button", { name: "Connect an account" }).click();
      const there = page.getByRole("link", { name: /Continue to localhost/ });
      await there.waitFor();
      await photograph(page, "agent-account-sign-in");
      await there.click();
      await page.getByRole("button", { name: "Continue" }).click();
      await page.locator("#said", { hasText: "The account is connected" }).waitFor();
      await own.getByText("tools:read").waitFor();
      await photograph(page, "connection-account");
      const { account: its } = (await app.desired(serverId)).instanceInputs![agentId];
      assert.ok(its);
      await own.locator("summary", { hasText: "Disconnect" }).click();
      await own.getByRole("button", { name: "Disconnect" }).click();
      await page.locator("#said", { hasText: "The account is disconnected" }).waitFor();
      await own.getByText("served with the server's own account").waitFor();
      await page.goto(`${baseUrl}/servers/${serverId}`);

      await account.locator("summary", { hasText: "Disconnect" }).click();
      await account.getByRole("button", { name: "Disconnect" }).click();
      await page.locator("#said", { hasText: "The account is disconnected" }).waitFor();
      await account.getByRole("button", { name: "Connect an account" }).waitFor();
      // The authorization server's own pages load fonts from the internet.
      watched.assertClean(baseUrl);
    } finally {
      await browser.close();
    }
  },
});
