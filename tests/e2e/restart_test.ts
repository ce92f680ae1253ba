/** Mooring ends in every way it can, in the middle of its work too; containers run on. */
import assert from "node:assert/strict";
import type { Page } from "npm:playwright-core@1.65.1";
import { Docker } from "../../dtma/docker.ts";
import { Label } from "../../dtma/policy.ts";
import { freePort } from "../free_port.ts";
import { App, personalToken, withDataDirectory } from "./app.ts";
import { missing, openBrowser } from "./browser.ts";

const OWNER = { OWNER_EMAIL: "ann@example.com", OWNER_PASSWORD: "a long enough password" };
const DEPLOY_TIMEOUT_MS = 300_000;

const reason = await missing() ?? (Deno.build.os === "linux" ? null : "it reads /proc");
if (reason) console.warn(`SKIPPED, restarts of the app: ${reason}`);

Deno.test({
  name: reason ? `Restarts of the app (skipped: ${reason})` : "Restarts of the app",
  ignore: reason !== null,
  fn: (t) =>
    withDataDirectory(async (dataDirectory) => {
      const port = freePort();
      const start = () => App.start({ dataDirectory, port, environment: OWNER });
      let app = await start();
      const docker = new Docker();
      const browser = await openBrowser();
      try {
        const page = await browser.newPage();
        const toolboxId = await app.toolboxId();
        await signIn(page, app.url);
        const serverUrl = await deploy(page, app.url, "everything");
        await isRunning(page);
        const before = await onlyContainer(docker, toolboxId);

        const findsEverything = async () => {
          await page.goto(serverUrl); // signed in still, or this were the sign-in page
          await isRunning(page);
          await page.goto(`${serverUrl}/tools`);
          await page.locator("#tools .tool").first().waitFor();
          assert.deepEqual(await onlyContainer(docker, toolboxId), before);
        };

        await t.step("Ctrl-C ends it cleanly; the next start finds everything", async () => {
          await page.goto("about:blank");
          assert.equal(await app.interrupt(), 0, app.output);
          assert.deepEqual(await onlyContainer(docker, toolboxId), before);
          app = await start();
          await findsEverything();
        });

        await t.step(
          "a call that is under way when the app is told to stop is answered",
          async () => {
            const server = `${app.url}/api/v1/servers/${serverUrl.slice(-36)}`;
            const headers = {
              authorization: `Bearer ${await personalToken(app.url)}`,
              "content-type": "application/json",
            };
            const post = (path: string, body: unknown) =>
              fetch(server + path, { method: "POST", headers, body: JSON.stringify(body) });
            const name = "trigger-long-running-operation";
            const { items } = await (await fetch(`${server}/tools`, { headers })).json();
            const { hash } = items.find((each: { name: string }) => each.name === name);
            await (await post("/approvals", { definitions: [{ name, hash }] })).body?.cancel();
            const called = post(`/tools/${name}/call`, { arguments: { duration: 6, steps: 2 } });
            // Nothing tells from outside that it has begun.
            await new Promise((resolve) => setTimeout(resolve, 3000));
            // The app alone: with Ctrl-C its DTMA would be told as well.
            Deno.kill((await app.pids()).app, "SIGTERM");
            const { result } = await (await called).json();
            assert.match(result.content[0].text, /completed/);
            assert.equal(await app.exited(), 0, app.output);
            assert.deepEqual(await onlyContainer(docker, toolboxId), before);
            app = await start();
          },
        );

        await t.step("kill -9 takes the DTMA along; the next start finds everything", async () => {
          await app.kill();
          assert.deepEqual(await onlyContainer(docker, toolboxId), before);
          app = await start();
          await findsEverything();
        });

        await t.step("kill -9 in the middle of a build; the deploy is completed", async () => {
          const building = await deploy(page, app.url, "filesystem");
          await page.locator("[data-layer=image].working").waitFor();
          await page.locator("pre.log", { hasText: /Step|RUN|npm/ }).waitFor();
          await app.kill();
          const done = await docker.listContainers([`${Label.server}=${building.slice(-36)}`]);
          assert.equal(done.length, 0, "the build was over before the kill");
          app = await start();
          await page.goto(building);
          await isRunning(page);
          await page.goto(`${building}/tools`);
          await page.locator("#tools .tool").first().waitFor();
        });
      } finally {
        await browser.close();
        await app.end();
        docker.close();
      }
    }),
});

async function signIn(page: Page, url: string) {
  await page.goto(url);
  await page.getByLabel("Email address").fill(OWNER.OWNER_EMAIL);
  await page.getByLabel("Password").fill(OWNER.OWNER_PASSWORD);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(`${url}/`);
}

/** @returns the address of the new server's page, which is open then */
async function deploy(page: Page, url: string, slug: string): Promise<string> {
  await page.goto(`${url}/marketplace/${slug}`);
  await page.getByRole("button", { name: "Deploy" }).click();
  await page.waitForURL(/\/servers\/[0-9a-f-]{36}$/);
  return page.url();
}

async function isRunning(page: Page) {
  await page.locator(".verdict .status.running").waitFor({ timeout: DEPLOY_TIMEOUT_MS });
}

/** Of the toolbox's only container: which it is, and since when it runs. */
async function onlyContainer(docker: Docker, toolboxId: string) {
  const found = await docker.listContainers([`${Label.toolbox}=${toolboxId}`]);
  assert.equal(found.length, 1);
  const { Id, State } = await docker.inspectContainer(found[0].Id);
  assert.ok(State.Running);
  return { id: Id, startedAt: State.StartedAt };
}
