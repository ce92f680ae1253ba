import assert from "node:assert/strict";
import { ListedEntry } from "../../models/catalog_entries.ts";
import { type CatalogFile, importFiles } from "../../models/catalog_files.ts";
import { type Import, type Imported, plainText, webUrl } from "../../models/imported.ts";

/** Real catalogs, which are not of this repository (README of `shared`). */
const CATALOGS = new URL("../../../shared/catalogs/", import.meta.url);
/** A worktree stands one folder deeper. */
const NEAR = new URL("../../../../shared/catalogs/", import.meta.url);

function catalogs(): URL | null {
  for (const place of [CATALOGS, NEAR]) {
    try {
      Deno.statSync(place);
      return place;
    } catch {
      // The next place.
    }
  }
  return null;
}

const real = catalogs();
if (!real) {
  console.log(
    "skipped: 3 tests of importers on real catalogs, since ../shared/catalogs is missing",
  );
}

/** How many entries there are for each reason, or runtime where they can be deployed. */
function tally({ entries, broken }: Import): Record<string, number> {
  const counts = new Map<string, number>();
  const add = (key: string) => counts.set(key, (counts.get(key) ?? 0) + 1);
  for (const { obstacle, entry } of entries) {
    add(obstacle === null ? `deployable, ${entry.package.registry}` : reasonOf(obstacle));
  }
  for (const { reason } of broken) add(`broken: ${reason}`);
  const sorted = [...counts].toSorted(([, a], [, b]) => b - a);
  return Object.fromEntries(sorted);
}

/** A reason without what is of its entry alone. */
function reasonOf(obstacle: string): string {
  return obstacle.replace(/“[^”]*”/g, "“…”").replace(/volume at \S+,/, "volume at …,");
}

/** What holds of every entry, wherever it came from. */
function mustHold(entries: Imported[]) {
  for (const { entry, name, version, obstacle, raw, hash } of entries) {
    ListedEntry.parse(entry);
    assert.ok(name && version && raw && /^[0-9a-f]{64}$/.test(hash), name);
    assert.equal(obstacle === null, entry.package.registry !== "other", name);
    assert.match(entry.homepage ?? "https:", /^https?:/);
    const shown = [entry.title, entry.summary, entry.description, entry.category].join(" ");
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(shown, /[\u0000-\u0008\u200b-\u200f\u202a-\u202e]/, name);
  }
}

Deno.test({
  name: "importFiles takes all of Docker's real catalog, or says why not",
  ignore: !real,
  fn() {
    const files: CatalogFile[] = [];
    const folder = new URL("docker-mcp-registry/servers/", real!);
    for (const { name } of Deno.readDirSync(folder)) {
      for (const file of Deno.readDirSync(new URL(`${name}/`, folder))) {
        const text = Deno.readTextFileSync(new URL(`${name}/${file.name}`, folder));
        files.push({ path: `servers/${name}/${file.name}`, text });
      }
    }
    const found = importFiles(files, false);
    console.log("Docker's catalog:", tally(found));
    assert.equal(found.entries.length + found.broken.length, 328);
    mustHold(found.entries);
    const of = (name: string) => found.entries.find((each) => each.name === name)!;
    assert.match(of("docker").obstacle!, /Docker socket/);
    assert.match(of("curl").obstacle!, /container of its own/);
    assert.match(of("markitdown").obstacle!, /folder of the host/);
    const redis = of("redis").entry;
    assert.deepEqual(redis.package, {
      registry: "image",
      image: "docker.io/mcp/redis",
      tag: "latest",
    });
    assert.equal(redis.environment.find(({ name }) => name === "REDIS_PORT")?.format, "number");
    assert.equal(redis.environment.find(({ name }) => name === "REDIS_PWD")?.isSecret, true);
    const apify = found.entries.find(({ raw }) => raw.includes("Bearer ${APIFY_API_KEY}"))!.entry;
    const header = apify.environment.find(({ name }) => name === "HEADER_1_VALUE")!;
    assert.equal(header.value, "Bearer {APIFY_API_KEY}");
    assert.equal(header.variables!.APIFY_API_KEY.isSecret, true);
    assert.ok(found.entries.some(({ tools }) => tools.length > 3), "tools.json is read");
  },
});

Deno.test({
  name: "importFiles takes all of ToolHive's real registry, or says why not",
  ignore: !real,
  fn() {
    const text = Deno.readTextFileSync(new URL("toolhive/registry.json", real!));
    const found = importFiles([{ path: "registry.json", text }], true);
    console.log("ToolHive's registry:", tally(found));
    assert.equal(found.entries.length, 102);
    assert.deepEqual(found.broken, []);
    mustHold(found.entries);
    const of = (name: string) => found.entries.find((each) => each.name === name)!;
    assert.deepEqual(of("agentql-mcp").entry.network.hosts, ["api.agentql.com:443"]);
    assert.ok(of("arxiv-mcp-server").entry.network.hosts.includes("export.arxiv.org:80"));
    const grafana = of("grafana").entry;
    assert.deepEqual(grafana.transport, { type: "sse", port: 8000, path: "/sse" });
    assert.equal(grafana.environment.find(({ name }) => name === "MCP_PORT")?.value, "8000");
    assert.equal(of("context7-remote").entry.package.registry, "remote");
  },
});

Deno.test({
  name: "importFiles takes all of the official registry's oldest entries, or says why not",
  ignore: !real,
  fn() {
    const text = Deno.readTextFileSync(new URL("official/seed_2025_05_16.json", real!));
    const found = importFiles([{ path: "seed.json", text }], true);
    console.log("The official registry's seed:", tally(found));
    assert.equal(found.entries.length + found.broken.length, 471);
    assert.ok(found.broken.every(({ reason }) => reason === "It has no name"));
    mustHold(found.entries);
    const rember = found.entries.find(({ name }) => name.endsWith("rember-mcp"))!.entry;
    const [key] = rember.arguments;
    assert.equal(key.value, "--api-key={value}");
    assert.equal(key.variables!.value.isSecret, true);
  },
});

const server = (members: Record<string, unknown>) => ({
  $schema: "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
  name: "com.example/made",
  description: "Made up",
  version: "1.0.0",
  ...members,
});
const one = (value: unknown): Imported => {
  const { entries, broken } = importFiles(
    [{ path: "server.json", text: JSON.stringify(value) }],
    true,
  );
  assert.deepEqual(broken, []);
  mustHold(entries);
  return entries[0];
};

Deno.test("a server.json of 2025-12-11 has its inputs, templates and variables", () => {
  const { entry, obstacle } = one(server({
    title: "Made",
    packages: [{
      registryType: "npm",
      registryBaseUrl: "https://registry.npmjs.org",
      identifier: "@made/up",
      version: "1.2.3",
      transport: { type: "stdio" },
      packageArguments: [
        { type: "positional", valueHint: "path", format: "filepath", isRequired: true },
        { type: "named", name: "--mode", choices: ["a", "b"], default: "a" },
        {
          type: "named",
          name: "--header",
          value: "X-{who}: {what}",
          variables: {
            who: { description: "Who", isRequired: true },
            what: { isSecret: true },
          },
        },
        { type: "positional", value: "fixed {braces}" },
      ],
      environmentVariables: [
        { name: "KEY", isSecret: true, isRequired: true, description: "The key" },
        { name: "COUNT", format: "number", default: "3" },
      ],
    }],
  }));
  assert.equal(obstacle, null);
  assert.deepEqual(entry.package, {
    registry: "npm",
    name: "@made/up",
    version: "1.2.3",
    installScripts: false,
  });
  const [path, mode, header, fixed] = entry.arguments;
  assert.deepEqual([path.format, path.isRequired, path.label], ["filepath", true, "path"]);
  assert.deepEqual([mode.choices, mode.default, mode.type], [["a", "b"], "a", "named"]);
  assert.deepEqual(Object.keys(header.variables!), ["who", "what"]);
  assert.equal(fixed.value, "fixed {braces}");
  assert.equal(entry.environment[1].default, "3");
});

Deno.test("a remote server's URL and headers have variables", () => {
  const remote = (url: string, more: Record<string, unknown> = {}) =>
    one(server({ remotes: [{ type: "streamable-http", url, ...more }] }));
  const { entry, obstacle } = remote("https://{region}.example.com/{tenant}/mcp", {
    variables: {
      region: { choices: ["eu", "us"], isRequired: true },
      tenant: { isRequired: true },
    },
    headers: [{
      name: "Authorization",
      value: "Bearer {token}",
      isSecret: true,
      variables: {
        token: { isSecret: true, isRequired: true },
      },
    }],
  });
  assert.equal(obstacle, null);
  assert.deepEqual(Object.keys(entry.urlVariables!), ["region", "tenant"]);
  assert.deepEqual(entry.environment.map(({ name }) => name), ["HEADER_1_NAME", "HEADER_1_VALUE"]);
  const refused: [string, RegExp, Record<string, unknown>?][] = [
    ["http://localhost:3000/sse", /localhost/],
    ["https://10.0.0.1/mcp", /address, not a host/],
    ["https://[::1]/mcp", /address, not a host/],
    ["https://a:b@example.com/mcp", /user/],
    ["javascript:alert(1)", /not an http/],
    ["https://example.com/{x}", /does not describe/],
    ["https://example.com/?key=<YOUR_TOKEN>", /blank/],
    ["https://example.com/{k}", /secret/, { variables: { k: { isSecret: true } } }],
    ["http://example.com/", /without https/, { headers: [{ name: "A" }] }],
    ["https://example.com/", /no header's name/, { headers: [{ name: "A: b\r\nC" }] }],
  ];
  for (const [url, reason, more] of refused) assert.match(remote(url, more).obstacle!, reason, url);
});

Deno.test("every shape of a server.json before 2025-12-11 is read", () => {
  const snake = one({
    name: "io.github.x/y",
    description: "Snake",
    version_detail: { version: "0.1.0", is_latest: false, release_date: "2025-05-16T18:56:49Z" },
    packages: [{
      registry_type: "oci",
      registry_base_url: "https://ghcr.io",
      identifier: "x/y",
      version: "2.0",
      runtime_arguments: [
        {
          type: "named",
          name: "-e",
          value: "TOKEN={token}",
          variables: { token: { is_secret: true } },
        },
        { type: "positional", value: "--rm" },
      ],
      environment_variables: [{ name: "A", is_required: true, is_secret: true }],
    }],
  });
  assert.deepEqual(
    [snake.version, snake.isLatest, snake.publishedAt],
    ["0.1.0", false, "2025-05-16T18:56:49.000Z"],
  );
  assert.deepEqual(snake.entry.package, { registry: "image", image: "ghcr.io/x/y", tag: "2.0" });
  assert.equal(snake.entry.environment.find(({ name }) => name === "TOKEN")!.value, "{token}");
  assert.equal(snake.entry.environment[0].isRequired, true);

  const answer = one({
    server: server({ packages: [] }),
    _meta: { "io.modelcontextprotocol.registry/official": { status: "deleted", isLatest: false } },
  });
  assert.deepEqual([answer.isDeleted, answer.isLatest], [true, false]);
});

Deno.test("a package that speaks HTTP says where its container listens", () => {
  const of = (transport: Record<string, unknown>, more: Record<string, unknown> = {}) =>
    one(server({
      packages: [{ registryType: "npm", identifier: "x", version: "1.0.0", transport, ...more }],
    }));
  const http = "streamable-http";
  assert.deepEqual(of({ type: http, url: "http://127.0.0.1:8080/mcp" }).entry.transport, {
    type: http,
    port: 8080,
    path: "/mcp",
  });
  const port = { type: "named", name: "--port", default: "3000" };
  const template = { type: "sse", url: "http://localhost:{--port}/sse" };
  assert.deepEqual(of(template, { packageArguments: [port] }).entry.transport, {
    type: "sse",
    port: 3000,
    path: "/sse",
  });
  for (
    const transport of [
      { type: http },
      template,
      { type: http, url: "http://example.com:80/mcp" },
      { type: http, url: "http://localhost:99999/mcp" },
      { type: http, url: "javascript:alert(1)" },
    ]
  ) {
    assert.match(of(transport).obstacle ?? "", /port and path/, JSON.stringify(transport));
  }
  assert.match(of({ type: "pigeon", url: "http://localhost/" }).obstacle ?? "", /speaks pigeon/);
});

Deno.test("what cannot be deployed is listed with its reason", () => {
  const digest = `sha256:${"a".repeat(64)}`;
  const of = (wanted: Record<string, unknown>) =>
    one(server({ packages: [{ transport: { type: "stdio" }, ...wanted }] }));
  assert.deepEqual(
    of({ registryType: "oci", identifier: `ghcr.io/x/y@${digest}` }).entry.package,
    { registry: "oci", image: "ghcr.io/x/y", digest },
  );
  const refused: [Record<string, unknown>, RegExp][] = [
    [{ registryType: "mcpb", identifier: "https://example.com/x.mcpb" }, /MCPB/],
    [
      { registryType: "cargo", identifier: "x", version: "1.0.0" },
      /does not know packages of “cargo”/,
    ],
    [{ registryType: "npm", identifier: "x", version: "latest" }, /no exact version/],
    [{ registryType: "npm", identifier: "x", version: "^1.0.0" }, /no exact version/],
    [{ registryType: "npm", identifier: "../x", version: "1.0.0" }, /cannot use its package.name/],
    [{
      registryType: "npm",
      identifier: "x",
      version: "1.0.0",
      registryBaseUrl: "https://evil.example",
    }, /registry of its own/],
    [
      { registryType: "npm", identifier: "x", version: "1.0.0", transport: { type: "sse" } },
      /does not say on which port and path/,
    ],
    [{ registryType: "oci", identifier: "UPPER/Case" }, /no image's name/],
    [{
      registryType: "oci",
      identifier: "x/y:1",
      runtimeArguments: [{ type: "named", name: "-v", value: "/:/host" }],
    }, /folder of the host/],
    [{
      registryType: "oci",
      identifier: "x/y:1",
      runtimeArguments: [{ type: "positional", value: "--privileged" }],
    }, /--privileged/],
    [{
      registryType: "npm",
      identifier: "x",
      version: "1.0.0",
      environmentVariables: [{ name: "A=B" }],
    }, /no environment variable/],
    [{
      registryType: "npm",
      identifier: "x",
      version: "1.0.0",
      environmentVariables: Array(65).fill(0).map((_, n) => ({ name: `A${n}` })),
    }, /cannot use its environment/],
  ];
  for (const [wanted, reason] of refused) {
    const { obstacle, entry } = of(wanted);
    assert.match(obstacle ?? "", reason, JSON.stringify(wanted));
    assert.equal(entry.package.registry, "other");
  }
  // The first that fits is taken, whatever stands before it.
  const mixed = one(server({
    packages: [
      { registryType: "mcpb", identifier: "x", transport: { type: "stdio" } },
      { registryType: "pypi", identifier: "x", version: "1.0", transport: { type: "stdio" } },
    ],
  }));
  assert.equal(mixed.entry.package.registry, "pypi");
});

Deno.test("hostile texts stay text, and what is no entry is told apart", () => {
  const evil = one(server({
    title: "<script>alert(1)</script>\u202egpj.exe\u0000",
    description: `${"A".repeat(100_000)}\u200b`,
    websiteUrl: "javascript:alert(1)",
    repository: { url: "data:text/html,x", source: "x" },
    remotes: [{ type: "sse", url: "https://example.com/sse" }],
  }));
  assert.equal(evil.entry.title, "<script>alert(1)</script>[U+202E]gpj.exe[U+0000]");
  assert.ok(evil.entry.summary.length <= 200 && evil.entry.description.length <= 4000);
  assert.equal(evil.entry.homepage, "https://example.com/");

  const deep = `${'{"name":'.repeat(3000)}1${"}".repeat(3000)}`;
  const broken: [string, string, RegExp][] = [
    ["server.json", "{", /no JSON/],
    ["server.json", "", /no JSON/],
    ["server.json", deep, /nested too deeply/],
    ["server.json", '"text"', /no server\.json/],
    ["server.json", '{"name":"  ","description":"x"}', /no name/],
    ["server.json", JSON.stringify(server({ x: "y".repeat(600_000) })), /longer than/],
    ["server.yaml", "a: [", /no YAML/],
    ["server.yaml", "type: other", /its type is “other”/],
    ["server.yaml", bomb(), /no YAML/],
    ["server.yaml", "- ".repeat(3000), /nested too deeply|no YAML/],
  ];
  for (const [path, text, reason] of broken) {
    const found = importFiles([{ path, text }], true);
    assert.equal(found.entries.length, 0, text.slice(0, 50));
    assert.match(found.broken[0].reason, reason);
    assert.ok(found.broken[0].raw.length <= 4096);
  }
  // Members of wrong kinds never stop it.
  const kinds: unknown[] = [null, 0, true, "x", [], {}, [null], [[]], { a: { b: [] } }];
  const members = [
    "title",
    "description",
    "version",
    "packages",
    "remotes",
    "repository",
    "_meta",
    "websiteUrl",
    "icons",
    "version_detail",
  ];
  for (const member of members) {
    for (const value of kinds) {
      importFiles(
        [{ path: "server.json", text: JSON.stringify(server({ [member]: value })) }],
        true,
      );
    }
  }
  const inner = [
    "registryType",
    "identifier",
    "version",
    "transport",
    "packageArguments",
    "environmentVariables",
    "runtimeArguments",
    "registryBaseUrl",
  ];
  for (const member of inner) {
    for (const value of kinds) {
      const wanted = { registryType: "npm", identifier: "x", version: "1.0.0", [member]: value };
      importFiles(
        [{ path: "server.json", text: JSON.stringify(server({ packages: [wanted] })) }],
        true,
      );
    }
  }
  const yaml = [
    "name",
    "image",
    "meta",
    "about",
    "source",
    "run",
    "config",
    "remote",
    "oauth",
    "tools",
  ];
  for (const type of ["server", "remote", "poci"]) {
    for (const member of yaml) {
      for (const value of kinds) {
        const text = JSON.stringify({
          name: "x",
          type,
          image: "a/b",
          remote: { url: "https://e.example" },
          [member]: value,
        });
        importFiles([{ path: "server.yaml", text }], true);
      }
    }
  }
  for (const value of kinds) {
    importFiles([{
      path: "r.json",
      text: JSON.stringify({ servers: { a: value }, remote_servers: value }),
    }], true);
  }
  assert.equal(Object.getPrototypeOf({}), Object.prototype);
  importFiles([{
    path: "r.json",
    text: '{"servers":{"__proto__":{"image":"a/b"},"constructor":{"image":"a/b"}}}',
  }], true);
  assert.equal(({} as Record<string, unknown>).image, undefined);
});

/** YAML that would be gigabytes with its aliases written out. */
function bomb(): string {
  const lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"];
  for (let n = 1; n < 12; n++) {
    lines.push(`a${n}: &a${n} [${Array(10).fill(`*a${n - 1}`).join(", ")}]`);
  }
  return `type: server\nname: bomb\n${lines.join("\n")}`;
}

Deno.test("plainText caps and shows what hides, webUrl takes web addresses alone", () => {
  assert.equal(plainText("a\u0007b\u{e0041}", 20), "a[U+0007]b[U+E0041]");
  assert.equal(plainText("x".repeat(50), 10), `${"x".repeat(9)}…`);
  assert.equal(plainText({ toString: () => "x" }, 10), "");
  assert.equal(plainText("\ud800x", 10), "\ufffdx");
  for (
    const url of [
      "javascript:alert(1)",
      "data:text/html,x",
      "//x",
      "https://a:b@c.example",
      7,
      "https://",
    ]
  ) {
    assert.equal(webUrl(url), null);
  }
  assert.equal(webUrl("https://example.com/a b"), "https://example.com/a%20b");
});
