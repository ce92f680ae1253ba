import assert from "node:assert/strict";
import { connect, type Database, type Sql } from "../../models/db.ts";
import { tcpProxy } from "../dtma/tcp_proxy.ts";
import { freePort } from "../free_port.ts";
import { KINDS, SUPABASE } from "./databases.ts";

const delay = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Whoever a query runs as: what says that it ran within another's transaction. */
async function role(db: Database): Promise<string> {
  const [{ role }] = await db.asApp<{ role: string }[]>`select current_user as role`;
  return role;
}

async function roleOfPerson(db: Database): Promise<string> {
  return await db.asUser({ userId: crypto.randomUUID() }, async (sql) => {
    await sql`select 1`;
    const [{ role }] = await sql<{ role: string }[]>`select current_user as role`;
    return role;
  });
}

for (const kind of [...KINDS, SUPABASE]) {
  Deno.test({
    name: `queries and transactions side by side keep to themselves, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const { db, owner, url, close } = await kind.open();
      const app = await role(db);
      assert.notEqual(app, "authenticated");

      await t.step("however many queries wait before a transaction", async () => {
        // postgres.js sends up to 100 behind another: a BEGIN at each place around the last of them.
        for (let before = 95; before < 115; before++) {
          const plain = Array.from({ length: before }, () => role(db));
          // Queries are sent some turns after they are made, the first of a transaction at once.
          for (let turn = 0; turn < 4; turn++) await null;
          const people = Array.from({ length: 10 }, () => roleOfPerson(db));
          const after = Array.from({ length: 10 }, () => role(db));
          assert.deepEqual(new Set(await Promise.all(people)), new Set(["authenticated"]));
          assert.deepEqual(new Set(await Promise.all([...plain, ...after])), new Set([app]));
        }
      });

      await t.step("when what is sent is more than a socket holds", async () => {
        const text = "x".repeat(300_000);
        const long = async () =>
          (await db.asApp<{ length: number }[]>`select length(${text}::text) as length`)[0].length;
        const all = await Promise.all(Array.from({ length: 40 }, (_, index) => {
          return index % 2 ? long() : roleOfPerson(db);
        }));
        assert.deepEqual(new Set(all), new Set(["authenticated", text.length]));
      });

      await t.step(
        "a query that fails gives its connection back, as a transaction does",
        async () => {
          for (let i = 0; i < 20; i++) {
            await assert.rejects(db.asApp`select 1 / 0`, { code: "22012" });
            await assert.rejects(
              db.asUser({ userId: crypto.randomUUID() }, (sql) => sql`select 1 / 0`),
              { code: "22012" },
            );
            await assert.rejects(db.asApp.unsafe("select 1 / 0"), { code: "22012" });
          }
          assert.equal(await role(db), app);
        },
      );

      await t.step(
        "a transaction of which a query failed does nothing, whatever its work says",
        async () => {
          const work = async (sql: Sql) => {
            await sql`select set_config('mooring.test', 'set', false)`;
            await sql`select 1 / 0`.catch(() => {});
          };
          await assert.rejects(db.asApp.begin(work), /A query of the transaction failed/);
          const [{ set }] = await db.asApp`select current_setting('mooring.test', true) as set`;
          assert.ok(!set, "what it did is undone");
        },
      );

      // PGlite is lost with its process alone.
      if (kind.name !== "embedded") {
        await t.step(
          "what a transaction asks after its connection was lost is refused",
          async () => {
            const lost = Promise.withResolvers<void>();
            const late = Promise.withResolvers<unknown>();
            const transaction = db.asUser({ userId: crypto.randomUUID() }, async (sql) => {
              const [{ pid }] = await sql`select pg_backend_pid() as pid`;
              await owner`select pg_terminate_backend(${pid})`;
              await lost.promise;
              late.resolve(await sql`select 1`.catch((error) => error));
            });
            await assert.rejects(transaction, { code: "CONNECTION_CLOSED" });
            // Who has the connection next: a transaction that is open while the late query comes.
            await db.asUser({ userId: crypto.randomUUID() }, async (sql) => {
              lost.resolve();
              assert.match(String(await late.promise), /CONNECTION_ENDED/);
              await sql`select 1`;
            });
            assert.equal(await role(db), app);
          },
        );

        await t.step(
          "what waits within a transaction that is lost is not done by itself",
          async () => {
            const told: string[] = [];
            const { unlisten } = await owner.listen("late", (text) => told.push(text));
            const there = new URL(url!), through = new URL(url!);
            const proxy = tcpProxy(Number(there.port));
            through.port = String(proxy.port);
            const other = connect({ url: through.href, max: 1 });
            await role(other);
            await owner.begin(async (locking) => {
              await locking`lock table servers`;
              // The second waits until the server has described the first, which waits for the lock.
              const both = other.asApp.begin((sql) =>
                Promise.all([
                  sql`select ${"first"}::text from servers`,
                  sql`select pg_notify('late', ${"second"})`,
                ])
              );
              both.catch(() => {});
              const waits = () =>
                locking`select from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock'`;
              while ((await waits()).length === 0) await delay(10);
              proxy.cut();
              await assert.rejects(both, { code: "CONNECTION_CLOSED" });
            });
            // In which it would connect anew.
            await delay(300);
            await owner`select pg_notify('late', 'ours')`;
            while (told.length === 0) await delay(10);
            assert.deepEqual(told, ["ours"]);
            await other.close();
            proxy.close();
            await unlisten();
          },
        );

        await t.step("who waits while the database is away has the next connection", async () => {
          const there = new URL(url!), away = new URL(url!);
          away.port = String(freePort());
          const other = connect({ url: away.href, max: 1 });
          const first = other.asApp`select 1`, second = role(other);
          second.catch(() => {});
          await assert.rejects(first, { code: "ECONNREFUSED" });
          const proxy = tcpProxy(Number(there.port), Number(away.port));
          assert.equal(await second, app);
          await other.close();
          proxy.close();
        });

        await t.step(
          "connections lost at any moment end what they did, and nothing else",
          async () => {
            let left = 2000, lost = 0, done = 0;
            const people = Array.from({ length: 20 }, async (_, index) => {
              const [ask, expected] = index % 2 ? [role, app] : [roleOfPerson, "authenticated"];
              while (left-- > 0) {
                const as = await ask(db).catch(() => null);
                if (as === null) lost++;
                else done++, assert.equal(as, expected);
              }
            });
            const all = Promise.all(people);
            while (left > 0) {
              await owner`select pg_terminate_backend(pid) from pg_stat_activity
              where pid <> pg_backend_pid() and datname = current_database()`;
              // So many that a slow machine does more than it loses.
              for (const until = done + 50; left > 0 && done < until;) await delay(1);
            }
            await all;
            assert.ok(lost > 0 && done > lost, `${lost} were lost, ${done} done`);
            assert.equal(await role(db), app);
          },
        );
      }

      await t.step(
        "what is under way when the database is closed is done, and nobody waits for ever",
        async () => {
          const slow = db.asApp.begin(async (sql) => {
            await sql`select 1`;
            await delay(200);
            return await sql<{ two: number }[]>`select 2 as two`;
          });
          // Of which two wait for the first.
          const within = db.asApp.begin((sql) =>
            Promise.all(["a", "b", "c"].map((text) => sql`select pg_sleep(0.1), ${text}::text`))
          );
          const waiting = Array.from({ length: 50 }, () => roleOfPerson(db));
          const all = Promise.allSettled([within, ...waiting]);
          await delay(50);
          const closing = db.close();
          assert.equal((await slow)[0].two, 2);
          for (const each of await all) {
            if (each.status === "rejected") assert.equal(each.reason.code, "CONNECTION_ENDED");
          }
          await closing;
          await assert.rejects(role(db), { code: "CONNECTION_ENDED" });
        },
      );
      await close();
    },
  });
}

Deno.test({
  name: "behind a pooler no query is sent before the one before it has its answer",
  ignore: SUPABASE.ignore,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const database = await SUPABASE.open();
    const url = new URL(database.url!);
    const watched = watch(Number(url.port));
    url.port = String(watched.port);
    const db = connect({ url: url.href, pooled: true, max: 3 });
    const all = await Promise.all(Array.from({ length: 200 }, (_, index) => {
      // Without a parameter, with which postgres.js waits for the server to describe the query.
      return index % 3 ? role(db) : roleOfPerson(db);
    }));
    await db.asApp.begin((sql) =>
      Promise.all([sql`set local work_mem = '8MB'`, sql`select ${1}::int`, sql`select 1`])
    );
    assert.equal(all.length, 200);
    assert.ok(watched.answers >= 200, `${watched.answers} answers were seen`);
    assert.equal(watched.most, 1);
    await db.close();
    watched.close();
    await database.close();
  },
});

/**
 * Forwards to a Postgres on the loopback address and counts how many queries a connection has without
 * an answer: Query ('Q') and Parse ('P') begin one, ReadyForQuery ('Z') ends it; protocol 3.0, "Message Formats".
 */
function watch(port: number) {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const seen = { port: listener.addr.port, most: 0, answers: 0, close: () => listener.close() };
  (async () => {
    for await (const near of listener) {
      const far = await Deno.connect({ hostname: "127.0.0.1", port });
      let asked = 0;
      const forward = async (from: Deno.Conn, to: Deno.Conn, onType: (type: string) => void) => {
        // The first message of a client, the StartupMessage, has no type.
        let left = from === near ? -1 : 0, header: number[] = [];
        for await (const chunk of from.readable) {
          for (const byte of chunk) {
            if (left > 0) left--;
            else {
              header.push(byte);
              const typed = left === 0 ? 1 : 0;
              if (header.length < 4 + typed) continue;
              const length = new DataView(Uint8Array.from(header).buffer).getUint32(typed);
              if (typed) onType(String.fromCharCode(header[0]));
              left = length - 4;
              header = [];
            }
          }
          for (let at = 0; at < chunk.length;) at += await to.write(chunk.subarray(at));
        }
      };
      forward(near, far, (type) => {
        if (type === "Q" || type === "P") seen.most = Math.max(seen.most, ++asked);
      }).catch(() => {}).finally(() => far.close());
      forward(far, near, (type) => {
        // The first is the end of the start-up, which no query asked for.
        if (type === "Z" && asked > 0) asked--, seen.answers++;
      }).catch(() => {});
    }
  })();
  return seen;
}
