import assert from "node:assert/strict";
import { ImageError, Images, type ImagesOptions } from "../../dtma/image.ts";
import type { NpmPackage } from "../../dtma/protocol.ts";
import { BASE, engineTest, leftovers, type Toolbox } from "./engine.ts";

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
    assert.deepEqual(await docker.listImages(["dev.mooring.build"], true), []);

    // A second toolbox directory's worth: the image is gone, the lock file is there.
    await docker.removeImage(both[0].id);
    const again: string[] = [];
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
  assert.deepEqual(await toolbox.docker.listImages(["dev.mooring.build"], true), []);
  assert.deepEqual((await leftovers(toolbox.docker, toolbox.id)).images, []);
});

engineTest(
  "Images.ensure says that the base image is missing, and that it may come",
  async (toolbox) => {
    const images = imagesOf(toolbox, { bases: { node: "mooring/no-such-base" } });
    await assert.rejects(images.ensure(EVERYTHING), refused(/base image .* is not on/, true));
  },
);

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
    assert.deepEqual(await toolbox.docker.listImages(["dev.mooring.build"], true), []);
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
