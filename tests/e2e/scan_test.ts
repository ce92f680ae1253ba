/**
 * How far a server is trusted, and what is known of its packages, in Chromium on a real container: with a
 * fake of trivy on PATH, and an engine without gVisor.
 */
import assert from "node:assert/strict";
import { putFake } from "../dtma/fake_scanner.ts";
import { freePort } from "../free_port.ts";
import { App, withDataDirectory } from "./app.ts";
import { missing, openBrowser, photograph, WatchedPage } from "./browser.ts";

const OWNER = { OWNER_EMAIL: "ann@example.com", OWNER_PASSWORD: "a long enough password" };

/** An image is built out of npm packages from the network. */
const DEPLOY_TIMEOUT_MS = 300_000;

const reason = await missing();
if (reason) console.warn(`SKIPPED, scans in the browser: ${reason}`);

Deno.test({
  name: reason ? `Scans in the browser (skipped: ${reason})` : "Scans in the browser",
  ignore: reason !== null,
  fn: () =>
    withDataDirectory(async (dataDirectory) => {
      const bin = `${dataDirectory}/bin`;
      await putFake(bin, "trivy");
      const app = await App.start({
        dataDirectory,
        port: freePort(),
        environment: { ...OWNER, PATH: `${bin}:${Deno.env.get("PATH")}` },
      });
      const browser = await openBrowser();
      try {
        const context = await browser.newContext({ reducedMotion: "reduce" });
        const watched = await WatchedPage.open(context);
        await story(app, watched);
        watched.assertClean();
      } finally {
        await browser.close();
        await app.end();
      }
    }),
});

async function story(app: App, { page }: WatchedPage) {
  await app.toolboxId();
  await page.goto(`${app.url}/sign-in`);
  await page.getByLabel("Email address").fill(OWNER.OWNER_EMAIL);
  await page.getByLabel("Password").fill(OWNER.OWNER_PASSWORD);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(`${app.url}/`);

  await page.goto(`${app.url}/toolboxes`);
  await page.getByRole("link", { name: "This machine" }).click();
  await page.locator("#toolbox", { hasText: "Scanner of images" }).waitFor();
  const host = await page.locator("#toolbox").innerText();
  assert.match(host, /Runtimes\s+.*runc/);
  assert.match(host, /Scanner of images\s+trivy/);
  const hasSandbox = !/untrusted servers are refused here/.test(host);
  await photograph(page, "toolbox-runtimes");

  await page.goto(`${app.url}/marketplace/everything`);
  if (!hasSandbox) {
    await page.getByLabel("How far you trust it").selectOption("untrusted");
    await page.getByRole("button", { name: "Deploy" }).click();
    const form = page.locator("form", { hasText: "How far you trust it" });
    await form.getByRole("alert").waitFor();
    assert.match(await form.innerText(), /has no gVisor or Kata for its Docker Engine/);
    const select = page.getByLabel("How far you trust it");
    assert.equal(await select.inputValue(), "untrusted");
    assert.equal(await select.getAttribute("aria-invalid"), "true");
    await photograph(page, "deploy-untrusted");
    await select.selectOption("standard");
  }
  await page.getByRole("button", { name: "Deploy" }).click();
  await page.waitForURL(/\/servers\//);
  const found = page.locator("#vulnerabilities", { hasText: "1 critical" });
  await found.waitFor({ timeout: DEPLOY_TIMEOUT_MS });
  assert.match(await found.innerText(), /1 critical.*1 medium.*1 low/s);
  assert.match(await found.innerText(), /Scanned .* by trivy 0\.69\.3, whose database is of/);
  assert.match(await found.innerText(), /It was shown \d\d+ packages/);
  await found.locator("summary").click();
  const link = found.getByRole("link", { name: "CVE-2099-0001" });
  assert.equal(await link.getAttribute("href"), "https://avd.aquasec.com/nvd/cve-2099-0001");
  // Other schemes are no links, and what a scanner says is text.
  assert.equal(await found.getByRole("link").count(), 1);
  assert.match(await found.innerText(), /<img src=x onerror=alert\(1\)> reaches a log\[U\+202E\]/);
  assert.match(await found.innerText(), /mended in 99\.0\.1/);
  await page.locator("#facts", { hasText: "Locked down on the toolbox's own kernel" }).waitFor();
  await photograph(page, "server-vulnerabilities");

  await page.locator("#server-tabs").getByRole("link", { name: "Configuration" }).click();
  await page.getByText("How it runs").click();
  assert.equal(await page.getByLabel("How far you trust it").inputValue(), "standard");
  const remove = page.locator(".confirm", { hasText: "Remove" });
  await remove.locator("summary").click();
  await remove.getByRole("button", { name: "Remove" }).click();
  await page.getByText("This server was removed").waitFor();
}
