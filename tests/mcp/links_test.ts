import { openOutside } from "../../models/outside.ts";
import assert from "node:assert/strict";
import { createApp } from "../../app.ts";
import { dial } from "../../dtma/dial.ts";
import { dataPath, linkServing, type Route } from "../../dtma/data_path.ts";
import {
  ErrorCode,
  generateSigningKey,
  PIN_META,
  POLLS_META,
  signRequest,
} from "../../dtma/protocol.ts";
import type { Link } from "../../dtma/link.ts";
import { keepTunnel } from "../../dtma/tunnel.ts";
import { links, type LinksOptions, type Target } from "../../mcp/links.ts";
import { type Answer, type CallOptions, callServer } from "../../mcp/router.ts";
import { CallRecorder } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import { createLog } from "../../models/log.ts";
import { enrolToolbox } from "../../models/toolboxes.ts";
import { replicaOfTunnel } from "../../models/tunnels.ts";
import { startServer, toolCall } from "../dtma/stdio_server.ts";
import { tcpProxy } from "../dtma/tcp_proxy.ts";
import { type Kind, KINDS, openWorld, testKey } from "../models/databases.ts";
import { freePort } from "../free_port.ts";
import { hashesOf } from "./world.ts";

const SERVER = "01890000-0000-7000-8000-000000000001";
const OPTIONS = { sanitizeResources: false, sanitizeOps: false };
const appSigningKey = await generateSigningKey();
const key = await generateSigningKey();

let shared: Promise<Awaited<ReturnType<typeof openShared>>> | null = null;
Deno.test.afterAll(async () => await (await shared)?.close());

/** A database with an enrolled toolbox, for this file's tests. */
async function openShared(kind: Kind = KINDS[0]) {
  const world = await openWorld(kind);
  const token = world.enrolmentToken;
  await enrolToolbox(world.db, {
    token,
    publicKey: key.publicKey,
    facts: {
      dtmaVersion: "0",
      protocolVersion: 2,
      reach: "tunnel",
      address: null,
      engine: { state: "absent", reason: "a test", advice: "none" },
    },
  });
  return world;
}

/** One replica of the app, served over HTTP behind a proxy. */
async function replica(
  { kind, signingKey = appSigningKey, ...options }: Partial<LinksOptions> & {
    kind?: Awaited<ReturnType<typeof openShared>>;
    signingKey?: typeof appSigningKey;
  } = {},
) {
  const world = kind ?? await (shared ??= openShared());
  const { db, identity, toolboxId } = world;
  const logged: string[] = [];
  const log = createLog("text", (line) => logged.push(line));
  const changes = new Changes(db);
  const http = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => app.fetch(request),
  );
  const baseUrl = new URL(`http://127.0.0.1:${http.addr.port}`);
  const proxy = tcpProxy(http.addr.port);
  const own = links({
    db,
    changes,
    appSigningKey: signingKey,
    log,
    dial,
    replicaAddress: baseUrl,
    arrivalMs: 0,
    ...options,
  });
  const deps = { appSigningKey: signingKey, links: own };
  let isDisposed = false;
  const app = await createApp({
    db,
    identity,
    setup: null,
    secretsKey: testKey,
    outside: openOutside(),
    changes,
    calls: new CallRecorder(db, log),
    log,
    baseUrl,
    version: "0",
    isMigrated: () => Promise.resolve(true),
    ...deps,
  });
  return {
    world,
    baseUrl,
    /** Where toolboxes dial it. */
    url: `http://127.0.0.1:${proxy.port}`,
    proxy,
    links: own,
    logged,
    call: async (message: unknown, target: Partial<Target> = {}, options: CallOptions = {}) =>
      seen(
        await callServer(
          deps,
          {
            toolboxId,
            reach: "tunnel",
            address: null,
            serverId: SERVER,
            instance: null,
            ...target,
          },
          JSON.stringify(message),
          options,
        ),
      ),
    async [Symbol.asyncDispose]() {
      if (isDisposed) return;
      isDisposed = true;
      await own.close(0);
      proxy.close();
      await http.shutdown();
      await changes.close();
    },
  };
}

function seen(answer: Answer) {
  const value = JSON.parse(answer.text);
  return { kind: answer.kind, value, text: value.content?.[0]?.text, code: value.code };
}

/** A toolbox with one real server on stdio. */
async function toolbox(script = "shuffles") {
  const server = startServer(script);
  const session = await server.open();
  const toolHashes = await hashesOf(await session.listTools());
  const calls: unknown[] = [];
  const reach = (serverId: string, instance: string | null): Promise<Route> => {
    calls.push([serverId, instance]);
    return Promise.resolve(
      serverId === SERVER ? { session, toolHashes } : { unavailable: "It is not here" },
    );
  };
  return {
    server,
    reach,
    calls,
    pinned: (name: string, args: Record<string, unknown> = {}, meta = {}) =>
      toolCall(name, args, { meta: { [PIN_META]: toolHashes.get(name), ...meta } }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Its DTMA's data path, behind a proxy. */
function served(
  reach: Awaited<ReturnType<typeof toolbox>>["reach"],
  { handler }: { handler?: (request: Request) => Response | null } = {},
) {
  const path = dataPath({
    reach,
    logOf: () => Promise.resolve(null),
    appPublicKey: () => appSigningKey.publicKey,
    log: () => {},
  });
  const requests: string[] = [];
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    requests.push(`${request.method} ${new URL(request.url).pathname}`);
    return handler?.(request) ?? path(request);
  });
  const proxy = tcpProxy(http.addr.port);
  return {
    proxy,
    requests,
    direct: { reach: "direct" as const, address: `http://127.0.0.1:${proxy.port}` },
    async [Symbol.asyncDispose]() {
      proxy.close();
      await http.shutdown();
    },
  };
}

/** Keeps a toolbox's tunnel to a replica. */
function tunnelled(
  box: Awaited<ReturnType<typeof toolbox>>,
  toolboxId: string,
  appUrl: string,
  { privateKey = key.privateKey, appPublicKey = appSigningKey.publicKey } = {},
) {
  const stopping = new AbortController();
  const logged: string[] = [];
  const made: Link[] = [];
  const kept = keepTunnel({
    appUrl,
    key: { keyId: toolboxId, privateKey },
    appPublicKey: () => appPublicKey,
    serve: linkServing({ reach: box.reach, logOf: () => Promise.resolve(null) }),
    onLink: (link) => made.push(link),
    log: (_, line) => logged.push(line),
  }, stopping.signal);
  return {
    logged,
    get made() {
      return made.length;
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await kept;
      for (const link of made) link.close("The test is over");
    },
  };
}

async function until(isThere: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!await isThere()) {
    assert.ok(performance.now() < deadline, "It did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

Deno.test({
  name: "links carry all calls to a direct toolbox over one connection, opened at the first",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using dtma = served(box.reach);
    await using app = await replica();
    assert.equal(dtma.proxy.connections, 0);
    await Promise.all(Array.from({ length: 64 }, async (_, i) => {
      const notes: string[] = [];
      const call = box.pinned("shuffles", { text: `t${i}` }, { progressToken: i });
      const { text } = await app.call(call, { ...dtma.direct, instance: `agent-${i % 2}` }, {
        onNotification: (note) => notes.push(note),
      });
      assert.equal(text, `t${i}`);
      assert.deepEqual(notes.map((note) => JSON.parse(note).params), [
        { progressToken: i, progress: 0.5, message: `t${i}` },
      ]);
    }));
    assert.deepEqual(dtma.requests, ["GET /link"]);
    assert.equal(dtma.proxy.connections, 1);
    assert.deepEqual(box.calls.slice(0, 2), [[SERVER, "agent-0"], [SERVER, "agent-1"]]);
  },
});

Deno.test({
  name: "links that are lost are opened again, and no call is made twice",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using dtma = served(box.reach);
    await using app = await replica();
    const waiting = app.call(box.pinned("waits"), dtma.direct);
    // Sent after it and answered: the server has it.
    assert.equal((await app.call(box.pinned("shuffles", { text: "a" }), dtma.direct)).text, "a");
    dtma.proxy.cut();
    const lost = await waiting;
    assert.equal(lost.code, ErrorCode.indeterminate);
    assert.match(lost.value.message, /may have run/);
    const again = Array.from(
      { length: 8 },
      (_, i) => app.call(box.pinned("shuffles", { text: `b${i}` }), dtma.direct),
    );
    assert.deepEqual((await Promise.all(again)).map(({ text }) => text), [
      ...Array.from({ length: 8 }, (_, i) => `b${i}`),
    ]);
    assert.deepEqual(dtma.requests, ["GET /link", "GET /link"]);
    assert.equal(box.calls.length, 10);
  },
});

Deno.test({
  name: "links that carry nothing for a while are closed, and opened by the next call",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using dtma = served(box.reach);
    await using app = await replica({ idleMs: 30 });
    const waiting = app.call(box.pinned("waits"), dtma.direct);
    await new Promise((resolve) => setTimeout(resolve, 150));
    await app.call(box.pinned("release"), dtma.direct);
    assert.equal((await waiting).text, "released");
    assert.equal(dtma.proxy.connections, 1);
    await until(async () => {
      const way = await app.links.wayTo({ ...TUNNEL, ...dtma.direct });
      await new Promise((resolve) => setTimeout(resolve, 100));
      return "link" in way && !way.link.isOpen;
    });
    assert.equal((await app.call(box.pinned("shuffles", { text: "t" }), dtma.direct)).text, "t");
    assert(dtma.proxy.connections > 1);
  },
});

const TUNNEL: Target = {
  toolboxId: "01890000-0000-7000-8000-00000000000b",
  reach: "tunnel",
  address: null,
  serverId: SERVER,
  instance: null,
};

Deno.test({
  name: "callServer goes on by fetch where no link can be opened",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    const noLinks = (request: Request) =>
      new URL(request.url).pathname === "/link" ? new Response(null, { status: 404 }) : null;
    await using dtma = served(box.reach, { handler: noLinks });
    await using app = await replica();
    for (const text of ["a", "b"]) {
      const call = box.pinned("shuffles", { text });
      assert.equal((await app.call(call, { ...dtma.direct, instance: "me" })).text, text);
    }
    // It is not asked again at each call.
    assert.deepEqual(dtma.requests, ["GET /link", `POST /mcp/${SERVER}`, `POST /mcp/${SERVER}`]);
    assert.deepEqual(box.calls.at(-1), [SERVER, "me"]);
    assert(app.logged.some((line) => /link.*could not be opened.*404/s.test(line)), app.logged[0]);

    const address = `http://127.0.0.1:${freePort()}`;
    const nobody = await app.call(box.pinned("shuffles"), { reach: "direct", address });
    assert.equal(nobody.code, ErrorCode.serverUnavailable);
    const nowhere = await app.call(box.pinned("shuffles"), { reach: "direct", address: null });
    assert.match(nowhere.value.message, /no address.*was not made/);
  },
});

Deno.test({
  name: "links that are closed wait for a call that goes by fetch, but for none without an end",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    const noLinks = (request: Request) =>
      new URL(request.url).pathname === "/link" ? new Response(null, { status: 404 }) : null;
    await using dtma = served(box.reach, { handler: noLinks });
    await using app = await replica();
    const waiting = app.call(box.pinned("waits"), dtma.direct);
    await until(() => box.calls.length === 1);
    let isClosed = false;
    const closed = app.links.close(60_000).then(() => isClosed = true);
    // It would be done by then without the call.
    await app.call(box.pinned("shuffles", { text: "t" }), dtma.direct);
    assert.equal(isClosed, false);
    await app.call(box.pinned("release"), dtma.direct);
    assert.equal((await waiting).text, "released");
    await closed;

    await using another = await replica();
    const gone = new AbortController();
    const listening = another.call(box.pinned("waits"), dtma.direct, {
      endsWithLink: true,
      signal: gone.signal,
    });
    await until(() => box.calls.length === 4);
    await another.links.close(60_000);
    gone.abort(new Error("left"));
    await assert.rejects(listening, /left/);
  },
});

Deno.test({
  name:
    "links that take no tunnels any more let no call wait for one, where there is no other replica",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    // Longer than a test may take.
    await using app = await replica({ replicaAddress: null, arrivalMs: 3_600_000 });
    const before = app.call(box.pinned("shuffles"));
    await app.links.endTunnels(1000);
    const { code, value } = await app.call(box.pinned("shuffles"));
    assert.equal(code, ErrorCode.serverUnavailable);
    assert.match(value.message, /no link open/);
    assert.equal((await before).code, ErrorCode.serverUnavailable);
  },
});

Deno.test({
  name: "callServer of an app whose key the toolbox does not know makes no call",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using dtma = served(box.reach);
    await using app = await replica({ signingKey: await generateSigningKey() });
    const { code, value } = await app.call(box.pinned("shuffles"), dtma.direct);
    assert.equal(code, ErrorCode.serverUnavailable);
    assert.match(value.message, /refused the app's signature \(both clocks agree\)/);
    assert.deepEqual(box.calls, []);
  },
});

Deno.test({
  name: "callServer throws the reason of an abort while a link is being opened",
  ...OPTIONS,
  async fn() {
    await using app = await replica({ dial: () => new Promise(() => {}) });
    const gone = new AbortController();
    const target = { reach: "direct" as const, address: "http://127.0.0.1:9" };
    const call = app.call({}, target, { signal: gone.signal });
    gone.abort(new Error("left"));
    await assert.rejects(call, /left/);
    // Its link is never opened: not to be waited for.
    app.links.close = () => Promise.resolve();
  },
});

Deno.test({
  name: "links take the tunnel of a toolbox, which carries its calls",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using app = await replica();
    const { toolboxId } = app.world;
    const before = await app.call(box.pinned("shuffles"));
    assert.equal(before.code, ErrorCode.serverUnavailable);
    assert.match(before.value.message, /no link open to Mooring.*was not made/);

    await using tunnel = tunnelled(box, toolboxId, app.url);
    await until(() => app.links.tunnelOf(toolboxId) !== null);
    await Promise.all(Array.from({ length: 64 }, async (_, i) => {
      const { text } = await app.call(box.pinned("shuffles", { text: `t${i}` }));
      assert.equal(text, `t${i}`);
    }));
    assert.equal(app.proxy.connections, 1);

    // Cut, it is dialled again, and calls wait for it where they may.
    const waiting = app.call(box.pinned("waits"));
    await app.call(box.pinned("shuffles", { text: "" }));
    app.proxy.cut();
    assert.equal((await waiting).code, ErrorCode.indeterminate);
    await until(() => app.links.tunnelOf(toolboxId) !== null);
    assert.equal((await app.call(box.pinned("shuffles", { text: "again" }))).text, "again");
    assert.equal(tunnel.made, 2);
  },
});

Deno.test({
  name: "a tunnel that its app ends is opened anew while calls are still answered on it",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using app = await replica({ arrivalMs: 60_000 });
    await using tunnel = tunnelled(box, app.world.toolboxId, app.url);
    const waiting = app.call(box.pinned("waits"));
    await app.call(box.pinned("shuffles", { text: "a" }));
    const link = app.links.tunnelOf(app.world.toolboxId)!;
    const ended = link.end("It took too long");
    // Over the next one.
    assert.equal((await app.call(box.pinned("release"))).text, "ok");
    assert.equal((await waiting).text, "released");
    await ended;
    assert.equal(await link.closed, "the link was ended");
    assert.equal(tunnel.made, 2);

    const { db, toolboxId } = app.world;
    assert.notEqual(await replicaOfTunnel(db, toolboxId), null);
    const last = app.call(box.pinned("waits"));
    await app.call(box.pinned("shuffles", { text: "b" }));
    const stopped = app.links.endTunnels(30_000);
    await until(() => tunnel.logged.filter((line) => line.includes("The app stops")).length > 1);
    // No replica forwards calls to it any more.
    await until(async () => await replicaOfTunnel(db, toolboxId) === null);
    assert.equal(app.links.tunnelOf(toolboxId), null);
    const route = await box.reach(SERVER, null);
    assert.ok("session" in route);
    await route.session.call(box.pinned("release"), {});
    assert.equal((await last).text, "released");
    await stopped;
  },
});

Deno.test({
  name: "a toolbox whose tunnels are ended at once goes on dialling every two seconds",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using app = await replica();
    await app.links.endTunnels(1000);
    // The waits, which are a thousandth of what they are else and no whole number.
    const { random } = Math;
    const { setTimeout: wait } = globalThis;
    const ceilings: number[] = [];
    Math.random = () => 0.001001;
    globalThis.setTimeout = ((work: () => void, ms: number) => {
      // The last one ends with the test.
      if (ms % 1 > 0 && ceilings.push(Math.round(ms / 0.001001)) === 8) return 0;
      return wait(work, ms);
    }) as typeof setTimeout;
    try {
      await using tunnel = tunnelled(box, app.world.toolboxId, app.url);
      await until(() => ceilings.length === 8);
      assert.ok(tunnel.made >= 8);
    } finally {
      Math.random = random;
      globalThis.setTimeout = wait;
    }
    assert.deepEqual(ceilings, [250, 500, 1000, 2000, 2000, 2000, 2000, 2000]);
  },
});

Deno.test({
  name: "links let a call wait for a tunnel that is about to come",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using app = await replica({ arrivalMs: 60_000 });
    const call = app.call(box.pinned("shuffles", { text: "t" }));
    await using _tunnel = tunnelled(box, app.world.toolboxId, app.url);
    assert.equal((await call).text, "t");
  },
});

Deno.test({
  name: "links refuse a tunnel of another key, a replay, and a plain request",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using app = await replica();
    const { toolboxId } = app.world;
    const stranger = await generateSigningKey();
    await using wrong = tunnelled(box, toolboxId, app.url, { privateKey: stranger.privateKey });
    await until(() => wrong.logged.length > 0);
    assert.match(wrong.logged[0], /401: The signature does not match/);

    const url = new URL(`${app.url}/toolbox/link`);
    const signed = () =>
      signRequest({ method: "GET", url, body: new Uint8Array() }, {
        keyId: toolboxId,
        privateKey: key.privateKey,
      });
    const headers = signed();
    const socket = await dial(url, headers);
    await assert.rejects(dial(url, headers), /401: The request was sent before/);
    await assert.rejects(dial(url, {}), /401: The request is not signed/);
    socket.close(1000, "");
    assert.equal((await fetch(url, { headers: signed() }).then(drop)).status, 426);
    assert.equal(app.links.tunnelOf(toolboxId), null);
  },
});

Deno.test({
  name: "a toolbox gives nothing to an app that does not prove itself",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using app = await replica();
    const { publicKey } = await generateSigningKey();
    const { toolboxId } = app.world;
    await using tunnel = tunnelled(box, toolboxId, app.url, { appPublicKey: publicKey });
    await until(() => tunnel.logged.length > 0);
    assert.match(tunnel.logged[0], /the app did not prove with its key/);
    assert.equal(tunnel.made, 0);
  },
});

Deno.test({
  name: "a call at a replica that looks for a tunnel where it was waits for where it comes next",
  ...OPTIONS,
  async fn() {
    await using box = await toolbox();
    await using first = await replica();
    await using second = await replica({ arrivalMs: 60_000 });
    const { db, toolboxId } = first.world;
    const tunnel = tunnelled(box, toolboxId, first.url);
    await until(async () => await replicaOfTunnel(db, toolboxId) !== null);
    const call = (text: string, meta = {}) => second.call(box.pinned("shuffles", { text }, meta));
    assert.equal((await call("a")).text, "a");
    await tunnel[Symbol.asyncDispose]();
    await until(async () => await replicaOfTunnel(db, toolboxId) === null);
    const calls = [call("b"), call("c", { progressToken: "c" })];
    await using _next = tunnelled(box, toolboxId, second.url);
    assert.deepEqual((await Promise.all(calls)).map(({ text }) => text), ["b", "c"]);
  },
});

for (const kind of KINDS) {
  Deno.test({
    name: `two replicas on the ${kind.name} database share one tunnel`,
    ignore: kind.ignore,
    ...OPTIONS,
    async fn(t) {
      const world = await openShared(kind);
      const { db, owner, toolboxId, user } = world;
      await using box = await toolbox();
      const first = await replica({ kind: world });
      await using second = await replica({ kind: world });

      const tunnel = tunnelled(box, toolboxId, first.url);
      await until(async () => await replicaOfTunnel(db, toolboxId) !== null);
      await t.step("a call at the other one is forwarded, with its progress", async () => {
        const notes: string[] = [];
        const call = box.pinned("shuffles", { text: "t" }, { progressToken: "mine" });
        const { text } = await second.call(call, { instance: "a&b" }, {
          onNotification: (note) => notes.push(note),
        });
        assert.equal(text, "t");
        assert.deepEqual(notes.map((note) => JSON.parse(note).params.message), ["t"]);
        assert.deepEqual(box.calls.at(-1), [SERVER, "a&b"]);
        assert.equal(second.links.tunnelOf(toolboxId), null);
        const plain = await second.call(box.pinned("shuffles", { text: "u" }));
        assert.equal(plain.text, "u");
        const elsewhere = await second.call(call, { serverId: toolboxId });
        assert.equal(elsewhere.code, ErrorCode.serverUnavailable);
        assert.match(elsewhere.value.message, /It is not here/);
      });

      await t.step("a caller that goes away at one cancels over both", async () => {
        const gone = new AbortController();
        const call = second.call(box.pinned("waits"), {}, { signal: gone.signal });
        await second.call(box.pinned("shuffles", { text: "" }));
        gone.abort(new Error("left"));
        await assert.rejects(call, /left/);
        await until(async () => {
          const { value } = await second.call(box.pinned("cancelled"));
          return value.structuredContent.cancelled.length === 1;
        });
      });

      await t.step("nobody else's call is forwarded, nor one again", async () => {
        const url = new URL(`/toolbox/forward/${toolboxId}/${SERVER}`, first.baseUrl);
        const body = new TextEncoder().encode(JSON.stringify(box.pinned("shuffles")));
        const send = async (headers: Record<string, string>) =>
          (await fetch(url, { method: "POST", headers, body }).then(drop)).status;
        const target = { method: "POST", url, body };
        const of = (keyId: string, { privateKey }: { privateKey: string }) =>
          signRequest(target, { keyId, privateKey });
        assert.equal(await send({}), 401);
        assert.equal(await send(of("app", key)), 401);
        assert.equal(await send(of(toolboxId, key)), 401);
        const own = of("app", appSigningKey);
        assert.deepEqual([await send(own), await send(own)], [200, 401]);
      });

      await t.step("what a toolbox answers with a stream is forwarded as one", async () => {
        const url = new URL(`/toolbox/forward/${toolboxId}/${SERVER}`, first.baseUrl);
        const typeOf = async (message: unknown) => {
          const body = new TextEncoder().encode(JSON.stringify(message));
          const own = { keyId: "app", privateKey: appSigningKey.privateKey };
          const headers = signRequest({ method: "POST", url, body }, own);
          const answer = await fetch(url, { method: "POST", headers, body }).then(drop);
          return answer.headers.get("content-type");
        };
        const polls = box.pinned("shuffles", { text: "w" }, { [POLLS_META]: true });
        assert.equal(await typeOf(polls), "text/event-stream");
        const call = box.pinned("shuffles", { text: "x" });
        const retry = { ...call, params: { ...call.params, requestState: "dtma-held:x" } };
        assert.equal(await typeOf(retry), "text/event-stream");
        assert.equal(await typeOf(call), "application/json");
      });

      await t.step(
        "a link that ends does not wait for a subscription at the other one",
        async () => {
          const listening = Promise.withResolvers<void>();
          const listen = second.call(
            {
              ...{ jsonrpc: "2.0", id: 1, method: "subscriptions/listen" },
              params: {
                notifications: { toolsListChanged: true },
                _meta: { "io.modelcontextprotocol/protocolVersion": "2026-07-28" },
              },
            },
            {},
            { onNotification: () => listening.resolve() },
          );
          await Promise.race([listen, listening.promise]);
          // A call that only names one is waited for.
          const named = second.call(box.pinned("waits", { text: "subscriptions/listen" }));
          await second.call(box.pinned("shuffles", { text: "" }));
          const link = first.links.tunnelOf(toolboxId)!;
          const ended = link.end("It took too long");
          assert.equal((await listen).code, ErrorCode.indeterminate);
          const route = await box.reach(SERVER, null);
          assert.ok("session" in route);
          await route.session.call(box.pinned("release"), {});
          assert.equal((await named).text, "released");
          await ended;
          assert.equal(await link.closed, "the link was ended");
          await until(() => first.links.tunnelOf(toolboxId) !== null);
        },
      );

      await t.step("a tunnel that moves to the other one is found there", async () => {
        await using _moved = tunnelled(box, toolboxId, second.url);
        await until(() => second.links.tunnelOf(toolboxId) !== null);
        await tunnel[Symbol.asyncDispose]();
        await first[Symbol.asyncDispose]();
        assert.equal((await second.call(box.pinned("shuffles", { text: "v" }))).text, "v");
        assert.equal(
          await replicaOfTunnel(db, toolboxId),
          second.baseUrl.href.replace(/\/$/, ""),
        );
      });

      await t.step("a tunnel that ended is not looked for at its replica", async () => {
        await until(async () => await replicaOfTunnel(db, toolboxId) === null);
        const { code } = await second.call(box.pinned("shuffles"));
        assert.equal(code, ErrorCode.serverUnavailable);
      });

      await t.step("a toolbox that is revoked loses its tunnel", async () => {
        await using tunnel = tunnelled(box, toolboxId, second.url);
        await until(() => second.links.tunnelOf(toolboxId) !== null);
        // This machine's own is not revoked.
        await owner`update public.toolboxes set is_local = false where id = ${toolboxId}`;
        await db.asUser(
          user,
          (sql) => sql`update toolboxes set revoked_at = now() where id = ${toolboxId}`,
        );
        await until(() => second.links.tunnelOf(toolboxId) === null);
        await until(() => tunnel.logged.some((line) => /401: The key is not known/.test(line)));
      });
      await second[Symbol.asyncDispose]();
      await world.close();
    },
  });
}

async function drop(response: Response): Promise<Response> {
  await response.body?.cancel();
  return response;
}
