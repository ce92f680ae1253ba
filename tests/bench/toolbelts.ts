/**
 * What the bridge itself costs, over HTTP and on an embedded database, in front of one server's process
 * (toolbelts_app.ts): lists, searches, large results, and calls of more and more agents.
 */
import { type Caller, callOf, forwarder, isRight, pipe } from "./direct.ts";
import { load, printRatio, printRounds, quantile, rounds } from "./load.ts";
import { AGENTS, LARGE_TOOLS, SERVERS, type Started, TOOLS } from "./toolbelts_app.ts";

export const TOOLBELT_PARTS = ["lists", "large", "agents"] as const;
export type ToolbeltPart = typeof TOOLBELT_PARTS[number];

const SCRIPT = new URL("./toolbelts_server.mjs", import.meta.url).pathname;

export async function measureToolbelts(
  isAsked: (part: ToolbeltPart) => boolean,
  { count, isQuick }: { count: number; isQuick: boolean },
) {
  await using app = await startApp();
  if (isAsked("lists")) await lists(app, isQuick ? 20 : 100);
  if (isAsked("agents")) await agents(app, { count, calls: isQuick ? 1000 : 3000 });
  if (isAsked("large")) await large(app, { count, calls: isQuick ? 10 : 40 });
}

export interface App extends AsyncDisposable, Started {
  pid: number;
}

/** The app with its agents and servers, as a process of its own. */
export async function startApp(): Promise<App> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-check", "--lock=tests/deno.lock"],
      ...[new URL("./toolbelts_app.ts", import.meta.url).pathname, SCRIPT],
    ],
    cwd: new URL("../../", import.meta.url).pathname,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let text = "";
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The app did not start");
    text += value;
  }
  return {
    ...JSON.parse(text) as Started,
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
    },
  };
}

async function post({ url }: App, token: string, body: string, session?: string) {
  return await fetch(url, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2025-11-25",
      ...(session ? { "mcp-session-id": session } : {}),
    },
    body,
  });
}

/** Calls of one agent. */
export function throughBridge(app: App): Caller {
  return {
    processes: { app: app.pid, DTMA: app.toolboxPid },
    call: async () =>
      isRight(await (await post(app, app.tokens[0], callOf("bench-0__echo"))).text()),
  };
}

const request = (method: string, params: Record<string, unknown> = {}) =>
  JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });

async function lists(app: App, times: number) {
  const page = async (cursor?: string) => {
    const { result } = await (await post(app, app.token, request("tools/list", { cursor }))).json();
    return result as { tools: unknown[]; nextCursor?: string };
  };
  const onePage: number[] = [], whole: number[] = [];
  let found = 0;
  // The first makes the texts, and is what a client meets after a change.
  let cold = 0;
  for (let i = 0; i <= times; i++) {
    const started = performance.now();
    let { tools, nextCursor } = await page();
    if (i > 0) onePage.push(performance.now() - started);
    found = tools.length;
    while (nextCursor) {
      ({ tools, nextCursor } = await page(nextCursor));
      found += tools.length;
    }
    if (i > 0) whole.push(performance.now() - started);
    else cold = performance.now() - started;
  }
  console.log(
    `\nlists: tools/list of ${found} tools from ${SERVERS} servers, read and parsed by the client`,
  );
  if (found !== SERVERS * TOOLS) throw new Error(`${found} tools were listed`);
  print("all pages", whole);
  print("the first page", onePage);
  console.log(`the first list after a start, all pages: ${cold.toFixed(1)} ms`);
}

async function agents(app: App, { count, calls }: { count: number; calls: number }) {
  const of = (number: number): Caller => {
    let at = 0;
    return {
      processes: { app: app.pid, DTMA: app.toolboxPid },
      async call() {
        const token = app.tokens[at++ % number];
        return isRight(await (await post(app, token, callOf("bench-0__echo"))).text());
      },
    };
  };
  const ways = { "1 agent": of(1), "50 agents": of(50), [`${AGENTS} agents`]: of(AGENTS) };
  const measured = await rounds(ways, { concurrency: 16, calls, count });
  console.log("\nagents: calls of agents in turn, 16 in flight");
  printRounds(measured);
  for (const many of Object.keys(ways).slice(1)) printRatio(measured, many, "1 agent");
}

/** A result of 1 MiB by the server's own pipe, the least hop and the bridge, which all are asked for it in turn. */
async function large(app: App, { count, calls }: { count: number; calls: number }) {
  await using direct = await pipe(SCRIPT);
  await using hop = await forwarder(SCRIPT);
  const isWhole = (text: string) => text.length > 800_000;
  for (const [what, tool] of Object.entries(LARGE_TOOLS)) {
    const ways: Record<string, Caller> = {
      pipe: { call: async () => isWhole(await direct.ask(callOf(tool))) },
      forwarder: {
        processes: hop.processes,
        call: async () => isWhole(await hop.post(callOf(tool))),
      },
      Mooring: {
        processes: { app: app.pid, DTMA: app.toolboxPid },
        call: async () =>
          isWhole(await (await post(app, app.tokens[0], callOf(`bench-0__${tool}`))).text()),
      },
    };
    const measured: Parameters<typeof printRounds>[0] = {};
    for (const way of Object.values(ways)) await load(way, 1, 5);
    for (let round = 0; round < count; round++) {
      for (const [name, way] of Object.entries(ways)) {
        (measured[name] ??= []).push(await load(way, 1, calls));
      }
    }
    console.log(`\nlarge: a result of 1 MiB (${what}), 1 in flight`);
    printRounds(measured);
    for (const other of ["pipe", "forwarder"]) printRatio(measured, "Mooring", other);
  }
}

function print(name: string, times: number[]) {
  const of = (share: number) => `${quantile(times, share).toFixed(2)} ms`;
  console.log(
    `${name.padEnd(18)} p50 ${of(0.5)}, p95 ${of(0.95)}, p99 ${of(0.99)} (${times.length})`,
  );
}
