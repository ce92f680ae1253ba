import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { putMessages } from "../../models/sessions.ts";
import { withdrawApproval } from "../../models/tools.ts";
import { tcpProxy } from "../dtma/tcp_proxy.ts";
import { calling, eventsOf, initialize, messagesOf, openSession, sender } from "./streams.ts";
import { modern, openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const STEPS = new URL("servers/steps.mjs", import.meta.url).pathname;
const ADAPTER = new URL("../../dtma/remote_adapter/main.mts", import.meta.url).pathname;
const SELF = { name: "remote", version: "1" };
const ASKS = new URL("servers/asks_modern.mjs", import.meta.url).pathname;
const until = async (isSo: () => Promise<boolean> | boolean) => {
  while (!await isSo()) await new Promise((resolve) => setTimeout(resolve, 20));
};
// deno-lint-ignore no-explicit-any
type Json = any;

Deno.test({
  name: "a session is one agent's, in one scope, at every replica, until it is ended",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const { db, user, workspaceId, serverId } = bridge;
    const session = await openSession(bridge);
    assert.match(session.id, /^[0-9a-f-]{36}$/);
    assert.equal(session.result.protocolVersion, "2025-11-25");
    const list = { jsonrpc: "2.0", id: 1, method: "tools/list" };
    for (const replica of [0, 1]) {
      const { result } = await (await session.send(replica, { body: list })).json();
      assert.equal(result.tools.length, 7);
    }

    const otherId = await createAgent(db, user, workspaceId, "Other");
    await connectServer(db, user, otherId, serverId);
    const other = await createToken(db, user, otherId, { name: "t", expiresInDays: 1 });
    const status = async (replica: number, request: Parameters<typeof session.send>[1]) => {
      const response = await session.send(replica, request);
      await response.body?.cancel();
      return response.status;
    };
    for (const replica of [0, 1]) {
      // Neither when its own agent asks at the same time.
      const [theirs, own] = await Promise.all([
        status(replica, { body: list, token: other.token }),
        status(replica, { body: list }),
      ]);
      assert.deepEqual([theirs, own], [404, 200]);
      assert.equal(await status(replica, { method: "GET", token: other.token }), 404);
      assert.equal(await status(replica, { method: "DELETE", token: other.token }), 404);
      assert.equal(await status(replica, { body: list, at: "/mcp/demo" }), 404, "another scope");
      const unknown = { "mcp-session-id": crypto.randomUUID() };
      assert.equal(await status(replica, { body: list, headers: unknown }), 404);
      assert.equal(await status(replica, { body: list, headers: { "mcp-session-id": "x" } }), 404);
    }
    // A revision that is none, in whatever is sent: nothing comes of it.
    const strange = { headers: { "mcp-protocol-version": "2099-01-01" } };
    const notification = { jsonrpc: "2.0", method: "notifications/initialized" };
    assert.equal(await status(0, { body: list, ...strange }), 400);
    assert.equal(await status(0, { body: notification, ...strange }), 400);
    assert.equal(await status(0, { method: "GET", ...strange }), 400);
    assert.equal(await status(0, { method: "DELETE", ...strange }), 400);
    assert.equal(await status(1, { method: "DELETE" }), 204);
    await until(async () => await status(0, { body: list }) === 404);
    assert.equal(await status(1, { body: list }), 404);
    assert.equal(await status(0, { method: "DELETE" }), 404);
    // A client that brings no session is served without one.
    const { result } = await (await sender(bridge)(1, {
      body: list,
      headers: { "mcp-protocol-version": "2025-11-25" },
    })).json();
    assert.equal(result.tools.length, 7);
  },
});

Deno.test({
  name: "a session that is ended takes its servers' own instances with it, and no other",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const shared = await openSession(bridge);
    await shared.send(0, { method: "DELETE" });
    await bridge
      .owner`update public.servers set instances = 'session' where id = ${bridge.serverId}`;
    const session = await openSession(bridge);
    assert.equal((await session.send(1, { method: "DELETE" })).status, 204);
    await until(() => bridge.ended.length > 0);
    assert.deepEqual(bridge.ended, [session.id]);

    // One that nobody uses any more goes when another is used, which is written down every ten minutes.
    const unused = await openSession(bridge);
    const used = await openSession(bridge);
    await bridge.owner`
      update public.mcp_sessions set expires_at = now() - interval '1 s' where id = ${unused.id}`;
    const { now } = Date;
    Date.now = () => now() + 11 * 60_000;
    try {
      while (bridge.ended.length < 2) {
        const list = { jsonrpc: "2.0", id: 1, method: "tools/list" };
        assert.equal((await messagesOf(await used.send(0, { body: list }))).length, 1);
      }
    } finally {
      Date.now = now;
    }
    assert.deepEqual(bridge.ended, [session.id, unused.id]);
  },
});

Deno.test({
  name: "a session in use does not end, though no replica that serves it lives for long",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const { owner } = bridge;
    const session = await openSession(bridge), unused = await openSession(bridge);
    // Told to the replicas, which forget what they know of it, as one that begins does.
    await owner`update public.mcp_sessions
      set expires_at = now() + interval '2 days', log_level = 'debug' where id = ${session.id}`;
    await owner`update public.mcp_sessions set expires_at = now() - interval '1 s'
      where id = ${unused.id}`;
    const rows = () =>
      owner<{ id: string; isNew: boolean }[]>`
        select id, expires_at > now() + interval '71 hours' as "isNew" from public.mcp_sessions
        where id in (${session.id}, ${unused.id})`;
    const list = { jsonrpc: "2.0", id: 1, method: "tools/list" };
    let kept = await rows();
    for (let use = 0; use < 1000 && kept.length > 1; use++, kept = await rows()) {
      assert.equal((await messagesOf(await session.send(use % 2, { body: list }))).length, 1);
    }
    assert.deepEqual(kept.map(({ ...row }) => row), [{ id: session.id, isNew: true }]);
  },
});

Deno.test({
  name: "/mcp/{server} serves one server under its own names",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const session = await openSession(bridge, { path: "/mcp/demo" });
    const list = { jsonrpc: "2.0", id: 1, method: "tools/list" };
    const { result } = await (await session.send(1, { body: list, at: "/mcp/demo" })).json();
    assert.ok(result.tools.some(({ name }: { name: string }) => name === "echo"));
    const called = await (await session.send(0, { body: calling(2, "echo", { text: "hi" }) }))
      .json();
    assert.equal(called.result.content[0].text, "hi");
    const none = await sender(bridge, "/mcp/none")(0, { body: initialize("2025-11-25") });
    assert.equal(none.status, 404);
    assert.match((await none.json()).error.message, /not connected to a server "none"/);
  },
});

Deno.test({
  name: "a call of a session makes no query, and an opening few",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const session = await openSession(bridge);
    const call = async (id: number) => {
      const { result } = await (await session.send(0, {
        body: calling(id, "demo__echo", { text: "x" }),
      })).json();
      assert.equal(result.content[0].text, "x");
    };
    await call(1);
    const queries = countQueries(bridge.db);
    const begunMs = performance.now();
    for (let id = 2; id < 40; id++) await call(id);
    // Beside the calls: toolbelts and tokens that are read again after two seconds, and calls' records, which
    // are kept five times a second.
    const beside = 15 + 10 * (performance.now() - begunMs) / 1000;
    assert.ok(queries.count() <= beside, `${queries.count()} queries, not ${beside}`);
    queries.stop();
    const times: number[] = [];
    for (let i = 0; i < 20; i++) {
      const started = performance.now();
      await openSession(bridge);
      times.push(performance.now() - started);
    }
    times.sort((a, b) => a - b);
    console.log(`session opened in ${times[10].toFixed(1)} ms (median of 20, over HTTP)`);
  },
});

Deno.test({
  name: "a session's call is cancelled by its client alone, at any replica",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const mine = await openSession(bridge), theirs = await openSession(bridge);
    const waiting = async () => {
      const { result } = await (await mine.send(0, { body: calling(99, "demo__waiting") })).json();
      return JSON.parse(result.content[0].text) as string[];
    };
    // Ids count from 1 in every client.
    const first = mine.send(0, { body: calling(1, "demo__waits", { name: "mine" }) });
    const second = theirs.send(0, { body: calling(1, "demo__waits", { name: "theirs" }) });
    await until(async () => (await waiting()).length === 2);
    const cancel = {
      jsonrpc: "2.0",
      method: "notifications/cancelled",
      params: { requestId: 1 },
    };
    assert.equal((await mine.send(1, { body: cancel })).status, 202);
    await until(async () => (await waiting()).length === 1);
    assert.deepEqual(await waiting(), ["theirs"]);
    assert.equal((await first).status, 202, "what was given up is not answered");
    await mine.send(0, { body: calling(3, "demo__go") }).then((response) => response.text());
    const { result } = await (await second).json();
    assert.equal(result.content[0].text, "theirs went on");

    // As PHP and Python write some strings, and an integer beyond JavaScript's.
    for (const id of [`"a\\/1"`, `"\\u00e9"`, "12345678901234567890"]) {
      const written = (value: unknown) => JSON.stringify(value).replace(`"ID"`, id);
      const call = mine.send(0, { body: written(calling("ID", "demo__waits", { name: id })) });
      await until(async () => (await waiting()).length === 1);
      const body = written({ ...cancel, params: { requestId: "ID" } });
      await (await mine.send(1, { body })).body?.cancel();
      assert.equal((await call).status, 202, id);
    }
  },
});

Deno.test({
  name: "a stream that is cut anywhere is resumed at any replica, with nothing lost or doubled",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const session = await openSession(bridge);
    let id = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 0, max: 20 }),
        // After how many events each connection is cut, and where the client goes then.
        fc.array(fc.record({ after: fc.integer({ min: 1, max: 5 }), to: fc.nat({ max: 1 }) }), {
          maxLength: 4,
        }),
        fc.nat({ max: 1 }),
        async (steps, everyMs, cuts, begin) => {
          const name = `run ${++id}`;
          const got: Json[] = [];
          let lastId: string | undefined;
          /** Reads to the end, or so many events. */
          const read = async (response: Response, cut: AbortController, limit: number) => {
            assert.equal(response.headers.get("content-type"), "text/event-stream");
            for await (const event of eventsOf(response)) {
              lastId = event.id ?? lastId;
              if (event.data) got.push(JSON.parse(event.data));
              if (--limit <= 0) return cut.abort();
            }
          };
          const connect = async (to: number, limit: number) => {
            const cut = new AbortController();
            const request = lastId === undefined
              ? {
                body: calling(id, "demo__steps", { steps, everyMs, name }, { progressToken: id }),
              }
              : { method: "GET", headers: { "last-event-id": lastId } };
            const response = await session.send(to, { ...request, signal: cut.signal });
            await read(response, cut, limit).catch((error) => {
              if (!cut.signal.aborted) throw error;
            });
          };
          await connect(begin, cuts[0]?.after ?? Infinity);
          for (const [index, { to }] of cuts.entries()) {
            if (got.at(-1)?.id !== undefined) break;
            await connect(to, cuts[index + 1]?.after ?? Infinity);
          }
          const progress = got.filter(({ method }) => method === "notifications/progress");
          assert.deepEqual(
            progress.map(({ params }) => params.message),
            Array.from({ length: steps }, (_, n) => `${name} ${n + 1}`),
          );
          const answers = got.filter((message) => message.id !== undefined);
          assert.equal(answers.length, 1);
          assert.equal(answers[0].id, id);
          assert.equal(answers[0].result.content[0].text, `${name} done`);
        },
      ),
      { numRuns: 40 },
    );
    const { result } = await (await session.send(0, { body: calling(0, "demo__runs") })).json();
    const runs: Record<string, number> = JSON.parse(result.content[0].text);
    assert.equal(Object.keys(runs).length, id);
    assert.deepEqual([...new Set(Object.values(runs))], [1], "each ran once");
    assert.deepEqual(bridge.logged, []);
  },
});

Deno.test({
  name: "a stream is resumed after it was sent whole, and an unknown one is indeterminate",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const session = await openSession(bridge);
    const body = calling("x", "demo__steps", { steps: 2, name: "whole" }, { progressToken: 1 });
    const events = [];
    for await (const event of eventsOf(await session.send(0, { body }))) events.push(event);
    assert.equal(events.length, 3);
    // The last bytes may be lost after the server has sent them.
    for (const replica of [1, 0]) {
      const again = await session.send(replica, {
        method: "GET",
        headers: { "last-event-id": events[0].id! },
      });
      const rest = [];
      for await (const event of eventsOf(again)) rest.push(event);
      assert.deepEqual(rest.map(({ data }) => data), events.slice(1).map(({ data }) => data));
      assert.deepEqual(rest.map(({ id }) => id), events.slice(1).map(({ id }) => id));
    }
    // As after the death of the replica that had it.
    const gone = events[0].id!.replace(/^p.{22}/, `p${"A".repeat(22)}`);
    const [lost] = await messagesOf(
      await session.send(1, { method: "GET", headers: { "last-event-id": gone } }),
    ) as Json[];
    assert.equal(lost.id, "x");
    assert.equal(lost.error.code, -31002);
    // Another session, even of the same agent, has no such stream.
    const other = await openSession(bridge);
    const [none] = await messagesOf(
      await other.send(0, { method: "GET", headers: { "last-event-id": events[0].id! } }),
    ) as Json[];
    assert.equal(none.error.code, -31002);
  },
});

Deno.test({
  name: "a stream whose replica died while it was cut is told as indeterminate",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const session = await openSession(bridge);
    // As the replica leaves it: two messages, the second request not answered, and no sign of life.
    const stream = `p${"B".repeat(22)}`;
    const ids = btoa(JSON.stringify([`"one"`, "2"])).replace(/=+$/, "");
    await putMessages(bridge.db, session.id, stream, [`["2"]`], 0);
    await putMessages(bridge.db, session.id, stream, [`{"n":1}`, `{"n":2}`], 1);
    await bridge.owner`update mooring.mcp_messages set at = now() - interval '1 minute'`;
    const messages = await messagesOf(
      await session.send(1, { method: "GET", headers: { "last-event-id": `${stream}_1_${ids}` } }),
    ) as Json[];
    assert.deepEqual(messages[0], { n: 2 });
    assert.equal(messages.length, 2);
    assert.deepEqual([messages[1].id, messages[1].error.code], [2, -31002]);
  },
});

Deno.test({
  name: "a flood of notifications is damped, and its answer arrives",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const session = await openSession(bridge);
    const messages = await messagesOf(
      await session.send(0, {
        body: calling(1, "demo__steps", { steps: 5000, name: "flood" }, { progressToken: 1 }),
      }),
    ) as Json[];
    assert.ok(messages.length < 2000, String(messages.length));
    assert.equal(messages.at(-1).result.content[0].text, "flood done");
  },
});

Deno.test({
  name: "a token that asks for too much at once is told when to come again",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const batch = Array.from({ length: 50 }, (_, id) => ({ jsonrpc: "2.0", id, method: "ping" }));
    const send = sender(bridge);
    let refused: Response;
    for (;;) {
      refused = await send(0, { body: batch });
      if (refused.status === 429) break;
      assert.equal((await refused.json()).length, 50);
    }
    assert.equal(refused.headers.get("retry-after"), "1");
    assert.match((await refused.json()).error.message, /requests a second/);
    await until(async () => {
      const response = await send(0, { body: batch[0] });
      await response.body?.cancel();
      return response.status === 200;
    });
  },
});

Deno.test({
  name: "a call that is lost with its link is made again only where that does no harm",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const proxy = tcpProxy(Number(new URL(bridge.toolboxAddress).port));
    const runs = async () => {
      const { result } = await (await bridge.post(calling(1, "demo__runs"))).json();
      return JSON.parse(result.content[0].text);
    };
    await bridge.moveToolbox(`http://127.0.0.1:${proxy.port}`);
    await until(async () => await runs() && proxy.connections > 0);
    const callCut = async (tool: string, name: string) => {
      const args = { name, everyMs: 3000, steps: 1 };
      const response = await bridge.post(
        calling(1, `demo__${tool}`, args, { progressToken: 1 }),
      );
      const events = eventsOf(response);
      // It told its progress: it is surely with its server.
      await events.next();
      proxy.cut();
      let last = "";
      for await (const { data } of events) last = data;
      return JSON.parse(last).result;
    };
    const once = await callCut("steps", "once");
    assert.equal(once.isError, true);
    assert.equal(once._meta["dev.mooring/errorCode"], -31002);
    const again = await callCut("repeats", "again");
    assert.equal(again.content[0].text, "again done");
    await until(async () => (await runs()).again === 2);
    assert.ok(((await runs()).once ?? 0) <= 1);
    await bridge.moveToolbox();
    proxy.close();
  },
});

Deno.test({
  name: "a call goes on when its connection breaks before anything was sent",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const session = await openSession(bridge);
    // An isolate is told that there is more to do than to answer.
    const told: Promise<unknown>[] = [];
    const EdgeRuntime = { waitUntil: (work: Promise<unknown>) => told.push(work) };
    Object.assign(globalThis, { EdgeRuntime });
    const cut = new AbortController();
    // It becomes a stream before it is answered, so that there is something to resume by.
    const response = await session.send(0, {
      body: calling(7, "demo__waits", { name: "long" }),
      signal: cut.signal,
    });
    const events = eventsOf(response);
    const { value: primed } = await events.next();
    assert.deepEqual([primed!.data, typeof primed!.id], ["", "string"]);
    cut.abort();
    await assert.rejects(async () => await events.next());
    const resumed = session.send(1, {
      method: "GET",
      headers: { "last-event-id": primed!.id! },
    });
    await session.send(0, { body: calling(8, "demo__go") }).then((answer) => answer.text());
    const [answer] = await messagesOf(await resumed) as Json[];
    assert.equal(answer.result.content[0].text, "long went on");
    Object.assign(globalThis, { EdgeRuntime: undefined });
    assert.equal(told.length, 1);
    await told[0];
    const ends = await bridge.owner`select from mooring.mcp_messages
      where session_id = ${session.id} and stream like 'p%' and message = ''`;
    assert.equal(ends.length, 1, "until all is written");
  },
});

Deno.test({
  name: "a client that names event streams first is answered on one, and can ask for its rest",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const session = await openSession(bridge);
    const accept = (types: string) => ({ accept: types });
    const call = async (
      headers: Record<string, string>,
      body = calling(1, "demo__echo", { text: "hi" }),
    ) => {
      const response = await session.send(0, { body, headers });
      return { type: response.headers.get("content-type"), text: await response.text() };
    };
    for (const types of ["text/event-stream, application/json", "text/event-stream"]) {
      const { type, text } = await call(accept(types));
      assert.equal(type, "text/event-stream");
      const [primed, answered, ...others] = text.trim().split("\n\n");
      assert.match(primed, /^id: (\S+)\nretry: 1000\nevent: message\ndata: $/);
      assert.match(answered, /^id: \S+\nevent: message\ndata: \{.*"hi"/);
      assert.deepEqual(others, []);
      // Its last bytes may be lost on their way, to whichever replica it comes then.
      const lastId = /^id: (\S+)/.exec(primed)![1];
      const resumed = await session.send(1, {
        method: "GET",
        headers: { "last-event-id": lastId },
      });
      const [answer, ...more] = await messagesOf(resumed) as Json[];
      assert.equal(answer.result.content[0].text, "hi");
      assert.deepEqual(more, []);
    }
    assert.equal((await call({})).type, "application/json");
    assert.equal((await call(accept("application/json"))).type, "application/json");

    // One without a session has no events to ask for; and a refusal keeps its status.
    const prefers = accept("text/event-stream, application/json");
    const list = modern("tools/list");
    const plain = await bridge.post(list.body, { ...list.headers, ...prefers });
    assert.match(await plain.text(), /^event: message\ndata: \{[^\n]*\n\n$/);
    const unknown = modern("no/such");
    const refused = await bridge.post(unknown.body, { ...unknown.headers, ...prefers });
    assert.deepEqual([refused.status, (await refused.json()).error.code], [404, -32601]);

    // The events of 2025-06-18 are messages, all of them.
    const older = await openSession(bridge, { revision: "2025-06-18" });
    const listed = await older.send(1, {
      body: { jsonrpc: "2.0", id: 1, method: "tools/list" },
      headers: prefers,
    });
    assert.match(await listed.text(), /^id: \S+\nevent: message\ndata: \{[^\n]*\n\n$/);
  },
});

Deno.test({
  name: "a server that lets go of its answer's stream lets go of a client that prefers streams",
  ...options,
  async fn() {
    let goOn = Promise.withResolvers<void>();
    const remote = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      async (asked) => {
        const stream = (text: string) =>
          new Response(text, { headers: { "content-type": "text/event-stream" } });
        const lastId = asked.headers.get("last-event-id");
        if (lastId !== null) {
          await goOn.promise;
          const result = { content: [{ type: "text", text: "at last" }] };
          return stream(
            `id: x\ndata: ${JSON.stringify({ jsonrpc: "2.0", id: lastId, result })}\n\n`,
          );
        }
        if (asked.method !== "POST") return new Response(null, { status: 405 });
        const { id, method } = await asked.json();
        if (id === undefined) return new Response(null, { status: 202 });
        if (method === "tools/call") return stream(`id: ${id}\nretry: 300\ndata: \n\n`);
        const result = method === "initialize"
          ? { protocolVersion: "2025-11-25", capabilities: { tools: {} }, serverInfo: SELF }
          : method === "tools/list"
          ? { tools: [{ name: "late", inputSchema: { type: "object" } }] }
          : null;
        const outcome = result ? { result } : { error: { code: -32601, message: "Not found" } };
        return Response.json({ jsonrpc: "2.0", id, ...outcome }, {
          headers: { "mcp-session-id": "s" },
        });
      },
    );
    const url = `http://127.0.0.1:${remote.addr.port}/mcp`;
    await using bridge = await openBridge(ADAPTER, { args: [url] });
    const session = await openSession(bridge);
    const response = await session.send(0, {
      body: calling(1, "demo__late"),
      headers: { accept: "text/event-stream, application/json" },
    });
    // It ends without an answer, and while the server still works.
    const [primed, letGo, ...more] = (await response.text()).split("\n\n");
    assert.match(primed, /^id: \S+\nretry: 1000\n/);
    const [, lastId] = /^id: (\S+)\nretry: 300\nevent: message\ndata: $/.exec(letGo)!;
    assert.deepEqual(more, [""]);
    const resumed = session.send(1, { method: "GET", headers: { "last-event-id": lastId } });
    goOn.resolve();
    const [answer] = await messagesOf(await resumed) as Json[];
    assert.deepEqual([answer.id, answer.result.content[0].text], [1, "at last"]);

    // For any other the bridge alone comes back.
    goOn = Promise.withResolvers();
    const waiting = session.send(0, { body: calling(2, "demo__late") });
    goOn.resolve();
    const plain = await waiting;
    assert.equal(plain.headers.get("content-type"), "application/json");
    assert.equal((await plain.json()).result.content[0].text, "at last");
    await remote.shutdown();
  },
});

Deno.test({
  name: "a server's questions reach the session's client, which answers at any replica",
  ...options,
  async fn() {
    await using bridge = await openBridge(ASKS);
    const capabilities = { elicitation: {}, sampling: {}, roots: {} };
    for (const revision of ["2025-03-26", "2025-06-18", "2025-11-25"]) {
      for (const answersAt of [0, 1]) {
        const session = await openSession(bridge, { revision, capabilities });
        const response = await session.send(0, { body: calling(5, "demo__introduces") });
        const got: Json[] = [];
        for await (const { data } of eventsOf(response)) {
          const message = JSON.parse(data);
          got.push(message);
          if (!message.method) continue;
          const answer = message.method === "roots/list"
            ? { error: { code: -1, message: "no roots today" } }
            : message.method === "elicitation/create"
            ? { result: { action: "accept", content: { name: "Ann", n: 1 } } }
            : {
              result: { role: "assistant", content: { type: "text", text: "hello" }, model: "m" },
            };
          const { status } = await session.send(answersAt, {
            body: { jsonrpc: "2.0", id: message.id, ...answer },
          });
          assert.equal(status, 202);
        }
        assert.deepEqual(
          got.slice(0, 3).map(({ method }) => method).sort(),
          ["elicitation/create", "roots/list", "sampling/createMessage"],
        );
        const told = JSON.parse(got.at(-1).result.content[0].text);
        assert.deepEqual(told.who, { action: "accept", content: { name: "Ann", n: 1 } });
        assert.equal(told.says.content.text, "hello");
        assert.equal(told.where["dev.mooring/error"].message, "no roots today");
        assert.equal(told.state, "s1");
      }
    }
    // Without a session, or a way to be asked, the server is told so.
    const [alone] = await messagesOf(
      await sender(bridge)(0, { body: calling(1, "demo__introduces") }),
    ) as Json[];
    assert.equal(alone.result.content[0].text, "nobody to ask");
    const session = await openSession(bridge, { capabilities });
    const [deaf] = await messagesOf(
      await session.send(0, {
        body: calling(1, "demo__introduces"),
        headers: { accept: "application/json" },
      }),
    ) as Json[];
    assert.equal(deaf.result.content[0].text, "nobody to ask");
    const [insisted] = await messagesOf(
      await session.send(0, {
        body: calling(1, "demo__insists"),
        headers: { accept: "application/json" },
      }),
    ) as Json[];
    assert.match(insisted.result.content[0].text, /asks for what this client cannot give/);
    // Of questions that cannot all be put none is: its answer would be for nobody.
    const mixed = await messagesOf(
      await session.send(0, { body: calling(1, "demo__mixes") }),
    ) as Json[];
    assert.equal(mixed.length, 1, JSON.stringify(mixed));
    assert.match(mixed[0].result.content[0].text, /asks for what no client can answer/);
  },
});

Deno.test({
  name: "a session's own stream tells of other lists, also of those it missed",
  ...options,
  async fn() {
    await using bridge = await openBridge(STEPS);
    const session = await openSession(bridge);
    const quietCut = new AbortController(), cut = new AbortController();
    const quiet = eventsOf(await session.send(0, { method: "GET", signal: quietCut.signal }));
    const { value: primed } = await quiet.next();
    assert.equal(primed!.data, "");
    quietCut.abort();
    await withdrawApproval(bridge.db, bridge.user, bridge.serverId, ["echo"]);
    // That nothing was said on it before is no reason to miss what came then.
    const headers = { "last-event-id": primed!.id! };
    const events = eventsOf(
      await session.send(1, { method: "GET", headers, signal: cut.signal }),
    );
    const { value: changed } = await events.next();
    assert.equal(JSON.parse(changed!.data).method, "notifications/tools/list_changed");
    cut.abort();
    await bridge.approveAll();
    // Somewhere else, after what happened while nobody listened.
    const back = eventsOf(
      await session.send(0, { method: "GET", headers: { "last-event-id": changed!.id! } }),
    );
    const { value: missed } = await back.next();
    assert.equal(JSON.parse(missed!.data).method, "notifications/tools/list_changed");
    // A newer stream takes the place of this one, wherever it is.
    await session.send(1, { method: "GET", headers: { "last-event-id": missed!.id! } });
    assert.equal((await back.next()).done, true);
  },
});

// deno-lint-ignore no-explicit-any
function countQueries(db: any) {
  const { asAgent, asApp } = db;
  let queries = 0;
  db.asAgent = (...given: unknown[]) => (queries++, asAgent(...given));
  db.asApp = new Proxy(asApp, {
    apply: (target, self, given) => (queries++, Reflect.apply(target, self, given)),
  });
  return {
    count: () => queries,
    stop: () => void Object.assign(db, { asAgent, asApp }),
  };
}

Deno.test({
  name:
    "a client of 2025-11-25 is sent to URLs as its server does it, and told that somebody was there",
  ...options,
  async fn() {
    await using bridge = await openBridge("questions");
    const session = await openSession(bridge, { capabilities: { elicitation: { url: {} } } });
    const [refused] = await messagesOf(
      await session.send(0, { body: calling(1, "demo__signs_in") }),
    ) as Json[];
    assert.equal(refused.error.code, -32042);
    assert.equal(refused.error.data.elicitations[0].elicitationId, "e");
    const [again] = await messagesOf(
      await session.send(0, { body: calling(2, "demo__signs_in") }),
    ) as Json[];
    assert.equal(again.result.content[0].text, "signed in");

    const params = {
      mode: "url",
      elicitationId: "e1",
      url: "https://example.com/in",
      message: "In",
    };
    const args = { requests: [{ method: "elicitation/create", params }], completes: "e1" };
    const told: Json[] = [];
    for await (
      const { data } of eventsOf(await session.send(0, { body: calling(3, "demo__asks", args) }))
    ) {
      const message = JSON.parse(data);
      told.push(message.method ?? "answer");
      if (message.method !== "elicitation/create") continue;
      assert.deepEqual(message.params, params);
      const answer = { jsonrpc: "2.0", id: message.id, result: { action: "accept" } };
      await session.send(1, { body: answer });
    }
    assert.deepEqual(told, [
      "elicitation/create",
      "notifications/elicitation/complete",
      "answer",
    ]);

    // That revision has neither the error nor the notification.
    const can = { "io.modelcontextprotocol/clientCapabilities": { elicitation: { url: {} } } };
    const ask = async (more: Record<string, unknown>) => {
      const params = { name: "demo__asks", arguments: args, ...more, _meta: can };
      return await messagesOf(await sender(bridge)(0, modern("tools/call", params))) as Json[];
    };
    const [{ result }] = await ask({});
    const { requestState } = result;
    const messages = await ask({ requestState, inputResponses: { "1": { action: "accept" } } });
    assert.deepEqual(messages.map(({ method }) => method ?? "answer"), ["answer"]);
  },
});

Deno.test({
  name: "what a session's calls wait for is given up with the session, wherever it is ended",
  ...options,
  async fn() {
    await using bridge = await openBridge("questions");
    const params = { message: "Who?", requestedSchema: { type: "object", properties: {} } };
    const args = { requests: [{ method: "elicitation/create", params }] };
    for (const [endsAt, isCut] of [[0, false], [0, true], [1, true]] as const) {
      const session = await openSession(bridge, { capabilities: { elicitation: {} } });
      const cut = new AbortController();
      const { signal } = cut;
      const response = await session.send(0, { body: calling(1, "demo__asks", args), signal });
      const events = eventsOf(response);
      await events.next();
      await until(() => bridge.route.session.held === 1);
      if (isCut) cut.abort();
      assert.equal((await session.send(endsAt, { method: "DELETE" })).status, 204);
      await until(() => bridge.route.session.held === 0);
      if (isCut) continue;
      const rest: Json[] = [];
      for await (const { data } of events) rest.push(JSON.parse(data).method);
      assert.deepEqual(rest, ["notifications/cancelled"]);
    }
  },
});
