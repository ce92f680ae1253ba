/** The list of servers in Chromium: searched, ticked and acted on, with a keyboard and without script. */
import assert from "node:assert/strict";
import type { Page } from "npm:playwright-core@1.65.1";
import { v7 } from "uuid";
import { connectServer, createAgent } from "../../models/agents.ts";
import { deployServer, getServer, runServer, stopServer } from "../../models/servers.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { observation } from "../models/observation.ts";
import { openPageApp, ORIGIN, signedIn } from "../routes/page_app.ts";
import { CHROMIUM, hasChromium, openBrowser, tabTo, WatchedPage } from "./browser.ts";

const reason = await hasChromium() ? null : `there is no Chromium at ${CHROMIUM}`;
if (reason) console.warn(`SKIPPED, the list of servers in the browser: ${reason}`);

Deno.test({
  name: reason ? `The list of servers (skipped: ${reason})` : "The list of servers",
  ignore: reason !== null,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, owner, user, workspaceId, toolboxId } = world;
    const { cookie } = await signedIn(world, "member");
    const servers: string[] = [];
    for (let n = 10; n < 70; n++) {
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug: n % 2 ? "memory" : "everything",
        name: `Server n${n}`,
        form: {},
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      servers.push(serverId);
    }
    await owner`update public.toolboxes set last_seen_at = now() + interval '1 hour'`;
    await acceptReport(db, toolboxId, {
      epoch: v7(),
      sequence: 1,
      observations: servers.map((id) => observation(id, 1, [])),
      events: [],
      removed: [],
    });
    const { app, close } = await openPageApp(world);
    const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
    const origin = `http://127.0.0.1:${http.addr.port}`;
    const browser = await openBrowser();
    const open = async (options: { javaScriptEnabled?: boolean } = {}) => {
      const context = await browser.newContext({ reducedMotion: "reduce", ...options });
      const [name, value] = cookie.split(/=(.*)/s);
      await context.addCookies([{ name, value, url: origin }]);
      return context;
    };
    const isRunning = async (n: number) => (await getServer(db, user, servers[n - 10])).running;
    const row = (page: Page, n: number) => page.locator(`tr#server-${servers[n - 10]}`);
    try {
      await t.step("is searched as one types, at an address that can be shared", async () => {
        const watched = await WatchedPage.open(await open());
        const { page } = watched;
        await page.goto(`${origin}/servers`);
        await page.getByText("60 servers").waitFor();
        await page.getByRole("searchbox").fill("server-memory n1");
        await page.getByText("5 of 60 servers").waitFor();
        await page.waitForURL(`${origin}/servers?q=server-memory+n1`);
        await owner`update public.servers set name = 'Server n15 anew' where id = ${servers[5]}`;
        await page.getByRole("link", { name: "Server n15 anew" }).waitFor();
        // The choices tell what they would leave.
        await page.getByLabel("Runs from").selectOption({ label: "npm (5)" });
        await page.waitForURL(/kind=npm/);
        await page.getByRole("link", { name: "Status" }).click();
        await page.waitForURL(/sort=status/);
        await page.getByText("5 of 60 servers").waitFor();
        assert.equal(await page.getByRole("searchbox").inputValue(), "server-memory n1");
        watched.assertClean();
        await page.context().close();
      });

      await t.step("ticks outlast live updates, and an act tells of each", async () => {
        const watched = await WatchedPage.open(await open());
        const { page } = watched;
        await page.goto(`${origin}/servers`);
        await tabTo(page, "checkbox", "Select Server n11");
        await page.keyboard.press("Space");
        await tabTo(page, "checkbox", "Select Server n12");
        await page.keyboard.press("Space");
        await page.getByText("2 selected").waitFor();
        await owner`update public.servers set name = 'Renamed 13' where id = ${servers[3]}`;
        await page.getByRole("link", { name: "Renamed 13" }).waitFor();
        await page.getByText("2 selected").waitFor();
        await page.getByRole("button", { name: "Stop", exact: true }).press("Enter");
        await page.getByText("2 servers stopped.").waitFor();
        await row(page, 11).locator(".status.stopped").waitFor();
        assert.deepEqual([await isRunning(11), await isRunning(12)], [false, false]);
        await page.getByRole("button", { name: "Stop", exact: true }).click();
        await page.getByText("0 servers stopped; 2 left as they were.").waitFor();
        watched.assertClean();

        await page.getByRole("link", { name: "Select all on this page" }).click();
        await page.getByText("50 selected").waitFor();
        await page.getByRole("link", { name: "Select all on this page" }).click();
        await page.getByRole("button", { name: "Restart" }).click();
        await page.getByText("No server was selected: tick at least one.").waitFor();
        await page.context().close();
      });

      await t.step("what is removed is asked on a page of its own", async () => {
        const { page } = await WatchedPage.open(await open());
        await page.goto(`${origin}/servers?page=2`);
        await row(page, 68).getByRole("checkbox").check();
        await row(page, 69).getByRole("checkbox").check();
        await page.getByRole("button", { name: "Remove…" }).click();
        await page.getByRole("heading", { name: "Remove 2 servers?" }).waitFor();
        await page.getByRole("link", { name: "Keep them" }).click();
        await page.waitForURL(`${origin}/servers?page=2`);
        await row(page, 69).getByRole("checkbox").check();
        await page.getByRole("button", { name: "Remove…" }).click();
        await page.getByRole("button", { name: "Remove 1 server" }).click();
        await page.getByText("1 server asked to be removed.").waitFor();
        await row(page, 69).locator(".status.removing").waitFor();
        await page.context().close();
      });

      await t.step("works without script", async () => {
        const { page } = await WatchedPage.open(await open({ javaScriptEnabled: false }));
        await page.goto(`${origin}/servers`);
        await page.getByRole("searchbox").fill("Server n2");
        await page.getByRole("button", { name: "Search" }).click();
        await page.getByText("10 of 60 servers").waitFor();
        await page.getByRole("link", { name: "Select all on this page" }).click();
        const ticked = page.getByRole("checkbox", { checked: true });
        await ticked.nth(9).waitFor();
        assert.equal(await ticked.count(), 10);
        await row(page, 20).getByRole("checkbox").uncheck();
        await page.getByRole("button", { name: "Stop", exact: true }).click();
        await page.getByText("9 servers stopped.").waitFor();
        await page.getByText("10 of 60 servers").waitFor();
        assert.deepEqual([await isRunning(20), await isRunning(21)], [true, false]);
        await row(page, 20).getByRole("checkbox").check();
        await page.getByRole("button", { name: "Remove…" }).click();
        await page.getByRole("link", { name: "Keep it" }).click();
        await page.waitForURL(`${origin}/servers?q=Server+n2`);
        await page.goto(`${origin}/servers/${servers[0]}#generations`);
        await page.getByRole("link", { name: "Configuration" }).click();
        await page.getByRole("heading", { name: "Generations" }).waitFor();
        await page.context().close();
      });

      await t.step("the picture of connections is narrowed down, and follows changes", async () => {
        const agentId = await createAgent(db, user, workspaceId, "Editor");
        for (const id of servers.slice(10, 13)) await connectServer(db, user, agentId, id);
        const watched = await WatchedPage.open(await open());
        const { page } = watched;
        await page.goto(`${origin}/agents`);
        await page.getByRole("link", { name: "Picture of all connections" }).click();
        const node = page.locator("svg a.node");
        await node.filter({ hasText: "Server n20" }).waitFor();
        assert.equal(await node.count(), 5, "an agent, three servers, a toolbox");
        await page.getByLabel("State").focus();
        await page.getByLabel("State").selectOption("server_down");
        await page.waitForURL(/\?state=server_down$/);
        await node.filter({ hasText: "Server n20" }).waitFor({ state: "detached" });
        const focused = await page.evaluate(() => document.activeElement!.id);
        assert.equal(focused, "filter-state", "the focus stays");
        await runServer(db, user, servers[11]);
        await stopServer(db, user, servers[10]);
        await node.filter({ hasText: "Server n20" }).filter({ hasText: "Stopped" }).waitFor();
        await tabToNode(page, "Server n20");
        await page.keyboard.press("Enter");
        await page.waitForURL(`${origin}/servers/${servers[10]}`);
        watched.assertClean();
        await page.context().close();
      });

      await t.step("a list in an address or a form leads to this list alone", async () => {
        const post = (form: Record<string, string>) =>
          app.request(`${ORIGIN}/servers/acts`, {
            method: "POST",
            headers: { cookie, origin: ORIGIN },
            body: new URLSearchParams({ list: "https://evil.example/servers?q=x", ...form }),
          });
        const asked = await post({ act: "removal", server: servers[0] });
        const place = asked.headers.get("location")!;
        assert.match(place, /^\/servers\/remove\?server=[0-9a-f-]{36}&list=%2Fservers%3Fq%3Dx$/);
        const html = await (await app.request(ORIGIN + place, { headers: { cookie } })).text();
        assert.ok(!html.includes("evil.example"));
        assert.equal((await post({ act: "drop", server: servers[0] })).status, 422);
        const none = await post({ act: "stop", server: "' or 1=1" });
        assert.equal(none.status, 422);
        assert.match(await none.text(), /tick at least one/);
      });
    } finally {
      await browser.close();
      await http.shutdown();
      await close();
      await world.close();
    }
  },
});

async function tabToNode(page: Page, name: string) {
  const target = page.locator("svg a.node").filter({ hasText: name });
  for (let presses = 0; presses < 100; presses++) {
    await page.keyboard.press("Tab");
    if (await target.evaluate((node) => node === document.activeElement)) return;
  }
  assert.fail(`${name} is not reached with the Tab key`);
}
