import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { RpcError, TooMany } from "../../mcp/revisions.ts";
import { toolLimits } from "../../mcp/tool_limits.ts";
import { TASKS_EXTENSION } from "../../dtma/protocol.ts";
import { connectServer, createAgent, createToken, setAgentOptions } from "../../models/agents.ts";
import { listCalls } from "../../models/calls.ts";
import type { CallLimits } from "../../models/connection_options.ts";
import { changeTool } from "../../models/connections.ts";
import { calling, initialize, messagesOf, openSession, openSse, sender } from "./streams.ts";
import { modern, openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const STEPS = new URL("servers/steps.mjs", import.meta.url).pathname;
// deno-lint-ignore no-explicit-any
type Json = any;

const ECHO = { serverId: "s", name: "echo" };

/** Limits with a clock that stands still until it is moved. */
function limitsAt() {
  let at = 1e9 / 3;
  const { begin } = toolLimits(() => at);
  return {
    move: (ms: number) => at += ms,
    begin: (limits: CallLimits, agent = "a", tool = ECHO) =>
      begin(agent, tool, limits, "demo__echo"),
    /** The whole seconds that a call is told to wait; 0 where it is let through. */
    waitS(limits: CallLimits): number {
      try {
        begin("a", ECHO, limits, "demo__echo")();
        return 0;
      } catch (error) {
        assert.ok(error instanceof TooMany && error instanceof RpcError && error.status === 429);
        assert.deepEqual(error.data, { retryAfterS: error.retryAfterS });
        return error.retryAfterS;
      }
    },
  };
}

Deno.test("toolLimits lets a minute's calls through at once, then says truly when the next may come", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3000 }),
      fc.array(fc.nat({ max: 90_000 }), { maxLength: 20 }),
      (perMinute, pauses) => {
        const { move, waitS } = limitsAt();
        const wait = () => waitS({ perMinute });
        for (let call = 0; call < perMinute; call++) assert.equal(wait(), 0);
        for (const pause of pauses) {
          move(pause);
          const told = wait();
          if (told === 0) continue;
          assert.ok(told <= 60);
          // What is refused does not put the next off.
          move((told - 1) * 1000);
          assert.equal(wait(), 1);
          move(1000);
          assert.equal(wait(), 0);
        }
      },
    ),
  );
});

Deno.test("toolLimits lets no more through in the long run than the rate, and a minute's in a burst", () => {
  for (const perMinute of [1, 7, 99_999]) {
    const { move, waitS } = limitsAt();
    let calls = 0;
    for (let second = 0; second < 130; second++, move(1000)) {
      while (waitS({ perMinute }) === 0) calls++;
    }
    assert.equal(calls, perMinute + Math.floor(perMinute * 129 / 60));
    // Longer than it takes for the bucket to be full.
    move(3_600_000);
    for (calls = 0; waitS({ perMinute }) === 0;) calls++;
    assert.equal(calls, perMinute);
  }
});

Deno.test("toolLimits counts what is under way, of each agent and tool by itself", () => {
  const { begin, move } = limitsAt();
  const limits = { atOnce: 2 };
  const isTooMany = (error: unknown) =>
    error instanceof TooMany && error.retryAfterS === 1 &&
    /2 calls .*demo__echo/.test(error.message);
  const [first] = [begin(limits), begin(limits)];
  assert.throws(() => begin(limits), isTooMany);
  begin(limits, "b");
  begin(limits, "a", { ...ECHO, name: "other" });
  begin(limits, "a", { ...ECHO, serverId: "t" });
  first();
  // What is under way is not forgotten with what is idle, however long it takes.
  move(3_600_000);
  begin(limits, "c");
  begin(limits);
  assert.throws(() => begin(limits), isTooMany);
});

Deno.test("a call that is refused for what is under way does not count for the minute", () => {
  const { begin, waitS } = limitsAt();
  const limits = { atOnce: 1, perMinute: 2 };
  const done = begin(limits);
  for (let refused = 0; refused < 5; refused++) assert.equal(waitS(limits), 1);
  done();
  assert.equal(waitS(limits), 0);
  assert.equal(waitS(limits), 30);
});

Deno.test("a rate that is changed holds for what was used before", () => {
  const { waitS } = limitsAt();
  for (let call = 0; call < 30; call++) assert.equal(waitS({ perMinute: 60 }), 0);
  // Half of it is left of any.
  assert.equal(waitS({ perMinute: 2 }), 0);
  assert.equal(waitS({ perMinute: 2 }), 30);
  assert.equal(waitS({}), 0);
});

/** A bridge with the ways to limit a tool and to call it as a client of 2026-07-28. */
async function openLimited(fixture: string) {
  const bridge = await openBridge(fixture);
  const { db, user, serverId } = bridge;
  const send = sender(bridge);
  const post = async (
    method: string,
    params: Record<string, unknown>,
    { signal, token }: { signal?: AbortSignal; token?: string } = {},
  ): Promise<Json> => {
    const response = await send(0, { ...modern(method, params), signal, token });
    const [{ result, error }] = await messagesOf(response) as Json[];
    return { status: response.status, after: response.headers.get("retry-after"), result, error };
  };
  let names = 0;
  return {
    bridge,
    call: (name: string, args: object = {}, given: Parameters<typeof post>[2] = {}, more = {}) =>
      post("tools/call", { name, arguments: args, ...more }, given),
    /** Limits a tool, and renames it to know when the bridge does. */
    async limit(tool: string, limits: CallLimits, agentId = bridge.agentId, token?: string) {
      const name = `${tool}_${++names}`;
      await changeTool(db, user, agentId, serverId, tool, { name, ...limits });
      await until(async () =>
        JSON.stringify(await post("tools/list", {}, { token })).includes(`"demo__${name}"`)
      );
      return `demo__${name}`;
    },
    [Symbol.asyncDispose]: () => bridge[Symbol.asyncDispose](),
  };
}

async function until(holds: () => Promise<boolean>) {
  while (!await holds()) await new Promise((resolve) => setTimeout(resolve, 20));
}

function assertRefused({ status, after, error }: Json, sentence: RegExp) {
  assert.equal(status, 429, JSON.stringify(error));
  assert.match(error.message, sentence);
  assert.equal(after, String(error.data.retryAfterS));
}

Deno.test({
  name: "an agent calls a tool no oftener than its connection says, by whatever way",
  ...options,
  async fn(t) {
    await using limited = await openLimited(STEPS);
    const { bridge, call, limit } = limited;
    const { db, user, agentId, serverId, workspaceId } = bridge;
    const ONCE =
      /may make 1 call a minute of the tool "demo__echo_\d+"\. Call it again after \d+ s$/;

    await t.step("the rate, of this tool and this agent alone", async () => {
      const echo = await limit("echo", { perMinute: 1 });
      assert.equal((await call(echo, { text: "hi" })).result.content[0].text, "hi");
      const refused = await call(echo, { text: "hi" });
      assertRefused(refused, ONCE);
      assert.ok(refused.error.data.retryAfterS > 1 && refused.error.data.retryAfterS <= 60);
      assert.equal((await call("demo__runs")).result.isError, undefined);

      const other = await createAgent(db, user, workspaceId, "Other");
      await connectServer(db, user, other, serverId);
      const { token } = await createToken(db, user, other, { name: "t", expiresInDays: 1 });
      const theirs = await limit("echo", { perMinute: 1 }, other, token);
      assert.equal((await call(theirs, { text: "hi" }, { token })).status, 200);
      assertRefused(await call(theirs, { text: "hi" }, { token }), ONCE);

      // A call that was not let through was none.
      await bridge.calls.flush();
      const made = await listCalls(db, user, { workspaceId }, { limit: 10 });
      assert.deepEqual(made.map(({ tool }) => tool), ["echo", "runs", "echo"]);
    });

    await t.step("a batch and an HTTP+SSE stream say so in the error", async () => {
      const echo = await limit("echo", { perMinute: 1 });
      const session = await openSession(bridge, { revision: "2025-03-26" });
      const batch = await session.send(0, { body: [calling(1, echo), calling(2, "demo__runs")] });
      assert.equal(batch.status, 200);
      const [refused, ran] = await messagesOf(batch) as Json[];
      assert.match(refused.error.message, ONCE);
      assert.ok(refused.error.data.retryAfterS > 1);
      assert.ok(ran.result);

      const sse = await openSse(bridge, 0);
      await sse.post(0, initialize("2024-11-05"));
      await sse.next();
      await sse.post(0, calling(1, echo, { text: "hi" }));
      const { error } = await sse.next();
      assert.match(error.message, ONCE);
      assert.ok(error.data.retryAfterS > 1);
      sse.cut();
    });

    const waiting = async (name: string) =>
      (await call("demo__waiting")).result.content[0].text.includes(`"${name}"`);
    const BUSY = /may have 1 call of the tool "demo__waits_\d+" under way at once/;

    await t.step("what is under way, given back when it ends or is given up", async () => {
      const waits = await limit("waits", { atOnce: 1 });
      const first = call(waits, { name: "first" });
      await until(() => waiting("first"));
      const refused = await call(waits, { name: "refused" });
      assertRefused(refused, BUSY);
      assert.equal(refused.after, "1");
      await call("demo__go");
      assert.equal((await first).result.content[0].text, "first went on");

      const gone = new AbortController();
      const second = call(waits, { name: "second" }, { signal: gone.signal });
      await until(() => waiting("second"));
      gone.abort();
      await assert.rejects(second);
      await until(async () => !await waiting("second"));

      const sse = await openSse(bridge, 0);
      await sse.post(0, initialize("2024-11-05"));
      await sse.next();
      await sse.post(0, calling(1, waits, { name: "third" }));
      await until(() => waiting("third"));
      await sse.post(0, calling(2, waits, { name: "refused" }));
      const { id, error } = await sse.next();
      assert.equal(id, 2);
      assert.match(error.message, BUSY);
      assert.deepEqual(error.data, { retryAfterS: 1 });
      const params = { requestId: 1 };
      await sse.post(0, { jsonrpc: "2.0", method: "notifications/cancelled", params });
      await until(async () => !await waiting("third"));
      await sse.post(0, calling(3, waits, { name: "fourth" }));
      await until(() => waiting("fourth"));
      await call("demo__go");
      assert.equal((await sse.next()).result.content[0].text, "fourth went on");
      sse.cut();
    });

    await t.step("a call that fails gives its place back", async () => {
      const steps = await limit("steps", { atOnce: 1 });
      const route = bridge.routes.get(serverId)!;
      bridge.routes.delete(serverId);
      for (const _ of [1, 2]) assert.equal((await call(steps)).result.isError, true);
      bridge.routes.set(serverId, route);
      assert.equal((await call(steps, { name: "last" })).result.content[0].text, "last done");
    });

    await t.step("by call_tool", async () => {
      const name = await limit("runs", { perMinute: 1 });
      await setAgentOptions(db, user, agentId, { presents: "search", deniesByDefault: false });
      const find = () => call("find_tools", { query: "runs" });
      await until(async () => (await find()).result !== undefined);
      assert.equal((await call("call_tool", { name })).status, 200);
      const sentence = new RegExp(`1 call a minute of the tool "${name}"`);
      assertRefused(await call("call_tool", { name }), sentence);
      assertRefused(await call(name), sentence);
    });
  },
});

Deno.test({
  name: "a task holds no place of its tool; a call that waits for one does",
  ...options,
  async fn() {
    await using limited = await openLimited("tasks-modern");
    const { call, limit } = limited;
    const forever = await limit("forever", { atOnce: 1 });
    const capabilities = { extensions: { [TASKS_EXTENSION]: {} } };
    const _meta = { "io.modelcontextprotocol/clientCapabilities": capabilities };
    for (const _ of [1, 2]) {
      assert.equal((await call(forever, {}, {}, { _meta })).result.resultType, "task");
    }
    const gone = new AbortController();
    const waiting = call(forever, {}, { signal: gone.signal });
    waiting.catch(() => {});
    await until(async () => (await call(forever, {}, {}, { _meta })).status === 429);
    gone.abort();
    await until(async () => (await call(forever, {}, {}, { _meta })).status === 200);
  },
});
