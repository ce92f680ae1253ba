/** Debian's Chromium through playwright-core, with what it needs to run without a network. */
import assert from "node:assert/strict";
import { type Browser, type BrowserContext, chromium, type Page } from "npm:playwright-core@1.65.1";
import { absent as engineAbsent } from "../dtma/engine.ts";

export const CHROMIUM = Deno.env.get("CHROMIUM") ?? "/usr/bin/chromium";

/** Why a test in the browser on a real container cannot run here; null when it can. */
export async function missing(): Promise<string | null> {
  return await hasChromium() ? engineAbsent : `there is no Chromium at ${CHROMIUM}`;
}

export async function hasChromium(): Promise<boolean> {
  return await Deno.stat(CHROMIUM).then(() => true, () => false);
}

/** How long what has to come in a page is waited for: a machine that does much else takes its time. */
const LONG_MS = 300_000;

export async function openBrowser(): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    // Playwright's own would end the tests' process before their `finally` runs.
    handleSIGINT: false,
    handleSIGTERM: false,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  const newContext = browser.newContext.bind(browser);
  // Of which newPage() makes one as well.
  browser.newContext = async (options) => {
    const context = await newContext(options);
    context.setDefaultTimeout(LONG_MS);
    return context;
  };
  return browser;
}

/** A page that keeps what went wrong in it and how much its layout shifted. */
export class WatchedPage {
  readonly #wrongs: string[] = [];
  /** Layout shift by path, of the worst visit. */
  readonly shifts = new Map<string, number>();
  private constructor(readonly page: Page) {}

  static async open(context: BrowserContext): Promise<WatchedPage> {
    const page = await context.newPage();
    const watched = new WatchedPage(page);
    page.on("pageerror", (error) => watched.#wrongs.push(`${page.url()}: ${error.message}`));
    const refused = new Set<string>();
    page.on("response", (response) => {
      const isPage = response.request().isNavigationRequest();
      if (isPage && response.status() >= 400) refused.add(response.url());
    });
    page.on("console", (message) => {
      // A form that did not hold is answered with 422, which Chromium logs as a failed load; so is a page
      // that says what is wrong.
      const isRefused = /status of 422/.test(message.text()) ||
        (/status of 4\d\d/.test(message.text()) && refused.has(message.location().url));
      if (!["error", "warning"].includes(message.type()) || isRefused) return;
      watched.#wrongs.push(`${page.url()}: ${message.text()}`);
    });
    await page.exposeBinding("keepShift", (_, path: string, sum: number) => {
      watched.shifts.set(path, Math.max(sum, watched.shifts.get(path) ?? 0));
    });
    await page.exposeBinding("keepViolation", (_, what: string) => {
      watched.#wrongs.push(`${page.url()}: CSP: ${what}`);
    });
    await page.addInitScript(`
      document.addEventListener("securitypolicyviolation", (event) =>
        keepViolation(event.violatedDirective + " " + event.blockedURI));
      let sum = 0;
      const path = location.pathname.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, ":id");
      new PerformanceObserver((list) => {
        for (const shift of list.getEntries()) if (!shift.hadRecentInput) sum += shift.value;
        keepShift(path, sum);
      }).observe({ type: "layout-shift", buffered: true });
      if (location.protocol.startsWith("http")) keepShift(path, 0);
    `);
    return watched;
  }

  /** No console error, page error or CSP violation so far, on pages whose address begins with `within`. */
  assertClean(within = "") {
    assert.deepEqual(this.#wrongs.filter((wrong) => wrong.startsWith(within)), []);
  }
}

/** Presses Tab until `role` with `name` has the focus, as one does who has no mouse. */
export async function tabTo(
  page: Page,
  role: "button" | "checkbox" | "link" | "searchbox",
  name: string,
) {
  const target = page.getByRole(role, { name }).first();
  for (let presses = 0; presses < 200; presses++) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`The ${role} "${name}" is not reached with the Tab key`);
}

const SCREENS = new URL("../../.cache/screens", import.meta.url).pathname;

/** Saves the page wide and at 360 px, light and dark, and asserts that it never scrolls sideways. */
export async function photograph(page: Page, name: string) {
  await Deno.mkdir(SCREENS, { recursive: true });
  const usual = page.viewportSize()!;
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const viewport of [{ width: 1280, height: 800 }, { width: 360, height: 740 }]) {
      await page.setViewportSize(viewport);
      const { content, window } = await page.evaluate(() => ({
        content: document.documentElement.scrollWidth,
        window: innerWidth,
      }));
      await page.screenshot({
        path: `${SCREENS}/${name}-${colorScheme}-${viewport.width}.png`,
        fullPage: true,
      });
      assert.ok(content <= window, `${name} is ${content} px wide in a window of ${window} px`);
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(usual);
}
