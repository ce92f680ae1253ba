import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { putMessages } from "../../models/sessions.ts";
import { withdrawApproval } from "../../models/tools.ts";
import { calling, initialize, openSse, sender } from "./streams.ts";
import { openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const STEPS = new URL("servers/steps.mjs", import.meta.url).pathname;
const ASKS = new URL("servers/asks_legacy.mjs", import.meta.url).pathname;
// deno-lint-ignore no-explicit-any
type Json = any;

Deno.test({
  name: "HTTP+SSE serves a client of 2024-11-05 whose POSTs come to any replica",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    for (const [path, echo] of [["/sse", "demo__echo"], ["/sse/demo", "echo"]]) {
      const sse = await openSse(bridge, 0, undefined, path);
      await sse.post(1, initialize("2024-11-05"));
      const opened = await sse.next();
      assert.equal(opened.result.protocolVersion, "2024-11-05");
      await sse.post(1, { jsonrpc: "2.0", method: "notifications/initialized" });
      for (const replica of [0, 1]) {
        await sse.post(replica, calling(replica, echo, { text: "hi" }));
        const answer = await sse.next();
        assert.equal(answer.id, replica);
        assert.equal(answer.result.content[0].text, "hi");
      }
      sse.cut();
    }
    const send = sender(bridge);
    for (const id of ["", "x", crypto.randomUUID()]) {
      const response = await send(0, { at: `/messages?sessionId=${id}`, body: initialize("x") });
      assert.equal(response.status, 404);
      await response.body?.cancel();
    }
    // As who looks whether an address answers: nothing is opened that nobody would close.
    const opened = () => bridge.owner`select id from public.mcp_sessions`;
    const { length } = await opened();
    assert.equal((await send(0, { at: "/sse", method: "HEAD" })).status, 405);
    assert.equal((await opened()).length, length);
    const stranger = await send(0, { at: "/sse", method: "GET", token: "mag_x" });
    assert.equal(stranger.status, 401);
    await stranger.body?.cancel();
  },
});

Deno.test({
  name: "an HTTP+SSE stream that is cut anywhere goes on at any replica, nothing lost or doubled",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    let sse = await openSse(bridge, 0);
    // Before anything was said on it, too.
    const first = sse.lastId();
    assert.ok(first);
    await sse.post(0, initialize("2024-11-05"));
    sse.cut();
    sse = await openSse(bridge, 1, first);
    assert.equal((await sse.next()).result.protocolVersion, "2024-11-05");
    let id = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ to: fc.nat({ max: 1 }), steps: fc.integer({ min: 0, max: 5 }) }), {
          minLength: 1,
          maxLength: 6,
        }),
        fc.array(fc.record({ after: fc.nat({ max: 6 }), to: fc.nat({ max: 1 }) }), {
          maxLength: 3,
        }),
        async (calls, cuts) => {
          const names = new Map<number, { name: string; steps: number }>();
          for (const { to, steps } of calls) {
            const name = `run ${++id}`;
            names.set(id, { name, steps });
            await sse.post(
              to,
              calling(id, "demo__steps", { steps, name, everyMs: 2 }, { progressToken: id }),
            );
          }
          const expected = [...names.values()].reduce((sum, { steps }) => sum + steps + 1, 0);
          const got: Json[] = [];
          for (const { after, to } of cuts) {
            for (let n = 0; n < after && got.length < expected; n++) got.push(await sse.next());
            const lastId = sse.lastId()!;
            sse.cut();
            sse = await openSse(bridge, to, lastId);
          }
          while (got.length < expected) got.push(await sse.next());
          const strange = got.filter(({ id, params }) => !names.has(id ?? params?.progressToken));
          assert.deepEqual(strange, []);
          for (const [id, { name, steps }] of names) {
            const own = got.filter((message) =>
              message.id === id || message.params?.progressToken === id
            );
            assert.deepEqual(
              own.map((message) => message.params?.message ?? message.result.content[0].text),
              [...Array.from({ length: steps }, (_, n) => `${name} ${n + 1}`), `${name} done`],
            );
          }
        },
      ),
      { numRuns: 25, endOnFailure: true },
    );
    sse.cut();
    assert.deepEqual(bridge.logged, []);
  },
});

Deno.test({
  name: "HTTP+SSE carries a server's questions, its log and other lists",
  ...options,
  async fn() {
    await using bridge = await openBridge(ASKS);
    const sse = await openSse(bridge, 0);
    await sse.post(1, initialize("2025-06-18", { elicitation: {}, sampling: {}, roots: {} }));
    await sse.next();
    await sse.post(1, calling(1, "demo__introduces"));
    const answers: Record<string, unknown> = {
      "elicitation/create": { action: "accept", content: { name: "Ann" } },
      "sampling/createMessage": {
        role: "assistant",
        content: { type: "text", text: "hello" },
        model: "m",
      },
      "roots/list": { roots: [{ uri: "file:///x" }] },
    };
    for (let n = 0; n < 3; n++) {
      const question = await sse.next();
      // The answer comes to the replica that asks, and to the other.
      await sse.post(n % 2, { jsonrpc: "2.0", id: question.id, result: answers[question.method] });
    }
    const told = await sse.next();
    assert.deepEqual(JSON.parse(told.result.content[0].text), answers);

    await sse.post(0, {
      jsonrpc: "2.0",
      id: 2,
      method: "logging/setLevel",
      params: { level: "error" },
    });
    assert.deepEqual((await sse.next()).result, {});
    await sse.post(1, calling(3, "demo__logs"));
    const logged = await sse.next();
    assert.equal(logged.params.level, "error");
    assert.equal((await sse.next()).id, 3);

    await withdrawApproval(bridge.db, bridge.user, bridge.serverId, ["slow"]);
    assert.equal((await sse.next()).method, "notifications/tools/list_changed");
    sse.cut();
  },
});

Deno.test({
  name:
    "an HTTP+SSE stream that is cut between a change and its word of it is told when it is back",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const sse = await openSse(bridge, 0);
    await sse.post(0, initialize("2024-11-05"));
    await sse.next();
    await withdrawApproval(bridge.db, bridge.user, bridge.serverId, ["echo"]);
    let lastId: string | undefined;
    for (let id = 1;; id++) {
      await sse.post(0, { jsonrpc: "2.0", id, method: "ping" });
      const { method } = await sse.next();
      if (method) break;
      lastId = sse.lastId();
    }
    sse.cut();
    const again = await openSse(bridge, 1, lastId);
    let message: Json;
    do message = await again.next(); while (message.id !== undefined);
    assert.equal(message.method, "notifications/tools/list_changed");
    again.cut();
  },
});

Deno.test({
  name:
    "a request whose replica is lost is told as indeterminate, and one that was answered is not",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const sse = await openSse(bridge, 0);
    await sse.post(0, initialize("2024-11-05"));
    await sse.next();
    await sse.post(1, calling("done", "demo__echo", { text: "hi" }));
    assert.equal((await sse.next()).id, "done");
    // As a replica leaves it that died at work: it says nothing any more.
    const sessionId = new URL(sse.endpoint, bridge.url).searchParams.get("sessionId")!;
    await putMessages(bridge.db, sessionId, "run:gone", [`["\\"lost\\""]`], 0);
    await bridge.owner`update mooring.mcp_messages set at = now() - interval '1 minute'
      where stream = 'run:gone'`;
    const lost = await sse.next();
    assert.equal(lost.id, "lost");
    assert.equal(lost.error.code, -31002);
    await sse.post(1, calling("on", "demo__echo", { text: "hi" }));
    assert.equal((await sse.next()).id, "on");
    sse.cut();
  },
});
