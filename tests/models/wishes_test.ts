import assert from "node:assert/strict";
import { createAgent, getAgent, removeAgent } from "../../models/agents.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import { grantManagement, managerOf } from "../../models/management_grants.ts";
import { getServer, listServers, removeServer } from "../../models/servers.ts";
import { acceptReport, desiredOf, enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { findCatalogEntry } from "../../models/catalog_entries.ts";
import {
  approveWish,
  type Asked,
  getWish,
  listWishes,
  makeWish,
  rejectWish,
  wishOfAgent,
  withdrawWish,
} from "../../models/wishes.ts";
import { workspacesOf } from "../../models/workspaces.ts";
import { FACTS } from "../routes/api/app.ts";
import { v7 } from "uuid";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

const TOKEN = "env.GITHUB_PERSONAL_ACCESS_TOKEN";

for (const kind of KINDS) {
  Deno.test({
    name: `agents' wishes, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      await enrolToolbox(db, {
        token: world.enrolmentToken,
        publicKey: "k".repeat(43),
        facts: FACTS,
      });
      await touchToolbox(db, toolboxId, FACTS);
      const agentId = await createAgent(db, user, workspaceId, "Claude");
      const agent = { agentId, workspaceId };
      const all = ["read", "servers:write", "agents:write"];
      const grant = (scopes = all, asks = all) =>
        grantManagement(db, user, agentId, { scopes, asks });
      await grant();
      const [viewer, member] = await Promise.all(["viewer", "member"].map(async (role) => {
        const person = await makeUser(world, `${role}@wishes.example`);
        await addMember(world, workspaceId, person.userId, role);
        return person;
      }));
      const stranger = await makeUser(world, "stranger@wishes.example");

      const ask = async (slug: string, given: Partial<Extract<Asked, { entry: string }>> = {}) =>
        await makeWish(db, agent, {
          asked: { operation: "deploy_server", entry: slug, name: slug, values: {}, ...given },
          basis: { entry: (await findCatalogEntry(db, user, slug)).entry },
          wants: `deploy ${slug}`,
          reason: "I need it",
        });
      const askToConnect = (serverId: string, as = agent) =>
        makeWish(db, as, {
          asked: { operation: "connect_server", serverId },
          basis: { server: { name: "x", slug: "x" } },
          wants: "connect itself to x",
          reason: null,
        });
      const approve = async (
        id: string,
        { form = {}, as = user, version }: {
          form?: Record<string, string>;
          as?: { userId: string };
          version?: string;
        } = {},
      ) =>
        await approveWish({ db, secretsKey: testKey }, as, id, {
          version: version ?? (await getWish(db, user, id)).version,
          form,
        });
      const servers = () => listServers(db, user, workspaceId);
      const said = async () =>
        (await listEvents(db, user, { workspaceId, layer: "workspace" })).map(({ message }) =>
          message
        );
      const expire = (id: string) =>
        owner`update public.wishes set expires_at = now() - interval '1 s' where id = ${id}`;

      await t.step("what an agent may is said in the workspace's events, once each", async () => {
        assert.deepEqual((await managerOf(db, agentId))?.asks, ["servers:write", "agents:write"]);
        await grant(all, []);
        assert.deepEqual((await managerOf(db, agentId))?.asks, []);
        await grant([], []);
        assert.deepEqual((await said()).slice(0, 3), [
          "Claude may not manage Mooring any more",
          "Claude may manage Mooring: read, deploy servers, connect itself to servers",
          "Claude may manage Mooring: read, deploy servers when a person approves, " +
          "connect itself to servers when a person approves",
        ]);
        await grant();
      });

      await t.step("an identical wish that is open is the same, and is counted", async () => {
        const first = await ask("memory"), again = await ask("memory");
        assert.equal(again.id, first.id);
        assert.notEqual((await ask("memory", { name: "Another" })).id, first.id);
        const open = await listWishes(db, user, workspaceId, { isOpen: true });
        assert.deepEqual(open.map(({ agentName, reason }) => [agentName, reason]), [
          ["Claude", "I need it"],
          ["Claude", "I need it"],
        ]);
        assert.equal((await workspacesOf(db, user))[0].openWishes, 2);
        assert.match((await said())[0], /^Claude asks to deploy memory$/);
        for (const wish of open) await withdrawWish(db, agentId, wish.id);
        assert.equal((await workspacesOf(db, user))[0].openWishes, 0);
      });

      await t.step("only its agent reads and withdraws it, only its people see it", async () => {
        const other = await createAgent(db, user, workspaceId, "Other");
        const { id } = await ask("memory");
        await assert.rejects(wishOfAgent(db, other, id), NotFound);
        await assert.rejects(withdrawWish(db, other, id), NotFound);
        await assert.rejects(getWish(db, stranger, id), NotFound);
        await assert.rejects(approve(id, { as: stranger }), NotFound);
        await assert.rejects(rejectWish(db, stranger, id, ""), NotFound);
        await assert.rejects(makeWish(db, { agentId: other, workspaceId }, {
          asked: { operation: "connect_server", serverId: crypto.randomUUID() },
          basis: { server: { name: "x", slug: "x" } },
          wants: "x",
          reason: null,
        }));
        assert.equal((await withdrawWish(db, agentId, id)).state, "withdrawn");
        await assert.rejects(approve(id), Conflict);
      });

      await t.step("a viewer decides nothing, and nothing is done", async () => {
        const { id } = await ask("memory");
        await assert.rejects(approve(id, { as: viewer }), Forbidden);
        await assert.rejects(rejectWish(db, viewer, id, "no"), Forbidden);
        assert.equal((await servers()).length, 0);
        assert.equal((await getWish(db, viewer, id)).state, "open");
      });

      await t.step(
        "approved it is done as the person, once, whoever approves as well",
        async () => {
          const { id } = await ask("memory");
          const { version } = await getWish(db, user, id);
          const results = await Promise.all(
            [user, member, user, member].map((as) => approve(id, { as, version })),
          );
          assert.equal(new Set(results.map(({ serverId }) => serverId)).size, 1);
          const [server, ...others] = await servers();
          assert.deepEqual(others, []);
          const wish = await wishOfAgent(db, agentId, id);
          assert.deepEqual([wish.state, wish.serverId], ["approved", server.id]);
          const decided = (await said()).filter((each) => each.startsWith("Approved"));
          assert.deepEqual(decided, ["Approved what Claude asked for: to deploy memory"]);
          assert.equal((await approve(id)).serverId, server.id, "a late click");
          await assert.rejects(rejectWish(db, user, id, ""), Conflict);
          assert.equal((await withdrawWish(db, agentId, id)).state, "approved");
        },
      );

      await t.step("a secret is the person's to give, and nothing else of the form", async () => {
        const { id } = await ask("github");
        await assert.rejects(approve(id), Invalid);
        assert.equal((await getWish(db, user, id)).state, "open", "a mistake leaves it open");
        const form = { [TOKEN]: "ghp_typed", "option.memoryMiB": "9999", name: "Mine" };
        const { serverId } = await approve(id, { form });
        const { name, config } = await getServer(db, user, serverId!);
        assert.equal(name, "github");
        assert.equal(config.options.memoryMiB, null);
        const { servers: specs } = await desiredOf(db, toolboxId, testKey);
        assert.match(JSON.stringify(specs), /ghp_typed/);
        assert.doesNotMatch(JSON.stringify(await getWish(db, user, id)), /ghp_typed/);
      });

      await t.step("an entry that changed is not what the person saw", async () => {
        const { id } = await ask("everything");
        const before = await getWish(db, user, id);
        assert.equal(before.isChanged, false);
        await owner`
          update public.catalog_entries set entry = jsonb_set(entry, '{network,hosts}', '["evil.example:443"]')
          where slug = 'everything'`;
        await assert.rejects(approve(id, { version: before.version }), Conflict);
        const now = await getWish(db, user, id);
        assert.equal(now.isChanged, true);
        const { serverId } = await approve(id, { version: now.version });
        const { config } = await getServer(db, user, serverId!);
        assert.deepEqual(config.entry.network.hosts, ["evil.example:443"]);
      });

      await t.step("an agent is connected, if the server is still there", async () => {
        const [server] = await servers();
        const { id } = await askToConnect(server.id);
        const seen = await getWish(db, user, id);
        await acceptReport(db, toolboxId, {
          epoch: v7(),
          sequence: 1,
          observations: [observation(server.id, 1, [{ name: "wipe", inputSchema: {} }])],
          events: [],
          removed: [],
        });
        await owner`update public.tools set approved_hash = hash, approved_definition = definition`;
        await assert.rejects(approve(id, { version: seen.version }), Conflict, "another tool");
        await Promise.all([approve(id), approve(id, { as: member })]);
        const { connections } = await getAgent(db, user, agentId);
        assert.deepEqual(connections.map(({ serverId }) => serverId), [server.id]);
        const [, second] = await servers();
        const gone = await askToConnect(second.id);
        await removeServer(db, user, second.id);
        await assert.rejects(approve(gone.id), NotFound);
        assert.equal((await rejectWish(db, member, gone.id, " It is gone ")).answer, "It is gone");
      });

      await t.step("a rejected one is not asked again within a day", async () => {
        const { id } = await ask("memory", { name: "No" });
        await rejectWish(db, user, id, "We have one");
        const again = await ask("memory", { name: "No" });
        assert.deepEqual([again.id, again.state, again.answer], [id, "rejected", "We have one"]);
        await owner`
          update public.wishes set decided_at = now() - interval '2 days' where id = ${id}`;
        assert.equal((await ask("memory", { name: "No" })).state, "open");
      });

      await t.step("one that expired is done by nobody, and may be asked again", async () => {
        const { id } = await ask("memory", { name: "Late" });
        await expire(id);
        assert.equal((await wishOfAgent(db, agentId, id)).state, "expired");
        await assert.rejects(approve(id), Conflict);
        await assert.rejects(rejectWish(db, user, id, ""), Conflict);
        assert.equal((await withdrawWish(db, agentId, id)).state, "expired");
        assert.notEqual((await ask("memory", { name: "Late" })).id, id);
      });

      await t.step("taking a permission away rejects what was asked by it", async () => {
        const { id } = await ask("memory", { name: "Revoked" });
        await grant(["read", "agents:write"]);
        assert.equal((await wishOfAgent(db, agentId, id)).state, "rejected");
        await assert.rejects(ask("memory", { name: "Without a permission" }));
        await grant();
      });

      await t.step("few are open at once, and not many are made in a day", async () => {
        const ids: string[] = [];
        const fill = async () => {
          for (let i = 0; i < 30; i++) ids.push((await ask("memory", { name: v7() })).id);
        };
        await assert.rejects(fill, Conflict);
        assert.equal((await listWishes(db, user, workspaceId, { isOpen: true })).length, 20);
        for (const id of ids) await withdrawWish(db, agentId, id);
        await owner`
          insert into public.wishes (id, workspace_id, agent_id, operation, asked, basis, hash, wants,
            state, decided_at)
          select gen_random_uuid(), workspace_id, agent_id, operation, asked, basis, hash, wants,
            'withdrawn', now()
          from public.wishes, generate_series(1, 200) where id = ${ids[0]}`;
        await assert.rejects(ask("memory", { name: v7() }), Conflict);
      });

      await t.step("they go with their agent", async () => {
        await removeAgent(db, user, agentId);
        assert.deepEqual(await listWishes(db, user, workspaceId, { isOpen: false }), []);
      });

      await world.close();
    },
  });
}
