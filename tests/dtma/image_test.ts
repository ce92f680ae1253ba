import assert from "node:assert/strict";
import { ImageError, Images, type ImagesOptions } from "../../dtma/image.ts";
import {
  type BuildRecord,
  comparison,
  contentHash,
  inOneBuffer,
} from "../../dtma/image_rebuild.ts";
import type { NpmPackage } from "../../dtma/protocol.ts";
import { writeTar } from "../../dtma/tar.ts";
import { BASE, buildLeftovers, engineTest, leftovers, type Toolbox } from "./engine.ts";

const EVERYTHING: NpmPackage = {
  registry: "npm",
  name: "@modelcontextprotocol/server-everything",
  version: "2026.8.31",
  installScripts: false,
};

const imagesOf = (
  { docker, id: toolboxId, dataDir }: Toolbox,
  options: Partial<ImagesOptions> = {},
) => new Images({ docker, toolboxId, dataDir, bases: { node: BASE }, ...options });

engineTest(
  "Images.ensure builds once, keeps the lock file, and leaves no trace of the build",
  async (toolbox) => {
    const { docker, dataDir } = toolbox;
    const images = imagesOf(toolbox);
    const lines: string[] = [];
    const progress: number[] = [];
    const startedMs = Date.now();
    const both = await Promise.all([
      images.ensure(EVERYTHING, {
        onLine: (line) => lines.push(line),
        onProgress: (fraction) => progress.push(fraction),
      }),
      images.ensure(EVERYTHING),
    ]);
    console.log(`first build: ${Date.now() - startedMs} ms`);
    assert.deepEqual(both[0], both[1]);
    assert.match(both[0].id, /^sha256:[0-9a-f]{64}$/);
    assert.equal(lines.filter((line) => line.startsWith("Step 1/")).length, 1);
    assert.ok(progress.length > 3 && progress.every((each) => each >= 0 && each < 1));
    assert.deepEqual(await images.ensure(EVERYTHING), both[0]);

    const locks = await Array.fromAsync(Deno.readDir(`${dataDir}/locks`));
    assert.match(locks[0].name, /^modelcontextprotocol-server-everything-[0-9a-f]{16}\.json$/);
    const lock = JSON.parse(await Deno.readTextFile(`${dataDir}/locks/${locks[0].name}`));
    const locked = lock.packages["node_modules/@modelcontextprotocol/server-everything"];
    assert.equal(locked.version, "2026.8.31");
    assert.match(locked.integrity, /^sha512-/);

    // Neither certificate nor npm's cache is in what runs; nothing without a tag is left.
    const found = await run(toolbox, both[0].id, [
      "node",
      "-e",
      `const fs = require("fs"); console.log(JSON.stringify([
      fs.existsSync("/tmp/extra-ca.pem"), fs.existsSync("/root/.npm"),
      process.env.NODE_EXTRA_CA_CERTS ?? null, fs.existsSync("/app/server")]))`,
    ]);
    assert.deepEqual(JSON.parse(found), [false, false, null, true]);
    assert.deepEqual(await buildLeftovers(toolbox), []);

    // A second toolbox directory's worth: the image is gone, the lock file is there.
    await docker.removeImage(both[0].id);
    const again: string[] = [];
    const sbom = await images.sbom(both[0].id) as {
      specVersion: string;
      components: { name: string; licenses?: unknown[]; hashes: { alg: string }[] }[];
    };
    assert.equal(sbom.specVersion, "1.6");
    const server = sbom.components.find(({ name }) => name === EVERYTHING.name)!;
    assert.equal(server.hashes[0].alg, "SHA-512");
    assert.ok(sbom.components.length > 50 && sbom.components.every(({ hashes }) => hashes.length));
    const rebuiltMs = Date.now();
    await images.ensure(EVERYTHING, { onLine: (line) => again.push(line) });
    console.log(`build with a lock file: ${Date.now() - rebuiltMs} ms`);
    assert.ok(again.some((line) => line.includes("COPY package-lock.json")));
    await images.collect([EVERYTHING]);
    assert.equal((await leftovers(docker, toolbox.id)).images.length, 1);
    await images.collect([]);
    assert.deepEqual((await leftovers(docker, toolbox.id)).images, []);
  },
);

const refused = (reason: RegExp, retry: boolean) => (error: unknown) => {
  assert.ok(error instanceof ImageError, String(error));
  assert.match(error.reason, reason);
  assert.ok(error.nextStep.length > 10);
  assert.equal(error.retry, retry);
  return true;
};

engineTest("Images.ensure names what is wrong with a package", async (toolbox) => {
  const images = imagesOf(toolbox);
  await Promise.all([
    assert.rejects(
      images.ensure({ ...EVERYTHING, version: "999.0.0" }),
      refused(/no version .*999\.0\.0/, false),
    ),
    assert.rejects(
      images.ensure({ ...EVERYTHING, name: "@mooring-none/no-such-package-at-all" }),
      refused(/no package/, false),
    ),
    assert.rejects(
      images.ensure({ ...EVERYTHING, name: "zod", version: "4.6.7" }),
      refused(/has no bin/, false),
    ),
    assert.rejects(
      images.ensure({ ...EVERYTHING, name: ".." }),
      refused(/not a package that/, false),
    ),
  ]);
  assert.deepEqual(await buildLeftovers(toolbox), []);
  assert.deepEqual((await leftovers(toolbox.docker, toolbox.id)).images, []);
});

engineTest(
  "Images.ensure says that the base image is missing, and that it may come",
  async (toolbox) => {
    const images = imagesOf(toolbox, { bases: { node: "mooring/no-such-base" } });
    await assert.rejects(images.ensure(EVERYTHING), refused(/base image .* is not on/, true));
  },
);

engineTest("two builds of one lock differ in times alone", async (toolbox) => {
  const { docker } = toolbox;
  const images = imagesOf(toolbox);
  const wanted = { ...EVERYTHING, name: "semver", version: "7.7.2" };
  const builds = [];
  for (let round = 0; round < 3; round++) {
    const { id, note } = await images.ensure(wanted);
    const sbom = await images.sbom(id) as { components: { purl: string }[] };
    const { Config, RootFS } = (await docker.inspectImage(id))!;
    assert.equal((await images.ensure(wanted)).note, undefined, "of one that was there already");
    builds.push({
      id,
      note,
      sbom,
      Config,
      layers: RootFS.Layers!,
      app: await archiveOf(toolbox, id),
    });
    assert.ok(await docker.removeImage(id));
  }
  // The first one made the lock; what is installed by it is the same then and ever after.
  const [first, second, third] = builds;
  for (const { Config, layers, app, sbom } of [second, third]) {
    assert.deepEqual({ ...Config, Image: "" }, { ...first.Config, Image: "" });
    assert.deepEqual(layers.slice(0, -1), first.layers.slice(0, -1));
    assert.deepEqual(sbom.components, first.sbom.components);
    // Why not the same digest: the engine gives the directory that it copies to the time of the
    // copying, and the image's configuration the time of each step.
    assert.notDeepEqual(app.whole, first.app.whole);
    assert.deepEqual(app.withoutTime, first.app.withoutTime);
  }
  assert.equal(new Set(builds.map(({ id }) => id)).size, 3);
  // And it is said, with the reason.
  assert.equal(first.note, undefined);
  for (const { note } of [second, third]) {
    assert.match(note!, /^The same files .* times of building/);
  }
  assert.deepEqual(first.sbom.components.map(({ purl }) => purl), ["pkg:npm/semver@7.7.2"]);
});

engineTest("a rebuild on another base image says that this is why", async (toolbox) => {
  const { docker, id: toolboxId } = toolbox;
  const wanted = { ...EVERYTHING, name: "semver", version: "7.7.2" };
  await imagesOf(toolbox).ensure(wanted);
  const base = `mooring-test/other-base:${toolboxId}`;
  await docker.buildImage(
    writeTar({ Dockerfile: `FROM ${BASE}\nLABEL dev.mooring.toolbox=${toolboxId}\n` }),
    { tag: base, buildArguments: {}, labels: {}, onLine: () => {} },
  );
  const { note } = await imagesOf(toolbox, { bases: { node: base } }).ensure(wanted);
  assert.match(note!, /because the base image is another one; its packages are the same/);
});

Deno.test("comparison names why a digest is another one", () => {
  const record = (changes: Partial<BuildRecord> = {}): BuildRecord => ({
    imageId: "sha256:1",
    baseId: "sha256:b",
    parts: ["pkg:npm/a@1", "pkg:npm/b@1"],
    content: "c",
    ...changes,
  });
  const source = {
    registry: "source" as const,
    kind: "git" as const,
    location: "https://git.example/a",
    revision: "0".repeat(40),
    dockerfile: "Dockerfile",
  };
  const next = { imageId: "sha256:2" };
  const others = ["pkg:npm/%40x/a@2", "pkg:npm/c@1", "pkg:npm/d@1", "pkg:npm/e@1"];
  const cases: [BuildRecord | null, BuildRecord, RegExp | null][] = [
    [null, record(), null],
    [record(), record(), /^Its digest is that of the build before$/],
    [record(), record(next), /^The same files as in the build before/],
    [record(), record({ ...next, content: "d" }), /their installation wrote other files$/],
    [record(), record({ ...next, baseId: "sha256:c" }), /the base image is another one/],
    [
      record(),
      record({ ...next, parts: others }),
      /other packages: now npm\/@x\/a@2, npm\/c@1, npm\/d@1 and 1 more; before npm\/a@1, npm\/b@1$/,
    ],
  ];
  for (const [before, now, said] of cases) {
    const note = comparison(EVERYTHING, before, now);
    if (said) assert.match(note!, said);
    else assert.equal(note, null);
  }
  assert.match(comparison(source, record(), record(next))!, /its Dockerfile ran anew/);
});

Deno.test("contentHash sees all of a tar but its times, however it is cut", async () => {
  const cut = async function* (tar: Uint8Array, bytes: number) {
    for (let at = 0; at < tar.length; at += bytes) yield tar.subarray(at, at + bytes);
  };
  const hash = (files: Record<string, string>, bytes = 700, executable: string[] = []) =>
    contentHash(cut(writeTar(files, executable), bytes));
  const files = { a: "x".repeat(1300), "dir/b": "" };
  const same = await hash(files);
  for (const bytes of [1, 511, 512, 513, 1 << 20]) assert.equal(await hash(files, bytes), same);
  const inOne = inOneBuffer(new Blob([writeTar(files)]).stream());
  assert.equal(await contentHash(inOne), same);
  const later = writeTar(files);
  later.set(new TextEncoder().encode("00000001234"), 136);
  assert.equal(await contentHash(cut(later, 700)), same);
  const others: Record<string, string>[] = [{ ...files, a: "y" }, { ...files, c: "" }, {
    a: files.a,
    "dir/c": "",
  }];
  for (const other of others) {
    assert.notEqual(await hash(other), same);
  }
  assert.notEqual(await hash(files, 700, ["dir/b"]), same);
});

/** An image's /app as a tar, and the same without the time of /app itself. */
async function archiveOf({ docker, id }: Toolbox, image: string) {
  const container = await docker.createContainer(`mooring-test-${crypto.randomUUID()}`, {
    Image: image,
    Entrypoint: ["never-started"],
    Labels: { "dev.mooring.toolbox": id },
  });
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path: docker.socketPath } });
  const url = `http://localhost/containers/${container}/archive?path=/app`;
  const whole = await (await fetch(url, { client })).bytes();
  await docker.removeContainer(container);
  // The first header's time and checksum.
  return { whole, withoutTime: whole.slice().fill(0, 136, 156) };
}

engineTest("Images.collect leaves what a container of any generation uses", async (toolbox) => {
  const { docker } = toolbox;
  const images = imagesOf(toolbox);
  const image = await images.ensure({ ...EVERYTHING, name: "semver", version: "7.7.2" });
  const container = await docker.createContainer(`mooring-test-${crypto.randomUUID()}`, {
    Image: image.id,
    Entrypoint: ["never-started"],
    Labels: { "dev.mooring.toolbox": toolbox.id, "dev.mooring.generation": "1" },
  });
  await images.collect([]);
  assert.deepEqual((await leftovers(docker, toolbox.id)).images, [image.id]);
  assert.notEqual(await images.sbom(image.id), null);
  await docker.removeContainer(container);
  await images.collect([]);
  assert.deepEqual((await leftovers(docker, toolbox.id)).images, []);
  assert.equal(await images.sbom(image.id), null);
});

engineTest("Images.ensure goes on after a power cut that emptied its files", async (toolbox) => {
  const { docker, dataDir } = toolbox;
  const images = imagesOf(toolbox);
  const small = { ...EVERYTHING, name: "semver", version: "7.7.2" };
  const { id } = await images.ensure(small);
  for (const directory of ["locks", "sboms", "builds"]) {
    const [{ name }] = await Array.fromAsync(Deno.readDir(`${dataDir}/${directory}`));
    await Deno.truncate(`${dataDir}/${directory}/${name}`);
  }
  assert.equal(await images.sbom(id), null);
  await docker.removeImage(id);
  const again = await images.ensure(small);
  assert.notEqual(await images.sbom(again.id), null);
});

engineTest("Images.ensure refuses what is not what the lock file says", async (toolbox) => {
  const images = imagesOf(toolbox);
  const small = { ...EVERYTHING, name: "semver", version: "7.7.2" };
  await images.ensure(small);
  const [{ name }] = await Array.fromAsync(Deno.readDir(`${toolbox.dataDir}/locks`));
  const path = `${toolbox.dataDir}/locks/${name}`;
  const lock = JSON.parse(await Deno.readTextFile(path));
  lock.packages["node_modules/semver"].integrity = `sha512-${btoa("0".repeat(64))}`;
  await Deno.writeTextFile(path, JSON.stringify(lock));
  await images.collect([]);
  await assert.rejects(images.ensure(small), refused(/not what it gave at the first build/, false));
});

engineTest(
  "Images.ensure ends a build that takes too long, or that nobody waits for",
  async (toolbox) => {
    const quick = imagesOf(toolbox, { timeoutMs: 1500 });
    await assert.rejects(quick.ensure(EVERYTHING), refused(/took longer/, false));

    const images = imagesOf(toolbox);
    const [one, two] = [new AbortController(), new AbortController()];
    const first = images.ensure(EVERYTHING, {
      signal: one.signal,
      onLine: (line) => line.startsWith("Step 1/") && one.abort(),
    });
    const second = images.ensure(EVERYTHING, { signal: two.signal });
    await assert.rejects(first, { name: "AbortError" });
    two.abort();
    await assert.rejects(second, { name: "AbortError" });
    // Asked for again while the stopped build ends: a new one.
    assert.match((await images.ensure(EVERYTHING)).id, /^sha256:/);
    assert.deepEqual(await buildLeftovers(toolbox), []);
  },
);

async function run({ docker, id }: Toolbox, image: string, command: string[]): Promise<string> {
  const container = await docker.createContainer(`mooring-test-${crypto.randomUUID()}`, {
    Image: image,
    Entrypoint: command,
    Labels: { "dev.mooring.toolbox": id },
    HostConfig: { NetworkMode: "none" },
  });
  const attachment = await docker.attachContainer(container);
  await docker.startContainer(container);
  const output = await new Response(attachment.stdout).text();
  await docker.removeContainer(container);
  return output;
}
