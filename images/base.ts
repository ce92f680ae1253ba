/**
 * Makes `mooring/node:24`, the image that MCP servers on Node stand on: `deno run -A images/base.ts`.
 * It is the official Node image with Mooring's installer. Where no Docker registry can be reached, a
 * Debian or Ubuntu host assembles the same out of its archive's packages and npm's Node.
 */
import { Docker, DockerError, EngineAbsentError } from "../dtma/docker.ts";
import { writeTar } from "../dtma/tar.ts";

const REPOSITORY = "mooring/node";
const TAG = "24";
const NODE_MAJOR = "24";
const NPM_MAJOR = "11"; // what Node 24 ships with
const OFFICIAL_BASE = "docker.io/library/node:24-slim";

/** Carries the hash of this recipe: an image of another one is made again. */
const RECIPE_LABEL = "dev.mooring.base.recipe";

/** An engine says nothing while it cannot reach a registry; its own attempts end after about this. */
const PULL_SILENCE_MS = 60_000;

/** What a person can mend: its message alone is shown. */
class BaseError extends Error {}

if (import.meta.main) {
  try {
    await ensureBase((line) => console.log(line));
  } catch (error) {
    if (error instanceof EngineAbsentError) console.error(`${error.reason}. ${error.advice}`);
    else if (error instanceof BaseError) console.error(error.message);
    else throw error;
    Deno.exit(1);
  }
}

/** Makes the base image unless the engine has this very recipe's; a progress line a step. */
async function ensureBase(log: (line: string) => void): Promise<void> {
  const docker = new Docker();
  try {
    const name = `${REPOSITORY}:${TAG}`;
    const { hash, files } = await readRecipe();
    const present = await docker.inspectImage(name);
    if (present?.Config.Labels?.[RECIPE_LABEL] !== hash) {
      const base = await nodeImage(docker, log);
      log(`Building ${name} on ${base}`);
      await docker.buildImage(writeTar(files), {
        tag: name,
        buildArguments: { BASE: base },
        labels: { [RECIPE_LABEL]: hash },
        onLine: () => {},
      });
    }
    log(`${name} is ready`);
  } catch (error) {
    if (!(error instanceof DockerError)) throw error;
    throw new BaseError(`The Docker Engine refused: ${error.message}`);
  } finally {
    docker.close();
  }
}

async function readRecipe() {
  const read = (path: string) => Deno.readTextFile(new URL(path, import.meta.url));
  const files = {
    "Dockerfile": await read("node/Dockerfile"),
    "install.mjs": await read("node/install.mjs"),
  };
  const recipe = JSON.stringify([files, await read("base.ts")]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(recipe));
  return { files, hash: new Uint8Array(digest).toHex() };
}

/** The name of an image with Node in it, on this engine. */
async function nodeImage(docker: Docker, log: (line: string) => void): Promise<string> {
  const mirror = Deno.env.get("NODE_BASE_IMAGE");
  const reference = mirror || OFFICIAL_BASE;
  log(`Pulling ${reference}`);
  const failure = await pull(docker, reference);
  if (!failure) return reference;
  log(`It cannot be pulled: ${failure}`);
  if (await docker.inspectImage(reference)) {
    log(`Taking the ${reference} that is already here`);
    return reference;
  }
  const here = mirror
    ? "NODE_BASE_IMAGE names the image to use, so no other is taken"
    : await whyNotDebian();
  if (here === null) return await assembleDebian(docker, log);
  throw new BaseError(
    `No base image for Node servers: ${reference} cannot be pulled (${failure}), and ${here}. ` +
      "Let the Docker Engine reach the registry, set NODE_BASE_IMAGE to a mirror's node:24-slim, " +
      `or bring it by hand (docker save on another machine, docker load here), then start again.`,
  );
}

/** @returns null when the engine has pulled it, else why not */
async function pull(docker: Docker, reference: string): Promise<string | null> {
  const named = /@|:[^/]+$/.test(reference) ? reference : `${reference}:latest`;
  try {
    await createImage(docker, { fromImage: named });
    return null;
  } catch (error) {
    if (error instanceof DockerError) return error.message.trim().replaceAll(/\s+/g, " ");
    throw error;
  }
}

/**
 * `POST /images/create`, a pull or an import. Its errors come inside a stream that began with 200.
 * @see https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageCreate
 */
async function createImage(
  docker: Docker,
  query: Record<string, string>,
  tar?: ReadableStream<Uint8Array>,
): Promise<void> {
  using client = Deno.createHttpClient({
    proxy: { transport: "unix", path: docker.socketPath },
  });
  const silence = new AbortController();
  const heard = () => {
    clearTimeout(timer);
    if (!tar) timer = setTimeout(() => silence.abort(), PULL_SILENCE_MS);
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  heard();
  try {
    const request: RequestInit & { client: Deno.HttpClient } = {
      method: "POST",
      client,
      signal: silence.signal,
      body: tar,
      headers: tar ? { "content-type": "application/x-tar" } : {},
    };
    const { ApiVersion } = await docker.version();
    const url = `http://localhost/v${ApiVersion}/images/create?${new URLSearchParams(query)}`;
    const response = await fetch(url, request);
    let text = "";
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      heard();
      text = (text + part).slice(-16_384); // an error is the stream's last line
    }
    if (!response.ok) throw new DockerError(response.status, messageOf(text));
    const last = text.trim().split("\n").at(-1)!;
    if (last.includes('"error"')) throw new DockerError(200, messageOf(last));
  } catch (error) {
    if (!silence.signal.aborted) throw error;
    throw new DockerError(200, `nothing came for ${PULL_SILENCE_MS / 1000} seconds`);
  } finally {
    clearTimeout(timer);
  }
}

function messageOf(text: string): string {
  try {
    const { message, error } = JSON.parse(text);
    return message ?? error ?? text;
  } catch {
    return text;
  }
}

/** Why this host cannot assemble the image from Debian's packages; null when it can. */
async function whyNotDebian(): Promise<string | null> {
  const release = await Deno.readTextFile("/etc/os-release").catch(() => "");
  if (!/^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(release)) {
    return "this host is not Debian or Ubuntu, whose packages could replace it";
  }
  if (Deno.uid() !== 0) return "only root can assemble it from this host's packages instead";
  return null;
}

/**
 * Debian packages unpacked without their scripts, and Node and npm from the npm registry. Trusts the
 * archive's signatures by way of apt, and the registry's digests.
 */
async function assembleDebian(docker: Docker, log: (line: string) => void): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "mooring-base-" });
  try {
    const root = `${directory}/root`;
    log("Downloading Debian packages instead");
    const packages = await downloadPackages(`${directory}/apt`);
    log(`Unpacking ${packages.length} Debian packages`);
    await unpack(packages, root);
    const platform = Deno.build.arch === "aarch64" ? "arm64" : "x64";
    log("Downloading Node and npm from the npm registry");
    const [node, npm] = await Promise.all([
      downloadNpm(`node-linux-${platform}`, NODE_MAJOR, `${directory}/node`),
      downloadNpm("npm", NPM_MAJOR, `${directory}/npm`),
    ]);
    const local = `${root}/usr/local`;
    await Deno.mkdir(`${local}/bin`, { recursive: true });
    await Deno.mkdir(`${local}/lib/node_modules`, { recursive: true });
    await Deno.rename(`${directory}/node/package/bin/node`, `${local}/bin/node`);
    await Deno.chmod(`${local}/bin/node`, 0o755);
    await Deno.rename(`${directory}/npm/package`, `${local}/lib/node_modules/npm`);
    for (const name of ["npm", "npx"]) {
      await Deno.symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, `${local}/bin/${name}`);
    }
    await finish(root);
    log(`Importing Node ${node} with npm ${npm}`);
    await importRoot(docker, root);
    return `mooring/debian-node:${TAG}`;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Downloads what Node needs at run time, with an apt state of our own. @returns paths of .deb files */
async function downloadPackages(directory: string): Promise<string[]> {
  const archives = `${directory}/cache/archives`;
  await Deno.mkdir(`${directory}/state/lists/partial`, { recursive: true });
  await Deno.mkdir(`${archives}/partial`, { recursive: true });
  await Deno.writeTextFile(`${directory}/status`, "");
  const apt = (...args: string[]) =>
    run("apt-get", [
      "-qq",
      "-o",
      `Dir::State=${directory}/state`,
      // Empty: dependencies that the host has are wanted as well.
      "-o",
      `Dir::State::status=${directory}/status`,
      "-o",
      `Dir::Cache=${directory}/cache`,
      "-o",
      "APT::Sandbox::User=root",
      ...args,
    ], archives);
  // One broken source of the host's is no matter as long as the packages below are found.
  const updated = await apt("update").then(() => null, (error: Error) => error);
  try {
    await apt(
      ...["install", "--yes", "--download-only", "--no-install-recommends"],
      ...["libc6", "libc-bin", "libstdc++6", "libgcc-s1", "coreutils"],
    );
    // Without dependencies: theirs (dpkg, perl, awk) serve maintainer scripts, which do not run.
    await apt("download", "base-files", "dash", "ca-certificates");
  } catch (error) {
    throw updated ?? error;
  }
  const found = await Array.fromAsync(Deno.readDir(archives));
  return found.map(({ name }) => `${archives}/${name}`).filter((path) => path.endsWith(".deb"))
    .sort();
}

async function unpack(packages: string[], root: string): Promise<void> {
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await Deno.mkdir(`${root}/usr/${name}`, { recursive: true });
    await Deno.symlink(`usr/${name}`, `${root}/${name}`);
  }
  for (const path of packages) {
    // The shell sees paths as parameters alone.
    const command =
      'set -e; dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink';
    await run("sh", ["-c", command, "sh", path, root]);
  }
}

/** What the packages' scripts would have made, and without what no server reads. */
async function finish(root: string): Promise<void> {
  await Deno.writeTextFile(
    `${root}/etc/passwd`,
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
  );
  await Deno.writeTextFile(`${root}/etc/group`, "root:x:0:\nnogroup:x:65534:\n");
  // The packages' own certificates alone: what this host trusts beside them is not for an image.
  const certificates: string[] = [];
  const mozilla = `${root}/usr/share/ca-certificates/mozilla`;
  for (const { name } of await Array.fromAsync(Deno.readDir(mozilla))) {
    if (name.endsWith(".crt")) certificates.push(name);
  }
  const bundle = await Promise.all(
    certificates.sort().map((name) => Deno.readTextFile(`${mozilla}/${name}`)),
  );
  await Deno.mkdir(`${root}/etc/ssl/certs`, { recursive: true });
  await Deno.writeTextFile(
    `${root}/etc/ssl/certs/ca-certificates.crt`,
    bundle.map((pem) => pem.trimEnd() + "\n").join(""),
  );
  // dash's package leaves this link to its script.
  await Deno.symlink("dash", `${root}/usr/bin/sh`).catch((error) => {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  });
  await run("ldconfig", ["-r", root]);
  for (const path of ["usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/ldconfig"]) {
    await Deno.remove(`${root}/${path}`, { recursive: true }).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}

async function importRoot(docker: Docker, root: string): Promise<void> {
  const tar = new Deno.Command("tar", {
    // The same files give the same image.
    args: ["--sort=name", "--mtime=@0", "--numeric-owner", "--owner=0", "--group=0"]
      .concat("-C", root, "-c", "."),
    stdout: "piped",
  }).spawn();
  await createImage(docker, {
    fromSrc: "-",
    repo: "mooring/debian-node",
    tag: TAG,
    changes: "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  }, tar.stdout);
  if (!(await tar.status).success) throw new BaseError("tar could not pack the base image");
}

interface Packument {
  versions: Record<string, { dist: { tarball: string; integrity: string } }>;
}

/**
 * Unpacks the newest release of a package within a major version, checked against its digest. Not by
 * the npm program: a host that runs Mooring on Deno need not have it.
 * @returns the version
 */
async function downloadNpm(name: string, major: string, directory: string): Promise<string> {
  const caCerts = await extraAuthorities();
  using client = Deno.createHttpClient({ caCerts });
  const get = async (url: string, accept: string): Promise<Response> => {
    const request = { client, headers: { accept } };
    const response = await fetch(url, request).catch((error) => {
      throw new BaseError(
        `The npm registry cannot be reached for ${name} (${error.message}). Check the network; ` +
          "behind a proxy that re-signs TLS, name its CA file (PEM) in NODE_EXTRA_CA_CERTS.",
      );
    });
    if (response.ok) return response;
    throw new BaseError(`The npm registry answered ${response.status} for ${name} (${url})`);
  };
  const registry = (Deno.env.get("NPM_CONFIG_REGISTRY") || "https://registry.npmjs.org")
    .replace(/\/+$/, "");
  const abbreviated = "application/vnd.npm.install-v1+json";
  const packument: Packument = await (await get(`${registry}/${name}`, abbreviated)).json();
  const version = Object.keys(packument.versions)
    .filter((each) => each.startsWith(`${major}.`) && /^[\d.]+$/.test(each))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true })).at(-1);
  if (!version) throw new BaseError(`The npm registry has no ${name}@${major}`);
  const { tarball, integrity } = packument.versions[version].dist;
  const bytes = await (await get(tarball, "*/*")).bytes();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-512", bytes)).toBase64();
  if (integrity !== `sha512-${digest}`) {
    throw new BaseError(`${name}@${version} is not what the npm registry says it is; try again`);
  }
  await Deno.mkdir(directory);
  await Deno.writeFile(`${directory}.tgz`, bytes);
  await run("tar", ["-xzf", `${directory}.tgz`, "--no-same-owner", "-C", directory]);
  return version;
}

async function extraAuthorities(): Promise<string[]> {
  const file = Deno.env.get("NODE_EXTRA_CA_CERTS");
  if (!file) return [];
  try {
    return [await Deno.readTextFile(file)];
  } catch (error) {
    throw new BaseError(
      `NODE_EXTRA_CA_CERTS names ${file}, which cannot be read (${(error as Error).message}). ` +
        "Name a file of CA certificates (PEM), or unset it.",
    );
  }
}

async function run(program: string, args: string[], cwd?: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, {
    args,
    cwd,
    env: { DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (success) return;
  const said = new TextDecoder().decode(stderr).trim().split("\n").slice(-5).join("\n");
  throw new BaseError(`The base image cannot be assembled, ${program} failed: ${said}`);
}
