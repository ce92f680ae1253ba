import assert from "node:assert/strict";
import { Client } from "npm:@modelcontextprotocol/sdk@1.32.2/client/index.js";
import { StreamableHTTPClientTransport } from "npm:@modelcontextprotocol/sdk@1.32.2/client/streamableHttp.js";
import { ElicitRequestSchema } from "npm:@modelcontextprotocol/sdk@1.32.2/types.js";
import { TASKS_EXTENSION } from "../../dtma/protocol.ts";
import { connectServer, createAgent, createToken, disconnectServer } from "../../models/agents.ts";
import { putMessages } from "../../models/sessions.ts";
import { tryTool } from "../../mcp/tool_call.ts";
import { serverEverything, startServer } from "../dtma/stdio_server.ts";
import { calling, eventsOf, messagesOf, openSession, sender } from "./streams.ts";
import { type Bridge, META, modern, openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const SCRIPTED = new URL("servers/scripted.mjs", import.meta.url).pathname;
const GENERATIONS = ["tasks-modern", "tasks-legacy"];
const WITH_TASKS = {
  ...META,
  "io.modelcontextprotocol/clientCapabilities": {
    elicitation: {},
    extensions: { [TASKS_EXTENSION]: {} },
  },
};
const WITHOUT = {
  ...META,
  "io.modelcontextprotocol/clientCapabilities": { elicitation: {} },
};
const RELATED = "io.modelcontextprotocol/related-task";
// deno-lint-ignore no-explicit-any
type Json = any;
const ANN = { action: "accept", content: { name: "Ann" } };

/** A client of 2026-07-28, whose requests may go to any replica. */
function modernClient(bridge: Bridge, meta: object = WITH_TASKS) {
  const send = sender(bridge);
  const ask = async (method: string, params: object, { replica = 0, token, at }: {
    replica?: number;
    token?: string;
    at?: string;
  } = {}): Promise<Json> => {
    const request = modern(method, { ...params, _meta: meta });
    const response = await send(replica, { ...request, token, at });
    return { status: response.status, ...(await messagesOf(response)).at(-1) };
  };
  const call = (name: string, args: object = {}, more = {}) =>
    ask("tools/call", { name: `demo__${name}`, arguments: args, ...more });
  /** Looks at a task, at either replica in turn, until it does not work any more. */
  const settled = async (taskId: string, isDone = (task: Json) => task.status !== "working") => {
    for (let look = 0;; look++) {
      const { result, error } = await ask("tasks/get", { taskId }, { replica: look % 2 });
      assert.ok(result, JSON.stringify(error));
      if (isDone(result)) return result;
      await pause(20);
    }
  };
  return { ask, call, settled };
}

/** What came in to the server, of one method. */
async function seenBy(bridge: Bridge, method: string): Promise<Json[]> {
  const { call } = modernClient(bridge, WITHOUT);
  const { result } = await call("seen");
  return JSON.parse(result.content[0].text).filter((each: Json) => each.method === method)
    .map(({ params }: Json) => params);
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
async function until(isSo: () => Promise<boolean>) {
  while (!await isSo()) await pause(20);
}

for (const server of GENERATIONS) {
  Deno.test({
    name: `${server}: a client of 2026-07-28 with tasks is given them, at any replica`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const { ask, call, settled } = modernClient(bridge);
      const discovered = await ask("server/discover", {});
      assert.deepEqual(discovered.result.capabilities.extensions, { [TASKS_EXTENSION]: {} });
      assert.equal(discovered.result.capabilities.tasks, undefined);

      for (const name of ["may", "must"]) {
        const { result } = await call(name, {}, { task: { ttl: 1 } });
        assert.deepEqual(
          [result.resultType, result.status, result.pollIntervalMs, result.ttlMs],
          ["task", "working", 50, 60_000],
        );
        assert.match(result.taskId, /^v1\.[\w.-]+$/);
        assert.equal(result.content, undefined);
        const ended = await settled(result.taskId);
        assert.deepEqual([ended.resultType, ended.taskId], ["complete", result.taskId]);
        assert.equal(ended.result.content[0].text, `${name} done`);
        // Of either scope it is the same task.
        const scoped = await ask("tasks/get", { taskId: result.taskId }, { at: "/mcp/demo" });
        assert.equal(scoped.result.status, "completed");
      }
      const plain = await call("plain", {}, { task: { ttl: 1 } });
      assert.equal(plain.result.content[0].text, "plain at once");
      assert.equal((await settled((await call("errs")).result.taskId)).result.isError, true);
      assert.deepEqual(
        (await settled((await call("fails")).result.taskId)).error,
        // What the server says there, -32050, nobody but the specification may.
        { code: -32603, message: "Broken" },
      );

      const { result: { taskId } } = await call("forever");
      const cancelled = await ask("tasks/cancel", { taskId });
      assert.deepEqual(cancelled.result, { resultType: "complete" });
      assert.equal((await settled(taskId)).status, "cancelled");
      assert.deepEqual(bridge.logged, []);
    },
  });

  Deno.test({
    name: `${server}: a task asks, and tasks/update answers`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const { ask, call, settled } = modernClient(bridge);
      const { result: { taskId } } = await call("asks");
      const { status, inputRequests } = await settled(taskId);
      assert.equal(status, "input_required");
      const [[key, request]] = Object.entries(inputRequests) as Json;
      assert.equal(request.method, "elicitation/create");
      const told = await ask("tasks/update", { taskId, inputResponses: { [key]: ANN } }, {
        replica: 1,
      });
      assert.deepEqual(told.result, { resultType: "complete" });
      const ended = await settled(taskId, ({ status }) => status === "completed");
      assert.match(ended.result.content[0].text, /Ann/);
    },
  });

  Deno.test({
    name: `${server}: answers that are none are refused, and the question stays`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const { ask, call, settled } = modernClient(bridge);
      const { result: { taskId } } = await call("asks");
      const { inputRequests } = await settled(taskId);
      const [key] = Object.keys(inputRequests);
      for (const inputResponses of [undefined, null, [], "x", { [key]: 5 }, { [key]: null }]) {
        const { error } = await ask("tasks/update", { taskId, inputResponses });
        assert.equal(error?.code, -32602, JSON.stringify(inputResponses));
        assert.match(error.message, /inputResponses must be an object/);
      }
      const { error } = await call("plain", {}, { inputResponses: { [key]: [] } });
      assert.match(error.message, /inputResponses must be an object/);
      assert.equal((await ask("tasks/get", { taskId })).result.status, "input_required");
    },
  });

  Deno.test({
    name: `${server}: a task is its agent's alone, and gone with the connection to its server`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const { db, user, workspaceId, serverId } = bridge;
      const { ask, call } = modernClient(bridge);
      const { result: { taskId } } = await call("forever");
      const otherId = await createAgent(db, user, workspaceId, "Other");
      await connectServer(db, user, otherId, serverId);
      const { token } = await createToken(db, user, otherId, { name: "t", expiresInDays: 1 });
      for (const method of ["tasks/get", "tasks/update", "tasks/cancel"]) {
        const more = { inputResponses: {} };
        for (
          const { error } of [
            await ask(method, { taskId, ...more }, { token }),
            await ask(method, { taskId: "task-1", ...more }),
            await ask(method, { taskId: `${taskId.slice(0, -4)}AAAA`, ...more }),
          ]
        ) {
          assert.deepEqual([error.code, error.message], [-32602, "There is no such task"]);
        }
      }
      await using _ = await bridge.another("echo", "other");
      const elsewhere = await ask("tasks/get", { taskId }, { at: "/mcp/other" });
      // It has no tasks at all.
      assert.equal(elsewhere.error.code, -32601);
      assert.equal((await ask("tasks/get", { taskId })).result.status, "working");
    },
  });

  Deno.test({
    name: `${server}: Mcp-Name, the declared extension and the methods of old are held to`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const { ask, call } = modernClient(bridge);
      const { result: { taskId } } = await call("forever");
      const wrong = modern("tasks/get", { taskId, _meta: WITH_TASKS });
      wrong.headers["mcp-name"] = "another";
      const response = await bridge.post(wrong.body, wrong.headers);
      assert.equal(response.status, 400);
      assert.equal((await response.json()).error.code, -32020);

      const without = modernClient(bridge, WITHOUT);
      for (const method of ["tasks/get", "tasks/update", "tasks/cancel"]) {
        const { status, error } = await without.ask(method, { taskId, inputResponses: {} });
        assert.equal(status, 400);
        assert.deepEqual([error.code, error.data], [-32021, {
          requiredCapabilities: { extensions: { [TASKS_EXTENSION]: {} } },
        }]);
      }
      const listen = await without.ask("subscriptions/listen", { notifications: { taskIds: [] } });
      assert.deepEqual([listen.status, listen.error.code], [400, -32021]);
      for (const method of ["tasks/result", "tasks/list"]) {
        const { error } = await ask(method, { taskId });
        assert.equal(error.code, -32601);
      }
    },
  });

  Deno.test({
    name: `${server}: a task goes to the instance that made it`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const { serverId, agentId, owner } = bridge;
      await owner`update public.servers set instances = 'agent' where id = ${serverId}`;
      await using own = startServer(server);
      const session = await own.open();
      await session.listTools();
      bridge.routes.set(`${serverId} ${agentId}`, { ...bridge.route, session });
      const { call, settled } = modernClient(bridge);
      // The toolbelt that says so may be a moment old.
      await until(async () => {
        await call("may");
        return (await seenBy(bridge, "tools/call")).filter(({ name }) => name === "may").length > 0;
      });
      const { result: { taskId } } = await call("may");
      await owner`update public.servers set instances = 'shared' where id = ${serverId}`;
      assert.equal((await settled(taskId)).result.content[0].text, "may done");
      bridge.routes.delete(`${serverId} ${agentId}`);
    },
  });

  Deno.test({
    name: `${server}: who listens to a task is told of it under its own id`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const { call } = modernClient(bridge);
      const { result: { taskId } } = await call("may", { ms: 2000 });
      const stop = new AbortController();
      const notifications = { taskIds: [taskId, "another"] };
      const response = await sender(bridge)(1, {
        ...modern("subscriptions/listen", { notifications, _meta: WITH_TASKS }, "l"),
        signal: stop.signal,
      });
      const told: Json[] = [];
      for await (const { data } of eventsOf(response)) {
        told.push(JSON.parse(data));
        if (told.at(-1).params.status === "completed") break;
      }
      stop.abort();
      const [acknowledged, first, last] = [told[0], told[1], told.at(-1)];
      assert.deepEqual(acknowledged.params.notifications, { taskIds: [taskId] });
      assert.equal(first.params.status, "working");
      for (const { method, params } of [first, last]) {
        assert.equal(method, "notifications/tasks");
        assert.equal(params.taskId, taskId);
        assert.equal(params._meta["io.modelcontextprotocol/subscriptionId"], "l");
      }
      assert.equal(last.params.result.content[0].text, "may done");
    },
  });

  Deno.test({
    name: `${server}: a client before 2025-11-25 waits for a task's result, and hears how it goes`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const session = await openSession(bridge, { revision: "2025-06-18" });
      assert.equal(session.result.capabilities.tasks, undefined);
      const call = async (name: string, args: object = {}, meta?: object) =>
        await messagesOf(
          await session.send(1, { body: calling(name, `demo__${name}`, args, meta) }),
        ) as Json[];
      const told = await call("must", { ms: 1500 }, { progressToken: "mine" });
      assert.equal(told.at(-1).result.content[0].text, "must done");
      assert.deepEqual(Object.keys(told.at(-1).result), ["content"]);
      const progress = told.slice(0, -1).map(({ params }) => params);
      assert.ok(progress.length > 0);
      for (const [index, each] of progress.entries()) {
        assert.equal(each.progressToken, "mine");
        if (index > 0) assert.ok(each.progress > progress[index - 1].progress);
      }
      assert.match(progress.at(-1).message, /step|Under way/);
      // One that may be a task is none where nobody wants it.
      assert.equal((await call("may"))[0].result.content[0].text, "may at once");
      if (server === "tasks-legacy") {
        assert.equal((await call("errs"))[0].result.isError, true);
        const { error } = (await call("fails"))[0];
        assert.deepEqual(error, { code: -32050, message: "Broken" });
      }
      const calls = await bridge.calls.flush().then(() =>
        bridge.owner<{ tool: string; outcome: string }[]>`
          select tool, outcome from public.calls where server_id = ${bridge.serverId}
          and tool = 'must'`
      );
      assert.deepEqual(calls.map(({ outcome }) => outcome), ["ok"]);
    },
  });

  Deno.test({
    name: `${server}: a call that is cancelled while its task is waited for cancels the task`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const session = await openSession(bridge, { revision: "2025-06-18" });
      const name = server === "tasks-legacy" ? "forever" : "rude";
      const pending = session.send(0, { body: calling("c", `demo__${name}`, { ms: 60_000 }) });
      await until(async () => (await seenBy(bridge, "tasks/get")).length > 1);
      // Said to the other replica.
      const params = { requestId: "c" };
      const body = { jsonrpc: "2.0", method: "notifications/cancelled", params };
      await (await session.send(1, { body })).body?.cancel();
      assert.equal((await pending).status, 202);
      await until(async () => (await seenBy(bridge, "tasks/cancel")).length === 1);
    },
  });

  Deno.test({
    name: `${server}: a task's questions reach a client without tasks`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      // On the stream of its call, in a revision with sessions.
      const session = await openSession(bridge, {
        revision: "2025-06-18",
        capabilities: { elicitation: {} },
      });
      const name = server === "tasks-legacy" ? "asks" : "rudely_asks";
      const response = await session.send(0, { body: calling(1, `demo__${name}`) });
      let last: Json;
      for await (const { data } of eventsOf(response)) {
        if (!data) continue;
        last = JSON.parse(data);
        if (last.method !== "elicitation/create") continue;
        const body = { jsonrpc: "2.0", id: last.id, result: ANN };
        await (await session.send(1, { body })).body?.cancel();
      }
      assert.match(last.result.content[0].text, /Ann/);

      // By its answer, in 2026-07-28: the next try comes to another replica, as after a restart.
      const { ask } = modernClient(bridge, { ...WITHOUT, progressToken: "p" });
      const params = { name: `demo__${name}`, arguments: {} };
      const { result } = await ask("tools/call", params);
      assert.equal(result.resultType, "input_required");
      const [key] = Object.keys(result.inputRequests);
      const retry = {
        ...params,
        requestState: result.requestState,
        inputResponses: { [key]: ANN },
      };
      const { error } = await ask("tools/call", { ...retry, name: "demo__plain" });
      assert.equal(error.code, -32602);
      // What was not answered is asked again.
      const again = await ask("tools/call", { ...retry, inputResponses: {} });
      assert.deepEqual(Object.keys(again.result.inputRequests ?? {}), [key]);
      const ended = await ask("tools/call", retry, { replica: 1 });
      assert.match(ended.result.content[0].text, /Ann/);
      assert.equal(
        (await seenBy(bridge, "tools/call")).filter((each) => each.name === name).length,
        2,
      );

      // Who cannot be asked at all hears so, and the task is cancelled or told.
      const silent = await openSession(bridge, { revision: "2025-06-18" });
      const [told] = await messagesOf(
        await silent.send(0, {
          body: calling(1, `demo__${name}`),
          headers: { accept: "application/json" },
        }),
      ) as Json[];
      assert.match(told.result.content[0].text, /cannot give|-32601/);
    },
  });

  Deno.test({
    name: `${server}: a client of 2025-11-25 has tasks of its own revision`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const session = await openSession(bridge, { capabilities: { elicitation: {} } });
      assert.deepEqual(session.result.capabilities.tasks, {
        cancel: {},
        requests: { tools: { call: {} } },
      });
      const ask = async (method: string, params: object, replica = 0): Promise<Json> => {
        const body = { jsonrpc: "2.0", id: method, method, params };
        return (await messagesOf(await session.send(replica, { body }))).at(-1);
      };
      const begin = async (name: string, args: object = {}) => {
        const params = { name: `demo__${name}`, arguments: args, task: { ttl: 60_000 } };
        const { result, error } = await ask("tools/call", params);
        assert.ok(result, JSON.stringify(error));
        return result.task;
      };
      const { result: { tools } } = await ask("tools/list", {});
      const support = (name: string) =>
        tools.find((tool: Json) => tool.name === `demo__${name}`).execution?.taskSupport;
      assert.deepEqual(["must", "may"].map(support), ["optional", "optional"]);

      for (const name of ["must", "may"]) {
        const task = await begin(name);
        const { taskId } = task;
        assert.deepEqual([task.status, task.ttl, task.pollInterval], ["working", 60_000, 50]);
        assert.equal(task.ttlMs, undefined);
        const seen = await ask("tasks/get", { taskId }, 1);
        assert.deepEqual([seen.result.taskId, seen.result.ttl], [taskId, 60_000]);
        const { result } = await ask("tasks/result", { taskId }, 1);
        assert.equal(result.content[0].text, `${name} done`);
        assert.deepEqual(result._meta[RELATED], { taskId });
        assert.equal((await ask("tasks/get", { taskId })).result.status, "completed");
        // What has ended cannot be cancelled.
        assert.equal((await ask("tasks/cancel", { taskId })).error.code, -32602);
      }
      // Without `task` it waits.
      const waited = await ask("tools/call", { name: "demo__must", arguments: {} });
      assert.equal(waited.result.content[0].text, "must done");

      const { taskId } = await begin("forever");
      assert.equal((await ask("tasks/cancel", { taskId })).result.status, "cancelled");
      const errs = await begin("errs");
      assert.equal((await ask("tasks/result", { taskId: errs.taskId })).result.isError, true);
      assert.equal((await ask("tasks/get", { taskId: errs.taskId })).result.status, "failed");

      if (server === "tasks-legacy") {
        const refused = await ask("tools/call", { name: "demo__plain", arguments: {}, task: {} });
        assert.equal(refused.error.code, -32601);
      } else {
        // Answered at once by a server of 2026-07-28: a task that has ended.
        const { taskId, status, ttl } = await begin("plain");
        assert.deepEqual([status, ttl], ["working", 900_000]);
        const got = await ask("tasks/get", { taskId }, 1);
        assert.deepEqual([got.result.status, got.result.taskId], ["completed", taskId]);
        const { result } = await ask("tasks/result", { taskId }, 1);
        assert.equal(result.content[0].text, "plain at once");
        assert.deepEqual(result._meta[RELATED], { taskId });
        assert.equal((await ask("tasks/cancel", { taskId })).error.code, -32602);
      }
      for (const method of ["tasks/list", "tasks/update"]) {
        assert.equal((await ask(method, { taskId })).error.code, -32601, method);
      }
      for (const method of ["tasks/get", "tasks/result", "tasks/cancel"]) {
        assert.equal((await ask(method, { taskId: "task-1" })).error.code, -32602, method);
      }
      assert.deepEqual(bridge.logged, []);
    },
  });

  Deno.test({
    name: `${server}: tasks/result asks a client of 2025-11-25 what its task wants to know`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const session = await openSession(bridge, { capabilities: { elicitation: {} } });
      const body = { ...calling(1, "demo__asks") } as Json;
      body.params.task = {};
      const [{ result: { task } }] = await messagesOf(await session.send(0, { body })) as Json[];
      const { taskId } = task;
      const wanted = { jsonrpc: "2.0", id: 2, method: "tasks/result", params: { taskId } };
      let last: Json;
      for await (const { data } of eventsOf(await session.send(1, { body: wanted }))) {
        if (!data) continue;
        last = JSON.parse(data);
        if (last.method !== "elicitation/create") continue;
        assert.deepEqual(last.params._meta[RELATED], { taskId });
        const _meta = { [RELATED]: { taskId }, mine: 1 };
        const body = { jsonrpc: "2.0", id: last.id, result: { ...ANN, _meta } };
        await (await session.send(0, { body })).body?.cancel();
      }
      const answer = JSON.parse(last.result.content[0].text);
      assert.match(JSON.stringify(answer), /Ann.*"mine":1/);
      // Its server is told by the id that it gave it.
      if (server === "tasks-legacy") {
        assert.deepEqual(answer.result._meta[RELATED], { taskId: "task-1" });
      }
    },
  });

  Deno.test({
    name: `${server}: tasks/result tells how its task goes, and says whose that is`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const session = await openSession(bridge);
      const body = { ...calling(1, "demo__must", { ms: 1500 }) } as Json;
      body.params.task = {};
      const [{ result: { task } }] = await messagesOf(await session.send(0, { body })) as Json[];
      const params = { taskId: task.taskId, _meta: { progressToken: "mine" } };
      const wanted = { jsonrpc: "2.0", id: 2, method: "tasks/result", params };
      const told = await messagesOf(await session.send(1, { body: wanted })) as Json[];
      const progress = told.filter(({ method }) => method === "notifications/progress");
      assert.ok(progress.length > 0);
      for (const { params } of progress) {
        assert.equal(params.progressToken, "mine");
        assert.deepEqual(params._meta[RELATED], { taskId: task.taskId });
      }
      assert.equal(told.at(-1).result.content[0].text, "must done");
    },
  });
}

/** A client of 2025-11-25 and a task of its own on a server of 2026-07-28. */
async function legacyClient(bridge: Bridge) {
  const session = await openSession(bridge, { capabilities: { elicitation: {} } });
  const ask = async (method: string, params: object, headers = {}): Promise<Json> => {
    const body = { jsonrpc: "2.0", id: method, method, params };
    return (await messagesOf(await session.send(0, { body, headers }))).at(-1);
  };
  const begin = async (name: string, args: object = {}): Promise<string> => {
    const params = { name: `demo__${name}`, arguments: args, task: {} };
    return (await ask("tools/call", params)).result.task.taskId;
  };
  return { ask, begin };
}

Deno.test({
  name: "tasks/result leaves a client's task alone, and knows none that its server forgot",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    const { ask, begin } = await legacyClient(bridge);
    const asking = await begin("asks");
    await until(async () =>
      (await ask("tasks/get", { taskId: asking })).result.status === "input_required"
    );
    // One that takes no stream cannot be asked on it.
    const silent = { accept: "application/json" };
    const { error } = await ask("tasks/result", { taskId: asking }, silent);
    assert.match(error.message, /cannot give.*The task goes on/);
    const late = await begin("forever", { ttlMs: 1 });
    assert.match((await ask("tasks/result", { taskId: late })).error.message, /in its time/);
    for (const taskId of [asking, late]) {
      const { result } = await ask("tasks/get", { taskId });
      assert.match(result.status, /working|input_required/);
    }
    assert.deepEqual(await seenBy(bridge, "tasks/cancel"), []);

    const forgotten = await begin("forever");
    await modernClient(bridge, WITHOUT).call("forgets");
    for (const method of ["tasks/get", "tasks/result", "tasks/cancel"]) {
      assert.equal((await ask(method, { taskId: forgotten })).error?.code, -32602, method);
    }
  },
});

Deno.test({
  name: "tasks/cancel of 2025-11-25 says that a task is cancelled, which a server may be late with",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    const { ask, begin } = await legacyClient(bridge);
    for (const args of [{ cancelMs: 500 }, { isGone: true }]) {
      const taskId = await begin("forever", args);
      const { result } = await ask("tasks/cancel", { taskId });
      assert.deepEqual([result.taskId, result.status, result.ttl], [taskId, "cancelled", 60_000]);
    }
  },
});

Deno.test({
  name: "what tasks/get answers is complete, whatever its server calls it",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    const { call, settled } = modernClient(bridge);
    const { result } = await call("may", { isMistyped: true });
    const ended = await settled(result.taskId);
    assert.deepEqual([ended.resultType, ended.status], ["complete", "completed"]);
  },
});

Deno.test({
  name: "a call whose server wants to be looked at seldom is told of in between",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    const session = await openSession(bridge, { revision: "2025-06-18" });
    const args = { pollIntervalMs: 11_000 };
    const body = calling(1, "demo__rude", args, { progressToken: "mine" });
    const told = await messagesOf(await session.send(0, { body })) as Json[];
    assert.equal(told.at(-1).result.content[0].text, "rude done");
    assert.equal((await seenBy(bridge, "tasks/get")).length, 1);
    const progress = told.slice(0, -1).map(({ params }) => params.progress);
    assert.deepEqual(progress, [1, 2]);
  },
});

Deno.test({
  name: "a question that its task did without is taken back from the client, and the call ends",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    const session = await openSession(bridge, {
      revision: "2025-06-18",
      capabilities: { elicitation: {} },
    });
    const body = calling(1, "demo__rudely_asks", { patienceMs: 500 });
    const signal = AbortSignal.timeout(30_000);
    const messages: Json[] = [];
    for await (const { data } of eventsOf(await session.send(0, { body, signal }))) {
      if (data) messages.push(JSON.parse(data));
    }
    const [question, takenBack, answer] = messages;
    assert.equal(question.method, "elicitation/create");
    assert.equal(takenBack.method, "notifications/cancelled");
    assert.equal(takenBack.params.requestId, question.id);
    assert.match(answer.result.content[0].text, /nobody/);
  },
});

Deno.test({
  name: "who listens to a task goes on hearing of it after its server ended the stream",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    const { call } = modernClient(bridge);
    const { result: { taskId } } = await call("may", { ms: 6000, pollIntervalMs: 200_000 });
    const stop = new AbortController();
    const response = await sender(bridge)(0, {
      ...modern("subscriptions/listen", {
        notifications: { taskIds: [taskId] },
        _meta: WITH_TASKS,
      }),
      signal: AbortSignal.any([stop.signal, AbortSignal.timeout(60_000)]),
    });
    const told: Json[] = [];
    for await (const { data } of eventsOf(response)) {
      told.push(JSON.parse(data).params);
      if (told.length === 2) {
        await until(async () => (await seenBy(bridge, "subscriptions/listen")).length === 1);
        await call("deafens");
      }
      if (told.at(-1).status === "completed") break;
    }
    stop.abort();
    assert.equal(told.at(-1).result.content[0].text, "may done");
    assert.equal((await seenBy(bridge, "subscriptions/listen")).length, 2);
  },
});

Deno.test({
  name: "what is no tool's call cannot be a task",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    const { ask } = await legacyClient(bridge);
    const modernly = async (method: string, params: object, name: string) => {
      const request = modern(method, { ...params, _meta: WITH_TASKS });
      request.headers["mcp-name"] = name;
      return (await messagesOf(await bridge.post(request.body, request.headers)))[0] as Json;
    };
    for (
      const { error } of [
        await modernly("prompts/get", { name: "demo__tasked" }, "demo__tasked"),
        await modernly("resources/read", { uri: "any:" }, "any:"),
        await ask("prompts/get", { name: "demo__tasked" }),
        await ask("resources/read", { uri: "any:" }),
      ]
    ) {
      assert.match(error?.message, /made a task of what can be none/);
    }

    // One that asks nothing and wants to be called again gets no answers; its hint is none.
    const legacy = await ask("resources/read", { uri: "busy:" });
    assert.equal(legacy.result.contents[0].text, "undefined");
    let result: Json = {};
    for (let tries = 0; tries < 4; tries++) {
      const { requestState } = result;
      ({ result } = await modernly("resources/read", { uri: "busy:", requestState }, "busy:"));
    }
    const { contents, ttlMs, cacheScope } = result;
    assert.deepEqual([contents[0].text, ttlMs, cacheScope], ["undefined", 0, "private"]);
  },
});

for (const server of GENERATIONS) {
  Deno.test({
    name: `${server}: the real client of SDK 1.x makes tasks, and is asked in them`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const client = new Client({ name: "t", version: "1" }, { capabilities: { elicitation: {} } });
      client.setRequestHandler(ElicitRequestSchema, () => ANN);
      const requestInit = { headers: { authorization: `Bearer ${bridge.token}` } };
      await client.connect(
        new StreamableHTTPClientTransport(new URL(bridge.url), { requestInit }),
      );
      await client.listTools();
      for (const name of ["must", "may", "asks", "plain"]) {
        const said: Json[] = [];
        const stream = client.experimental.tasks.callToolStream({
          name: `demo__${name}`,
          arguments: {},
        });
        for await (const message of stream) said.push(message);
        const isTask = said.some(({ type }) => type === "taskCreated");
        assert.equal(isTask, name !== "plain" || server === "tasks-modern", name);
        const [last] = said.slice(-1);
        assert.equal(last.type, "result", JSON.stringify(last));
        assert.match(last.result.content[0].text, /Ann|done|at once/);
      }
      const plain = await client.callTool({ name: "demo__must", arguments: {} });
      assert.equal((plain.content as Json)[0].text, "must done");
      await client.close();
    },
  });
}

Deno.test({
  name:
    "a client of 2026-07-28 without tasks hears what to declare, or waits if it asks for progress",
  ...options,
  async fn() {
    for (const server of GENERATIONS) {
      await using bridge = await openBridge(server);
      const { call } = modernClient(bridge, WITHOUT);
      const { status, error } = await call("must");
      assert.deepEqual([status, error.code, error.data], [400, -32021, {
        requiredCapabilities: { extensions: { [TASKS_EXTENSION]: {} } },
      }]);
      assert.equal((await call("may")).result.content[0].text, "may at once");
      const waiting = modernClient(bridge, { ...WITHOUT, progressToken: "p" });
      assert.equal((await waiting.call("must")).result.content[0].text, "must done");
    }
  },
});

Deno.test({
  name: "a task whose id is none is nobody's to wait for, and may have run",
  ...options,
  async fn() {
    await using bridge = await openBridge(SCRIPTED);
    const session = await openSession(bridge, { revision: "2025-06-18" });
    for (const id of ['{"toString":1}', "5", "null", JSON.stringify("x".repeat(1025))]) {
      const text = `{"resultType":"task","taskId":${id},"status":"working"}`;
      const answers = [
        ...await messagesOf(
          await session.send(0, { body: calling(1, "demo__says", { text }) }),
        ) as Json[],
        await modernClient(bridge, WITHOUT).call("says", { text }),
        await modernClient(bridge, WITH_TASKS).call("says", { text }),
      ];
      for (const answer of answers) {
        assert.match(JSON.stringify(answer), /made a task with an id that is none/);
      }
    }
  },
});

Deno.test({
  name: "the real server-everything's task is waited for, given, and asks on the way",
  ...options,
  async fn() {
    await using bridge = await openBridge(await serverEverything());
    const args = { topic: "tides", ambiguous: true };
    const answer = { action: "accept", content: { interpretation: "technical" } };
    const session = await openSession(bridge, {
      revision: "2025-06-18",
      capabilities: { elicitation: {} },
    });
    const body = calling(1, "demo__simulate-research-query", args, { progressToken: 1 });
    const messages: Json[] = [];
    for await (const { data } of eventsOf(await session.send(0, { body }))) {
      if (!data) continue;
      const message = JSON.parse(data);
      messages.push(message);
      if (message.method !== "elicitation/create") continue;
      const reply = { jsonrpc: "2.0", id: message.id, result: answer };
      await (await session.send(1, { body: reply })).body?.cancel();
    }
    assert.match(messages.at(-1).result.content[0].text, /Research Report: tides \(technical\)/);
    assert.ok(messages.some(({ method }) => method === "notifications/progress"));

    const { ask, call, settled } = modernClient(bridge);
    const { result: { taskId } } = await call("simulate-research-query", args);
    const { inputRequests } = await settled(taskId);
    const [key] = Object.keys(inputRequests);
    await ask("tasks/update", { taskId, inputResponses: { [key]: answer } });
    const ended = await settled(taskId, ({ status }) => status === "completed");
    assert.match(ended.result.content[0].text, /Research Report: tides \(technical\)/);
  },
});

Deno.test({
  name: "a person who tries a tool waits for its task, and gives it up by going away",
  ...options,
  async fn() {
    for (const server of GENERATIONS) {
      await using bridge = await openBridge(server);
      const { db, user, calls, appSigningKey, serverId } = bridge;
      const deps = { db, calls, appSigningKey, links: null, version: "0" };
      const trial = (name: string, ms: number, signal?: AbortSignal) =>
        tryTool(deps, user, { serverId, name, args: { ms } }, signal);
      const { result } = await trial("must", 100) as Json;
      assert.equal(result.content[0].text, "must done");
      const leaving = new AbortController();
      const pending = trial("must", 60_000, leaving.signal);
      const before = (await seenBy(bridge, "tasks/get")).length;
      await until(async () => (await seenBy(bridge, "tasks/get")).length > before);
      leaving.abort();
      await assert.rejects(pending);
      await until(async () => (await seenBy(bridge, "tasks/cancel")).length > 0);
    }
  },
});

Deno.test({
  name: "a wait outlives its server's connection, and ends when the server has lost the task",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    const session = await openSession(bridge, { revision: "2025-06-18" });
    const wait = (name: string, args: object) =>
      session.send(0, { body: calling(name, `demo__${name}`, args) }).then(messagesOf);
    const looked = async () => (await seenBy(bridge, "tasks/get")).length;
    const pending = wait("must", { ms: 1000 });
    await until(async () => await looked() > 0);
    // As while its DTMA or toolbox is started anew.
    bridge.routes.delete(bridge.serverId);
    await pause(300);
    bridge.routes.set(bridge.serverId, bridge.route);
    const [{ result }] = await pending as Json[];
    assert.equal(result.content[0].text, "must done");

    const lost = wait("rude", { ms: 60_000 });
    const before = await looked();
    await until(async () => await looked() > before);
    await modernClient(bridge, WITHOUT).call("forgets");
    const [told] = await lost as Json[];
    assert.equal(told.result.isError, true);
    assert.match(told.result.content[0].text, /does not know the task any more.*may have run/);
  },
});

Deno.test({
  name: "an answer to a task's question outlives its server's connection",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    const session = await openSession(bridge, {
      revision: "2025-06-18",
      capabilities: { elicitation: {} },
    });
    let last: Json, questions = 0;
    const response = await session.send(0, { body: calling(1, "demo__rudely_asks") });
    for await (const { data } of eventsOf(response)) {
      if (!data) continue;
      last = JSON.parse(data);
      if (last.method !== "elicitation/create") continue;
      questions++;
      bridge.routes.delete(bridge.serverId);
      const body = { jsonrpc: "2.0", id: last.id, result: ANN };
      await (await session.send(1, { body })).body?.cancel();
      await pause(300);
      bridge.routes.set(bridge.serverId, bridge.route);
    }
    assert.match(last.result.content[0].text, /Ann/);
    assert.equal(questions, 1);
  },
});

Deno.test({
  name: "a wait whose replica is lost is taken over where the stream is taken up again",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-legacy");
    const { db, owner } = bridge;
    const session = await openSession(bridge, { capabilities: { elicitation: {} } });
    const rows = () =>
      owner<{ stream: string; message: string }[]>`select stream, message
        from mooring.mcp_messages where session_id = ${session.id} and stream like 'wait:%'`;
    // As long as the ids are that some clients number their requests by.
    const idOf = (name: string) => `${name}-9b2fd0f6-52ae-4c6c-9f5e-d0a2f3b7c1aa`;
    const pending = ["must", "asks", "forever"].map((name) =>
      session.send(0, {
        body: calling(idOf(name), `demo__${name}`, { ms: 1500 }, { progressToken: name }),
      })
    );
    await until(async () => (await rows()).length === 3);
    // As a replica leaves it that was killed meanwhile: what it kept, and no sign of life.
    const stream = `p${"C".repeat(22)}`;
    const ids = ["must", "asks", "forever", "plain"].map((name) => JSON.stringify(idOf(name)));
    await putMessages(db, session.id, stream, [JSON.stringify(ids)], 0);
    await owner`update mooring.mcp_messages set at = now() - interval '1 minute'
      where stream = ${stream}`;
    for (const { stream: kept, message } of await rows()) {
      const name = kept.slice(kept.lastIndexOf(":"));
      await putMessages(db, session.id, `wait:${stream}${name}`, [message], 1);
    }
    const lastEventId = `${stream}_0_${btoa(JSON.stringify(ids)).replace(/=+$/, "")}`;
    const resumed = await session.send(1, {
      method: "GET",
      headers: { "last-event-id": lastEventId },
    });
    const answers = new Map<string, Json>();
    for await (const { data } of eventsOf(resumed)) {
      const message = JSON.parse(data);
      if (message.method === "elicitation/create") {
        const body = { jsonrpc: "2.0", id: message.id, result: ANN };
        await (await session.send(0, { body })).body?.cancel();
      } else if (!message.method) answers.set(message.id.split("-")[0], message);
      if (answers.size === 3) {
        const params = { requestId: idOf("forever") };
        const body = { jsonrpc: "2.0", method: "notifications/cancelled", params };
        await (await session.send(1, { body })).body?.cancel();
      }
    }
    assert.deepEqual([...answers.keys()].sort(), ["asks", "must", "plain"]);
    assert.equal(answers.get("must").result.content[0].text, "must done");
    assert.match(answers.get("asks").result.content[0].text, /Ann/);
    // What was no task is lost as ever.
    assert.equal(answers.get("plain").error.code, -31002);
    await until(async () => (await seenBy(bridge, "tasks/cancel")).length > 0);
    for (const response of pending) await (await response).body?.cancel();
  },
});

Deno.test({
  name: "who listens to a task is told nothing more of it once its server is disconnected",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    await using _ = await bridge.another("tasks-modern", "other");
    const { ask, call } = modernClient(bridge);
    const { result: { taskId } } = await call("may", { ms: 1500 });
    const later = await ask("tools/call", { name: "other__may", arguments: { ms: 3500 } });
    const notifications = { taskIds: [taskId, later.result.taskId] };
    const stop = new AbortController();
    const response = await sender(bridge)(0, {
      ...modern("subscriptions/listen", { notifications, _meta: WITH_TASKS }),
      signal: stop.signal,
    });
    const ended = [];
    for await (const { data } of eventsOf(response)) {
      const { method, params } = JSON.parse(data);
      if (method === "notifications/subscriptions/acknowledged") {
        await disconnectServer(bridge.db, bridge.user, bridge.agentId, bridge.serverId);
      }
      if (params.status === "completed") ended.push(params.taskId);
      if (params.status === "completed" && params.taskId === later.result.taskId) break;
    }
    stop.abort();
    assert.deepEqual(ended, [later.result.taskId]);
  },
});

Deno.test({
  name: "what a task ended in has the URIs that the agent reads by",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-modern");
    await using _ = await bridge.another("resources", "files");
    const { call, settled } = modernClient(bridge);
    const ended = await settled((await call("links")).result.taskId);
    assert.equal(ended.result.content[0].uri, "mooring://demo/file:///made");
  },
});

Deno.test({
  name:
    "a call that fails for want of a capability says so to 2026-07-28, and to those before as its server did",
  ...options,
  async fn() {
    await using bridge = await openBridge("tasks-legacy");
    const { call } = modernClient(bridge, META);
    const { status, error } = await call("needs");
    assert.deepEqual([status, error.code], [400, -32021]);
    assert.deepEqual(error.data.requiredCapabilities, { sampling: {} });
    const session = await openSession(bridge);
    const [told] = await messagesOf(
      await session.send(0, { body: calling(1, "demo__needs") }),
    ) as Json[];
    assert.deepEqual(told.error, { code: -32099, message: "It was not given a sample" });
  },
});
