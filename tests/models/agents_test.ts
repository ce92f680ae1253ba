import assert from "node:assert/strict";
import { v7 } from "uuid";
import {
  agentOfToken,
  connectServer,
  createAgent,
  createToken,
  disconnectServer,
  getAgent,
  listAgents,
  removeAgent,
  renameAgent,
  revokeToken,
} from "../../models/agents.ts";
import { Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { deployServer, removeServer } from "../../models/servers.ts";
import { toolbeltOf } from "../../models/toolbelts.ts";
import { tokenHash } from "../../models/tokens.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `agents, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const deployIn = async (person: { userId: string }, workspace: string, toolbox: string) =>
        (await deployServer(db, person, {
          workspaceId: workspace,
          toolboxId: toolbox,
          slug: "memory",
          form: {},
          idempotencyKey: crypto.randomUUID(),
        }, testKey)).serverId;
      const serverId = await deployIn(user, workspaceId, toolboxId);
      const viewer = await makeUser(world, "viewer@example.com");
      await addMember(world, workspaceId, viewer.userId, "viewer");
      // A stranger with a workspace, a toolbox and a server of their own.
      const stranger = await makeUser(world, "stranger@example.com");
      const other = { workspaceId: v7(), toolboxId: v7() };
      await owner`insert into public.workspaces (id, name) values (${other.workspaceId}, 'Other')`;
      await addMember(world, other.workspaceId, stranger.userId, "owner");
      await owner`insert into public.toolboxes (id, workspace_id, name)
        values (${other.toolboxId}, ${other.workspaceId}, 'Other')`;
      const othersServer = await deployIn(stranger, other.workspaceId, other.toolboxId);

      const agentId = await createAgent(db, user, workspaceId, "  Claude  ");
      const make = (expiresInDays: number | null = null) =>
        createToken(db, user, agentId, { name: "laptop", expiresInDays });

      await t.step(
        "createAgent keeps a trimmed name and refuses an empty or hostile one",
        async () => {
          assert.equal((await getAgent(db, user, agentId)).name, "Claude");
          for (const name of ["", "   ", "x".repeat(81), "a\u0000b", "a\nb"]) {
            await assert.rejects(createAgent(db, user, workspaceId, name), Invalid);
          }
          await renameAgent(db, user, agentId, "'; drop table agents; --");
          assert.equal(
            (await listAgents(db, user, workspaceId))[0].name,
            "'; drop table agents; --",
          );
        },
      );

      await t.step("createToken gives the token once and keeps only its hash", async () => {
        const { id, token } = await make();
        assert.match(token, /^mag_[A-Za-z0-9_-]{43}$/);
        const [row] = await owner<{ token_hash: string }[]>`
          select * from public.agent_tokens where id = ${id}`;
        assert.equal(row.token_hash, await tokenHash(token));
        assert.equal(JSON.stringify(row).includes(token.slice(4)), false);
        const agent = await getAgent(db, user, agentId);
        assert.equal(JSON.stringify(agent).includes(token.slice(4)), false);
        assert.equal(JSON.stringify(agent).includes(row.token_hash), false);
        assert.equal(agent.tokens[0].expiresAt, null);
        assert.equal((await agentOfToken(db, token))?.agentId, agentId);
        assert.ok((await getAgent(db, user, agentId)).tokens[0].lastUsedAt instanceof Date);
      });

      await t.step("agentOfToken gives null for an unknown, revoked or expired token", async () => {
        const unknown = `mag_${"A".repeat(43)}`;
        for (
          const token of ["", "mag_", unknown, "mte_" + "A".repeat(43), unknown + "\n", "\u0000"]
        ) {
          assert.equal(await agentOfToken(db, token), null);
        }
        const revoked = await make();
        await revokeToken(db, user, agentId, revoked.id);
        assert.equal(await agentOfToken(db, revoked.token), null);
        const expiring = await make(1);
        const { expiresAt } = (await agentOfToken(db, expiring.token))!;
        const inDays = (expiresAt!.getTime() - Date.now()) / 86_400_000;
        assert.ok(inDays > 0.9 && inDays < 1.1, `expires in ${inDays} days`);
        await owner`update public.agent_tokens set expires_at = now() - interval '1 second'
          where id = ${expiring.id}`;
        assert.equal(await agentOfToken(db, expiring.token), null);
      });

      await t.step("revokeToken ends the named agent's token alone", async () => {
        const { id, token } = await make();
        const second = await createAgent(db, user, workspaceId, "Second");
        await revokeToken(db, user, second, id);
        assert.notEqual(await agentOfToken(db, token), null);
        await removeAgent(db, user, second);
      });

      await t.step("connectServer connects once, and disconnectServer takes it back", async () => {
        await connectServer(db, user, agentId, serverId);
        await connectServer(db, user, agentId, serverId);
        assert.deepEqual(
          (await getAgent(db, user, agentId)).connections.map((c) => c.serverId),
          [serverId],
        );
        assert.deepEqual((await toolbeltOf(db, agentId)).servers.map((s) => s.serverId), [
          serverId,
        ]);
        await disconnectServer(db, user, agentId, serverId);
        assert.deepEqual((await toolbeltOf(db, agentId)).servers, []);
      });

      await t.step(
        "connectServer finds no server of another workspace and no removed one",
        async () => {
          for (const id of [othersServer, v7()]) {
            await assert.rejects(connectServer(db, user, agentId, id), NotFound);
          }
          // A person of both workspaces is no bridge between them.
          const both = await makeUser(world, "both@example.com");
          await addMember(world, workspaceId, both.userId, "owner");
          await addMember(world, other.workspaceId, both.userId, "owner");
          await assert.rejects(connectServer(db, both, agentId, othersServer), NotFound);
          await assert.rejects(
            db.asUser(both, (sql) =>
              sql`insert into connections (agent_id, server_id, workspace_id)
              values (${agentId}, ${othersServer}, ${workspaceId})`),
            { code: "23503" },
          );
          const removed = await deployIn(user, workspaceId, toolboxId);
          await removeServer(db, user, removed);
          await assert.rejects(connectServer(db, user, agentId, removed), NotFound);
        },
      );

      await t.step("a viewer sees agents and may change none", async () => {
        const { id } = await make();
        assert.equal((await getAgent(db, viewer, agentId)).id, agentId);
        const attempts: (() => Promise<unknown>)[] = [
          () => createAgent(db, viewer, workspaceId, "x"),
          () => renameAgent(db, viewer, agentId, "x"),
          () => removeAgent(db, viewer, agentId),
          () => createToken(db, viewer, agentId, { name: "x", expiresInDays: null }),
          () => revokeToken(db, viewer, agentId, id),
          () => connectServer(db, viewer, agentId, serverId),
          () => disconnectServer(db, viewer, agentId, serverId),
        ];
        for (const attempt of attempts) await assert.rejects(attempt(), Forbidden);
      });

      await t.step("a stranger finds no agent", async () => {
        assert.deepEqual(await listAgents(db, stranger, workspaceId), []);
        const attempts: (() => Promise<unknown>)[] = [
          () => getAgent(db, stranger, agentId),
          () => renameAgent(db, stranger, agentId, "x"),
          () => removeAgent(db, stranger, agentId),
          () => createToken(db, stranger, agentId, { name: "x", expiresInDays: null }),
          () => connectServer(db, stranger, agentId, othersServer),
        ];
        for (const attempt of attempts) await assert.rejects(attempt(), NotFound);
        await assert.rejects(createAgent(db, stranger, workspaceId, "x"), Forbidden);
      });

      await t.step("removeAgent ends its tokens", async () => {
        const { token } = await make();
        await removeAgent(db, user, agentId);
        assert.equal(await agentOfToken(db, token), null);
        await assert.rejects(getAgent(db, user, agentId), NotFound);
      });

      await world.close();
    },
  });
}
