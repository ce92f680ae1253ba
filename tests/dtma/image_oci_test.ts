/** Images by digest out of a real registry (Debian's docker-registry), on the real engine. */
import assert from "node:assert/strict";
import type { Docker } from "../../dtma/docker.ts";
import { type BuiltImage, ImageError, Images } from "../../dtma/image.ts";
import { containerConfig } from "../../dtma/policy.ts";
import type { OciPackage } from "../../dtma/protocol.ts";
import { writeTar } from "../../dtma/tar.ts";
import { freePort } from "../free_port.ts";
import { converse } from "./converse.ts";
import { BASE, engineTest, fixtureSpec, leftovers, type Toolbox } from "./engine.ts";

const REGISTRY = "/usr/bin/docker-registry";
const absent = await Deno.stat(REGISTRY).then(() => false, () => true);
if (absent) console.warn(`SKIPPED, tests of images from registries: ${REGISTRY} is missing`);

interface Registry extends AsyncDisposable {
  host: string;
  directory: string;
  /** Builds, pushes and forgets an image. @returns its digest */
  publish(name: string, dockerfile: string, files?: Record<string, string>): Promise<string>;
}

async function startRegistry({ docker, id }: Toolbox): Promise<Registry> {
  const directory = await Deno.makeTempDir({ prefix: "mooring-registry-" });
  const port = freePort();
  await Deno.writeTextFile(
    `${directory}/config.yml`,
    `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${directory}/data}}\n` +
      `http: {addr: "127.0.0.1:${port}"}\n`,
  );
  const child = new Deno.Command(REGISTRY, {
    args: ["serve", `${directory}/config.yml`],
    stdout: "null",
    stderr: "null",
  }).spawn();
  const host = `127.0.0.1:${port}`;
  for (let tries = 0;; tries++) {
    const answered = await fetch(`http://${host}/v2/`).then((response) => response.bytes())
      .catch(() => null);
    if (answered) break;
    assert.ok(tries < 600, "The registry does not start");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return {
    host,
    directory,
    async publish(name, dockerfile, files = {}) {
      const reference = `${host}/${name}`;
      const imageId = await docker.buildImage(writeTar({ Dockerfile: dockerfile, ...files }), {
        tag: `${reference}:${id}`,
        buildArguments: {},
        labels: {},
        onLine: () => {},
      });
      const digest = await push(docker, reference, id);
      await docker.removeImage(`${reference}:${id}`);
      await docker.removeImage(`${reference}@${digest}`);
      assert.equal(await docker.inspectImage(imageId), null);
      return digest;
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      await child.status;
      await Deno.remove(directory, { recursive: true });
    },
  };
}

async function push(docker: Docker, reference: string, tag: string): Promise<string> {
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path: docker.socketPath } });
  const response = await fetch(`http://localhost/images/${reference}/push?tag=${tag}`, {
    method: "POST",
    headers: { "x-registry-auth": btoa("{}") },
    client,
  });
  const text = await response.text();
  const [, digest] = /"Digest":"(sha256:[0-9a-f]{64})"/.exec(text) ?? [];
  assert.ok(digest, text.slice(-500));
  return digest;
}

function registryTest(
  name: string,
  run: (toolbox: Toolbox, registry: Registry, images: Images) => Promise<void>,
) {
  if (absent) return Deno.test({ name: `${name} (skipped)`, ignore: true, fn() {} });
  engineTest(name, async (toolbox) => {
    const { docker, id: toolboxId, dataDir } = toolbox;
    await using registry = await startRegistry(toolbox);
    await run(toolbox, registry, new Images({ docker, toolboxId, dataDir }));
  });
}

const at = (registry: Registry, name: string, digest: string): OciPackage => ({
  registry: "oci",
  image: `${registry.host}/${name}`,
  digest,
});

registryTest("Images.ensure pulls by digest, and adds the launcher where it can run", async (
  toolbox,
  registry,
  images,
) => {
  const { docker } = toolbox;
  const fixtures = new URL("../fixtures/servers/", import.meta.url);
  const digest = await registry.publish(
    "mcp/echo",
    `FROM ${BASE}\nUSER 0\nWORKDIR /srv/echo\nCOPY *.mjs ./\nENTRYPOINT ["node"]\nCMD ["echo.mjs"]\n` +
      `LABEL dev.mooring.toolbox=another dev.mooring.command=nonsense\nRUN ["rm","-rf","/mooring"]\n` +
      `HEALTHCHECK CMD ["/bin/false"]\n`,
    {
      "echo.mjs": await Deno.readTextFile(new URL("echo.mjs", fixtures)),
      "server.mjs": await Deno.readTextFile(new URL("server.mjs", fixtures)),
    },
  );
  const wanted = at(registry, "mcp/echo", digest);
  const lines: string[] = [];
  const image = await images.ensure(wanted, { onLine: (line) => lines.push(line) });
  assert.ok(lines.some((line) => line.includes("Digest: sha256:")));
  assert.deepEqual(image.command, ["node", "echo.mjs"]);
  assert.deepEqual([image.hasLauncher, image.workingDirectory], [true, "/srv/echo"]);
  const [listed] = await converse(toolbox, image, [{ method: "tools/list" }]);
  assert.ok(JSON.stringify(listed.result).includes("echo"));
  assert.deepEqual(await images.ensure(wanted), image);

  const given = await images.ensure({ ...wanted, command: ["node", "/srv/echo/echo.mjs", "$x\\"] });
  assert.deepEqual(given.command, ["node", "/srv/echo/echo.mjs", "$x\\"]);
  const sbom = await images.sbom(image.id) as { components: { purl: string }[] };
  assert.match(sbom.components[0].purl, /^pkg:oci\/echo@sha256%3A[0-9a-f]{64}\?repository_url=/);

  // Nothing is left of it, the pulled image included.
  await images.collect([]);
  assert.deepEqual((await leftovers(docker, toolbox.id)).images, []);
  assert.equal(await docker.inspectImage(`${wanted.image}@${digest}`), null);
  assert.equal(await images.sbom(image.id), null);
});

registryTest("Images.ensure tells of an image that cannot be launched, or is not to be run", async (
  { docker },
  registry,
  images,
) => {
  const bare = at(
    registry,
    "bare",
    await registry.publish("bare", 'FROM scratch\nCOPY a /\nCMD ["/a"]\n', { a: "" }),
  );
  const image = await images.ensure(bare);
  assert.deepEqual(image.command, ["/a"]);
  assert.equal(image.hasLauncher, false);

  const mute = at(
    registry,
    "mute",
    await registry.publish("mute", "FROM scratch\nCOPY a /\n", { a: "" }),
  );
  await assert.rejects(images.ensure(mute), refused(/neither Entrypoint nor Cmd/, false));

  const trap = at(
    registry,
    "trap",
    await registry.publish("trap", 'FROM scratch\nCOPY a /\nCMD ["/a"]\nONBUILD RUN ["/a"]\n', {
      a: "",
    }),
  );
  await assert.rejects(images.ensure(trap), refused(/ONBUILD/, false));
  for (const each of [mute, trap]) {
    assert.equal(await docker.inspectImage(`${each.image}@${each.digest}`), null);
  }
});

registryTest("What an image calls a volume is in memory, and bounded", async (
  toolbox,
  registry,
  images,
) => {
  const hoard = at(
    registry,
    "hoard",
    await registry.publish(
      "hoard",
      `FROM ${BASE}\nUSER 0\nRUN ["node","-e","fs.mkdirSync('/data');fs.chmodSync('/data',0o777)"]\n` +
        `VOLUME ["/data/","/tmp/","/srv/../cache","/var/lib/kept"]\nCMD ["node"]\n`,
    ),
  );
  const image = await images.ensure(hoard);
  assert.match(image.note ?? "", /volumes.*\/cache, \/data/);
  const spec = fixtureSpec("hoard", { volumes: [{ name: "kept", path: "/var/lib/kept" }] });
  const { mounts, errors, left } = await hoarding(toolbox, image, spec.volumes);
  assert.deepEqual(mounts, { "/cache": "tmpfs", "/data": "tmpfs", "/tmp": "tmpfs" });
  assert.deepEqual(errors, { "/cache": "ENOSPC", "/data": "ENOSPC", "/tmp": "ENOSPC" });
  assert.deepEqual(left, ["/var/lib/kept"]);

  for (const [name, path] of [["root", "/"], ["relative", "srv"]]) {
    const odd = await registry.publish(name, `FROM ${BASE}\nVOLUME ["${path}"]\nCMD ["node"]\n`);
    await assert.rejects(images.ensure(at(registry, name, odd)), refused(/volume/, false));
  }
});

/** What a program in the image makes of its volumes, and where the engine made one. */
async function hoarding(
  { docker, id: toolboxId }: Toolbox,
  image: BuiltImage,
  volumes: { name: string; path: string }[],
) {
  const spec = fixtureSpec("hoard", { volumes });
  const script = `const fs = require("fs"), mounts = {}, errors = {};
    const types = fs.readFileSync("/proc/mounts", "utf8").split("\\n").map((line) => line.split(" "));
    for (const path of ["/cache", "/data", "/tmp"]) {
      mounts[path] = types.find((each) => each[1] === path)?.[2];
      try { fs.writeFileSync(path + "/big", Buffer.alloc(80e6)) } catch (e) { errors[path] = e.code }
      fs.rmSync(path + "/big", { force: true });
    }
    console.log(JSON.stringify({ mounts, errors }))`;
  const config = containerConfig(spec, {
    ...{ toolboxId, image, specHash: "none", instance: null, route: null, sandbox: null },
  });
  const id = await docker.createContainer(`mooring-test-${crypto.randomUUID()}`, {
    ...config,
    Entrypoint: ["node", "-e", script],
  });
  const attachment = await docker.attachContainer(id);
  await docker.startContainer(id);
  const said = JSON.parse(await new Response(attachment.stdout).text());
  const [{ Mounts }] = (await docker.listContainers([`dev.mooring.toolbox=${toolboxId}`]))
    .filter(({ Id }) => Id === id);
  const left = Mounts!.filter(({ Type }) => Type === "volume").map((each) => each.Destination);
  await docker.removeContainer(id);
  for (const { name } of volumes) await docker.removeVolume(`mooring-${spec.serverId}-${name}`);
  return { ...said, left };
}

registryTest("Images.ensure refuses an image that has labels of Mooring's containers", async (
  { docker, id },
  registry,
  images,
) => {
  for (const label of ["transport", "instance", "egress", "server"]) {
    const digest = await registry.publish(
      `passing/${label}`,
      `FROM scratch\nCOPY a /\nCMD ["/a"]\nLABEL dev.mooring.${label}=x\n`,
      { a: label },
    );
    await assert.rejects(
      images.ensure(at(registry, `passing/${label}`, digest)),
      refused(new RegExp(`dev\\.mooring\\.${label}`), false),
    );
  }
  assert.deepEqual((await leftovers(docker, id)).images, []);
});

registryTest("Images.ensure refuses what has not the digest, and names what is not there", async (
  _,
  registry,
  images,
) => {
  const digest = await registry.publish("mcp/tool", 'FROM scratch\nCOPY a /\nCMD ["/a"]\n', {
    a: "1",
  });
  const other = await registry.publish("mcp/tool", 'FROM scratch\nCOPY a /\nCMD ["/a"]\n', {
    a: "2",
  });
  const blob = (each: string) => {
    const hex = each.slice("sha256:".length);
    return `${registry.directory}/data/docker/registry/v2/blobs/sha256/${
      hex.slice(0, 2)
    }/${hex}/data`;
  };
  await Deno.copyFile(blob(other), blob(digest));
  await assert.rejects(
    images.ensure(at(registry, "mcp/tool", digest)),
    refused(/does not have that digest/, false),
  );
  const none = `sha256:${"0".repeat(64)}`;
  await assert.rejects(
    images.ensure(at(registry, "mcp/tool", none)),
    refused(/registry has no/, false),
  );
  await assert.rejects(
    images.ensure({ registry: "oci", image: "127.0.0.1:9/x", digest: none }),
    refused(/cannot be reached/, true),
  );
});

const refused = (reason: RegExp, retry: boolean) => (error: unknown) => {
  assert.ok(error instanceof ImageError, String(error));
  assert.match(error.reason, reason);
  assert.ok(error.nextStep.length > 10);
  assert.equal(error.retry, retry);
  return true;
};
