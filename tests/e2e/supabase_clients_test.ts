/** A client's sign-in on Supabase as its person sees it in Chromium; the project is a stand-in (tests/supabase). */
import assert from "node:assert/strict";
import axe from "npm:axe-core@4.10.3";
import { Client, StreamableHTTPClientTransport } from "npm:@modelcontextprotocol/client@2.4.0";
import type { Page } from "npm:playwright-core@1.65.1";
import { SUPABASE } from "../models/databases.ts";
import { Keeper } from "../supabase/keeper.ts";
import { openProject, PASSWORD } from "../supabase/project.ts";
import { CHROMIUM, hasChromium, openBrowser, photograph, WatchedPage } from "./browser.ts";

const reason = await hasChromium() ? null : `there is no Chromium at ${CHROMIUM}`;
if (reason) console.warn(`SKIPPED, clients' sign-in on Supabase in the browser: ${reason}`);

Deno.test({
  name:
    "a client that is given the address alone leads its person through Supabase to a tool's answer",
  ignore: reason !== null || SUPABASE.ignore,
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using stack = new AsyncDisposableStack();
    const project = stack.use(await openProject({ oauth: true }));
    const { base, ann } = project;
    const returned: URL[] = [];
    const callback = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
      const url = new URL(request.url);
      if (url.pathname === "/callback") returned.push(url);
      // Without a page the second time, so that the browser stays at Mooring's.
      return returned.length > 1
        ? new Response(null, { status: 204 })
        : new Response("Back at the client");
    });
    stack.defer(() => callback.shutdown());
    const keeper = new Keeper(`http://127.0.0.1:${callback.addr.port}/callback`);
    const transport = () =>
      new StreamableHTTPClientTransport(new URL(`${base}/mcp`), { authProvider: keeper });
    const open = () => new Client({ name: "test", version: "1" });
    const browser = await openBrowser();
    stack.defer(() => browser.close());
    const watched = await WatchedPage.open(await browser.newContext({ reducedMotion: "reduce" }));
    const { page } = watched;

    const first = transport();
    await assert.rejects(open().connect(first), /[Uu]nauthorized/);
    await page.goto(keeper.authorizationUrl!.href);
    await page.getByLabel("Email address", { exact: false }).first().fill("ann@example.com");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await page.getByRole("heading", { name: /use your tools/ }).waitFor();
    await page.getByText("It also learns your email address").waitFor();
    await photograph(page, "supabase-client-consent");
    assert.deepEqual(await violations(page), []);
    await page.getByRole("radio", { name: "Editor" }).check();
    await page.getByRole("button", { name: "Allow" }).click();
    await page.waitForURL(`${keeper.redirectUrl}?**`);
    await first.finishAuth(returned.at(-1)!.searchParams.get("code")!);
    await first.close();
    const client = open();
    await client.connect(transport());
    const { tools } = await client.listTools();
    const tool = tools.find(({ name }) => name.endsWith("search_catalog"))!;
    const result = await client.callTool({ name: tool.name, arguments: { query: "memory" } });
    assert.match(JSON.stringify(result.content), /memory/i);
    await client.close();

    // Signed out at the client, it comes back without a question.
    keeper.kept.tokens = undefined;
    const again = transport();
    await assert.rejects(open().connect(again), /[Uu]nauthorized/);
    await page.goto(keeper.authorizationUrl!.href);
    await page.getByRole("heading", { name: "Allowed before" }).waitFor();
    await photograph(page, "supabase-allowed-before");
    assert.deepEqual(await violations(page), []);
    await again.close();

    await page.goto(`${base}/agents/${ann.agentId}`);
    const section = page.getByRole("region", { name: "Connected clients" });
    assert.equal(await section.getByRole("listitem").count(), 1);
    await section.getByText("Revoke").first().click();
    await page.getByRole("button", { name: "Revoke" }).last().click();
    await page.getByText("The token is revoked.").waitFor();
    assert.equal(project.auth.oauth!.consents.size, 0);
  },
});

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  // deno-lint-ignore no-explicit-any -- axe puts itself there
  const { violations } = await page.evaluate("axe.run()") as any;
  return violations.map(({ id }: { id: string }) => id);
}
