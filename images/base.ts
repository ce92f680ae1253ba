/**
 * Makes the base images that MCP servers stand on: `deno run -A images/base.ts [node] [python]
 * [dotnet] [deno]`, node if none is named. Each is its language's official image with Mooring's installer and
 * launcher. Where no Docker registry can be reached, a Debian or Ubuntu host assembles the same out of
 * its archive's packages.
 */
import { Docker, DockerError, EngineAbsentError } from "../dtma/docker.ts";
import { BASES, BuildLabel } from "../dtma/image_recipes.ts";
import { Label } from "../dtma/policy.ts";
import { writeTar } from "../dtma/tar.ts";
import { BaseError, pull } from "./create.ts";
import { assembleDebian, type DebianRoot, downloadNpm, whyNotDebian } from "./debian.ts";

/** Carries the hash of this recipe: an image of another one is made again. */
export const RECIPE_LABEL = "dev.mooring.base.recipe";

type Log = (line: string) => void;

interface Base {
  name: string;
  /** The folder of its Dockerfile and the files that this copies. */
  folder: string;
  files: string[];
  official: string;
  /** The environment variable that names another image in its place. */
  variable: string;
  debian: DebianRoot | null;
}

const NODE_MAJOR = "24";
const NPM_MAJOR = "11"; // what Node 24 ships with

const NODE: Base = {
  name: BASES.node,
  folder: "node",
  files: ["install.mjs"],
  official: "docker.io/library/node:24-slim",
  variable: "NODE_BASE_IMAGE",
  debian: {
    name: "mooring/debian-node:24",
    packages: ["libstdc++6", "libgcc-s1"],
    add: addNode,
  },
};

const PYTHON: Base = {
  name: BASES.python,
  folder: "python",
  files: ["install.py"],
  official: "docker.io/library/python:3.13-slim",
  variable: "PYTHON_BASE_IMAGE",
  debian: {
    name: "mooring/debian-python:3",
    packages: ["python3", "tzdata"],
    // pip as the wheel that Debian ships for venv: without the tools that building wheels needs.
    alone: ["python3-pip-whl"],
  },
};

const DOTNET: Base = {
  name: BASES.dotnet,
  folder: "dotnet",
  files: [],
  official: "mcr.microsoft.com/dotnet/aspnet:10.0",
  variable: "DOTNET_BASE_IMAGE",
  // What Microsoft's runtime-deps image has: for servers that bring their runtime along.
  debian: {
    name: "mooring/debian-dotnet:10",
    packages: ["libstdc++6", "libgcc-s1", "zlib1g", "^libicu[0-9]+$", "^libssl3(t64)?$", "tzdata"],
  },
};

const DOTNET_SDK: Base = {
  name: BASES.dotnetSdk,
  folder: "dotnet-sdk",
  files: ["install.sh"],
  official: "mcr.microsoft.com/dotnet/sdk:10.0",
  variable: "DOTNET_SDK_IMAGE",
  // No Debian archive has it.
  debian: null,
};

/** For images/app and images/dtma, which are built by compose.yaml. */
const DENO: Base = {
  name: "mooring/deno:2",
  folder: "deno",
  files: [],
  official: "docker.io/denoland/deno:2.9.6",
  variable: "DENO_BASE_IMAGE",
  debian: { name: "mooring/debian-deno:2", packages: ["libgcc-s1"], add: addDeno },
};

const FAMILIES: Record<string, Base[]> = {
  deno: [DENO],
  node: [NODE],
  python: [PYTHON],
  dotnet: [DOTNET, DOTNET_SDK],
};

/** Makes the base image unless the engine has this very recipe's; a progress line a step. */
async function ensureBase(base: Base, log: Log): Promise<void> {
  const docker = new Docker();
  try {
    const { hash, context } = await readRecipe(base);
    const present = await docker.inspectImage(base.name);
    if (present?.Config.Labels?.[RECIPE_LABEL] !== hash) {
      const from = await parentImage(base, docker, log);
      log(`Building ${base.name} on ${from}`);
      await docker.buildImage(context, {
        tag: base.name,
        buildArguments: { BASE: from },
        labels: { [RECIPE_LABEL]: hash },
        onLine: () => {},
      });
      await removeReplaced(docker);
    }
    log(`${base.name} is ready`);
  } catch (error) {
    if (!(error instanceof DockerError)) throw error;
    throw new BaseError(`The Docker Engine refused: ${error.message}`);
  } finally {
    docker.close();
  }
}

/** The build context of one of the base images, and the hash by which a change of it is seen. */
export async function readRecipe(
  { folder, files }: Pick<Base, "folder" | "files">,
): Promise<{ hash: string; context: Uint8Array<ArrayBuffer> }> {
  const read = (path: string) => Deno.readTextFile(new URL(path, import.meta.url));
  const content: Record<string, string> = { launch: await read("../dtma/launch.sh") };
  for (const name of ["Dockerfile", ...files]) content[name] = await read(`${folder}/${name}`);
  const recipe = JSON.stringify([content, await read("base.ts"), await read("debian.ts")]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(recipe));
  return { hash: new Uint8Array(digest).toHex(), context: writeTar(content, ["launch"]) };
}

/** No build takes as long: what is younger may be a step of one that is under way. */
const LONGEST_BUILD_S = 3600;

/**
 * Removes what earlier base images were, once neither a tag nor a server's image nor a container uses
 * them. A step of somebody's build looks the same while it is under way, hence the age.
 */
export async function removeReplaced(docker: Docker, ageS = LONGEST_BUILD_S): Promise<void> {
  for (const { Id, Labels, Created } of await docker.listImages([RECIPE_LABEL], true)) {
    // Images of servers have their base's labels too; a DTMA looks after its own.
    if (Labels?.[Label.toolbox] || Labels?.[BuildLabel.build]) continue;
    if (Date.now() / 1000 - Created >= ageS) await docker.removeImage(Id);
  }
}

/** The name of an image with the language in it, on this engine. */
async function parentImage(base: Base, docker: Docker, log: Log): Promise<string> {
  const mirror = Deno.env.get(base.variable);
  const reference = mirror || base.official;
  log(`Pulling ${reference}`);
  const failure = await pull(docker, reference);
  if (!failure) return reference;
  log(`It cannot be pulled: ${failure}`);
  if (await docker.inspectImage(reference)) {
    log(`Taking the ${reference} that is already here`);
    return reference;
  }
  const here = mirror
    ? `${base.variable} names the image to use, so no other is taken`
    : base.debian
    ? await whyNotDebian()
    : "Debian's packages cannot replace it";
  if (here === null) return await assembleDebian(docker, base.debian!, log);
  const [short] = base.official.split("/").slice(-1);
  throw new BaseError(
    `No ${base.name}: ${reference} cannot be pulled (${failure}), and ${here}. ` +
      `Let the Docker Engine reach the registry, set ${base.variable} to a mirror's ${short}, ` +
      `or bring it by hand (docker save on another machine, docker load here), then start again.`,
  );
}

/** Node and npm from the npm registry: Debian's are older. */
async function addNode(root: string, directory: string): Promise<void> {
  const platform = Deno.build.arch === "aarch64" ? "arm64" : "x64";
  await Promise.all([
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
}

/** Deno's own program, from the npm registry. */
async function addDeno(root: string, directory: string): Promise<void> {
  const platform = Deno.build.arch === "aarch64" ? "arm64" : "x64";
  await downloadNpm(`@deno/linux-${platform}-glibc`, "2", `${directory}/deno`);
  await Deno.mkdir(`${root}/usr/local/bin`, { recursive: true });
  await Deno.rename(`${directory}/deno/package/deno`, `${root}/usr/local/bin/deno`);
  await Deno.chmod(`${root}/usr/local/bin/deno`, 0o755);
}

// Last, so that all that it uses is there.
if (import.meta.main) {
  const names = Deno.args.length > 0 ? Deno.args : ["node"];
  const strange = names.find((name) => !Object.hasOwn(FAMILIES, name));
  try {
    if (strange) {
      throw new BaseError(
        `There is no base image ${strange}: name some of ${Object.keys(FAMILIES).join(", ")}`,
      );
    }
    for (const base of names.flatMap((name) => FAMILIES[name])) {
      await ensureBase(base, (line) => console.log(line)).catch((error) => {
        if (base !== DOTNET_SDK || !(error instanceof BaseError)) throw error;
        console.log(
          `NuGet packages cannot be installed here, other .NET servers run. ${error.message}`,
        );
      });
    }
  } catch (error) {
    if (error instanceof EngineAbsentError) console.error(`${error.reason}. ${error.advice}`);
    else if (error instanceof BaseError) console.error(error.message);
    else throw error;
    Deno.exit(1);
  }
}
