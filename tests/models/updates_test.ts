import assert from "node:assert/strict";
import { v7 } from "uuid";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import {
  CatalogEntry,
  findCatalogEntry,
  putBuiltinCatalog,
  searchCatalog,
} from "../../models/catalog_entries.ts";
import { createAgent } from "../../models/agents.ts";
import { connectServer } from "../../models/agents.ts";
import { changeConnectionSecrets } from "../../models/connection_secrets.ts";
import { Conflict, Forbidden, Invalid } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import { listGenerations, rollBackServer } from "../../models/generations.ts";
import { deployServer, getServer, reconfigureServer, stopServer } from "../../models/servers.ts";
import { acceptReport, desiredOf } from "../../models/toolboxes.ts";
import { readEntryTrust } from "../../models/trust.ts";
import { getUpdate, listUpdates, skipUpdate, updateServer } from "../../models/updates.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

/** None of these packages is real. */
const base = CatalogEntry.parse({
  ...builtin[0],
  slug: "made",
  title: "Made",
  package: { registry: "npm", name: "@made/up", version: "1.2.3", installScripts: false },
  arguments: [
    { type: "positional", name: "root", isRequired: true },
    { type: "named", name: "--key", isSecret: true },
  ],
  environment: [
    { name: "TOKEN", label: "API token", isSecret: true, isRequired: true },
    { name: "REGION", label: "Region" },
    { name: "OLD", label: "Old thing" },
  ],
  network: { hosts: ["api.example.com:443"] },
  volumes: [],
});
type Entry = typeof base;

function entry(changes: Partial<Entry> & { version?: string } = {}): Entry {
  const { version, ...rest } = changes;
  const wanted = { ...base.package, ...(version && { version }) } as Entry["package"];
  return { ...base, package: wanted, ...rest };
}

const GIVEN = { "arg.0": "/data/x", "arg.1": "key-1", "env.TOKEN": "t-1", "env.REGION": "eu" };

for (const kind of KINDS) {
  Deno.test({
    name: `updates, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const list = (...entries: Entry[]) => putBuiltinCatalog(db, [...builtin, ...entries]);
      const epoch = v7();
      let sequence = 0;
      const report = (seen: Partial<ReturnType<typeof observation>> & { serverId: string }) =>
        acceptReport(db, toolboxId, {
          epoch,
          sequence: ++sequence,
          observations: [{ ...observation(seen.serverId, 1, []), ...seen }],
          events: [],
          removed: [],
        });
      const deployed = async (form: Record<string, string> = GIVEN, slug = "made") => {
        const { serverId } = await deployServer(db, user, {
          workspaceId,
          toolboxId,
          slug,
          form,
          idempotencyKey: crypto.randomUUID(),
        }, testKey);
        await report({ serverId });
        return serverId;
      };
      const update = async (serverId: string, form: Record<string, string> = {}) => {
        const { offer } = await getUpdate(db, user, serverId);
        await updateServer(db, user, serverId, { update: offer!.id, form }, testKey);
      };
      const spec = async (serverId: string) =>
        (await desiredOf(db, toolboxId, testKey)).servers.find((s) => s.serverId === serverId)!;

      await t.step("a server has what its catalog has, whatever is said of it", async () => {
        await list(entry());
        const id = await deployed();
        assert.equal((await getUpdate(db, user, id)).state, "current");
        await list(entry({ summary: "Something else", license: "MIT" }));
        const status = await getUpdate(db, user, id);
        assert.deepEqual([status.state, status.installed], ["current", "1.2.3"]);
        assert.equal((await listUpdates(db, user, workspaceId)).has(id), false);
      });

      await t.step("a newer one is offered, with what it changes and what widens", async () => {
        await list(entry());
        const id = await deployed();
        await owner`
          insert into public.tools (server_id, workspace_id, name, definition, hash, present)
          values (${id}, ${workspaceId}, 'echo', '{}', 'x', true)`;
        await list(entry({
          version: "1.10.0",
          network: { hosts: ["*.example.com:443", "api.example.com:443"] },
          volumes: [{ name: "data", path: "/data" }],
          memoryMiB: 1024,
          environment: [
            base.environment[0],
            { ...base.environment[1], isRequired: true },
            { ...base.environment[1], name: "ZONE", label: "Zone", default: "a" },
            { ...base.environment[0], name: "SECOND", label: "Second", isRequired: false },
          ],
        }));
        const { state, offer } = await getUpdate(db, user, id);
        assert.equal(state, "available");
        assert.deepEqual([offer!.from, offer!.to, offer!.kind], ["1.2.3", "1.10.0", "newer"]);
        assert.deepEqual(offer!.asks, []);
        const said = offer!.changes.map(({ about, name, before, after, widens }) =>
          `${about} | ${name} | ${before} | ${after}${widens ? " | widens" : ""}`
        );
        assert.deepEqual(said, [
          "package | Package | @made/up@1.2.3 | @made/up@1.10.0",
          "permissions | Reaches | null | *.example.com:443 | widens",
          "permissions | Keeps data at | null | /data | widens",
          "permissions | Memory | 512 MiB | 1024 MiB | widens",
          "inputs | Region | optional | needed",
          "inputs | New input | null | Zone, a unless you say otherwise",
          "permissions | Is given the secret | null | Second, optional | widens",
          "inputs | Asks no more for | Old thing | null",
        ]);
        assert.equal((await listUpdates(db, user, workspaceId)).get(id)?.to, "1.10.0");
      });

      await t.step("an older one is never offered", async () => {
        await list(entry({ version: "2.0.0" }));
        const id = await deployed();
        await list(entry({ version: "1.9.9", memoryMiB: 1024 }));
        const status = await getUpdate(db, user, id);
        assert.deepEqual([status.state, status.listed, status.offer], ["older", "1.9.9", null]);
        await assert.rejects(
          updateServer(db, user, id, { update: "1.9.9", form: {} }, testKey),
          Conflict,
        );
        await list(entry({ version: "2.0.0-rc.1" }));
        assert.equal((await getUpdate(db, user, id)).state, "older");
      });

      await t.step("a revision of the same version is offered as such", async () => {
        await list(entry());
        const id = await deployed();
        await list(entry({ network: { hosts: ["api.example.com:443", "b.example.com:443"] } }));
        const { offer } = await getUpdate(db, user, id);
        assert.deepEqual([offer!.kind, offer!.to], ["revised", "1.2.3"]);
        await update(id);
        assert.equal((await getUpdate(db, user, id)).state, "current");
      });

      await t.step("updating takes along what was given, by names and not by places", async () => {
        await list(entry());
        const id = await deployed();
        await list(entry({
          version: "1.3.0",
          arguments: [
            {
              ...base.arguments[0],
              type: "named",
              name: "--verbose",
              isRequired: false,
              value: "1",
            },
            base.arguments[1],
            base.arguments[0],
          ],
        }));
        await update(id);
        const server = await getServer(db, user, id);
        assert.equal(server.generation, 2);
        assert.equal(server.config.origin?.version, "1.3.0");
        assert.deepEqual(server.config.values, { "arg.2": "/data/x", "env.REGION": "eu" });
        const { arguments: args, secrets, environment, package: wanted } = await spec(id);
        assert.deepEqual(args, ["--verbose", "1", "--key", "key-1", "/data/x"]);
        assert.deepEqual([secrets, environment.REGION], [{ TOKEN: "t-1" }, "eu"]);
        assert.equal("version" in wanted && wanted.version, "1.3.0");
        const [event] = await listEvents(db, user, { serverId: id });
        assert.match(event.message, /^Updated from 1\.2\.3 to 1\.3\.0: @made\/up@1\.3\.0$/);
        assert.equal((await getUpdate(db, user, id)).state, "current");
        // A second click on the same button.
        await updateServer(db, user, id, { update: "1.3.0", form: {} }, testKey);
        assert.equal((await getServer(db, user, id)).generation, 2);
      });

      await t.step("what is newly needed is asked for, and nothing is lost", async () => {
        await list(entry());
        const id = await deployed();
        await list(entry({
          version: "2.0.0",
          environment: [
            ...base.environment,
            { ...base.environment[0], name: "NEW_KEY", label: "New key" },
          ],
        }));
        const { offer } = await getUpdate(db, user, id);
        assert.deepEqual(offer!.asks.map(({ field }) => field), ["env.NEW_KEY"]);
        await assert.rejects(update(id), (error: unknown) => {
          assert.ok(error instanceof Invalid);
          assert.match(error.fields["env.NEW_KEY"], /New key is needed/);
          return true;
        });
        assert.equal((await getServer(db, user, id)).generation, 1);
        await update(id, { "env.NEW_KEY": "n-1" });
        assert.deepEqual((await spec(id)).secrets, { TOKEN: "t-1", NEW_KEY: "n-1" });
      });

      await t.step("code that a build runs is agreed to, once for a package", async () => {
        await list(entry());
        const id = await deployed();
        const scripts = (version: string) =>
          entry({
            package: { ...base.package, version, installScripts: true } as Entry["package"],
          });
        await list(scripts("1.3.0"));
        const { offer } = await getUpdate(db, user, id);
        assert.equal(offer!.asksConsent, "install-scripts");
        assert.equal(
          offer!.changes.some(({ widens, about }) => widens && about === "permissions"),
          true,
        );
        await assert.rejects(update(id), Invalid);
        await update(id, { "consent.build": "true" });
        const [event] = await listEvents(db, user, { serverId: id });
        assert.match(event.message, /agreeing to its packages' install scripts/);
        await list(scripts("1.4.0"));
        assert.equal((await getUpdate(db, user, id)).offer!.asksConsent, null);
      });

      await t.step("secrets do not go along to somebody else's package", async () => {
        await list(entry());
        const id = await deployed();
        const other = { ...base.package, name: "made-by-another", version: "9.0.0" };
        await list(entry({ package: other as Entry["package"] }));
        const { offer } = await getUpdate(db, user, id);
        assert.equal(offer!.changes[0].name, "Another package");
        assert.equal(offer!.changes[0].widens, true);
        assert.deepEqual(offer!.asks.map(({ field }) => field).toSorted(), ["arg.1", "env.TOKEN"]);
        await assert.rejects(update(id), Invalid);
        await update(id, { "env.TOKEN": "t-2" });
        const { secrets, arguments: args } = await spec(id);
        assert.deepEqual(secrets, { TOKEN: "t-2" });
        assert.deepEqual(args, ["/data/x"]);
      });

      await t.step("an agent's own values are not given to another input", async () => {
        await list(entry({ instances: "agent" }));
        const id = await deployed();
        const agentId = await createAgent(db, user, workspaceId, `Agent ${id}`);
        await connectServer(db, user, agentId, id);
        await changeConnectionSecrets(
          db,
          user,
          { agentId, serverId: id },
          { "arg.1": "own-key" },
          testKey,
        );
        const generation = (await getServer(db, user, id)).generation;
        await list(entry({ instances: "agent", version: "1.3.0", arguments: [base.arguments[1]] }));
        await assert.rejects(update(id, { "arg.0": "x" }), /has a value of its own for arg\.1/);
        assert.equal((await getServer(db, user, id)).generation, generation);
      });

      await t.step("a version is skipped, and the next one offered again", async () => {
        await list(entry());
        const id = await deployed();
        await list(entry({ version: "1.3.0" }));
        const { offer } = await getUpdate(db, user, id);
        await skipUpdate(db, user, id, offer!.id);
        assert.equal((await getUpdate(db, user, id)).state, "skipped");
        assert.equal((await listUpdates(db, user, workspaceId)).has(id), false);
        await assert.rejects(skipUpdate(db, user, id, "7.7.7"), Conflict);
        await list(entry({ version: "1.4.0" }));
        assert.equal((await getUpdate(db, user, id)).state, "available");
        await skipUpdate(db, user, id, "1.4.0");
        await skipUpdate(db, user, id, null);
        assert.equal((await getUpdate(db, user, id)).state, "available");
      });

      await t.step("one that changes while it is looked at has to be read again", async () => {
        await list(entry());
        const id = await deployed();
        await list(entry({ version: "1.3.0" }));
        const { offer } = await getUpdate(db, user, id);
        await list(entry({ version: "1.3.1", network: { hosts: ["evil.example.com:443"] } }));
        await assert.rejects(
          updateServer(db, user, id, { update: offer!.id, form: {} }, testKey),
          /has changed since you looked/,
        );
        assert.equal((await getServer(db, user, id)).generation, 1);
      });

      await t.step("a stopped server stays stopped", async () => {
        await list(entry());
        const id = await deployed();
        await stopServer(db, user, id);
        await list(entry({ version: "1.3.0" }));
        await update(id);
        const server = await getServer(db, user, id);
        assert.deepEqual([server.running, server.generation], [false, 2]);
      });

      await t.step("a viewer takes and skips nothing", async () => {
        await list(entry());
        const id = await deployed();
        await list(entry({ version: "1.3.0" }));
        const viewer = await makeUser(world, `viewer-${kind.name}@example.com`);
        await addMember(world, workspaceId, viewer.userId, "viewer");
        assert.equal((await getUpdate(db, viewer, id)).state, "available");
        await assert.rejects(
          updateServer(db, viewer, id, { update: "1.3.0", form: {} }, testKey),
          Forbidden,
        );
        await assert.rejects(skipUpdate(db, viewer, id, "1.3.0"), Forbidden);
      });

      await t.step(
        "one that does not get ready is gone back from, with why and its log",
        async () => {
          await list(entry());
          const id = await deployed();
          await list(entry({ version: "1.3.0" }));
          await update(id);
          const failed = {
            state: "failed" as const,
            detail: "It ended at once",
            nextStep: "Read its log",
            since: new Date().toISOString(),
          };
          const ready = { state: "ready" as const, detail: "", since: failed.since };
          await report({
            serverId: id,
            generation: 2,
            layers: {
              image: ready,
              container: failed,
              handshake: ready,
              tools: { ...ready, state: "waiting" },
            },
            gaveUp: true,
            servingGeneration: 1,
            logTail: ["Error: no\u0000pe"],
            tools: null,
          });
          const server = await getServer(db, user, id);
          assert.equal(server.generation, 3);
          assert.equal(server.config.origin?.version, "1.2.3");
          assert.equal(
            "version" in server.config.entry.package && server.config.entry.package.version,
            "1.2.3",
          );
          const status = await getUpdate(db, user, id);
          assert.equal(status.state, "available");
          assert.deepEqual(
            [
              status.failed!.version,
              status.failed!.generation,
              status.failed!.reason,
              status.failed!.log,
            ],
            ["1.3.0", 2, "It ended at once. Read its log", ["Error: no\u0000pe"]],
          );
          const [event] = await listEvents(db, user, { serverId: id });
          assert.match(
            event.message,
            /Generation 2 did not get ready, so the settings of generation 1 are back\. It ended at once/,
          );
          const generations = await listGenerations(db, user, id);
          assert.equal(generations[1].failure, "It ended at once. Read its log");
          // The settings of now can be changed, and keep where they are from.
          await report({ serverId: id, generation: 3 });
          await reconfigureServer(db, user, id, {
            form: { ...GIVEN, "env.REGION": "us" },
            baseGeneration: 3,
          }, testKey);
          assert.equal((await getServer(db, user, id)).config.origin?.version, "1.2.3");
          assert.equal((await getUpdate(db, user, id)).failed, null);
        },
      );

      await t.step("what left its catalog is offered nothing", async () => {
        await list(entry());
        const id = await deployed();
        await list();
        const status = await getUpdate(db, user, id);
        assert.deepEqual([status.state, status.offer], ["uncatalogued", null]);
      });

      await t.step("versions that numbers do not order are told by time", async () => {
        await list(entry());
        const id = await deployed();
        const set = (version: string, at: Date, other: Partial<Entry>) =>
          owner`update public.catalog_entries set entry = ${
            JSON.stringify(entry(other))
          }::text::jsonb, version = ${version},
            updated_at = ${at} where slug = 'made'`;
        const source = {
          registry: "source",
          kind: "git",
          location: "https://git.example/made/up",
          dockerfile: "Dockerfile",
        } as const;
        const first = { ...source, revision: "a".repeat(40) },
          second = { ...source, revision: "b".repeat(40) };
        await owner`update public.server_generations set config = jsonb_set(jsonb_set(config, '{entry,package}', ${
          JSON.stringify(first)
        }::text::jsonb), '{origin,version}', '"aaaa"') where server_id = ${id}`;
        await set("bbbb", new Date(Date.now() + 1000), { package: second });
        const { offer } = await getUpdate(db, user, id);
        assert.equal(offer?.kind, "later");
        // What its catalog had before it was deployed is not offered.
        await set("bbbb", new Date(Date.now() - 86_400_000), { package: second });
        assert.equal((await getUpdate(db, user, id)).state, "current");
      });

      await t.step("a remote server's URL stays filled in as it was", async () => {
        const remote = (changes: object) => ({
          ...base,
          slug: "elsewhere",
          package: { registry: "remote", url: "https://{region}.example.com/mcp" },
          arguments: [],
          environment: [],
          urlVariables: { region: { name: "region", isRequired: true } },
          network: { hosts: [] },
          ...changes,
        } as unknown as Entry);
        await list(remote({}));
        const id = await deployed({ "url.region": "eu" }, "elsewhere");
        assert.equal((await getUpdate(db, user, id)).state, "current");
        await list(remote({ environment: [{ name: "KEY", isSecret: true }] }));
        const { offer } = await getUpdate(db, user, id);
        assert.deepEqual([offer!.kind, offer!.asks], ["revised", []]);
        await update(id);
        const { package: wanted, network } = await spec(id);
        assert.equal("url" in wanted && wanted.url, "https://eu.example.com/mcp");
        assert.deepEqual(network.hosts, ["eu.example.com:443"]);
        // Another host is somebody else, who is given nothing that was not given to them.
        await list(remote({
          package: { registry: "remote", url: "https://{region}.example.net/mcp" },
          environment: [{ name: "KEY", isSecret: true }],
        }));
        const other = (await getUpdate(db, user, id)).offer!;
        assert.deepEqual([other.changes[0].name, other.changes[0].widens], ["Another host", true]);
        await owner`
          insert into public.authorizations (server_id, workspace_id, state) values (${id}, ${workspaceId}, 'waiting')`;
        await assert.rejects(update(id), /called with an account at https:\/\/eu\.example\.com/);
        assert.equal((await getServer(db, user, id)).generation, 2);
        await owner`delete from public.authorizations where server_id = ${id}`;
        await update(id);
        await owner`
          insert into public.authorizations (server_id, workspace_id, state) values (${id}, ${workspaceId}, 'waiting')`;
        await assert.rejects(rollBackServer(db, user, id, 2), /disconnect the account first/);
      });

      await t.step(
        "an image by a tag is looked up anew when its entry has another version",
        async () => {
          await list(entry({ slug: "tagged", arguments: [], environment: [] }));
          const tagged = (version: string) =>
            owner`update public.catalog_entries set version = ${version}, updated_at = now(),
            entry = jsonb_set(entry, '{package}', ${
              JSON.stringify({ registry: "image", image: "docker.io/made/up", tag: "latest" })
            }::text::jsonb) where slug = 'tagged'`;
          const digest = (letter: string) => () => Promise.resolve(`sha256:${letter.repeat(64)}`);
          await tagged("0a1b2c");
          const { serverId: id } = await deployServer(
            db,
            user,
            {
              workspaceId,
              toolboxId,
              slug: "tagged",
              form: {},
              idempotencyKey: crypto.randomUUID(),
            },
            testKey,
            digest("a"),
          );
          assert.equal((await getUpdate(db, user, id)).state, "current");
          await tagged("9f8e7d");
          const { offer } = await getUpdate(db, user, id);
          assert.deepEqual([offer!.kind, offer!.from, offer!.to], ["later", "0a1b2c", "9f8e7d"]);
          assert.deepEqual(offer!.changes.map(({ name }) => name), ["Its digest"]);
          await assert.rejects(update(id), /could not be looked up/);
          await updateServer(db, user, id, { update: offer!.id, form: {} }, testKey, digest("b"));
          const { package: wanted } = await spec(id);
          assert.equal("digest" in wanted && wanted.digest, `sha256:${"b".repeat(64)}`);
          assert.equal((await getUpdate(db, user, id)).state, "current");
        },
      );

      await t.step(
        "an entry is verified by a checked name, or by having run here as it is",
        async () => {
          await list(
            entry(),
            entry({
              slug: "remote",
              package: { registry: "remote", url: "https://mcp.example.com/mcp" },
              arguments: [],
              environment: [],
            }),
          );
          const verified = async (slug: string) =>
            (await findCatalogEntry(db, user, slug, workspaceId)).isVerified;
          const found = async (verified: "yes" | "no") =>
            (await searchCatalog(db, user, { query: "made", workspaceId, verified, limit: 200 }))
              .rows.map(({ entry }) => entry.slug).filter((slug) =>
                ["made", "remote"].includes(slug)
              );
          assert.deepEqual([await verified("made"), await verified("remote")], [true, false]);
          assert.deepEqual([await found("yes"), await found("no")], [["made"], ["remote"]]);
          const id = await deployed({}, "remote");
          assert.equal(await verified("remote"), true);
          assert.equal((await found("yes")).length, 2);
          const [proof] =
            await owner`select * from public.catalog_proofs where entry_id in (select id from public.catalog_entries where slug = 'remote')`;
          assert.equal(proof.image_digest, "sha256:0");
          // It goes with the workspace's own server, not with its removal; and another package is another one.
          await owner`delete from public.servers where id = ${id}`;
          assert.equal(await verified("remote"), true);
          const stranger = await makeUser(world, `stranger-${kind.name}@example.com`);
          assert.equal((await findCatalogEntry(db, stranger, "remote")).isVerified, false);
          await list(
            entry(),
            entry({
              slug: "remote",
              package: { registry: "remote", url: "https://other.example.com/mcp" },
              arguments: [],
              environment: [],
            }),
          );
          assert.equal(await verified("remote"), false);
        },
      );

      await t.step(
        "of other catalogs the official registry alone makes an entry verified",
        async () => {
          const sources = {
            official: "https://registry.modelcontextprotocol.io",
            lookalike: "https://registry.modelcontextprotocol.io.example.com",
            other: "https://registry.example.com",
          };
          for (const [slug, url] of Object.entries(sources)) {
            const id = v7();
            await owner`insert into public.catalog_sources (id, workspace_id, slug, name, kind, url)
            values (${id}, ${workspaceId}, ${slug}, ${slug}, 'registry', ${url})`;
            for (
              const wanted of [base.package, {
                registry: "image",
                image: "docker.io/a/b",
                tag: "1",
              }]
            ) {
              const name = `${slug}--${wanted.registry}`;
              await owner`insert into public.catalog_entries (id, workspace_id, source_id, source, slug, name, version,
                hash, entry) values (${v7()}, ${workspaceId}, ${id}, ${slug}, ${name}, ${name}, '1', 'x',
                ${JSON.stringify({ ...base, slug: name, package: wanted })}::text::jsonb)`;
            }
          }
          const { rows } = await searchCatalog(db, user, {
            query: "made",
            workspaceId,
            verified: "yes",
            limit: 200,
          });
          const found = rows.map(({ entry }) => entry.slug).filter((slug) => slug.includes("--"));
          assert.deepEqual(found, ["official--npm"]);
          for (const slug of ["official--npm", "official--image", "lookalike--npm", "other--npm"]) {
            const row = await findCatalogEntry(db, user, slug, workspaceId);
            assert.equal(row.isVerified, slug === "official--npm", slug);
            const trust = await readEntryTrust(db, user, workspaceId, row);
            assert.equal(trust.isVerified, row.isVerified, slug);
          }
        },
      );

      await world.close();
    },
  });
}
