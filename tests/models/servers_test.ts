import assert from "node:assert/strict";
import { v7 } from "uuid";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { Conflict, Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import { listGenerations } from "../../models/generations.ts";
import {
  deployServer,
  getServer,
  listServers,
  reconfigureServer,
  removeServer,
  runServer,
  stopServer,
} from "../../models/servers.ts";
import { desiredOf } from "../../models/toolboxes.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `servers, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const github = (
        form: Record<string, string> = {},
        idempotencyKey: string = crypto.randomUUID(),
      ) =>
        deployServer(
          db,
          user,
          { workspaceId, toolboxId, slug: "github", form, idempotencyKey },
          testKey,
        );
      const secretField = "env.GITHUB_PERSONAL_ACCESS_TOKEN";

      await t.step(
        "deployServer makes one server of 1,000 concurrent forms with one key",
        async () => {
          const key = crypto.randomUUID();
          const made = await Promise.all(
            Array.from({ length: 1000 }, () => github({ [secretField]: "ghp_secret" }, key)),
          );
          assert.equal(new Set(made.map((m) => m.serverId)).size, 1);
          assert.equal(made.filter((m) => m.created).length, 1);
          assert.equal((await listServers(db, user, workspaceId)).length, 1);
        },
      );

      await t.step("deployServer brings nothing back for a click that comes late", async () => {
        const key = crypto.randomUUID();
        const { serverId } = await github({ [secretField]: "ghp_secret" }, key);
        await removeServer(db, user, serverId);
        assert.deepEqual(await github({}, key), { serverId, created: false });
        await owner`delete from public.servers where id = ${serverId}`;
        assert.deepEqual(await github({}, key), { serverId, created: false });
        await assert.rejects(getServer(db, user, serverId), NotFound);
        assert.equal(
          (await listServers(db, user, workspaceId)).some((s) => s.id === serverId),
          false,
        );
      });

      await t.step("deployServer makes a server of each of 20 forms at once", async () => {
        const made = await Promise.all(Array.from({ length: 20 }, () =>
          deployServer(db, user, {
            workspaceId,
            toolboxId,
            slug: "memory",
            name: "Crème & <b>brûlée</b>",
            form: {},
            idempotencyKey: crypto.randomUUID(),
          }, testKey)));
        const servers = (await listServers(db, user, workspaceId))
          .filter(({ id }) => made.some(({ serverId }) => serverId === id));
        assert.equal(new Set(servers.map(({ slug }) => slug)).size, 20);
        assert.equal(servers.some(({ slug }) => slug === "creme-b-brulee-b"), true);
        for (const { id } of servers) await removeServer(db, user, id);
        await owner`delete from public.servers where removed_at is not null`;
      });

      await t.step("deployServer names each wrong field", async () => {
        const mistakes = async (form: Record<string, string>) => {
          try {
            await github(form);
          } catch (error) {
            assert.ok(error instanceof Invalid, String(error));
            return error.fields;
          }
          return {};
        };
        assert.match((await mistakes({}))[secretField], /is needed/);
        assert.match((await mistakes({ [secretField]: "  " }))[secretField], /is needed/);
        assert.match(
          (await mistakes({ [secretField]: "x".repeat(1_000_000) }))[secretField],
          /too long/,
        );
        assert.match((await mistakes({ [secretField]: "a\u0000b" }))[secretField], /NUL/);
        assert.equal((await listServers(db, user, workspaceId)).length, 1);
      });

      await t.step("deployServer keeps hostile text as text", async () => {
        const name = `<script>alert("1")</script> '; drop table servers; --`;
        const { serverId } = await deployServer(db, user, {
          workspaceId,
          toolboxId,
          slug: "filesystem",
          name,
          form: {},
          idempotencyKey: crypto.randomUUID(),
        }, testKey);
        const server = await getServer(db, user, serverId);
        assert.equal(server.name, name);
        assert.match(server.slug, /^[a-z0-9-]+$/);
        await removeServer(db, user, serverId);
      });

      const { serverId } = await github({ [secretField]: "ghp_first" });

      await t.step("getServer tells four layers before anything was seen", async () => {
        const server = await getServer(db, user, serverId);
        assert.equal(server.slug, "github-2");
        assert.deepEqual(Object.keys(server.layers), ["image", "container", "handshake", "tools"]);
        assert.equal(server.status, "toolbox_unreachable");
        assert.match(server.statusDetail, /has not been heard of yet/);
        assert.equal(JSON.stringify(server).includes("ghp_first"), false);
      });

      const secretNow = async () =>
        (await desiredOf(db, toolboxId, testKey)).servers.find((s) => s.serverId === serverId)!
          .secrets;

      await t.step("reconfigureServer keeps a secret that is left empty", async () => {
        const before = await getServer(db, user, serverId);
        await reconfigureServer(db, user, serverId, { form: {}, baseGeneration: 1 }, testKey);
        assert.equal(
          (await getServer(db, user, serverId)).generation,
          1,
          "no difference, no generation",
        );
        await reconfigureServer(
          db,
          user,
          serverId,
          { form: { [secretField]: "ghp_second" }, baseGeneration: before.generation },
          testKey,
        );
        assert.equal((await getServer(db, user, serverId)).generation, 2);
        assert.deepEqual(await secretNow(), { GITHUB_PERSONAL_ACCESS_TOKEN: "ghp_second" });
        assert.equal((await listGenerations(db, user, serverId)).length, 2);
      });

      await t.step("reconfigureServer makes nothing of the same values, in any order", async () => {
        const entry = {
          ...builtin.find(({ slug }) => slug === "memory"),
          slug: "many",
          environment: [{ name: "LONGER" }, { name: "A" }, { name: "__proto__" }],
        };
        await owner`insert into public.catalog_entries (id, workspace_id, source, slug, entry)
          values (${v7()}, ${workspaceId}, 'test', 'many', ${JSON.stringify(entry)}::text::jsonb)`;
        const form = { "env.LONGER": "1", "env.A": "2", "env.__proto__": "<3>" };
        const { serverId } = await deployServer(db, user, {
          workspaceId,
          toolboxId,
          slug: "many",
          form,
          idempotencyKey: crypto.randomUUID(),
        }, testKey);
        const reconfigure = (form: Record<string, string>) =>
          reconfigureServer(db, user, serverId, { form, baseGeneration: 1 }, testKey);
        await reconfigure(form);
        assert.equal((await getServer(db, user, serverId)).generation, 1);
        await reconfigure({ ...form, "env.A": "3" });
        assert.equal((await getServer(db, user, serverId)).generation, 2);
        await removeServer(db, user, serverId);
      });

      await t.step("reconfigureServer refuses a form of an older generation", async () => {
        await assert.rejects(
          reconfigureServer(db, user, serverId, { form: {}, baseGeneration: 1 }, testKey),
          Conflict,
        );
      });

      await t.step("stopServer and runServer are idempotent and write one event each", async () => {
        const count = async () => (await listEvents(db, user, { serverId })).length;
        const before = await count();
        await stopServer(db, user, serverId);
        await stopServer(db, user, serverId);
        assert.equal(await count(), before + 1);
        assert.equal(
          (await desiredOf(db, toolboxId, testKey)).servers
            .find((s) => s.serverId === serverId)!.running,
          false,
        );
        await runServer(db, user, serverId);
        await runServer(db, user, serverId);
        assert.equal(await count(), before + 2);
      });

      await t.step("stopServer does not deadlock with a report on its server", async () => {
        let stopped: Promise<void>;
        await db.asToolbox(toolboxId, async (sql) => {
          await sql`update toolboxes set last_seen_at = now()`;
          stopped = stopServer(db, user, serverId); // which waits for this toolbox's row
          stopped.catch(() => {}); // told below
          await new Promise((resolve) => setTimeout(resolve, 300));
          await sql`insert into tools (server_id, workspace_id, name, definition, hash)
            values (${serverId}, ${workspaceId}, 'new', '{}', 'h')`;
        });
        await stopped!;
        assert.equal((await getServer(db, user, serverId)).running, false);
        await runServer(db, user, serverId);
      });

      await t.step("a stranger finds nothing and a viewer changes nothing", async () => {
        const stranger = await makeUser(world, `stranger-${kind.name}@example.com`);
        const viewer = await makeUser(world, `viewer-${kind.name}@example.com`);
        await addMember(world, workspaceId, viewer.userId, "viewer");
        await assert.rejects(getServer(db, stranger, serverId), NotFound);
        await assert.rejects(stopServer(db, stranger, serverId), NotFound);
        assert.deepEqual(await listServers(db, stranger, workspaceId), []);
        assert.equal((await getServer(db, viewer, serverId)).id, serverId);
        await assert.rejects(stopServer(db, viewer, serverId), Forbidden);
        await assert.rejects(
          deployServer(db, viewer, {
            workspaceId,
            toolboxId,
            slug: "filesystem",
            form: {},
            idempotencyKey: crypto.randomUUID(),
          }, testKey),
          Forbidden,
        );
      });

      await t.step("removeServer takes the server out of what its toolbox should run", async () => {
        await removeServer(db, user, serverId);
        await removeServer(db, user, serverId);
        assert.equal((await getServer(db, user, serverId)).removedAt instanceof Date, true);
        const { servers } = await desiredOf(db, toolboxId, testKey);
        assert.equal(servers.some((s) => s.serverId === serverId), false);
        const { generation } = await getServer(db, user, serverId);
        const events = (await listEvents(db, user, { serverId })).length;
        await assert.rejects(runServer(db, user, serverId), Conflict);
        await assert.rejects(
          reconfigureServer(db, user, serverId, { form: {}, baseGeneration: generation }, testKey),
          Conflict,
        );
        await stopServer(db, user, serverId);
        const { running, ...after } = await getServer(db, user, serverId);
        assert.deepEqual([running, after.generation], [false, generation]);
        assert.equal((await listEvents(db, user, { serverId })).length, events);
      });

      await world.close();
    },
  });
}
