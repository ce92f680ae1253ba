import assert from "node:assert/strict";
import { searchCatalog } from "../../models/catalog_entries.ts";
import { uploadSource } from "../../models/catalog_sources.ts";
import { syncDueSources } from "../../models/catalog_sync.ts";
import { createLog } from "../../models/log.ts";
import { mostAlike } from "../../models/mistyped.ts";
import { addMember, KINDS, makeUser, openWorld } from "./databases.ts";

const SERVERS = [
  { name: "com.example/kubernetes", registryType: "npm", secret: true, description: "Pods" },
  { name: "com.example/weather", registryType: "pypi", secret: false, description: "Forecasts" },
  { name: "com.example/wetter", registryType: "mcpb", secret: false, description: "Vorhersagen" },
].map(({ name, registryType, secret, description }) => ({
  name,
  description,
  version: "1.0.0",
  packages: [{
    registryType,
    identifier: name.split("/")[1],
    version: "1.0.0",
    transport: { type: "stdio" },
    environmentVariables: secret ? [{ name: "KEY", isSecret: true, isRequired: true }] : [],
  }],
}));

for (const kind of KINDS) {
  Deno.test({
    name: `catalog search, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, workspaceId } = world;
      const bytes = new TextEncoder().encode(JSON.stringify(SERVERS));
      await uploadSource(db, user, workspaceId, "Ours", [{ name: "list.json", bytes }]);
      const outside = () => Promise.reject(new Error("Nothing is fetched"));
      await syncDueSources({ db, outside, log: createLog("text", () => {}) });
      const search = (asked: Parameters<typeof searchCatalog>[2]) =>
        searchCatalog(db, user, { workspaceId, ...asked });
      const names = async (asked: Parameters<typeof searchCatalog>[2]) =>
        (await search(asked)).rows.map(({ entry }) => entry.title);

      await t.step("a mistyped word finds what was meant, and says so", async () => {
        for (const typed of ["kubernets", "kuberentes", "kubrenetes", "Kubernetse", "kuberne"]) {
          assert.equal((await names({ query: typed }))[0], "Kubernetes", typed);
        }
        for (const typed of ["gihtub", "githb", "gitub", "githhub"]) {
          const found = await search({ query: typed });
          assert.equal(found.meant, "github", typed);
          assert.equal(found.rows[0].entry.slug, "github", typed);
        }
        assert.equal((await search({ query: "github" })).meant, null);
        assert.equal((await search({ query: "kubernets pods" })).rows.length, 1);
        assert.deepEqual(await names({ query: "zzzzqqqq" }), []);
        assert.deepEqual(await names({ query: "xyz" }), []);
      });

      await t.step("filters hold together, and counts follow all but their own", async () => {
        const source = { source: "ours" };
        assert.equal((await search(source)).total, 3);
        assert.deepEqual(await names({ ...source, runtime: "npm" }), ["Kubernetes"]);
        assert.deepEqual(await names({ ...source, deployable: "no" }), ["Wetter"]);
        assert.deepEqual(await names({ ...source, secrets: "yes" }), ["Kubernetes"]);
        assert.deepEqual(await names({ ...source, network: "yes" }), []);
        assert.deepEqual(await names({ ...source, category: "none such" }), []);
        const { facets, total } = await search({ ...source, runtime: "npm" });
        assert.equal(total, 1);
        assert.deepEqual(facets.runtime.map(({ value, count }) => [value, count]), [
          ["npm", 1],
          ["other", 1],
          ["pypi", 1],
        ]);
        assert.deepEqual(facets.secrets, [{ value: "yes", count: 1 }]);
        // What no filter is: it finds nothing, and breaks nothing.
        assert.deepEqual(await names({ source: "' or true --", category: "\u0000" }), []);
      });

      await t.step("results are sorted, and their pages are each entry once", async () => {
        const all = await search({ limit: 200 });
        const titles = all.rows.map(({ entry }) => entry.title.toLowerCase());
        assert.equal(titles.length, all.total);
        const paged: string[] = [];
        for (let offset = 0; offset < all.total; offset += 7) {
          for (const { id } of (await search({ limit: 7, offset })).rows) paged.push(id);
        }
        assert.deepEqual(paged, all.rows.map(({ id }) => id));
        const newest = await search({ sort: "updated", limit: 3 });
        assert.ok(newest.rows.every(({ source }) => source === "ours"));
        const byTitle = await names({ query: "weather", sort: "title" });
        assert.ok(byTitle.includes("Weather"));
        assert.deepEqual(byTitle, byTitle.toSorted((a, b) => a.localeCompare(b)));
        assert.deepEqual((await search({ offset: 100_000 })).rows, []);
        // Of the first letters typed: titles that begin so.
        assert.match((await names({ query: "ku" }))[0], /^Ku/);
        assert.match((await names({ query: "w" }))[0], /^W/);
      });

      await t.step("nobody finds what is of another workspace, nor its words", async () => {
        const stranger = await makeUser(world, "stranger@example.com");
        const viewer = await makeUser(world, "viewer@example.com");
        await addMember(world, workspaceId, viewer.userId, "viewer");
        const find = async (who: { userId: string }, query: string, inWorkspace?: string) =>
          await searchCatalog(db, who, { query, workspaceId: inWorkspace });
        assert.equal((await find(viewer, "kubernets", workspaceId)).total, 1);
        for (const asked of [workspaceId, undefined]) {
          assert.equal((await find(stranger, "kubernetes", asked)).total, 0);
          assert.equal((await find(stranger, "kubernets", asked)).meant, null);
          assert.ok((await find(stranger, "github", asked)).total > 0, "what is built in");
          assert.equal((await searchCatalog(db, stranger, { source: "ours" })).total, 0);
        }
      });

      await t.step("what is counted ahead is what there is, whatever is written", async () => {
        const { owner } = world;
        const differences = () =>
          owner`
            (select workspace_id, category, runtime, source, source_id, needs_secret, uses_network,
              deployable, is_pinned, count(*)::int
            from public.catalog_entries group by 1, 2, 3, 4, 5, 6, 7, 8, 9
            except all select * from mooring.catalog_counts where entries <> 0)
            union all
            (select * from mooring.catalog_counts where entries <> 0
            except all select workspace_id, category, runtime, source, source_id, needs_secret,
              uses_network, deployable, is_pinned, count(*)::int
            from public.catalog_entries group by 1, 2, 3, 4, 5, 6, 7, 8, 9)`;
        assert.deepEqual([...await differences()], []);
        await owner`update public.catalog_entries set obstacle = 'x' where slug like '%e%'`;
        await owner`update public.catalog_entries set seen_in = 1`;
        await owner`delete from public.catalog_entries where slug like '%a%'`;
        assert.deepEqual([...await differences()], []);
        await owner`delete from public.catalog_sources`;
        assert.deepEqual([...await differences()], []);
        // What ran here is verified, whatever is counted of its catalog.
        await owner`
          insert into public.catalog_proofs (workspace_id, entry_id, package, ready_at)
          select ${workspaceId}, id, entry -> 'package', now() from public.catalog_entries
          where deployable order by is_pinned, id limit 3`;
        for (const verified of ["", "yes", "no"] as const) {
          for (const query of ["", "server"]) {
            const found = await searchCatalog(db, user, {
              workspaceId,
              query,
              verified,
              limit: 1000,
            });
            assert.equal(found.total, found.rows.length, `${query} ${verified}`);
          }
        }
      });

      await world.close();
    },
  });
}

Deno.test("mostAlike takes one mistake in short words, two in longer ones, none in the shortest", () => {
  const words = ["github", "gitlab", "slack", "maps", "git"];
  assert.equal(mostAlike("gihtub", words), "github");
  assert.equal(mostAlike("gitlba", words), "gitlab");
  assert.equal(mostAlike("slcak", words), "slack");
  assert.equal(mostAlike("mapss", words), "maps");
  assert.equal(mostAlike("gti", words), null);
  assert.equal(mostAlike("xxxxxx", words), null);
  assert.equal(mostAlike("gihtu", words), "github");
});
