/**
 * Images of MCP servers, made on the toolbox out of exact packages: built from npm, PyPI or NuGet,
 * pulled by digest, or built from a source tree's Dockerfile. The lock file of the first build is kept
 * and used by later ones, so that one version stays one set of packages.
 */
import { resolve } from "node:path/posix";
import canonicalize from "canonicalize";
import type { BuildOptions, Docker, ImageDetails } from "./docker.ts";
import { DockerError } from "./docker.ts";
import { EGRESS_LABEL } from "./egress.ts";
import { explain, ImageError } from "./image_error.ts";
import {
  ADAPTER_CODE,
  adapterContext,
  API_ADAPTER_CODE,
  apiContext,
  BASES,
  type Bases,
  BuildLabel,
  derivedContext,
  type Indexes,
  installContext,
  type InstalledPackage,
  ownImageLabels,
  recipeOf,
} from "./image_recipes.ts";
import { type BuildRecord, comparison, contentHash, inOneBuffer } from "./image_rebuild.ts";
import { BaseImages } from "./base_images.ts";
import { billOfMaterials } from "./image_sbom.ts";
import { withNeverStarted } from "./never_started.ts";
import { Label } from "./policy.ts";
import {
  type ApiPackage,
  type OciPackage,
  Package,
  packageTitle,
  type RemotePackage,
  type SourcePackage,
} from "./protocol.ts";
import { Slots } from "./slots.ts";
import { sourceContext } from "./source_tree.ts";
import { readWhole, writeWhole } from "./whole_file.ts";

export { ImageError } from "./image_error.ts";

export interface ImagesOptions {
  docker: Docker;
  toolboxId: string;
  /** Where `locks/`, `sboms/` and `builds/` are kept. */
  dataDir: string;
  /** What base images are called on this engine, if not as `deno task base` calls them. */
  bases?: Partial<Bases>;
  /** Makes missing base images; without it whoever started DTMA does. */
  baseImages?: BaseImages;
  /** CA certificates (PEM) to trust beside the usual ones while installing; null for none. */
  extraCaFile?: string | null;
  indexes?: Indexes;
  /** Folders may be built that stand below one of these; with none no folder may. */
  sourceDirectories?: string[];
  /** Bound of one build. */
  timeoutMs?: number;
  limits?: Partial<BuildLimits>;
}

/** What a build is held to, beside its time. */
export interface BuildLimits {
  /** Of each step; there is no swap. */
  memoryBytes: number;
  cpus: number;
  /** Of the largest file. */
  fileBytes: number;
  /** Of what one step writes, and of the image that is made. */
  writtenBytes: number;
  /** Of what all steps print. */
  outputBytes: number;
}

/** An image that a server can be started from. */
export interface BuiltImage {
  /** `sha256:...` */
  id: string;
  /** What starts the server; its arguments come behind. */
  command: string[];
  /** Whether `/mooring/launch` is there, which gives the server its secrets. */
  hasLauncher: boolean;
  /** Where the command is to be started, when it is not all the same to it. */
  workingDirectory: string | null;
  /** Directories that another's image calls volumes; none if not given. */
  volumes?: string[];
  /** Of one that was built just now, for a person: its digest beside that of the build before, its volumes. */
  note?: string;
}

export interface EnsureOptions {
  signal?: AbortSignal;
  onLine?: (line: string) => void;
  /** 0 to 1. */
  onProgress?: (fraction: number) => void;
}

interface Build {
  key: string;
  image: Promise<BuiltImage>;
  abort: AbortController;
  waiting: Set<EnsureOptions>;
  /** The last lines. */
  output: string[];
  printedBytes: number;
  /** The container of the step that runs now. */
  container: string | null;
  /** Images that the steps made, by the short ids that the engine prints. */
  steps: string[];
}

/** Raise when the generated Dockerfiles change: images of another format are built again. */
const FORMAT = 2;

const GIB = 1024 ** 3;

const LIMITS: BuildLimits = {
  // npm holds a large tree of dependencies in 1 GiB.
  memoryBytes: 2 * GIB,
  cpus: 1,
  fileBytes: GIB,
  writtenBytes: 4 * GIB,
  outputBytes: 16 * 1024 ** 2,
};

const BUILD_TIMEOUT_MS = 15 * 60_000;

/** How often a step that runs is asked how much it wrote. */
const WATCH_MS = 2000;

/** The server images of one toolbox. */
export class Images {
  readonly #options: Required<Omit<ImagesOptions, "limits" | "bases">> & {
    bases: Bases;
    limits: BuildLimits;
  };
  readonly #builds = new Map<string, Build>();
  /** npm and the unpacking of layers are bound by the disk: more at once are all slower. */
  readonly #slots = new Slots(2);

  constructor(options: ImagesOptions) {
    const bases = { ...BASES, ...options.bases };
    const { docker } = options;
    this.#options = {
      baseImages: new BaseImages({ docker, names: bases, parents: {}, makes: false }),
      extraCaFile: Deno.env.get("NODE_EXTRA_CA_CERTS") || null,
      indexes: {},
      sourceDirectories: [],
      timeoutMs: BUILD_TIMEOUT_MS,
      ...options,
      bases,
      limits: { ...LIMITS, ...options.limits },
    };
  }

  /**
   * The image for a package, made if it is not there. Callers who ask for the same package at once
   * share one build, which is aborted when the last of them gives up.
   * @throws ImageError by reason and next step; EngineAbsentError; the signal's reason
   */
  async ensure(wanted: Package, options: EnsureOptions = {}): Promise<BuiltImage> {
    const { docker, toolboxId } = this.#options;
    if (!Package.safeParse(wanted).success) {
      throw new ImageError(
        `${packageTitle(wanted).slice(0, 300)} is not a package that can be asked for`,
        "Check its name, version and location, and deploy again.",
        false,
      );
    }
    const key = await imageKey(wanted, toolboxId);
    const { baseImages, indexes } = this.#options;
    const base = isInstalled(wanted)
      ? recipeOf(wanted, indexes).base
      : wanted.registry === "remote" || wanted.registry === "openapi"
      ? "node"
      : null;
    // "" for one that brings its own.
    let baseId = base ? await baseImages.find(base) : "";
    const present = await docker.inspectImage(repository(wanted, key));
    // Without the base there is nothing newer to stand on.
    const current = baseId === null || present?.Config.Labels?.[BuildLabel.base] === baseId;
    if (present && current) return builtImage(present);
    baseId ??= await baseImages.ensure(base!, options.onLine ?? (() => {}));
    const standsOn = baseId;
    let build = this.#builds.get(key);
    while (build?.abort.signal.aborted) {
      await build.image.catch(() => {});
      build = this.#builds.get(key);
    }
    options.signal?.throwIfAborted();
    if (!build) {
      const begun: Build = {
        key,
        image: Promise.resolve() as Promise<never>,
        abort: new AbortController(),
        waiting: new Set(),
        output: [],
        printedBytes: 0,
        container: null,
        steps: [],
      };
      begun.image = this.#build(wanted, standsOn, begun).finally(() => this.#builds.delete(key));
      this.#builds.set(key, begun);
      build = begun;
    }
    return await join(build, options);
  }

  /**
   * Removes this toolbox's images that are for none of `inUse` and that no container uses, and what is
   * left of builds that were cut off.
   */
  async collect(inUse: Package[]): Promise<void> {
    const { docker, toolboxId, dataDir } = this.#options;
    await this.#removeSteps();
    const keys = await Promise.all(inUse.map((each) => imageKey(each, toolboxId)));
    const keep = new Set([...keys, ...this.#builds.keys()]);
    for (const image of await docker.listImages([`${Label.toolbox}=${toolboxId}`])) {
      // Without a tag: replaced by one on a newer base, or half made by a build that is under way.
      const tagged = image.RepoTags?.some((tag) => !tag.startsWith("<none>"));
      const wanted = tagged ? keep.has(image.Labels?.[Label.image] ?? "") : this.#builds.size > 0;
      // The engine refuses to remove one that a container uses, a stopped one of any generation too.
      if (wanted || !await docker.removeImage(image.Id)) continue;
      await Deno.remove(sbomFile(dataDir, image.Id)).catch(ignoreNotFound);
    }
  }

  /**
   * The engine removes a step's container when the step ends; not when the engine itself ends before.
   * Known by what it stands on: an image of ours in the making, which has no tag.
   */
  async #removeSteps(): Promise<void> {
    const { docker, toolboxId } = this.#options;
    const label = [`${Label.toolbox}=${toolboxId}`];
    const containers = await docker.listContainers(label);
    const made = new Set((await docker.listImages(label)).map(({ Id }) => Id));
    // After the lists: what a build is at that began since is not on them.
    if (this.#builds.size > 0) return;
    for (const { Id, ImageID, Labels } of containers) {
      const isOfBuild = Label.image in Labels || BuildLabel.build in Labels;
      if (isOfBuild && !(Label.server in Labels) && !made.has(ImageID)) {
        await docker.removeContainer(Id);
      }
    }
  }

  /** What is in an image, as CycloneDX 1.6 in JSON; null for one that was not built here. */
  async sbom(imageId: string): Promise<Record<string, unknown> | null> {
    return await readBill(this.#options.dataDir, imageId);
  }

  /** What is in the image that a package has here now; null when there is none. */
  async bomOf(wanted: Package): Promise<Record<string, unknown> | null> {
    const { docker, toolboxId } = this.#options;
    const key = await imageKey(wanted, toolboxId);
    const present = await docker.inspectImage(repository(wanted, key));
    return present && await this.sbom(present.Id);
  }

  async #build(wanted: Package, baseId: string, build: Build): Promise<BuiltImage> {
    const { timeoutMs, limits } = this.#options;
    const buildId = crypto.randomUUID();
    const { signal } = build.abort;
    const release = await this.#slots.take(signal);
    const tooLong = new ImageError(
      `Building the image took longer than ${Math.round(timeoutMs / 60_000)} minutes`,
      "Check the toolbox's network and load, then deploy again.",
      false,
    );
    const deadline = setTimeout(() => build.abort.abort(tooLong), timeoutMs);
    const watch = setInterval(() => this.#refuseGluttony(build), WATCH_MS);
    try {
      if (wanted.registry === "oci") return await this.#pull(wanted, build);
      if (wanted.registry === "source") return await this.#buildSource(wanted, build);
      if (wanted.registry === "remote" || wanted.registry === "openapi") {
        return await this.#addAdapter(wanted, baseId, build);
      }
      return await this.#install(wanted, baseId, buildId, build);
    } catch (error) {
      throw explain(error, wanted, build.output, limits);
    } finally {
      clearTimeout(deadline);
      clearInterval(watch);
      release();
      await this.#clean(buildId, build).catch(() => {});
    }
  }

  /** npm, PyPI, NuGet: the base image's installer puts the package into `/app`. */
  async #install(
    wanted: InstalledPackage,
    baseId: string,
    buildId: string,
    build: Build,
  ): Promise<BuiltImage> {
    const { docker, toolboxId, dataDir, extraCaFile, bases, indexes, baseImages } = this.#options;
    const recipe = recipeOf(wanted, indexes);
    await baseImages.ensure(recipe.installer, (line) => this.#heard(build, line));
    const lockFile = `${dataDir}/locks/${slug(wanted)}-${await lockKey(wanted)}.json`;
    const lock = recipe.lock ? await readWhole(lockFile) : null;
    const context = installContext(recipe, {
      // The toolbox's too, by which collect finds what a killed DTMA left.
      installLabels: { [BuildLabel.build]: buildId, [Label.toolbox]: toolboxId },
      labels: { ...ownImageLabels(toolboxId, build.key), [BuildLabel.base]: baseId },
      certificates: extraCaFile ? await readWhole(extraCaFile) : null,
      lock,
    });
    const id = await this.#run(context, build, {
      tag: repository(wanted, build.key),
      buildArguments: { BASE: bases[recipe.base], INSTALLER: bases[recipe.installer] },
      network: true,
    });
    const { newLock, installed, content } = await this.#withContainer(id, async (container) => ({
      newLock: await this.#readFile(container, recipe.lock),
      installed: await this.#readFile(container, recipe.installed),
      content: await contentHash(inOneBuffer(await docker.archive(container, "/app"))),
    }));
    if (newLock) await keep(lockFile, newLock);
    return await this.#finish(id, wanted, build, { baseId, installed, content });
  }

  /** A registry's image by digest, which the engine verifies; nothing of it runs here. */
  async #pull(wanted: OciPackage, build: Build): Promise<BuiltImage> {
    const { docker } = this.#options;
    const reference = `${wanted.image}@${wanted.digest}`;
    const wasThere = await docker.inspectImage(reference) !== null;
    if (!wasThere) {
      const onLine = (line: string) => this.#heard(build, line);
      await docker.pullImage(reference, { signal: build.abort.signal, onLine });
    }
    try {
      return await this.#derive(reference, wanted, build);
    } finally {
      // Ours alone then, and its layers go with the derived image; a person's stays.
      if (!wasThere) await docker.removeImage(reference).catch(() => {});
    }
  }

  /** A tree's own Dockerfile, which may do and fetch what it likes within the build's limits. */
  async #buildSource(wanted: SourcePackage, build: Build): Promise<BuiltImage> {
    const { docker, sourceDirectories } = this.#options;
    const tag = `${repository(wanted, build.key)}:tree`;
    const context = await sourceContext(wanted, sourceDirectories);
    try {
      await this.#run(context, build, { tag, dockerfile: wanted.dockerfile, network: true });
      return await this.#derive(tag, wanted, build);
    } finally {
      await docker.removeImage(tag).catch(() => {});
    }
  }

  /** An adapter's few files on the base: nothing is fetched, and nothing runs. */
  async #addAdapter(
    wanted: RemotePackage | ApiPackage,
    baseId: string,
    build: Build,
  ): Promise<BuiltImage> {
    const { toolboxId, bases } = this.#options;
    const labels = { ...ownImageLabels(toolboxId, build.key), [BuildLabel.base]: baseId };
    const context = wanted.registry === "remote"
      ? adapterContext(wanted.url, labels)
      : apiContext(wanted.plan, labels);
    const id = await this.#run(context, build, {
      tag: repository(wanted, build.key),
      buildArguments: { BASE: bases.node },
      network: false,
    });
    const content = await contentHash(ReadableStream.from([context]));
    return await this.#finish(id, wanted, build, { baseId, installed: null, content });
  }

  /** What another's image needs to be ours: labels to find it by, and the launcher. */
  async #derive(
    from: string,
    wanted: OciPackage | SourcePackage,
    build: Build,
  ): Promise<BuiltImage> {
    const { docker, toolboxId } = this.#options;
    const image = await docker.inspectImage(from);
    if (!image) throw new DockerError(404, `${from} went away while it was built on`);
    const title = packageTitle(wanted);
    assertUsable(image, title);
    const command = (wanted.registry === "oci" ? wanted.command : null) ??
      [...image.Config.Entrypoint ?? [], ...image.Config.Cmd ?? []];
    if (command.length === 0) {
      throw new ImageError(
        `${title} does not say how it is started: it has neither Entrypoint nor Cmd`,
        "Give the command that starts the server, and deploy again.",
        false,
      );
    }
    const context = derivedContext({
      from,
      command,
      hasLauncher: await this.#canLaunch(image.Id),
      labels: { ...ownImageLabels(toolboxId, build.key), [BuildLabel.base]: "" },
    });
    const id = await this.#run(context, build, {
      tag: repository(wanted, build.key),
      network: false,
    });
    // What a registry's digest names is the same content always.
    const content = wanted.registry === "oci" ? wanted.digest : null;
    return await this.#finish(id, wanted, build, { baseId: "", installed: null, content });
  }

  /** Whether an image has what the launcher runs on. */
  async #canLaunch(imageId: string): Promise<boolean> {
    const { docker } = this.#options;
    return await this.#withContainer(imageId, async (container) => {
      const [shell, ...decoders] = await Promise.all(
        ["/bin/sh", "/usr/bin/base64", "/bin/base64"].map((path) =>
          docker.hasPath(container, path)
        ),
      );
      return shell && decoders.includes(true);
    });
  }

  /** Builds within the limits, telling those who wait. @returns the image's id */
  async #run(
    context: Uint8Array<ArrayBuffer> | URL,
    build: Build,
    { network, ...options }:
      & { tag: string; network: boolean }
      & Partial<Pick<BuildOptions, "buildArguments" | "dockerfile">>,
  ): Promise<string> {
    const { docker, limits } = this.#options;
    return await docker.buildImage(context, {
      buildArguments: {},
      labels: {},
      ...options,
      limits: { ...limits, network },
      signal: build.abort.signal,
      onOutput: (length) => this.#refuseNoise(build, length),
      onLine: (line) => this.#heard(build, line),
    });
  }

  #refuseNoise(build: Build, length: number): void {
    const { outputBytes } = this.#options.limits;
    build.printedBytes += length;
    if (build.printedBytes <= outputBytes) return;
    build.abort.abort(
      new ImageError(
        `The build printed over ${Math.round(outputBytes / 1024 ** 2)} MiB`,
        "Pick another package or version: this one's installation does not end well.",
        false,
      ),
    );
  }

  #heard(build: Build, line: string): void {
    if (build.abort.signal.aborted) return;
    build.output.push(line);
    if (build.output.length > 200) build.output.shift();
    // Podman writes `STEP 1/5: `.
    const step = /^Step (\d+)\/(\d+) ?:/i.exec(line);
    const [, arrow, id] = /^ ---> (Running in )?([0-9a-f]{12})$/.exec(line) ?? [];
    if (step) build.container = null;
    if (arrow) build.container = id;
    else if (id) build.steps.push(id);
    for (const waiter of build.waiting) {
      if (step) waiter.onProgress?.((Number(step[1]) - 1) / Number(step[2]));
      waiter.onLine?.(line);
    }
  }

  /** The engine bounds no build's disk: one that fills it is stopped while it runs. */
  async #refuseGluttony(build: Build): Promise<void> {
    const { docker, limits } = this.#options;
    if (!build.container) return;
    const written = await docker.writtenBytes(build.container).catch(() => 0);
    if (written > limits.writtenBytes) build.abort.abort(tooLarge(limits));
  }

  /** Refuses an image that is too large; keeps what is known of one that is not. */
  async #finish(
    id: string,
    wanted: Package,
    build: Build,
    { baseId, installed, content }: {
      baseId: string;
      installed: Uint8Array | null;
      content: string | null;
    },
  ): Promise<BuiltImage> {
    const { docker, dataDir, limits } = this.#options;
    const image = (await docker.inspectImage(id))!;
    if (image.Size > limits.writtenBytes) {
      await docker.removeImage(id);
      throw tooLarge(limits);
    }
    const sbom = await billOfMaterials(id, wanted, installed);
    await keep(sbomFile(dataDir, id), jsonBytes(sbom));
    const made = { imageId: id, baseId, parts: sbom.components.map(({ purl }) => purl), content };
    const built = builtImage(image);
    const notes = [
      comparison(wanted, await this.#record(build.key), made),
      built.volumes?.length
        ? `What the image calls its volumes is in memory, and empty at each start: ${
          built.volumes.join(", ").slice(0, 300)
        }`
        : null,
    ].filter((each) => each !== null);
    await keep(recordFile(dataDir, build.key), jsonBytes(made));
    return { ...built, ...(notes.length > 0 && { note: notes.join(". ") }) };
  }

  /** What is kept of the last build of a package. */
  async #record(key: string): Promise<BuildRecord | null> {
    const bytes = await readWhole(recordFile(this.#options.dataDir, key));
    return bytes && JSON.parse(new TextDecoder().decode(bytes));
  }

  /** A file in `/app` of a container; null when it is not there. */
  async #readFile(container: string, name: string | null): Promise<Uint8Array | null> {
    if (name === null) return null;
    return await this.#options.docker.readFile(container, `/app/${name}`).catch((error) => {
      if (error instanceof DockerError && error.status === 404) return null;
      throw error;
    });
  }

  #withContainer<T>(imageId: string, use: (container: string) => Promise<T>): Promise<T> {
    const { docker, toolboxId } = this.#options;
    const body = { Image: imageId, HostConfig: { NetworkMode: "none" } };
    return withNeverStarted(docker, toolboxId, body, use);
  }

  /** The earlier stages' images have no tag and nobody else to remove them. */
  async #clean(buildId: string, build: Build): Promise<void> {
    const { docker } = this.#options;
    const stopped = build.abort.signal.aborted;
    // The engine goes on for a moment with the step that an aborted build was at.
    for (let round = 0; round < 5; round++) {
      if (stopped || round > 0) await new Promise((resolve) => setTimeout(resolve, 400));
      const left = (await docker.listImages([], true)).filter((image) =>
        image.Labels?.[BuildLabel.build] === buildId ||
        // A stranger's Dockerfile has no label of ours: known by what the engine printed, and the
        // step that it went on with when the build was stopped, by the one before.
        build.steps.some((id) =>
          image.Id.startsWith(`sha256:${id}`) ||
          (stopped && image.ParentId.startsWith(`sha256:${id}`))
        )
      );
      const removed = await Promise.all(left.map((image) => docker.removeImage(image.Id)));
      if (!stopped && removed.every(Boolean)) return;
    }
  }
}

function builtImage(image: ImageDetails): BuiltImage {
  const labels = image.Config.Labels ?? {};
  return {
    id: image.Id,
    command: JSON.parse(labels[BuildLabel.command]),
    hasLauncher: labels[BuildLabel.launcher] === "1",
    // Ours stand in /app and do not care; a stranger's command may be relative to its own.
    workingDirectory: labels[BuildLabel.base] ? null : image.Config.WorkingDir || "/",
    ...(image.Config.Volumes && { volumes: volumesOf(image) }),
  };
}

/** Directories, as the engine takes them: in their shortest form. */
function volumesOf({ Config }: ImageDetails): string[] {
  const paths = Object.keys(Config.Volumes ?? {}).map((path) => resolve("/", path));
  return [...new Set(paths)].sort();
}

const VOLUMES_LIMIT = 32;

/** @throws ImageError for another's image that is not to be run, or cannot be held to the policy */
function assertUsable(image: ImageDetails, title: string): void {
  const { OnBuild, Labels, Volumes } = image.Config;
  const refuse = (what: string, nextStep: string) => {
    throw new ImageError(`${title} ${what}`, nextStep, false);
  };
  if (OnBuild?.length) {
    refuse(
      "has ONBUILD steps, so it is made to be built on and not to be run",
      "Build an image on it, and deploy that one.",
    );
  }
  // Containers inherit an image's labels: with those of others of Mooring's it would pass for what it is not.
  const { toolbox: _, image: __, ...others } = Label;
  const label = [...Object.values(others), EGRESS_LABEL].find((name) => name in (Labels ?? {}));
  if (label) {
    refuse(
      `has the label ${label}, by which Mooring knows what is its own`,
      "Build the image without it, and deploy that one.",
    );
  }
  const paths = Object.keys(Volumes ?? {});
  const odd = paths.find((path) => !path.startsWith("/") || resolve(path) === "/");
  if (odd !== undefined || paths.length > VOLUMES_LIMIT) {
    refuse(
      odd === undefined
        ? `calls over ${VOLUMES_LIMIT} directories volumes`
        : `calls ${JSON.stringify(odd.slice(0, 100))} a volume, which no directory of its own is`,
      "Build the image with other volumes, and deploy that one.",
    );
  }
}

function isInstalled(wanted: Package): wanted is InstalledPackage {
  return ["npm", "pypi", "nuget"].includes(wanted.registry);
}

function tooLarge({ writtenBytes }: BuildLimits): ImageError {
  return new ImageError(
    `The image would be larger than ${Math.round(writtenBytes / 1024 ** 2)} MiB`,
    "Pick another package or version: no MCP server needs so much.",
    false,
  );
}

async function join(build: Build, options: EnsureOptions): Promise<BuiltImage> {
  const given = Promise.withResolvers<never>();
  const giveUp = () => given.reject(options.signal!.reason);
  options.signal?.addEventListener("abort", giveUp, { once: true });
  build.waiting.add(options);
  try {
    return await Promise.race([build.image, given.promise]);
  } finally {
    options.signal?.removeEventListener("abort", giveUp);
    build.waiting.delete(options);
    if (build.waiting.size === 0) {
      build.abort.abort(options.signal?.reason);
      build.image.catch(() => {});
    }
  }
}

function imageKey(wanted: Package, toolboxId: string): Promise<string> {
  // The adapter's own files are what an image for a URL is made of: a newer DTMA brings newer ones.
  const own = wanted.registry === "remote"
    ? [ADAPTER_CODE]
    : wanted.registry === "openapi"
    ? [API_ADAPTER_CODE]
    : [];
  return shortHash([FORMAT, toolboxId, canonicalize(wanted), ...own]);
}

/** Scripts or not, a lock file says the same; toolboxes have data directories of their own. */
function lockKey(wanted: InstalledPackage): Promise<string> {
  const { registry, name, version } = wanted;
  return shortHash(registry === "npm" ? [name, version] : [registry, name, version]);
}

async function shortHash(parts: unknown[]): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(parts));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 16);
}

function repository(wanted: Package, key: string): string {
  return `mooring/server-${slug(wanted)}-${key}`;
}

/** The package's name in the letters that an image's name may have; for people, not unique. */
function slug(wanted: Package): string {
  const name = wanted.registry === "oci"
    ? wanted.image
    : wanted.registry === "source"
    ? wanted.location.replace(/^https?:/, "")
    : wanted.registry === "remote" || wanted.registry === "openapi"
    ? new URL(wanted.url).hostname
    : wanted.name;
  const letters = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "");
  return letters.slice(0, 60).replace(/-$/, "") || "package";
}

/** The file with an image's bill of materials, and how many packages it names; null for none. */
export async function billOf(
  dataDir: string,
  imageId: string,
): Promise<{ file: string; components: number } | null> {
  const bill = await readBill(dataDir, imageId);
  const { components } = bill ?? {};
  return bill && {
    file: sbomFile(dataDir, imageId),
    components: Array.isArray(components) ? components.length : 0,
  };
}

async function readBill(
  dataDir: string,
  imageId: string,
): Promise<Record<string, unknown> | null> {
  if (!/^sha256:[0-9a-f]{64}$/.test(imageId)) return null;
  const bytes = await readWhole(sbomFile(dataDir, imageId));
  return bytes && JSON.parse(new TextDecoder().decode(bytes));
}

function sbomFile(dataDir: string, imageId: string): string {
  return `${dataDir}/sboms/${imageId.replace("sha256:", "")}.json`;
}

function recordFile(dataDir: string, key: string): string {
  return `${dataDir}/builds/${key}.json`;
}

function jsonBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value, null, 1));
}

async function keep(path: string, content: Uint8Array): Promise<void> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await writeWhole(path, content);
}

function ignoreNotFound(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
