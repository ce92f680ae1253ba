import assert from "node:assert/strict";
import { v7 } from "uuid";
import { CallRecorder } from "../../models/calls.ts";
import { Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import { createLog } from "../../models/log.ts";
import { getRetention, keepBodies, keepCalls, removeExpired } from "../../models/retention.ts";
import { addMember, KINDS, makeUser, openWorld } from "./databases.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `what happened is kept for its time, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const recorder = new CallRecorder(db, createLog("text", () => {}));
      const daysAgo = (days: number) => new Date(Date.now() - days * 86_400_000);
      const record = async (days: number, count = 1, of = workspaceId) => {
        for (let i = 0; i < count; i++) {
          recorder.record({
            workspaceId: of,
            agentId: null,
            serverId: null,
            serverSlug: "files",
            tool: "read",
            via: "bridge",
            startedAt: daysAgo(days),
            durationMs: 1,
            outcome: "ok",
            error: null,
            requestBytes: 1,
            responseBytes: 1,
          });
        }
        await recorder.flush();
      };
      const left = async (of = workspaceId) => {
        const [{ n }] = await owner`
          select count(*)::int as n from public.calls where workspace_id = ${of}`;
        return n;
      };
      const event = (days: number, layer: string) =>
        owner`
          insert into public.events (workspace_id, toolbox_id, at, layer, message)
          values (${workspaceId}, ${toolboxId}, ${daysAgo(days)}, ${layer}, ${`${layer} ${days}`})`;
      const makeDue = () => owner`update mooring.upkeep set due_at = now()`;

      await t.step("90 days, and nothing of what is said, unless somebody decides", async () => {
        assert.deepEqual({ ...await getRetention(db, user, workspaceId) }, {
          callsKeptDays: 90,
          keepsBodies: false,
          bodiesKeptDays: 7,
        });
      });

      await t.step("removeExpired removes what is older, in steps, of each its own", async () => {
        const other = v7();
        await owner`
          insert into public.workspaces (id, name, calls_kept_days) values (${other}, 'Other', 730)`;
        await record(91, 2500);
        await record(89, 10);
        await record(91, 5, other);
        await event(91, "toolbox");
        await event(89, "toolbox");
        await event(400, "workspace");
        assert.equal(await removeExpired({ db }), 2501);
        assert.equal(await left(), 10);
        assert.equal(await left(other), 5);
        const events = await listEvents(db, user, { workspaceId });
        const messages = events.map(({ message }) => message);
        assert.ok(messages.includes("toolbox 89"), "kept for its time");
        assert.ok(messages.includes("workspace 400"), "kept as long as the workspace");
        assert.ok(!messages.includes("toolbox 91"));
      });

      await t.step("removeExpired works when it is due, however often it is asked", async () => {
        await record(95, 3);
        assert.equal(await removeExpired({ db }), 0);
        await makeDue();
        const all = await Promise.all([1, 2, 3].map(() => removeExpired({ db })));
        assert.equal(all.reduce((sum, each) => sum + each), 3);
      });

      await t.step(
        "a clock that was years ahead holds nothing up once it is set back",
        async () => {
          await owner`update mooring.upkeep set due_at = now() + interval '5 years'`;
          await owner`update mooring.call_folding set due_at = now() + interval '5 years'`;
          await record(95, 2);
          assert.equal(await removeExpired({ db }), 2);
          assert.equal((await owner`select from public.call_tail`).length, 0, "folded");
        },
      );

      await t.step("sums are kept as long as pages ask for them", async () => {
        await record(1 / 24);
        await record(5 / 24);
        await owner`select mooring.fold_call_tail(${workspaceId})`;
        await owner`
          insert into public.call_sums
          select workspace_id, 60, now() - interval '3 hours', series_id, outcome, bucket, 1
          from public.call_sums where span_seconds = 60 limit 1`;
        await makeDue();
        assert.equal(await removeExpired({ db }), 1);
        const [{ days }] = await owner`
          select sum(calls)::int as days from public.call_sums
          where workspace_id = ${workspaceId} and span_seconds = 86400`;
        assert.equal(days, 2500 + 10 + 3 + 2 + 2, "of removed calls too");
      });

      await t.step(
        "how long what is said is kept is said without turning it on again",
        async () => {
          await keepBodies(db, user, workspaceId, { isOn: true });
          // By another owner, after this one looked.
          await keepBodies(db, user, workspaceId, { isOn: false });
          await keepBodies(db, user, workspaceId, { days: 30 });
          const { keepsBodies, bodiesKeptDays } = await getRetention(db, user, workspaceId);
          assert.deepEqual([keepsBodies, bodiesKeptDays], [false, 30]);
          await keepBodies(db, user, workspaceId, { days: 7 });
        },
      );

      await t.step("keepCalls is for owners and admins, and told in the events", async () => {
        await keepCalls(db, user, workspaceId, 30);
        assert.equal((await getRetention(db, user, workspaceId)).callsKeptDays, 30);
        assert.equal(await removeExpired({ db }), 10 + 1, "at once: calls and the event of day 89");
        const [said] = await listEvents(db, user, { workspaceId, layer: "workspace" });
        assert.match(said.message, /kept for 30 days, not 90/);
        assert.ok(said.actorName);
        await assert.rejects(keepCalls(db, user, workspaceId, 31), Invalid);
        await assert.rejects(keepCalls(db, user, workspaceId, NaN), Invalid);
        const bodies = { isOn: true, days: 7 };
        await assert.rejects(keepBodies(db, user, workspaceId, { ...bodies, days: 8 }), Invalid);
        const stranger = await makeUser(world, "stranger@example.com");
        await assert.rejects(keepCalls(db, stranger, workspaceId, 7), NotFound);
        await assert.rejects(keepBodies(db, stranger, workspaceId, bodies), NotFound);
        for (const role of ["viewer", "member", "admin"]) {
          const person = await makeUser(world, `${role}@example.com`);
          await addMember(world, workspaceId, person.userId, role);
          const kept = keepCalls(db, person, workspaceId, 7);
          if (role === "admin") await kept;
          else await assert.rejects(kept, Forbidden);
          await assert.rejects(keepBodies(db, person, workspaceId, bodies), Forbidden, role);
        }
      });

      await world.close();
    },
  });
}
