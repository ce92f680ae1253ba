import assert from "node:assert/strict";
import { generateSigningKey } from "../../dtma/protocol.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import {
  addToolbox,
  drainToolbox,
  labelToolbox,
  readLabels,
  removeToolbox,
  renameToolbox,
  renewEnrolmentToken,
  revokeToolbox,
  undrainToolbox,
} from "../../models/fleet.ts";
import {
  deployServer,
  getServer,
  reconfigureServer,
  removeServer,
  stopServer,
} from "../../models/servers.ts";
import { toolboxOfServer } from "../../models/toolbelts.ts";
import {
  acceptReport,
  enrolToolbox,
  getToolbox,
  listToolboxes,
  toolboxKey,
  touchToolbox,
} from "../../models/toolboxes.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

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
          // Not by an admin's own hand either, and for this machine's toolbox, whose address may be on
          // the loopback, not at all.
          const { toolboxId: third } = await addToolbox(db, user, workspaceId, "Rack 2b");
          const set = (id: string, minutes: number) =>
            db.asUser(admin, (sql) =>
              sql`
                update toolboxes set enrolment_hash = ${`hash of ${id}`},
                  enrolment_expires_at = now() + ${minutes} * interval '1 minute'
                where id = ${id}`);
          await assert.rejects(set(third, 16), { code: "42501" });
          await assert.rejects(set(localId, 15), { code: "42501" });
          await set(third, 15);
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

      /** A toolbox that is enrolled and heard of. */
      const enrolled = async (name: string) => {
        const { toolboxId, enrolmentToken } = await addToolbox(db, user, workspaceId, name);
        await enrolToolbox(db, { token: enrolmentToken, publicKey, facts });
        return toolboxId;
      };
      const deploy = async (toolboxId?: string) =>
        (await deployServer(db, user, {
          workspaceId,
          toolboxId,
          slug: "everything",
          form: {},
          idempotencyKey: crypto.randomUUID(),
        }, testKey)).serverId;

      await t.step("promisedMiB is what running servers may take", async () => {
        const id = await enrolled("Promising");
        const promised = async () => (await getToolbox(db, user, id)).promisedMiB;
        assert.equal(await promised(), 0);
        const first = await deploy(id), second = await deploy(id);
        assert.equal(await promised(), 1024);
        await reconfigureServer(db, user, first, {
          form: { "option.memoryMiB": "2048" },
          baseGeneration: 1,
        }, testKey);
        assert.equal(await promised(), 2560);
        await stopServer(db, user, second);
        assert.equal(await promised(), 2048);
        await removeServer(db, user, first);
        assert.equal(await promised(), 0);
        await revokeToolbox(db, user, id);
      });

      await t.step("a toolbox is renamed and labelled", async () => {
        const id = await enrolled("Rack 4");
        await renameToolbox(db, admin, id, "Rack four");
        await assert.rejects(renameToolbox(db, admin, id, "RACK 1"), Invalid);
        await labelToolbox(db, admin, id, "site = office\n\narch=arm=v8\r\nempty=");
        const box = await getToolbox(db, user, id);
        assert.equal(box.name, "Rack four");
        assert.deepEqual(box.labels, { site: "office", arch: "arm=v8", empty: "" });
        await labelToolbox(db, admin, id, "");
        assert.deepEqual((await getToolbox(db, user, id)).labels, {});
        await revokeToolbox(db, user, id);
      });

      await t.step("labels are given when a toolbox is added, or it is not added", async () => {
        const labels = "site=office\nzone = a=b";
        const { toolboxId } = await addToolbox(db, admin, workspaceId, "Labelled", labels);
        const box = await getToolbox(db, user, toolboxId);
        assert.deepEqual(box.labels, { site: "office", zone: "a=b" });
        await assert.rejects(addToolbox(db, admin, workspaceId, "Other", "no label"), (error) => {
          assert(
            error instanceof Invalid && /is no label: write key=value/.test(error.fields.labels),
          );
          return true;
        });
        const boxes = await listToolboxes(db, user, workspaceId);
        assert.equal(boxes.some(({ name }) => name === "Other"), false);
        await revokeToolbox(db, user, toolboxId);
      });

      await t.step("a server that asks for a label goes where it is, or nowhere", async () => {
        const gpu = [await enrolled("Gpu 1"), await enrolled("Gpu 2")],
          plain = await enrolled("Plain");
        for (const id of gpu) await labelToolbox(db, admin, id, "gpu=yes\nsite=x");
        const ask = async (label: string, toolboxId?: string) =>
          (await deployServer(db, user, {
            workspaceId,
            toolboxId,
            label,
            slug: "everything",
            form: {},
            idempotencyKey: crypto.randomUUID(),
          }, testKey)).serverId;
        const placed = [];
        for (let i = 0; i < 4; i++) {
          placed.push((await getServer(db, user, await ask("gpu=yes"))).toolboxId);
        }
        assert.deepEqual(placed.toSorted(), [...gpu, ...gpu].toSorted());
        assert.equal((await getServer(db, user, await ask("gpu=yes", gpu[1]))).toolboxId, gpu[1]);
        const said = (label: string, toolboxId?: string) =>
          ask(label, toolboxId).then(() => "", (error) => {
            assert(error instanceof Invalid && error.fields.label);
            return error.message;
          });
        assert.match(
          await said("gpu=yes", plain),
          /Plain does not have the label gpu=yes: choose another toolbox, or no label/,
        );
        assert.match(await said("gpu=no"), /No toolbox has the label gpu=no: give it to one/);
        for (const id of gpu) await drainToolbox(db, admin, id);
        assert.match(
          await said("gpu=yes"),
          /^No toolbox with the label gpu=yes can take it now\. Gpu 1 is drained.*Gpu 2 is drained/,
        );
        for (const id of [...gpu, plain]) await revokeToolbox(db, user, id);
      });

      await t.step("a drained toolbox takes no new server, until it is undrained", async () => {
        const id = await enrolled("Rack 5");
        await drainToolbox(db, admin, id);
        await drainToolbox(db, admin, id);
        await assert.rejects(deploy(id), (error) => {
          assert(error instanceof Invalid);
          assert.match(error.fields.toolboxId, /is drained/);
          return true;
        });
        await undrainToolbox(db, admin, id);
        await deploy(id);
        const told = (await listEvents(db, user, { toolboxId: id })).map(({ message }) => message);
        assert.equal(told.filter((message) => /^Drained/.test(message)).length, 1);
        await revokeToolbox(db, user, id);
      });

      await t.step(
        "a revoked toolbox's key is refused, and its servers cannot be reached",
        async () => {
          const id = await enrolled("Rack 6");
          const serverId = await deploy(id);
          await acceptReport(db, id, {
            epoch: crypto.randomUUID(),
            sequence: 1,
            observations: [observation(serverId, 1, [])],
            events: [],
            removed: [],
          });
          assert.equal((await getServer(db, user, serverId)).status, "running");
          await revokeToolbox(db, admin, id);
          assert.equal(await toolboxKey(db, id), null);
          const server = await getServer(db, user, serverId);
          assert.equal(server.status, "toolbox_unreachable");
          assert.match(server.statusDetail, /was revoked/);
          const { unavailable } = await toolboxOfServer(db, user, serverId);
          assert.match(unavailable!, /was revoked/);
          await assert.rejects(deploy(id), NotFound);
          await assert.rejects(renewEnrolmentToken(db, admin, id), Conflict);
          // For good, by an admin's own hand too.
          await db.asUser(
            admin,
            (sql) => sql`update toolboxes set revoked_at = null where id = ${id}`,
          );
          assert.ok((await getToolbox(db, user, id)).revokedAt);
        },
      );

      await t.step("a revoked toolbox is removed with its servers, by its name", async () => {
        const id = await enrolled("Dead one");
        const serverId = await deploy(id);
        await removeServer(db, user, serverId);
        await assert.rejects(removeToolbox(db, admin, id, "Dead one"), Conflict);
        await revokeToolbox(db, admin, id);
        assert.equal((await getServer(db, user, serverId)).status, "removing");
        await assert.rejects(removeToolbox(db, admin, id, "Dead"), (error) => {
          assert(error instanceof Invalid && error.fields.confirmation);
          return true;
        });
        await removeToolbox(db, admin, id, " Dead one ");
        await assert.rejects(getServer(db, user, serverId), NotFound);
        await assert.rejects(getToolbox(db, user, id), NotFound);
        const [event] = await listEvents(db, user, { toolboxId: id });
        assert.match(event.message, /Removed the toolbox Dead one; its servers went with it: /);
      });

      await t.step("this machine's toolbox is neither revoked nor removed", async () => {
        await assert.rejects(revokeToolbox(db, user, localId), Conflict);
        await assert.rejects(removeToolbox(db, user, localId, "This machine"), Conflict);
        await assert.rejects(
          db.asUser(admin, (sql) => sql`update toolboxes set revoked_at = now() where is_local`),
          { code: "42501" },
        );
        const { count } = await db.asUser(admin, (sql) => sql`delete from toolboxes`);
        assert.equal(
          (await listToolboxes(db, user, workspaceId)).some(({ isLocal }) => isLocal),
          true,
        );
        assert.ok(count > 0, "the revoked ones went");
      });

      await t.step(
        "without a toolbox a server goes where there is room, else it is said why",
        async () => {
          const boxes = (await listToolboxes(db, user, workspaceId)).filter(({ revokedAt }) =>
            !revokedAt
          );
          for (const { id } of boxes) await drainToolbox(db, user, id);
          await assert.rejects(deploy(), (error) => {
            assert(error instanceof Invalid);
            assert.match(error.fields.toolboxId, /is drained: undrain it.*or add a toolbox/);
            return true;
          });
          const ids = [await enrolled("Even"), await enrolled("Odd")];
          const placed = [];
          for (let i = 0; i < 4; i++) {
            placed.push((await getServer(db, user, await deploy())).toolboxId);
          }
          assert.deepEqual(placed.toSorted(), [...ids, ...ids].toSorted());
          await revokeToolbox(db, user, ids[0]);
          assert.equal((await getServer(db, user, await deploy())).toolboxId, ids[1]);
          await owner`update public.toolboxes set last_seen_at = now() - interval '2 minutes'`;
          await assert.rejects(deploy(), /Odd is not heard of/);
          // Chosen by hand it goes there nevertheless, and starts once the toolbox is back.
          assert.equal((await getServer(db, user, await deploy(ids[1]))).toolboxId, ids[1]);
        },
      );

      await t.step("members and viewers change nothing of a toolbox", async () => {
        const id = await enrolled("Kept");
        for (const person of refused) {
          const expected = person === refused[0] ? NotFound : Forbidden;
          for (
            const change of [
              () => renameToolbox(db, person, id, "Mine"),
              () => labelToolbox(db, person, id, "a=b"),
              () => drainToolbox(db, person, id),
              () => undrainToolbox(db, person, id),
              () => revokeToolbox(db, person, id),
              () => removeToolbox(db, person, id, "Kept"),
            ]
          ) await assert.rejects(change(), expected);
        }
        assert.equal((await getToolbox(db, user, id)).name, "Kept");
        await touchToolbox(db, id, facts);
      });

      await world.close();
    },
  });
}

Deno.test("readLabels names the line that does not hold", () => {
  assert.deepEqual(readLabels("a/b.c-d_e = x = y "), { "a/b.c-d_e": "x = y" });
  assert.deepEqual(readLabels("__proto__x=1\nconstructor=2".replace("__", "p")), {
    "pproto__x": "1",
    constructor: "2",
  });
  for (
    const [text, words] of [
      ["a=1\nnonsense", /“nonsense” is no label/],
      ["=x", /is no label/],
      ["a=1\na=2", /there twice/],
      [`a=${"x".repeat(121)}`, /is no label/],
      ["a=\u0000", /is no label/],
      [Array.from({ length: 33 }, (_, i) => `k${i}=v`).join("\n"), /at most 32/],
    ] as const
  ) {
    assert.throws(() => readLabels(text), (error) => {
      assert(error instanceof Invalid);
      assert.match(error.fields.labels, words);
      return true;
    });
  }
});
