import assert from "node:assert/strict";
import { v7 } from "uuid";
import { createAgent, removeAgent } from "../../models/agents.ts";
import { BUCKETS, CallFilter, searchCalls, summarizeCalls } from "../../models/call_search.ts";
import { CallRecorder, type NewCall } from "../../models/calls.ts";
import { Invalid } from "../../models/errors.ts";
import type { Database } from "../../models/db.ts";
import { createLog } from "../../models/log.ts";
import { KINDS, makeUser, openWorld } from "./databases.ts";

const filter = (asked: Record<string, unknown> = {}) =>
  CallFilter.parse({ period: "all", ...asked });

Deno.test("CallFilter reads what it can of an address, and passes over the rest", () => {
  const usual = { text: "", agent: null, server: null, outcome: null, via: null, period: "day" };
  assert.deepEqual(CallFilter.parse({}), usual);
  assert.deepEqual(
    CallFilter.parse({
      text: "x".repeat(201),
      agent: "'; drop table calls; --",
      server: ["a"],
      outcome: "great",
      via: "",
      period: "__proto__",
    }),
    usual,
  );
});

for (const kind of KINDS) {
  Deno.test({
    name: `calls are searched (${kind.name})`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId } = world;
      const logged: string[] = [];
      const recorder = new CallRecorder(db, createLog("json", (line) => logged.push(line)));
      const agents = [
        await createAgent(db, user, workspaceId, "Editor"),
        await createAgent(db, user, workspaceId, "Chat"),
      ];
      const serverId = v7();
      const now = Date.now();
      const record = (change: Partial<NewCall>, by = recorder) =>
        by.record({
          workspaceId,
          agentId: agents[0],
          serverId,
          serverSlug: "files",
          tool: "read_file",
          via: "bridge",
          startedAt: new Date(now - 60_000),
          durationMs: 10,
          outcome: "ok",
          error: null,
          requestBytes: 1,
          responseBytes: 2,
          ...change,
        });
      // All of one instant, so that nothing but their ids orders them.
      for (let i = 0; i < 30; i++) record({ durationMs: i + 1 });
      record({ tool: "100%_sure", outcome: "tool_error", error: "no such file" });
      record({ agentId: agents[1], outcome: "error", error: "The server is stopped" });
      record({ agentId: agents[1], outcome: "indeterminate" });
      record({ agentId: null, via: "trial", serverSlug: "memory", serverId: null });
      record({ tool: "old", startedAt: new Date(now - 3 * 3600_000), outcome: "cancelled" });
      await recorder.flush();
      assert.deepEqual(logged, []);
      const find = async (asked: Record<string, unknown>) =>
        (await searchCalls(db, user, workspaceId, filter(asked), { limit: 100 })).calls;

      await t.step("searchCalls gives each call once, page by page", async () => {
        const seen: string[] = [];
        let cursor: string | null = null;
        do {
          const page = await searchCalls(db, user, workspaceId, filter(), { limit: 7, cursor });
          assert.ok(page.calls.length <= 7);
          seen.push(...page.calls.map(({ id }) => id));
          cursor = page.next;
          // What comes meanwhile moves nothing.
          record({ startedAt: new Date() });
          await recorder.flush();
        } while (cursor);
        assert.equal(seen.length, 35);
        assert.equal(new Set(seen).size, 35);
      });

      await t.step("searchCalls refuses a cursor of nobody's", async () => {
        for (const cursor of ["", "x", "2026-01-01 00:00:00+00_x", `now_${v7()}`, "_", "a_b_c"]) {
          await assert.rejects(
            searchCalls(db, user, workspaceId, filter(), { cursor }),
            Invalid,
            cursor,
          );
        }
      });

      await t.step("searchCalls finds by each part of a filter", async () => {
        assert.equal((await find({ text: "100%" })).length, 1);
        assert.equal((await find({ text: "%" })).length, 1, "what means something to like is text");
        assert.equal((await find({ text: "100__sure" })).length, 0);
        assert.equal((await find({ text: "STOPPED" })).length, 1);
        assert.equal((await find({ text: "memory" })).length, 1);
        assert.equal((await find({ agent: agents[1] })).length, 2);
        assert.equal((await find({ server: v7() })).length, 0);
        assert.equal((await find({ outcome: "failed" })).length, 3);
        assert.equal((await find({ outcome: "cancelled" })).length, 1);
        assert.equal((await find({ via: "trial" })).length, 1);
        assert.equal((await find({ period: "hour", text: "old" })).length, 0);
        assert.equal((await find({ period: "day", text: "old" })).length, 1);
      });

      await t.step("summarizeCalls counts by tool, server and agent", async () => {
        const of = async (by: "tool" | "server" | "agent", asked = {}) =>
          (await summarizeCalls(db, user, workspaceId, filter(asked), by)).groups;
        const byAgent = await of("agent", { text: "read_file", via: "bridge" });
        assert.deepEqual(byAgent.map(({ name }) => name), ["Editor", "Chat"]);
        const { id, calls, failed, toolErrors, medianMs } = byAgent[1];
        assert.deepEqual({ id, calls, failed, toolErrors, medianMs }, {
          id: agents[1],
          calls: 2,
          failed: 2,
          toolErrors: 0,
          medianMs: null,
        });
        assert.deepEqual((await of("server")).map(({ name }) => name), ["files", "memory"]);
        assert.ok((await of("tool")).some(({ name }) => name === "files / 100%_sure"));
        const people = (await of("agent")).find(({ id }) => id === null);
        assert.equal(people?.name, "tried on a page");
      });

      await t.step("summarizeCalls has each call of the period in one part", async () => {
        for (const period of ["hour", "day", "all"]) {
          const asked = filter({ period, text: "read_file" });
          const { total, history } = await summarizeCalls(db, user, workspaceId, asked, "tool");
          const { from, until, buckets } = history;
          assert.equal(
            buckets.reduce((sum, { ok, failed }) => sum + ok + failed, 0),
            total.calls,
            period,
          );
          assert.ok(buckets.length <= BUCKETS);
          assert.ok(buckets.every(({ at }) => at >= from && at < until), period);
        }
        const none = filter({ text: "nothing of it" });
        const { total, history } = await summarizeCalls(db, user, workspaceId, none, "tool");
        assert.deepEqual([total.calls, total.medianMs, history.buckets], [0, null, []]);
      });

      await t.step("summarizeCalls says times that are at most 5 % off", async () => {
        const agent = await createAgent(db, user, workspaceId, "Timed");
        const times = Array.from({ length: 200 }, (_, i) => 0.02 * 1.07 ** i);
        for (const durationMs of times) record({ agentId: agent, durationMs, tool: "timed" });
        await recorder.flush();
        for (const period of ["hour", "day", "week", "month", "all"]) {
          const asked = filter({ agent, period });
          const { total } = await summarizeCalls(db, user, workspaceId, asked, "tool");
          assert.equal(total.calls, 200, period);
          for (const [is, share] of [[total.medianMs!, 0.5], [total.p95Ms!, 0.95]]) {
            const exact = times[Math.ceil(share * times.length) - 1];
            assert.ok(Math.abs(is / exact - 1) <= 0.05, `${period}: ${is} for ${exact}`);
          }
        }
      });

      await t.step("summarizeCalls counts as the calls themselves do", async () => {
        for (
          const asked of [
            {},
            { agent: agents[0] },
            { server: serverId },
            { outcome: "failed" },
            { outcome: "error", agent: agents[1] },
            { via: "trial" },
            { text: "read" },
            { text: "stopped" },
            { text: "e" },
            { text: "no such file", outcome: "tool_error" },
          ]
        ) {
          const { calls } = await searchCalls(db, user, workspaceId, filter(asked), {
            limit: 1000,
          });
          for (const by of ["tool", "server", "agent"] as const) {
            const of = await summarizeCalls(db, user, workspaceId, filter(asked), by);
            assert.equal(of.total.calls, calls.length, JSON.stringify(asked));
            assert.equal(of.groups.reduce((sum, { calls }) => sum + calls, 0), calls.length);
          }
        }
      });

      await t.step("summarizeCalls counts the same before and after they are folded", async () => {
        const before = await summarizeCalls(db, user, workspaceId, filter(), "tool");
        const waiting = await owner`select from public.call_tail`;
        assert.ok(waiting.length > 0);
        await owner`update mooring.call_folding set due_at = now()`;
        record({});
        await recorder.flush();
        assert.deepEqual([...await owner`select from public.call_tail`], [], "by the next batch");
        const after = await summarizeCalls(db, user, workspaceId, filter(), "tool");
        assert.equal(after.total.calls, before.total.calls + 1);
        assert.equal(after.groups.length, before.groups.length);
        record({});
        await recorder.flush();
      });

      await t.step("a batch that is tried again is counted once", async () => {
        const row = {
          id: v7(),
          workspace_id: workspaceId,
          server_slug: "files",
          tool: "twice",
          via: "bridge",
          started_at: new Date().toISOString(),
          duration_ms: 1,
          outcome: "ok",
          request_bytes: 1,
          response_bytes: 1,
        };
        for (let i = 0; i < 3; i++) {
          await db.asApp`select mooring.record_calls(${db.asApp.json([row])})`;
        }
        const asked = filter({ text: "twice" });
        const { total } = await summarizeCalls(db, user, workspaceId, asked, "tool");
        assert.equal(total.calls, 1);
      });

      await t.step(
        "a batch whose answer was lost is counted once, with what came since",
        async () => {
          let isLost = true;
          const asApp = Object.assign(async (...query: Parameters<typeof db.asApp>) => {
            const rows = await db.asApp(...query);
            if (isLost) throw new Error("the connection broke");
            return rows;
          }, { json: db.asApp.json });
          const warned: string[] = [];
          const patient = new CallRecorder(
            { ...db, asApp } as unknown as Database,
            createLog("json", (line) => warned.push(line)),
          );
          const lost = (change: Partial<NewCall>) => record({ tool: "lost", ...change }, patient);
          lost({});
          lost({ outcome: "tool_error", error: 'It, {broke} "here"' });
          lost({ durationMs: 3_000_000.25 });
          await patient.flush();
          assert.match(warned[0], /tried again/);
          isLost = false;
          lost({});
          await patient.flush();
          const { total } = await summarizeCalls(
            db,
            user,
            workspaceId,
            filter({ text: "lost" }),
            "tool",
          );
          assert.equal(total.calls, 4);
          assert.equal(total.toolErrors, 1);
          const found = await find({ text: "lost" });
          assert.equal(found.length, 4);
        },
      );

      await t.step("sums outlive their calls, and agents that are removed", async () => {
        const before = await summarizeCalls(db, user, workspaceId, filter(), "agent");
        await removeAgent(db, user, agents[1]);
        await owner`delete from public.calls where workspace_id = ${workspaceId}`;
        const after = await summarizeCalls(db, user, workspaceId, filter(), "agent");
        assert.deepEqual(after.total, before.total);
        assert.ok(after.groups.some(({ id, name }) => id === null && name === "removed agents"));
        assert.deepEqual(await find({}), []);
      });

      await t.step("a stranger finds nothing", async () => {
        const stranger = await makeUser(world, "stranger@example.com");
        const of = [db, stranger, workspaceId, filter()] as const;
        assert.deepEqual(await searchCalls(...of), { calls: [], next: null });
        const { total, history, groups } = await summarizeCalls(...of, "tool");
        assert.deepEqual([total.calls, history.buckets, groups], [0, [], []]);
      });

      await world.close();
    },
  });
}
