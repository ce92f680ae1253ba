/**
 * Asks npm's registry for the packages of the built-in catalog, each at its version. It is asked for by
 * hand, after a change of the catalog (`CATALOG_CHECK=slug,slug` or `CATALOG_CHECK=all`): what another's
 * registry answers today is not what a commit is judged by, and a registry is not to be polled by CI.
 */
import assert from "node:assert/strict";
import entries from "../../models/catalog_builtin.json" with { type: "json" };
import { CatalogEntry } from "../../models/catalog_entries.ts";

const asked = Deno.env.get("CATALOG_CHECK") ?? "";
const chosen = entries.map((entry) => CatalogEntry.parse(entry)).filter((
  { slug, package: wanted },
) => wanted.registry === "npm" && (asked === "all" || asked.split(",").includes(slug)));

Deno.test({
  name: asked
    ? `npm has the catalog's packages at their versions, not deprecated (${chosen.length} asked for)`
    : "npm has the catalog's packages (not asked: CATALOG_CHECK is not set)",
  ignore: asked === "",
  async fn(t) {
    assert.ok(chosen.length > 0, `no npm entry is called ${asked}`);
    const answers = await view("npm", "version");
    if (!answers) {
      console.log("SKIPPED: npm's registry does not answer here");
      return;
    }
    for (const { slug, package: wanted } of chosen) {
      if (wanted.registry !== "npm") continue;
      await t.step(`${slug}: ${wanted.name}@${wanted.version}`, async () => {
        const found = await view(`${wanted.name}@${wanted.version}`, "version", "deprecated");
        assert.ok(found, "npm has no such version");
        assert.equal(typeof found === "string" ? found : found.version, wanted.version);
        assert.equal(typeof found === "string" ? undefined : found.deprecated, undefined);
      });
    }
  },
});

/** What `npm view` says of a package; null when it knows of none, or does not reach its registry. */
async function view(
  spec: string,
  ...fields: string[]
): Promise<string | { version?: string; deprecated?: string } | null> {
  const { stdout, success } = await new Deno.Command("npm", {
    args: ["view", spec, ...fields, "--json"],
    stderr: "null",
  }).output();
  const text = new TextDecoder().decode(stdout).trim();
  return success && text ? JSON.parse(text) : null;
}
