/**
 * Passkeys in Chromium: made, used from the button and from the address's field, renamed, removed. The
 * authenticator is Chromium's own virtual one (WebDriver's extension of WebAuthn): nobody has a finger here.
 */
import assert from "node:assert/strict";
import axe from "npm:axe-core@4.10.3";
import type { CDPSession, Page } from "npm:playwright-core@1.65.1";
import { localIdentity } from "../../models/local_identity.ts";
import { freePort } from "../free_port.ts";
import { addMember, KINDS, openWorld } from "../models/databases.ts";
import { openPageApp } from "../routes/page_app.ts";
import { CHROMIUM, hasChromium, openBrowser, photograph, WatchedPage } from "./browser.ts";

const PASSWORD = "a long enough password";
const reason = await hasChromium() ? null : `there is no Chromium at ${CHROMIUM}`;
if (reason) console.warn(`SKIPPED, passkeys in the browser: ${reason}`);

Deno.test({
  name: reason ? `Passkeys in the browser (skipped: ${reason})` : "Passkeys in the browser",
  ignore: reason !== null,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const port = freePort(), baseUrl = `http://localhost:${port}`;
    const world = await openWorld(KINDS[0]);
    const identity = localIdentity(world.db, { secret: "s".repeat(40), baseUrl: new URL(baseUrl) });
    const cookies = await identity.createAccount("bea@example.com", "Bea", PASSWORD);
    const cookie = cookies.getSetCookie()[0].split(";")[0];
    const { userId } = (await identity.userOf(new Headers({ cookie })))!;
    await addMember(world, world.workspaceId, userId, "viewer");
    const { app, close } = await openPageApp({ db: world.db, identity }, { baseUrl });
    const http = Deno.serve(
      { hostname: "127.0.0.1", port, onListen() {} },
      (request) => app.fetch(request, { clientIp: "127.0.0.1" }),
    );
    const browser = await openBrowser();
    try {
      const watched = await WatchedPage.open(
        await browser.newContext({ reducedMotion: "reduce" }),
      );
      const { page } = watched;
      const cdp = await page.context().newCDPSession(page);
      const authenticator = await addAuthenticator(cdp, true);

      await t.step("signs in by password without a passkey, as ever", async () => {
        await page.goto(`${baseUrl}/sign-in`);
        await photograph(page, "sign-in-passkey");
        assert.deepEqual(await violations(page), []);
        await signInByPassword(page);
        await page.waitForURL(`${baseUrl}/**`);
      });

      await t.step("a wrong password makes none", async () => {
        await page.goto(`${baseUrl}/account/security`);
        await page.getByText("You have none yet.").waitFor();
        await addPasskey(page, "My key", "wrong wrong wrong");
        await page.getByText("That is not your present password").waitFor();
        assert.equal((await credentials(cdp, authenticator)).length, 0);
      });

      await t.step("a session that ended meanwhile is told", async () => {
        const context = await browser.newContext();
        await context.addCookies(await page.context().cookies());
        const late = await context.newPage();
        await late.goto(`${baseUrl}/account/security`);
        await context.clearCookies();
        await addPasskey(late, "My key", PASSWORD);
        await late.getByText("Your session is over: sign in in another tab").waitFor();
        await context.close();
      });

      await t.step("makes one that the authenticator keeps", async () => {
        await addPasskey(page, "My <b>key</b>", PASSWORD);
        await page.getByText("The passkey signs you in from now on.").waitFor();
        await page.getByText("My <b>key</b>").first().waitFor();
        const [made] = await credentials(cdp, authenticator);
        assert.equal(made.rpId, "localhost");
        assert.equal(made.isResidentCredential, true);
        await photograph(page, "account-passkeys");
        assert.deepEqual(await violations(page), []);
      });

      await t.step(
        "a second factor's key is shown as a picture, as text and as codes",
        async () => {
          const form = page.locator("form[action$='/second-factor']");
          await form.getByLabel("Your password").fill(PASSWORD);
          await form.getByRole("button", { name: "Set it up" }).click();
          await page.getByRole("img", { name: /QR code/ }).waitFor();
          await photograph(page, "account-second-factor");
          assert.deepEqual(await violations(page), []);
          const download = page.waitForEvent("download");
          await page.getByRole("link", { name: "Download them" }).click();
          assert.equal((await download).suggestedFilename(), "mooring-backup-codes.txt");
          await page.goto(`${baseUrl}/account/security`);
        },
      );

      await t.step("the same authenticator is told that it has one", async () => {
        await addPasskey(page, "Again", PASSWORD);
        await page.getByText("has a passkey of yours already").waitFor();
      });

      await t.step("is offered in the address's field, and signs in from there", async () => {
        await signOut(page);
        // The virtual authenticator picks what the browser offers.
        await page.waitForURL((url) => url.pathname === "/");
        await page.goto(`${baseUrl}/account/security`);
        await page.getByText(/used now|used .* ago/).first().waitFor();
      });

      await t.step("signs in from the button, and to the page that was asked for", async () => {
        // From here on a browser that offers none in the field.
        await page.addInitScript(`
          PublicKeyCredential.isConditionalMediationAvailable = () => Promise.resolve(false);
        `);
        await signOut(page);
        await page.goto(`${baseUrl}/sign-in?next=%2Faccount`);
        const button = page.getByRole("button", { name: "Sign in with a passkey" });
        await button.waitFor();
        await button.click();
        await page.waitForURL(`${baseUrl}/account`);
      });

      await t.step("is renamed, and removed after a question", async () => {
        await page.goto(`${baseUrl}/account/security`);
        await page.locator("summary", { hasText: "Rename" }).click();
        await page.locator("details[open]").getByRole("textbox").fill("Work phone");
        await page.locator("details[open]").getByRole("button", { name: "Rename" }).click();
        await page.getByText("The passkey has another name now.").waitFor();
        await page.getByText("Work phone").first().waitFor();
        await page.locator("li summary", { hasText: "Remove" }).click();
        await page.locator("details[open]").getByRole("button", { name: "Remove" }).click();
        await page.getByText("The passkey signs nobody in any more.").waitFor();
        await page.getByText("You have none yet.").waitFor();
      });

      await t.step(
        "one that was removed signs nobody in, and its page says what to do",
        async () => {
          await signOut(page);
          await page.goto(`${baseUrl}/sign-in`);
          await page.getByRole("button", { name: "Sign in with a passkey" }).click();
          await page.getByText("Mooring does not know this passkey").waitFor();
        },
      );

      await t.step("one that nobody unlocks is not made", async () => {
        await cdp.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId: authenticator });
        await addAuthenticator(cdp, false);
        await page.goto(`${baseUrl}/sign-in`);
        await signInByPassword(page);
        await page.waitForURL(`${baseUrl}/**`);
        await page.goto(`${baseUrl}/account/security`);
        await addPasskey(page, "Unlocked by nobody", PASSWORD);
        await page.getByText("That was cancelled, or took too long.").waitFor();
        await page.getByText("You have none yet.").waitFor();
      });

      await t.step("nor kept when the browser was talked into making it", async () => {
        const form = page.locator("form[data-passkey=create]");
        await form.getByLabel("Name").fill("Unlocked by nobody");
        await form.getByLabel("Your password").fill(PASSWORD);
        await form.evaluate(async (form: HTMLFormElement) => {
          // deno-lint-ignore no-explicit-any
          const { PublicKeyCredential: webAuthn } = globalThis as any;
          const body = new URLSearchParams(new FormData(form) as unknown as string[][]);
          const asked = await fetch(form.dataset.options!, { method: "POST", body });
          const { options } = await asked.json();
          options.authenticatorSelection.userVerification = "discouraged";
          const publicKey = webAuthn.parseCreationOptionsFromJSON(options);
          // deno-lint-ignore no-explicit-any
          const made: any = await navigator.credentials.create({ publicKey });
          (form.elements.namedItem("answer") as HTMLInputElement).value = JSON.stringify(made);
          form.submit();
        });
        await page.getByText("The passkey was not unlocked").waitFor();
        await page.getByText("You have none yet.").waitFor();
      });

      watched.assertClean(baseUrl);
      for (const [path, shift] of watched.shifts) {
        assert.ok(shift < 0.01, `${path} shifts ${shift}`);
      }
    } finally {
      await browser.close();
      await http.shutdown();
      await close();
      await world.close();
    }
  },
});

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  // deno-lint-ignore no-explicit-any
  const found = await page.evaluate(() => (globalThis as any).axe.run());
  return found.violations.map(({ id, nodes }: { id: string; nodes: { html: string }[] }) =>
    `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`
  );
}

/** @param unlocks whether it asks who holds it for a PIN or the like, and is told */
async function addAuthenticator(cdp: CDPSession, unlocks: boolean): Promise<string> {
  await cdp.send("WebAuthn.enable", { enableUI: false });
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: unlocks,
      isUserVerified: unlocks,
      automaticPresenceSimulation: true,
    },
  });
  return authenticatorId;
}

async function credentials(cdp: CDPSession, authenticatorId: string) {
  return (await cdp.send("WebAuthn.getCredentials", { authenticatorId })).credentials;
}

async function signInByPassword(page: Page) {
  await page.getByLabel("Email address").fill("bea@example.com");
  await page.getByLabel("Password", { exact: false }).first().fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

async function signOut(page: Page) {
  await page.getByRole("button", { name: "Sign out", exact: true }).first().click();
}

async function addPasskey(page: Page, name: string, password: string) {
  const form = page.locator("form[data-passkey=create]");
  await form.getByLabel("Name").fill(name);
  await form.getByLabel("Your password").fill(password);
  await form.getByRole("button", { name: "Add a passkey" }).click();
}
