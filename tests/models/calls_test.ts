import assert from "node:assert/strict";
import { v7 } from "uuid";
import { createAgent, removeAgent } from "../../models/agents.ts";
import { CallRecorder, listCalls, type NewCall } from "../../models/calls.ts";
import type { Database } from "../../models/db.ts";
import { createLog } from "../../models/log.ts";
import { deployServer, removeServer } from "../../models/servers.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { KINDS, makeUser, openWorld, testKey } from "./databases.ts";

const call = (change: Partial<NewCall> = {}): NewCall => ({
  workspaceId: v7(),
  agentId: null,
  serverId: null,
  serverSlug: "memory",
  tool: "echo",
  via: "bridge",
  startedAt: new Date(),
  durationMs: 1.5,
  outcome: "ok",
  error: null,
  requestBytes: 10,
  responseBytes: 20,
  ...change,
});

/** A database that keeps the batches it is given, and fails the first `failures` times. */
function fakeDatabase(failures = 0) {
  const batches: { id: string; tool: string }[][] = [];
  let tries = 0;
  type Series = { first: number; last: number; tool: string };
  const asApp = Object.assign(
    (_: TemplateStringsArray, series: Series[], ids: string) => {
      if (++tries <= failures) return Promise.reject(new Error("the database is away"));
      const written = ids.slice(1, -1).split(",");
      batches.push(
        series.flatMap(({ first, last, tool }) =>
          written.slice(first - 1, last).map((id) => ({ id, tool }))
        ),
      );
      return Promise.resolve([]);
    },
    { json: (value: unknown) => value },
  );
  return { db: { asApp } as unknown as Database, batches };
}

function keptLog() {
  const lines: string[] = [];
  return { log: createLog("json", (line) => lines.push(line)), lines };
}

Deno.test("CallRecorder writes calls together, beside their path", async () => {
  const { db, batches } = fakeDatabase();
  const recorder = new CallRecorder(db, keptLog().log);
  for (let i = 0; i < 50; i++) recorder.record(call({ tool: `t${i}` }));
  assert.equal(batches.length, 0, "record waits for nothing");
  await recorder.flush();
  assert.deepEqual(batches.map(({ length }) => length), [50]);
  assert.equal(new Set(batches[0].map(({ id }) => id)).size, 50);
  await recorder.flush();
  assert.equal(batches.length, 1, "nothing is written twice");
});

Deno.test("CallRecorder writes by itself after a short while", async () => {
  const { db, batches } = fakeDatabase();
  new CallRecorder(db, keptLog().log).record(call());
  await new Promise((resolve) => setTimeout(resolve, 400));
  assert.deepEqual(batches.map(({ length }) => length), [1]);
});

Deno.test("CallRecorder writes at once when many wait, and tells who keeps the process alive", async () => {
  const { db, batches } = fakeDatabase();
  const kept: Promise<void>[] = [];
  const recorder = new CallRecorder(db, keptLog().log, null, (work) => kept.push(work));
  for (let i = 0; i < 2100; i++) recorder.record(call());
  await kept[0];
  assert.deepEqual(batches.map(({ length }) => length), [1000, 1000, 100]);
  await Promise.all(kept);
});

Deno.test("CallRecorder does not press a database that fails", async () => {
  let tries = 0;
  const asApp = Object.assign(() => {
    tries++;
    return Promise.reject(new Error("the database is away"));
  }, { json: (value: unknown) => value });
  const recorder = new CallRecorder({ asApp } as unknown as Database, keptLog().log);
  for (let i = 0; i < 3000; i++) {
    recorder.record(call());
    if (i % 100 === 0) await null;
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(tries, 1);
  // So that its timer does not outlive the test.
  Object.assign(recorder, { db: fakeDatabase().db });
  await recorder.flush();
});

Deno.test("CallRecorder keeps its calls, in order, while the database fails", async () => {
  const { db, batches } = fakeDatabase(1);
  const { log, lines } = keptLog();
  const recorder = new CallRecorder(db, log);
  recorder.record(call({ tool: "first" }));
  await recorder.flush();
  assert.equal(batches.length, 0);
  assert.match(lines[0], /tried again.*the database is away/);
  recorder.record(call({ tool: "second" }));
  await recorder.flush();
  assert.deepEqual(batches.map((rows) => rows.map(({ tool }) => tool)), [["first", "second"]]);
});

Deno.test("CallRecorder drops the oldest aloud when too many wait", async () => {
  const { db, batches } = fakeDatabase();
  const { log, lines } = keptLog();
  const recorder = new CallRecorder(db, log);
  for (let i = 0; i < 10_001; i++) recorder.record(call({ tool: `t${i}` }));
  assert.equal(lines.length, 1);
  assert.match(lines[0], /dropped/);
  await recorder.flush();
  const written = batches.flat();
  assert.equal(written.length, 10_000);
  assert.equal(written[0].tool, "t1");
});

for (const kind of KINDS) {
  Deno.test({
    name: `calls, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, workspaceId, toolboxId } = world;
      const { log, lines } = keptLog();
      const recorder = new CallRecorder(db, log);
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug: "memory",
        form: {},
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      const agentId = await createAgent(db, user, workspaceId, "Agent");
      const record = async (...changes: Partial<NewCall>[]) => {
        for (const change of changes) {
          recorder.record(call({ workspaceId, agentId, serverId, ...change }));
        }
        await recorder.flush();
        assert.deepEqual(lines, []);
      };

      await t.step("listCalls gives what was recorded, newest first, in pages", async () => {
        const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
        await record(
          ...Array.from({ length: 5 }, (_, i) => ({ tool: `t${i}`, startedAt: at(i) })),
        );
        const page = await listCalls(db, user, { agentId }, { limit: 2 });
        assert.deepEqual(page.map(({ tool }) => tool), ["t4", "t3"]);
        const older = await listCalls(db, user, { serverId }, {
          limit: 10,
          before: page[1].startedAt,
        });
        assert.deepEqual(older.map(({ tool }) => tool), ["t2", "t1", "t0"]);
        assert.equal(page[0].agentName, "Agent");
        assert.equal(page[0].durationMs, 1.5);
      });

      await t.step("record takes what a hostile client may name", async () => {
        await record(
          { tool: "a\u0000b", outcome: "tool_error", error: "\u0000'; drop table calls; --" },
          { tool: "x".repeat(5000), error: "y".repeat(5000), outcome: "error" },
          { tool: "\ud800", error: "\udfff", outcome: "error" },
        );
        const calls = await listCalls(db, user, { workspaceId }, { limit: 3 });
        assert.ok(
          calls.some(({ tool, error }) => tool === "a\u2400b" && error!.startsWith("\u2400'")),
        );
        assert.ok(calls.some(({ tool, error }) => tool.length === 1024 && error!.length === 2000));
      });

      await t.step("record of an unknown workspace keeps the others of its batch", async () => {
        await record({ workspaceId: v7(), tool: "nowhere" }, { tool: "somewhere" });
        const tools = (await listCalls(db, user, { workspaceId })).map(({ tool }) => tool);
        assert.equal(tools.includes("somewhere"), true);
        assert.equal(tools.includes("nowhere"), false);
      });

      await t.step("a stranger sees no call", async () => {
        const stranger = await makeUser(world, "stranger@example.com");
        for (const  of of[{ workspaceId }, { agentId }, { serverId }]) {
          assert.equal((await listCalls(db, stranger, of)).length, 0);
        }
      });

      await t.step("the calls of a removed agent and a removed server are kept", async () => {
        const before = (await listCalls(db, user, { workspaceId })).length;
        recorder.record(call({ workspaceId, agentId, serverId, tool: "late" }));
        await removeAgent(db, user, agentId);
        await removeServer(db, user, serverId);
        await acceptReport(db, toolboxId, {
          epoch: v7(),
          sequence: 0,
          observations: [],
          events: [],
          removed: [serverId],
        });
        await recorder.flush();
        assert.deepEqual(lines, []);
        const calls = await listCalls(db, user, { workspaceId });
        assert.equal(calls.length, before + 1);
        for (const { agentId, serverId, serverSlug } of calls) {
          assert.deepEqual([agentId, serverId, serverSlug], [null, null, "memory"]);
        }
      });

      await world.close();
    },
  });
}
