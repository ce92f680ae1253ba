/**
 * Roots made of Debian packages, unpacked without their scripts: what a base image stands on where no
 * Docker registry answers. Trusts the archive's signatures by way of apt, and npm's digests.
 */
import type { Docker } from "../dtma/docker.ts";
import { BaseError, createImage } from "./create.ts";

export interface DebianRoot {
  /** The image's name, such as `mooring/debian-node:24`. */
  name: string;
  /** Packages with what they depend on; a regular expression is taken too. */
  packages: string[];
  /** Packages without what they depend on. */
  alone?: string[];
  /** A Debian release (`sid`) in place of the host's own. */
  release?: string;
  /** What else belongs into the root; `directory` is for downloads. */
  add?: (root: string, directory: string) => Promise<void>;
}

/** Why this host cannot assemble the image from Debian's packages; null when it can. */
export async function whyNotDebian(): Promise<string | null> {
  const release = await Deno.readTextFile("/etc/os-release").catch(() => "");
  if (!/^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(release)) {
    return "this host is not Debian or Ubuntu, whose packages could replace it";
  }
  if (Deno.uid() !== 0) return "only root can assemble it from this host's packages instead";
  return null;
}

/**
 * Assembles a root and imports it as an image.
 * @throws BaseError when packages cannot be had
 */
export async function assembleDebian(
  docker: Docker,
  wanted: DebianRoot,
  log: (line: string) => void,
): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "mooring-base-" });
  try {
    const root = `${directory}/root`;
    log("Downloading Debian packages instead");
    const packages = await downloadPackages(`${directory}/apt`, wanted);
    log(`Unpacking ${packages.length} Debian packages`);
    await unpack(packages, root);
    await wanted.add?.(root, directory);
    await finish(root);
    log(`Importing ${wanted.name}`);
    await importRoot(docker, root, wanted.name);
    return wanted.name;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Downloads packages, with an apt state of our own. @returns paths of .deb files */
async function downloadPackages(
  directory: string,
  { packages, alone = [], release }: DebianRoot,
): Promise<string[]> {
  const archives = `${directory}/cache/archives`;
  await Deno.mkdir(`${directory}/state/lists/partial`, { recursive: true });
  await Deno.mkdir(`${archives}/partial`, { recursive: true });
  await Deno.writeTextFile(`${directory}/status`, "");
  const options = [
    `Dir::State=${directory}/state`,
    // Empty: dependencies that the host has are wanted as well.
    `Dir::State::status=${directory}/status`,
    `Dir::Cache=${directory}/cache`,
    "APT::Sandbox::User=root",
  ];
  if (release) {
    await Deno.writeTextFile(
      `${directory}/sources.list`,
      "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " +
        `http://deb.debian.org/debian ${release} main\n`,
    );
    options.push(`Dir::Etc::sourcelist=${directory}/sources.list`, "Dir::Etc::sourceparts=-");
  }
  const apt = (...args: string[]) =>
    run("apt-get", ["-qq", ...options.flatMap((each) => ["-o", each]), ...args], archives);
  // One broken source of the host's is no matter as long as the packages below are found.
  const updated = await apt("update").then(() => null, (error: Error) => error);
  try {
    await apt(
      ...["install", "--yes", "--download-only", "--no-install-recommends"],
      ...["libc6", "libc-bin", "coreutils", ...packages],
    );
    // Without dependencies: theirs (dpkg, perl, awk) serve maintainer scripts, which do not run.
    await apt("download", "base-files", "dash", "ca-certificates", ...alone);
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

async function importRoot(docker: Docker, root: string, name: string): Promise<void> {
  const tar = new Deno.Command("tar", {
    // The same files give the same image.
    args: ["--sort=name", "--mtime=@0", "--numeric-owner", "--owner=0", "--group=0"]
      .concat("-C", root, "-c", "."),
    stdout: "piped",
  }).spawn();
  const [repo, tag] = name.split(":");
  await createImage(docker, {
    fromSrc: "-",
    repo,
    tag,
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
export async function downloadNpm(name: string, major: string, directory: string): Promise<string> {
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
