import assert from "node:assert/strict";
import { changesBetween } from "../../models/server_changes.ts";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { ServerConfig } from "../../models/servers.ts";

const memory = builtin.find(({ slug }) => slug === "memory")!;
const npm = (version: string) => ({ ...memory.package, registry: "npm", name: "notes", version });

const config = (change: {
  entry?: Record<string, unknown>;
  values?: Record<string, string>;
  secrets?: Record<string, string>;
  options?: Record<string, unknown>;
}) =>
  ServerConfig.parse({
    entry: {
      ...memory,
      package: npm("1.0.0"),
      arguments: [],
      environment: [{ name: "ROOT", label: "Where notes are" }, { name: "KEY", isSecret: true }],
      network: { hosts: ["notes.example.com:443"] },
      volumes: [{ name: "notes", path: "/data/notes" }],
      ...change.entry,
    },
    values: change.values ?? {},
    secrets: change.secrets ?? {},
    options: change.options ?? {},
  });

Deno.test("a difference of configurations is said in a person's words", () => {
  const key = "01a214cc-572e-769b-92be-d9c62766d209",
    other = "01a214cc-572e-769b-92be-d9c62766d210";
  const before = config({ values: { "env.ROOT": "/work" }, secrets: { KEY: key } });
  assert.deepEqual(changesBetween(before, before), []);
  const after = config({
    entry: {
      package: npm("1.1.0"),
      network: { hosts: ["api.example.com:443"] },
      volumes: [],
      memoryMiB: 256,
      tier: "untrusted",
    },
    values: {},
    secrets: { KEY: other, MORE: key },
    options: { idleStopS: 90, transport: { type: "sse", port: 3001, path: "/sse" } },
  });
  assert.deepEqual(
    changesBetween(before, after).map(({ name, before, after }) => [name, before, after]),
    [
      ["Version", "1.0.0", "1.1.0"],
      ["Where notes are", "/work", null],
      ["Secret KEY", null, "changed"],
      ["Secret MORE", null, "given"],
      ["May reach", "notes.example.com:443", null],
      ["May reach", null, "api.example.com:443"],
      ["Keeps data in", "/data/notes (volume notes)", null],
      ["Memory", "512 MiB", "256 MiB"],
      ["Sleeps when idle", "never", "after 1.5 minutes"],
      ["How far it is trusted", "standard", "untrusted"],
      ["Speaks on", "standard input and output", "HTTP+SSE at port 3001, path /sse"],
    ],
  );
  assert.ok(!JSON.stringify(changesBetween(before, after)).includes(key), "no id of a secret");
});

Deno.test("another package is told whole, and an input that the next entry does not have", () => {
  const before = config({ values: { "env.ROOT": "/work" } });
  const after = config({
    entry: {
      package: { ...npm("1.0.0"), registry: "pypi" },
      environment: [],
    },
  });
  assert.deepEqual(changesBetween(before, after), [
    { name: "Package", before: "npm notes@1.0.0", after: "pypi notes@1.0.0" },
    { name: "Where notes are", before: "/work", after: null },
  ]);
});
