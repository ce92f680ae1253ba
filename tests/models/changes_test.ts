import assert from "node:assert/strict";
import { Changes } from "../../models/changes.ts";
import { type Change, connect, type Database } from "../../models/db.ts";
import { deployServer, removeServer } from "../../models/servers.ts";
import { tcpProxy } from "../dtma/tcp_proxy.ts";
import { freePort } from "../free_port.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";

/** For what comes: a machine that does much else takes its time. */
const LONG_MS = 300_000;

Deno.test("Changes wakes every reader at each tick where the database cannot notify", async () => {
  const changes = new Changes({ listen: null } as unknown as Database, 20);
  const subscription = changes.subscribe(() => false);
  assert.equal(await subscription.next(LONG_MS), true);
  await changes.close();
  await subscription.next(0);
  assert.equal(await subscription.next(100), false, "closed, it ticks no more");
});

Deno.test("Changes outlives a database that does not listen", async () => {
  const changes = new Changes(
    { listen: () => Promise.reject(new Error("away")) } as unknown as Database,
  );
  assert.equal(await changes.subscribe(() => true).next(20), false);
  await changes.close();
});

Deno.test({
  name: "Changes hears of changes once a database that was away at its start is there",
  ignore: KINDS[1].ignore,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const database = await KINDS[1].open();
    const there = new URL(database.url!), away = new URL(database.url!);
    away.port = String(freePort());
    const db = connect({ url: away.href });
    const { promise: failed, resolve } = Promise.withResolvers<void>();
    const changes = new Changes({
      ...db,
      listen: (onChange) => {
        const listening = db.listen!(onChange);
        listening.catch(() => resolve());
        return listening;
      },
    });
    await failed;
    const subscription = changes.subscribe(({ table }) => table === "servers");
    const proxy = tcpProxy(Number(there.port), Number(away.port));
    assert.equal(await subscription.next(LONG_MS), true, "told that it may have missed some");
    await database.db.asApp`select pg_notify('mooring', '{"table":"servers"}')`;
    assert.equal(await subscription.next(LONG_MS), true, "and hears of the next");
    await changes.close();
    await db.close();
    proxy.close();
    await database.close();
  },
});

for (const kind of KINDS) {
  Deno.test({
    name: `changes, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, workspaceId, toolboxId } = world;
      const changes = new Changes(db);
      await (await db.listen!(() => {}))(); // from here on the database listens
      const deploy = async () =>
        (await deployServer(db, user, {
          workspaceId,
          toolboxId,
          slug: "memory",
          form: {},
          idempotencyKey: crypto.randomUUID(),
        }, testKey)).serverId;

      await t.step("untoldMs tells once a probe came back, and wakes nobody by it", async () => {
        let isWoken = false;
        const stop = changes.watch(({ table }) => table === "probe", () => isWoken = true);
        while (!Number.isFinite(changes.untoldMs())) {
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        stop();
        assert.equal(isWoken, false);
      });

      await t.step("next wakes the readers whose change it is, and no other", async () => {
        const seen: Change[] = [];
        const mine = changes.subscribe((change) => {
          seen.push(change);
          return change.toolbox === toolboxId;
        });
        const others = changes.subscribe(({ workspace }) => workspace === crypto.randomUUID());
        const waiting = mine.next(LONG_MS);
        const serverId = await deploy();
        assert.equal(await waiting, true);
        assert.equal(await others.next(50), false);
        assert.ok(
          seen.some((change) =>
            change.table === "servers" && change.server === serverId &&
            change.workspace === workspaceId && change.toolbox === toolboxId &&
            change.agent === null
          ),
          JSON.stringify(seen),
        );
        mine.close();
        others.close();
      });

      await t.step("next gives at once a change that came since the last wait", async () => {
        const subscription = changes.subscribe(({ table }) => table === "servers");
        const other = changes.subscribe(({ table }) => table === "servers");
        const woken = other.next(LONG_MS);
        const serverId = await deploy();
        await woken;
        assert.equal(await subscription.next(0), true);
        await removeServer(db, user, serverId);
        assert.equal(await subscription.next(LONG_MS), true);
        subscription.close();
        other.close();
      });

      await t.step("next ends after its time, by its signal and by close", async () => {
        const subscription = changes.subscribe(() => false);
        const before = performance.now();
        assert.equal(await subscription.next(50), false);
        assert.ok(performance.now() - before >= 45);
        const stop = new AbortController();
        const aborted = subscription.next(60_000, stop.signal);
        stop.abort();
        assert.equal(await aborted, false);
        assert.equal(await subscription.next(60_000, AbortSignal.abort()), false);
        const closed = subscription.next(60_000);
        subscription.close();
        assert.equal(await closed, false);
      });

      await t.step("a change that is rolled back wakes nobody", async () => {
        const subscription = changes.subscribe(({ table }) =>
          table === "workspaces" || table === "agents"
        );
        await db.asUser(user, async (sql) => {
          await sql`insert into agents (id, workspace_id, name)
            values (${crypto.randomUUID()}, ${workspaceId}, 'x')`;
          throw new Error("rolled back");
        }).catch(() => {});
        assert.equal(await subscription.next(100), false);
        subscription.close();
      });

      await t.step("close ends the wake-ups", async () => {
        let woken = 0;
        changes.watch(() => true, () => woken++);
        await deploy();
        while (woken === 0) await new Promise((resolve) => setTimeout(resolve, 10));
        await changes.close();
        woken = 0;
        await deploy();
        await new Promise((resolve) => setTimeout(resolve, 100));
        assert.equal(woken, 0);
      });

      await world.close();
    },
  });
}
