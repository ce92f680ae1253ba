import assert from "node:assert/strict";
import {
  askedInputs,
  findCatalogEntry,
  putBuiltinCatalog,
  searchCatalog,
} from "../../models/catalog_entries.ts";
import { NotFound } from "../../models/errors.ts";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { KINDS, openWorld } from "./databases.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `catalog entries, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user } = world;
      const slugs = async (query: string, category = "") =>
        (await searchCatalog(db, user, { query, category })).rows.map(({ entry }) => entry.slug);

      await t.step(
        "searchCatalog finds by name, by what it does and by a word's beginning",
        async () => {
          assert.equal((await searchCatalog(db, user, {})).total, builtin.length);
          assert.equal((await slugs("filesystem"))[0], "filesystem");
          assert.equal((await slugs("filesy"))[0], "filesystem");
          assert.equal((await slugs("GitHub"))[0], "github");
          assert.ok((await slugs("search web")).length > 0);
          assert.equal((await slugs("the Memory"))[0], "memory");
          assert.equal((await slugs("Sequential Thinking reasoning"))[0], "sequential-thinking");
          assert.deepEqual(await slugs("zzzzqqqq"), []);
          const { categories } = await searchCatalog(db, user, {});
          for (const { name, count } of categories) {
            assert.equal((await slugs("", name)).length, count);
          }
        },
      );

      await t.step("searchCatalog takes whatever is typed", async () => {
        for (
          const query of [
            "'",
            "a & | !",
            ":*",
            "<script>",
            "\u0000",
            "((",
            "世界",
            "x".repeat(10_000),
            "a'; drop table servers; --",
          ]
        ) {
          await slugs(query);
        }
      });

      await t.step(
        "putBuiltinCatalog makes it equal to what is given, or changes nothing",
        async () => {
          await assert.rejects(putBuiltinCatalog(db, [{ slug: "broken" }]));
          // What no toolbox would take.
          const environment = [{ name: "NOT A NAME" }];
          await assert.rejects(putBuiltinCatalog(db, [{ ...builtin[0], environment }]));
          assert.equal((await searchCatalog(db, user, {})).total, builtin.length);
          await putBuiltinCatalog(db, builtin.slice(1));
          assert.equal((await searchCatalog(db, user, {})).total, builtin.length - 1);
          await assert.rejects(findCatalogEntry(db, user, builtin[0].slug), NotFound);
          await putBuiltinCatalog(db, builtin);
        },
      );

      await t.step("askedInputs asks no fixed value, and what is needed first", async () => {
        for (const { slug } of builtin) {
          const asked = askedInputs((await findCatalogEntry(db, user, slug)).entry);
          assert.ok(asked.every(({ input }) => input.value === undefined));
          const needed = asked.map(({ input }) => input.isRequired);
          assert.deepEqual(needed, needed.toSorted((a, b) => Number(b) - Number(a)));
        }
      });

      await world.close();
    },
  });
}
