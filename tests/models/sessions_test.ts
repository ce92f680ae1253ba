import assert from "node:assert/strict";
import { createAgent } from "../../models/agents.ts";
import {
  changeSession,
  endSession,
  forgetSessions,
  messagesAfter,
  openSession,
  putMessages,
  readSession,
  SUBSCRIPTIONS_LIMIT,
  touchSession,
} from "../../models/sessions.ts";
import { KINDS, openWorld } from "./databases.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const OPENED = {
  scope: null,
  transport: "streamable_http" as const,
  revision: "2025-11-25",
  clientInfo: `{"name":"\\u0000","n":1e400}`,
  capabilities: { sampling: {} },
};

for (const kind of KINDS) {
  Deno.test({
    name: `sessions and their messages, on the ${kind.name} database`,
    ignore: kind.ignore,
    ...options,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId } = world;
      const agentId = await createAgent(db, user, workspaceId, "Agent");
      const otherId = await createAgent(db, user, workspaceId, "Other");
      const session = await openSession(db, { agentId, workspaceId }, OPENED);

      await t.step("is read by its agent alone, and changed", async () => {
        assert.equal(session.clientInfo, OPENED.clientInfo);
        assert.deepEqual(await readSession(db, agentId, session.id), session);
        assert.equal(await readSession(db, otherId, session.id), null);
        await changeSession(db, session, { subscribe: "file:///a" });
        await changeSession(db, session, { subscribe: "file:///b" });
        await changeSession(db, session, { subscribe: "file:///a" });
        await changeSession(db, session, { unsubscribe: "file:///b" });
        const changed = await changeSession(db, session, { logLevel: "error" });
        assert.deepEqual([changed!.subscriptions, changed!.logLevel], [["file:///a"], "error"]);
        assert.equal(
          await changeSession(db, { ...session, agentId: otherId }, { logLevel: "x" }),
          null,
        );
        assert.equal(await endSession(db, { ...session, agentId: otherId }), false);
        await db.asAgent(agentId, (sql) =>
          sql`update mcp_sessions set subscriptions = array(
            select n::text from generate_series(1, ${SUBSCRIPTIONS_LIMIT}) n)
            where id = ${session.id}`);
        const full = await changeSession(db, session, { subscribe: "file:///c" });
        assert.equal(full!.subscriptions.length, SUBSCRIPTIONS_LIMIT);
        assert.ok(!full!.subscriptions.includes("file:///c"));
      });

      await t.step("gives messages numbers without gaps to many writers at once", async () => {
        const writers = Array.from(
          { length: 20 },
          (_, n) => putMessages(db, session.id, "sse", [`${n} a`, `${n} b`]),
        );
        const last = await Promise.all(writers);
        assert.equal(Math.max(...last as number[]), 40);
        const read: string[] = [];
        for (let after = 0;;) {
          const some = await messagesAfter(db, session.id, "sse", after);
          if (some.length === 0) break;
          for (const { sequence, message } of some) {
            assert.equal(sequence, after + 1);
            after = sequence;
            read.push(message);
          }
        }
        assert.equal(read.length, 40);
        // Those of one writer stand together.
        for (let n = 0; n < 40; n += 2) {
          assert.equal(read[n].split(" ")[0], read[n + 1].split(" ")[0]);
        }
      });

      await t.step(
        "keeps a stream under its writer's own numbers, and when it was written",
        async () => {
          assert.equal(await putMessages(db, session.id, "p1", ["alive"], 0), 0);
          assert.equal(await putMessages(db, session.id, "p1", ["x", "y"], 3), 4);
          assert.equal(await putMessages(db, session.id, "p1", ["still"], 0), 0);
          const rows = await messagesAfter(db, session.id, "p1", -1);
          assert.deepEqual(rows.map(({ sequence, message }) => [sequence, message]), [
            [0, "still"],
            [3, "x"],
            [4, "y"],
          ]);
          assert.ok(rows.every(({ ageMs }) => ageMs >= 0 && ageMs < 60_000));
          assert.equal((await messagesAfter(db, session.id, "p2", -1)).length, 0);
        },
      );

      await t.step("forgets what nobody took, and sessions that nobody used", async () => {
        await owner`update mooring.mcp_messages set at = now() - interval '16 minutes'`;
        await putMessages(db, session.id, "sse", ["new"]);
        const kept = await messagesAfter(db, session.id, "sse", 0);
        assert.deepEqual(kept.map(({ message }) => message), ["new"]);
        await owner`update public.mcp_sessions set expires_at = now() - interval '1 second'`;
        assert.equal(await readSession(db, agentId, session.id), null);
        const fresh = await openSession(db, { agentId, workspaceId }, OPENED);
        await touchSession(db, fresh);
        const forgotten = await Promise.all([1, 2].map(() => forgetSessions(db, otherId)));
        assert.deepEqual(forgotten.flat(), [{ id: session.id, agentId, scope: null }], "once");
        const [{ count }] = await owner`select count(*)::int from public.mcp_sessions`;
        assert.equal(count, 1);
        assert.equal(await putMessages(db, session.id, "sse", ["late"]), null);
        assert.equal(await endSession(db, fresh), true);
        assert.equal(await endSession(db, fresh), false);
      });
      await world.close();
    },
  });
}
