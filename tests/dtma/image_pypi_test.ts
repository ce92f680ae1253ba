/** Python servers out of a package index, on the real engine. */
import assert from "node:assert/strict";
import { BASES } from "../../dtma/image_recipes.ts";
import { ImageError, Images } from "../../dtma/image.ts";
import type { PypiPackage } from "../../dtma/protocol.ts";
import { writeTar } from "../../dtma/tar.ts";
import { converse } from "./converse.ts";
import { buildLeftovers, engineTest, leftovers, type Toolbox } from "./engine.ts";
import { makeWheel, type PackageIndex, servePackageIndex, type Wheel } from "./package_index.ts";

const fixture = (name: string) =>
  Deno.readTextFileSync(new URL(`../fixtures/python/${name}`, import.meta.url));

const WORDS: Wheel = {
  name: "mooring-echo-words",
  version: "3.0",
  files: { "mooring_echo_words.py": fixture("mooring_echo_words.py") },
};

const ECHO: Wheel = {
  name: "mooring-echo",
  version: "1.2.0",
  files: { "mooring_echo.py": fixture("mooring_echo.py") },
  requires: ["mooring-echo-words>=2"],
  scripts: { "mooring-echo": "mooring_echo:main", "other": "mooring_echo:answer" },
};

const WANTED: PypiPackage = {
  registry: "pypi",
  name: "mooring-echo",
  version: "1.2.0",
  installScripts: false,
};

function pypiTest(
  name: string,
  run: (toolbox: Toolbox, index: PackageIndex, images: Images) => Promise<void>,
) {
  engineTest(name, async (toolbox) => {
    const { docker, id: toolboxId, dataDir } = toolbox;
    if (!await docker.inspectImage(BASES.python)) {
      return console.log(`SKIPPED: ${BASES.python} is missing, deno task base python makes it`);
    }
    await using index = await servePackageIndex(docker, [WORDS, ECHO]);
    await run(
      toolbox,
      index,
      new Images({ docker, toolboxId, dataDir, indexes: { pypi: index.url } }),
    );
  });
}

pypiTest("Images.ensure installs a package of an index, and its server answers", async (
  toolbox,
  index,
  images,
) => {
  const { docker, dataDir } = toolbox;
  const startedMs = Date.now();
  const image = await images.ensure(WANTED);
  console.log(`build: ${Date.now() - startedMs} ms`);
  assert.deepEqual([image.command, image.hasLauncher], [["python3", "/app/server"], true]);
  const [initialized, called] = await converse(toolbox, image, [
    { method: "initialize", params: {} },
    { method: "tools/call", params: { name: "greet", arguments: { name: "東京" } } },
  ]);
  assert.equal((initialized.result.serverInfo as { name: string }).name, "mooring-echo");
  assert.deepEqual(called.result.content, [{ type: "text", text: "Grüße, 東京" }]);

  const [{ name }] = await Array.fromAsync(Deno.readDir(`${dataDir}/locks`));
  const lock = await Deno.readTextFile(`${dataDir}/locks/${name}`);
  assert.match(
    lock,
    /^# python 3\.\d+ \S+\nmooring-echo-words==3\.0 --hash=sha256:[0-9a-f]{64}\nmoo/,
  );
  const sbom = await images.sbom(image.id) as { components: { purl: string; hashes: unknown[] }[] };
  assert.deepEqual(sbom.components.map(({ purl }) => purl), [
    "pkg:pypi/mooring-echo-words@3.0",
    "pkg:pypi/mooring-echo@1.2.0",
  ]);
  assert.ok(sbom.components.every(({ hashes }) => hashes.length === 1));

  // A newer dependency is there by now: the lock keeps the one of the first build.
  const [newer, content] = await makeWheel({ ...WORDS, version: "3.1" });
  index.files.set(newer, content);
  await docker.removeImage(image.id);
  await images.ensure(WANTED);
  assert.equal(await Deno.readTextFile(`${dataDir}/locks/${name}`), lock);

  // The same name and version with other content is refused.
  await images.collect([]);
  assert.deepEqual((await leftovers(docker, toolbox.id)).images, []);
  const [changed, other] = await makeWheel({ ...WORDS, files: { "mooring_echo_words.py": "0" } });
  index.files.set(changed, other);
  await assert.rejects(
    images.ensure(WANTED),
    refused(/not what it gave at the first build/, false),
  );
  assert.deepEqual(await buildLeftovers(toolbox), []);
});

pypiTest("Images.ensure names what is wrong with a Python package", async (_, index, images) => {
  const put = async (wheel: Wheel) => index.files.set(...await makeWheel(wheel));
  await put({ ...ECHO, name: "lonely", version: "1", requires: ["nowhere-to-be-found"] });
  await put({ ...WORDS, name: "two-scripts", scripts: { a: "x:y", b: "x:y" } });
  index.files.set("sdist_only-1.0.tar.gz", new Uint8Array(10));
  const wanted = (changes: Partial<PypiPackage>) => images.ensure({ ...WANTED, ...changes });
  await Promise.all([
    assert.rejects(wanted({ version: "9.9" }), refused(/no version mooring-echo@9\.9/, false)),
    assert.rejects(wanted({ name: "not-there" }), refused(/no package not-there/, false)),
    assert.rejects(
      wanted({ name: "mooring-echo-words", version: "3.0" }),
      refused(/no console script/, false),
    ),
    assert.rejects(wanted({ command: "gone" }), refused(/no console script gone; it has/, false)),
    assert.rejects(
      wanted({ name: "two-scripts", version: "3.0" }),
      refused(/no console script two-scripts; it has a, b/, false),
    ),
    assert.rejects(
      wanted({ name: "lonely", version: "1" }),
      refused(/no wheel of nowhere-to-be-found/, false),
    ),
    assert.rejects(wanted({ name: "sdist-only", version: "1.0" }), refused(/no wheel/, false)),
  ]);
});

pypiTest(
  "Images.ensure refuses wheels that reach out of their place",
  async (toolbox, index, images) => {
    index.files.set(
      ...await makeWheel({
        ...ECHO,
        name: "escapes",
        requires: [],
        files: { ...ECHO.files, "../../../../usr/local/lib/evil.py": "1" },
      }),
    );
    const escapes = images.ensure({ ...WANTED, name: "escapes", command: "other" });
    await assert.rejects(escapes, refused(/Building the image of escapes@1\.2\.0 failed/, false));
    assert.deepEqual(await buildLeftovers(toolbox), []);
  },
);

pypiTest("Images.ensure builds nothing of an archive that a wheel names by its address", async (
  _,
  index,
  images,
) => {
  const archive = writeTar({
    "built-1.0/PKG-INFO": "Metadata-Version: 2.1\nName: built\nVersion: 1.0\n",
    "built-1.0/pyproject.toml":
      '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "built-1.0/backend.py": 'print("Code of the archive runs")\nraise SystemExit(1)\n',
  });
  const gzip = new Blob([archive]).stream().pipeThrough(new CompressionStream("gzip"));
  index.files.set("built-1.0.tar.gz", await new Response(gzip).bytes());
  const built = index.url.replace(/simple$/, "files/built-1.0.tar.gz");
  index.files.set(...await makeWheel({ ...ECHO, name: "lures", requires: [`built @ ${built}`] }));
  const luring = async (installScripts: boolean) => {
    const lines: string[] = [];
    const onLine = (line: string) => lines.push(line);
    const wanted = { ...WANTED, name: "lures", command: "other", installScripts };
    await assert.rejects(
      images.ensure(wanted, { onLine }),
      installScripts ? refused(/failed/, false) : refused(/depends on a source archive/, false),
    );
    return lines.some((line) => line.includes("Code of the archive runs"));
  };
  assert.equal(await luring(false), false);
  assert.equal(await luring(true), true, "where it was agreed to");
});

pypiTest("Images.ensure says how the Python base is made", async ({ docker, id, dataDir }) => {
  const bases = { python: "mooring/no-such-base" };
  const images = new Images({ docker, toolboxId: id, dataDir, bases });
  await assert.rejects(images.ensure(WANTED), (error) => {
    assert.ok(error instanceof ImageError);
    assert.match(error.nextStep, /deno task base python/);
    return true;
  });
});

const refused = (reason: RegExp, retry: boolean) => (error: unknown) => {
  assert.ok(error instanceof ImageError, String(error));
  assert.match(error.reason, reason);
  assert.ok(error.nextStep.length > 10);
  assert.equal(error.retry, retry);
  return true;
};
