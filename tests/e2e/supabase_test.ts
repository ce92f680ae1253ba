/** Signing in on Supabase as a person does it in Chromium; the project is a stand-in (tests/supabase). */
import assert from "node:assert/strict";
import axe from "npm:axe-core@4.10.3";
import { createLog } from "../../models/log.ts";
import { supabaseIdentity } from "../../models/supabase_identity.ts";
import { freePort } from "../free_port.ts";
import { SUPABASE } from "../models/databases.ts";
import { openPageApp } from "../routes/page_app.ts";
import { PUBLISHABLE_KEY, startAuthServer } from "../supabase/auth_server.ts";
import { CHROMIUM, hasChromium, openBrowser, WatchedPage } from "./browser.ts";

const reason = await hasChromium() ? null : `there is no Chromium at ${CHROMIUM}`;
if (reason) console.warn(`SKIPPED, signing in on Supabase in the browser: ${reason}`);

/** Where pictures go, if they are asked for. */
const SCREENS = Deno.env.get("SCREENS");
const PASSWORD = "a long enough password";

Deno.test({
  name: "a person signs in on Supabase by password, by a mail's link and at another site",
  ignore: reason !== null || SUPABASE.ignore,
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using stack = new AsyncDisposableStack();
    const database = await SUPABASE.open();
    stack.defer(() => database.close());
    const auth = await startAuthServer({ owner: database.owner, providers: ["github", "google"] });
    stack.defer(() => auth.close());
    const port = freePort();
    const base = `http://127.0.0.1:${port}/functions/v1/app`;
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

    const signInPage = `${base}/sign-in`;
    for (const colorScheme of ["light", "dark"] as const) {
      for (const width of [360, 1280]) {
        const context = await browser.newContext({
          colorScheme,
          viewport: { width, height: 800 },
          bypassCSP: false,
        });
        const watched = await WatchedPage.open(context);
        const { page } = watched;
        await page.goto(signInPage);
        await page.getByText("Sign in by a link in a mail").click();
        await page.evaluate(axe.source);
        // deno-lint-ignore no-explicit-any
        const { violations } = await page.evaluate("axe.run()") as any;
        // deno-lint-ignore no-explicit-any
        assert.deepEqual(violations.map(({ id }: any) => id), [], `${colorScheme} at ${width}`);
        const isWider = await page.evaluate("document.documentElement.scrollWidth > innerWidth");
        assert.equal(isWider, false);
        if (SCREENS) {
          await page.screenshot({ path: `${SCREENS}/sign-in-${colorScheme}-${width}.png` });
        }
        watched.assertClean();
        await context.close();
      }
    }

    const context = await browser.newContext();
    const watched = await WatchedPage.open(context);
    const { page } = watched;
    await page.goto(`${base}/agents`);
    await page.getByLabel("Email address", { exact: false }).first().fill("ann@example.com");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(`${base}/agents`);
    const cookies = await context.cookies();
    assert.ok(cookies.every(({ httpOnly }) => httpOnly), "no script reads them");
    await page.goto(`${base}/account/security`);
    if (SCREENS) await page.screenshot({ path: `${SCREENS}/security.png` });
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
