/** What waits for the same rows takes them in one order: else each waits for the other, and Postgres ends one. */
import assert from "node:assert/strict";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { connectAsOwner } from "../../models/db.ts";
import { deployServer, getServer, reconfigureServer } from "../../models/servers.ts";
import { approveTools, listTools, withdrawApproval } from "../../models/tools.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";
import { observation, reports } from "./observation.ts";

type Tag = (texts: TemplateStringsArray, ...values: string[]) => PromiseLike<unknown>;

for (const kind of KINDS) {
  Deno.test({
    name: `nobody waits in a circle, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const SECRET = "env.GITHUB_PERSONAL_ACCESS_TOKEN";
      const form = { [SECRET]: "first" };
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug: "github",
        form,
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      const report = reports(db, toolboxId);
      const tools = (revision: number) =>
        Array.from({ length: 150 }, (_, n) => ({ name: `tool-${n}`, description: `${revision}` }));
      const listing = (revision: number, isReversed = false) => {
        const listed = tools(revision);
        return report({
          observations: [observation(serverId, 1, isReversed ? listed.reverse() : listed)],
        });
      };

      await t.step("approvals of the same tools, each in an order of its own", async () => {
        await listing(1);
        const seen = await listTools(db, user, serverId);
        const names = seen.map(({ name }) => name);
        for (let round = 0; round < 4; round++) {
          await Promise.all([
            approveTools(db, user, serverId, seen),
            approveTools(db, user, serverId, seen.toReversed()),
            withdrawApproval(db, user, serverId, names.toReversed()),
            approveTools(db, user, serverId, seen.toSorted(() => Math.random() - 0.5)),
          ]);
        }
      });

      await t.step("an approval, and a report of what the server lists by then", async () => {
        for (let revision = 2; revision < 6; revision++) {
          const seen = await listTools(db, user, serverId);
          await Promise.all([
            listing(revision, revision % 2 === 0),
            // Of those that changed meanwhile it is told so.
            approveTools(db, user, serverId, seen).catch((error) =>
              assert.equal(error.name, "Conflict", String(error))
            ),
          ]);
        }
      });

      await t.step("a report that rolls a server back, and a person who changes it", async () => {
        await reconfigureServer(db, user, serverId, { form, baseGeneration: 1 }, testKey);
        const seen = observation(serverId, 2, null, "failed");
        let reported: Promise<boolean>;
        await db.asUser(user, async (sql) => {
          await sql`select from servers where id = ${serverId} for no key update`;
          reported = report({ observations: [{ ...seen, gaveUp: true }] });
          reported.catch(() => {}); // told below
          await new Promise((resolve) => setTimeout(resolve, 300));
          await sql`update servers set running = false where id = ${serverId}`;
        });
        assert.equal(await reported!, true);
        assert.equal((await getServer(db, user, serverId)).running, false);
      });

      await t.step("a report of a refused call, and the renewal of its account", async () => {
        await owner`
          insert into public.authorizations (server_id, workspace_id, state, key_id, iv, ciphertext,
            renewed_at)
          values (${serverId}, ${workspaceId}, 'signed_in', 'k', 'x', 'x', now() - interval '1 hour')`;
        const [tool] = await listTools(db, user, serverId);
        const { generation } = await getServer(db, user, serverId);
        const pause = () => new Promise((resolve) => setTimeout(resolve, 200));
        let reported: Promise<boolean>, renewed: Promise<unknown>;
        // Holds the report up where it holds the toolbox.
        await db.asUser(user, async (sql) => {
          await sql`update tools set approved_at = now()
            where server_id = ${serverId} and name = ${tool.name}`;
          reported = report({
            observations: [observation(serverId, generation, tools(99))],
            refusals: [{ serverId, status: 401 }],
          });
          reported.catch(() => {}); // told below
          await pause();
          renewed = db.asToolbox(
            toolboxId,
            (sql) => sql`update authorizations set version = version + 1 where id = ${serverId}`,
          );
          renewed.catch(() => {}); // told below
          await pause();
        });
        assert.equal(await reported!, true);
        await renewed!;
      });

      // The embedded database has one session, so that nothing of it runs at once.
      const isServer = kind.name === "server";
      const sessions = isServer ? [1, 2].map(() => connectAsOwner({ url: world.url! })) : [];
      let entries = 0;
      const addEntry = (summary: string) =>
        owner`insert into public.catalog_entries (id, workspace_id, source, slug, entry)
          values (${crypto.randomUUID()}, ${workspaceId}, 'made', ${`made-${++entries}`},
            ${owner.json({ ...builtin[0], title: "Made", summary })})`;
      const refresh = async (sql: Tag) =>
        await sql`select mooring.refresh_catalog_words(${workspaceId})`;

      await t.step({
        name: "syncs of two sources with the same words, which Postgres plans in two ways",
        ignore: !isServer,
        async fn() {
          // Letters alone, as words are.
          const words = Array.from(
            { length: 3000 },
            (_, n) => "word" + [...String(n)].map((digit) => "abcdefghij"[Number(digit)]).join(""),
          ).join(" ");
          await addEntry(words);
          let ready = 0;
          const bothAreReady = Promise.withResolvers<void>();
          await Promise.all(
            ["enable_hashagg", "enable_sort"].map((setting, n) =>
              sessions[n].begin(async (sql) => {
                await sql`select set_config(${setting}, 'off', true)`;
                if (++ready === 2) bothAreReady.resolve();
                await bothAreReady.promise;
                await refresh(sql);
              })
            ),
          );
        },
      });

      await t.step({
        name: "a word that one sync takes away, and another one's entries have by then",
        ignore: !isServer,
        async fn() {
          const wordsNow = async () =>
            (await owner<{ word: string }[]>`
              select word from mooring.catalog_words
              where workspace_id = ${workspaceId}`).map(({ word }) => word);
          await addEntry("");
          await addEntry("harbour lantern");
          await refresh(owner);
          await owner`delete from public.catalog_entries
            where workspace_id = ${workspaceId} and entry ->> 'summary' = 'harbour lantern'`;
          const pause = () => new Promise((resolve) => setTimeout(resolve, 300));
          let first: Promise<unknown>, second: Promise<unknown>;
          // Holds the first up between its look and what it takes away.
          await sessions[0].begin(async (sql) => {
            await sql`select from mooring.catalog_words
              where workspace_id = ${workspaceId} and word = 'harbour' for update`;
            first = refresh(db.asApp);
            first.catch(() => {}); // told below
            await pause();
            await addEntry("lantern");
            second = refresh(db.asApp);
            second.catch(() => {}); // told below
            await pause();
          });
          await Promise.all([first!, second!]);
          assert.ok((await wordsNow()).includes("lantern"));
          assert.ok(!(await wordsNow()).includes("harbour"));
        },
      });
      for (const session of sessions) await session.end();

      await world.close();
    },
  });
}
