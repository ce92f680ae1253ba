import assert from "node:assert/strict";
import { connectServer, createAgent, createToken, revokeToken } from "../../models/agents.ts";
import { withdrawApproval } from "../../models/tools.ts";
import { calling, eventsOf, messagesOf, openSession, sender } from "./streams.ts";
import { META, modern, openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const ASKS = new URL("servers/asks_modern.mjs", import.meta.url).pathname;
const SCRIPTED = new URL("servers/scripted.mjs", import.meta.url).pathname;
const LEGACY = new URL("servers/asks_legacy.mjs", import.meta.url).pathname;
const CAN = {
  ...META,
  "io.modelcontextprotocol/clientCapabilities": { elicitation: {}, sampling: {}, roots: {} },
};

for (const [era, server] of [["2026-07-28", ASKS], ["an older revision", LEGACY]]) {
  Deno.test({
    name:
      `a client of 2026-07-28 is told what a server of ${era} needs, and brings it to any replica`,
    ...options,
    async fn() {
      await using bridge = await openBridge(server);
      const send = sender(bridge);
      const call = async (replica: number, params: Record<string, unknown>, token?: string) => {
        const request = modern("tools/call", {
          name: "demo__introduces",
          arguments: {},
          ...params,
          _meta: CAN,
        });
        return await (await send(replica, { ...request, token })).json();
      };
      const needed: Record<string, unknown>[] = [];
      let asked = await call(0, {});
      let replica = 0;
      while (asked.result.resultType === "input_required") {
        const { inputRequests, requestState } = asked.result;
        assert.match(requestState, /^v1\./);
        needed.push(...Object.values(inputRequests) as Record<string, unknown>[]);
        const inputResponses = Object.fromEntries(
          Object.entries(inputRequests as Record<string, { method: string }>).map((
            [key, { method }],
          ) => [
            key,
            method === "elicitation/create"
              ? { action: "accept", content: { name: "Ann" } }
              : method === "roots/list"
              ? { roots: [] }
              : { role: "assistant", content: { type: "text", text: "hello" }, model: "m" },
          ]),
        );
        if (needed.length <= 3 && replica === 0) {
          // Neither altered, nor for another call, nor from another agent.
          const altered = requestState.slice(0, -4) + "AAAA";
          assert.equal(
            (await call(0, { inputResponses, requestState: altered })).error.code,
            -32602,
          );
          const { error } = await call(0, { name: "demo__other", inputResponses, requestState });
          assert.equal(error.code, -32602);
          const otherId = await createAgent(bridge.db, bridge.user, bridge.workspaceId, "Other");
          await connectServer(bridge.db, bridge.user, otherId, bridge.serverId);
          const { token } = await createToken(bridge.db, bridge.user, otherId, {
            name: "t",
            expiresInDays: 1,
          });
          const stolen = await call(0, { inputResponses, requestState }, token);
          assert.match(stolen.error.message, /not of this request/);
        }
        asked = await call(replica = 1 - replica, { inputResponses, requestState });
      }
      assert.deepEqual(
        needed.map(({ method }) => method).sort(),
        ["elicitation/create", "roots/list", "sampling/createMessage"],
      );
      assert.match(asked.result.content[0].text, /Ann.*hello/);
      assert.deepEqual(bridge.logged, []);
    },
  });
}

Deno.test({
  name: "no client is asked what it did not declare, though its server asks it",
  ...options,
  async fn() {
    await using bridge = await openBridge(ASKS);
    const response = await sender(bridge)(0, modern("tools/call", { name: "demo__insists" }));
    const { error } = await response.json();
    assert.deepEqual([response.status, error?.code], [400, -32021]);
    assert.deepEqual(error.data, { requiredCapabilities: { elicitation: {} } });
    const session = await openSession(bridge, { capabilities: { sampling: {} } });
    const messages = await messagesOf(await session.send(0, { body: calling(1, "demo__insists") }));
    assert.equal(messages.length, 1);
    assert.match(JSON.stringify(messages[0].result), /cannot give.*did not declare that it can/);
  },
});

Deno.test({
  name: "a state without questions is taken back as the server gave it",
  ...options,
  async fn() {
    await using bridge = await openBridge(ASKS);
    const send = sender(bridge);
    const call = async (params: Record<string, unknown>) =>
      await (await send(0, modern("tools/call", { name: "demo__states", ...params }))).json();
    const { result } = await call({});
    assert.equal("inputRequests" in result, false);
    const { result: told } = await call({ requestState: result.requestState });
    assert.equal(told.content[0].text, "the state of the server");
  },
});

Deno.test({
  name: "what a client writes in place of a text is refused, and ends no server's session",
  ...options,
  async fn() {
    const level = "io.modelcontextprotocol/logLevel";
    await using bridge = await openBridge(SCRIPTED);
    const send = sender(bridge);
    const say = (more: Record<string, unknown>) =>
      modern("tools/call", {
        name: "demo__says",
        arguments: { text: '{"content":[]}', told: "1" },
        ...more,
      });
    // `String` of an object like this throws.
    for (const value of [{ toString: 1 }, 5, "loud"]) {
      const ofLevel = await send(0, say({ _meta: { progressToken: 1, [level]: value } }));
      assert.equal(ofLevel.status, 400);
      assert.equal((await ofLevel.json()).error.code, -32602);
      const ofState = await (await send(0, say({ requestState: value }))).json();
      assert.match(ofState.error.message, /^The requestState is not of this request/);
    }
    const absent = await (await send(0, say({ requestState: null }))).json();
    assert.deepEqual(absent.result.content, []);
    // Before 2026-07-28 these words mean nothing.
    const session = await openSession(bridge);
    const meta = { progressToken: 1, [level]: { toString: 1 } };
    const answers = await messagesOf(
      await session.send(1, {
        body: calling(1, "demo__says", { text: '{"content":[]}', told: "1" }, meta),
      }),
    );
    assert.deepEqual((answers.at(-1) as { result: unknown }).result, { content: [] });
    assert.deepEqual(bridge.logged.filter((line) => line.includes("ERROR")), []);
  },
});

Deno.test({
  name: "subscriptions/listen tells of changes under the request's own id",
  ...options,
  async fn() {
    await using bridge = await openBridge(LEGACY);
    const send = sender(bridge);
    const { body, headers } = modern("subscriptions/listen", {
      notifications: {
        toolsListChanged: true,
        promptsListChanged: true,
        resourceSubscriptions: ["file:///none"],
      },
    }, "s 1");
    const cut = new AbortController();
    const response = await send(0, { body, headers, signal: cut.signal });
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    const events = eventsOf(response);
    const next = async () => JSON.parse((await events.next()).value!.data);
    const acknowledged = await next();
    assert.equal(acknowledged.method, "notifications/subscriptions/acknowledged");
    assert.deepEqual(acknowledged.params.notifications, { toolsListChanged: true });
    const subscription = { "io.modelcontextprotocol/subscriptionId": "s 1" };
    assert.deepEqual(acknowledged.params._meta, subscription);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await withdrawApproval(bridge.db, bridge.user, bridge.serverId, ["slow"]);
    const changed = await next();
    assert.equal(changed.method, "notifications/tools/list_changed");
    assert.deepEqual(changed.params._meta, subscription);
    cut.abort();
    const deaf = await send(0, { body, headers: { ...headers, accept: "application/json" } });
    assert.equal(deaf.status, 406);
  },
});

Deno.test({
  name: "subscriptions/listen ends with its token, and says that it has",
  ...options,
  async fn() {
    await using bridge = await openBridge(LEGACY);
    const { db, user, agentId, serverId } = bridge;
    const { id, token } = await createToken(db, user, agentId, { name: "u", expiresInDays: 1 });
    const listen = modern("subscriptions/listen", { notifications: { toolsListChanged: true } });
    const events = eventsOf(await sender(bridge)(0, { ...listen, token }));
    const next = async () => JSON.parse((await events.next()).value!.data);
    assert.equal((await next()).method, "notifications/subscriptions/acknowledged");
    await revokeToken(db, user, agentId, id);
    await withdrawApproval(db, user, serverId, ["slow"]);
    const last = await next();
    assert.deepEqual([last.id, last.result?.resultType], [1, "complete"], JSON.stringify(last));
    assert.equal((await events.next()).done, true);
  },
});

Deno.test({
  name: "a client of 2026-07-28 has no session, no GET, and 404 for what is not served",
  ...options,
  async fn() {
    await using bridge = await openBridge(LEGACY);
    const send = sender(bridge);
    for (const method of ["ping", "initialize", "logging/setLevel", "resources/subscribe", "x/y"]) {
      const response = await send(0, modern(method));
      assert.equal(response.status, 404, method);
      assert.equal((await response.json()).error.code, -32601);
    }
    const list = modern("tools/list");
    const ignored = await send(0, {
      ...list,
      headers: { ...list.headers, "mcp-session-id": crypto.randomUUID() },
    });
    assert.equal(ignored.status, 200);
    await ignored.body?.cancel();
    for (const method of ["GET", "DELETE"]) {
      for (const session of [[], [["mcp-session-id", crypto.randomUUID()]]]) {
        const headers = { "mcp-protocol-version": "2026-07-28", ...Object.fromEntries(session) };
        const response = await send(0, { method, headers });
        assert.equal(response.status, 405, method);
        await response.body?.cancel();
      }
    }
  },
});

Deno.test({
  name: "extensions of a server that bring methods of their own are named, and not advertised",
  ...options,
  async fn() {
    const fixture = new URL("servers/extends.mjs", import.meta.url).pathname;
    const ui = { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } };
    const tasks = { "io.modelcontextprotocol/tasks": {} };
    const others = [
      "extensions/com.example/search",
      "experimental/no?name?of?a??key?",
      "com.example/own",
    ];
    const generations: Record<string, string>[] = [{ MODERN: "1" }, {}];
    for (const env of generations) {
      await using bridge = await openBridge(fixture, { env });
      for (const path of ["/mcp", "/mcp/demo"]) {
        const isOne = path === "/mcp/demo";
        const expected = isOne ? others : ["extensions/io.modelcontextprotocol/ui", ...others];
        const send = sender(bridge, path);
        const { result } = await (await send(0, modern("server/discover"))).json();
        assert.deepEqual(result.capabilities, {
          tools: { listChanged: true },
          extensions: isOne ? { ...ui, ...tasks } : tasks,
        });
        assert.deepEqual(result._meta["dev.mooring/notPassedOn"], { demo: expected });
        for (const revision of ["2024-11-05", "2025-11-25"]) {
          const opened = await openSession(bridge, { path, revision });
          assert.deepEqual(opened.result.capabilities.extensions, isOne ? ui : undefined);
          assert.equal(opened.result.capabilities.experimental, undefined);
          assert.deepEqual(opened.result._meta, { "dev.mooring/notPassedOn": { demo: expected } });
          const body = { jsonrpc: "2.0", id: 1, method: "com.example/search", params: {} };
          const [refused] = await messagesOf(await opened.send(0, { body }));
          assert.match(JSON.stringify(refused.error), /"code":-32601/);
        }
        const { error } = await (await send(0, modern("com.example/search"))).json();
        assert.equal(error.code, -32601);
        const name = isOne ? "heard" : "demo__heard";
        const answer = await (await send(0, modern("tools/call", { name }))).json();
        assert.doesNotMatch(answer.result.content[0].text, /com\.example/);
      }
    }
  },
});
