import assert from "node:assert/strict";
import axe from "npm:axe-core@4.10.3";
import type { Page } from "npm:playwright-core@1.65.1";
import { serverEverything } from "../dtma/stdio_server.ts";
import { openTrials } from "../routes/trial_world.ts";
import { hasChromium, openBrowser, photograph, WatchedPage } from "./browser.ts";

const isThere = await hasChromium();
if (!isThere) console.log("skipped: trials in a browser, since there is no Chromium");

/** The servers are processes of their own and no containers: story_test.ts has those. */
async function inBrowser(
  fixture: string,
  run: (watched: WatchedPage, tool: (name: string) => string) => Promise<void>,
) {
  await using trials = await openTrials(fixture);
  const { cookie } = await trials.person(`${crypto.randomUUID()}@example.com`);
  const browser = await openBrowser();
  try {
    const context = await browser.newContext({
      viewport: { width: 1280, height: 800 },
      reducedMotion: "reduce",
    });
    const [name, value] = cookie.split(/=(.*)/s);
    await context.addCookies([{ name, value, url: trials.origin }]);
    const watched = await WatchedPage.open(context);
    await run(watched, (name) => `${trials.origin}/servers/${trials.serverId}/tools/${name}`);
    watched.assertClean();
  } finally {
    await browser.close();
  }
}

/** No violation that axe-core finds. */
async function assertAccessible(page: Page) {
  await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    // deno-lint-ignore no-explicit-any
    const { violations } = await (globalThis as any).axe.run();
    // deno-lint-ignore no-explicit-any
    return violations.map((v: any) => `${v.id}: ${v.nodes.map((n: any) => n.html).slice(0, 3)}`);
  });
  assert.deepEqual(found, []);
}

const options = { ignore: !isThere, sanitizeResources: false, sanitizeOps: false };

Deno.test({
  name:
    "in a browser rows are added in place, and every type of content is shown within the policy",
  ...options,
  fn: () =>
    inBrowser("shows", async (watched, tool) => {
      const { page } = watched;
      await page.goto(tool("mirror"));
      await page.evaluate(() => Object.assign(globalThis, { marked: true }));
      await page.getByLabel("name", { exact: false }).first().fill("Ann");
      await page.getByRole("button", { name: "Add a row to tags" }).click();
      await page.locator("[name='arg.tags.0']").fill("red");
      await page.getByRole("button", { name: "Add a row to tags" }).click();
      await page.locator("[name='arg.tags.1']").fill("blue");
      await page.getByRole("button", { name: "Remove row 1 of tags" }).click();
      await page.locator("[name='arg.tags.0']").waitFor({ state: "detached" });
      const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label"));
      assert.equal(await focused(), "Add a row to tags", "the focus stays where the row was");
      await page.locator("[name='arg.where#choice']").selectOption({ label: "A place" });
      await page.getByRole("button", { name: "Show its fields" }).click();
      await page.locator("[name='arg.where.x']").fill("2");
      await page.getByRole("button", { name: "Add a property to env" }).click();
      await page.locator("[name='arg.env#key.0']").fill("HOME");
      await page.locator("[name='arg.env#value.0']").fill("/root");
      await page.locator("[name='arg.file#file']").setInputFiles({
        name: "x.bin",
        mimeType: "application/octet-stream",
        buffer: Buffer.from([0, 1, 2]),
      });
      await photograph(page, "trial-form");
      await assertAccessible(page);
      await page.getByRole("button", { name: "Call the tool" }).click();
      const answer = page.locator("#outcome.good pre").first();
      await answer.waitFor();
      assert.deepEqual(JSON.parse((await answer.textContent())!), {
        name: "Ann",
        tags: ["blue"],
        where: { x: 2 },
        env: { HOME: "/root" },
        file: "AAEC",
        many: 3,
      });
      assert.match(page.url(), /\/runs\/[0-9a-f-]+$/);
      assert.ok(await page.evaluate(() => "marked" in globalThis), "The page was loaded anew");

      await page.getByText("Write the arguments as JSON instead").click();
      const raw = page.getByLabel("Arguments as JSON");
      await page.locator("[name='arg.many']").fill("2");
      await raw.fill('{"name": "Bo"}');
      await page.getByRole("button", { name: "Fill the fields from the JSON" }).click();
      await page.getByText("The fields are filled from the JSON.").waitFor();
      assert.equal(await page.locator("[name='arg.name']").inputValue(), "Bo");
      assert.equal(await page.locator("[name='arg.many']").inputValue(), "", "not in the JSON");
      assert.equal(await raw.inputValue(), "", "the fields are what is sent");
      await page.locator("[name='arg.many']").fill("99");
      await page.getByRole("button", { name: "Call the tool" }).click();
      await page.getByText("many must be at most 9").waitFor();
      await page.locator("[name='arg.many']:focus").waitFor();

      await page.goto(tool("shows"));
      await page.getByRole("button", { name: "Call the tool" }).click();
      await page.locator("#outcome.good").waitFor();
      await page.locator("#history", { hasText: "✓ Answered" }).waitFor();
      const image = page.locator("#outcome img").first();
      assert.equal(await image.evaluate((image: HTMLImageElement) => image.naturalWidth), 1);
      assert.equal(await page.locator("#outcome img").count(), 1);
      const sound = page.locator("#outcome audio");
      await sound.evaluate((sound: HTMLAudioElement) =>
        new Promise((resolve, reject) => {
          if (sound.readyState > 0) return resolve(null);
          sound.onloadedmetadata = resolve;
          sound.onerror = () => reject(new Error("The sound is refused"));
          sound.load();
        })
      );
      await photograph(page, "trial-content");
      await assertAccessible(page);
    }),
});

Deno.test({
  name: "in a browser progress, a question and an image of server-everything come live",
  ...options,
  fn: async () =>
    await inBrowser(await serverEverything(), async (watched, tool) => {
      const { page } = watched;
      await page.goto(tool("trigger-long-running-operation"));
      await page.locator("[name='arg.duration']").fill("6");
      await page.getByRole("button", { name: "Call the tool" }).click();
      // Each stands there for a second alone.
      await page.locator("#run-head", { hasText: /[1-4] of 5/ }).waitFor();
      await photograph(page, "trial-progress");
      await assertAccessible(page);
      await page.locator("#outcome.good", { hasText: "completed" }).waitFor();
      await page.locator("#history", { hasText: "✓ Answered" }).waitFor();

      await page.goto(tool("trigger-elicitation-request"));
      await page.getByRole("button", { name: "Call the tool" }).click();
      await page.getByText("The server asks you").waitFor();
      await page.locator("[name$='.name']").fill("Dora");
      await photograph(page, "trial-question");
      await assertAccessible(page);
      // What does not hold is told and kept, while the page follows the run.
      await page.locator("[name$='.email']").fill("nobody");
      await page.locator("form.question").evaluate((form: HTMLFormElement) => {
        form.noValidate = true;
      });
      const live = page.waitForResponse(/\/live\?questions=./);
      await page.getByRole("button", { name: "Answer" }).click();
      await page.getByText("must be an email address").waitFor();
      await live;
      await page.waitForTimeout(1000);
      await page.locator("[name$='.email'][aria-invalid=true]:focus").waitFor();
      assert.equal(await page.locator("[name$='.name']").inputValue(), "Dora");
      await page.locator("[name$='.email']").fill("dora@example.com");
      await page.getByRole("button", { name: "Answer" }).click();
      await page.locator("#outcome.good", { hasText: "Name: Dora" }).waitFor();

      await page.goto(tool("get-tiny-image"));
      await page.getByRole("button", { name: "Call the tool" }).click();
      await page.locator("#outcome img").waitFor();
      await page.goto(tool("get-structured-content"));
      await photograph(page, "trial-choices");
      await assertAccessible(page);

      await page.goto(tool("trigger-long-running-operation"));
      await page.locator("[name='arg.duration']").fill("60");
      await page.getByRole("button", { name: "Call the tool" }).click();
      await page.getByRole("button", { name: "Cancel the call" }).click();
      await page.locator("#run-head", { hasText: "Cancelled" }).waitFor();
    }),
});
