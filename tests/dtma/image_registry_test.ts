/** npm's packages out of a registry of the toolbox's own, on the real engine. */
import assert from "node:assert/strict";
import { ImageError, Images } from "../../dtma/image.ts";
import { recipeOf } from "../../dtma/image_recipes.ts";
import type { NpmPackage } from "../../dtma/protocol.ts";
import { writeTar } from "../../dtma/tar.ts";
import { BASE, buildLeftovers, engineTest } from "./engine.ts";
import { bridgeAddress } from "./package_index.ts";

/** On no public registry. */
const WANTED: NpmPackage = {
  registry: "npm",
  name: "@mooring-test/only-on-the-mirror",
  version: "1.0.0",
  installScripts: false,
};

async function packed(dependencies = {}): Promise<Uint8Array<ArrayBuffer>> {
  const { name, version } = WANTED;
  const tar = writeTar({
    "package/package.json": JSON.stringify({ name, version, bin: "server.mjs", dependencies }),
    "package/server.mjs": "#!/usr/bin/env node\n",
  });
  return await new Response(new Blob([tar]).stream().pipeThrough(new CompressionStream("gzip")))
    .bytes();
}

/** A registry with the one package; a build's containers reach it at the bridge's gateway. */
function serveRegistry(
  address: string,
  tarball: Uint8Array<ArrayBuffer>,
  integrity: string,
  dependencies = {},
) {
  const asked: string[] = [];
  const { name, version } = WANTED;
  const server: Deno.HttpServer<Deno.NetAddr> = Deno.serve({
    port: 0,
    hostname: "0.0.0.0",
    onListen: () => {},
  }, (request) => {
    const path = decodeURIComponent(new URL(request.url).pathname);
    asked.push(path);
    if (path === "/npm/only.tgz") return new Response(tarball);
    if (path !== `/npm/${name}`) return new Response("{}", { status: 404 });
    const dist = { tarball: `${url}only.tgz`, integrity };
    return Response.json({
      name,
      "dist-tags": { latest: version },
      versions: { [version]: { name, version, bin: { only: "server.mjs" }, dist, dependencies } },
    });
  });
  const url: string = `http://${address}:${server.addr.port}/npm/`;
  return { url, asked, [Symbol.asyncDispose]: () => server.shutdown() };
}

engineTest(
  "Images.ensure installs from the toolbox's npm registry, and a lock serves with another one",
  async (toolbox) => {
    const { docker, id: toolboxId, dataDir } = toolbox;
    const tarball = await packed();
    const integrity = await integrityOf(tarball);
    const address = await bridgeAddress(docker);
    const ensure = async (npm: string) => {
      const images = new Images({
        docker,
        toolboxId,
        dataDir,
        bases: { node: BASE },
        indexes: { npm },
      });
      const lines: string[] = [];
      const { id } = await images.ensure(WANTED, { onLine: (line) => lines.push(line) })
        .catch((error) => assert.fail(`${error}\n${lines.slice(-20).join("\n")}`));
      const { Config } = (await docker.inspectImage(id))!;
      assert.equal(JSON.stringify(Config).includes(address), false, "no trace in what runs");
      await docker.removeImage(id);
    };
    {
      await using mirror = serveRegistry(address, tarball, integrity);
      await ensure(mirror.url);
      assert.ok(mirror.asked.includes("/npm/only.tgz"));
    }
    const [{ name }] = await Array.fromAsync(Deno.readDir(`${dataDir}/locks`));
    const lock = await Deno.readTextFile(`${dataDir}/locks/${name}`);
    assert.ok(lock.includes(integrity));
    assert.equal(lock.includes(address), false, "the lock names no address");
    // The first one is gone by now.
    await using other = serveRegistry(address, tarball, integrity);
    await ensure(other.url);
    assert.ok(other.asked.includes("/npm/only.tgz"));
    assert.deepEqual(await buildLeftovers(toolbox), []);
  },
);

async function integrityOf(tarball: Uint8Array<ArrayBuffer>): Promise<string> {
  return `sha512-${new Uint8Array(await crypto.subtle.digest("SHA-512", tarball)).toBase64()}`;
}

engineTest(
  "Images.ensure fetches nothing from git for who did not agree to install scripts",
  async ({ docker, id: toolboxId, dataDir }) => {
    const dependencies = { theirs: `github:mooring-none/none#${"a".repeat(40)}` };
    const tarball = await packed(dependencies);
    const address = await bridgeAddress(docker);
    const integrity = await integrityOf(tarball);
    await using mirror = serveRegistry(address, tarball, integrity, dependencies);
    const images = new Images({
      docker,
      toolboxId,
      dataDir,
      bases: { node: BASE },
      indexes: { npm: mirror.url },
    });
    await assert.rejects(images.ensure(WANTED), (error) => {
      assert.ok(error instanceof ImageError && !error.retry, String(error));
      assert.match(error.reason, /depends on .*theirs.* of a git repository/);
      assert.match(error.nextStep, /install scripts/);
      return true;
    });
  },
);

Deno.test("recipeOf gives each installer its own index, and none where none is set", () => {
  const indexes = {
    npm: "https://m.example/npm",
    pypi: "https://m.example/simple",
    nuget: "https://m.example/v3/index.json",
  };
  const pypi = { registry: "pypi", name: "a", version: "1", installScripts: false } as const;
  const nuget = { registry: "nuget", name: "A", version: "1.0" } as const;
  assert.equal(recipeOf(WANTED, indexes).environment.npm_config_registry, indexes.npm);
  assert.ok(recipeOf(pypi, indexes).install.includes(`--index=${indexes.pypi}`));
  assert.ok(recipeOf(nuget, indexes).install.includes(indexes.nuget));
  for (const wanted of [WANTED, pypi, nuget]) {
    assert.equal(JSON.stringify(recipeOf(wanted, {})).includes("m.example"), false);
    assert.equal(recipeOf(wanted, {}).environment.npm_config_registry, undefined);
  }
});
