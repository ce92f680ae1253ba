import assert from "node:assert/strict";
import { generateSigningKey } from "../../dtma/protocol.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import { addToolbox, renewEnrolmentToken } from "../../models/fleet.ts";
import { enrolToolbox, getToolbox, toolboxKey } from "../../models/toolboxes.ts";
import { addMember, KINDS, makeUser, openWorld } from "./databases.ts";

const facts = {
  dtmaVersion: "0",
  protocolVersion: 2,
  reach: "tunnel" as const,
  address: null,
  engine: {
    state: "ready" as const,
    version: "28",
    apiVersion: "1.51",
    os: "Linux",
    architecture: "x86_64",
    cpus: 4,
    memoryBytes: 4 * 1024 ** 3,
  },
};

for (const kind of KINDS) {
  Deno.test({
    name: `the fleet, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId: localId } = world;
      const admin = await makeUser(world, "admin@example.com");
      await addMember(world, workspaceId, admin.userId, "admin");
      const refused: { userId: string }[] = [await makeUser(world, "stranger@example.com")];
      for (const role of ["member", "viewer"]) {
        const person = await makeUser(world, `${role}@example.com`);
        await addMember(world, workspaceId, person.userId, role);
        refused.push(person);
      }
      const { publicKey } = await generateSigningKey();
      const hashOf = async (id: string) =>
        (await owner`select enrolment_hash as hash from public.toolboxes where id = ${id}`)[0].hash;

      await t.step(
        "addToolbox gives a token that enrols once, and keeps its hash alone",
        async () => {
          const { toolboxId, enrolmentToken } = await addToolbox(
            db,
            admin,
            workspaceId,
            " Rack 1 ",
          );
          const before = await getToolbox(db, user, toolboxId);
          assert.equal(before.name, "Rack 1");
          assert.equal(before.isEnrolled, false);
          assert.equal(before.isLocal, false);
          assert.match(enrolmentToken, /^mte_[A-Za-z0-9_-]{43}$/);
          assert.match(await hashOf(toolboxId), /^[0-9a-f]{64}$/);
          const request = { token: enrolmentToken, publicKey, facts };
          assert.equal(await enrolToolbox(db, request), toolboxId);
          await assert.rejects(enrolToolbox(db, request), Forbidden);
          assert.equal((await getToolbox(db, user, toolboxId)).isEnrolled, true);
          assert.equal((await toolboxKey(db, toolboxId))?.publicKey, publicKey);
          const events = await listEvents(db, user, { toolboxId });
          assert.deepEqual(events.map(({ message }) => message), [
            "Enrolled",
            "Added the toolbox Rack 1",
          ]);
          assert.equal(
            JSON.stringify(await listEvents(db, user, { workspaceId })).includes("mte_"),
            false,
          );
        },
      );

      await t.step("addToolbox refuses a name that is taken or none", async () => {
        for (const name of ["rack 1", "", "x".repeat(81), "a\u0000"]) {
          await assert.rejects(addToolbox(db, user, workspaceId, name), Invalid, name);
        }
      });

      await t.step(
        "a new token voids the one before, and outlives its time in no way",
        async () => {
          const { toolboxId, enrolmentToken } = await addToolbox(db, user, workspaceId, "Rack 2");
          const second = await renewEnrolmentToken(db, user, toolboxId);
          const enrol = (token: string) => enrolToolbox(db, { token, publicKey, facts });
          await assert.rejects(enrol(enrolmentToken), Forbidden);
          await owner`
          update public.toolboxes set enrolment_expires_at = now() - interval '1 second'
          where id = ${toolboxId}`;
          await assert.rejects(enrol(second), Forbidden);
          assert.equal(await enrol(await renewEnrolmentToken(db, user, toolboxId)), toolboxId);
          await assert.rejects(renewEnrolmentToken(db, user, localId), Conflict);
          // Not by an admin's own hand either.
          await assert.rejects(
            db.asUser(
              admin,
              (sql) =>
                sql`update toolboxes set enrolment_hash = 'x', enrolment_expires_at = now() + interval '1 hour'`,
            ),
            { code: "42501" },
          );
        },
      );

      await t.step("members, viewers and strangers are refused", async () => {
        const { toolboxId } = await addToolbox(db, user, workspaceId, "Rack 3");
        for (const person of refused) {
          await assert.rejects(addToolbox(db, person, workspaceId, "Mine"), (error) => {
            assert(error instanceof Forbidden);
            assert.match(error.message, /Only owners and admins/);
            return true;
          });
          const kind = person === refused[0] ? NotFound : Forbidden;
          await assert.rejects(renewEnrolmentToken(db, person, toolboxId), kind);
        }
      });

      await world.close();
    },
  });
}
