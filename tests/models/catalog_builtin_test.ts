import assert from "node:assert/strict";
import { HostPort, packageTitle } from "../../dtma/protocol.ts";
import entries from "../../models/catalog_builtin.json" with { type: "json" };
import { CatalogEntry } from "../../models/catalog_entries.ts";

// The JSON's own type is a union of every entry's literal shape; the rules below need only this much.
interface Input {
  name: string;
  label: string;
  description: string;
  isRequired: boolean;
  isSecret: boolean;
  format: string;
  type?: string;
  default?: string;
  value?: string;
  choices?: string[];
}

const catalog = entries.map((entry) => ({
  ...entry,
  package: CatalogEntry.parse(entry).package,
  inputs: [...entry.arguments, ...entry.environment] as Input[],
}));

/** Few, so that each is worth choosing. */
const CATEGORIES = [
  "business",
  "cloud",
  "communication",
  "data",
  "developer",
  "documentation",
  "files",
  "productivity",
  "reasoning",
  "testing",
  "web",
];

/** Every string an entry holds, at any depth. */
function texts(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (value && typeof value === "object") return Object.values(value).flatMap(texts);
  return [];
}

Deno.test("catalogBuiltin holds at least 60 entries with unique, well-formed slugs", () => {
  assert.ok(catalog.length >= 60);
  assert.equal(new Set(catalog.map((entry) => entry.slug)).size, catalog.length);
  assert.equal(new Set(catalog.map((entry) => entry.title)).size, catalog.length);
  assert.equal(new Set(catalog.map((e) => packageTitle(e.package))).size, catalog.length);
  for (const entry of catalog) assert.match(entry.slug, /^[a-z0-9]+(-[a-z0-9]+)*$/);
});

Deno.test("catalogBuiltin pins every package to one exact version and runs no install script", () => {
  for (const { slug, package: wanted } of catalog) {
    if (wanted.registry === "remote") {
      assert.equal(new URL(wanted.url).protocol, "https:", slug);
      continue;
    }
    // The schema takes exact versions and digests alone. Of the other kinds none could be checked here.
    assert.ok(wanted.registry === "npm" || wanted.registry === "pypi", slug);
    assert.equal(wanted.installScripts, false, slug);
  }
});

Deno.test("catalogBuiltin names what a server reaches as host:port, a remote one's own alone", () => {
  for (const { slug, network, package: wanted } of catalog) {
    assert.equal(new Set(network.hosts).size, network.hosts.length, slug);
    for (const host of network.hosts) {
      assert.ok(HostPort.safeParse(host).success, `${slug} ${host}`);
      assert.ok(Number(host.split(":")[1]) <= 65535, `${slug} ${host}`);
    }
    if (wanted.registry === "remote") {
      assert.deepEqual(network.hosts, [`${new URL(wanted.url).hostname}:443`], slug);
    }
  }
});

Deno.test("catalogBuiltin sends a remote server no header but those it names, as secrets", () => {
  for (const { slug, environment, package: wanted } of catalog) {
    if (wanted.registry !== "remote") continue;
    const inputs = environment as Input[];
    assert.ok(inputs.every(({ name }) => /^HEADER_\d_(NAME|VALUE)$/.test(name)), slug);
    for (const { name, isSecret } of inputs) assert.equal(isSecret, name.endsWith("VALUE"), slug);
    for (const { name } of inputs.filter(({ isSecret }) => isSecret)) {
      assert.ok(inputs.find((input) => input.name === name.replace("VALUE", "NAME"))?.value, slug);
    }
  }
});

Deno.test("catalogBuiltin describes every entry in plain text of a fitting length", () => {
  for (const entry of catalog) {
    assert.ok(entry.title.length > 0 && entry.title.length <= 40, entry.slug);
    assert.ok(entry.summary.length > 0 && entry.summary.length <= 120, entry.slug);
    const sentences = entry.description.match(/[.!?](\s|$)/g)?.length ?? 0;
    assert.ok(sentences >= 2 && sentences <= 4, `${entry.slug} has ${sentences} sentences`);
    assert.ok(CATEGORIES.includes(entry.category), entry.slug);
    assert.ok(entry.license.length > 0, entry.slug);
    assert.equal(new URL(entry.homepage).protocol, "https:", entry.slug);
    for (const text of texts(entry)) {
      assert.doesNotMatch(text, /[<>`]|&\w+;|\]\(|\*\*/, `${entry.slug} has markup`);
      // Bidirectional and zero-width characters would let a text show something it is not.
      assert.doesNotMatch(text, /[\p{Cc}\p{Cf}]/u, `${entry.slug} has an invisible character`);
    }
  }
});

Deno.test("catalogBuiltin gives no secret a default or a fixed value", () => {
  for (const { slug, inputs } of catalog) {
    for (const input of inputs.filter((input) => input.isSecret)) {
      assert.equal(input.default, undefined, `${slug} ${input.name}`);
      assert.equal(input.value, undefined, `${slug} ${input.name}`);
    }
  }
});

Deno.test("catalogBuiltin marks every input that is named like a credential as secret", () => {
  for (const { slug, inputs } of catalog) {
    for (const input of inputs) {
      if (/TOKEN|_KEY$|SECRET|PASSWORD/i.test(input.name)) {
        assert.ok(input.isSecret, `${slug} ${input.name}`);
      }
    }
  }
});

Deno.test("catalogBuiltin labels every input once and offers a default among its choices", () => {
  for (const { slug, inputs, environment } of catalog) {
    assert.equal(new Set(inputs.map((input) => input.name)).size, inputs.length, slug);
    for (const { name } of environment) assert.match(name, /^[A-Z][A-Z0-9_]*$/, slug);
    for (const input of inputs) {
      const where = `${slug} ${input.name}`;
      assert.ok(input.label && input.description, where);
      assert.ok(["string", "number", "boolean", "filepath"].includes(input.format), where);
      if (input.type === "named") assert.match(input.name, /^--?[a-z]/, where);
      if (input.choices && input.default) assert.ok(input.choices.includes(input.default), where);
      assert.ok(!(input.value && input.default), where);
    }
  }
});

Deno.test("catalogBuiltin keeps files in a volume, or in the writable /work", () => {
  for (const { slug, inputs, volumes } of catalog) {
    const writable = ["/work", ...(volumes ?? []).map(({ path }) => path)];
    for (const { name, format, value, default: fallback } of inputs) {
      if (format === "filepath") {
        const path = value ?? fallback ?? "";
        assert.ok(
          writable.some((each) => path === each || path.startsWith(`${each}/`)),
          `${slug} ${name}`,
        );
      }
    }
  }
});

Deno.test("catalogBuiltin offers servers that need a secret and servers that need nothing", () => {
  const needsSecret = catalog.filter(({ inputs }) =>
    inputs.some((i) => i.isSecret && i.isRequired)
  );
  const needsNothing = catalog.filter(({ inputs, network }) =>
    network.hosts.length === 0 && inputs.every((i) => !i.isSecret && (!i.isRequired || i.value))
  );
  assert.ok(needsSecret.length >= 1);
  assert.ok(needsNothing.length >= 4);
});
