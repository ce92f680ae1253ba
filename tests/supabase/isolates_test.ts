/**
 * The app's bundle as isolates that come and go: pages, a live page and the bridge go on. Says what a page and a
 * call cost of the processor; load from elsewhere makes that no assertion.
 */
import assert from "node:assert/strict";
import { loadavg } from "node:os";
import { bundle } from "../../supabase/bundle.ts";
import { freePort } from "../free_port.ts";
import { openBridge, openOn } from "../mcp/world.ts";
import { calling, eventsOf, initialize, messagesOf } from "../mcp/streams.ts";
import { modern } from "../mcp/world.ts";
import { eventually } from "../chaos/waiting.ts";
import { addMember, SUPABASE } from "../models/databases.ts";
import { PUBLISHABLE_KEY, startAuthServer } from "./auth_server.ts";
import { startIsolates } from "./isolates.ts";

const PASSWORD = "a long enough password";
const RUN_MS = 20_000;
const options = { ignore: SUPABASE.ignore, sanitizeOps: false, sanitizeResources: false };

/** The world behind the functions: the project's database and Auth, a toolbox with a server, an agent. */
async function openProject() {
  openOn(SUPABASE);
  const stack = new AsyncDisposableStack();
  const bridge = stack.use(await openBridge("echo"));
  const auth = await startAuthServer({ owner: bridge.owner });
  stack.defer(() => auth.close());
  const account = await auth.addAccount({
    email: `${crypto.randomUUID()}@example.com`,
    password: PASSWORD,
  });
  const { id } = account;
  await addMember(bridge, bridge.workspaceId, id, "owner");
  const [{ email }] = await bridge.owner`select email from auth.users where id = ${id}`;
  const folder = await Deno.makeTempDir({ prefix: "mooring-edge-" });
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const file = `${folder}/bundle.js`;
  await bundle("app", file);
  const port = freePort();
  const origin = `http://127.0.0.1:${port}`;
  const base = `${origin}/functions/v1/app`;
  const start = async (
    count: number,
    lifeMs: [number, number] | null,
    keyIn: "environment" | "vault" = "environment",
  ) => {
    if (keyIn === "vault") {
      await bridge.owner`
        select vault.create_secret(${bridge.secretsKeyText}, 'mooring_secrets_key')`;
    }
    const isolates = await startIsolates({
      bundle: file,
      name: "app",
      port,
      count,
      lifeMs,
      reaches: [bridge.databaseUrl!, auth.url, bridge.toolboxAddress, origin].map((url) =>
        new URL(url).host
      ),
      secrets: {
        DATABASE_URL: bridge.databaseUrl!,
        ...(keyIn === "environment" ? { SECRETS_KEY: bridge.secretsKeyText } : {}),
        BASE_URL: base,
        SUPABASE_URL: auth.url,
        SUPABASE_PUBLISHABLE_KEY: PUBLISHABLE_KEY,
      },
    });
    stack.defer(() => isolates.close());
    return isolates;
  };
  const signIn = async () => {
    const response = await fetch(`${base}/sign-in`, {
      method: "POST",
      redirect: "manual",
      headers: { origin },
      body: new URLSearchParams({ email, password: PASSWORD, next: "/" }),
    });
    assert.equal(response.status, 303, await response.text());
    return response.headers.getSetCookie().map((line) => line.split(";")[0]).join("; ");
  };
  const send = (path: string, body?: unknown, headers: Record<string, string> = {}) =>
    fetch(new URL(path.startsWith("/functions") ? path : `/functions/v1/app${path}`, origin), {
      method: body ? "POST" : "GET",
      headers: {
        authorization: `Bearer ${bridge.token}`,
        accept: body ? "application/json, text/event-stream" : "text/event-stream",
        ...(body ? { "content-type": "application/json" } : {}),
        ...headers,
      },
      body: body ? JSON.stringify(body) : undefined,
    });
  /** The account's own access token. */
  const token = async () => (await auth.openSession(account)).access_token;
  return {
    bridge,
    base,
    start,
    signIn,
    token,
    send,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

type Project = Awaited<ReturnType<typeof openProject>>;
type Call = (text: string) => Promise<string>;
// deno-lint-ignore no-explicit-any
type Json = any;

const textOf = (message: Json): string =>
  message?.result?.content?.[0]?.text ?? JSON.stringify(message);

/** 2026-07-28: each request alone. */
function stateless({ send }: Project, by: Record<string, string> = {}): Promise<Call> {
  return Promise.resolve(async (text) => {
    const { body, headers } = modern("tools/call", { name: "demo__echo", arguments: { text } });
    return textOf((await messagesOf(await send("/mcp", body, { ...headers, ...by }))).at(-1));
  });
}

/** 2025-06-18: a session, whose requests come to any isolate. */
async function session({ send }: Project): Promise<Call> {
  const opened = await send("/mcp", initialize("2025-06-18"));
  await opened.body?.cancel();
  const headers = {
    "mcp-session-id": opened.headers.get("mcp-session-id")!,
    "mcp-protocol-version": "2025-06-18",
  };
  let id = 0;
  return async (text) => {
    const response = await send("/mcp", calling(++id, "demo__echo", { text }), headers);
    return textOf((await messagesOf(response)).at(-1));
  };
}

/** 2024-11-05: answers come on a stream, which ends with its isolate and is opened again where it was cut. */
async function httpSse({ send }: Project, signal: AbortSignal): Promise<Call> {
  const endpoint = Promise.withResolvers<string>();
  const waiting = new Map<number, (message: Json) => void>();
  const follow = async () => {
    let lastId: string | undefined;
    while (!signal.aborted) {
      try {
        const resume: Record<string, string> = lastId ? { "last-event-id": lastId } : {};
        const response = await send("/sse", undefined, resume);
        for await (const { type, data, id } of eventsOf(response)) {
          lastId = id ?? lastId;
          if (type === "endpoint") endpoint.resolve(data);
          else if (data) waiting.get(JSON.parse(data).id)?.(JSON.parse(data));
          if (signal.aborted) break;
        }
      } catch {
        // Cut: it is opened again.
      }
    }
  };
  follow();
  const path = await endpoint.promise;
  let id = 0;
  const ask = async (body: Json) => {
    const answer = Promise.withResolvers<Json>();
    waiting.set(body.id, answer.resolve);
    const response = await send(path, body);
    const refusal = await response.text();
    return response.status === 202 ? await answer.promise : refusal;
  };
  await ask(initialize("2024-11-05"));
  return async (text) => textOf(await ask(calling(++id, "demo__echo", { text })));
}

Deno.test({
  name: "pages, a live page and the bridge go on while isolates come and go",
  ...options,
  async fn() {
    await using project = await openProject();
    const { base, bridge } = project;
    const isolates = await project.start(3, [3000, 6000]);
    const over = new AbortController();
    const cookie = await project.signIn();
    const isDue = () => performance.now() > until && isolates.ended() > 3;
    const until = performance.now() + RUN_MS;
    const wrong: string[] = [];
    const done: Record<string, number> = {};
    const repeat = async (what: string, work: () => Promise<string | null>) => {
      while (!isDue()) {
        const mistake = await work().catch(String);
        done[what] = (done[what] ?? 0) + 1;
        if (mistake !== null) wrong.push(`${what}: ${mistake.slice(0, 300)}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    const calls: [string, Call][] = [
      ["2026-07-28", await stateless(project)],
      ["2025-06-18", await session(project)],
      ["HTTP+SSE", await httpSse(project, over.signal)],
    ];
    let streams = 0, parts = 0;
    const live = async () => {
      while (!over.signal.aborted) {
        const response = await fetch(`${base}/servers/live`, {
          headers: { cookie },
          signal: over.signal,
        });
        assert.equal(response.status, 200);
        streams++;
        try {
          for await (const { data } of eventsOf(response)) if (data.includes("demo")) parts++;
        } catch {
          // Cut with its isolate: a browser connects again.
        }
      }
    };
    const living = live().catch((error) => {
      if (!over.signal.aborted) wrong.push(`live: ${error}`);
    });
    await Promise.all([
      ...calls.map(([name, call]) => {
        let n = 0;
        return repeat(name, async () => {
          const text = `${name} ${++n}`, answer = await call(text);
          return answer === text ? null : answer;
        });
      }),
      repeat("page", async () => {
        const response = await fetch(`${base}/servers`, { headers: { cookie } });
        const html = await response.text();
        return response.status === 200 && html.includes("demo") ? null : html;
      }),
    ]);
    await eventually("each stream begins with the page as it is", () => parts >= streams, 300_000);
    over.abort();
    await living;
    console.log(
      `${isolates.ended()} isolates ended in ${RUN_MS / 1000} s; done: ${JSON.stringify(done)}; ` +
        `the live page was opened ${streams} times and told ${parts}; load ${
          loadavg()[0].toFixed(1)
        }`,
    );
    assert.deepEqual(wrong, []);
    assert.ok(streams > 1, "it was opened again");
    assert.doesNotMatch(isolates.stderr.join(""), /NotCapable|Requires (read|write|run)/);
    const made = calls.reduce((sum, [name]) => sum + done[name], 0);
    await eventually("each call is recorded, though its isolate ended", async () => {
      const [{ recorded }] = await bridge.owner`select count(*)::int as recorded from calls`;
      return recorded === made;
    }, 300_000);
  },
});

Deno.test({
  name: "an isolate whose key is in Vault serves pages and calls, and what they cost is told",
  ...options,
  async fn() {
    await using project = await openProject();
    const isolates = await project.start(1, null, "vault");
    const cookie = await project.signIn();
    const call = await stateless(project);
    const own = await stateless(project, {
      authorization: `Bearer ${await project.token()}`,
      "mooring-agent": project.bridge.agentId,
    });
    assert.equal(await own("mine"), "mine");
    const page = (path: string) => async () => {
      const response = await fetch(`${project.base}${path}`, { headers: { cookie } });
      assert.equal(response.status, 200);
      await response.text();
    };
    const works: Record<string, () => Promise<unknown>> = {
      "overview": page("/"),
      "marketplace": page("/marketplace"),
      "servers": page("/servers"),
      "tools/call": () => call("hi"),
      "tools/call by a person's own token": () => own("hi"),
    };
    const atStart = await isolates.cpuMs();
    const said = [`start ${atStart} ms`];
    for (const [name, work] of Object.entries(works)) {
      const coldBefore = await isolates.cpuMs();
      await work();
      const cold = await isolates.cpuMs() - coldBefore;
      for (let i = 0; i < 10; i++) await work();
      const before = await isolates.cpuMs();
      for (let i = 0; i < 40; i++) await work();
      const each = (await isolates.cpuMs() - before) / 40;
      said.push(`${name} ${each.toFixed(1)} ms (the first ${cold})`);
      assert.ok(cold < 2000, "Supabase gives a request two seconds of the processor");
    }
    const memory = (await isolates.memoryMb()).toFixed(0);
    console.log(
      `Processor time: ${said.join(", ")}; ${memory} MB; load ${loadavg()[0].toFixed(1)}`,
    );
  },
});
