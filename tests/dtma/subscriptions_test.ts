import assert from "node:assert/strict";
import type { JsonRpcNotification, JsonRpcResponse } from "../../dtma/connection.ts";
import { ErrorCode, promptHash, UNTOLD_META } from "../../dtma/protocol.ts";
import type { Session } from "../../dtma/session.ts";
import { eventually } from "./observed.ts";
import { serverEverything, startServer, textOf, toolCall } from "./stdio_server.ts";

const SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId";
const META = { "io.modelcontextprotocol/protocolVersion": "2026-07-28" };

interface Listening {
  heard: JsonRpcNotification[];
  methods(): string[];
  ended: Promise<JsonRpcResponse>;
  stop(): void;
}

/** Listens, and waits for the acknowledgement. */
async function listen(
  session: Session,
  notifications: Record<string, unknown>,
  id: string | number = "sub",
): Promise<Listening> {
  const heard: JsonRpcNotification[] = [];
  const stop = new AbortController();
  const params = { notifications, _meta: META };
  const ended = session.call({ jsonrpc: "2.0", id, method: "subscriptions/listen", params }, {
    signal: stop.signal,
    onNotification: (each) => heard.push(each),
  });
  ended.catch(() => {});
  await Promise.race([eventually(() => heard.length > 0), ended]);
  return {
    heard,
    methods: () => heard.map(({ method }) => method.slice("notifications/".length)),
    ended,
    stop: () => stop.abort(new Error("enough")),
  };
}

async function seenBy(session: Session, method: string) {
  const { result } = await session.call(toolCall("seen"), {});
  const { value } = result!.structuredContent as {
    value: { method: string; params: Record<string, unknown> }[];
  };
  return value.filter((each) => each.method === method).map(({ params }) => params);
}

Deno.test("a listener is told what it asked for and the server can, under its own id", async () => {
  await using server = startServer("resources");
  const session = await server.open();
  const one = await listen(session, {
    toolsListChanged: true,
    promptsListChanged: true,
    resourceSubscriptions: ["file:///1", "file:///secret"],
  }, 7);
  assert.deepEqual(one.heard, [{
    jsonrpc: "2.0",
    method: "notifications/subscriptions/acknowledged",
    params: {
      notifications: { promptsListChanged: true, resourceSubscriptions: ["file:///1"] },
      _meta: { [SUBSCRIPTION]: 7 },
    },
    paramsText:
      '{"notifications":{"promptsListChanged":true,"resourceSubscriptions":["file:///1"]},' +
      '"_meta":{"io.modelcontextprotocol/subscriptionId":7}}',
  }]);
  // Who asks for one alone is told by which error it was refused.
  const refused = await listen(session, { resourceSubscriptions: ["file:///secret"] }, 8);
  assert.deepEqual(refused.heard[0].params, {
    notifications: { resourceSubscriptions: [] },
    _meta: { [UNTOLD_META]: { code: -32601, message: "Method not found" }, [SUBSCRIPTION]: 8 },
  });
  refused.stop();
  const two = await listen(session, { resourcesListChanged: true });
  for (const uri of ["file:///1", "file:///1/part", "file:///12", "file:///2"]) {
    await session.call(toolCall("updates", { uri }), {});
  }
  await session.call(toolCall("changes", { list: "prompts" }), {});
  await session.call(toolCall("changes", { list: "resources" }), {});
  assert.deepEqual(one.heard.slice(1).map(({ method, params }) => [method, params]), [
    ["notifications/resources/updated", {
      uri: "file:///1",
      n: 1,
      _meta: { "com.example/kept": 1, [SUBSCRIPTION]: 7 },
    }],
    ["notifications/resources/updated", {
      uri: "file:///1/part",
      n: 1,
      _meta: { "com.example/kept": 1, [SUBSCRIPTION]: 7 },
    }],
    ["notifications/prompts/list_changed", { _meta: { [SUBSCRIPTION]: 7 } }],
  ]);
  assert.deepEqual(two.methods(), ["subscriptions/acknowledged", "resources/list_changed"]);
  one.stop();
  two.stop();
  await assert.rejects(one.ended, { message: "enough" });
  await assert.rejects(two.ended, { message: "enough" });
});

Deno.test("an older server is subscribed to a resource once, for as long as anybody listens", async () => {
  await using server = startServer("resources");
  const session = await server.open();
  const wanted = { resourceSubscriptions: ["file:///1"] };
  const one = await listen(session, wanted, 1);
  const two = await listen(session, wanted, 2);
  assert.equal(session.listeners, 2);
  assert.equal(session.inFlight, 0);
  assert.deepEqual(await seenBy(session, "resources/subscribe"), [{ uri: "file:///1" }]);
  one.stop();
  await assert.rejects(one.ended);
  await session.call(toolCall("updates", { uri: "file:///1" }), {});
  assert.deepEqual([one.heard.length, two.heard.length], [1, 2]);
  assert.deepEqual(await seenBy(session, "resources/unsubscribe"), []);
  two.stop();
  await assert.rejects(two.ended);
  await eventually(async () => (await seenBy(session, "resources/unsubscribe")).length === 1);
  // Come and gone and come in one turn.
  const [first, second] = [listen(session, wanted, 3), listen(session, wanted, 4)];
  (await first).stop();
  const third = await listen(session, wanted, 5);
  (await second).stop();
  await session.call(toolCall("updates", { uri: "file:///1" }), {});
  await eventually(() => third.heard.length === 2);
  third.stop();
  await eventually(() => session.listeners === 0);
});

Deno.test("what a server was told is told again when its session is another one", async () => {
  await using server = startServer("resources");
  const session = await server.open();
  const changed: unknown[] = [];
  session.onListChanged = (...change) => changed.push(change);
  const one = await listen(session, { resourceSubscriptions: ["file:///1"] });
  const meta = { "io.modelcontextprotocol/logLevel": "info" };
  await session.call(toolCall("logs", {}, { meta }), {});
  await session.call(toolCall("reopens"), {});
  assert.deepEqual(changed, [["tools", false], ["prompts", false], ["resources", false]]);
  await eventually(() => one.heard.length === 2);
  assert.deepEqual([one.methods()[1], one.heard[1].params!.uri], [
    "resources/updated",
    "file:///1",
  ]);
  await session.call(toolCall("logs", {}, { meta }), {});
  const twice = [1, 2].map(() => ({ uri: "file:///1" }));
  assert.deepEqual(await seenBy(session, "resources/subscribe"), twice);
  assert.deepEqual(await seenBy(session, "logging/setLevel"), [{ level: "info" }, {
    level: "info",
  }]);
  one.stop();
});

Deno.test("a flood becomes one notification at once and one at its end", async () => {
  await using server = startServer("resources");
  const session = await server.open();
  const one = await listen(session, {
    resourcesListChanged: true,
    resourceSubscriptions: ["file:///1"],
  });
  await session.call(toolCall("updates", { uri: "file:///1", times: 5000 }), {});
  await session.call(toolCall("changes", { list: "resources", times: 5000 }), {});
  const numbers = () => one.heard.flatMap(({ params }) => params?.n ?? []);
  await eventually(() => numbers().at(-1) === 5000);
  assert.equal(numbers()[0], 1);
  assert.ok(one.heard.length < 50, `${one.heard.length} notifications`);
  await session.call(toolCall("updates", { uri: "file:///1", times: 2 }), {});
  session.close("It sleeps");
  await one.ended;
  // What was held back is not lost at the end.
  assert.equal(one.heard.at(-1)!.params!.n, 2);
});

Deno.test("a listener's stream ends in order when its session does, of either era", async () => {
  for (const name of ["resources", "modern"]) {
    await using server = startServer(name);
    const session = await server.open();
    const one = await listen(session, { toolsListChanged: true }, "x");
    server.child.kill("SIGKILL");
    assert.deepEqual(await one.ended.then(({ id, result }) => ({ id, result })), {
      id: "x",
      result: { resultType: "complete", _meta: { [SUBSCRIPTION]: "x" } },
    }, name);
    const next = await listen(session, { toolsListChanged: true });
    assert.equal((await next.ended).error?.code, ErrorCode.serverUnavailable);
  }
});

Deno.test("a server of 2026-07-28 is asked for each listener, under its own id", async () => {
  await using server = startServer("modern");
  const session = await server.open();
  const one = await listen(session, { toolsListChanged: true, "com.example/more": [1] }, 7);
  const two = await listen(session, { toolsListChanged: true }, "y");
  assert.deepEqual(one.heard[0].params, {
    _meta: { [SUBSCRIPTION]: 7 },
    notifications: { toolsListChanged: true, "com.example/more": [1] },
  });
  await session.call(toolCall("changes_tools"), {});
  assert.deepEqual(one.heard[1].params, { _meta: { [SUBSCRIPTION]: 7 } });
  assert.deepEqual(two.heard[1].params, { _meta: { [SUBSCRIPTION]: "y" } });
  one.stop();
  await assert.rejects(one.ended);
  await session.call(toolCall("ends_subscriptions"), {});
  assert.deepEqual((await two.ended).result, {
    resultType: "complete",
    _meta: { [SUBSCRIPTION]: "y" },
  });
  const { cancelled } = JSON.parse(textOf(await session.call(toolCall("cancelled"), {})));
  assert.equal(cancelled.length, 1);
});

Deno.test("an older server's log level is lowered for who wants more, and each gets its own", async () => {
  await using server = startServer("resources");
  const session = await server.open();
  const said = async (logLevel?: string) => {
    const heard: unknown[] = [];
    const meta = logLevel ? { "io.modelcontextprotocol/logLevel": logLevel } : {};
    await session.call(toolCall("logs", {}, { meta }), {
      onNotification: ({ params }) => heard.push(params!.data),
    });
    return heard;
  };
  assert.deepEqual(await said(), []);
  assert.deepEqual(await said("info"), ["info", "warning"]);
  assert.deepEqual(await said("warning"), ["warning"]);
  assert.deepEqual(await said("debug"), ["debug", "info", "warning"]);
  assert.deepEqual(await said("nonsense"), []);
  const levels = await seenBy(session, "logging/setLevel");
  assert.deepEqual(levels, [{ level: "info" }, { level: "debug" }]);
});

Deno.test("an older server answers every method of the waist that it has", async () => {
  await using server = startServer("resources");
  const session = await server.open();
  const ask = (method: string, params: object = {}) =>
    session.call({ jsonrpc: "2.0", id: 1, method, params: { ...params, _meta: META } }, {});
  const kept = { resultType: "complete", ttlMs: 0, cacheScope: "private" };
  const { prompts, ...listed } = (await ask("prompts/list")).result!;
  assert.deepEqual([listed, (prompts as unknown[]).length], [kept, 1]);
  assert.deepEqual((await ask("resources/list")).result, {
    ...kept,
    ttlMs: 5,
    resources: [{ uri: "file:///1", name: "one" }],
  });
  assert.deepEqual((await ask("resources/read", { uri: "file:///1" })).result, {
    ...kept,
    contents: [{ uri: "file:///1", text: "content" }],
  });
  const completion = {
    ref: { type: "ref/prompt", name: "p" },
    argument: { name: "a", value: "x" },
  };
  assert.deepEqual((await ask("completion/complete", completion)).result, {
    resultType: "complete",
    completion: { values: ["x!"] },
  });
  assert.deepEqual((await ask("prompts/get", { name: "p" })).result, {
    resultType: "complete",
    description: "p",
    messages: [],
  });
  // Its own tasks are other ones than the waist's, and it is not asked for what is not its own.
  assert.equal((await ask("tasks/get", { taskId: "t" })).error?.code, -32601);
  assert.equal((await ask("server/discover")).result!.instructions, "Read before you ask");
  const { capabilities } = (await ask("server/discover")).result as { capabilities: object };
  assert.ok(!("tasks" in capabilities) && "completions" in capabilities);
  assert.deepEqual(await seenBy(session, "tasks/get"), []);
});

Deno.test("listPrompts and listResourceTemplates list what a server says it has", async () => {
  await using server = startServer("resources");
  const session = await server.open();
  const changed: string[] = [];
  session.onListChanged = (list) => changed.push(list);
  const [prompt] = await session.listPrompts();
  assert.equal(prompt.description, "Prompt 1");
  assert.match(await promptHash(prompt), /^[0-9a-f]{64}$/);
  const { arguments: _, ...bare } = prompt;
  assert.notEqual(await promptHash(bare), await promptHash(prompt));
  assert.deepEqual(await session.listResourceTemplates(), [
    { name: "template-1", uriTemplate: "file:///1/{path}" },
  ]);
  await session.call(toolCall("changes", { list: "prompts" }), {});
  await session.call(toolCall("changes", { list: "resources" }), {});
  assert.deepEqual(changed, ["prompts", "resources"]);
  assert.equal((await session.listPrompts()).length, 2);
  await using without = startServer("echo");
  const other = await without.open();
  assert.deepEqual([await other.listPrompts(), await other.listResourceTemplates()], [[], []]);
});

Deno.test("server-everything: prompts, templates, completion and subscriptions", async () => {
  await using server = startServer(await serverEverything(), { args: ["stdio"] });
  const session = await server.open();
  const ask = async (method: string, params: object = {}) => {
    const request = { jsonrpc: "2.0" as const, id: 1, method, params: { ...params, _meta: META } };
    const { result, error } = await session.call(request, {});
    assert.ok(result, JSON.stringify(error));
    return result;
  };
  assert.ok((await session.listPrompts()).length >= 3);
  const [template] = await session.listResourceTemplates();
  assert.match(template.uriTemplate, /\{/);
  assert.ok(((await ask("prompts/get", { name: "simple-prompt" })).messages as unknown[]).length);
  const { completion } = await ask("completion/complete", {
    ref: { type: "ref/prompt", name: "completable-prompt" },
    argument: { name: "department", value: "E" },
  });
  assert.deepEqual((completion as { values: string[] }).values, ["Engineering"]);
  const uri = ((await ask("resources/list")).resources as { uri: string }[])[0].uri;
  assert.ok((await ask("resources/read", { uri })).contents);
  const one = await listen(session, { resourceSubscriptions: [uri] });
  await session.call(toolCall("toggle-subscriber-updates"), {});
  await eventually(() => one.methods().includes("resources/updated"));
  assert.equal(one.heard[1].params!.uri, uri);
  await session.call(toolCall("toggle-subscriber-updates"), {});
  one.stop();
  await assert.rejects(one.ended);
});
