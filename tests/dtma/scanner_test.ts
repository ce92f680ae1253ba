/** Scanners of images: what is made of their output, and how they are run (fakes of them). */
import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { billOfMaterials } from "../../dtma/image_sbom.ts";
import { ImageScan, type ScanResult } from "../../dtma/protocol.ts";
import { readGrype, readTrivy, readTrivyVersion, ScanError } from "../../dtma/scan_result.ts";
import { Scanner, type ScannerOptions } from "../../dtma/scanner.ts";
import { Scanning } from "../../dtma/scanning.ts";
import { putFake, putScript } from "./fake_scanner.ts";
import { eventually } from "./observed.ts";

const never = new AbortController().signal;
const trivyOf = (...vulnerabilities: unknown[]) =>
  JSON.stringify({ SchemaVersion: 2, Results: [{ Vulnerabilities: vulnerabilities }] });
const lodash = { VulnerabilityID: "CVE-2021-23337", PkgName: "lodash" };

Deno.test("readTrivy counts by severity and keeps the worst that can be mended first", () => {
  const { counts, findings, unread } = readTrivy(trivyOf(
    { ...lodash, Severity: "HIGH", InstalledVersion: "4.17.20", Title: "Command injection" },
    { ...lodash, VulnerabilityID: "CVE-2", Severity: "LOW" },
    { ...lodash, VulnerabilityID: "CVE-3", Severity: "HIGH", FixedVersion: "4.17.21" },
    {
      ...lodash,
      VulnerabilityID: "CVE-4",
      Severity: "CRITICAL",
      PrimaryURL: "https://a.example/4",
    },
    { ...lodash, VulnerabilityID: "CVE-5", Severity: "SOMETHING NEW" },
    { ...lodash, VulnerabilityID: "CVE-6" },
    // The same package in another place.
    { ...lodash, VulnerabilityID: "CVE-2", Severity: "LOW", PkgPath: "node_modules/a" },
  ));
  assert.deepEqual(counts, { critical: 1, high: 2, medium: 0, low: 1, negligible: 0, unknown: 2 });
  assert.deepEqual(findings.map(({ id }) => id), [
    "CVE-4",
    "CVE-3",
    "CVE-2021-23337",
    "CVE-2",
    "CVE-5",
    "CVE-6",
  ]);
  assert.deepEqual(findings[2], {
    id: "CVE-2021-23337",
    package: "lodash",
    installed: "4.17.20",
    fixed: null,
    title: "Command injection",
    severity: "high",
    url: null,
  });
  assert.equal(unread, 0);
  // Nothing found: an old trivy says null, a new one leaves it out.
  const none = { counts: { ...counts, critical: 0, high: 0, low: 0, unknown: 0 }, findings: [] };
  for (const results of ["null", "[]", '[{"Target":"a"}]', '[{"Vulnerabilities":null}]']) {
    const result = readTrivy(`{"SchemaVersion":2,"Results":${results}}`);
    assert.deepEqual(result, { ...none, unread: 0 }, results);
  }
  assert.deepEqual(readTrivy('{"SchemaVersion":2}').findings, []);
});

Deno.test("a finding that is not understood takes no other along", () => {
  const { counts, unread } = readTrivy(
    trivyOf({ ...lodash, Severity: "LOW" }, null, 7, {}, { VulnerabilityID: 1, PkgName: [] }, {
      ...lodash,
      VulnerabilityID: "",
    }),
  );
  assert.deepEqual([counts.low, unread], [1, 5]);
});

Deno.test("what is hostile in a finding is cut to size, and only https is a link", () => {
  const text = "\u202e<script>\ud800" + "x".repeat(100_000);
  const result = readTrivy(trivyOf({
    VulnerabilityID: text,
    PkgName: text,
    InstalledVersion: text,
    FixedVersion: text,
    Title: text,
    Severity: text,
    PrimaryURL: "javascript:alert(1)//https://a.example",
  }));
  assertFits(result);
  assert.equal(result.findings[0].url, null);
  assert.equal(result.findings[0].severity, "unknown");
  for (const url of ["http://a.example", "data:text/html,x", "//a.example", "https://", text]) {
    assert.equal(readTrivy(trivyOf({ ...lodash, PrimaryURL: url })).findings[0].url, null, url);
  }
});

Deno.test("many findings are all counted, and some kept", () => {
  const many = Array.from({ length: 20_000 }, (_, index) => (
    { ...lodash, VulnerabilityID: `CVE-${index}`, Severity: index === 19_999 ? "CRITICAL" : "LOW" }
  ));
  const result = readTrivy(trivyOf(...many));
  assert.deepEqual([result.counts.low, result.counts.critical], [19_999, 1]);
  assert.equal(result.findings.length, 50);
  assert.equal(result.findings[0].id, "CVE-19999");
  assertFits(result);
});

Deno.test("what is no report is refused by name", () => {
  const broken = ["", "{", "null", "[]", '"a"', "Usage: trivy", "{}", "[".repeat(200_000)];
  for (const output of broken) {
    assert.throws(() => readTrivy(output), ScanError, output.slice(0, 20));
    assert.throws(() => readGrype(output), ScanError, output.slice(0, 20));
  }
  fc.assert(fc.property(fc.json(), (output) => {
    for (const read of [readTrivy, (text: string) => readGrype(text).result]) {
      try {
        assertFits(read(output));
      } catch (error) {
        assert.ok(error instanceof ScanError, String(error));
      }
    }
  }));
});

Deno.test("readGrype reads grype's words, of its databases before and since v6", () => {
  const match = {
    vulnerability: {
      id: "GHSA-1",
      dataSource: "https://github.com/advisories/GHSA-1",
      severity: "Negligible",
      description: "Too slow",
      fix: { versions: ["1.2.1", "2.1.3"], state: "fixed" },
    },
    artifact: { name: "ms", version: "0.7.0" },
  };
  const report = (db: unknown) =>
    readGrype(JSON.stringify({ matches: [match, {}], descriptor: { version: "0.100.0", db } }));
  const { result, facts } = report({ status: { built: "2026-11-25T06:11:37Z" } });
  assert.deepEqual(result.findings, [{
    id: "GHSA-1",
    package: "ms",
    installed: "0.7.0",
    fixed: "1.2.1, 2.1.3",
    title: "Too slow",
    severity: "negligible",
    url: "https://github.com/advisories/GHSA-1",
  }]);
  assert.deepEqual([result.counts.negligible, result.unread], [1, 1]);
  assert.deepEqual(facts, { version: "0.100.0", databaseAt: "2026-11-25T06:11:37.000Z" });
  const older = report({ built: "2024-01-02T03:04:05+01:00", schemaVersion: 5 });
  assert.equal(older.facts.databaseAt, "2024-01-02T02:04:05.000Z");
  assert.equal(report({ status: { built: "0001-01-01T00:00:00Z" } }).facts.databaseAt, null);
  assert.equal(report(null).facts.databaseAt, null);
});

Deno.test("readTrivyVersion says null of what trivy does not", () => {
  assert.deepEqual(readTrivyVersion('{"Version":"0.69.3"}'), {
    version: "0.69.3",
    databaseAt: null,
  });
});

scannerTest(
  "a scanner is given its arguments, and nothing of DTMA's environment",
  async (place) => {
    Deno.env.set("MOORING_TEST_SECRET", "s3cret");
    const path = await putScript(
      place.bin,
      "trivy",
      `/usr/bin/env > ${place.directory}/env; printf '%s\\n' "$0" "$@" "$PWD" > ${place.directory}/args; ` +
        `echo '{"SchemaVersion":2}'`,
    );
    const { outcome } = await place.scan({ path, certificates: "/etc/ca.pem" });
    assert.equal(outcome.state, "scanned");
    const environment = await Deno.readTextFile(`${place.directory}/env`);
    assert.deepEqual(
      environment.trim().split("\n").map((line) => line.split("=")[0])
        .filter((name) => !["PWD", "_", "OLDPWD", "SHLVL"].includes(name)).sort(),
      [
        "GRYPE_CHECK_FOR_APP_UPDATE",
        "GRYPE_DB_CACHE_DIR",
        "HOME",
        "SSL_CERT_FILE",
        "TRIVY_DISABLE_TELEMETRY",
        "TRIVY_SKIP_VERSION_CHECK",
      ],
    );
    // Of its two runs the second, for its version.
    const shared = ["--quiet", "--cache-dir", place.directory];
    assert.deepEqual((await Deno.readTextFile(`${place.directory}/args`)).trim().split("\n"), [
      path,
      "version",
      "--format",
      "json",
      ...shared,
      place.directory,
    ]);
  },
);

scannerTest("the fakes' reports are read, of both", async (place) => {
  const [trivy, grype] = await Promise.all(
    (["trivy", "grype"] as const).map(async (name) =>
      await place.scan({ path: await putFake(place.bin, name) })
    ),
  );
  assert.deepEqual(trivy.scanner, {
    name: "trivy",
    version: "0.69.3",
    databaseAt: "2026-11-25T06:27:38.129Z",
  });
  assert.deepEqual(grype.scanner, {
    name: "grype",
    version: "0.100.0",
    databaseAt: "2026-11-25T06:11:37.000Z",
  });
  for (const { outcome } of [trivy, grype]) {
    assert(outcome.state === "scanned");
    assert.deepEqual([outcome.counts.critical, outcome.counts.medium, outcome.counts.low], [
      1,
      1,
      0,
    ]);
    const [worst, other] = outcome.findings;
    assert.deepEqual([worst.package, worst.installed, worst.fixed], ["express", "5.0.1", "99.0.1"]);
    assert.equal(worst.url, "https://avd.aquasec.com/nvd/cve-2099-0001");
    assert.deepEqual([other.fixed, other.url], [null, null]);
  }
});

scannerTest("why a scan failed is said", async (place) => {
  const reasonOf = async (command: string, options: Partial<ScannerOptions> = {}) => {
    const path = await putScript(place.bin, "grype", command);
    const { outcome, scanner } = await place.scan({ path, ...options });
    assert.equal(scanner?.name, "grype");
    assert(outcome.state === "failed");
    return outcome.reason;
  };
  assert.match(await reasonOf("echo nonsense"), /What grype printed is not JSON/);
  assert.match(await reasonOf("true"), /is not JSON/);
  assert.equal(
    await reasonOf("echo first >&2; echo '[0000] ERROR the database is 9 weeks old' >&2; exit 1"),
    "It ended with code 1: [0000] ERROR the database is 9 weeks old",
  );
  assert.match(await reasonOf("kill -9 $$"), /ended with code/);
  assert.match(
    await reasonOf("yes", { outputLimitBytes: 3 * 1024 * 1024 }),
    /It printed over 3 MiB/,
  );
  // A long story on stderr holds up nothing.
  assert.match(await reasonOf("yes | head -c 3000000 >&2; exit 2"), /ended with code 2/);
  const { outcome } = await place.scan({ path: `${place.bin}/nowhere/trivy` });
  assert.match(outcome.state === "failed" ? outcome.reason : "", /There is no .*nowhere\/trivy/);
  await Deno.writeTextFile(`${place.bin}/trivy`, "{}", { mode: 0o600 });
  const plain = (await place.scan({ path: `${place.bin}/trivy` })).outcome;
  assert.match(plain.state === "failed" ? plain.reason : "", /is not executable/);
});

scannerTest("a scanner that hangs is ended, with whoever it left behind", async (place) => {
  const pids = `${place.bin}/pids`;
  const path = await putScript(
    place.bin,
    "trivy",
    `trap '' TERM; sleep 600 & echo $! >> ${pids}; wait`,
  );
  try {
    const { outcome } = await place.scan({ path, timeoutMs: 4000 });
    assert.match(outcome.state === "failed" ? outcome.reason : "", /did not end within 4 s/);
    // The scanner itself ends, and somebody has its output still.
    const left = await putScript(place.bin, "trivy", `sleep 600 & echo $! >> ${pids}`);
    const after = (await place.scan({ path: left, timeoutMs: 4000 })).outcome;
    assert.match(after.state === "failed" ? after.reason : "", /did not end within 4 s/);
    await putScript(place.bin, "trivy", `trap '' TERM; sleep 600 & echo $! >> ${pids}; wait`);

    const stop = new AbortController();
    const scanner = new Scanner({ path, directory: place.directory });
    const scanned = scanner.scan(place.file, stop.signal);
    setTimeout(() => stop.abort(new Error("DTMA ends")), 200);
    await assert.rejects(scanned, /DTMA ends/);
    await assert.rejects(scanner.scan(place.file, stop.signal), /DTMA ends/, "nor started again");
  } finally {
    // The sleepers that the scanners left behind, each by its own id.
    for (const pid of (await Deno.readTextFile(pids)).trim().split("\n")) {
      Deno.kill(Number(pid), "SIGKILL");
    }
  }
});

Deno.test("Scanning scans each image once, for all of its servers, and again when it is due", async () => {
  const told: [string, ImageScan][] = [];
  const scanned: string[] = [];
  let state: "scanned" | "failed" = "failed";
  const result = readTrivy('{"SchemaVersion":2}');
  const scanning = new Scanning({
    scanner: {
      scan: (file) => {
        scanned.push(file);
        const scanner = { name: "trivy", version: null, databaseAt: null };
        return Promise.resolve({
          scanner,
          outcome: state === "scanned" ? { state, ...result } : { state, reason: "No network" },
        });
      },
    },
    billOf: (imageId) => {
      if (imageId === "broken") return Promise.reject(new SyntaxError("Not JSON"));
      return Promise.resolve(imageId === "none" ? null : { file: imageId, components: 3 });
    },
    onScan: (serverId, scan) => told.push([serverId, ImageScan.parse(scan)]),
    everyMs: 60_000,
    retryMs: 50,
    lookMs: 10,
  });
  const stop = new AbortController();
  const running = scanning.run(stop.signal);
  scanning.saw("a", "one");
  scanning.saw("b", "one");
  await eventually(() => scanned.length >= 3);
  state = "scanned";
  await eventually(() => told.at(-1)?.[1].outcome.state === "scanned");
  const times = scanned.length;
  assert.equal(told.at(-1)![1].components, 3);
  scanning.saw("a", "one");
  scanning.saw("c", "one");
  assert.deepEqual(told.at(-1)![0], "c", "told at once of what is known");
  scanning.saw("d", "none");
  scanning.saw("e", "broken");
  await eventually(() => told.some(([server]) => server === "e"));
  const reasonOf = (id: string) => {
    const { outcome } = told.find(([server]) => server === id)![1];
    return outcome.state === "failed" ? outcome.reason : "";
  };
  assert.match(reasonOf("d"), /no bill of materials/);
  assert.match(reasonOf("e"), /cannot be read: SyntaxError: Not JSON/);
  assert.equal(scanned.length, times);
  stop.abort();
  await running;
});

function assertFits(result: ScanResult): void {
  ImageScan.parse({
    imageId: "sha256:0",
    at: new Date().toISOString(),
    components: 1,
    scanner: null,
    outcome: { state: "scanned", ...result },
  });
}

interface Place {
  /** Where the scanner's program is put, and where it runs. */
  bin: string;
  directory: string;
  /** A bill of materials with express and ms. */
  file: string;
  scan(options: Omit<ScannerOptions, "directory">): ReturnType<Scanner["scan"]>;
}

function scannerTest(name: string, run: (place: Place) => Promise<void>): void {
  Deno.test(name, async () => {
    const root = await Deno.makeTempDir({ prefix: "mooring-test-" });
    try {
      const wanted = {
        registry: "npm" as const,
        name: "express",
        version: "5.0.1",
        installScripts: false,
      };
      const file = `${root}/bill.json`;
      await Deno.writeTextFile(file, JSON.stringify(await billOfMaterials("i", wanted, null)));
      const directory = `${root}/scanner`;
      await run({
        bin: `${root}/bin`,
        directory,
        file,
        scan: (options) => new Scanner({ directory, ...options }).scan(file, never),
      });
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  });
}
