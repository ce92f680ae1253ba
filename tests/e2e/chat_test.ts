/** The chat in Chromium, over a real MCP server and the scripted model. */
import assert from "node:assert/strict";
import axe from "npm:axe-core@4.10.3";
import type { Page } from "npm:playwright-core@1.65.1";
import { setAgentOptions } from "../../models/agents.ts";
import { setChatModel } from "../../models/chat_models.ts";
import { openModelReach } from "../../models/model_reach.ts";
import { openModelServer } from "../chat/model_server.ts";
import { serverEverything } from "../dtma/stdio_server.ts";
import { testKey } from "../models/databases.ts";
import { openTrials } from "../routes/trial_world.ts";
import { hasChromium, openBrowser, photograph, WatchedPage } from "./browser.ts";

const isThere = await hasChromium();
if (!isThere) console.log("skipped: the chat in a browser, since there is no Chromium");

const ANSWER = `## The sum

It is **42**, as \`get-sum\` says. In a program:

\`\`\`ts
const sum = 2 + 40;
\`\`\`

| a | b | sum |
|---|---|-----|
| 2 | 40 | 42 |

See [the specification](https://modelcontextprotocol.io).`;

/** No violation that axe-core finds, and nothing wider than the page. */
async function assertUsable(page: Page) {
  await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    // deno-lint-ignore no-explicit-any
    const { violations } = await (globalThis as any).axe.run();
    // deno-lint-ignore no-explicit-any
    return violations.map((v: any) => `${v.id}: ${v.nodes.map((n: any) => n.html).slice(0, 3)}`);
  });
  assert.deepEqual(found, []);
  const { scroll, inner } = await page.evaluate(() => ({
    scroll: document.documentElement.scrollWidth,
    inner: innerWidth,
  }));
  assert.ok(scroll <= inner, `${scroll} px wide in ${inner}`);
}

Deno.test({
  name: "in a browser an agent answers live, asks, is allowed, stopped and goes on, on a phone too",
  ignore: !isThere,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await using model = openModelServer(({ results, said }) =>
      said.includes("slow") ? { text: "word ".repeat(400), pauseMs: 50 } : results.length === 0
        ? {
          reasoning: "A sum is wanted.",
          text: "I ask the calculator.",
          calls: [{ name: "everything__get-sum", args: { a: 2, b: 40 } }],
        }
        : { text: ANSWER, pauseMs: 10 }
    );
    const models = openModelReach({ privateHosts: [model.host] });
    await using world = await openTrials(await serverEverything(), null, {
      models,
      slug: "everything",
    });
    const { db, user, workspaceId, agentId, origin } = world;
    await setChatModel({ db, secretsKey: testKey, models }, user, workspaceId, {
      provider: "openai-compatible",
      baseUrl: model.base,
      model: "scripted",
    });
    await setAgentOptions(db, user, agentId, { asks: "always" });
    const { cookie } = await world.person("bea@example.com");
    const browser = await openBrowser();
    try {
      const context = await browser.newContext({
        viewport: { width: 1280, height: 800 },
        reducedMotion: "reduce",
        permissions: ["clipboard-read", "clipboard-write"],
      });
      const [name, value] = cookie.split(/=(.*)/s);
      await context.addCookies([{ name, value, url: origin }]);
      const watched = await WatchedPage.open(context);
      const { page } = watched;

      await page.goto(`${origin}/chat`);
      await assertUsable(page);
      await page.getByLabel("Message").fill("What is 2 and 40?");
      await page.keyboard.press("Enter");
      const ask = page.getByRole("button", { name: "Allow the call of everything__get-sum" });
      await ask.waitFor();
      await assertUsable(page);
      await photograph(page, "chat-asks");
      // In the middle of an answer the page is loaded anew, and the question is still there.
      await page.reload();
      await ask.focus();
      await page.keyboard.press("Enter");
      await page.locator(".markdown h3", { hasText: "The sum" }).waitFor();
      await page.locator(".turn-state", { hasText: "tokens" }).waitFor();
      await assertUsable(page);
      const call = page.locator("details.call");
      await call.locator("summary").click();
      await call.getByText("The sum of 2 and 40 is 42").waitFor();
      await page.getByRole("button", { name: "Copy ts code" }).click();
      await page.getByText("Copied", { exact: true }).waitFor();
      assert.equal(
        await page.evaluate(() => navigator.clipboard.readText()),
        "const sum = 2 + 40;",
      );
      for (const colorScheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme });
        await assertUsable(page);
        await photograph(page, `chat-${colorScheme}`);
      }

      await page.setViewportSize({ width: 360, height: 740 });
      await assertUsable(page);
      await photograph(page, "chat-phone");
      await page.getByLabel("Message").fill("Now something slow");
      await page.getByRole("button", { name: "Send" }).click();
      await page.locator(".answered", { hasText: "word word" }).last().waitFor();
      const before = await page.locator(".turn").last().textContent();
      await page.waitForFunction(
        (length) => document.querySelectorAll(".turn")[1].textContent!.length > length,
        before!.length,
      );
      await page.getByRole("button", { name: "Stop" }).click();
      await page.getByText("■ Stopped.").waitFor();
      await page.getByRole("button", { name: "Go on" }).waitFor();
      await assertUsable(page);

      await page.getByLabel("Message").fill("kept while it is attached to");
      await page.getByRole("button", { name: "Attach…" }).click();
      await page.getByRole("group", { name: "Resources" }).waitFor();
      assert.equal(await page.getByLabel("Message").inputValue(), "kept while it is attached to");
      await page.waitForFunction(() => document.activeElement?.matches("#composer fieldset input"));
      await assertUsable(page);
      await photograph(page, "chat-attach");

      await page.locator("summary", { hasText: "Delete" }).click();
      await page.getByRole("button", { name: "Delete" }).click();
      await page.getByText("The conversation is deleted.").waitFor();
      watched.assertClean();
    } finally {
      await browser.close();
    }
  },
});

Deno.test({
  name:
    "in a browser a server asks in the middle of a call, and is answered, by keyboard and on a phone",
  ignore: !isThere,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await using model = openModelServer(({ results, said }) =>
      said.includes("slow")
        ? {
          ...results.length === 0
            ? {
              calls: [{ name: "tables__insists", args: {} }, { name: "tables__book", args: {} }],
            }
            : { text: "Over" },
        }
        : results.length === 0
        ? { calls: [{ name: `tables__${said.split(" ").at(-1)}`, args: {} }] }
        : { text: `The server says ${results[0]}` }
    );
    const models = openModelReach({ privateHosts: [model.host] });
    const asks = new URL("../chat/servers/asks.mjs", import.meta.url).pathname;
    await using world = await openTrials(asks, null, { models, slug: "tables" });
    const { db, user, workspaceId, agentId, origin } = world;
    await setChatModel({ db, secretsKey: testKey, models }, user, workspaceId, {
      provider: "openai-compatible",
      baseUrl: model.base,
      model: "scripted",
      key: "another-key",
    });
    await setAgentOptions(db, user, agentId, { asks: "never" });
    const { cookie } = await world.person("dora@example.com");
    const browser = await openBrowser();
    try {
      const context = await browser.newContext({
        viewport: { width: 1280, height: 800 },
        reducedMotion: "reduce",
      });
      const [name, value] = cookie.split(/=(.*)/s);
      await context.addCookies([{ name, value, url: origin }]);
      const watched = await WatchedPage.open(context);
      const { page } = watched;
      const isFocused = (id: string) =>
        page.waitForFunction((id) => document.activeElement?.id === id, id);

      await page.goto(`${origin}/chat?agent=${agentId}`);
      await page.getByLabel("Message").fill("Please book");
      await page.keyboard.press("Enter");
      const form = page.getByRole("form", { name: "tables asks you" });
      await form.getByText("Who is the table for?").waitFor();
      // The next message can be typed at once, and what asks takes the focus from nobody.
      await isFocused("text");
      await assertUsable(page);
      for (const colorScheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme });
        await assertUsable(page);
        await photograph(page, `chat-question-${colorScheme}`);
      }
      await page.reload();
      // What the browser would not let pass, the server does not either, and it stays as it was typed.
      await form.evaluate((form) => (form as HTMLFormElement).noValidate = true);
      await form.getByLabel("Name").fill("A");
      await form.getByLabel("email").fill("none");
      await form.getByRole("button", { name: "Answer", exact: true }).press("Enter");
      await form.getByText("Name must have at least 2 characters").waitFor();
      await page.waitForFunction(() => document.activeElement?.matches("[aria-invalid=true]"));
      // The page is live, and shows the conversation anew behind it: a moment for that.
      await page.waitForTimeout(1000);
      assert.equal(await form.getByLabel("email").inputValue(), "none");
      await form.getByText("Name must have at least 2 characters").waitFor();
      await assertUsable(page);
      await form.getByLabel("Name").fill("Ann");
      await form.getByLabel("email").fill("");
      await page.keyboard.press("Enter");
      await form.getByText("Shall it be booked?").waitFor();
      await form.getByLabel("sure").check();
      await form.getByRole("button", { name: "Answer", exact: true }).click();
      await page.locator(".turn-state", { hasText: "tokens" }).waitFor();
      // Read out once, whole.
      await page.locator("#heard", { hasText: `The server says {"who":{"name":"Ann"` }).waitFor();
      await page.locator("details.call").locator("summary").click();
      await page.getByText("You answered").first().waitFor();
      await assertUsable(page);

      await page.setViewportSize({ width: 390, height: 844 });
      await page.getByLabel("Message").fill("now pay");
      await page.keyboard.press("Enter");
      const link = page.getByRole("link", { name: "Open pay.example.com" });
      await link.waitFor();
      assert.equal(await link.getAttribute("href"), "https://pay.example.com/deposit?id=7");
      assert.equal(context.pages().length, 1, "nothing opens by itself");
      await assertUsable(page);
      await photograph(page, "chat-question-phone");
      await form.getByRole("button", { name: "Decline" }).click();
      await page.getByText(`The server says {"action":"decline"}`).first().waitFor();

      // One of two is answered: what was typed in the other stays while the page goes on.
      await page.getByLabel("Message").fill("slow, both");
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => document.querySelectorAll("#questions form").length === 2);
      const [first, second] = [form.nth(0), form.nth(1)];
      await second.getByLabel("Name").fill("Half typed");
      const before = await first.getAttribute("id");
      const other = await context.newPage();
      await other.goto(page.url());
      // A page that is closed before its request went out sends none.
      const declined = other.waitForResponse((response) => response.request().method() === "POST");
      await other.getByRole("form", { name: "tables asks you" }).nth(0)
        .getByRole("button", { name: "Decline" }).click();
      await declined;
      await other.close();
      await page.waitForFunction(
        (id) => document.querySelector("#questions form")?.id !== id,
        before,
      );
      assert.ok(
        (await form.getByLabel("Name").evaluateAll((all) =>
          all.map((field) => (field as HTMLInputElement).value)
        )).includes("Half typed"),
      );
      watched.assertClean();
    } finally {
      await browser.close();
    }
  },
});
