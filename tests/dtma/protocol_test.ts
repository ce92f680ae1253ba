import assert from "node:assert/strict";
import { Package, packageTitle } from "../../dtma/protocol.ts";

const digest = `sha256:${"a".repeat(64)}`;
const revision = "b".repeat(40);
const good: Record<string, Record<string, unknown>> = {
  npm: { registry: "npm", name: "@scope/pkg.js", version: "1.2.3-rc.1", installScripts: false },
  pypi: { registry: "pypi", name: "mcp-server-time", version: "2025.8.4.post1" },
  nuget: { registry: "nuget", name: "Acme.Mcp", version: "1.0.0-preview.2" },
  oci: { registry: "oci", image: "ghcr.io/acme/tool", digest },
  git: {
    registry: "source",
    kind: "git",
    location: "https://example.com/acme/tool.git",
    revision,
    dockerfile: "docker/Dockerfile.mcp",
  },
  folder: {
    registry: "source",
    kind: "folder",
    location: "/srv/my servers/tool",
    revision,
    dockerfile: "Dockerfile",
  },
};

Deno.test("Package takes each kind, and packageTitle names it", () => {
  const titles = Object.values(good).map((each) => packageTitle(Package.parse(each)));
  assert.deepEqual(titles, [
    "@scope/pkg.js@1.2.3-rc.1",
    "mcp-server-time@2025.8.4.post1",
    "Acme.Mcp@1.0.0-preview.2",
    `ghcr.io/acme/tool@sha256:${"a".repeat(12)}`,
    `https://example.com/acme/tool.git@${"b".repeat(12)}`,
    `/srv/my servers/tool@${"b".repeat(12)}`,
  ]);
});

Deno.test("Package refuses options, paths and tags in the place of names", () => {
  const bad: [kind: string, changes: Record<string, unknown>][] = [
    ...["..", ".", "-g", "--ignore", "@-x/y", "@x/.y", "a b", "a;b", "a/b", "A", "@x/y/z", "file:x"]
      .map((name) => ["npm", { name }] as [string, Record<string, unknown>]),
    ...["latest", "^1.0.0", "1.0", "-1.0.0", "1.0.0 --x", "1.0.0\n"]
      .map((version) => ["npm", { version }] as [string, Record<string, unknown>]),
    ...["-r", ".x", "x-", "a b", "x[extra]", "git+https://x", "x@y", "x\n"]
      .map((name) => ["pypi", { name }] as [string, Record<string, unknown>]),
    ...["*", ">=1", "1.*", "-1", "v1", "1 ; x", ""]
      .map((version) => ["pypi", { version }] as [string, Record<string, unknown>]),
    ["pypi", { command: "--x" }],
    ["pypi", { command: "../x" }],
    ["nuget", { name: "-x" }],
    ["nuget", { name: "a/b" }],
    ["nuget", { version: "[1.0,2.0)" }],
    ["nuget", { version: "*" }],
    ...[
      "tool",
      "acme/tool",
      "ghcr.io/acme/tool:latest",
      "ghcr.io/acme/../tool",
      "-x.io/tool",
      "ghcr.io/Acme/tool",
      "ghcr.io",
      "ghcr.io/a@b",
      "http://ghcr.io/a",
    ]
      .map((image) => ["oci", { image }] as [string, Record<string, unknown>]),
    ["oci", { digest: "latest" }],
    ["oci", { digest: `${digest}0` }],
    ["oci", { command: [] }],
    ...[
      "git@example.com:a/b",
      "ssh://example.com/a",
      "file:///etc",
      "--upload-pack=x",
      "https://u:p@example.com/a",
      "https://example.com/a?b",
      "https://example.com/a#main",
      "https://example.com",
      "https://example.com/../a",
      "https://example.com/-x",
    ]
      .map((location) => ["git", { location }] as [string, Record<string, unknown>]),
    ...["main", "HEAD", "abc123", `${revision}:sub`]
      .map((revision) => ["git", { revision }] as [string, Record<string, unknown>]),
    ...["../Dockerfile", "/etc/passwd", "-f", "a/../b", "a//b", "a/./b", ""]
      .map((dockerfile) => ["git", { dockerfile }] as [string, Record<string, unknown>]),
    ...["relative", "/a/../b", "/", "/a//b", "https://example.com/a"]
      .map((location) => ["folder", { location }] as [string, Record<string, unknown>]),
    ["npm", { registry: "cargo" }],
  ];
  for (const [kind, changes] of bad) {
    const { success } = Package.safeParse({ ...good[kind], ...changes });
    assert.equal(success, false, `${kind}: ${JSON.stringify(changes)}`);
  }
});
