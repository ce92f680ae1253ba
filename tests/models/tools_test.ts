import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { v7 } from "uuid";
import { canonicalHash } from "../../dtma/protocol.ts";
import { connectServer, createAgent } from "../../models/agents.ts";
import { Conflict, Forbidden, NotFound } from "../../models/errors.ts";
import { deployServer } from "../../models/servers.ts";
import { toolbeltOf, toolForTrial } from "../../models/toolbelts.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { approveTools, getTool, listTools, withdrawApproval } from "../../models/tools.ts";
import { visibleText } from "../../views/visible_text.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `tools, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, workspaceId, toolboxId } = world;
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug: "everything",
        form: {},
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      const agentId = await createAgent(db, user, workspaceId, "Agent");
      await connectServer(db, user, agentId, serverId);
      const epoch = v7();
      let sequence = 0;
      const report = (...tools: { name: string; description?: string }[]) =>
        acceptReport(db, toolboxId, {
          epoch,
          sequence: ++sequence,
          observations: [observation(serverId, 1, tools)],
          events: [],
          removed: [],
        });
      const served = async () => (await toolbeltOf(db, agentId)).tools.map(({ name }) => name);
      const hashOf = async (name: string) => (await getTool(db, user, serverId, name)).hash;

      await t.step("toolbeltOf gives nothing that is not approved", async () => {
        await report({ name: "a" }, { name: "b" });
        assert.deepEqual(await served(), []);
        await approveTools(db, user, serverId, [{ name: "a", hash: await hashOf("a") }]);
        assert.deepEqual(await served(), ["a"]);
      });

      await t.step("a changed definition is withheld until it is approved again", async () => {
        await report({ name: "a", description: "new" }, { name: "b" });
        assert.deepEqual(await served(), []);
        const tool = await getTool(db, user, serverId, "a");
        assert.equal(tool.state, "changed");
        assert.deepEqual(tool.approvedDefinition, { name: "a" });
        await approveTools(db, user, serverId, [{ name: "a", hash: tool.hash }]);
        assert.deepEqual(await served(), ["a"]);
      });

      await t.step(
        "approveTools refuses a definition that changed since it was read, and takes the rest",
        async () => {
          const seen = await listTools(db, user, serverId);
          await withdrawApproval(db, user, serverId, ["a"]);
          await report({ name: "a", description: "newer" }, { name: "b" });
          await assert.rejects(approveTools(db, user, serverId, seen), (error) => {
            assert.ok(error instanceof Conflict);
            assert.match(error.message, /not approved: a\./);
            return true;
          });
          assert.deepEqual(await served(), ["b"]);
        },
      );

      await t.step("toolForTrial gives members what is approved, as it is", async () => {
        assert.equal((await toolForTrial(db, user, serverId, "b")).tool.hash, await hashOf("b"));
        await assert.rejects(toolForTrial(db, user, serverId, "a"), Conflict);
        await assert.rejects(toolForTrial(db, user, serverId, "none"), NotFound);
      });

      await t.step("viewers approve and try nothing, strangers find nothing", async () => {
        const viewer = await makeUser(world, "viewer@example.com");
        const stranger = await makeUser(world, "stranger@example.com");
        await addMember(world, workspaceId, viewer.userId, "viewer");
        const pick = [{ name: "a", hash: await hashOf("a") }];
        await assert.rejects(approveTools(db, viewer, serverId, pick), Forbidden);
        await assert.rejects(approveTools(db, stranger, serverId, pick), NotFound);
        await assert.rejects(toolForTrial(db, viewer, serverId, "b"), Forbidden);
        await assert.rejects(toolForTrial(db, stranger, serverId, "b"), NotFound);
      });

      await world.close();
    },
  });
}

Deno.test("canonicalHash does not depend on the order of keys", async () => {
  const shuffled = (value: unknown): unknown =>
    Array.isArray(value)
      ? value.map(shuffled)
      : typeof value === "object" && value !== null
      ? Object.fromEntries(
        Object.entries(value).reverse().map(([key, item]) => [key, shuffled(item)]),
      )
      : value;
  await fc.assert(
    fc.asyncProperty(fc.dictionary(fc.string(), fc.jsonValue()), async (inputSchema) => {
      const tool = { name: "x", inputSchema: { ...inputSchema } };
      assert.equal(await canonicalHash(tool), await canonicalHash(shuffled(tool) as typeof tool));
    }),
  );
});

Deno.test("canonicalHash depends on each part that an agent acts on", async () => {
  const tool = {
    name: "n",
    title: "t",
    description: "d",
    inputSchema: { a: [1, 2] },
    outputSchema: {},
    annotations: { readOnlyHint: true },
  };
  const hash = await canonicalHash(tool);
  const changed = [
    { name: "m" },
    { title: "u" },
    { description: "e" },
    { inputSchema: { a: [2, 1] } },
    { outputSchema: { b: 1 } },
    { annotations: { readOnlyHint: false } },
  ];
  for (const change of changed) assert.notEqual(await canonicalHash({ ...tool, ...change }), hash);
});

Deno.test("visibleText shows what would not be seen", () => {
  assert.equal(
    visibleText("a\u202Eb\u200Bc\u0000\u{E0041}"),
    "a[U+202E]b[U+200B]c[U+0000][U+E0041]",
  );
  assert.equal(visibleText("Grüße,\n\t世界 👋"), "Grüße,\n\t世界 👋");
});
