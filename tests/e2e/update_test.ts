/** A newer version of a server's entry, on real containers and in a browser: taken by one click, and gone back from. */
import assert from "node:assert/strict";
import { Docker } from "../../dtma/docker.ts";
import { Label } from "../../dtma/policy.ts";
import { freePort } from "../free_port.ts";
import { App, eventually, withDataDirectory } from "./app.ts";
import { missing, openBrowser, photograph, WatchedPage } from "./browser.ts";

const OWNER = { OWNER_EMAIL: "ann@example.com", OWNER_PASSWORD: "a long enough password" };
const PACKAGE = "@modelcontextprotocol/server-everything";
/** Two that were published; the third was not, and the fourth is one of them that is started wrongly. */
const [FIRST, SECOND, NEVER, BROKEN] = ["2026.8.18", "2026.8.31", "2026.9.999", "2027.1.1"];

const reason = await missing();
if (reason) console.warn(`SKIPPED, updates on real containers: ${reason}`);

Deno.test({
  name: `Updates on real containers${reason ? ` (skipped: ${reason})` : ""}`,
  ignore: reason !== null,
  fn: (t) =>
    withDataDirectory(async (dataDirectory) => {
      const app = await App.start({ dataDirectory, port: freePort(), environment: OWNER });
      const docker = new Docker();
      const browser = await openBrowser();
      try {
        const context = await browser.newContext({
          viewport: { width: 1280, height: 800 },
          reducedMotion: "reduce",
        });
        await story(t, app, docker, await WatchedPage.open(context));
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
  let failed = false, serverUrl = "", container = "";
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
  /** The running containers of servers, by their generations. */
  const running = async () =>
    (await docker.listContainers([`${Label.toolbox}=${toolboxId}`]))
      .filter(({ State, Labels }) => State === "running" && Labels[Label.server])
      .map(({ Id, Labels }) => ({ id: Id, generation: Number(Labels[Label.generation]) }));
  /** The entry as a person writes it; one of the same name is replaced. */
  const write = async (
    version: string,
    more: Record<string, unknown> = {},
    published = version,
  ) => {
    await page.goto(`${app.url}/marketplace/sources`);
    await page.locator("form[action$='/write'] textarea").fill(JSON.stringify({
      name: "com.example/everything",
      title: "Everything of ours",
      description: "Shows all that the protocol has",
      version,
      packages: [{
        registryType: "npm",
        identifier: PACKAGE,
        version: published,
        transport: { type: "stdio" },
        ...more,
      }],
    }));
    await page.locator("form[action$='/write'] button").click();
    await page.getByText("Read. Its entries are in the marketplace.").waitFor();
  };
  const isUp = async (text: string) => {
    await page.goto(serverUrl);
    await page.locator("#facts", { hasText: text }).waitFor();
    await page.locator("#server-head .status.running").waitFor({ timeout: 300_000 });
  };
  const echoes = async () => {
    await page.goto(`${serverUrl}/tools/echo`);
    await page.locator("[name='arg.message']").fill("ahoy");
    await page.getByRole("button", { name: "Call the tool" }).click();
    await page.locator("#outcome.good", { hasText: "ahoy" }).waitFor();
  };

  await step("a server is deployed from an entry that was written by hand", async () => {
    await page.goto(app.url);
    await page.getByLabel("Email address").fill(OWNER.OWNER_EMAIL);
    await page.getByLabel("Password").fill(OWNER.OWNER_PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(`${app.url}/`);
    await write(FIRST);
    await page.goto(`${app.url}/marketplace?q=everything+of+ours`);
    await page.getByRole("link", { name: "Everything of ours" }).click();
    await page.locator("#trust", { hasText: `Exactly ${PACKAGE} ${FIRST}` }).waitFor();
    await page.locator("#trust", { hasText: "As an admin wrote it here" }).waitFor();
    assert.equal(await page.locator("#trust .badge.good").count(), 0, "it is not verified");
    await photograph(page, "entry-trust");
    await page.getByRole("button", { name: "Deploy" }).click();
    await page.waitForURL(/\/servers\/[0-9a-f-]{36}/);
    serverUrl = page.url().replace(/[?#].*/, "");
    await isUp(FIRST);
    [{ id: container }] = await running();
  });

  await step("having been built and handshaken here, the entry is verified", async () => {
    await page.goto(`${app.url}/marketplace?verified=yes&q=everything+of+ours`);
    await page.locator("#results .badge", { hasText: "verified" }).first().waitFor();
    await page.goto(serverUrl);
    await page.locator("#trust .badge.good").waitFor();
    await page.locator("#trust", { hasText: "sha256:" }).waitFor();
  });

  await step("a newer version shows on the list, on the page and at the entry", async () => {
    await write(SECOND);
    await page.goto(`${app.url}/servers`);
    await page.getByRole("link", { name: `update to ${SECOND}` }).waitFor();
    await photograph(page, "servers-update");
    await page.goto(`${app.url}/marketplace?q=everything+of+ours`);
    await page.getByRole("link", { name: "Everything of ours" }).click();
    await page.getByText("What changes").click();
    await page.locator(".changes", { hasText: `${PACKAGE}@${SECOND}` }).waitFor();
    await photograph(page, "entry-update");
    await page.goto(serverUrl);
    await page.locator("#update", { hasText: `${PACKAGE}@${FIRST}` }).waitFor();
    await page.locator("#update", { hasText: `${PACKAGE}@${SECOND}` }).waitFor();
    await photograph(page, "server-update");
  });

  await step("it is skipped, and offered again when asked for", async () => {
    await page.getByRole("button", { name: "Skip this version" }).click();
    await page.locator("#update", { hasText: `You skipped ${SECOND}` }).waitFor();
    await page.goto(`${app.url}/servers`);
    assert.equal(await page.getByText(`update to ${SECOND}`).count(), 0);
    await page.goto(serverUrl);
    await page.getByRole("button", { name: "Offer it again" }).click();
    await page.getByRole("button", { name: `Update to ${SECOND}` }).waitFor();
  });

  await step("one click: the next generation takes over", async () => {
    await page.getByRole("button", { name: `Update to ${SECOND}` }).click();
    await page.getByText("Updating.", { exact: false }).waitFor();
    await eventually("the newer one alone runs", async () => {
      const all = await running();
      return all.length === 1 && all[0].generation === 2;
    });
    await isUp(SECOND);
    assert.equal(await page.locator("#update").isVisible(), false);
    [{ id: container }] = await running();
    await page.goto(`${serverUrl}/tools`);
    await page.locator("#tools input[type=checkbox]").first().waitFor();
    await echoesAfterApproval();
  });

  async function echoesAfterApproval() {
    await page.locator("#tools li, #tools tr").filter({ hasText: "echo" }).first().waitFor();
    await page.locator("#tools input[type=checkbox][value*='echo']").first().check();
    await page.getByRole("button", { name: /^Approve/ }).first().click();
    await echoes();
  }

  await step("one that is nowhere to be had is gone back from, and nothing restarts", async () => {
    await write(NEVER);
    await page.goto(serverUrl);
    await page.getByRole("button", { name: `Update to ${NEVER}` }).click();
    await page.locator("#update .notice.bad", { hasText: `The update to ${NEVER}` }).waitFor({
      timeout: 300_000,
    });
    await isUp(SECOND);
    assert.deepEqual((await running()).map(({ id }) => id), [container]);
    await echoes();
  });

  await step("one that cannot start is gone back from, with why and what it wrote", async () => {
    const argument = { type: "positional", value: "nonsense", valueHint: "transport" };
    await write(BROKEN, { packageArguments: [argument] }, SECOND);
    await page.goto(serverUrl);
    await page.locator("#update", { hasText: "nonsense" }).waitFor();
    await page.getByRole("button", { name: `Update to ${BROKEN}` }).click();
    const notice = page.locator("#update .notice.bad", { hasText: `The update to ${BROKEN}` });
    await notice.waitFor({ timeout: 300_000 });
    await notice.getByText("What it wrote last").click();
    await notice.locator("pre", { hasText: /unknown/i }).waitFor();
    await photograph(page, "server-update-failed");
    await page.locator("#events", { hasText: "did not get ready, so the settings" }).waitFor();
    await isUp(SECOND);
    assert.deepEqual((await running()).map(({ id }) => id), [container]);
    await echoes();
  });
}
