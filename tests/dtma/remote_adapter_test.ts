/** The adapter as a process of its own, before remote servers of every transport. */
import assert from "node:assert/strict";
import { POLLS_META, UNLISTED_CODE } from "../../dtma/protocol.ts";
import { type HandshakeError, openSession, type Session } from "../../dtma/session.ts";
import { freePort } from "../free_port.ts";
import { eventually } from "./observed.ts";
import { serverEverything, textOf, toolCall } from "./stdio_server.ts";
import { tcpProxy } from "./tcp_proxy.ts";

const ADAPTER = new URL("../../dtma/remote_adapter/main.mts", import.meta.url).pathname;

function startAdapter(url: string, env: Record<string, string> = {}, transport?: string) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", "-A", ADAPTER, url, ...transport ? [transport] : []],
    env,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const logged: string[] = [];
  const reading = (async () => {
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) logged.push(text);
  })();
  return {
    logged,
    /** Before the session, as DTMA does. */
    async tell(method: string, params: unknown) {
      const writer = child.stdin.getWriter();
      const line = JSON.stringify({ jsonrpc: "2.0", method, params });
      await writer.write(new TextEncoder().encode(`${line}\n`)).finally(() => writer.releaseLock());
    },
    open: (onRefused?: (params: unknown) => void) =>
      openSession(child, {
        handshakeTimeoutMs: 30_000,
        log: (line) => logged.push(line),
        onRefused,
      }),
    /** As DTMA ends it, once what its session says last is written. */
    async end() {
      while (child.stdin.locked) await new Promise((resolve) => setTimeout(resolve));
      await child.stdin.close();
    },
    ended: child.status,
    async [Symbol.asyncDispose]() {
      try {
        child.kill("SIGKILL");
      } catch {
        // It ended by itself.
      }
      await child.status;
      await reading;
      await child.stdin.close().catch(() => {});
      await child.stdout.cancel().catch(() => {});
    },
  };
}

/** server-everything over HTTP, when it answers. */
async function everythingOver(transport: "streamableHttp" | "sse", port = freePort()) {
  const child = new Deno.Command("node", {
    args: [await serverEverything(), transport],
    env: { PORT: String(port) },
    stdout: "null",
    stderr: "null",
  }).spawn();
  const base = `http://127.0.0.1:${port}`;
  while (!await fetch(base).then((answer) => answer.body?.cancel().then(() => true), () => false)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url: `${base}/${transport === "sse" ? "sse" : "mcp"}`,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
    },
  };
}

for (const transport of ["streamableHttp", "sse"] as const) {
  Deno.test(`the adapter speaks to server-everything over ${transport}`, async () => {
    await using remote = await everythingOver(transport);
    await using adapter = startAdapter(remote.url);
    const session = await adapter.open();
    assert.match(String(session.serverInfo.revision), /^20\d\d-\d\d-\d\d$/);
    const tools = await session.listTools();
    assert.ok(tools.some(({ name }) => name === "echo"));
    const heard = new Set<unknown>();
    const call = toolCall("trigger-long-running-operation", { duration: 0.2, steps: 2 }, {
      meta: { progressToken: "p" },
    });
    await session.call(call, { onNotification: ({ params }) => heard.add(params?.progress) });
    assert.deepEqual(heard, new Set([1, 2]));
    const sums = await Promise.all(
      Array.from({ length: 50 }, (_, n) => session.call(toolCall("get-sum", { a: n, b: 1 }), {})),
    );
    sums.forEach((sum, n) => assert.match(textOf(sum), new RegExp(`\\b${n + 1}\\.`)));
    const wrong = await session.call(toolCall("none"), {});
    assert.match(JSON.stringify(wrong), /not found|unknown/i);
    session.close("The test is over");
  });
}

/** A remote server of the test's own, request by request. */
function remoteServer(handle: (request: Request, body: string) => Response | Promise<Response>) {
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    async (request) => await handle(request, await request.text()),
  );
  return {
    url: `http://127.0.0.1:${server.addr.port}/mcp`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const stream = (...events: string[]) =>
  new Response(events.join(""), { headers: { "content-type": "text/event-stream" } });

const SCHEMA = {
  type: "object",
  properties: { place: { type: "string", "x-mcp-header": "Region" } },
};

/** What a server of 2026-07-28 answers to all that comes before a call. */
function modernAnswer({ id, method }: { id: string; method: string }): Response | null {
  const result = method === "server/discover"
    ? { supportedVersions: ["2026-07-28"], capabilities: { tools: {} } }
    : method === "tools/list"
    ? { tools: [{ name: "wärme", inputSchema: SCHEMA }] }
    : null;
  return result &&
    Response.json({ jsonrpc: "2.0", id, result: { resultType: "complete", ...result } });
}

Deno.test("the adapter sends what 2026-07-28 wants in headers, and the person's own", async () => {
  let headers = new Headers();
  await using remote = remoteServer((request, body) => {
    const message = JSON.parse(body);
    const answer = modernAnswer(message);
    if (answer) return answer;
    headers = request.headers;
    return stream(
      `data: {"jsonrpc":"2.0","id":${message.id},\ndata: "result":{"n":12345678901234567890,"content":[]}}\n\n`,
    );
  });
  await using adapter = startAdapter(remote.url, {
    HEADER_1_NAME: "X-Api-Key",
    HEADER_1_VALUE: "secret",
  });
  const session = await adapter.open();
  await session.listTools();
  const { text } = await session.call(toolCall("wärme", { place: "Zürich" }), {});
  assert.match(text!, /"n":12345678901234567890/, "numbers pass as they are written");
  assert.equal(headers.get("mcp-protocol-version"), "2026-07-28");
  assert.equal(headers.get("mcp-method"), "tools/call");
  assert.equal(headers.get("mcp-name"), `=?base64?${btoa("w\xc3\xa4rme")}?=`);
  assert.equal(headers.get("mcp-param-region"), `=?base64?${btoa("Z\xc3\xbcrich")}?=`);
  assert.equal(headers.get("x-api-key"), "secret");
  assert.equal(headers.get("mcp-session-id"), null);
  session.close("The test is over");
});

Deno.test("a tool that wants headers against the rules is left out, and no other", async () => {
  const tool = (name: string, properties: object) => ({
    name,
    inputSchema: { type: "object", properties },
  });
  const wants = (header: unknown, type = "string") => ({ type, "x-mcp-header": header });
  const good = [
    tool("nested", { a: { type: "object", properties: { b: wants("One", "integer") } } }),
    tool("named", { "x-mcp-header": { type: "string" }, enumerated: { enum: [wants("a b")] } }),
  ];
  const bad = [
    tool("empty", { a: wants("") }),
    tool("colon", { a: wants("a:b") }),
    tool("list", { a: wants("One", "array") }),
    tool("fraction", { a: wants("One", "number") }),
    tool("twice", { a: wants("One"), b: wants("ONE") }),
    tool("items", { a: { type: "array", items: wants("One") } }),
    tool("one_of", { a: { oneOf: [wants("One")] } }),
  ];
  await using remote = remoteServer((_, body) => {
    const { id, method } = JSON.parse(body);
    const tools = [...bad, ...good];
    return method === "tools/list"
      ? Response.json({ jsonrpc: "2.0", id, result: { resultType: "complete", tools } })
      : modernAnswer({ id, method })!;
  });
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  assert.deepEqual(await session.listTools(), good);
  await eventually(() =>
    bad.every(({ name }) => adapter.logged.join("").includes(`out, ${name}:`))
  );
  session.close("The test is over");
});

Deno.test("a tool that wants other headers than it listed is listed anew", async () => {
  let header = "Region";
  await using remote = remoteServer((request, body) => {
    const { id, method } = JSON.parse(body);
    const schema = {
      type: "object",
      properties: { place: { type: "string", "x-mcp-header": header } },
    };
    const answer = method === "tools/list"
      ? { result: { resultType: "complete", tools: [{ name: "wärme", inputSchema: schema }] } }
      : request.headers.get(`mcp-param-${header}`) === "Ulm"
      ? { result: { resultType: "complete", content: [] } }
      : { error: { code: -32020, message: "Header mismatch" } };
    return modernAnswer({ id, method: method === "tools/list" ? "" : method }) ??
      Response.json({ jsonrpc: "2.0", id, ...answer }, { status: answer.error ? 400 : 200 });
  });
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  const told: unknown[] = [];
  session.onListChanged = (...change) => told.push(change);
  await session.listTools();
  header = "Place";
  const { error } = await session.call(toolCall("wärme", { place: "Ulm" }), {});
  assert.equal(error?.code, -32020);
  assert.deepEqual(told, [["tools", true]]);
  session.close("The test is over");
});

Deno.test("a line separator of Unicode in an argument ends no line", async () => {
  await using remote = remoteServer((_, body) => {
    const { id, method, params } = JSON.parse(body);
    const text = params.arguments?.text;
    return modernAnswer({ id, method }) ??
      Response.json({ jsonrpc: "2.0", id, result: { content: [{ type: "text", text }] } });
  });
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  const text = "one\u2028two\u2029three";
  assert.equal(textOf(await session.call(toolCall("any", { text }), { timeoutMs: 60_000 })), text);
  session.close("The test is over");
});

Deno.test("the adapter cancels a call of 2026-07-28 by closing its stream", async () => {
  const closed = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  await using remote = remoteServer((request, body) => {
    const answer = modernAnswer(JSON.parse(body));
    if (answer) return answer;
    request.signal.addEventListener("abort", () => closed.resolve());
    begun.resolve();
    return new Response(new ReadableStream({ cancel: () => closed.resolve() }), {
      headers: { "content-type": "text/event-stream" },
    });
  });
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  const stop = new AbortController();
  const call = session.call(toolCall("wärme"), { signal: stop.signal });
  call.catch(() => {});
  await begun.promise;
  stop.abort();
  await closed.promise;
  await assert.rejects(call);
  session.close("The test is over");
});

Deno.test("the adapter ends a stream that stays open after its answer", async () => {
  const closed = Promise.withResolvers<void>();
  await using remote = remoteServer((_, body) => {
    const message = JSON.parse(body);
    const answer = modernAnswer(message);
    if (answer) return answer;
    const result = { content: [{ type: "text", text: "made" }] };
    const event = `data: ${JSON.stringify({ jsonrpc: "2.0", id: message.id, result })}\n\n`;
    const events = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode(event)),
      cancel: () => closed.resolve(),
    });
    return new Response(events, { headers: { "content-type": "text/event-stream" } });
  });
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  assert.equal(textOf(await session.call(toolCall("any"), {})), "made");
  await closed.promise;
  session.close("The test is over");
});

Deno.test("a stream is taken up again at a server without sessions too", async () => {
  await using remote = remoteServer((request, body) => {
    if (request.method === "GET") {
      const call = request.headers.get("last-event-id");
      if (call === null) return new Response(null, { status: 405 });
      const result = '{"content":[{"type":"text","text":"resumed"}]}';
      return stream(`id: x\ndata: {"jsonrpc":"2.0","id":${call},"result":${result}}\n\n`);
    }
    const { id, method } = JSON.parse(body);
    const result = { protocolVersion: "2025-11-25", capabilities: {}, serverInfo: {} };
    if (method === "initialize") return Response.json({ jsonrpc: "2.0", id, result });
    if (id === undefined) return new Response(null, { status: 202 });
    if (method !== "tools/call") return new Response(null, { status: 400 });
    return stream(`id: "${id}"\nretry: 10\ndata:\n\n`);
  });
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  assert.equal(textOf(await session.call(toolCall("any"), {})), "resumed");
  session.close("The test is over");
});

/**
 * A server with sessions, which counts them and forgets them when it is told. Who comes back for a call is
 * answered at the `turns`th time.
 */
function sessionServer(onCall: (id: string, count: number) => Response, turns = 1) {
  let sessions = 0, calls = 0;
  const known = new Set<string>();
  const resumed: string[] = [];
  const server = remoteServer((request, body) => {
    const session = request.headers.get("mcp-session-id");
    if (request.method === "GET") {
      const last = request.headers.get("last-event-id");
      if (last === null) return new Response(null, { status: 405 });
      resumed.push(last);
      const call = last.split("/")[1];
      if (resumed.length < turns) {
        return stream(`id: ${resumed.length}/${call}\nretry: 10\ndata:\n\n`);
      }
      return stream(
        `id: 2\ndata: {"jsonrpc":"2.0","id":${call},"result":{"content":[{"type":"text","text":"resumed"}]}}\n\n`,
      );
    }
    if (request.method === "DELETE") return new Response(null);
    const { id, method } = JSON.parse(body);
    if (method === "initialize") {
      known.add(`s${++sessions}`);
      return Response.json({
        jsonrpc: "2.0",
        id,
        result: { protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: {} },
      }, { headers: { "mcp-session-id": `s${sessions}` } });
    }
    if (!session || !known.has(session)) {
      return new Response("no such session", { status: session ? 404 : 400 });
    }
    if (id === undefined) return new Response(null, { status: 202 });
    if (method === "tools/list") {
      return Response.json({ jsonrpc: "2.0", id, result: { tools: [] } });
    }
    return onCall(id, ++calls);
  });
  return Object.assign(server, {
    resumed,
    forget: () => known.clear(),
    opened: () => sessions,
    called: () => calls,
  });
}

/** What a call comes to; one that is refused in another session is made again, as DTMA does. */
async function madeIn(session: Session, name = "any", args: Record<string, unknown> = {}) {
  const answer = await session.call(toolCall(name, args), {});
  if (answer.error?.code !== UNLISTED_CODE) return textOf(answer);
  await session.listTools();
  return textOf(await session.call(toolCall(name, args), {}));
}

Deno.test("the adapter opens a lost session again, and makes no call in it before it is listed", async () => {
  await using remote = sessionServer((id) =>
    Response.json({ jsonrpc: "2.0", id, result: { content: [{ type: "text", text: "made" }] } })
  );
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  assert.equal(textOf(await session.call(toolCall("any"), {})), "made");
  remote.forget();
  const refused = async (count: number) => {
    const calls = Array.from({ length: count }, () => session.call(toolCall("any"), {}));
    for (const { error } of await Promise.all(calls)) assert.equal(error?.code, UNLISTED_CODE);
  };
  await refused(2);
  // Whoever asks before DTMA has heard of it, too.
  await refused(1);
  assert.deepEqual([remote.opened(), remote.called()], [2, 1]);
  await session.listTools();
  assert.equal(textOf(await session.call(toolCall("any"), {})), "made");
  // What is of no definition is asked again by itself.
  remote.forget();
  const read = {
    jsonrpc: "2.0",
    id: 1,
    method: "resources/read",
    params: { uri: "file:///x" },
  } as const;
  assert.ok((await session.call(read, {})).result);
  await refused(1);
  assert.equal(remote.opened(), 3);
  session.close("The test is over");
});

Deno.test("the adapter opens another session at a server that was started anew", async () => {
  const port = freePort();
  const first = await everythingOver("streamableHttp", port);
  await using adapter = startAdapter(first.url);
  const session = await adapter.open();
  const changed = new Set<unknown>();
  session.onListChanged = (...change) => changed.add(change.join());
  assert.match(textOf(await session.call(toolCall("echo", { message: "one" }), {})), /one/);
  await first[Symbol.asyncDispose]();
  await using _second = await everythingOver("streamableHttp", port);
  // It answers 400 in a session that it does not know.
  assert.match(await madeIn(session, "echo", { message: "two" }), /two/);
  assert.deepEqual(changed, new Set(["tools,false", "prompts,false", "resources,false"]));
  session.close("The test is over");
});

Deno.test("a session that could not be opened again is opened by a later call", async () => {
  await using remote = sessionServer((id) =>
    Response.json({ jsonrpc: "2.0", id, result: { content: [{ type: "text", text: "made" }] } })
  );
  let isAway = false;
  // As what lies before a server answers while that is started anew.
  await using before = remoteServer((request, body) =>
    isAway ? new Response(null, { status: 404 }) : fetch(remote.url, {
      method: request.method,
      headers: request.headers,
      ...(body && { body }),
    })
  );
  await using adapter = startAdapter(before.url);
  const session = await adapter.open();
  assert.equal(textOf(await session.call(toolCall("any"), {})), "made");
  remote.forget();
  isAway = true;
  assert.match((await session.call(toolCall("any"), {})).error!.message, /answered 404/);
  isAway = false;
  assert.equal(await madeIn(session), "made");
  session.close("The test is over");
});

Deno.test("the adapter ends its session, and takes its headers nowhere else for that", async () => {
  const elsewhere: string[] = [];
  await using other = remoteServer((request) => {
    elsewhere.push(`${request.method} ${request.headers.get("x-api-key")}`);
    return new Response(null);
  });
  const ended = Promise.withResolvers<string | null>();
  await using remote = remoteServer((request, body) => {
    if (request.method === "DELETE") {
      ended.resolve(request.headers.get("mcp-session-id"));
      return new Response(null, { status: 307, headers: { location: other.url } });
    }
    if (request.method === "GET") return new Response(null, { status: 405 });
    const { id, method } = JSON.parse(body);
    if (method !== "initialize") return new Response(null, { status: 404 });
    const result = { protocolVersion: "2025-06-18", capabilities: {}, serverInfo: {} };
    return Response.json({ jsonrpc: "2.0", id, result }, { headers: { "mcp-session-id": "s" } });
  });
  await using adapter = startAdapter(remote.url, {
    HEADER_1_NAME: "X-Api-Key",
    HEADER_1_VALUE: "secret",
  });
  const session = await adapter.open();
  session.close("The test is over");
  await adapter.end();
  assert.equal(await ended.promise, "s");
  await adapter.ended;
  assert.deepEqual(elsewhere, []);
});

Deno.test("the adapter takes a stream up again that broke, and says so when it cannot", async () => {
  await using remote = sessionServer((id, count) =>
    count === 1
      ? stream(`id: 1/"${id}"\nretry: 10\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\n\n`)
      : stream(`data: {"jsonrpc":"2.0","method":"notifications/x"}\n\n`)
  );
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  assert.equal(textOf(await session.call(toolCall("any"), {})), "resumed");
  assert.equal(remote.resumed.length, 1);
  const { error } = await session.call(toolCall("any"), {});
  assert.match(error!.message, /broke off: the call may have run/);
  session.close("The test is over");
});

Deno.test("the adapter comes back for a call as often as its server lets it go", async () => {
  await using remote = sessionServer(
    (id) => stream(`id: 0/"${id}"\nretry: 10\ndata:\n\n`),
    12,
  );
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  assert.equal(textOf(await session.call(toolCall("any"), {})), "resumed");
  assert.equal(remote.resumed.length, 12);
  session.close("The test is over");
});

Deno.test("the adapter waits as long as an event says that says nothing else", async () => {
  await using remote = sessionServer((id) => stream(`id: 1/"${id}"\ndata:\n\n`, "retry: 700\n\n"));
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  const waits: unknown[] = [];
  const call = toolCall("any", {}, { meta: { [POLLS_META]: true } });
  const answer = await session.call(call, { onNotification: (each) => waits.push(each.params) });
  assert.equal(textOf(answer), "resumed");
  assert.deepEqual(waits, [{ retryMs: 700 }]);
  session.close("The test is over");
});

Deno.test("a server that takes no more requests for now is listened to later", async () => {
  const statuses = [429, 200, 405];
  await using remote = remoteServer((request, body) => {
    if (request.method === "DELETE") return new Response(null);
    if (request.method === "GET") {
      const status = statuses.shift() ?? 405;
      return status === 200
        ? stream('data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n')
        : new Response(null, { status });
    }
    const { id, method } = JSON.parse(body);
    const result = { protocolVersion: "2025-06-18", capabilities: {}, serverInfo: {} };
    if (method === "initialize") return Response.json({ jsonrpc: "2.0", id, result });
    return new Response(null, { status: id === undefined ? 202 : 404 });
  });
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  await new Promise((resolve) => session.onListChanged = resolve);
  session.close("The test is over");
});

Deno.test("the adapter says what a person can do about a refusal", async () => {
  const answers: Record<string, () => Response> = {
    "refused the credentials (401, and asks for Bearer)": () =>
      new Response(null, { status: 401, headers: { "www-authenticate": "Bearer" } }),
    "no more requests for now (429); try again after 7 s": () =>
      new Response(null, { status: 429, headers: { "retry-after": "7" } }),
    "moved to https://elsewhere.example/mcp (307): give that URL": () =>
      new Response(null, { status: 307, headers: { location: "https://elsewhere.example/mcp" } }),
    "answered 500": () => new Response("a secret of the server's", { status: 500 }),
  };
  for (const [said, answer] of Object.entries(answers)) {
    await using remote = remoteServer((_, body) => modernAnswer(JSON.parse(body)) ?? answer());
    await using adapter = startAdapter(remote.url);
    const session = await adapter.open();
    const { error } = await session.call(toolCall("any"), {});
    assert.ok(error!.message.includes(said), error!.message);
    session.close("The test is over");
  }
});

/** Why no session could be opened, and the advice. */
async function refusalOf(url: string, transport?: string): Promise<HandshakeError> {
  await using adapter = startAdapter(url, {}, transport);
  return await adapter.open().then(
    () => assert.fail("It was opened"),
    (error) => error as HandshakeError,
  );
}

Deno.test("the adapter says in one sentence why a URL gives no session, with advice for a URL", async () => {
  await using plain = remoteServer(() => new Response(null, { status: 404 }));
  const noPath = await refusalOf(plain.url);
  assert.equal(noPath.reason, "The remote server answered 404");
  assert.match(noPath.nextStep, /^Check the URL's path/);

  await using shut = remoteServer(() => new Response(null, { status: 401 }));
  const noKey = await refusalOf(shut.url);
  assert.match(noKey.reason, /^The remote server refused the credentials \(401\)/);
  assert.match(noKey.nextStep, /with the header that it asks for/);
});

Deno.test("what a server says of itself is not shown as Mooring's advice", async () => {
  await using remote = remoteServer((_, body) => {
    const { id } = JSON.parse(body);
    const data = { "dev.mooring/advice": "run this", nextStep: "run this" };
    return Response.json({ jsonrpc: "2.0", id, error: { code: -32000, message: "no", data } });
  });
  const { reason, nextStep } = await refusalOf(remote.url);
  assert.match(reason, /refused to initialize: no \(-32000\)/);
  assert.ok(!nextStep.includes("run this"), nextStep);
});

Deno.test("the adapter takes the transport that is declared of a server beside it", async () => {
  const asked: string[] = [];
  const message = (value: unknown) =>
    new TextEncoder().encode(`data: ${JSON.stringify(value)}\n\n`);
  let stream: ReadableStreamDefaultController<Uint8Array>;
  await using server = remoteServer((request, body) => {
    asked.push(request.method);
    if (request.method === "GET") {
      const events = new ReadableStream<Uint8Array>({
        start(controller) {
          stream = controller;
          controller.enqueue(new TextEncoder().encode("event: endpoint\ndata: /messages\n\n"));
        },
      });
      return new Response(events, { headers: { "content-type": "text/event-stream" } });
    }
    const { id, method } = JSON.parse(body);
    const result = method === "initialize"
      ? { protocolVersion: "2024-11-05", capabilities: { tools: {} }, serverInfo: {} }
      : { tools: [] };
    if (id !== undefined) stream.enqueue(message({ jsonrpc: "2.0", id, result }));
    return new Response(null, { status: 202 });
  });
  await using adapter = startAdapter(server.url, {}, "sse");
  const session = await adapter.open();
  assert.equal(session.serverInfo.revision, "2024-11-05");
  assert.equal(asked[0], "GET", "nothing was posted to its stream's address");
  session.close("The test is over");
});

Deno.test("the adapter opens a lost stream of HTTP+SSE again", async () => {
  await using remote = await everythingOver("sse");
  const proxy = tcpProxy(Number(new URL(remote.url).port));
  await using adapter = startAdapter(`http://127.0.0.1:${proxy.port}/sse`);
  const session = await adapter.open();
  assert.match(textOf(await session.call(toolCall("echo", { message: "one" }), {})), /one/);
  proxy.cut();
  for (let attempt = 0;; attempt++) {
    const { result, error } = await session.call(toolCall("echo", { message: "two" }), {});
    if (result) break;
    if (error?.code === UNLISTED_CODE) await session.listTools();
    assert.ok(attempt < 20, "It was not opened again");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  session.close("The test is over");
  proxy.close();
});

Deno.test("the adapter makes a refused request again with renewed headers, and no other", async () => {
  let good = "Bearer one";
  const seen: string[] = [], bodies: string[] = [];
  await using remote = remoteServer((request, body) => {
    const authorization = request.headers.get("authorization")!;
    const { id, method, params } = JSON.parse(body);
    bodies.push(body);
    if (method === "tools/call") seen.push(`${params.name} ${authorization}`);
    if (params?.name === "more") {
      return new Response('{"error":"insufficient_scope"}', {
        status: 403,
        headers: { "www-authenticate": 'Bearer error="insufficient_scope", scope="a b"' },
      });
    }
    if (authorization !== good || request.headers.get("x-own") !== "kept") {
      return new Response(null, {
        status: 401,
        headers: { "www-authenticate": 'Bearer error="invalid_token"' },
      });
    }
    return modernAnswer({ id, method }) ??
      Response.json({ jsonrpc: "2.0", id, result: { content: [{ type: "text", text: "made" }] } });
  });
  await using adapter = startAdapter(remote.url, {
    HEADER_1_NAME: "Authorization",
    HEADER_1_VALUE: "Bearer of the form",
    HEADER_2_NAME: "X-Own",
    HEADER_2_VALUE: "kept",
  });
  await adapter.tell("dev.mooring/headers", { headers: { authorization: "Bearer one" } });
  const refusals: unknown[] = [];
  const session = await adapter.open((params) => {
    refusals.push(params);
    if (good !== "Bearer two") return;
    // As DTMA does when another account is renewed.
    session.setHeaders({ authorization: "Bearer one" });
    setTimeout(() => session.setHeaders({ authorization: "Bearer two" }), 100);
  });
  assert.equal(textOf(await session.call(toolCall("any"), {})), "made");
  good = "Bearer two";
  const both = await Promise.all([1, 2].map((n) => session.call(toolCall(`call${n}`), {})));
  assert.deepEqual(both.map(textOf), ["made", "made"]);
  assert.deepEqual(seen.toSorted(), [
    "any Bearer one",
    ...[1, 2].flatMap((n) => [`call${n} Bearer one`, `call${n} Bearer two`]),
  ]);
  assert.deepEqual(refusals[0], { status: 401, error: "invalid_token" });

  const { error } = await session.call(toolCall("more"), {});
  assert.match(error!.message, /more rights.*sign in again/);
  assert.deepEqual(refusals.at(-1), { status: 403, error: "insufficient_scope", scope: "a b" });
  assert.equal(seen.filter((each) => each.startsWith("more")).length, 1);
  assert.ok(
    !bodies.join().includes("dev.mooring"),
    "what is between DTMA and adapter goes no further",
  );

  // No account, or not for this instance: what its form gave is sent again.
  session.setHeaders({});
  good = "Bearer of the form";
  assert.equal(textOf(await session.call(toolCall("any"), {})), "made");
  good = "Bearer three";
  const before = refusals.length;
  assert.match((await session.call(toolCall("any"), {})).error!.message, /check the headers/);
  assert.equal(refusals.length, before, "nobody can renew those");
  const other = JSON.stringify(adapter.logged);
  assert.ok(!other.includes("Bearer one") && !other.includes("Bearer two"));
  session.close("The test is over");
});

Deno.test("the adapter follows a redirect within the server, and refuses an answer over 4 MiB", async () => {
  await using remote = remoteServer((request, body) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/mcp") {
      return new Response(null, { status: 307, headers: { location: "/mcp/" } });
    }
    const message = JSON.parse(body);
    return modernAnswer(message) ?? Response.json({
      jsonrpc: "2.0",
      id: message.id,
      result: { content: [{ type: "text", text: "x".repeat(5 * 1024 * 1024) }] },
    });
  });
  await using adapter = startAdapter(remote.url);
  const session = await adapter.open();
  const { error } = await session.call(toolCall("any"), {});
  assert.match(error!.message, /over 4 MiB/);
  session.close("The test is over");
});
