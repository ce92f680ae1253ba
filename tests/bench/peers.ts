/**
 * Other gateways, before the same server: installed from npm into a folder of their own, at the versions
 * below. One that cannot be installed or started is named with the reason, and left out.
 */
import { freePort } from "../free_port.ts";
import { type Caller, callOf, forwarder, isRight } from "./direct.ts";
import { printRatio, printRounds, rounds } from "./load.ts";
import { startApp, throughBridge } from "./toolbelts.ts";

const SCRIPT = new URL("./toolbelts_server.mjs", import.meta.url).pathname;

interface Peer {
  package: string;
  version: string;
  /** The arguments of its program, which then serves at the port. */
  args: (port: number, directory: string) => string[] | Promise<string[]>;
  program: string;
  connect: (port: number) => Promise<() => Promise<boolean>>;
}

const PEERS: Peer[] = [
  {
    package: "supergateway",
    version: "4.0.0",
    program: "supergateway",
    args: (port) => [
      ...["--stdio", `node ${SCRIPT}`, "--outputTransport", "streamableHttp", "--stateful"],
      ...["--port", String(port), "--logLevel", "none"],
    ],
    connect: (port) => streamable(`http://127.0.0.1:${port}/mcp`, "echo"),
  },
  {
    package: "mcp-proxy",
    version: "6.7.19",
    program: "mcp-proxy",
    args: (port) => ["--port", String(port), "--server", "stream", "--", "node", SCRIPT],
    connect: (port) => streamable(`http://127.0.0.1:${port}/mcp`, "echo"),
  },
  {
    package: "mcp-hub",
    version: "4.2.1",
    program: "mcp-hub",
    args: async (port, directory) => {
      const config = `${directory}/hub.json`;
      const servers = { mcpServers: { bench: { command: "node", args: [SCRIPT] } } };
      await Deno.writeTextFile(config, JSON.stringify(servers));
      return ["--port", String(port), "--config", config];
    },
    connect: (port) => httpSse(`http://127.0.0.1:${port}/mcp`, "bench__echo"),
  },
];

export async function measurePeers({ count, isQuick }: { count: number; isQuick: boolean }) {
  await using hop = await forwarder(SCRIPT);
  await using app = await startApp();
  const ways: Record<string, Caller> = { forwarder: hop, Mooring: throughBridge(app) };
  const running: AsyncDisposable[] = [];
  try {
    for (const peer of PEERS) {
      try {
        const started = await start(peer);
        running.push(started);
        ways[peer.package] = started;
      } catch (error) {
        const [reason] = (error as Error).message.split("\n");
        console.log(`skipped: ${peer.package}@${peer.version}: ${reason.slice(0, 300)}`);
      }
    }
    for (const concurrency of [1, 16, 64]) {
      const calls = (concurrency === 1 ? 300 : 1500) / (isQuick ? 3 : 1);
      const measured = await rounds(ways, { concurrency, calls, count });
      console.log(`\npeers: tools/call of echo, ${concurrency} in flight`);
      printRounds(measured);
      for (const other of Object.keys(ways)) {
        if (other !== "Mooring") printRatio(measured, "Mooring", other);
      }
    }
  } finally {
    for (const each of running) await each[Symbol.asyncDispose]();
  }
}

async function start(peer: Peer): Promise<Caller & AsyncDisposable> {
  const directory = await Deno.makeTempDir({ prefix: "mooring-peer-" });
  let child: Deno.ChildProcess | null = null;
  const stop = async () => {
    child?.kill("SIGKILL");
    await child?.status;
    await Deno.remove(directory, { recursive: true });
  };
  try {
    const install = await new Deno.Command("npm", {
      args: [
        ...["install", "--prefix", directory, "--no-audit", "--no-fund", "--loglevel=error"],
        `${peer.package}@${peer.version}`,
      ],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).output();
    if (!install.success) throw new Error(new TextDecoder().decode(install.stderr));
    const port = freePort();
    child = new Deno.Command(`${directory}/node_modules/.bin/${peer.program}`, {
      args: await peer.args(port, directory),
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    // It may serve before its own server is there.
    const call = await connected(async () => {
      const made = await peer.connect(port);
      if (!await made()) throw new Error("its answer to a call is not right");
      return made;
    });
    return { call, processes: { peer: child.pid }, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function connected<T>(connect: () => Promise<T>): Promise<T> {
  for (let tries = 0;; tries++) {
    try {
      return await connect();
    } catch (error) {
      if (tries > 150) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

const INITIALIZE = JSON.stringify({
  jsonrpc: "2.0",
  id: 0,
  method: "initialize",
  params: {
    protocolVersion: "2025-06-18",
    capabilities: {},
    clientInfo: { name: "bench", version: "1" },
  },
});
const INITIALIZED = `{"jsonrpc":"2.0","method":"notifications/initialized"}`;

/** One session of Streamable HTTP. */
async function streamable(url: string, tool: string): Promise<() => Promise<boolean>> {
  let session: string | null = null;
  const post = async (body: string) => {
    const response = await fetch(url, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": "2025-06-18",
        ...(session ? { "mcp-session-id": session } : {}),
      },
      body,
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`it answered ${response.status}: ${text}`);
    session ??= response.headers.get("mcp-session-id");
    return text;
  };
  await post(INITIALIZE);
  await post(INITIALIZED);
  let lastId = 0;
  return async () => isRight(await post(withId(callOf(tool), ++lastId)));
}

/** One session of HTTP+SSE, whose answers come on its stream. */
async function httpSse(url: string, tool: string): Promise<() => Promise<boolean>> {
  const response = await fetch(url, { headers: { accept: "text/event-stream" } });
  if (!response.ok) throw new Error(`it answered ${response.status}`);
  const waiting = new Map<number, (text: string) => void>();
  const endpoint = Promise.withResolvers<URL>();
  (async () => {
    let rest = "";
    for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
      const events = (rest + text).split(/\r?\n\r?\n/);
      rest = events.pop()!;
      for (const event of events) {
        const data = /^data: ?(.*)$/m.exec(event)?.[1] ?? "";
        if (/^event: ?endpoint$/m.test(event)) endpoint.resolve(new URL(data, url));
        else if (data.startsWith("{")) waiting.get(JSON.parse(data).id)?.(data);
      }
    }
  })().catch(() => {});
  const messages = await endpoint.promise;
  const send = async (body: string) => {
    const sent = await fetch(messages, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    const text = await sent.text();
    if (!sent.ok) throw new Error(`it answered ${sent.status}: ${text}`);
  };
  const ask = async (body: string, id: number) => {
    const { promise, resolve } = Promise.withResolvers<string>();
    waiting.set(id, resolve);
    await send(body);
    const text = await promise;
    waiting.delete(id);
    return text;
  };
  await ask(INITIALIZE, 0);
  await send(INITIALIZED);
  let lastId = 0;
  return async () => {
    const id = ++lastId;
    return isRight(await ask(withId(callOf(tool), id), id));
  };
}

function withId(body: string, id: number): string {
  return JSON.stringify({ ...JSON.parse(body), id });
}
