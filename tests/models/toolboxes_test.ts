import assert from "node:assert/strict";
import { v7 } from "uuid";
import { generateSigningKey, ServerSpec } from "../../dtma/protocol.ts";
import { CatalogEntry } from "../../models/catalog_entries.ts";
import { Forbidden, NotFound } from "../../models/errors.ts";
import { resolveInputs } from "../../models/server_form.ts";
import { deployServer, getServer, removeServer } from "../../models/servers.ts";
import {
  acceptReport,
  desiredOf,
  enrolToolbox,
  getToolbox,
  isFirstUse,
  putLocalToolbox,
  toolboxKey,
  touchToolbox,
  usableAddress,
} from "../../models/toolboxes.ts";
import { listTools } from "../../models/tools.ts";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { KINDS, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

const facts = {
  dtmaVersion: "0",
  protocolVersion: 1,
  reach: "direct" as const,
  address: "http://127.0.0.1:4000",
  engine: { state: "absent" as const, reason: "none", advice: "install one" },
};

for (const kind of KINDS) {
  Deno.test({
    name: `toolboxes, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const { publicKey } = await generateSigningKey();

      await t.step("enrolToolbox takes a token once, and not after its time", async () => {
        const request = { token: world.enrolmentToken, publicKey, facts };
        assert.equal(await enrolToolbox(db, request), toolboxId);
        await assert.rejects(enrolToolbox(db, request), Forbidden);
        const { enrolmentToken } = await putLocalToolbox(db, { enrol: true });
        await owner`update public.toolboxes set enrolment_expires_at = now() - interval '1 second'`;
        await assert.rejects(enrolToolbox(db, { ...request, token: enrolmentToken! }), Forbidden);
        assert.equal((await toolboxKey(db, toolboxId))?.publicKey, publicKey);
        assert.equal(await toolboxKey(db, v7()), null);
        for (const id of ["", "'; drop table toolboxes; --", "-".repeat(36), "\u0000"]) {
          assert.equal(await toolboxKey(db, id), null, id);
        }
      });

      await t.step("isFirstUse is true once for a nonce", async () => {
        assert.equal(await isFirstUse(db, toolboxId, "nonce-1"), true);
        assert.equal(await isFirstUse(db, toolboxId, "nonce-1"), false);
        assert.equal(await isFirstUse(db, v7(), "nonce-1"), true);
      });

      const deploy = async () =>
        (await deployServer(db, user, {
          workspaceId,
          toolboxId,
          slug: "github",
          form: { "env.GITHUB_PERSONAL_ACCESS_TOKEN": "ghp_secret" },
          idempotencyKey: crypto.randomUUID(),
        }, testKey)).serverId;

      await t.step(
        "touchToolbox gives another version after a deploy, and the same after nothing",
        async () => {
          const first = await touchToolbox(db, toolboxId, facts);
          assert.deepEqual(await touchToolbox(db, toolboxId, facts), first);
          await deploy();
          assert.notDeepEqual(await touchToolbox(db, toolboxId, facts), first);
          assert.equal((await getToolbox(db, user, toolboxId)).isOnline, true);
          await assert.rejects(touchToolbox(db, v7(), facts), NotFound);
        },
      );

      const serverId = await deploy();

      await t.step("desiredOf opens the secrets of this toolbox's servers alone", async () => {
        const { servers } = await desiredOf(db, toolboxId, testKey);
        const spec = servers.find((each) => each.serverId === serverId)!;
        assert.deepEqual(ServerSpec.parse(spec), spec);
        assert.deepEqual(spec.secrets, { GITHUB_PERSONAL_ACCESS_TOKEN: "ghp_secret" });
        assert.equal(JSON.stringify(spec.environment).includes("ghp_"), false);
        await assert.rejects(desiredOf(db, v7(), testKey), NotFound);
      });

      await t.step("acceptReport takes reports in order, once", async () => {
        const epoch = v7(), later = v7();
        const send = (sequence: number, state: "ready" | "failed", at = epoch) =>
          acceptReport(db, toolboxId, {
            epoch: at,
            sequence,
            observations: [observation(serverId, 1, null, state)],
            events: [{
              serverId,
              generation: 1,
              at: new Date().toISOString(),
              layer: "image",
              level: "info",
              message: "a\u0000b",
            }],
            removed: [],
          });
        const status = async () => (await getServer(db, user, serverId)).status;
        assert.equal(await send(2, "ready"), true);
        assert.equal(await send(2, "failed"), false, "a duplicate");
        assert.equal(await send(1, "failed"), false, "one that was overtaken");
        assert.equal(await status(), "running");
        assert.equal(await send(0, "failed", later), true, "a DTMA that started anew");
        assert.equal(await send(9, "ready"), false, "the one before it");
        assert.equal(await status(), "failed");
      });

      let sequence = 0;
      const epoch = v7();
      const reportTools = (tools: Parameters<typeof observation>[2], generation = 1) =>
        acceptReport(db, toolboxId, {
          epoch,
          sequence: ++sequence,
          observations: [observation(serverId, generation, tools)],
          events: [],
          removed: [],
        });

      await t.step(
        "acceptReport keeps definitions as they were sent, and marks those that went",
        async () => {
          const hostile = JSON.parse(
            `{"name":"a","description":"\\u0000 \\\\u0000 <script>","inputSchema":{"__proto__":{"x":1}},"more":[1,{"b":null}]}`,
          );
          await reportTools([hostile, { name: "b" }, {
            name: "b",
            description: "a second of that name",
          }]);
          const tools = await listTools(db, user, serverId);
          assert.deepEqual(tools.map(({ name }) => name), ["a", "b"]);
          assert.equal(JSON.stringify(tools[0].definition), JSON.stringify(hostile));
          await reportTools([{ name: "b" }]);
          assert.equal(
            (await listTools(db, user, serverId)).find(({ name }) => name === "a")!.state,
            "gone",
          );
          await reportTools([hostile]);
          assert.equal(
            (await listTools(db, user, serverId)).find(({ name }) => name === "a")!.state,
            "waiting",
          );
        },
      );

      await t.step("acceptReport takes a name as long as a server likes", async () => {
        const long = Array.from({ length: 5000 }, (_, i) => String.fromCharCode(0x4e00 + i)).join(
          "",
        );
        assert.equal(await reportTools([{ name: long }, { name: "short" }, { name: "" }]), true);
        const present = (await listTools(db, user, serverId)).filter(({ state }) =>
          state !== "gone"
        );
        assert.deepEqual(present.map(({ name }) => name), ["short", long.slice(0, 512)]);
      });

      await t.step("acceptReport ignores a generation that is not there yet", async () => {
        await reportTools([{ name: "future" }], 7);
        assert.equal(
          (await listTools(db, user, serverId)).some(({ name }) => name === "future"),
          false,
        );
      });

      await t.step("a toolbox changes nothing of another's", async () => {
        const other = v7(), workspace = v7();
        await owner`insert into public.workspaces (id, name) values (${workspace}, 'Other')`;
        await owner`insert into public.toolboxes (id, workspace_id, name, public_key) values (${other}, ${workspace}, 'O', 'k')`;
        await acceptReport(db, other, {
          epoch: v7(),
          sequence: 1,
          observations: [observation(serverId, 1, [{ name: "evil" }], "failed")],
          events: [],
          removed: [serverId],
        });
        assert.equal((await getServer(db, user, serverId)).status, "running");
        assert.equal(
          (await listTools(db, user, serverId)).some(({ name }) => name === "evil"),
          false,
        );
        assert.deepEqual((await desiredOf(db, other, testKey)).servers, []);
      });

      await t.step(
        "acceptReport deletes a removed server only when that was asked for",
        async () => {
          const remove = () =>
            acceptReport(db, toolboxId, {
              epoch,
              sequence: ++sequence,
              observations: [],
              events: [],
              removed: [serverId],
            });
          await remove();
          assert.equal((await getServer(db, user, serverId)).id, serverId);
          await removeServer(db, user, serverId);
          await remove();
          await assert.rejects(getServer(db, user, serverId), NotFound);
        },
      );

      await world.close();
    },
  });
}

Deno.test("usableAddress keeps a toolbox from pointing the app elsewhere", () => {
  const at = (address: string, isLocal: boolean) => usableAddress({ ...facts, address }, isLocal);
  assert.equal(at("http://127.0.0.1:4000/x", true), "http://127.0.0.1:4000");
  assert.equal(at("http://169.254.169.254", true), null);
  assert.equal(at("https://127.0.0.1", true), null);
  assert.equal(at("http://10.0.0.5", false), null);
  assert.equal(at("https://host.example:8443", false), "https://host.example:8443");
  assert.equal(usableAddress(null, true), null);
  assert.equal(usableAddress({ ...facts, reach: "tunnel", address: null }, false), null);
  const both = { ...facts, reach: "tunnel" as const, address: "https://host.example" };
  assert.equal(usableAddress(both, false), null);
});

Deno.test("resolveInputs gives a spec that DTMA takes, for every built-in entry", () => {
  for (const raw of builtin) {
    const entry = CatalogEntry.parse(raw);
    const secrets = Object.fromEntries(
      entry.environment.filter((input) => input.isSecret).map((input) => [input.name, "secret"]),
    );
    const spec = {
      serverId: v7(),
      generation: 1,
      name: entry.slug.slice(0, 41),
      running: true,
      package: entry.package,
      network: entry.network,
      ...resolveInputs(entry, {}, secrets),
    };
    assert.deepEqual(ServerSpec.parse(spec), { ...ServerSpec.parse(spec), ...spec }, entry.slug);
  }
});
