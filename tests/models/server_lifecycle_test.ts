import assert from "node:assert/strict";
import { v7 } from "uuid";
import type { Observation } from "../../dtma/protocol.ts";
import {
  allowHost,
  disallowHost,
  dismissDenial,
  listDenials,
} from "../../models/egress_denials.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import { getGeneration, listGenerations, rollBackServer } from "../../models/generations.ts";
import { listSamples } from "../../models/samples.ts";
import {
  deployServer,
  reconfigureServer,
  removeServer,
  restartServer,
  runServer,
  stopServer,
} from "../../models/servers.ts";
import { desiredOf } from "../../models/toolboxes.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";
import { observation, reports } from "./observation.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `a server's life, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const SECRET = "env.GITHUB_PERSONAL_ACCESS_TOKEN";
      const deploy = async () => {
        const { serverId } = await deployServer(db, user, {
          workspaceId,
          toolboxId,
          slug: "github",
          form: { [SECRET]: "first" },
          idempotencyKey: v7(),
        }, testKey);
        return serverId;
      };
      const report = reports(db, toolboxId);
      const specOf = async (id: string) =>
        (await desiredOf(db, toolboxId, testKey)).servers.find(({ serverId }) => serverId === id)!;
      const gaveUp = (id: string, generation: number): Observation => {
        const seen = observation(id, generation, null);
        seen.layers.container = { ...seen.layers.container, state: "failed", detail: "exited" };
        seen.layers.tools = { ...seen.layers.tools, state: "waiting" };
        return { ...seen, gaveUp: true, servingGeneration: generation - 1 };
      };
      const up = (id: string, generation: number) => observation(id, generation, []);

      await t.step("a generation that never gets ready is rolled back, secrets too", async () => {
        const id = await deploy();
        await report({ observations: [up(id, 1)] });
        const form = { [SECRET]: "second" };
        await reconfigureServer(db, user, id, { form, baseGeneration: 1 }, testKey);
        assert.deepEqual(Object.values((await specOf(id)).secrets), ["second"]);
        await report({ observations: [gaveUp(id, 2)] });
        const spec = await specOf(id);
        assert.equal(spec.generation, 3);
        assert.deepEqual(Object.values(spec.secrets), ["first"]);
        // Told again, or about the way back itself: nothing more.
        await report({ observations: [gaveUp(id, 2)] });
        await report({ observations: [gaveUp(id, 3)] });
        assert.equal((await specOf(id)).generation, 3);
        const [third, second, first] = await listGenerations(db, user, id);
        assert.deepEqual([third.rolledBackTo, second.rolledBackTo], [1, null]);
        assert.deepEqual([first.readyAt !== null, second.readyAt], [true, null]);
        assert.match(first.reason!, /^Deployed /);
        assert.equal(second.reason, "Changed the configuration");
        assert.match(
          third.reason!,
          /^Generation 2 did not get ready, so the settings of generation 1/,
        );
        assert.deepEqual([second.createdByName, third.createdByName], ["ann", null]);
        const events = await listEvents(db, user, { serverId: id });
        assert.ok(
          events.some(({ message, level }) =>
            level === "warning" && message.includes("settings of generation 1 are back")
          ),
        );
      });

      await t.step("nothing is rolled back to where nothing ever worked", async () => {
        const id = await deploy();
        await report({ observations: [gaveUp(id, 1)] });
        assert.equal((await specOf(id)).generation, 1);
        // The same again that once worked is no way back either.
        await report({ observations: [up(id, 1), gaveUp(id, 1)] });
        await owner`update public.observations set layers = jsonb_set(layers, '{tools,state}', '"failed"')`;
        await runServer(db, user, id);
        await report({ observations: [gaveUp(id, 2)] });
        assert.equal((await specOf(id)).generation, 2);
      });

      await t.step("a person goes back to an earlier generation", async () => {
        const id = await deploy();
        const form = { [SECRET]: "second" };
        await reconfigureServer(db, user, id, { form, baseGeneration: 1 }, testKey);
        await rollBackServer(db, user, id, 1);
        const spec = await specOf(id);
        assert.deepEqual([spec.generation, Object.values(spec.secrets)], [3, ["first"]]);
        await assert.rejects(rollBackServer(db, user, id, 3), NotFound);
        await assert.rejects(rollBackServer(db, user, id, 99), NotFound);
      });

      await t.step("an event of a person's wish is of the generation that it made", async () => {
        const id = await deploy();
        await restartServer(db, user, id);
        await stopServer(db, user, id);
        await report({
          events: [{
            serverId: id,
            generation: 1,
            at: new Date().toISOString(),
            layer: "image",
            level: "info",
            message: "Built",
          }],
        });
        const events = await listEvents(db, user, { serverId: id });
        assert.deepEqual(
          events.map(({ message, generation }) => [message.split(" ")[0], generation]).toReversed(),
          [["Deployed", 1], ["Asked", 2], ["Stopped", null], ["Built", 1]],
        );
        const { changes, changesNow } = await getGeneration(db, user, id, 2);
        const restarts = { name: "Restarts asked for", before: "0", after: "1" };
        assert.deepEqual([changes, changesNow], [[restarts], []]);
        const { changesNow: back } = await getGeneration(db, user, id, 1);
        assert.deepEqual(back, [{ ...restarts, before: "1", after: "0" }]);
        const older = await listGenerations(db, user, id, { before: 2, limit: 5 });
        assert.deepEqual(older.map(({ generation }) => generation), [1]);

        const stranger = await makeUser(world, `eve-${id}@example.com`);
        assert.deepEqual(await listGenerations(db, stranger, id), []);
        await assert.rejects(getGeneration(db, stranger, id, 1), NotFound);
        await assert.rejects(getGeneration(db, user, id, 3), NotFound);
      });

      await t.step("there is no way back to a secret that is not kept any more", async () => {
        const id = await deploy();
        for (let n = 1; n <= 22; n++) {
          const form = { [SECRET]: `value ${n}` };
          await reconfigureServer(db, user, id, { form, baseGeneration: n }, testKey);
        }
        const all = await listGenerations(db, user, id);
        const lost = all.filter(({ lostSecrets }) => lostSecrets.length > 0);
        assert.deepEqual(lost.at(-1)!.lostSecrets, ["GITHUB_PERSONAL_ACCESS_TOKEN"]);
        await assert.rejects(rollBackServer(db, user, id, lost[0].generation), Conflict);
        const kept = all.at(-1 - lost.length)!;
        await rollBackServer(db, user, id, kept.generation);
        assert.deepEqual(Object.values((await specOf(id)).secrets), [
          `value ${kept.generation - 1}`,
        ]);
      });

      await t.step("options of how it runs are kept, checked and sent", async () => {
        const id = await deploy();
        const change = (form: Record<string, string>, baseGeneration: number) =>
          reconfigureServer(db, user, id, { form, baseGeneration }, testKey);
        await change({
          "option.memoryMiB": "768",
          "option.instances": "agent",
          "option.idleStopMinutes": "1.5",
        }, 1);
        const { memoryMiB, instances, idleStopS } = await specOf(id);
        assert.deepEqual([memoryMiB, instances, idleStopS], [768, "agent", 90]);
        // What a form does not have stays; an empty time means never.
        await change({ "option.idleStopMinutes": "" }, 2);
        const now = await specOf(id);
        assert.deepEqual([now.memoryMiB, now.idleStopS], [768, null]);
        for (
          const [field, value] of [
            ["option.memoryMiB", "12"],
            ["option.memoryMiB", "lots"],
            ["option.instances", "caller"],
            ["option.idleStopMinutes", "0.1"],
            ["option.idleStopMinutes", "1e9"],
          ]
        ) {
          await assert.rejects(
            change({ [field]: value }, 3),
            (error) => error instanceof Invalid && error.fields[field].startsWith("This "),
          );
        }
        await change({ "option.instances": "session" }, 3);
        assert.equal((await specOf(id)).instances, "agent", "the word that every DTMA knows");
        await restartServer(db, user, id);
        assert.equal((await specOf(id)).restart, 1);
      });

      await t.step("refused hosts are counted, allowed and dismissed", async () => {
        const id = await deploy();
        const denial = (host: string, port: number, count = 1) => ({
          serverId: id,
          host,
          port,
          reason: "It is not on the server's list",
          count,
          at: new Date().toISOString(),
        });
        await report({ denials: [denial("api.x.com", 443, 2), denial("evil.test", 0)] });
        await report({ denials: [denial("api.x.com", 443, 3)] });
        const counted = Object.fromEntries(
          (await listDenials(db, user, id)).map(({ host, count }) => [host, count]),
        );
        assert.deepEqual(counted, { "api.x.com": 5, "evil.test": 1 });
        await allowHost(db, user, id, "api.x.com:443");
        assert.ok((await specOf(id)).network.hosts.includes("api.x.com:443"));
        await dismissDenial(db, user, id, "evil.test:0");
        assert.deepEqual([...await listDenials(db, user, id)], []);
        await disallowHost(db, user, id, "api.x.com:443");
        assert.ok(!(await specOf(id)).network.hosts.includes("api.x.com:443"));
        await stopServer(db, user, id);
        await allowHost(db, user, id, "api.x.com:443");
        await disallowHost(db, user, id, "api.x.com:443");
        assert.equal((await specOf(id)).running, false, "what a person stopped stays stopped");
        await runServer(db, user, id);

        await assert.rejects(allowHost(db, user, id, "no port"), Invalid);
        await assert.rejects(allowHost(db, user, id, "a.b:443; rm -rf"), Invalid);
        // A server that asks for ever other names fills nothing.
        const many = Array.from({ length: 300 }, (_, n) => denial(`x${n}.test`, 443));
        await report({ denials: many });
        const [{ count }] = await owner`
          select count(*)::int as count from public.egress_denials where server_id = ${id}`;
        assert.equal(count, 100);
        const viewer = await makeUser(world, `viewer-${kind.name}@example.com`);
        await addMember(world, workspaceId, viewer.userId, "viewer");
        await assert.rejects(allowHost(db, viewer, id, "api.x.com:443"), Forbidden);
      });

      await t.step("samples are kept for two hours", async () => {
        const id = await deploy();
        const sample = (minutesAgo: number) => ({
          serverId: id,
          instance: null,
          at: new Date(Date.now() - minutesAgo * 60_000).toISOString(),
          cpus: 0.25,
          memoryBytes: 5_000_000_000,
          receivedBytes: 1,
          sentBytes: 2,
          pids: 3,
        });
        const at = sample(1);
        await report({ samples: [sample(200), sample(5), at, at] });
        const samples = await listSamples(db, user, id);
        assert.equal(samples.length, 2);
        assert.deepEqual(
          [samples[1].cpus, samples[1].memoryBytes, samples[1].instance],
          [0.25, 5_000_000_000, null],
        );
      });

      await t.step("volumes go with a server only when that is asked for", async () => {
        const [kept, deleted] = [await deploy(), await deploy()];
        await removeServer(db, user, kept);
        await removeServer(db, user, deleted, { deleteVolumes: true });
        const { removing, servers } = await desiredOf(db, toolboxId, testKey);
        assert.deepEqual(
          removing!.toSorted((a, b) => Number(a.deleteVolumes) - Number(b.deleteVolumes)),
          [{ serverId: kept, deleteVolumes: false }, { serverId: deleted, deleteVolumes: true }],
        );
        assert.ok(!servers.some(({ serverId }) => serverId === kept || serverId === deleted));
      });

      await world.close();
    },
  });
}
