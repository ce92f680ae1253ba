/** What forms and pages do in a browser when Mooring cannot be reached, does not take what is sent, or does. */
import assert from "node:assert/strict";
import { openTrials } from "../routes/trial_world.ts";
import { hasChromium, openBrowser, photograph } from "./browser.ts";

const isThere = await hasChromium();
if (!isThere) console.log("skipped: forms in a browser, since there is no Chromium");

Deno.test({
  name: "in a browser a form keeps what is typed until it is taken, and an old page says so",
  ignore: !isThere,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await using trials = await openTrials("shows");
    const { cookie } = await trials.person("bea@example.com");
    const browser = await openBrowser();
    try {
      const context = await browser.newContext({
        viewport: { width: 1280, height: 800 },
        locale: "de-DE",
        timezoneId: "Asia/Kolkata",
      });
      const [name, value] = cookie.split(/=(.*)/s);
      const signIn = () => context.addCookies([{ name, value, url: trials.origin }]);
      await signIn();
      const page = await context.newPage();
      const server = `${trials.origin}/servers/${trials.serverId}`;

      await t.step("a page that is not live says so until it is", async () => {
        const stream = /\/live\?/;
        await page.route(stream, (route) => route.abort());
        await page.goto(server);
        const stale = page.locator("#stale");
        await stale.getByText("this page may be out of date").waitFor();
        await photograph(page, "stale");
        await page.unroute(stream);
        await stale.getByText("out of date").waitFor({ state: "detached" });
      });

      await t.step(
        "a time is told in the page's words, and where it is exact with its zone",
        async () => {
          const time = page.locator("#events time").first();
          assert.match((await time.textContent())!, /^(now|\d+ (second|minute)s? ago)$/);
          assert.match((await time.getAttribute("title"))!, /IST|GMT\+5:30/);
        },
      );

      await t.step("what was done is not in the address to be said again", async () => {
        await page.goto(`${trials.origin}/agents?said=saved&q=x#main`);
        await page.getByText("Saved. The server is being redeployed.").waitFor();
        assert.equal(page.url(), `${trials.origin}/agents?q=x#main`);
      });

      const call = () => page.getByRole("button", { name: "Call the tool" }).click();
      const typed = page.locator("[name='arg.name']");
      const alert = page.getByRole("alert");

      await t.step("what is typed stays when Mooring is not reached", async () => {
        await page.goto(`${server}/tools/mirror`);
        await typed.fill("Ann");
        await page.route(/mirror$/, (route) => route.abort());
        await call();
        await alert.getByText("Mooring could not be reached").waitFor();
        assert.equal(await typed.inputValue(), "Ann");
        await photograph(page, "unreached");
        await page.unroute(/mirror$/);
      });

      await t.step("and when the session is over, or Mooring fails", async () => {
        await context.clearCookies();
        await call();
        await alert.getByText("Your session is over, so nothing was done").waitFor();
        assert.equal(await typed.inputValue(), "Ann");
        await signIn();
        await page.route(/mirror$/, (route) =>
          route.fulfill({
            status: 507,
            contentType: "text/html",
            body: "<!doctype html><main><h1>The disk is full</h1><p>Free some space.</p></main>",
          }));
        await call();
        await alert.getByText("The disk is full: Free some space.").waitFor();
        assert.equal(await typed.inputValue(), "Ann");
        await page.unroute(/mirror$/);
        await page.getByRole("button", { name: "Call the tool" }).press("Enter");
        await page.locator("#outcome.good", { hasText: "Ann" }).waitFor();
        assert.equal(await alert.count(), 0);
        await page.locator("button.call:focus").waitFor();
      });

      await t.step("changes that are taken back are gone from the fields", async () => {
        const { agentId, serverId } = trials;
        await page.goto(`${trials.origin}/agents/${agentId}/connections/${serverId}/tools/mirror`);
        const limit = page.getByLabel("Calls a minute");
        await limit.fill("5");
        await page.locator("[name='mode.name']").selectOption("fixed");
        await page.locator("[name='arg.name']").fill("Ann");
        await page.getByRole("button", { name: "Save" }).press("Enter");
        await page.getByText("Saved.").waitFor();
        await page.locator("button[value=save]:focus").waitFor();
        await page.getByRole("button", { name: "Take all changes back" }).press("Enter");
        await page.locator("[name='mode.name']:not(:has([value=fixed][selected]))").waitFor();
        await page.locator("#reset:focus").waitFor();
        assert.equal(await limit.inputValue(), "");
        assert.equal(await page.locator("[name='mode.name']").inputValue(), "caller");
        assert.equal(await page.locator("[name='arg.name']").inputValue(), "");
      });

      await t.step("what is shown once has the focus", async () => {
        await page.goto(`${trials.origin}/agents/${trials.agentId}`);
        const form = page.locator("form", {
          has: page.getByRole("button", { name: "Create a token" }),
        });
        await form.getByLabel("Name").fill("laptop");
        await form.getByRole("button").click();
        await page.locator(".notice:focus", { hasText: "Copy the token now" }).waitFor();
        assert.ok(await page.evaluate(() => scrollY) > 0);
        // As over plain HTTP, where a page is given no clipboard.
        await context.grantPermissions(["clipboard-read"]);
        await page.evaluate(() => {
          navigator.clipboard.writeText = () => Promise.reject(new Error("Not here"));
        });
        const copy = page.locator("[data-copy=new-token]");
        await copy.click();
        await page.getByText("Copied to the clipboard").waitFor();
        assert.equal(await copy.textContent(), "Copied");
        assert.equal(
          await page.evaluate(() => navigator.clipboard.readText()),
          await page.locator("#new-token").textContent(),
        );
      });
    } finally {
      await browser.close();
    }
  },
});
