import assert from "node:assert/strict";
import type { Known } from "./known.ts";
import { compare, type Pairing } from "./pairings.ts";
import { sortOut } from "./report.ts";
import { readResults, type Results, type Status } from "./suite.ts";

const results = (statuses: Record<string, Status>): Results =>
  new Map(Object.entries(statuses).map(([check, status]) => [check, { status }]));

Deno.test("compare loses what passes directly and not through the bridge", () => {
  const { direct, kept, lost, broken } = compare(
    results({ a: "SUCCESS", b: "SUCCESS", c: "SUCCESS", d: "SUCCESS", e: "FAILURE", f: "INFO" }),
    results({ a: "SUCCESS", b: "FAILURE", c: "WARNING", e: "SUCCESS", f: "FAILURE" }),
  );
  assert.deepEqual(broken.map(({ check }) => check), ["e"]);
  assert.equal(direct, 4);
  assert.equal(kept, 1);
  assert.deepEqual(lost.map(({ check, status }) => [check, status]), [
    ["b", "FAILURE"],
    ["c", "WARNING"],
    ["d", "SKIPPED"],
  ]);
});

Deno.test("sortOut wants an entry for each lost check, and none besides", () => {
  const pairing: Pairing = {
    client: "old",
    upstream: "new",
    direct: 3,
    kept: 0,
    broken: [],
    lost: [
      { check: "s/a", status: "FAILURE" },
      { check: "s/b", status: "FAILURE" },
      { check: "t/a", status: "FAILURE" },
    ],
  };
  const entry = (check: string): Known => ({
    check,
    pairings: ["old -> new", "old -> not run"],
    reason: "So",
  });
  const { known, unknown, unnecessary } = sortOut([pairing], [
    entry("s/a"),
    entry("s/c"),
    entry("t/*"),
    entry("u/*"),
  ]);
  assert.deepEqual(known.map(({ lost, reason }) => [lost.check, reason]), [["s/a", "So"], [
    "t/a",
    "So",
  ]]);
  assert.deepEqual(unknown.map(({ lost }) => lost.check), ["s/b"]);
  assert.deepEqual(unnecessary.map(({ check }) => check), ["s/c", "u/*"]);
});

Deno.test("readResults takes a scenario that broke off for a failure", async () => {
  const directory = await Deno.makeTempDir({ prefix: "mooring-conformance-" });
  const [whole, cut] = ["ping", "tools-list"].map((name) =>
    `${directory}/server-${name}-2026-11-26T13-22-07-631Z`
  );
  for (const each of [whole, cut]) await Deno.mkdir(each);
  await Deno.writeTextFile(`${whole}/checks.json`, '[{"id":"pong","status":"SUCCESS"}]');
  assert.deepEqual(Object.fromEntries(await readResults(directory)), {
    "ping/pong": { status: "SUCCESS", message: undefined },
    "tools-list/*": { status: "FAILURE", message: "It broke off" },
  });
  await Deno.remove(directory, { recursive: true });
});

// The whole, `deno task conformance`, has all pairings.
