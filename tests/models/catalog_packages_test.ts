import assert from "node:assert/strict";
import { packageTitle, ServerSpec } from "../../dtma/protocol.ts";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import {
  buildCodeOf,
  CatalogEntry,
  putBuiltinCatalog,
  searchCatalog,
} from "../../models/catalog_entries.ts";
import { Invalid } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import { missingConsent } from "../../models/server_form.ts";
import { rollBackServer } from "../../models/generations.ts";
import { deployServer, getServer, reconfigureServer } from "../../models/servers.ts";
import { desiredOf } from "../../models/toolboxes.ts";
import { KINDS, openWorld, testKey } from "./databases.ts";
import { MADE_ENTRIES, madeEntry } from "./made_entries.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `catalog entries of every kind of package, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, workspaceId, toolboxId } = world;
      await putBuiltinCatalog(db, [...builtin, ...MADE_ENTRIES]);
      const deploy = async (slug: string, form: Record<string, string> = {}) =>
        (await deployServer(db, user, {
          workspaceId,
          toolboxId,
          slug,
          form,
          idempotencyKey: crypto.randomUUID(),
        }, testKey)).serverId;
      const agreed = { "consent.build": "true" };

      await t.step("each is found by its package, image or location", async () => {
        const found = async (query: string) =>
          (await searchCatalog(db, user, { query })).rows.map(({ entry }) => entry.slug);
        assert.ok((await found("made up")).includes("made-oci"));
        assert.deepEqual(await found("docker io made"), ["made-oci"]);
        assert.deepEqual(await found("git example"), ["made-source"]);
        assert.deepEqual((await found("Made.Up nug")).filter((slug) => slug !== "made-nuget"), []);
      });

      await t.step("each is deployed, and its toolbox is asked for just that package", async () => {
        for (const { slug, package: wanted } of MADE_ENTRIES) {
          const serverId = await deploy(slug, agreed);
          const { servers } = await desiredOf(db, toolboxId, testKey);
          const spec = ServerSpec.parse(servers.find((each) => each.serverId === serverId));
          assert.deepEqual(spec.package, wanted);
          const [event] = await listEvents(db, user, { serverId });
          assert.ok(event.message.startsWith(`Deployed ${packageTitle(wanted)}`), event.message);
        }
      });

      await t.step("what runs code at its build is deployed by agreement alone", async () => {
        for (const entry of MADE_ENTRIES) {
          if (buildCodeOf(entry) === null) {
            await deploy(entry.slug);
            continue;
          }
          const forms: Record<string, string>[] = [{}, { "consent.build": "false" }];
          for (const form of forms) {
            await assert.rejects(deploy(entry.slug, form), (error) => {
              assert.ok(error instanceof Invalid);
              assert.match(error.fields["consent.build"], /agree to it, or do not deploy/);
              return true;
            });
          }
          const serverId = await deploy(entry.slug, agreed);
          const [event] = await listEvents(db, user, { serverId });
          assert.match(event.message, /, agreeing to (its packages' install|what its Dockerfile)/);
          assert.equal(event.actorName, "ann");
        }
      });

      await t.step("a change of the same package asks for no agreement again", async () => {
        const serverId = await deploy("made-source", agreed);
        const form = { "option.memoryMiB": "1024" };
        await reconfigureServer(db, user, serverId, { form, baseGeneration: 1 }, testKey);
        await rollBackServer(db, user, serverId, 1);
        const { generation, config } = await getServer(db, user, serverId);
        assert.equal(generation, 3);
        assert.deepEqual(config.entry.package, madeEntry("source").package);
      });

      await world.close();
    },
  });
}

Deno.test("CatalogEntry takes exact packages alone", () => {
  const refused = [
    { ...madeEntry("npm").package, version: "latest" },
    { ...madeEntry("pypi").package, version: ">=1" },
    { ...madeEntry("nuget").package, name: "../x" },
    { registry: "oci", image: "docker.io/made/up:latest", digest: "latest" },
    { ...madeEntry("source").package, revision: "main" },
    { ...madeEntry("source").package, location: "ssh://git.example/made/up" },
    { registry: "cargo", name: "a", version: "1.0.0" },
  ];
  for (const wanted of refused) {
    const parsed = CatalogEntry.safeParse({ ...madeEntry("npm"), package: wanted });
    assert.equal(parsed.success, false, JSON.stringify(wanted));
  }
});

Deno.test("buildCodeOf tells what a build runs, and missingConsent asks for that alone", () => {
  const codes = Object.fromEntries(MADE_ENTRIES.map((each) => [each.slug, buildCodeOf(each)]));
  assert.deepEqual(codes, {
    "made-http": null,
    "made-npm": null,
    "made-npm-scripts": "install-scripts",
    "made-pypi": null,
    "made-pypi-scripts": "install-scripts",
    "made-nuget": null,
    "made-oci": null,
    "made-source": "dockerfile",
  });
  for (const entry of MADE_ENTRIES) {
    assert.equal(Object.keys(missingConsent(entry, {})).length, buildCodeOf(entry) ? 1 : 0);
    assert.deepEqual(missingConsent(entry, { "consent.build": "true" }), {});
  }
  assert.match(
    missingConsent(madeEntry("source"), {})["consent.build"],
    /what its Dockerfile says/,
  );
});
