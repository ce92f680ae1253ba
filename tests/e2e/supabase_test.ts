/** Signing in on Supabase as a person does it in Chromium; the project is a stand-in (tests/supabase). */
import assert from "node:assert/strict";
import type { Page } from "npm:playwright-core@1.65.1";
import axe from "npm:axe-core@4.10.3";
import { createLog } from "../../models/log.ts";
import { supabaseIdentity } from "../../models/supabase_identity.ts";
import { freePort } from "../free_port.ts";
import { SUPABASE } from "../models/databases.ts";
import { openPageApp } from "../routes/page_app.ts";
import { totp } from "../routes/totp.ts";
import { PUBLISHABLE_KEY, startAuthServer } from "../supabase/auth_server.ts";
import { CHROMIUM, hasChromium, openBrowser, WatchedPage } from "./browser.ts";

const reason = await hasChromium() ? null : `there is no Chromium at ${CHROMIUM}`;
if (reason) console.warn(`SKIPPED, signing in on Supabase in the browser: ${reason}`);

/** Where pictures go, if they are asked for. */
const SCREENS = Deno.env.get("SCREENS");
const PASSWORD = "a long enough password";

/** The pages over a stand-in project, at an address that browsers reach. */
async function openPages() {
  const stack = new AsyncDisposableStack();
  const database = await SUPABASE.open();
  stack.defer(() => database.close());
  const port = freePort();
  const base = `http://127.0.0.1:${port}/functions/v1/app`;
  const auth = await startAuthServer({
    owner: database.owner,
    providers: ["github", "google"],
    siteUrl: base,
  });
  stack.defer(() => auth.close());
  const identity = supabaseIdentity(database.db, {
    supabaseUrl: new URL(auth.url),
    publishableKey: PUBLISHABLE_KEY,
    baseUrl: new URL(base),
    ownerEmail: "ann@example.com",
    log: createLog("text", () => {}),
  });
  const { app, close } = await openPageApp({ db: database.db, identity }, { baseUrl: base });
  stack.defer(close);
  const server = Deno.serve(
    { hostname: "127.0.0.1", port, onListen: () => {} },
    (request) => app.fetch(request),
  );
  stack.defer(() => server.shutdown());
  const browser = await openBrowser();
  stack.defer(() => browser.close());
  await auth.addAccount({ email: "ann@example.com", password: PASSWORD });
  return { auth, base, browser, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** Holds the page as it is to axe-core's rules and to its width, in both schemes, wide and narrow. */
async function look(page: Page, name: string) {
  for (const colorScheme of ["light", "dark"] as const) {
    for (const width of [360, 1280]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      await page.evaluate(axe.source);
      // deno-lint-ignore no-explicit-any
      const { violations } = await page.evaluate("axe.run()") as any;
      const where = `${name}, ${colorScheme} at ${width}`;
      // deno-lint-ignore no-explicit-any
      assert.deepEqual(violations.map(({ id }: any) => id), [], where);
      assert.equal(
        await page.evaluate("document.documentElement.scrollWidth > innerWidth"),
        false,
        where,
      );
      if (SCREENS) {
        const path = `${SCREENS}/${name}-${colorScheme}-${width}.png`;
        await page.screenshot({ path, fullPage: true });
      }
    }
  }
}

Deno.test({
  name: "a person signs in on Supabase by password, by a mail's link and at another site",
  ignore: reason !== null || SUPABASE.ignore,
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using pages = await openPages();
    const { auth, base, browser } = pages;
    const signInPage = `${base}/sign-in`;
    const context = await browser.newContext();
    const watched = await WatchedPage.open(context);
    const { page } = watched;
    await page.goto(signInPage);
    await page.getByText("Sign in by a link in a mail").click();
    await look(page, "sign-in");
    await page.goto(`${base}/agents`);
    await page.getByLabel("Email address", { exact: false }).first().fill("ann@example.com");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(`${base}/agents`);
    const cookies = await context.cookies();
    assert.ok(cookies.every(({ httpOnly }) => httpOnly), "no script reads them");
    await page.goto(`${base}/account/security`);
    await look(page, "security");
    await page.getByText("Sign out everywhere").first().click();
    await page.getByRole("button", { name: "Sign out everywhere" }).click();
    await page.waitForURL(/sign-in/);

    await page.getByText("Sign in by a link in a mail").click();
    await page.getByLabel("Your email address").fill("ann@example.com");
    await page.getByRole("button", { name: "Send me a link" }).click();
    await page.getByText("a link that signs in is on its way").waitFor();
    await page.goto(auth.mails.at(-1)!.link);
    await page.waitForURL((url) => url.pathname.startsWith("/functions/v1/app") && !url.search);
    assert.equal(await page.getByRole("heading", { level: 1 }).count(), 1);

    await page.goto(`${base}/account/security`);
    await context.clearCookies();
    await page.goto(signInPage);
    await page.getByRole("link", { name: "Sign in with GitHub" }).click();
    await page.getByText("Your account belongs to no workspace").waitFor();
    watched.assertClean();
  },
});

Deno.test({
  name: "an authenticator app's code is asked for after a mail's link in another browser, too",
  ignore: reason !== null || SUPABASE.ignore,
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using pages = await openPages();
    const { auth, base, browser } = pages;
    const context = await browser.newContext();
    const watched = await WatchedPage.open(context);
    const { page } = watched;
    await page.goto(`${base}/account/security`);
    await page.getByLabel("Email address", { exact: false }).first().fill("ann@example.com");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(`${base}/account/security`);
    await page.getByLabel("Your password").fill(PASSWORD);
    await page.getByRole("button", { name: "Set it up" }).click();
    await page.getByText("There are no backup codes").waitFor();
    await look(page, "second-factor-key");
    const key = await page.locator("#second-factor-key").evaluate((node) =>
      (node as { value?: string }).value ?? node.textContent ?? ""
    );
    await page.getByLabel("Code of now").fill(await totp(key.trim()));
    await page.getByRole("button", { name: "Turn it on" }).click();
    await page.getByText("On: signing in asks for a code").waitFor();
    await look(page, "second-factor-on");
    await page.goto(`${base}/sign-in`);

    const other = await browser.newContext();
    const watchedThere = await WatchedPage.open(other);
    const there = watchedThere.page;
    await there.goto(`${base}/sign-in?next=/servers`);
    await there.getByText("Sign in by a link in a mail").click();
    await there.getByLabel("Your email address").fill("ann@example.com");
    await there.getByRole("button", { name: "Send me a link" }).click();
    await there.getByText("a link that signs in is on its way").waitFor();

    // In a third one, as a telephone's is.
    const phone = await browser.newContext();
    const watchedPhone = await WatchedPage.open(phone);
    const mail = watchedPhone.page;
    await mail.goto(auth.mails.at(-1)!.anyBrowsers);
    await look(mail, "mail-link");
    await mail.getByRole("button", { name: "Sign in" }).click();
    await mail.getByText("Your account asks for a code as well").waitFor();
    await look(mail, "code");
    await mail.getByLabel("Code").fill("000000");
    await mail.getByRole("button", { name: "Sign in" }).click();
    await mail.getByText("That is not the code of now").waitFor();
    await mail.getByLabel("Code").fill(await totp(key.trim()));
    await mail.getByRole("button", { name: "Sign in" }).click();
    await mail.waitForURL(`${base}/servers`);

    await there.goto(`${base}/new-password`);
    await there.getByLabel("Email address").fill("ann@example.com");
    await there.getByRole("button", { name: "Send the link" }).click();
    await there.getByText("a link is on its way").waitFor();
    await there.goto(auth.mails.at(-1)!.anyBrowsers);
    await there.getByLabel("New password").fill("another long password");
    await there.getByRole("button", { name: "Set the password" }).click();
    await there.getByText("type the password once more").waitFor();
    await look(there, "new-password-code");
    await there.getByLabel("Code").fill(await totp(key.trim()));
    await there.getByLabel("New password").fill("another long password");
    await there.getByRole("button", { name: "Set the password" }).click();
    await there.getByText("Your password is set").waitFor();
    for (const each of [watched, watchedThere, watchedPhone]) each.assertClean();
  },
});
