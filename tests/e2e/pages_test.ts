/** Every page of the app in Chromium, light and dark, narrow and wide: what each of them must hold. */
import assert from "node:assert/strict";
import axe from "npm:axe-core@4.10.3";
import type { Browser, BrowserContext, Page } from "npm:playwright-core@1.65.1";
import { deployApi, importApiDocument } from "../../models/api_servers.ts";
import { setChatModel } from "../../models/chat_models.ts";
import { createConversation, sendMessage } from "../../models/conversations.ts";
import { appendStep, beginStep, endStep, waitForPerson } from "../../models/conversation_work.ts";
import type { Database, User } from "../../models/db.ts";
import { deployServer } from "../../models/servers.ts";
import { invite } from "../../models/invitations.ts";
import { uploadSource } from "../../models/catalog_sources.ts";
import { syncDueSources } from "../../models/catalog_sync.ts";
import { createLog } from "../../models/log.ts";
import { openOutside } from "../../models/outside.ts";
import { findCatalogEntry } from "../../models/catalog_entries.ts";
import { grantManagement } from "../../models/management_grants.ts";
import { makeWish, rejectWish } from "../../models/wishes.ts";
import { createPersonalToken } from "../../models/personal_tokens.ts";
import { keepBodies } from "../../models/retention.ts";
import { listCalls } from "../../models/calls.ts";
import { createWorkspace } from "../../models/workspaces.ts";
import { testKey } from "../models/databases.ts";
import { openTrials } from "../routes/trial_world.ts";
import { CHROMIUM, hasChromium, openBrowser, tabTo, WatchedPage } from "./browser.ts";

const reason = await hasChromium() ? null : `there is no Chromium at ${CHROMIUM}`;
if (reason) console.warn(`SKIPPED, every page in the browser: ${reason}`);

const WIDTHS = { 360: 740, 1280: 800, 1920: 1080 };
const SCHEMES = ["light", "dark"] as const;
/** What a first visit may weigh over the wire, the page with all that it loads. */
const FIRST_PAGE_BYTES = 60_000;
/** Where pictures of all pages go, if they are asked for: `SCREENS=1`. */
const SCREENS = Deno.env.get("SCREENS") && new URL("../../docs/screens/", import.meta.url).pathname;

/** What answers GET and is no page: for machines, for parts of pages, for downloads. */
const NOT_PAGES = [
  /^\/(mcp|sse|messages)(\/|$)/,
  /^\/(static|api\/v1|functions\/v1|toolbox|schedule)\//,
  /^\/(healthz|readyz)$/,
  /^\/oauth\/client\.json$/,
  /^\/\.well-known\//,
  /\/live$/,
  /\/results$/,
  /^\/marketplace\/:slug\/raw$/,
  /^\/servers\/:id\/bom$/,
  /^\/chat\/:id\/calls\/:call\/(result|media\/:n)$/,
  /^\/chat\/:id\/turns\/:turn\/attached\/:n$/,
  // To another site's sign-in and back, and where its mails lead: supabase_test.ts.
  /^\/sign-in\/(with\/:provider|callback|confirm)$/,
  // Where /account/tokens once was.
  /^\/profile$/,
];

/** What an agent said in its calls, and what it was answered: every kind that a page shows. */
const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const SAID = {
  arguments: JSON.stringify({
    path: "/work/reports/2026/the-third-quarter-of-the-year-with-a-long-name.md",
    options: { encoding: "utf-8", lines: [1, 20] },
    api_key: "hunter2",
  }),
  result: JSON.stringify({
    content: [
      { type: "text", text: "# The third quarter\n\nIt went well." },
      { type: "image", mimeType: "image/png", data: PIXEL },
      { type: "resource_link", uri: "https://example.com/report", name: "The report" },
    ],
    structuredContent: { pages: 12, authors: ["Ann", "Bea"] },
  }),
};

interface Visit {
  /** Of the pictures. */
  name: string;
  /** As the app's routes name it. */
  pattern: string;
  path: string;
  status?: number;
}

/** What the app answers with a page, by its routes. */
function pagesOf(app: { routes: { method: string; path: string }[] }): string[] {
  const paths = app.routes.filter(({ method }) => method === "GET").map(({ path }) => path);
  return [...new Set(paths)].filter((path) => !NOT_PAGES.some((each) => each.test(path)));
}

/** The page on which a client asks to be let in. */
async function consentPath({ app, origin }: Awaited<ReturnType<typeof openTrials>>) {
  const redirect_uri = "https://client.example/callback";
  const client = { client_name: "An editor of example.com", redirect_uris: [redirect_uri] };
  const response = await app.request(`${origin}/oauth/register`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(client),
  });
  const { client_id } = await response.json();
  const asked = { response_type: "code", client_id, redirect_uri, code_challenge_method: "S256" };
  return `/oauth/authorize?${new URLSearchParams({ ...asked, code_challenge: "c".repeat(43) })}`;
}

/** A conversation whose agent waits for a word on a call. */
async function answered(db: Database, user: User, workspaceId: string, agentId: string) {
  const title = "What does the demo show?";
  const conversationId = await createConversation(db, user, workspaceId, { agentId, title });
  const worker = crypto.randomUUID();
  const said = { text: title, attachments: [], worker };
  const turnId = await sendMessage(db, user, conversationId, said);
  const work = { conversationId, turnId, worker };
  await beginStep(db, user, work, 0);
  await appendStep(db, user, work, 0, {
    reasoning: "It is for me to find out.",
    text:
      "### I look\n\nIt `shows`:\n\n```json\n{}\n```\n\n| what | how |\n|---|---|\n| all | **well** |\n",
  });
  const call = { tool: "demo__shows", arguments: `{"a": 1}` };
  await endStep(db, user, work, 0, {
    message: { role: "assistant", content: "" },
    calls: [
      { ...call, callId: "1", state: "asked", told: null },
      { ...call, callId: "2", state: "failed", told: "The call failed" },
    ],
    inputTokens: 900,
    outputTokens: 20,
  });
  await waitForPerson(db, user, work);
  return conversationId;
}

/** A world with something on every page, and the visits that show it. */
async function seeded(trials: Awaited<ReturnType<typeof openTrials>>) {
  const { db, owner, workspaceId, serverId, agentId, calls, tools } = trials;
  const { cookie, userId } = await trials.person("bea@example.com");
  await owner`update public.members set role = 'owner' where user_id = ${userId}`;
  const bea = { userId };
  await createWorkspace(db, bea, "Another workspace");
  await createPersonalToken(db, bea, workspaceId, {
    name: "My terminal",
    scopes: ["read"],
    expiresInDays: 30,
  });
  const invitation = await invite(db, bea, workspaceId, { role: "member", days: "7" });
  const entry = {
    name: "com.example/remote",
    title: "A remote of ours",
    description: "Tells the weather of the places where we work",
    version: "1.0.0",
    remotes: [{ type: "streamable-http", url: "https://weather.example.com/mcp" }],
  };
  const file = (name: string, content: unknown) => ({
    name,
    bytes: new TextEncoder().encode(JSON.stringify(content)),
  });
  const sourceId = await uploadSource(db, bea, workspaceId, "Ours", [
    file("list.json", {
      servers: [entry, { name: 7, description: "It has no name that one could show" }],
    }),
  ]);
  const log = createLog("text", () => {});
  await syncDueSources({ db, log, outside: openOutside() }, { sourceId });
  const [{ slug }] = await owner<{ slug: string }[]>`
    select slug from public.catalog_entries where source_id = ${sourceId}`;
  const [{ toolbox_id: toolboxId }] = await owner<{ toolbox_id: string }[]>`
    select toolbox_id from public.servers where id = ${serverId}`;
  const { serverId: memoryId } = await deployServer(db, bea, {
    workspaceId,
    toolboxId,
    slug: "memory",
    name: "What we know",
    form: {},
    idempotencyKey: crypto.randomUUID(),
  }, testKey);
  const { documentId, newerId, largeId, bareId } = await withApis(db, bea, workspaceId, toolboxId);
  await owner`update public.catalog_entries set updated_at = now(), entry = entry || ${
    JSON.stringify({
      package: {
        registry: "npm",
        name: "@modelcontextprotocol/server-memory",
        version: "9999.1.1",
        installScripts: true,
      },
      network: { hosts: ["api.example.com:443"] },
      environment: [{ name: "API_KEY", label: "API key", isSecret: true, isRequired: true }],
    })
  }::text::jsonb where slug = 'memory'`;
  await trials.report([...tools, {
    name: "newcomer",
    description: "It came with the last version and waits for somebody's approval",
    inputSchema: { type: "object", properties: { path: { type: "string" } } },
  }]);
  await keepBodies(db, bea, workspaceId, { isOn: true, days: 7 });
  for (let i = 0; i < 70; i++) {
    calls.record({
      workspaceId,
      agentId,
      serverId,
      serverSlug: "demo",
      tool: i % 3 ? "shows" : "mirror",
      via: "bridge",
      startedAt: new Date(Date.now() - i * 20_000),
      durationMs: 8 + i,
      outcome: i % 9 ? "ok" : "error",
      error: i % 9 ? null : "The server's disk is full",
      requestBytes: 120,
      responseBytes: 900,
      said: calls.said(workspaceId, SAID.arguments, { kind: "result", text: SAID.result }),
    });
  }
  await calls.flush();
  await grantManagement(db, bea, agentId, {
    scopes: ["read", "servers:write", "agents:write"],
    asks: ["servers:write", "agents:write"],
  });
  const wish = async (
    slug: string,
    values: Record<string, string>,
    reason: string,
    before: { summary?: string } = {},
  ) => {
    const { entry } = await findCatalogEntry(db, bea, slug);
    return await makeWish(db, { agentId, workspaceId }, {
      asked: { operation: "deploy_server", entry: slug, name: entry.title, values },
      basis: { entry: { ...entry, ...before } },
      wants: `deploy ${entry.title}`,
      reason,
    });
  };
  const simple = await wish("filesystem", { "arg.0": "/work/notes" }, "I keep notes there.");
  const secret = await wish("github", {}, "To read the issue that you\u202e asked about.", {
    summary: "What its catalog said before",
  });
  const rejected = await wish("time", {}, "To know what time it is where you are.");
  await rejectWish(db, bea, rejected.id, "Your client tells you that already.");
  await makeWish(db, { agentId, workspaceId }, {
    asked: { operation: "connect_server", serverId },
    basis: { server: { name: "demo", slug: "demo" } },
    wants: "connect itself to demo",
    reason: null,
  });
  const models = { fetch, refusalOf: () => Promise.resolve(null) };
  await setChatModel({ db, secretsKey: testKey, models }, bea, workspaceId, {
    provider: "anthropic",
    baseUrl: "https://models.example.com",
    model: "a-model",
    key: "k",
  });
  const conversation = await answered(db, bea, workspaceId, agentId);
  const [said] = await listCalls(db, bea, { workspaceId }, { limit: 1 });
  const run = await trials.ask(cookie, `/servers/${serverId}/tools/shows`, {});
  const runPath = run.headers.get("location")!.replace(/[?#].*/, "");
  const server = `/servers/${serverId}`, agent = `/agents/${agentId}`;
  const connection = `${agent}/connections/${serverId}`;

  const visit = (name: string, pattern: string, path = pattern, status = 200): Visit => ({
    name,
    pattern,
    path,
    status,
  });
  const outside = [
    visit("sign-in", "/sign-in"),
    visit("sign-in-code", "/sign-in/code"),
    visit("forgotten-password", "/new-password"),
    visit("new-password", "/new-password", "/new-password?token=made-up"),
    visit("invitation-sign-up", "/join", `/join?token=${invitation}`),
  ];
  const inside = [
    visit("overview", "/"),
    visit("marketplace", "/marketplace"),
    visit("marketplace-filters", "/marketplace", "/marketplace?q=file&sort=name"),
    visit("marketplace-verified", "/marketplace", "/marketplace?verified=yes&runtime=npm"),
    visit("marketplace-nothing", "/marketplace", "/marketplace?q=nothing-of-the-kind"),
    visit("entry", "/marketplace/:slug", "/marketplace/filesystem"),
    visit("entry-deployed", "/marketplace/:slug", "/marketplace/memory"),
    visit("entry-secret", "/marketplace/:slug", "/marketplace/github"),
    visit("entry-source", "/marketplace/:slug", `/marketplace/${slug}`),
    visit("sources", "/marketplace/sources"),
    visit(
      "source-broken",
      "/marketplace/sources/:id/broken",
      `/marketplace/sources/${sourceId}/broken`,
    ),
    visit("servers", "/servers"),
    visit("servers-nothing", "/servers", "/servers?q=nothing-of-the-kind&needs=crash_loop"),
    visit("servers-remove", "/servers/remove", `/servers/remove?server=${serverId}`),
    visit("remote-server", "/servers/remote"),
    visit("api-server", "/servers/api"),
    visit("api-operations", "/servers/api/:document", `/servers/api/${documentId}`),
    visit("api-changes", "/servers/api/:document", `/servers/api/${newerId}`),
    visit("api-large", "/servers/api/:document", `/servers/api/${largeId}`),
    visit("api-without-document", "/servers/:id/api", `/servers/${bareId}/api`),
    visit("server", "/servers/:id", server),
    ...["tools", "try", "log", "network", "configuration", "events"].map((tab) =>
      visit(`server-${tab}`, `/servers/:id/${tab}`, `${server}/${tab}`)
    ),
    visit("generation", "/servers/:id/generations/:generation", `${server}/generations/1`),
    visit("server-update", "/servers/:id", `/servers/${memoryId}`),
    visit("server-account", "/servers/:server/account", `${server}/account`),
    visit(
      "agent-account",
      "/agents/:agent/connections/:server/account",
      `${connection}/account`,
    ),
    visit("trial", "/servers/:id/tools/:name", `${server}/tools/mirror`),
    visit("trial-run", "/servers/:id/tools/:name/runs/:run", runPath),
    visit("oauth-callback", "/oauth/callback", "/oauth/callback?state=unknown&code=x", 404),
    visit("client-consent", "/oauth/authorize", await consentPath(trials)),
    visit("client-refused", "/oauth/authorize", "/oauth/authorize?client_id=unknown", 422),
    visit("agents", "/agents"),
    visit("connections", "/agents/connections"),
    visit("connections-agent", "/agents/connections", `/agents/connections?agent=${agentId}`),
    visit("agent", "/agents/:id", agent),
    visit("connection", "/agents/:id/connections/:server", connection),
    visit(
      "tool-change",
      "/agents/:id/connections/:server/tools/:name",
      `${connection}/tools/mirror`,
    ),
    visit("requests", "/requests"),
    visit("request", "/requests/:id", `/requests/${simple.id}`),
    visit("request-secret", "/requests/:id", `/requests/${secret.id}`),
    visit("request-rejected", "/requests/:id", `/requests/${rejected.id}`),
    visit("chat", "/chat"),
    visit("conversation", "/chat/:id", `/chat/${conversation}`),
    visit("calls", "/calls"),
    visit("calls-by-tool", "/calls", "/calls?by=tool"),
    visit("call", "/calls/:id", `/calls/${said.id}`),
    visit("toolboxes", "/toolboxes"),
    visit("toolbox", "/toolboxes/:id", `/toolboxes/${toolboxId}`),
    visit("workspace", "/workspace"),
    visit("workspaces", "/workspaces"),
    visit("account", "/account"),
    visit("account-security", "/account/security"),
    visit("account-tokens", "/account/tokens"),
    visit("api", "/api"),
    visit("invitation", "/join", `/join?token=${invitation}`),
    visit("invitation-ended", "/join", "/join?token=mwi_unknown", 410),
    visit("not-found", "404", "/nowhere", 404),
    visit("refused", "422", "/calls?before=x", 422),
  ];
  const viewer = await trials.person("vi@example.com");
  await owner`update public.members set role = 'viewer' where user_id = ${viewer.userId}`;
  const looking = [
    visit("viewer-server", "/servers/:id", server),
    visit("viewer-agent", "/agents/:id", agent),
    visit("viewer-connection", "/agents/:id/connections/:server", connection),
    visit("viewer-toolbox", "/toolboxes/:id", `/toolboxes/${toolboxId}`),
    visit("viewer-workspace", "/workspace"),
  ];
  const stranger = await trials.identity.createAccount("eve@example.com", "Eve", trials.PASSWORD);
  const nowhere = [visit("not-allowed", "403", "/servers", 403)];
  return {
    cookie,
    serverId,
    groups: [
      { cookie: null, visits: outside },
      { cookie, visits: inside },
      { cookie: viewer.cookie, visits: looking },
      { cookie: stranger.getSetCookie()[0].split(";")[0], visits: nowhere },
    ],
  };
}

/** Documents of REST APIs: one that is new, a newer one of a server's, a large one; a server without any. */
async function withApis(db: Database, bea: User, workspaceId: string, toolboxId: string) {
  const text = await Deno.readTextFile(new URL("../fixtures/apis/pets.yaml", import.meta.url));
  const read = (text: string, serverId?: string) =>
    importApiDocument(db, bea, workspaceId, { text, serverId }, openOutside());
  const keys = ["GET /pets", "GET /pets/{petId}", "DELETE /pets/{petId}"];
  const deploy = async () => {
    const request = { workspaceId, toolboxId, form: {}, idempotencyKey: crypto.randomUUID() };
    const choice = { keys, tellsShape: true, name: "Pets" };
    return (await deployApi(db, bea, await read(text), { ...request, ...choice }, testKey))
      .serverId;
  };
  const newer = text.replace("Read a pet", "Read a pet, alive or not").replace(
    / {4}delete:[^]*?gone \}\n/,
    "",
  );
  const newerId = await read(newer, await deploy());
  const paths = Array.from(
    { length: 80 },
    (_, n) => [`/things/${n}`, { get: { tags: [`Tag ${n % 7}`] } }],
  );
  const large = {
    openapi: "3.1.0",
    info: { title: "A large API" },
    paths: Object.fromEntries(paths),
  };
  const largeId = await read(JSON.stringify(large));
  const bareId = await deploy();
  await db.asUser(bea, (sql) => sql`delete from api_documents where server_id = ${bareId}`);
  return { documentId: await read(text), newerId, largeId, bareId };
}

async function contextOf(browser: Browser, origin: string, cookie: string | null) {
  const context = await browser.newContext({ reducedMotion: "reduce" });
  if (cookie) {
    const [name, value] = cookie.split(/=(.*)/s);
    await context.addCookies([{ name, value, url: origin }]);
  }
  return context;
}

/** What axe-core finds, each with the elements that it is about. */
async function violations(page: Page): Promise<string[]> {
  if (!await page.evaluate(() => "axe" in globalThis)) await page.evaluate(axe.source);
  return await page.evaluate(async () => {
    // deno-lint-ignore no-explicit-any
    const found = await (globalThis as any).axe.run({ resultTypes: ["violations"] });
    // deno-lint-ignore no-explicit-any
    return found.violations.map((each: any) =>
      // deno-lint-ignore no-explicit-any
      `${each.id}: ${each.nodes.slice(0, 3).map((n: any) => n.html.slice(0, 160)).join(" | ")}`
    );
  });
}

/** The page's frame: one heading of the page, one main part, and the way to it at the very start. */
async function frameFaults(page: Page): Promise<string[]> {
  return await page.evaluate(() => {
    const all = (selector: string) => document.querySelectorAll(selector);
    const first = document.querySelector("a[href], button, input, select, textarea, summary");
    const target = first?.getAttribute("href");
    return [
      all("h1").length === 1 ? "" : `${all("h1").length} h1`,
      all("main").length === 1 ? "" : `${all("main").length} main`,
      target && document.querySelector(target) === document.querySelector("main")
        ? ""
        : "no way to the main content first",
    ].filter(Boolean);
  });
}

async function overflow(page: Page): Promise<string[]> {
  return await page.evaluate(() => {
    const { scrollWidth } = document.documentElement;
    if (scrollWidth <= innerWidth) return [];
    const widest = [...document.querySelectorAll("main *, header *")]
      .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
      .map((element) => element.outerHTML.slice(0, 100)).slice(0, 2);
    return [`${scrollWidth} px wide: ${widest.join(" | ")}`];
  });
}

/** Opens and closes all that a page folds away. */
const unfold = (page: Page, open: boolean) =>
  page.evaluate((open) => {
    for (const each of document.querySelectorAll("details")) each.open = open;
  }, open);

async function photograph(page: Page, name: string) {
  const cdp = await page.context().newCDPSession(page);
  const { data } = await cdp.send("Page.captureScreenshot", { format: "webp", quality: 50 });
  await Deno.mkdir(SCREENS as string, { recursive: true });
  await Deno.writeFile(`${SCREENS}${name}.webp`, Uint8Array.fromBase64(data));
  await cdp.detach();
}

/** Goes to a page, looks at it in every light and width, and returns its title with what is wrong. */
async function look(watched: WatchedPage, origin: string, { name, path, status = 200 }: Visit) {
  const { page } = watched;
  const faults: string[] = [];
  const response = await page.goto(origin + path);
  if (response!.status() !== status) faults.push(`${name}: answered with ${response!.status()}`);
  const { pathname, search } = new URL(page.url());
  if (pathname + search !== path) faults.push(`${name}: led to ${pathname}${search}`);
  faults.push(...(await frameFaults(page)).map((each) => `${name}: ${each}`));
  for (const [width, height] of Object.entries(WIDTHS)) {
    await page.setViewportSize({ width: Number(width), height });
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme });
      const at = `${name}, ${colorScheme}, ${width} px`;
      faults.push(...(await violations(page)).map((each) => `${at}: ${each}`));
      const isPictured = `${colorScheme} ${width}` === "light 1280" ||
        `${colorScheme} ${width}` === "dark 360";
      if (SCREENS && isPictured) await photograph(page, `${name}-${colorScheme}-${width}`);
    }
    faults.push(...(await overflow(page)).map((each) => `${name}, ${width} px: ${each}`));
    await unfold(page, true);
    faults.push(...(await overflow(page)).map((each) => `${name}, ${width} px, open: ${each}`));
    if (width === "360") {
      faults.push(...(await violations(page)).map((each) => `${name}, open: ${each}`));
    }
    await unfold(page, false);
  }
  return { title: await page.title(), faults };
}

/** What the first visit takes over the wire. */
async function firstWeight(context: BrowserContext, url: string): Promise<number> {
  const page = await context.newPage();
  const cdp = await context.newCDPSession(page);
  await cdp.send("Network.enable");
  let bytes = 0;
  cdp.on("Network.loadingFinished", ({ encodedDataLength }) => bytes += encodedDataLength);
  await page.goto(url, { waitUntil: "load" });
  await page.close();
  return bytes;
}

Deno.test({
  name: reason ? `Every page in the browser (skipped: ${reason})` : "Every page in the browser",
  ignore: reason !== null,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await using trials = await openTrials("shows", { check: () => false });
    const { origin } = trials;
    const browser = await openBrowser();
    try {
      const faults: string[] = [];
      /** The page that has a title. */
      const titled = new Map<string, string>();
      const visited = new Set<string>();
      const visitAll = async (cookie: string | null, visits: Visit[]) => {
        const context = await contextOf(browser, origin, cookie);
        const watched = await WatchedPage.open(context);
        for (const visit of visits) {
          const seen = await look(watched, origin, visit);
          faults.push(...seen.faults);
          // Pages of what is wrong are titled by what that is, wherever it is.
          if ((visit.status ?? 200) >= 400) {
            visited.add(visit.pattern);
            continue;
          }
          const other = titled.get(seen.title) ?? visit.pattern;
          if (other !== visit.pattern) faults.push(`${visit.name} is titled as ${other}`);
          titled.set(seen.title, visit.pattern);
          visited.add(visit.pattern);
        }
        await context.close();
        watched.assertClean();
      };

      await t.step("the first page is light", async () => {
        // The world has an account already: before its first one there is nothing to seed.
        const { hasAccounts } = trials.identity;
        trials.identity.hasAccounts = () => Promise.resolve(false);
        const context = await contextOf(browser, origin, null);
        const bytes = await firstWeight(context, `${origin}/setup`);
        await context.close();
        assert.ok(bytes > 0 && bytes <= FIRST_PAGE_BYTES, `It weighs ${bytes} bytes`);
        await visitAll(null, [{ name: "set-up", pattern: "/setup", path: "/setup" }]);
        trials.identity.hasAccounts = hasAccounts;
      });

      const { cookie, serverId, groups } = await seeded(trials);
      await t.step("each page can be used by everybody, everywhere", async () => {
        for (const { cookie, visits } of groups) await visitAll(cookie, visits);
        assert.deepEqual(faults, []);
      });

      await t.step("no page is left out", () => {
        assert.deepEqual(pagesOf(trials.app).filter((page) => !visited.has(page)), []);
      });

      await t.step("the story is told with the keyboard alone", async () => {
        const context = await contextOf(browser, origin, cookie);
        const watched = await WatchedPage.open(context);
        await byKeyboard(watched.page, origin, serverId);
        watched.assertClean();
        await context.close();
      });

      await t.step("a menu closes when one goes on beside it", async () => {
        const context = await contextOf(browser, origin, cookie);
        const page = await context.newPage();
        await page.goto(`${origin}/`);
        const menu = page.locator("details.menu");
        const isOpen = () => menu.evaluate((menu: HTMLDetailsElement) => menu.open);
        await menu.locator("summary").click();
        assert.ok(await isOpen());
        await page.locator("h1").click();
        assert.ok(!await isOpen(), "by a click");
        await menu.locator("summary").click();
        await tabTo(page, "button", "Sign out");
        assert.ok(!await isOpen(), "by the Tab key");
        await context.close();
      });

      await t.step("on paper is what scrolls on a screen, dark on light", async () => {
        const context = await contextOf(browser, origin, cookie);
        const page = await context.newPage();
        await page.goto(`${origin}/servers/${serverId}/tools`);
        await page.emulateMedia({ media: "print", colorScheme: "dark" });
        await unfold(page, true);
        const { cut, color } = await page.evaluate(() => ({
          cut: [...document.querySelectorAll("main *")].filter((each) =>
            each.scrollHeight > each.clientHeight + 1 &&
            getComputedStyle(each).overflowY !== "visible" && each.clientHeight > 1
          ).map((each) => each.outerHTML.slice(0, 80)),
          color: getComputedStyle(document.body).color,
        }));
        assert.deepEqual(cut, []);
        assert.equal(color, "rgb(26, 32, 39)");
        await context.close();
      });

      await t.step("a name of one long word breaks, and the page keeps its width", async () => {
        const word = "W".repeat(79);
        await trials.owner`update public.servers set name = ${word} || left(id::text, 1)`;
        await trials.owner`update public.agents set name = ${word} || left(id::text, 1)`;
        await trials.owner`update public.toolboxes set name = ${word} || left(id::text, 1)`;
        await trials.owner`update public.workspaces set name = ${word} || left(id::text, 1)`;
        const context = await contextOf(browser, origin, cookie);
        const page = await context.newPage();
        const faults: string[] = [];
        const { visits } = groups[1];
        for (const { name, path } of visits.filter(({ status }) => status === 200)) {
          await page.goto(origin + path);
          await unfold(page, true);
          for (const [width, height] of [[360, 740], [1280, 800]]) {
            await page.setViewportSize({ width, height });
            faults.push(...(await overflow(page)).map((each) => `${name}, ${width} px: ${each}`));
          }
        }
        assert.deepEqual(faults, []);
        await context.close();
      });
    } finally {
      await browser.close();
    }
  },
});

/** From the first Tab on a page to a server's removal asked for and not done. */
async function byKeyboard(page: Page, origin: string, serverId: string) {
  const press = (key: string) => page.keyboard.press(key);
  await page.goto(`${origin}/marketplace`);
  await press("Tab");
  assert.equal(await focused(page), "Skip to the page");
  await press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement!.id), "main");

  await page.goto(`${origin}/marketplace?q=filesystem`);
  await tabTo(page, "link", "Filesystem");
  await press("Enter");
  await page.waitForURL(`${origin}/marketplace/filesystem`);
  await assertOrder(page);
  await tabTo(page, "button", "Deploy");

  await page.goto(`${origin}/`);
  const menu = page.locator("details.menu");
  await tabToSummary(page, "details.menu > summary");
  await press("Enter");
  assert.ok(await menu.evaluate((menu: HTMLDetailsElement) => menu.open));
  await press("Tab");
  assert.equal(await focused(page), "Members and settings");
  await press("Escape");
  assert.ok(!await menu.evaluate((menu: HTMLDetailsElement) => menu.open), "Escape closes it");
  assert.equal(
    await page.evaluate(() => document.activeElement!.tagName),
    "SUMMARY",
    "the focus goes back",
  );

  await page.goto(`${origin}/servers/${serverId}`);
  await assertOrder(page);
  const confirmation = page.locator("details.confirm", { hasText: "Remove" }).first();
  await tabToSummary(page, "details.confirm > summary", "Remove");
  await press("Enter");
  assert.ok(await confirmation.evaluate((each: HTMLDetailsElement) => each.open));
  await press("Tab");
  await press("Escape");
  assert.ok(!await confirmation.evaluate((each: HTMLDetailsElement) => each.open));

  await page.goto(`${origin}/servers/${serverId}/tools/shows`);
  await tabTo(page, "button", "Call the tool");
  await press("Enter");
  await page.locator("#outcome.good").waitFor();
}

const focused = (page: Page) =>
  page.evaluate(() => document.activeElement!.textContent!.replaceAll(/\s+/g, " ").trim());

async function tabToSummary(page: Page, selector: string, text = "") {
  const target = page.locator(selector, { hasText: text }).first();
  for (let presses = 0; presses < 200; presses++) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`${selector} "${text}" is not reached with the Tab key`);
}

/** The focus goes through the page as it is read, and is seen wherever it is. */
async function assertOrder(page: Page) {
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
  const faults: string[] = [];
  let before: number | null = null;
  for (let presses = 0; presses < 200; presses++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement!;
      if (element === document.body) return null;
      const { outlineStyle, boxShadow } = getComputedStyle(element);
      return {
        index: [...document.querySelectorAll("*")].indexOf(element),
        html: element.outerHTML.slice(0, 120),
        isSeen: outlineStyle !== "none" || boxShadow !== "none",
      };
    });
    if (!at || (before !== null && at.index < before)) break;
    before = at.index;
    if (!at.isSeen) faults.push(`The focus is not seen on ${at.html}`);
  }
  assert.ok(before !== null);
  assert.deepEqual(faults, []);
  // Whoever gives an element a place of its own in the order takes it out of the order that is read.
  assert.equal(
    await page.locator("[tabindex]:not([tabindex='0']):not([tabindex='-1'])").count(),
    0,
  );
}
