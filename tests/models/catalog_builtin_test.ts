import assert from "node:assert/strict";
import entries from "../../models/catalog_builtin.json" with { type: "json" };

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
  inputs: [...entry.arguments, ...entry.environment] as Input[],
}));

/** Every string an entry holds, at any depth. */
function texts(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (value && typeof value === "object") return Object.values(value).flatMap(texts);
  return [];
}

Deno.test("catalogBuiltin holds at least 18 entries with unique, well-formed slugs", () => {
  assert.ok(catalog.length >= 18);
  assert.equal(new Set(catalog.map((entry) => entry.slug)).size, catalog.length);
  assert.equal(new Set(catalog.map((entry) => entry.title)).size, catalog.length);
  assert.equal(new Set(catalog.map((entry) => entry.package.name)).size, catalog.length);
  for (const entry of catalog) assert.match(entry.slug, /^[a-z0-9]+(-[a-z0-9]+)*$/);
});

Deno.test("catalogBuiltin pins every npm package to one exact version and runs no install script", () => {
  for (const { slug, package: npm } of catalog) {
    assert.equal(npm.registry, "npm", slug);
    assert.match(npm.name, /^(@[a-z0-9-]+\/)?[a-z0-9][a-z0-9._-]*$/, slug);
    assert.match(npm.version, /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/, slug);
    assert.equal(npm.installScripts, false, slug);
  }
});

Deno.test("catalogBuiltin names what a server reaches as host:port", () => {
  for (const { slug, network } of catalog) {
    assert.equal(new Set(network.hosts).size, network.hosts.length, slug);
    for (const host of network.hosts) {
      assert.match(host, /^(\*|[a-z0-9-]+(\.[a-z0-9-]+)+):\d{1,5}$/, `${slug} ${host}`);
      assert.ok(Number(host.split(":")[1]) <= 65535, `${slug} ${host}`);
    }
  }
});

Deno.test("catalogBuiltin describes every entry in plain text of a fitting length", () => {
  const categories = "files developer data web productivity reasoning testing cloud communication";
  for (const entry of catalog) {
    assert.ok(entry.title.length > 0 && entry.title.length <= 40, entry.slug);
    assert.ok(entry.summary.length > 0 && entry.summary.length <= 120, entry.slug);
    const sentences = entry.description.match(/[.!?](\s|$)/g)?.length ?? 0;
    assert.ok(sentences >= 2 && sentences <= 4, `${entry.slug} has ${sentences} sentences`);
    assert.ok(categories.split(" ").includes(entry.category), entry.slug);
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
