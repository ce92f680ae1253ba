/** What waits for the same rows takes them in one order: else each waits for the other, and Postgres ends one. */
import assert from "node:assert/strict";
import { deployServer, getServer, reconfigureServer } from "../../models/servers.ts";
import { approveTools, listTools, withdrawApproval } from "../../models/tools.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";
import { observation, reports } from "./observation.ts";

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

      await world.close();
    },
  });
}
