import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { responseText } from "../../dtma/connection.ts";
import { ErrorCode, PIN_META } from "../../dtma/protocol.ts";
import { HandshakeError, type JsonRpcNotification, openSession } from "../../dtma/session.ts";
import { eventually } from "./observed.ts";
import { attachable, serverEverything, startServer, textOf, toolCall } from "./stdio_server.ts";

Deno.test("openSession initializes a server that does not know the probe", async () => {
  await using server = startServer("echo");
  const session = await server.open();
  assert.deepEqual(session.serverInfo, {
    name: "echo",
    version: "1.0.0",
    revision: "2025-06-18",
    capabilities: { tools: { listChanged: true } },
  });
  assert.deepEqual((await session.listTools()).map((tool) => tool.name), ["echo", "environment"]);
});

Deno.test("openSession initializes a server that is silent on the probe", async () => {
  await using server = startServer("silent-on-probe");
  const session = await server.open();
  assert.equal(session.serverInfo.revision, "2024-11-05");
  assert.equal(textOf(await session.call(toolCall("fine"), {})), "fine");
});

Deno.test("openSession says that a server exited on the probe, and skipProbe opens it", async () => {
  await using probed = startServer("exits-on-probe");
  await assert.rejects(probed.open(), (error) => {
    assert(error instanceof HandshakeError);
    assert.equal(error.exitedOnProbe, true);
    return true;
  });
  await using unprobed = startServer("exits-on-probe");
  const session = await unprobed.open({ skipProbe: true });
  assert.equal(textOf(await session.call(toolCall("fine"), {})), "fine");
});

Deno.test("openSession says why there is no session", async () => {
  await using exits = startServer("exits-at-once");
  await assert.rejects(exits.open({ skipProbe: true }), {
    name: "HandshakeError",
    message: /ended before it answered initialize|input is closed/,
    exitedOnProbe: false,
  });
  await using silent = startServer("never-initialize");
  await assert.rejects(silent.open({ handshakeTimeoutMs: 2500 }), {
    name: "HandshakeError",
    message: "The server did not answer initialize within 2.5 s",
  });
  await using newer = startServer("modern", { env: { VERSIONS: "2031-01-01" } });
  await assert.rejects(newer.open(), { name: "HandshakeError", message: /speaks MCP 2031-01-01/ });
});

Deno.test("a server that refuses a probe and supports its version is probed once more", async () => {
  await using server = startServer("modern", { env: { REFUSES_FIRST: "1" } });
  assert.equal((await server.open()).serverInfo.revision, "2026-07-28");
});

Deno.test("openSession gives up when its signal is aborted", async () => {
  await using silent = startServer("never-initialize");
  const reason = new Error("enough");
  const stop = new AbortController();
  const opening = silent.open({ signal: stop.signal });
  stop.abort(reason);
  await assert.rejects(opening, reason);
});

Deno.test("a server of 2026-07-28 gets every request with our identity and the caller's capabilities", async () => {
  await using server = startServer("modern");
  const session = await server.open();
  assert.deepEqual(session.serverInfo, {
    name: "modern",
    version: "2.0.0",
    revision: "2026-07-28",
    capabilities: { tools: { listChanged: true } },
    instructions: "Be brief",
  });
  const call = toolCall("received", { n: 1 }, {
    meta: {
      "io.modelcontextprotocol/clientInfo": { name: "someone", version: "1" },
      "io.modelcontextprotocol/clientCapabilities": { elicitation: {} },
      "com.example/kept": [1],
      [PIN_META]: "abc",
    },
  });
  const { params } = JSON.parse(textOf(await session.call(call, {})));
  assert.deepEqual(params, {
    name: "received",
    arguments: { n: 1 },
    _meta: {
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientInfo": { name: "mooring", title: "Mooring", version: "0.1.0" },
      "io.modelcontextprotocol/clientCapabilities": { elicitation: {} },
      "com.example/kept": [1],
    },
  });
});

Deno.test("a server of 2026-07-28 that starts slowly is still found to be one", async () => {
  await using server = startServer("modern", { env: { STARTS_SLOWLY_MS: "2500" } });
  const session = await server.open();
  assert.equal(session.serverInfo.revision, "2026-07-28");
});

Deno.test("onListChanged is called for a notification of either era", async () => {
  for (const name of ["changes-tools", "modern"]) {
    await using server = startServer(name);
    const session = await server.open();
    const before = await session.listTools();
    const changed = new Promise<string>((resolve) => session.onListChanged = resolve);
    assert.equal(textOf(await session.call(toolCall("changes_tools"), {})), "changed");
    assert.equal(await changed, "tools");
    assert.notDeepEqual(await session.listTools(), before);
  }
});

Deno.test("a server that does not answer DTMA is not one whose callers gave up", async () => {
  await using server = startServer("echo");
  const session = await server.open();
  server.child.kill("SIGSTOP");
  const giveUp = async (ask: (signal: AbortSignal) => Promise<unknown>) => {
    for (let i = 0; i < 3; i++) await assert.rejects(ask(AbortSignal.timeout(50)));
  };
  await giveUp((signal) => session.listTools(signal));
  assert.equal(session.muteMs, 0);
  await giveUp((signal) => session.call(toolCall("echo"), { signal }));
  assert.ok(session.muteMs > 0);
});

Deno.test("a subscription that a server of 2026-07-28 ends is made again, and what it may have missed told", async () => {
  await using server = startServer("modern");
  const session = await server.open();
  const told: [string, boolean][] = [];
  session.onListChanged = (...change) => told.push(change);
  await session.call(toolCall("ends_subscriptions"), {});
  await eventually(() => told.length === 1);
  await session.call(toolCall("changes_tools"), {});
  assert.deepEqual(told, [["tools", false], ["tools", true]]);
});

Deno.test("a server of an older revision gets none of the newest one's metadata", async () => {
  await using server = startServer("lossless");
  const session = await server.open();
  const meta = { [PIN_META]: "abc", "com.example/kept": 1, progressToken: "mine" };
  const sent = toolCall("received", { a: 1 }, { meta });
  const { params } = JSON.parse(textOf(await session.call(sent, {})));
  const { progressToken, ...rest } = params._meta;
  assert.deepEqual(rest, { "com.example/kept": 1 });
  assert.notEqual(progressToken, "mine");
  const bare = JSON.parse(textOf(await session.call(toolCall("received"), {})));
  assert.deepEqual(bare.params, { name: "received", arguments: {} });
});

Deno.test("server/discover is answered for a server of an older revision", async () => {
  await using server = startServer("echo");
  const session = await server.open();
  const request = { jsonrpc: "2.0" as const, id: "d", method: "server/discover" };
  const { id, result } = await session.call(request, {});
  assert.equal(id, "d");
  assert.deepEqual(result, {
    resultType: "complete",
    supportedVersions: ["2026-07-28"],
    capabilities: { tools: { listChanged: true } },
    _meta: { "io.modelcontextprotocol/serverInfo": { name: "echo", version: "1.0.0" } },
    ttlMs: 0,
    cacheScope: "private",
  });
});

Deno.test("10,000 interleaved calls each get their own answer and progress", async () => {
  await using server = startServer("shuffles");
  const session = await server.open();
  await Promise.all(Array.from({ length: 10_000 }, async (_, n) => {
    const progress: JsonRpcNotification[] = [];
    const id = n % 2 ? n : `call-${n}`;
    // Every caller uses the same token: tokens are unique to a caller alone.
    const call = toolCall("shuffles", { text: `text ${n}` }, { id, meta: { progressToken: 7 } });
    const onNotification = (each: JsonRpcNotification) => progress.push(each);
    const response = await session.call(call, { onNotification });
    assert.equal(response.id, id);
    assert.equal(textOf(response), `text ${n}`);
    assert.deepEqual(progress.map((each) => each.params), [
      { progressToken: 7, progress: 0.5, message: `text ${n}` },
    ]);
  }));
  assert.deepEqual(server.logged, []);
});

Deno.test("a server that takes integers as ids alone is served, and tells its progress", async () => {
  await using server = startServer("integer-ids");
  const session = await server.open();
  assert.deepEqual((await session.listTools()).map(({ name }) => name), ["fine"]);
  const told: unknown[] = [];
  const call = toolCall("fine", {}, { id: "a text", meta: { progressToken: "mine" } });
  const answer = await session.call(call, { onNotification: ({ params }) => told.push(params) });
  assert.equal(textOf(answer), "fine");
  assert.equal(answer.id, "a text");
  assert.deepEqual(told, [{ progressToken: "mine", progress: 1 }]);
});

Deno.test("a cancelled call rejects, the server is told, and its late answer is ignored", async () => {
  await using server = startServer("shuffles");
  const session = await server.open();
  const stop = new AbortController();
  const waiting = session.call(toolCall("waits"), { signal: stop.signal });
  // Answered after the server has read the call before it.
  await session.call(toolCall("shuffles", { text: "" }), {});
  stop.abort(new Error("not wanted any more"));
  await assert.rejects(waiting, { message: "not wanted any more" });
  const { result } = await session.call(toolCall("cancelled"), {});
  assert.equal((result!.structuredContent as { cancelled: unknown[] }).cancelled.length, 1);
  assert.equal(textOf(await session.call(toolCall("release"), {})), "ok");
});

Deno.test("a call that was never handed over is withdrawn without a word to the server", async () => {
  await using server = startServer("shuffles");
  const session = await server.open();
  const stop = new AbortController();
  const withdrawn = session.call(toolCall("waits"), { signal: stop.signal });
  stop.abort(new Error("too early"));
  await assert.rejects(withdrawn, { message: "too early" });
  const { result } = await session.call(toolCall("cancelled"), {});
  assert.deepEqual(result!.structuredContent, { cancelled: [] });
});

Deno.test("a call that is not answered in time says that it may have run", async () => {
  await using server = startServer("shuffles");
  const session = await server.open();
  const { error } = await session.call(toolCall("waits"), { timeoutMs: 200 });
  assert.equal(error!.code, ErrorCode.timedOut);
  assert.match(error!.message, /within 0.2 s.* may have run/);
  const { result } = await session.call(toolCall("cancelled"), {});
  assert.equal((result!.structuredContent as { cancelled: unknown[] }).cancelled.length, 1);
});

Deno.test("progress extends a call's time", async () => {
  await using server = startServer("shuffles");
  const session = await server.open();
  const call = toolCall("works", {}, { meta: { progressToken: "p" } });
  assert.equal(textOf(await session.call(call, { timeoutMs: 4000 })), "done");
});

Deno.test("log messages reach a caller that asked for them and is alone, no other", async () => {
  await using server = startServer("shuffles");
  const session = await server.open();
  const level = { "io.modelcontextprotocol/logLevel": "info" };
  const alone: JsonRpcNotification[] = [];
  await session.call(toolCall("logs", {}, { meta: level }), {
    onNotification: (each) => alone.push(each),
  });
  assert.deepEqual(alone.map((each) => each.params!.data), ["warning"]);

  const notAlone: JsonRpcNotification[] = [];
  const options = { onNotification: (each: JsonRpcNotification) => notAlone.push(each) };
  const other = session.call(toolCall("waits"), options);
  await session.call(toolCall("logs", {}, { meta: level }), options);
  assert.deepEqual(notAlone, []);
  await session.call(toolCall("release"), {});
  await other;
});

Deno.test("a broken answer fails its call at once and no other", async () => {
  const cases: [string, string, number][] = [
    ["answers-10mb", "answers_10mb", ErrorCode.answerTooLarge],
    ["invalid-utf8", "invalid_utf8", ErrorCode.indeterminate],
  ];
  for (const [fixture, tool, code] of cases) {
    await using server = startServer(fixture);
    const session = await server.open();
    const [broken, fine] = await Promise.all([
      session.call(toolCall(tool), {}),
      session.call(toolCall("fine"), {}),
    ]);
    assert.equal(broken.error?.code, code, fixture);
    assert.equal(textOf(fine), "fine");
  }
});

Deno.test("an answer that is not JSON, too deep or no object is a broken answer", async () => {
  await using server = startServer("lossless");
  const session = await server.open();
  const deep = "[".repeat(65) + "]".repeat(65);
  for (const text of ['{"n":NaN}', `{"a":${deep}}`, "5", "null", "[1]", '"x"']) {
    const { error } = await session.call(toolCall("raw", { text }), {});
    assert.equal(error?.code, ErrorCode.indeterminate, text);
  }
  for (const text of ["5", '{"code":"x","message":"y"}', '{"code":1}']) {
    const { error } = await session.call(toolCall("raw", { text, as: "error" }), {});
    assert.equal(error?.code, ErrorCode.indeterminate, text);
  }
});

Deno.test("stray lines, second answers and answers nobody asked for are passed over", async () => {
  for (const name of ["not-json", "two-answers", "unknown-id", "floods-stderr"]) {
    await using server = startServer(name);
    const session = await server.open();
    const [response] = await Promise.all([
      session.call(toolCall(name.replace("-", "_")), {}),
      session.call(toolCall("fine"), {}),
    ]);
    assert(["fine", "first"].includes(textOf(response)), name);
    assert.equal(server.logged.length > 0, name !== "floods-stderr", name);
  }
});

Deno.test("a message whose parts are of other types than any ends no session", async () => {
  await using server = startServer("lossless");
  const session = await server.open();
  // `String` of it throws.
  const odd = '{"toString":1}';
  const lines = [
    `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":${odd},"data":${odd}}}`,
    `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":${odd}}}`,
    `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":${odd}}}`,
    `{"jsonrpc":"2.0","id":${odd},"result":{}}`,
    `{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"mode":${odd}}}`,
    `{"jsonrpc":"2.0","method":"notifications/cancelled","params":${odd}}`,
  ];
  for (const line of lines) {
    const text = `{}}\n${line}\n{"method":"ping"`;
    session.call(toolCall("raw", { text }), {}).catch(() => {});
    assert.match(textOf(await session.call(toolCall("received"), {})), /received/, line);
  }
  assert.ok(server.logged.some((line) => line.includes("cannot be read")));
});

Deno.test("a server that dies fails every call in flight, which may have run", async () => {
  for (const tool of ["dies_mid_call", "dies_half_way"]) {
    await using server = startServer("dies-mid-call");
    const session = await server.open();
    const calls = await Promise.all([
      session.call(toolCall(tool), {}),
      session.call(toolCall(tool), {}),
    ]);
    for (const { error } of calls) {
      assert.equal(error?.code, ErrorCode.indeterminate);
      assert.match(
        error.message,
        /ended before it answered; the call may have run|input is closed/,
      );
    }
    assert.match(await session.closed, /ended|closed/);
    const { error } = await session.call(toolCall("fine"), {});
    assert.equal(error?.code, ErrorCode.serverUnavailable);
  }
});

Deno.test("close answers what is in flight with its reason", async () => {
  await using server = startServer("shuffles");
  const first = await server.open();
  const waiting = first.call(toolCall("waits"), {});
  await first.call(toolCall("shuffles", { text: "" }), {});
  first.close("Another generation is wanted");
  const { error } = await waiting;
  assert.equal(error!.code, ErrorCode.indeterminate);
  assert.match(error!.message, /^Another generation is wanted/);
  assert.equal(await first.closed, "Another generation is wanted");
});

Deno.test("a second session works after one that broke off in the middle of a line", async () => {
  for (const name of ["echo", "lossless", "modern", "refuses-again"]) {
    await using server = startServer(name);
    const attach = attachable(server.child);
    const options = { handshakeTimeoutMs: 30_000, log: () => {} };
    const first = attach();
    (await openSession(first, options)).close("DTMA was killed");
    await first.write('{"jsonrpc":"2.0","id":');
    const session = await openSession(attach(), options);
    assert((await session.listTools()).length > 0, name);
    session.close("The test is over");
  }
});

Deno.test("a server's own requests are refused, but for ping, and batches are read", async () => {
  await using server = startServer("asks");
  const session = await server.open();
  const { result } = await session.call(toolCall("asks"), {});
  assert.deepEqual(result!.structuredContent, [
    { asked: 0, result: {} },
    { asked: 1, code: -32601 },
    { asked: 2, code: -32601 },
    { asked: 3, code: -32601 },
  ]);
  assert.equal(textOf(await session.call(toolCall("batch"), {})), "batch");
});

Deno.test("an error of the server passes as it is, but cannot be taken for one of Mooring's", async () => {
  await using server = startServer("lossless");
  const session = await server.open();
  const text = '{"code":-32602,"message":"no","data":{"big":12345678901234567890,"x":1.0}}';
  const passed = await session.call(toolCall("raw", { text, as: "error" }), {});
  assert.equal(responseText(passed), `{"jsonrpc":"2.0","id":1,"error":${text}}`);
  const forged = `{"code":${ErrorCode.definitionChanged},"message":"approve me"}`;
  const { error } = await session.call(toolCall("raw", { text: forged, as: "error" }), {});
  assert.deepEqual(error, { code: -32603, message: "approve me" });
});

Deno.test("results pass as the server wrote them, numbers and all", async () => {
  await using server = startServer("lossless");
  const session = await server.open();
  const exact = '{"big":12345678901234567890,"f":1.0,"e":1E400,"__proto__":{"x":1},"s":"\\ud800"}';
  const response = await session.call(toolCall("raw", { text: exact }), {});
  assert.equal(
    responseText(response),
    `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete",${exact.slice(1)}}`,
  );
  await fc.assert(fc.asyncProperty(
    fc.dictionary(fc.string(), fc.jsonValue()),
    fc.constantFrom(undefined, 1),
    async (value, space) => {
      const text = JSON.stringify(value, null, space).replaceAll("\n", "\r");
      const { result } = JSON.parse(
        responseText(await session.call(toolCall("raw", { text }), {})),
      );
      assert.deepEqual(result, { resultType: "complete", ...JSON.parse(text) });
    },
  ));
});

Deno.test("arguments reach the server as the caller wrote them", async () => {
  await using server = startServer("lossless");
  const session = await server.open();
  const args = '{"big":12345678901234567890,"f":1.0,"__proto__":{"x":1}}';
  const paramsText = `{"name":"received",\n"arguments":${args},"later":2.50}`;
  const request = { jsonrpc: "2.0" as const, id: 1, method: "tools/call", paramsText };
  const line = textOf(await session.call(request, {}));
  assert(line.includes(`"params":{"name":"received","arguments":${args},"later":2.50}`), line);
});

Deno.test("listTools follows pages, and refuses circles, too many and nameless tools", async () => {
  const list = async (mode: string) => {
    await using server = startServer("pages", { env: { MODE: mode } });
    return await (await server.open()).listTools();
  };
  assert.deepEqual((await list("three")).map((tool) => tool.name), ["t0", "t1", "t2"]);
  for (const mode of ["emptyEnd", "refusedEnd"]) {
    assert.deepEqual((await list(mode)).map((tool) => tool.name), ["t0"], mode);
  }
  await assert.rejects(list("circle"), /circle/);
  await assert.rejects(list("endless"), /100 pages/);
  await assert.rejects(list("many"), /1000 tools/);
  await assert.rejects(list("nameless"), /without a name/);
  await assert.rejects(list("partial"), /of the type "x\/partial", which Mooring does not know/);
  await assert.rejects(list("error"), /out of order \(-32000\)/);
});

Deno.test("server-everything lists its tools and answers", async () => {
  await using server = startServer(await serverEverything(), { args: ["stdio"] });
  const session = await server.open();
  assert.match(String(session.serverInfo.revision), /^2025-/);
  const tools = await session.listTools();
  assert(tools.some((tool) => tool.name === "echo"));
  const echoed = await session.call(toolCall("echo", { message: "hello" }), {});
  assert.match(textOf(echoed), /hello/);

  const progress: unknown[] = [];
  const long = toolCall("trigger-long-running-operation", { duration: 0.4, steps: 4 }, {
    meta: { progressToken: "p" },
  });
  const onNotification = (each: JsonRpcNotification) => progress.push(each.params!.progressToken);
  textOf(await session.call(long, { onNotification }));
  assert.deepEqual(progress, ["p", "p", "p", "p"]);
});
