import assert from "node:assert/strict";
import { findCatalogEntry, searchCatalog } from "../../models/catalog_entries.ts";
import {
  addSource,
  listBroken,
  listSources,
  listVersions,
  readRaw,
  removeSource,
  requestSync,
  unwriteEntry,
  uploadSource,
  writeEntry,
} from "../../models/catalog_sources.ts";
import { syncDueSources } from "../../models/catalog_sync.ts";
import { Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { createLog } from "../../models/log.ts";
import { OutsideError } from "../../models/outside.ts";
import { FakeRegistry } from "../catalogs/fake_registry.ts";
import { addMember, KINDS, makeUser, openWorld } from "./databases.ts";

const T = (minute: number) => new Date(Date.UTC(2026, 0, 1, 0, minute)).toISOString();
const REGISTRY = "https://registry.example.com/";

for (const kind of KINDS) {
  Deno.test({
    name: `catalog sync, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, owner, workspaceId } = world;
      const log = createLog("text", () => {});
      const fake = new FakeRegistry();
      const deps = { db, log, outside: fake.outside };
      const sync = async (sourceId: string) => {
        await requestSync(db, user, sourceId);
        await syncDueSources(deps, { sourceId });
        return await stateOf(sourceId);
      };
      const stateOf = async (sourceId: string) =>
        (await listSources(db, user, workspaceId)).find(({ id }) => id === sourceId)!;
      const add = (name: string, url: string, kind = "registry") =>
        addSource(db, user, workspaceId, { name, url, kind, syncEveryMinutes: "1440" });
      let registry = "";

      await t.step("a registry's pages are read to the end, old versions and all", async () => {
        fake.servers = Array.from({ length: 250 }, (_, n) => ({
          name: `com.example/tool-${n}`,
          version: "1.0.0",
          updatedAt: T(n),
        }));
        fake.servers.push({
          name: "com.example/tool-1",
          version: "0.9.0",
          isLatest: false,
          updatedAt: T(0),
        });
        registry = await add("Registry", REGISTRY);
        await syncDueSources(deps);
        const source = await stateOf(registry);
        assert.equal(source.lastSync?.state, "ok", source.lastSync?.reason);
        assert.deepEqual([source.entries, source.deployable, source.broken], [250, 250, 0]);
        assert.deepEqual([source.lastSync!.added, source.lastSync!.seen], [250, 251]);
        assert.equal(fake.asked.length, 3);
        assert.equal(fake.asked[0].href, `${REGISTRY}v0.1/servers?limit=100`);
        const row = await findCatalogEntry(db, user, "registry--com-example-tool-1", workspaceId);
        assert.equal(row.version, "1.0.0");
        const versions = await listVersions(db, user, row.id);
        assert.deepEqual(versions.map(({ version }) => version), ["1.0.0", "0.9.0"]);
        const raw = JSON.parse(await readRaw(db, user, row.id, versions[1].hash));
        assert.equal(raw.server.version, "0.9.0");
        assert.ok(source.nextSyncAt! > new Date(), "the next is planned");
      });

      await t.step("the next sync asks for what changed, and takes that alone", async () => {
        fake.asked = [];
        fake.servers[1].isLatest = false;
        fake.servers.push(
          { name: "com.example/tool-1", version: "1.1.0", updatedAt: T(300) },
          { name: "com.example/tool-2", version: "1.0.0", status: "deleted", updatedAt: T(301) },
          {
            name: "com.example/tool-3",
            version: "1.0.1",
            status: "deprecated",
            updatedAt: T(302),
          },
        );
        fake.servers = fake.servers.filter(({ name, updatedAt }) =>
          name !== "com.example/tool-2" || updatedAt === T(301)
        );
        const { lastSync, entries } = await sync(registry);
        assert.equal(fake.asked.length, 1);
        assert.equal(fake.asked[0].searchParams.get("updated_since"), T(244));
        assert.deepEqual(
          [lastSync!.added, lastSync!.changed, lastSync!.removed, entries],
          [0, 2, 1, 249],
        );
        const row = await findCatalogEntry(db, user, "registry--com-example-tool-1", workspaceId);
        assert.equal(row.version, "1.1.0");
        assert.deepEqual(
          (await listVersions(db, user, row.id)).map(({ version }) => version),
          ["1.1.0", "1.0.0", "0.9.0"],
        );
        await assert.rejects(
          findCatalogEntry(db, user, "registry--com-example-tool-2", workspaceId),
          NotFound,
        );
        const old = await findCatalogEntry(db, user, "registry--com-example-tool-3", workspaceId);
        assert.deepEqual(old.notes[0], "Its publisher calls it deprecated");
        // Nothing new: nothing written.
        const again = await sync(registry);
        assert.deepEqual([again.lastSync!.added, again.lastSync!.changed], [0, 0]);
      });

      await t.step(
        "what answers badly keeps what is there, says why and is asked again",
        async () => {
          const answers: [Response, RegExp, number?][] = [
            [
              new Response("", { status: 429, headers: { "retry-after": "77" } }),
              /asked too often/,
              77,
            ],
            [new Response("", { status: 500 }), /answers with an error \(500\)/],
            [new Response("", { status: 404 }), /nothing at its address/],
            [new Response("", { status: 403 }), /wants somebody to sign in/],
            [new Response('{"servers": [{"server"'), /what is no page: It is no JSON/],
            [new Response('{"servers": 7}'), /no list of servers/],
            [new Response("<html>"), /no JSON/],
            [
              new Response(`{"servers":${"[".repeat(5000)}${"]".repeat(5000)}}`),
              /nested too deeply/,
            ],
          ];
          for (const [answer, reason, seconds] of answers) {
            fake.next = [answer];
            const source = await sync(registry);
            assert.equal(source.lastSync?.state, "failed");
            assert.match(source.lastSync!.reason!, reason);
            assert.equal(source.entries, 249);
            const waitS = (source.nextSyncAt!.getTime() - Date.now()) / 1000;
            assert.ok(seconds ? Math.abs(waitS - seconds) < 10 : waitS > 100, `${waitS} s`);
          }
          fake.next = [];
          const broken = {
            ...deps,
            outside: () => Promise.reject(new OutsideError("x does not answer")),
          };
          await requestSync(db, user, registry);
          await syncDueSources(broken, { sourceId: registry });
          assert.match((await stateOf(registry)).lastSync!.reason!, /x does not answer/);
          assert.equal((await sync(registry)).lastSync!.state, "ok");
        },
      );

      await t.step("a run that breaks off goes on where it stood", async () => {
        const id = await add("Long", "https://long.example.com/");
        fake.asked = [];
        fake.next = [null, null, new Response("", { status: 500 })];
        await syncDueSources(deps, { sourceId: id });
        const cut = await stateOf(id);
        assert.equal(cut.lastSync!.state, "failed");
        assert.deepEqual([cut.entries, cut.progress?.pages], [200, 2]);
        const { entries, lastSync } = await sync(id);
        assert.equal(lastSync!.state, "ok", lastSync!.reason);
        assert.equal(entries, 249);
        assert.deepEqual(
          fake.asked.map((url) => url.searchParams.get("cursor")),
          [
            null,
            "com.example/tool-100:1.0.0",
            ...Array(2).fill(fake.asked[2].searchParams.get("cursor")),
          ],
        );
        // The same when its time is up: it stays due.
        await owner`update public.catalog_sources set state = '{}' where id = ${id}`;
        await requestSync(db, user, id);
        await syncDueSources(deps, { sourceId: id, budgetMs: -1 });
        await syncDueSources(deps, { sourceId: id, budgetMs: 60_000 });
        assert.equal((await stateOf(id)).lastSync!.state, "ok");
        await removeSource(db, user, id);
      });

      await t.step("a registry that goes round or never ends is stopped", async () => {
        const id = await add("Circle", "https://circle.example.com/");
        fake.cursorOf = (at) =>
          at === 0 ? "com.example/tool-100:1.0.0" : "com.example/tool-0:1.0.0";
        await syncDueSources(deps, { sourceId: id });
        assert.match((await stateOf(id)).lastSync!.reason!, /go round in a circle/);
        let pages = 0;
        fake.cursorOf = () => `endless-${++pages}`;
        const few = fake.servers;
        fake.servers = few.slice(0, 1);
        await sync(id);
        assert.match((await stateOf(id)).lastSync!.reason!, /more than 2000 pages/);
        assert.equal(pages, 2000);
        fake.servers = few;
        fake.cursorOf = null;
        await removeSource(db, user, id);
      });

      await t.step(
        "one at a time works on a source, and none after it was taken away",
        async () => {
          const { promise: held, resolve: release } = Promise.withResolvers<void>();
          fake.asked = [];
          fake.before = () => held;
          await requestSync(db, user, registry);
          const first = syncDueSources(deps, { sourceId: registry });
          while (fake.asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
          assert.equal(await syncDueSources(deps, { sourceId: registry }), 0);
          await removeSource(db, user, registry);
          release();
          await first;
          assert.equal(fake.asked.length, 1);
          fake.before = () => Promise.resolve();
          const gone = await searchCatalog(db, user, { workspaceId, source: "registry" });
          assert.equal(gone.total, 0);
        },
      );

      await t.step(
        "sources with names alike overwrite neither each other nor what is built in",
        async () => {
          fake.servers = [
            { name: "com.example/git-hub", version: "1.0.0", updatedAt: T(0) },
            { name: "com.example/git.hub", version: "2.0.0", updatedAt: T(1) },
            { name: "github", version: "1.0.0", updatedAt: T(1), server: { packages: [] } },
          ];
          const ids = [
            await add("A", "https://a.example.com"),
            await add("B", "https://b.example.com"),
          ];
          await syncDueSources(deps);
          for (const id of ids) {
            const { lastSync } = await stateOf(id);
            assert.equal(lastSync?.state, "ok", lastSync?.reason);
          }
          const slugs = (await searchCatalog(db, user, { query: "git", workspaceId })).rows
            .map(({ entry }) => entry.slug);
          assert.equal(new Set(slugs).size, slugs.length);
          assert.deepEqual(
            slugs.filter((slug) => slug.includes("--")).map((slug) =>
              slug.replace(/-[0-9a-f]{12}$/, "-#")
            )
              .toSorted(),
            ["a", "b"].flatMap((source) => [
              `${source}--com-example-git-hub`,
              `${source}--com-example-git-hub-#`,
              `${source}--github`,
            ]),
          );
          assert.equal((await findCatalogEntry(db, user, "github", workspaceId)).source, "builtin");
          const listed = await findCatalogEntry(db, user, "a--github", workspaceId);
          assert.equal(listed.obstacle, "It names no package and no remote server");
          for (const id of ids) await removeSource(db, user, id);
        },
      );

      await t.step("a file is read again when it changed, and what it lost goes", async () => {
        const url = "https://files.example.com/registry.json";
        const id = await add("File", url, "url");
        let etag = '"1"', names = ["one", "two"], asked: Headers | null = null;
        const file = {
          ...deps,
          outside: (_: string | URL, init?: { headers?: HeadersInit }) => {
            asked = new Headers(init?.headers);
            if (asked.get("if-none-match") === etag) {
              return Promise.resolve(new Response(null, { status: 304 }));
            }
            const servers = Object.fromEntries(
              names.map((
                name,
              ) => [name, { description: name, image: `docker.io/made/${name}:1.0` }]),
            );
            return Promise.resolve(Response.json({ servers }, { headers: { etag } }));
          },
        };
        await syncDueSources(file, { sourceId: id });
        assert.equal((await stateOf(id)).entries, 2);
        await requestSync(db, user, id);
        await syncDueSources(file, { sourceId: id });
        assert.equal(asked!.get("if-none-match"), '"1"');
        assert.equal((await stateOf(id)).lastSync!.seen, null);
        etag = '"2"';
        names = ["two", "three"];
        await requestSync(db, user, id);
        await syncDueSources(file, { sourceId: id });
        const { lastSync } = await stateOf(id);
        assert.deepEqual([lastSync!.added, lastSync!.removed], [1, 1]);
        await removeSource(db, user, id);
      });

      await t.step("what is no entry is kept with its place and reason", async () => {
        const text = JSON.stringify([
          { name: "com.example/good", description: "Good", version: "1.0.0" },
          { name: "", description: "Nameless", version: "1.0.0" },
          { name: 7, description: "Numbered", version: "1.0.0" },
          null,
        ]);
        const id = await uploadSource(db, user, workspaceId, "Files", [
          { name: "list.json", bytes: new TextEncoder().encode(text) },
        ]);
        await syncDueSources(deps, { sourceId: id });
        assert.deepEqual(
          (await listBroken(db, user, id)).map(({ place }) => place),
          ["list.json[1] ", "list.json[2]", "list.json[3]"].map((place) => place.trim()),
        );
        assert.equal((await stateOf(id)).broken, 3);
        await removeSource(db, user, id);
      });

      await t.step("two files of one name are two documents", async () => {
        const uploads = ["one", "two"].map((name) => ({
          name: "server.json",
          bytes: new TextEncoder().encode(
            JSON.stringify({ name: `com.example/${name}`, description: name, version: "1.0.0" }),
          ),
        }));
        const id = await uploadSource(db, user, workspaceId, "Twice", uploads);
        await syncDueSources(deps, { sourceId: id });
        assert.equal((await stateOf(id)).entries, 2);
        await removeSource(db, user, id);
      });

      await t.step("what many archives unpack to is bounded together", async () => {
        const header = new Uint8Array(512);
        header.set(new TextEncoder().encode("server.json"), 0);
        header.set(new TextEncoder().encode((12 * 1024 * 1024).toString(8).padStart(11, "0")), 124);
        header[156] = 0x30;
        header.set(new TextEncoder().encode("ustar"), 257);
        const body = new Uint8Array(12 * 1024 * 1024).fill(0x20);
        const bytes = await new Response(
          new Blob([header, body, new Uint8Array(1024)]).stream()
            .pipeThrough(new CompressionStream("gzip")),
        ).bytes();
        assert.ok(bytes.length < 20_000, String(bytes.length));
        const uploads = Array.from({ length: 3 }, (_, n) => ({ name: `${n}.tar.gz`, bytes }));
        await assert.rejects(
          uploadSource(db, user, workspaceId, "Bombs", uploads),
          (error) => error instanceof Invalid && /more than 32 MiB together/.test(error.message),
        );
      });

      await t.step("an entry is written by hand, changed and removed", async () => {
        const write = (version: string) =>
          writeEntry(
            db,
            user,
            workspaceId,
            JSON.stringify({ name: "com.example/own", description: "Ours", version, packages: [] }),
          );
        for (const text of ["", "{", "[]", '{"name":"x"}', '{"servers":[]}']) {
          await assert.rejects(writeEntry(db, user, workspaceId, text), Invalid, text);
        }
        const { sourceId } = await write("1.0.0");
        await syncDueSources(deps, { sourceId });
        assert.equal((await write("1.1.0")).sourceId, sourceId);
        await syncDueSources(deps, { sourceId });
        const row = await findCatalogEntry(db, user, "written-here--com-example-own", workspaceId);
        assert.equal(row.version, "1.1.0");
        assert.equal((await listVersions(db, user, row.id)).length, 2);
        await unwriteEntry(db, user, row.id);
        await syncDueSources(deps, { sourceId });
        assert.equal((await stateOf(sourceId)).entries, 0);
      });

      await t.step(
        "only owners and admins change sources; nobody sees another workspace's",
        async () => {
          const member = await makeUser(world, "member@example.com");
          const stranger = await makeUser(world, "stranger@example.com");
          await addMember(world, workspaceId, member.userId, "member");
          const form = { name: "X", url: "https://x.example.com", kind: "url" };
          const id = await addSource(db, user, workspaceId, form);
          await assert.rejects(
            addSource(db, member, workspaceId, {
              ...form,
              name: "Y",
              url: "https://y.example.com",
            }),
            Forbidden,
          );
          await assert.rejects(requestSync(db, member, id), Forbidden);
          await assert.rejects(removeSource(db, member, id), Forbidden);
          await assert.rejects(requestSync(db, stranger, id), NotFound);
          assert.equal((await listSources(db, stranger, workspaceId)).length, 0);
          for (
            const wrong of [
              { ...form, url: "http://x.example.com" },
              { ...form, url: "https://a:b@x.example.com" },
              { ...form, url: "javascript:alert(1)" },
              { ...form, kind: "upload" },
              { ...form, name: "" },
              { ...form, syncEveryMinutes: "1" },
              form,
            ]
          ) {
            await assert.rejects(
              addSource(db, user, workspaceId, wrong),
              Invalid,
              JSON.stringify(wrong),
            );
          }
        },
      );

      await world.close();
    },
  });
}
