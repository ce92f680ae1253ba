import assert from "node:assert/strict";
import { connectServer, createAgent } from "../../models/agents.ts";
import { changeConnectionSecrets, listConnectionSecrets } from "../../models/connection_secrets.ts";
import { Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import { rollBackServer } from "../../models/generations.ts";
import { deployServer, getServer, reconfigureServer } from "../../models/servers.ts";
import { toolbeltOf } from "../../models/toolbelts.ts";
import { acceptReport, desiredOf, enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { v7 } from "uuid";
import { FACTS } from "../oauth/app.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

const NAME = "GITHUB_PERSONAL_ACCESS_TOKEN", FIELD = `env.${NAME}`;

for (const kind of KINDS) {
  Deno.test({
    name: `agents' own credentials, on the ${kind.name} database`,
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
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug: "github",
        form: { [FIELD]: "the shared one" },
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      const [ann, bob] = await Promise.all(
        ["Ann's", "Bob's"].map((name) => createAgent(db, user, workspaceId, name)),
      );
      for (const agentId of [ann, bob]) await connectServer(db, user, agentId, serverId);
      const report = async (generation: number) =>
        await acceptReport(db, toolboxId, {
          epoch: v7(),
          sequence: 1,
          observations: [observation(serverId, generation, [])],
          events: [],
          removed: [],
        });
      await touchToolbox(db, toolboxId, FACTS);
      const change = (agentId: string, form: Record<string, string>, as = user) =>
        changeConnectionSecrets(db, as, { agentId, serverId }, form, testKey);
      const spec = async () => (await desiredOf(db, toolboxId, testKey)).servers[0];
      const own = async (agentId: string) =>
        (await listConnectionSecrets(db, user, agentId, await getServer(db, user, serverId)))
          .map(({ isOwn }) => isOwn);
      const unavailable = async (agentId: string) =>
        (await toolbeltOf(db, agentId)).servers[0].unavailable;

      await t.step("need an instance for each agent, and offer it", async () => {
        await assert.rejects(change(ann, { [FIELD]: "ann's" }), (error) => {
          assert.ok(error instanceof Invalid);
          assert.match(error.fields.instancePerAgent, /needs an instance for each agent/);
          return true;
        });
        assert.deepEqual(await own(ann), [false], "nothing is kept");
        await change(ann, { [FIELD]: "ann's", instancePerAgent: "true" });
        assert.deepEqual([await own(ann), await own(bob)], [[true], [false]]);
        assert.equal((await getServer(db, user, serverId)).generation, 2);
      });

      await t.step(
        "reach the agent's instance alone, and raise the toolbox's version",
        async () => {
          const { secrets, instances, instanceInputs } = await spec();
          assert.equal(instances, "agent");
          assert.deepEqual(secrets, { [NAME]: "the shared one" });
          assert.deepEqual(Object.keys(instanceInputs!), [ann]);
          assert.deepEqual(instanceInputs![ann].secrets, { [NAME]: "ann's" });
          const { desiredVersion } = await touchToolbox(db, toolboxId, FACTS);
          await change(bob, { [FIELD]: "bob's" });
          assert.notEqual(
            (await touchToolbox(db, toolboxId, FACTS)).desiredVersion,
            desiredVersion,
          );
          assert.equal((await getServer(db, user, serverId)).generation, 2, "no generation for it");
          await change(bob, { [FIELD]: "" });
          assert.deepEqual((await spec()).instanceInputs![bob].secrets, { [NAME]: "bob's" });
        },
      );

      await t.step("hold the server to its instances, whoever would change them", async () => {
        await report(2);
        assert.equal(await unavailable(ann), null);
        const shared = { "option.instances": "shared" };
        await assert.rejects(
          reconfigureServer(db, user, serverId, { form: shared, baseGeneration: 2 }, testKey),
          /Agents have credentials of their own for it \("Ann's", "Bob's"\)/,
        );
        await assert.rejects(rollBackServer(db, user, serverId, 1), Invalid);
        // As a roll-back of the app's own might.
        await owner`update public.servers set instances = 'shared' where id = ${serverId}`;
        assert.match((await unavailable(ann))!, /has no instance for each agent any more/);
        await owner`update public.servers set instances = 'agent' where id = ${serverId}`;
      });

      await t.step("an old DTMA is not called by an agent that has some", async () => {
        const { knowsInstanceInputs: _, ...older } = FACTS;
        await touchToolbox(db, toolboxId, older);
        assert.match((await unavailable(ann))!, /too old to use them/);
        await touchToolbox(db, toolboxId, FACTS);
        assert.equal(await unavailable(ann), null);
      });

      await t.step("are taken back, and go with the connection", async () => {
        await change(ann, { [`forget.${FIELD}`]: "true" });
        assert.deepEqual(await own(ann), [false]);
        assert.deepEqual(Object.keys((await spec()).instanceInputs!), [bob]);
        const { desiredVersion } = await touchToolbox(db, toolboxId, FACTS);
        await db.asUser(user, (sql) => sql`delete from connections where agent_id = ${bob}`);
        assert.equal((await spec()).instanceInputs, undefined);
        assert.notEqual((await touchToolbox(db, toolboxId, FACTS)).desiredVersion, desiredVersion);
        await assert.rejects(change(bob, { [FIELD]: "x" }), NotFound);
      });

      await t.step("are told by name alone, and are not a viewer's to give", async () => {
        const events = (await listEvents(db, user, { serverId })).map(({ message }) => message);
        assert.ok(events.includes(`Gave the agent "Ann's" its own ${NAME}`));
        assert.ok(events.includes(`Took its own ${NAME} from the agent "Ann's"`));
        assert.ok(!events.join().includes("ann's"), "no value");
        const viewer = await makeUser(world, "viewer@example.com");
        await addMember(world, workspaceId, viewer.userId, "viewer");
        await assert.rejects(change(ann, { [FIELD]: "x" }, viewer), Forbidden);
      });

      await world.close();
    },
  });
}
