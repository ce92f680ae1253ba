/** The real thing: `main.ts` with its DTMA and a real container, driven by its own forms. */
import { Docker } from "../../dtma/docker.ts";
import { freePort } from "../free_port.ts";
import { residentMb } from "./cpu.ts";
import { type Caller, callOf, isRight } from "./direct.ts";
import { bareContainer } from "./start.ts";

export interface Mooring extends Caller, AsyncDisposable {
  /** Of the bridge. */
  url: string;
  /** Makes an agent with the server that is deployed. @returns its token */
  agent(name: string): Promise<string>;
  /** Deploys once more and removes it again; milliseconds from the form to the tools being listed. */
  deployToTools(): Promise<number>;
  /** Runs the same image bare; milliseconds from create to the answered `initialize`. */
  bareContainer(): Promise<number>;
  /** Deploys so many at once and removes them again; milliseconds to the first and the last running. */
  deployMany(
    count: number,
    whileRunning: () => Promise<void>,
  ): Promise<{ firstMs: number; lastMs: number }>;
  /** Resident memory by process, in MB. */
  memory(): Promise<Record<string, number>>;
}

/** In turn: a token is let ask 2,000 times a second for long, and all together ask more. */
const AGENTS = 8;

const OWNER = { OWNER_EMAIL: "bench@example.com", OWNER_PASSWORD: "a password for the bench" };

/** Starts Mooring on a fresh data directory with `server-everything` deployed, approved and connected. */
export async function startMooring(
  { environment = {} }: { environment?: Record<string, string> } = {},
): Promise<Mooring> {
  const directory = await Deno.makeTempDir({ prefix: "mooring-bench-" });
  const port = freePort();
  const base = `http://127.0.0.1:${port}`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      `--lock=${new URL("../../app.lock", import.meta.url).pathname}`,
      "-A",
      new URL("../../main.ts", import.meta.url).pathname,
      "--no-install",
    ],
    env: {
      // As `deno task start` has it.
      DENO_UNSTABLE_LAZY_DYNAMIC_IMPORTS: "1",
      DENO_USR2_MEMORY_TRIM: "1",
      ...OWNER,
      DATA_DIR: directory,
      PORT: String(port),
      LOG_FORMAT: "json",
      ...environment,
    },
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const docker = new Docker();
  try {
    for (let i = 0; !await isReady(base); i++) {
      if (i > 600) throw new Error("Mooring did not become ready");
      await sleep(100);
    }
    const browser = await signIn(base);
    const { id, image } = await deploy(browser, "bench");
    await approveAll(browser, id);
    const tokens: string[] = [];
    for (let n = 1; n <= AGENTS; n++) tokens.push(await agentFor(browser, id, `bench ${n}`));
    let calls = 0;
    return {
      url: `${base}/mcp`,
      agent: (name) => agentFor(browser, id, name),
      async call() {
        const response = await fetch(`${base}/mcp`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${tokens[calls++ % tokens.length]}`,
            "content-type": "application/json",
            accept: "application/json, text/event-stream",
            "mcp-protocol-version": "2025-11-25",
          },
          body: callOf("bench__echo"),
        });
        return isRight(await response.text());
      },
      async deployToTools() {
        const { id, ms } = await deploy(browser, "again");
        await browser.post(`/servers/${id}/remove`, {});
        await watch(browser, id, (html) => html.includes("was removed"));
        return ms;
      },
      async deployMany(count, whileRunning) {
        const started = performance.now();
        let firstMs = Infinity;
        const ids = await Promise.all(Array.from({ length: count }, async (_, index) => {
          const { id } = await deploy(browser, `many-${index}`);
          firstMs = Math.min(firstMs, performance.now() - started);
          return id;
        }));
        const lastMs = performance.now() - started;
        await whileRunning();
        await Promise.all(ids.map(async (id) => {
          await browser.post(`/servers/${id}/remove`, {});
          await watch(browser, id, (html) => html.includes("was removed"));
        }));
        return { firstMs, lastMs };
      },
      bareContainer: () => bareContainer(docker, image),
      memory: async () => ({
        app: await residentMb(child.pid),
        DTMA: await residentMb(await childOf(child.pid)),
      }),
      processes: { app: child.pid, DTMA: await childOf(child.pid) },
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }

  async function stop() {
    const browser = await signIn(base).catch(() => null);
    for (
      const [, id] of (await browser?.get("/servers").catch(() => ""))?.matchAll(
        /servers\/([0-9a-f-]{36})"/g,
      ) ?? []
    ) {
      await browser!.post(`/servers/${id}/remove`, {});
      await watch(browser!, id, (html) => html.includes("was removed"));
    }
    child.kill("SIGTERM");
    await child.status;
    docker.close();
    await Deno.remove(directory, { recursive: true });
  }
}

interface Browser {
  get(path: string): Promise<string>;
  /** Sends a form; returns where it leads and the page, if it is one. */
  post(
    path: string,
    form: Record<string, string | string[]>,
  ): Promise<{ location: string; html: string }>;
  open(path: string, signal: AbortSignal): Promise<Response>;
}

async function signIn(base: string): Promise<Browser> {
  let cookie = "";
  const send = (path: string, init: RequestInit = {}) =>
    fetch(base + path, {
      redirect: "manual",
      ...init,
      headers: { cookie, origin: base, ...init.headers },
    });
  const browser: Browser = {
    get: async (path) => await (await send(path)).text(),
    async post(path, form) {
      const body = new URLSearchParams();
      for (const [name, values] of Object.entries(form)) {
        for (const value of [values].flat()) body.append(name, value);
      }
      const response = await send(path, { method: "POST", body });
      cookie = response.headers.getSetCookie()[0]?.split(";")[0] ?? cookie;
      return { location: response.headers.get("location") ?? "", html: await response.text() };
    },
    open: (path, signal) => send(path, { signal }),
  };
  await browser.post("/sign-in", { email: OWNER.OWNER_EMAIL, password: OWNER.OWNER_PASSWORD });
  return browser;
}

async function deploy(
  browser: Browser,
  name: string,
): Promise<{ id: string; ms: number; image: string }> {
  const form = await browser.get("/marketplace/everything");
  const field = (name: string) => new RegExp(`name="${name}" value="([^"]+)"`).exec(form)![1];
  const started = performance.now();
  const { location } = await browser.post("/servers", {
    slug: "everything",
    name,
    toolboxId: field("toolboxId"),
    idempotencyKey: field("idempotencyKey"),
  });
  const id = location.split("/").at(-1)!;
  await watch(browser, id, (html) => /verdict"[^]*status running/.test(html));
  const ms = performance.now() - started;
  const page = await browser.get(`/servers/${id}`);
  const [, image] = /class="digest">(sha256:[0-9a-f]{64})</.exec(page)!;
  return { id, ms, image };
}

/** Follows a server's live page until `isThere` holds for what it sends. */
async function watch(browser: Browser, id: string, isThere: (html: string) => boolean) {
  const end = new AbortController();
  const bound = setTimeout(() => end.abort(), 180_000);
  const response = await browser.open(`/servers/${id}/live`, end.signal);
  let text = "";
  try {
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text = (text + chunk).slice(-200_000);
      const lastHead = text.slice(text.lastIndexOf('id="server-head"'));
      if (isThere(lastHead)) return;
    }
    throw new Error("The live page ended before what was waited for");
  } finally {
    clearTimeout(bound);
    end.abort();
  }
}

async function approveAll(browser: Browser, serverId: string): Promise<void> {
  const page = await browser.get(`/servers/${serverId}/tools`);
  // Of the tools: prompts and the like are approved by another form.
  const form = /<form [^>]*action="[^"]*\/tools">[^]*?<\/form>/.exec(page)![0];
  const waiting = [...form.matchAll(/name="waiting" value="([^"]+)"/g)].map(([, value]) => value);
  await browser.post(`/servers/${serverId}/tools`, { act: "approve-all", waiting });
}

/** Makes an agent that is connected to the server. @returns its token */
async function agentFor(browser: Browser, serverId: string, name: string): Promise<string> {
  const { location } = await browser.post("/agents", { name });
  await browser.post(`${location}/connections`, { serverId });
  const { html } = await browser.post(`${location}/tokens`, { name: "bench", expiresInDays: "30" });
  return /mag_[A-Za-z0-9_-]{43}/.exec(html)![0];
}

async function isReady(base: string): Promise<boolean> {
  try {
    const { checks } = await (await fetch(`${base}/readyz`)).json();
    return checks.database && checks.toolbox;
  } catch {
    return false;
  }
}

/** The DTMA that an app started; it may have other children, such as a build. */
async function childOf(pid: number): Promise<number> {
  const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
  for (const child of children.trim().split(" ").map(Number)) {
    if ((await Deno.readTextFile(`/proc/${child}/cmdline`)).includes("dtma/main.ts")) return child;
  }
  throw new Error("The app has no DTMA");
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
