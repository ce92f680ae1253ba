/** The whole story in Chromium on real containers: what a new user does, steps 1 to 8. */
import { Client, StreamableHTTPClientTransport } from "npm:@modelcontextprotocol/client@2.4.0";
import assert from "node:assert/strict";
import type { Page } from "npm:playwright-core@1.65.1";
import { Docker } from "../../dtma/docker.ts";
import { leftovers } from "../dtma/engine.ts";
import { freePort } from "../free_port.ts";
import { App, eventually, withDataDirectory } from "./app.ts";
import { missing, openBrowser, photograph, tabTo, WatchedPage } from "./browser.ts";

const PERSON = { email: "ann@example.com", name: "Ann", password: "a long enough password" };
const HOSTILE = "<script>alert(1)</script>";
/** What the first page may weigh over the wire, scripts and styles included. */
const FIRST_PAGE_BYTES = 60_000;
/** An image is built out of npm packages from the network. */
const DEPLOY_TIMEOUT_MS = 300_000;

const DOCS = new URL("../../docs", import.meta.url).pathname;

const reason = await missing();
if (reason) console.warn(`SKIPPED, the story in the browser: ${reason}`);

Deno.test({
  name: reason ? `The story in the browser (skipped: ${reason})` : "The story in the browser",
  ignore: reason !== null,
  fn: (t) =>
    withDataDirectory(async (dataDirectory) => {
      const app = await App.start({ dataDirectory, port: freePort() });
      const docker = new Docker();
      const browser = await openBrowser();
      try {
        const context = await browser.newContext({
          viewport: { width: 1280, height: 800 },
          reducedMotion: "reduce",
        });
        const watched = await WatchedPage.open(context);
        await story(t, app, docker, watched);
      } finally {
        await browser.close();
        await app.end();
        docker.close();
      }
    }),
});

async function story(t: Deno.TestContext, app: App, docker: Docker, watched: WatchedPage) {
  const { page } = watched;
  const toolboxId = await app.toolboxId();
  let failed = false;
  let catalogSize = "", serverUrl = "", thinkingUrl = "", agentUrl = "", token = "";

  /** Each step needs those before it: after a failure the rest is not tried. */
  const step = async (name: string, run: () => Promise<void>) => {
    if (failed) return;
    failed = !await t.step(name, async () => {
      try {
        await run();
        watched.assertClean();
      } catch (error) {
        await page.screenshot({ path: ".cache/screens/failure.png", fullPage: true });
        throw error;
      }
    });
  };

  await step("1. the first visit makes the owner's account", async () => {
    const weight = await weightOf(page, () => page.goto(app.url));
    console.log(`The first page weighs ${(weight / 1000).toFixed(1)} kB over the wire`);
    assert.ok(weight <= FIRST_PAGE_BYTES);
    assert.equal(page.url(), `${app.url}/setup`);
    await photograph(page, "setup");

    await page.getByLabel("One-time code").fill("wrong-code");
    await page.getByLabel("Email address").fill(PERSON.email);
    await page.getByLabel("Your name").fill(PERSON.name);
    await page.getByLabel("Password").fill(PERSON.password);
    await page.getByRole("button", { name: "Create the account" }).click();
    assert.match(await mistakeOf(page, "One-time code"), /not the code/);
    assert.equal(await page.getByLabel("Email address").inputValue(), PERSON.email);
    assert.equal(await page.getByLabel("Your name").inputValue(), PERSON.name);

    await page.getByLabel("One-time code").fill(app.code);
    await page.getByLabel("Password").fill(PERSON.password);
    await page.getByRole("button", { name: "Create the account" }).click();
    await page.waitForURL(`${app.url}/`);
    await photograph(page, "overview-empty");
  });

  await step("1. signs out and in; the set-up page is closed", async () => {
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByText("You are signed out").waitFor();
    await page.goto(`${app.url}/setup`);
    assert.equal(page.url(), `${app.url}/sign-in`);
    await photograph(page, "sign-in");
    await signIn(page, "a wrong password");
    await page.getByText("The email address or the password is wrong").waitFor();
    assert.equal(await page.getByLabel("Email address").inputValue(), PERSON.email);
    await signIn(page, PERSON.password);
    await page.waitForURL(`${app.url}/`);
  });

  await step("2. the marketplace is searched as one types", async () => {
    await page.getByRole("link", { name: "Marketplace" }).first().click();
    catalogSize = await page.locator("#results .help").innerText();
    await photograph(page, "marketplace");
    if (Deno.env.get("UPDATE_SCREENSHOTS")) await picture(page, "marketplace", "dark");
    await mark(page);
    await page.getByLabel("Search", { exact: true }).pressSequentially("everyth");
    await page.locator("#results .help", { hasText: "1 entry" }).waitFor();
    await page.getByLabel("Search", { exact: true }).fill("no such thing as qqq");
    await page.getByText("Nothing matches").waitFor();
    await assertMarked(page);
  });

  await step("2. a secret left empty is told beside its field", async () => {
    await page.goto(`${app.url}/marketplace/github`);
    await photograph(page, "entry-github");
    // As a client without the browser's own validation sends it.
    await page.locator("form[action$='/servers']").evaluate((form) => {
      (form as HTMLFormElement).noValidate = true;
    });
    await page.getByRole("button", { name: "Deploy" }).click();
    await page.locator("[aria-invalid=true]").waitFor();
    assert.match(await page.locator(".mistake").innerText(), /\S/);
    assert.equal(await page.getByLabel("Name").inputValue(), "GitHub");
  });

  await step("2. a server is deployed with the keyboard alone", async () => {
    await page.goto(`${app.url}/marketplace`);
    await tabTo(page, "searchbox", "Search");
    await page.keyboard.type("everything");
    await page.waitForURL(/q=everything/);
    await tabTo(page, "link", "Everything");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/marketplace\/everything$/);
    await tabTo(page, "button", "Deploy");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/servers\/[0-9a-f-]{36}$/);
    serverUrl = page.url();
  });

  await step("3. the build is followed as it runs, and again after one was elsewhere", async () => {
    await layer(page, "image", "working");
    const output = page.locator("pre.log", { hasText: /Step \d+\/\d+/ });
    await output.waitFor();
    await page.goto(`${app.url}/servers`);
    await page.goto(serverUrl);
    await output.waitFor();
    await page.locator("[data-layer=image].working progress").waitFor();
    await photograph(page, "server-building");
  });

  await step("3. every layer comes up before one's eyes", async () => {
    await mark(page);
    await page.getByText("Remove", { exact: true }).first().click();
    for (const name of ["host", "image", "container", "handshake", "tools"]) {
      await layer(page, name, "ready");
    }
    await page.locator(".verdict .status.running").waitFor();
    // Live updates do not close what one has opened.
    await page.locator("details.confirm[open]").waitFor();
    await page.locator("details.confirm summary").click();
    await page.locator("pre.log", { hasText: /\S/ }).waitFor();
    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: "Bill of materials" }).click();
    const bom = JSON.parse(await Deno.readTextFile(await (await download).path()));
    assert.ok(bom.components.some(({ name }: { name: string }) => /everything/.test(name)));
    const events = page.locator("#events li");
    await events.filter({ hasText: "by Ann" }).first().waitFor();
    assert.ok(await events.count() >= 3);
    for (const event of await events.all()) await event.locator("time[datetime]").waitFor();
    await assertMarked(page);
  });

  await step("4. two tools are approved with the keyboard, then all", async () => {
    // A link of before there were tabs.
    await page.goto(`${serverUrl}#tools`);
    await page.waitForURL(`${serverUrl}/tools#tools`);
    await page.locator("#tools .tool").first().waitFor();
    const tools = page.locator("#tools .tool");
    const total = await tools.count();
    assert.ok(total > 5);
    for (const name of ["echo", "get-sum"]) {
      await tabTo(page, "checkbox", name);
      await page.keyboard.press("Space");
    }
    // A live update must not take the ticks away.
    await page.getByRole("checkbox", { name: "echo", checked: true }).waitFor();
    await tabTo(page, "button", "Approve selected");
    await page.keyboard.press("Enter");
    await page.getByText("Approved. Agents that are connected").waitFor();
    const approved = page.locator("#tools .tool.approved");
    await approved.nth(1).waitFor();
    assert.equal(await approved.count(), 2);
    await page.getByRole("button", { name: `Approve all ${total - 2}` }).click();
    await page.getByText("All are approved").waitFor();
    await approved.nth(total - 1).waitFor();
    await photograph(page, "server-tools");
    await page.goto(serverUrl);
    await photograph(page, "server");
    if (Deno.env.get("UPDATE_SCREENSHOTS")) {
      await picture(page, "server", "light");
    }
  });

  await step("5. an agent is made, connected and given a token that is shown once", async () => {
    await page.getByRole("link", { name: "Agents" }).first().click();
    await photograph(page, "agents-empty");
    await page.getByLabel("Name").fill("My editor");
    await page.getByRole("button", { name: "Create" }).click();
    await page.waitForURL(/\/agents\/[0-9a-f-]{36}$/);
    agentUrl = page.url();
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByText("Connected.", { exact: true }).waitFor();
    await page.getByLabel("Name").fill("laptop");
    await page.getByRole("button", { name: "Create a token" }).click();
    token = await page.locator("#new-token").innerText();
    for (const client of ["claude-code", "cursor", "vs-code", "inspector", "any"]) {
      const text = await page.locator(`#client-${client}`).textContent();
      assert.ok(text!.includes(`${app.url}/mcp`) && text!.includes(token), client);
    }
    await photograph(page, "agent-token");
    await page.goto(agentUrl);
    assert.ok(!(await page.content()).includes(token));
    await page.getByText("MOORING_TOKEN").first().waitFor();
  });

  await step("6. a tool is tried on its page", async () => {
    await page.goto(`${serverUrl}/tools/get-sum`);
    await mark(page);
    await page.getByLabel("a", { exact: false }).first().waitFor();
    await page.locator("[name='arg.a']").fill("19");
    await page.locator("[name='arg.b']").fill("23");
    await page.getByRole("button", { name: "Call the tool" }).click();
    await page.locator("#outcome.good", { hasText: "42" }).waitFor();
    await photograph(page, "trial");
    await assertMarked(page);

    await page.goto(`${serverUrl}/tools/get-sum`);
    await page.getByText("Write the arguments as JSON instead").click();
    await page.getByLabel("Arguments as JSON").fill('{"a": "not a number", "b": 1}');
    await page.locator("#trial form").evaluate((form) => {
      (form as HTMLFormElement).noValidate = true;
    });
    await page.getByRole("button", { name: "Call the tool" }).click();
    await page.locator("#outcome.bad", { hasText: "failed" }).waitFor();
    await photograph(page, "trial-failed");
  });

  await step("7. an MCP client lists and calls the tools, and the call shows up live", async () => {
    await page.goto(agentUrl);
    await mark(page);
    await page.getByText("No call yet").waitFor();
    await withClient(app, token, async (client) => {
      const { tools } = await client.listTools();
      const echo = tools.find((tool) => tool.name.endsWith("__echo"));
      assert.ok(echo, JSON.stringify(tools.map((tool) => tool.name)));
      const result = await client.callTool({ name: echo.name, arguments: { message: "ahoy" } });
      assert.match(JSON.stringify(result.content), /ahoy/);
    });
    await page.locator("#calls td", { hasText: "✓ ok" }).first().waitFor();
    await assertMarked(page);
    await photograph(page, "agent");
  });

  await step("8. a stopped server answers an agent clearly, and starts again", async () => {
    await page.goto(serverUrl);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.locator(".verdict .status.stopped").waitFor();
    await withClient(app, token, async (client) => {
      const result = await client.callTool({ name: "everything__echo", arguments: {} });
      assert.equal(result.isError, true);
      assert.match(JSON.stringify(result.content), /stopped/i);
    });
    await photograph(page, "server-stopped");
    await page.getByRole("button", { name: "Start" }).click();
    await page.locator(".verdict .status.running").waitFor();
  });

  await step("8. a hostile name is text; a changed configuration is redeployed", async () => {
    await page.goto(`${app.url}/marketplace/sequential-thinking`);
    await page.getByLabel("Name").fill(HOSTILE);
    await page.getByRole("button", { name: "Deploy" }).click();
    await page.waitForURL(/\/servers\/[0-9a-f-]{36}$/);
    thinkingUrl = page.url();
    assert.equal(await page.locator("h1").innerText(), HOSTILE);
    await page.locator(".verdict .status.running").waitFor({ timeout: DEPLOY_TIMEOUT_MS });
    const before = await containerOf(docker, toolboxId, thinkingUrl);
    await page.getByRole("link", { name: "Configuration" }).click();
    await page.getByLabel("Keep thoughts out of the log").uncheck();
    await page.getByRole("button", { name: "Save and redeploy" }).click();
    await page.getByText("Saved. The server is being redeployed.").waitFor();
    await page.getByText("Changed the configuration by Ann").first().waitFor();
    assert.ok(!await page.getByLabel("Keep thoughts out of the log").isChecked());
    await eventually("the new generation's container is there", async () => {
      const now = await containerOf(docker, toolboxId, thinkingUrl);
      return now !== null && now.id !== before!.id && now.generation === "2";
    });
    await page.locator(".verdict .status.running").waitFor();
    const after = await containerOf(docker, toolboxId, thinkingUrl);
    await page.goto(thinkingUrl);
    await page.locator("#facts", { hasText: after!.id.slice(0, 12) }).waitFor();
    await photograph(page, "server-hostile-name");
  });

  await step("every other page holds too", async () => {
    for (
      const [name, path] of [
        ["overview", "/"],
        ["servers", "/servers"],
        ["agents", "/agents"],
        ["toolboxes", "/toolboxes"],
        ["toolbox", `/toolboxes/${toolboxId}`],
        ["entry", "/marketplace/everything"],
      ]
    ) {
      await page.goto(app.url + path);
      await photograph(page, name);
    }
    assert.ok(!(await page.content()).includes(HOSTILE));
  });

  await step("8. removed, and nothing is left behind", async () => {
    for (const url of [thinkingUrl, serverUrl]) {
      await page.goto(url);
      await page.locator("details.confirm summary").click();
      await page.getByRole("button", { name: "Remove" }).click();
      await page.getByText("This server was removed").waitFor();
    }
    await eventually("the engine holds nothing of this toolbox", async () => {
      const left = await leftovers(docker, toolboxId);
      return Object.values(left).every((each) => each.length === 0);
    });
    await page.goto(`${app.url}/servers`);
    await page.getByText("No servers yet").waitFor();
    await page.goto(`${app.url}/marketplace`);
    assert.equal(await page.locator("#results .help").innerText(), catalogSize);
  });

  const shifts = [...watched.shifts].map(([path, sum]) => `${path} ${sum.toFixed(3)}`);
  console.log(`Layout shift by page: ${shifts.join(", ")}`);
}

async function signIn(page: Page, password: string) {
  await page.getByLabel("Email address").fill(PERSON.email);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** The bytes that came over the wire for what `visit` loads. */
async function weightOf(page: Page, visit: () => Promise<unknown>): Promise<number> {
  const session = await page.context().newCDPSession(page);
  let bytes = 0;
  session.on("Network.loadingFinished", (event) => bytes += event.encodedDataLength);
  await session.send("Network.enable");
  await visit();
  await page.waitForLoadState("networkidle");
  await session.detach();
  return bytes;
}

async function mistakeOf(page: Page, label: string): Promise<string> {
  const field = page.getByLabel(label).and(page.locator("[aria-invalid=true]"));
  const ids = await field.getAttribute("aria-describedby") ?? "";
  return await page.locator(`#${ids.split(" ")[0]}`).innerText();
}

/** A mark in the page, which any navigation takes away. */
async function mark(page: Page) {
  await page.evaluate(() => Object.assign(globalThis, { marked: true }));
}

async function assertMarked(page: Page) {
  assert.ok(await page.evaluate(() => "marked" in globalThis), "The page was loaded anew");
}

async function layer(page: Page, name: string, state: string) {
  await page.locator(`[data-layer=${name}].${state}`).waitFor({ timeout: DEPLOY_TIMEOUT_MS });
}

async function picture(page: Page, name: string, colorScheme: "light" | "dark") {
  await Deno.mkdir(DOCS, { recursive: true });
  await page.emulateMedia({ colorScheme });
  await page.screenshot({ path: `${DOCS}/${name}.png` });
  await page.emulateMedia({ colorScheme: "light" });
}

async function containerOf(docker: Docker, toolboxId: string, serverUrl: string) {
  const serverId = serverUrl.slice(-36);
  const [found] = await docker.listContainers([
    `dev.mooring.toolbox=${toolboxId}`,
    `dev.mooring.server=${serverId}`,
  ]);
  return found ? { id: found.Id, generation: found.Labels["dev.mooring.generation"] } : null;
}

async function withClient(app: App, token: string, run: (client: Client) => Promise<void>) {
  const client = new Client({ name: "story", version: "1" });
  const headers = { Authorization: `Bearer ${token}` };
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`${app.url}/mcp`), { requestInit: { headers } }),
  );
  try {
    await run(client);
  } finally {
    await client.close();
  }
}
