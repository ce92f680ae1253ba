import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { dataPath, type DataPathOptions, type Route } from "../../dtma/data_path.ts";
import {
  CALLER_META,
  canonicalHash,
  ErrorCode,
  FRAME_LIMIT_BYTES,
  generateSigningKey,
  LOG_METHOD,
  PIN_META,
  PROTOCOL_VERSION,
  signRequest,
} from "../../dtma/protocol.ts";
import { dial } from "../../dtma/dial.ts";
import { dialledLink, type Link } from "../../dtma/link.ts";
import { startServer, type StdioServer, toolCall } from "./stdio_server.ts";

const SERVER = "01890000-0000-7000-8000-000000000001";
const app = await generateSigningKey();
const stranger = await generateSigningKey();

/** A data path with one server behind it, served over HTTP on the loopback. */
async function serve(server: StdioServer | null, options: Partial<DataPathOptions> = {}) {
  const session = await server?.open();
  const tools = await session?.listTools() ?? [];
  const toolHashes = new Map<string, string>();
  for (const tool of tools) toolHashes.set(tool.name, await canonicalHash(tool));
  const route: Route = session ? { session, toolHashes } : { unavailable: "It is stopped" };
  const logged: string[] = [];
  const handler = dataPath({
    logOf: () => Promise.resolve("a line\n"),
    reach: (id) => Promise.resolve(id === SERVER ? route : { unavailable: "Not here" }),
    appPublicKey: () => app.publicKey,
    log: (line) => logged.push(line),
    ...options,
  });
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  const base = `http://127.0.0.1:${http.addr.port}`;
  return {
    base,
    logged,
    route,
    toolHashes,
    /** A call of a tool with its pin, as the bridge makes it. */
    pinned(name: string, args: Record<string, unknown> = {}, meta: Record<string, unknown> = {}) {
      return toolCall(name, args, { meta: { [PIN_META]: toolHashes.get(name), ...meta } });
    },
    async post(
      message: unknown,
      { path = `/mcp/${SERVER}`, method = "POST", key = app, keyId = "app", signal }: {
        path?: string;
        method?: string;
        key?: { privateKey: string };
        keyId?: string;
        signal?: AbortSignal;
      } = {},
    ) {
      const text = typeof message === "string" ? message : JSON.stringify(message);
      const body = message instanceof Uint8Array
        ? new Uint8Array(message)
        : new TextEncoder().encode(text);
      const url = base + path;
      const signature = signRequest({ method, url, body }, {
        keyId,
        privateKey: key.privateKey,
      });
      return await fetch(url, { method, headers: signature, body, signal });
    },
    /** Opens a link as the app does; with `headers` as somebody else might. */
    async link(headers?: Record<string, string>): Promise<Link> {
      const url = new URL(`${base}/link`);
      const socket = await dial(url, headers ?? signed(url, app));
      return await dialledLink(socket, {
        version: PROTOCOL_VERSION,
        self: "the app",
        peer: "DTMA",
      });
    },
    [Symbol.asyncDispose]: () => http.shutdown(),
  };
}

/** What signs the upgrade to a link. */
function signed(url: URL, key: { privateKey: string }, keyId = "app") {
  return signRequest({ method: "GET", url, body: new Uint8Array() }, {
    keyId,
    privateKey: key.privateKey,
  });
}

/** The events of a stream, parsed. */
async function eventsOf(response: Response): Promise<Record<string, unknown>[]> {
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const events = (await response.text()).split("\n\n").filter((event) =>
    event.startsWith("data: ")
  );
  return events.map((event) => JSON.parse(event.slice("data: ".length)));
}

Deno.test("dataPath hands over the newest part of a server's log, and of no other's", async () => {
  await using server = startServer("echo");
  const quotes = `${'"'.repeat(200)}\n`.repeat(10_000) + "the newest\n";
  const logs: Record<string, string> = { [SERVER]: "first\nsecond \u2400\n", long: quotes };
  let asked = SERVER;
  await using path = await serve(server, {
    logOf: (id) => Promise.resolve(id === SERVER ? logs[asked] : null),
  });
  const meta = { "io.modelcontextprotocol/protocolVersion": "2026-07-28" };
  const request = { jsonrpc: "2.0", id: "x", method: LOG_METHOD, params: { _meta: meta } };
  const log = async (id = SERVER) =>
    (await (await path.post(request, { path: `/mcp/${id}` })).json()) as {
      result: { text: string };
      error: { code: number };
    };
  assert.equal((await log()).result.text, logs[SERVER]);
  assert.equal((await log(crypto.randomUUID())).error.code, ErrorCode.serverUnavailable);
  asked = "long";
  const { text } = (await log()).result;
  assert.ok(text.endsWith("\nthe newest\n") && JSON.stringify(text).length < FRAME_LIMIT_BYTES);
});

Deno.test("dataPath tells who asked for progress that the server has to start", async () => {
  await using server = startServer("echo");
  await using path = await serve(server, {
    reach: () => new Promise((resolve) => setTimeout(() => resolve(path.route), 300)),
  });
  const events = await eventsOf(
    await path.post(path.pinned("echo", { text: "hi" }, { progressToken: "p" })),
  );
  assert.deepEqual(events[0].params, {
    progressToken: "p",
    progress: 0,
    message: "The server slept, and is starting",
  });
  assert.ok("result" in events.at(-1)!);
});

Deno.test("dataPath answers the app's signed calls, lists and discovery", async () => {
  await using server = startServer("echo");
  await using path = await serve(server);
  const called = await path.post(path.pinned("echo", { text: "hi" }));
  assert.equal(called.headers.get("content-type"), "application/json");
  assert.deepEqual(await called.json(), {
    jsonrpc: "2.0",
    id: 1,
    result: { resultType: "complete", content: [{ type: "text", text: "hi" }] },
  });
  const meta = { "io.modelcontextprotocol/protocolVersion": "2026-07-28" };
  const ask = async (method: string) =>
    (await (await path.post({ jsonrpc: "2.0", id: "x", method, params: { _meta: meta } })).json())
      .result;
  assert.equal((await ask("tools/list")).tools.length, 2);
  assert.deepEqual((await ask("server/discover")).supportedVersions, ["2026-07-28"]);
});

Deno.test("dataPath gives nothing to anybody else", async () => {
  await using server = startServer("echo");
  await using path = await serve(server);
  const call = path.pinned("echo", { text: "hi" });
  const refused = async (status: number, response: Response) => {
    assert.equal(response.status, status);
    assert.equal(await response.text(), "");
  };
  await refused(401, await path.post(call, { key: stranger }));
  await refused(401, await path.post(call, { keyId: "someone" }));
  const unsigned = { method: "POST", body: JSON.stringify(call) };
  await refused(401, await fetch(`${path.base}/mcp/${SERVER}`, unsigned));
  await refused(404, await path.post(call, { method: "PUT" }));
  await refused(404, await path.post(call, { path: "/" }));
  await refused(404, await path.post(call, { path: `/mcp/${SERVER}/` }));
  await refused(404, await path.post(call, { path: "/mcp/../etc/passwd" }));
  await refused(404, await path.post(call, { path: `/mcp/${SERVER.toUpperCase()}x` }));
  await refused(413, await path.post(" ".repeat(4 * 1024 * 1024 + 1)));
  const endless = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(64 * 1024)),
  });
  const unmeasured = { method: "POST", body: endless, headers: { "signature-input": "x" } };
  await refused(413, await fetch(`${path.base}/mcp/${SERVER}`, unmeasured));
});

Deno.test("dataPath reads 64 bodies at once", async () => {
  await using server = startServer("echo");
  await using path = await serve(server);
  const post = async (length: number) => {
    const response = await path.post(path.pinned("echo", { text: "x".repeat(length) }));
    await response.body?.cancel();
    return response.status;
  };
  const statuses = await Promise.all(Array.from({ length: 64 }, () => post(100_000)));
  assert(statuses.every((status) => status === 200));
});

Deno.test("dataPath refuses a replay", async () => {
  await using server = startServer("echo");
  await using path = await serve(server);
  const body = new TextEncoder().encode(JSON.stringify(path.pinned("echo", { text: "hi" })));
  const url = `${path.base}/mcp/${SERVER}`;
  const headers = signRequest({ method: "POST", url, body }, {
    keyId: "app",
    privateKey: app.privateKey,
  });
  const send = async () => {
    const response = await fetch(url, { method: "POST", headers, body });
    await response.body?.cancel();
    return response.status;
  };
  assert.deepEqual([await send(), await send()], [200, 401]);
  assert.deepEqual(path.logged, ["Refused a request: The request was sent before"]);
});

Deno.test("dataPath refuses what is not one request that it serves", async () => {
  await using server = startServer("echo");
  await using path = await serve(server);
  const good = path.pinned("echo", { text: "hi" });
  const deep = "[".repeat(70) + "]".repeat(70);
  const cases: [unknown, number, number][] = [
    ["{", 400, -32700],
    [new Uint8Array([0x22, 0xff, 0x22]), 400, -32700],
    ["[]", 400, -32600],
    [[good], 400, -32600],
    [{ ...good, id: undefined }, 400, -32600],
    [{ ...good, id: null }, 400, -32600],
    [{ ...good, id: 1.5 }, 400, -32600],
    [{ ...good, jsonrpc: "1.0" }, 400, -32600],
    [{ jsonrpc: "2.0", id: 1, result: {} }, 400, -32600],
    [JSON.stringify(good).replace('"hi"', deep), 400, -32600],
    [{ ...good, params: [] }, 400, -32602],
    [{ ...good, params: { ...good.params, Name: "environment" } }, 400, -32602],
    [{ ...good, params: { ...good.params, _Meta: {} } }, 400, -32602],
    [{ ...good, params: { ...good.params, "argument\u017f": {} } }, 400, -32602],
    [{ ...good, params: { ...good.params, _meta: 5 } }, 400, -32602],
    [path.pinned("echo", {}, { progressToken: {} }), 400, -32602],
    [path.pinned("echo", {}, { [CALLER_META]: 1 }), 400, -32602],
    [{ ...good, params: { ...good.params, requestState: 1 } }, 400, -32602],
    [{ ...good, params: { ...good.params, inputResponses: [] } }, 400, -32602],
    [{ ...good, params: { ...good.params, inputResponses: { a: 1 } } }, 400, -32602],
    [{ ...good, params: { ...good.params, inputresponses: {} } }, 400, -32602],
    [{ ...good, params: { ...good.params, URI: "x" } }, 400, -32602],
    [{ ...good, method: "prompts/get" }, 200, ErrorCode.definitionChanged],
    [toolCall("echo", { text: "no pin" }), 400, -32602],
    [path.pinned("echo", {}, { "io.modelcontextprotocol/protocolVersion": "1999" }), 400, -32022],
    [{ ...good, method: "resources/subscribe" }, 404, -32601],
    [{ ...good, method: "initialize" }, 404, -32601],
  ];
  for (const [message, status, code] of cases) {
    const response = await path.post(message);
    const { error } = await response.json();
    assert.deepEqual([response.status, error.code], [status, code], JSON.stringify(message));
  }
});

Deno.test("dataPath calls no tool that is not as it was approved", async () => {
  await using server = startServer("changes-tools");
  await using path = await serve(server);
  const code = async (call: unknown) => (await (await path.post(call)).json()).error?.code;
  const wrongPin = { [PIN_META]: "0".repeat(64) };
  assert.equal(await code(path.pinned("changing")), undefined);
  assert.equal(await code(path.pinned("changing", {}, wrongPin)), ErrorCode.definitionChanged);
  assert.equal(await code(path.pinned("unheard_of", {}, wrongPin)), ErrorCode.definitionChanged);
  // Of equal keys the last counts, here as well as for whoever reads what is passed on.
  const twice = JSON.stringify(path.pinned("changing"))
    .replace('"name":"changing"', '"name":"changing","name":"changes_tools"');
  assert.equal(await code(twice), ErrorCode.definitionChanged);
});

Deno.test("dataPath says why a server is not available", async () => {
  await using path = await serve(null);
  const { id, error } = await (await path.post(toolCall("echo"))).json();
  assert.equal(id, 1);
  assert.equal(error.code, ErrorCode.serverUnavailable);
  assert.match(error.message, /It is stopped/);
});

Deno.test("dataPath says of a held call whose server is not up that it may have run", async () => {
  await using path = await serve(null);
  const call = toolCall("echo");
  const retry = { ...call, params: { ...call.params, requestState: "dtma-held:x" } };
  const [{ error }] = await eventsOf(await path.post(retry)) as [{ error: { code: number } }];
  assert.equal(error.code, ErrorCode.indeterminate);
});

Deno.test("dataPath streams a subscription until its caller goes away", async () => {
  await using server = startServer("resources");
  await using path = await serve(server);
  const meta = { "io.modelcontextprotocol/protocolVersion": "2026-07-28" };
  const notifications = { resourceSubscriptions: ["file:///1"] };
  const listen = {
    jsonrpc: "2.0",
    id: "sub",
    method: "subscriptions/listen",
    params: { notifications, _meta: meta },
  };
  const stop = new AbortController();
  const response = await path.post(listen, { signal: stop.signal });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const next = async () => JSON.parse((await reader.read()).value!.slice("data: ".length));
  assert.equal((await next()).method, "notifications/subscriptions/acknowledged");
  await (await path.post(path.pinned("updates", { uri: "file:///1" }))).body?.cancel();
  assert.equal((await next()).params.uri, "file:///1");
  stop.abort();
  await assert.rejects(reader.read());
  const seen = async () =>
    (await (await path.post(path.pinned("seen"))).json()).result.structuredContent.value;
  while (!(await seen()).some(({ method }: { method: string }) => method.endsWith("unsubscribe")));
});

Deno.test("dataPath streams log messages to who asked for them", async () => {
  await using server = startServer("resources");
  await using path = await serve(server);
  const meta = { "io.modelcontextprotocol/logLevel": "warning" };
  const events = await eventsOf(await path.post(path.pinned("logs", {}, meta)));
  assert.deepEqual(events.map(({ method, id }) => method ?? id), ["notifications/message", 1]);
});

Deno.test("dataPath streams progress with the caller's token, then the response", async () => {
  await using server = startServer("shuffles");
  await using path = await serve(server);
  const call = path.pinned("shuffles", { text: "t" }, { progressToken: "mine" });
  assert.deepEqual(await eventsOf(await path.post(call)), [
    {
      jsonrpc: "2.0",
      method: "notifications/progress",
      params: { progressToken: "mine", progress: 0.5, message: "t" },
    },
    {
      jsonrpc: "2.0",
      id: 1,
      result: { resultType: "complete", content: [{ type: "text", text: "t" }] },
    },
  ]);
});

Deno.test("dataPath keeps a silent stream alive", async () => {
  await using server = startServer("shuffles");
  await using path = await serve(server, { pingEveryMs: 5 });
  const response = await path.post(path.pinned("waits", {}, { progressToken: 1 }));
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  assert.equal((await reader.read()).value, ": ping\n\n");
  await (await path.post(path.pinned("release"))).body?.cancel();
  let text = "";
  for (let read = await reader.read(); !read.done; read = await reader.read()) text += read.value;
  assert.match(text, /data: .*"released"/);
});

Deno.test("dataPath cancels the call of a client that goes away", async () => {
  for (const meta of [{}, { progressToken: 1 }]) {
    await using server = startServer("shuffles");
    await using path = await serve(server);
    const stop = new AbortController();
    const gone = path.post(path.pinned("waits", {}, meta), { signal: stop.signal })
      .then((response) => response.text());
    // Sent after it and answered: the server has it.
    await (await path.post(path.pinned("shuffles", { text: "" }))).text();
    stop.abort();
    await assert.rejects(gone);
    let cancelled: unknown[] = [];
    while (cancelled.length === 0) {
      const { result } = await (await path.post(path.pinned("cancelled"))).json();
      cancelled = result.structuredContent.cancelled;
    }
    assert.equal(cancelled.length, 1);
  }
});

Deno.test("dataPath passes results as the server wrote them", async () => {
  await using server = startServer("lossless");
  await using path = await serve(server);
  await fc.assert(fc.asyncProperty(
    fc.dictionary(fc.string(), fc.jsonValue()),
    fc.boolean(),
    async (value, streamed) => {
      const text = JSON.stringify(value);
      const call = path.pinned("raw", { text }, streamed ? { progressToken: 1 } : {});
      const response = await path.post(call);
      const message = streamed ? (await eventsOf(response))[0] : await response.json();
      assert.deepEqual(message.result, { resultType: "complete", ...JSON.parse(text) });
    },
  ));
  const exact = '{"big":12345678901234567890,\r"f":1.0,"e":1E400,"ls":"\u2028"}';
  const plain = await (await path.post(path.pinned("raw", { text: exact }))).text();
  assert(plain.includes(exact.slice(1).replace("\r", " ")), plain);
});

Deno.test("dataPath passes what goes wrong with a server as an error of the call", async () => {
  await using server = startServer("dies-mid-call");
  await using path = await serve(server);
  const response = await path.post(path.pinned("dies_mid_call", {}, { progressToken: 1 }));
  const [{ error }] = await eventsOf(response) as [{ error: { code: number } }];
  assert.equal(error.code, ErrorCode.indeterminate);
});

Deno.test("dataPath serves the same calls over a link", async () => {
  await using server = startServer("shuffles");
  const served: unknown[] = [];
  await using path = await serve(server, {
    reach: (serverId, instance) => {
      served.push([serverId, instance]);
      return Promise.resolve(serverId === SERVER ? path.route : { unavailable: "Not here" });
    },
  });
  const link = await path.link();
  const ask = async (message: unknown, onNotification?: (text: string) => void) =>
    JSON.parse(String(
      await link.call({ serverId: SERVER, instance: "agent-1" }, JSON.stringify(message), {
        onNotification,
      }),
    ));
  const notes: string[] = [];
  const call = path.pinned("shuffles", { text: "t" }, { progressToken: "mine" });
  const answer = await ask(call, (text) => void notes.push(text));
  assert.deepEqual(answer.result.content, [{ type: "text", text: "t" }]);
  assert.deepEqual(notes.map((text) => JSON.parse(text).params), [
    { progressToken: "mine", progress: 0.5, message: "t" },
  ]);
  // Without a token there is no progress.
  const plain = await ask(
    path.pinned("shuffles", { text: "t" }),
    () => assert.fail("asked for none"),
  );
  assert.ok(plain.result);
  assert.deepEqual(served, [[SERVER, "agent-1"], [SERVER, "agent-1"]]);

  for (
    const [message, code] of [["{", -32700], [[], -32600], [toolCall("shuffles"), -32602]] as const
  ) {
    const text = typeof message === "string" ? message : JSON.stringify(message);
    const { error } = JSON.parse(
      String(await link.call({ serverId: SERVER, instance: null }, text)),
    );
    assert.equal(error.code, code);
  }
  const elsewhere = await link.call({ serverId: "x", instance: null }, JSON.stringify(call));
  assert.match(JSON.parse(String(elsewhere)).error.message, /Not here/);

  const gone = new AbortController();
  const waits = link.call(
    { serverId: SERVER, instance: null },
    JSON.stringify(path.pinned("waits")),
    { signal: gone.signal },
  );
  await ask(path.pinned("shuffles", { text: "" }));
  gone.abort(new Error("left"));
  await assert.rejects(waits, /left/);
  let cancelled: unknown[] = [];
  while (cancelled.length === 0) {
    ({ cancelled } = (await ask(path.pinned("cancelled"))).result.structuredContent);
  }
  assert.equal(cancelled.length, 1);
  link.close("The test is over");
});

Deno.test("dataPath passes the instance of a call's query, which is signed", async () => {
  await using server = startServer("echo");
  const instances: (string | null)[] = [];
  await using path = await serve(server, {
    reach: (_, instance) => {
      instances.push(instance);
      return Promise.resolve({ unavailable: "the test" });
    },
  });
  const call = path.pinned("echo");
  const target = `/mcp/${SERVER}?instance=${encodeURIComponent("a-b_c")}`;
  await (await path.post(call, { path: target })).text();
  await (await path.post(call)).text();
  assert.deepEqual(instances, ["a-b_c", null]);

  const body = new TextEncoder().encode(JSON.stringify(call));
  const headers = signRequest({ method: "POST", url: path.base + target, body }, {
    keyId: "app",
    privateKey: app.privateKey,
  });
  const other = await fetch(`${path.base}/mcp/${SERVER}?instance=other`, {
    method: "POST",
    headers,
    body,
  });
  assert.equal(other.status, 401);
});

Deno.test("dataPath opens a link to the app alone, once a signature", async () => {
  await using path = await serve(null);
  const url = new URL(`${path.base}/link`);
  const refused = async (headers: Record<string, string>) =>
    await assert.rejects(path.link(headers), /answered 401/);
  await refused({});
  await refused(signed(url, stranger));
  await refused(signed(url, app, "someone"));
  await refused(signed(new URL(`${path.base}/mcp/${SERVER}`), app));
  const headers = signed(url, app);
  const link = await path.link(headers);
  await refused(headers);
  link.close("The test is over");
  const plain = await fetch(url, { headers: signed(url, app) });
  assert.equal(plain.status, 426);
  await plain.body?.cancel();
});
