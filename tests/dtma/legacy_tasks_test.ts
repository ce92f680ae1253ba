import assert from "node:assert/strict";
import type { JsonRpcNotification, JsonRpcResponse } from "../../dtma/connection.ts";
import { INPUT_ERROR, TASK_PROGRESS_META, TASKS_EXTENSION } from "../../dtma/protocol.ts";
import { openSession, type Session } from "../../dtma/session.ts";
import { attachable, startServer, textOf, toolCall } from "./stdio_server.ts";

const CAPABILITIES = "io.modelcontextprotocol/clientCapabilities";
const RELATED = "io.modelcontextprotocol/related-task";
const WITH_TASKS = { elicitation: {}, extensions: { [TASKS_EXTENSION]: {} } };

const call = (name: string, args: object = {}, capabilities: object = WITH_TASKS, more = {}) => {
  const request = toolCall(name, args as Record<string, unknown>, {
    meta: { [CAPABILITIES]: capabilities },
  });
  return { ...request, params: { ...request.params, ...more } };
};
const ofTask = (method: string, taskId: unknown, more: object = {}) => ({
  jsonrpc: "2.0" as const,
  id: 7,
  method: `tasks/${method}`,
  params: { taskId, ...more, _meta: { [CAPABILITIES]: WITH_TASKS } },
});

function resultIn({ result, error }: JsonRpcResponse): Record<string, unknown> {
  assert.ok(result, JSON.stringify(error));
  return result;
}

/** Begins a task and looks at it until it is not working any more. */
async function task(session: Session, name: string, args: object = {}) {
  const { taskId } = resultIn(await session.call(call(name, args), {}));
  return await settled(session, taskId);
}
async function settled(session: Session, taskId: unknown, isDone = isNotWorking) {
  for (;;) {
    const seen = resultIn(await session.call(ofTask("get", taskId), {}));
    if (isDone(seen)) return seen;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const isNotWorking = ({ status }: Record<string, unknown>) => status !== "working";

async function open() {
  const server = startServer("tasks-legacy");
  const session = await server.open();
  await session.listTools();
  const seen = async (method: string) =>
    (JSON.parse(textOf(await session.call(call("seen"), {}))) as {
      method: string;
      params: Record<string, unknown>;
    }[]).filter((each) => each.method === method).map(({ params }) => params);
  return { session, seen, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

Deno.test("a tool that must or may be a task is one for whoever has tasks", async () => {
  await using server = await open();
  const { session, seen } = server;
  for (const name of ["must", "may"]) {
    const made = resultIn(await session.call(call(name, {}, WITH_TASKS, { task: { ttl: 9 } }), {}));
    const { taskId, createdAt, lastUpdatedAt, ...rest } = made;
    assert.deepEqual(rest, {
      resultType: "task",
      status: "working",
      statusMessage: "Under way",
      ttlMs: 9,
      pollIntervalMs: 50,
      big: 1,
      _meta: { mine: true },
    });
    assert.equal(createdAt, lastUpdatedAt);
    const ended = await settled(session, taskId);
    assert.deepEqual([ended.resultType, ended.status, ended.taskId], [
      "complete",
      "completed",
      taskId,
    ]);
    assert.deepEqual(ended.result, { content: [{ type: "text", text: `${name} done` }] });
  }
  const calls = (await seen("tools/call")).filter(({ name }) => name !== "seen");
  assert.deepEqual(calls.map(({ task }) => task), [{ ttl: 9 }, { ttl: 9 }]);
  const discovered = await session.call({ ...call(""), method: "server/discover" }, {});
  assert.deepEqual(resultIn(discovered).capabilities, {
    tools: {},
    extensions: { [TASKS_EXTENSION]: {} },
  });
});

Deno.test("without tasks one that may be a task is none, and one that must be is refused", async () => {
  await using server = await open();
  const { session, seen } = server;
  // What is left over of a client of 2025-11-25 reaches no server that would refuse the call for it.
  for (const name of ["may", "plain"]) {
    const answer = await session.call(call(name, {}, {}, { task: { ttl: 1 } }), {});
    assert.equal(textOf(answer), `${name} at once`);
  }
  assert.equal(
    textOf(await session.call(call("plain", {}, WITH_TASKS, { task: {} }), {})),
    "plain at once",
  );
  const { error } = await session.call(call("must", {}, {}), {});
  assert.equal(error?.code, -32021);
  assert.deepEqual(error?.data, {
    requiredCapabilities: { extensions: { [TASKS_EXTENSION]: {} } },
  });
  assert.deepEqual((await seen("tools/call")).map(({ name, task }) => [name, task]), [
    ["may", undefined],
    ["plain", undefined],
    ["plain", undefined],
    ["seen", undefined],
  ]);
});

Deno.test("a task's end is its result, or the error that it ended in", async () => {
  await using server = await open();
  const { session } = server;
  const errs = await task(session, "errs");
  assert.deepEqual([errs.status, (errs.result as { isError: boolean }).isError], [
    "completed",
    true,
  ]);
  const fails = await task(session, "fails");
  assert.deepEqual([fails.status, fails.error, fails.result], [
    "failed",
    { code: -32050, message: "Broken" },
    undefined,
  ]);
});

Deno.test("a task's questions are its own, and go to who asks for it", async () => {
  await using server = await open();
  const { session } = server;
  const [one, other] = await Promise.all([task(session, "asks"), task(session, "asks")]);
  for (const [index, { taskId, status, inputRequests }] of [one, other].entries()) {
    assert.equal(status, "input_required");
    const [[key, request]] = Object.entries(inputRequests as object);
    assert.deepEqual(request, {
      method: "elicitation/create",
      params: { message: "Who?", requestedSchema: { type: "object", properties: {} } },
    });
    const answer = { action: "accept", content: { name: `n${index}` } };
    const more = { inputResponses: { [key]: answer, other: {} } };
    const told = await session.call(ofTask("update", taskId, more), {});
    assert.deepEqual(told.result, { resultType: "complete" });
    const ended = await settled(session, taskId);
    // It says whose task it was about.
    const _meta = { [RELATED]: { taskId } };
    assert.deepEqual(
      JSON.parse(textOf({ result: ended.result as Record<string, unknown> })),
      { result: { ...answer, _meta } },
    );
  }
});

Deno.test("a task's question outlives thousands of tasks that ask nothing", async () => {
  await using server = await open();
  const { session } = server;
  const { taskId, inputRequests } = await task(session, "asks");
  for (let made = 0; made < 2000; made++) resultIn(await session.call(call("forever"), {}));
  const seen = resultIn(await session.call(ofTask("get", taskId), {}));
  assert.deepEqual([seen.status, seen.inputRequests], ["input_required", inputRequests]);
});

Deno.test("a task whose caller cannot be asked hears so", async () => {
  await using server = await open();
  const { session } = server;
  const only = { extensions: { [TASKS_EXTENSION]: {} } };
  const { taskId } = resultIn(await session.call(call("asks", {}, only), {}));
  for (;;) {
    const get = ofTask("get", taskId);
    get.params._meta[CAPABILITIES] = only as typeof WITH_TASKS;
    const { status, result } = resultIn(await session.call(get, {}));
    assert.notEqual(status, "input_required");
    if (status !== "completed") continue;
    assert.match(textOf({ result: result as Record<string, unknown> }), /-32601/);
    break;
  }
});

Deno.test("tasks/cancel is acknowledged, of one that has ended too, and not of an unknown one", async () => {
  await using server = await open();
  const { session } = server;
  const { taskId } = resultIn(await session.call(call("forever"), {}));
  for (let time = 0; time < 2; time++) {
    const { result } = await session.call(ofTask("cancel", taskId), {});
    assert.deepEqual(result, { resultType: "complete" });
    assert.equal((await settled(session, taskId)).status, "cancelled");
  }
  for (const method of ["get", "update", "cancel"]) {
    const { error } = await session.call(ofTask(method, "another", { inputResponses: {} }), {});
    assert.equal(error?.code, -32602, method);
  }
});

Deno.test("tasks/get brings a task's newest progress", async () => {
  await using server = await open();
  const { session } = server;
  const request = call("steps");
  Object.assign(request.params._meta, { progressToken: "mine" });
  const { taskId } = resultIn(await session.call(request, {}));
  const seen = await settled(session, taskId, ({ _meta }) => _meta !== undefined);
  const { progress, ...rest } = (seen._meta as Record<string, Record<string, unknown>>)[
    TASK_PROGRESS_META
  ];
  assert.deepEqual(rest, { total: 3, message: `step ${progress}` });
});

Deno.test("who listens to a task is told when there is something to see of it", async () => {
  await using server = await open();
  const { session } = server;
  const told: JsonRpcNotification[] = [];
  const stop = new AbortController();
  const heard = Promise.withResolvers<void>();
  const { taskId } = resultIn(await session.call(call("must", { ms: 2000 }), {}));
  const listening = session.call({
    jsonrpc: "2.0",
    id: 3,
    method: "subscriptions/listen",
    params: { notifications: { taskIds: [taskId] } },
  }, {
    signal: stop.signal,
    onNotification: (notification) => {
      told.push(notification);
      if (notification.method === "notifications/tasks") heard.resolve();
    },
  });
  await heard.promise;
  assert.deepEqual(told[0].params?.notifications, { taskIds: [taskId] });
  assert.equal(told[1].params?.taskId, taskId);
  assert.equal(session.listeners, 1);
  stop.abort();
  await assert.rejects(listening);
});

Deno.test("a server without tasks has none of their methods, and is called without them", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const { error } = await session.call(ofTask("get", "t"), {});
  assert.equal(error?.code, -32601);
  const request = call("seen", {}, WITH_TASKS, { task: { ttl: 60_000 } });
  const { result } = await session.call(request, {});
  assert.ok(result);
});

Deno.test("a call that fails for what its client did not declare says what that is", async () => {
  await using server = await open();
  const { session } = server;
  const { error } = await session.call(call("needs", {}, {}), {});
  assert.equal(error?.code, -32021);
  assert.deepEqual(error?.data, {
    requiredCapabilities: { sampling: {} },
    [INPUT_ERROR]: { code: -32099, message: "It was not given a sample" },
  });
});

Deno.test("a task goes on while its DTMA is another, and asks the next one", async () => {
  await using server = startServer("tasks-legacy");
  const attach = attachable(server.child);
  const options = { handshakeTimeoutMs: 30_000, log: () => {} };
  const first = await openSession(attach(), options);
  await first.listTools();
  const ids = [];
  for (const name of ["must", "asks"]) {
    ids.push(resultIn(await first.call(call(name, { ms: 300 }), {})).taskId);
  }
  first.close("DTMA was killed");
  const next = await openSession(attach(), { ...options, isTakenOver: true });
  assert.equal((await settled(next, ids[0])).status, "completed");
  const { inputRequests } = await settled(next, ids[1]);
  const [key] = Object.keys(inputRequests as object);
  const inputResponses = { [key]: { action: "decline" } };
  await next.call(ofTask("update", ids[1], { inputResponses }), {});
  const { result } = await settled(next, ids[1]);
  assert.match(textOf({ result: result as Record<string, unknown> }), /decline/);
  next.close("The test is over");
});

Deno.test("tasks of a server made with SDK 1.x are done, ask, are cancelled and fail", async () => {
  const script = new URL("../conformance/everything_legacy.ts", import.meta.url).pathname;
  await using server = startServer(script);
  const session = await server.open();
  await session.listTools();
  const done = await task(session, "slow_compute", { seconds: 0, label: "a" });
  assert.equal(textOf({ result: done.result as Record<string, unknown> }), "Computed a");
  assert.equal((await task(session, "failing_job")).status, "completed");
  const broke = await task(session, "protocol_error_job");
  assert.deepEqual([broke.status, broke.statusMessage], ["failed", "Error: It broke off"]);

  let asks = await task(session, "multi_input");
  const asked: string[] = [];
  // They may come together or one by one; each is answered by itself.
  for (; asks.status === "input_required"; asks = await settled(session, asks.taskId)) {
    for (const key of Object.keys(asks.inputRequests as object)) {
      asked.push(key);
      const inputResponses = { [key]: { action: "accept", content: { value: "x" } } };
      await session.call(ofTask("update", asks.taskId, { inputResponses }), {});
    }
  }
  assert.equal(new Set(asked).size, 2);
  assert.equal(asked.length, 2);
  assert.equal(textOf({ result: asks.result as Record<string, unknown> }), "Both were answered");

  const { taskId } = resultIn(await session.call(call("slow_compute", { seconds: 3 }), {}));
  assert.deepEqual((await session.call(ofTask("cancel", taskId), {})).result, {
    resultType: "complete",
  });
  assert.equal((await settled(session, taskId)).status, "cancelled");
});
