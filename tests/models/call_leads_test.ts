import assert from "node:assert/strict";
import { v7 } from "uuid";
import { createAgent, removeAgent } from "../../models/agents.ts";
import { callFigures, CallFilter, searchCalls } from "../../models/call_search.ts";
import { type Call, CallRecorder, listCalls, type NewCall } from "../../models/calls.ts";
import type { Sql } from "../../models/db.ts";
import { createLog } from "../../models/log.ts";
import { deployServer } from "../../models/servers.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";

const CALLS = 3000;

for (const kind of KINDS) {
  Deno.test({
    name: `calls that come in crowds are all in their lists, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const logged: string[] = [];
      const recorder = new CallRecorder(db, createLog("json", (line) => logged.push(line)));
      const agents: string[] = [];
      for (const name of ["Busy", "Less", "Rare"]) {
        agents.push(await createAgent(db, user, workspaceId, name));
      }
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug: "memory",
        form: {},
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      const begin = Date.now() - 60_000;
      /** Some six of a millisecond, ended out of order, some of an instant. */
      const nth = (n: number): NewCall => ({
        workspaceId,
        agentId: agents[n % 211 === 0 ? 2 : n % 10 === 0 ? 1 : 0],
        serverId: n % 3 === 0 ? serverId : null,
        serverSlug: n % 3 === 0 ? "memory" : "files",
        tool: ["read", "write", "list"][n % 7 % 3],
        via: "bridge",
        startedAt: new Date(begin + Math.floor(n / 6) - n * n % 13),
        durationMs: 1 + n % 13,
        outcome: n % 17 === 0 ? "tool_error" : n % 19 === 0 ? "cancelled" : "ok",
        error: n % 17 === 0 ? `broke ${n}` : null,
        requestBytes: 1,
        responseBytes: 1,
      });
      for (let n = 0; n < CALLS; n++) {
        recorder.record(nth(n));
        if (n * 31 % 401 === 0) await recorder.flush();
      }
      await recorder.flush();
      assert.deepEqual(logged, []);
      const all = await listCalls(db, user, { workspaceId }, { limit: CALLS + 1 });

      await t.step("few of them lead", async () => {
        const [{ leads }] = await owner`
          select count(*)::int as leads from public.calls where leads`;
        assert.equal(all.length, CALLS);
        assert.ok(leads > CALLS / 60 && leads < CALLS / 2, `${leads}`);
      });

      const sorted = all.toSorted((a, b) =>
        b.startedAt.getTime() - a.startedAt.getTime() || (a.id < b.id ? 1 : -1)
      );
      const ids = (calls: Call[]) => calls.map(({ id }) => id);
      const CASES: [asked: Record<string, unknown>, matches: (call: Call) => boolean][] = [
        [{}, () => true],
        [{ agent: agents[0] }, ({ agentId }) => agentId === agents[0]],
        [{ agent: agents[2] }, ({ agentId }) => agentId === agents[2]],
        [
          { agent: agents[1], text: "rea" },
          ({ agentId, tool }) => agentId === agents[1] && tool === "read",
        ],
        [
          { agent: agents[1], text: "ro" },
          ({ agentId, error }) => agentId === agents[1] && error !== null,
        ],
        [
          { agent: agents[1], text: "r" },
          ({ agentId, tool, serverSlug, error }) =>
            agentId === agents[1] &&
            (tool !== "list" || serverSlug === "memory" || error !== null),
        ],
        [
          { agent: agents[0], outcome: "failed" },
          ({ agentId, outcome }) => agentId === agents[0] && outcome === "tool_error",
        ],
        [
          { agent: agents[1], outcome: "ok", via: "bridge" },
          ({ agentId, outcome }) => agentId === agents[1] && outcome === "ok",
        ],
        [{ server: serverId }, (call) => call.serverId === serverId],
        [
          { server: serverId, agent: agents[1] },
          (call) => call.serverId === serverId && call.agentId === agents[1],
        ],
        [{ agent: v7() }, () => false],
      ];

      const compare = async (sorted: Call[], limit: number) => {
        for (const [asked, matches] of CASES) {
          const filter = CallFilter.parse({ period: "all", ...asked });
          const found: Call[] = [];
          let cursor: string | null = null;
          do {
            const page = await searchCalls(db, user, workspaceId, filter, { limit, cursor });
            found.push(...page.calls);
            cursor = page.next;
          } while (cursor);
          assert.deepEqual(ids(found), ids(sorted.filter(matches)), JSON.stringify(asked));
        }
      };

      await t.step("searchCalls gives each once, in order, in pages of any size", async () => {
        assert.deepEqual(ids(all), ids(sorted));
        await compare(sorted, 37);
        await compare(sorted, 1000);
      });

      await t.step("listCalls goes on at a call and at a time", async () => {
        const of = sorted.filter(({ agentId }) => agentId === agents[0]);
        for (const at of [0, 1, 58, 700, of.length - 1]) {
          const after = await listCalls(db, user, { agentId: agents[0] }, { before: of[at] });
          assert.deepEqual(ids(after), ids(of.slice(at + 1, at + 51)));
          const { startedAt: before } = of[at];
          const earlier = await listCalls(db, user, { agentId: agents[0] }, { before });
          const expected = of.filter(({ startedAt }) => startedAt < before).slice(0, 50);
          assert.deepEqual(ids(earlier), ids(expected));
        }
      });

      await t.step(
        "callFigures sums up a server's last hour, but for what was given up",
        async () => {
          const counted = all.filter((call) =>
            call.serverId === serverId && call.outcome !== "cancelled"
          );
          const { medianMs, p95Ms, ...counts } = await callFigures(db, user, serverId);
          assert.deepEqual(counts, {
            calls: counted.length,
            failed: 0,
            toolErrors: counted.filter(({ outcome }) => outcome === "tool_error").length,
          });
          const times = counted.map(({ durationMs }) => durationMs).toSorted((a, b) => a - b);
          for (const [is, share] of [[medianMs!, 0.5], [p95Ms!, 0.95]]) {
            const exact = times[Math.ceil(share * times.length) - 1];
            assert.ok(Math.abs(is / exact - 1) <= 0.05, `${is} for ${exact}`);
          }
        },
      );

      await t.step("what replicas of the versions before record is in them, too", async () => {
        const before = nth(CALLS + 1);
        const series = {
          first: 1,
          last: 2,
          workspace_id: workspaceId,
          agent_id: before.agentId,
          server_id: before.serverId,
          server_slug: "files",
          tool: "read",
          via: "bridge",
          outcome: "ok",
        };
        const started = before.startedAt.getTime();
        for (let tried = 0; tried < 2; tried++) {
          await db.asApp`select mooring.record_calls(${db.asApp.json([series])},
            ${`{${OLD_IDS}}`}::text::uuid[], ${`{${started},${started}}`}::text::bigint[],
            '{1000,1000}'::bigint[], '{1,1}'::integer[], '{1,1}'::integer[], '{}'::text[])`;
          await db.asApp`select mooring.record_calls(${
            db.asApp.json([{
              ...series,
              id: OLDEST_ID,
              started_at: before.startedAt,
              duration_ms: 1,
              request_bytes: 1,
              response_bytes: 1,
            }])
          })`;
        }
        const found = await listCalls(db, user, { agentId: before.agentId! }, { limit: CALLS });
        const added = ids(found).filter((id) => id === OLDEST_ID || OLD_IDS.includes(id));
        assert.equal(added.length, 3);
      });

      await t.step("a removed agent leaves no call behind that names it", async () => {
        await removeAgent(db, user, agents[0]);
        const [{ named }] = await owner`
          select count(*)::int as named from public.calls where agent_id = ${agents[0]}`;
        assert.equal(named, 0);
        const others = all.filter(({ agentId }) => agentId === agents[1]).length;
        const kept = await listCalls(db, user, { agentId: agents[1] }, { limit: CALLS });
        assert.equal(kept.length, others);
      });

      await t.step("a search leaves no setting of the planner behind", async () => {
        const setting = (sql: Sql) => sql<{ enable_bitmapscan: string }[]>`show enable_bitmapscan`;
        assert.equal((await db.asUser(user, setting))[0].enable_bitmapscan, "on");
      });

      await world.close();
    },
  });
}

const OLD_IDS = [v7(), v7()], OLDEST_ID = v7();
