/**
 * Images of MCP servers, built on the toolbox out of exact npm package versions. The lock file of
 * the first build is kept and used by later ones, so that one version stays one set of packages.
 */
import type { Docker } from "./docker.ts";
import { DockerError } from "./docker.ts";
import { Label } from "./policy.ts";
import type { NpmPackage } from "./protocol.ts";
import { Slots } from "./slots.ts";
import { writeTar } from "./tar.ts";

/** An image cannot be had: why, what to do about it, and whether waiting may help. */
export class ImageError extends Error {
  override name = "ImageError";
  constructor(readonly reason: string, readonly nextStep: string, readonly retry: boolean) {
    super(reason);
  }
}

/** What a container needs to know of its image. */
export interface BuiltImage {
  /** `sha256:...` */
  id: string;
  /** What starts the server, before the spec's arguments. */
  command: string[];
  /** `/mooring/launch` is in it, which takes secrets over stdin. */
  hasLauncher: boolean;
}

export interface ImagesOptions {
  docker: Docker;
  toolboxId: string;
  /** Where `locks/` is kept. */
  dataDir: string;
  /** The base image, which `deno task base` makes. */
  base?: string;
  /** CA certificates (PEM) to trust beside the usual ones while installing; null for none. */
  extraCaFile?: string | null;
  /** Bound of one build. */
  timeoutMs?: number;
}

export interface EnsureOptions {
  signal?: AbortSignal;
  onLine?: (line: string) => void;
  /** 0 to 1. */
  onProgress?: (fraction: number) => void;
}

interface Build {
  image: Promise<string>;
  abort: AbortController;
  waiting: Set<EnsureOptions>;
}

/** Every image of one build carries it, so that what a failed or stopped build left can be found. */
const BUILD_LABEL = "dev.mooring.build";

/** The base image's id that an image stands on: another base means building again. */
const BASE_LABEL = "dev.mooring.base";

/** Raise when the generated Dockerfile changes: images of another format are built again. */
const FORMAT = 1;

const BUILD_TIMEOUT_MS = 15 * 60_000;

/** The server images of one toolbox. */
export class Images {
  readonly #options: Required<ImagesOptions>;
  readonly #builds = new Map<string, Build>();
  /** npm and the unpacking of layers are bound by the disk: more at once are all slower. */
  readonly #slots = new Slots(2);

  constructor(options: ImagesOptions) {
    this.#options = {
      base: "mooring/node:24",
      extraCaFile: Deno.env.get("NODE_EXTRA_CA_CERTS") || null,
      timeoutMs: BUILD_TIMEOUT_MS,
      ...options,
    };
  }

  /**
   * The id (`sha256:...`) of the image for a package, built if it is not there. Callers who ask for
   * the same package at once share one build, which is aborted when the last of them gives up.
   * @throws ImageError by reason and next step; EngineAbsentError; the signal's reason
   */
  async ensure(npmPackage: NpmPackage, options: EnsureOptions = {}): Promise<BuiltImage> {
    const { docker, toolboxId } = this.#options;
    // The wire's pattern lets these pass; npm would take them for a folder or an option.
    if (/(^|\/)[.-]/.test(npmPackage.name)) {
      throw new ImageError(
        `${npmPackage.name} is not a package name`,
        "Check the package's name, and deploy again.",
        false,
      );
    }
    const key = await imageKey(npmPackage, toolboxId);
    const base = await docker.inspectImage(this.#options.base);
    const present = await docker.inspectImage(repository(npmPackage, key));
    // Without the base there is nothing newer to stand on.
    if (present && (!base || present.Config.Labels?.[BASE_LABEL] === base.Id)) {
      return built(present.Id);
    }
    if (!base) {
      throw new ImageError(
        `The base image ${this.#options.base} is not on this toolbox`,
        "It is made when Mooring starts: wait a minute, or run `deno task base` on the toolbox.",
        true,
      );
    }
    let build = this.#builds.get(key);
    while (build?.abort.signal.aborted) {
      await build.image.catch(() => {});
      build = this.#builds.get(key);
    }
    options.signal?.throwIfAborted();
    if (!build) {
      build = { image: Promise.resolve(""), abort: new AbortController(), waiting: new Set() };
      build.image = this.#build(npmPackage, key, base.Id, build)
        .finally(() => this.#builds.delete(key));
      this.#builds.set(key, build);
    }
    return built(await join(build, options));
  }

  /** Removes this toolbox's images that are for none of `inUse` and that no container uses. */
  async collect(inUse: NpmPackage[]): Promise<void> {
    const { docker, toolboxId } = this.#options;
    const keys = await Promise.all(inUse.map((each) => imageKey(each, toolboxId)));
    const keep = new Set([...keys, ...this.#builds.keys()]);
    for (const image of await docker.listImages([`${Label.toolbox}=${toolboxId}`])) {
      // Without a tag: replaced by one on a newer base, or half made by a build that is under way.
      const tagged = image.RepoTags?.some((tag) => !tag.startsWith("<none>"));
      const wanted = tagged ? keep.has(image.Labels?.[Label.image] ?? "") : this.#builds.size > 0;
      if (!wanted) await docker.removeImage(image.Id);
    }
  }

  async #build(
    npmPackage: NpmPackage,
    key: string,
    baseId: string,
    build: Build,
  ): Promise<string> {
    const { docker, toolboxId, dataDir, extraCaFile, timeoutMs } = this.#options;
    const buildId = crypto.randomUUID();
    const lockFile = `${dataDir}/locks/${slug(npmPackage)}-${await lockKey(npmPackage)}.json`;
    const lock = await readIfThere(lockFile);
    const certificates = extraCaFile ? await readIfThere(extraCaFile) : null;
    const output: string[] = [];
    const release = await this.#slots.take(build.abort.signal);
    const deadline = setTimeout(
      () => build.abort.abort(new DOMException("too long", "TimeoutError")),
      timeoutMs,
    );
    try {
      const context = writeTar({
        Dockerfile: dockerfile(npmPackage, {
          // The toolbox's too, by which collect finds what a killed DTMA left.
          installLabels: { [BUILD_LABEL]: buildId, [Label.toolbox]: toolboxId },
          finalLabels: { [Label.toolbox]: toolboxId, [Label.image]: key, [BASE_LABEL]: baseId },
          certificates: certificates !== null,
          lock: lock !== null,
        }),
        ...(certificates && { "extra-ca.pem": certificates }),
        ...(lock && { "package-lock.json": lock }),
      });
      const imageId = await docker.buildImage(context, {
        tag: repository(npmPackage, key),
        buildArguments: { BASE: this.#options.base },
        labels: {},
        signal: build.abort.signal,
        onLine: (line) => {
          output.push(line);
          if (output.length > 200) output.shift();
          const step = /^Step (\d+)\/(\d+) :/.exec(line);
          for (const waiter of build.waiting) {
            if (step) waiter.onProgress?.((Number(step[1]) - 1) / Number(step[2]));
            waiter.onLine?.(line);
          }
        },
      });
      if (!lock) await this.#keepLock(imageId, lockFile);
      return imageId;
    } catch (error) {
      throw explain(error, npmPackage, output, timeoutMs);
    } finally {
      clearTimeout(deadline);
      release();
      await this.#clean(buildId, build.abort.signal.aborted).catch(() => {});
    }
  }

  /** Takes the lock file out of an image, by way of a container that is never started. */
  async #keepLock(imageId: string, lockFile: string): Promise<void> {
    const { docker, dataDir } = this.#options;
    const container = await docker.createContainer(`mooring-lock-${crypto.randomUUID()}`, {
      Image: imageId,
      Labels: { [Label.toolbox]: this.#options.toolboxId },
      Entrypoint: ["node"],
      HostConfig: { NetworkMode: "none" },
    });
    try {
      const content = await docker.readFile(container, "/app/package-lock.json");
      await Deno.mkdir(`${dataDir}/locks`, { recursive: true });
      // By way of a rename, so that a crash leaves no half lock for the next build.
      await Deno.writeFile(`${lockFile}.new`, content);
      await Deno.rename(`${lockFile}.new`, lockFile);
    } finally {
      await docker.removeContainer(container);
    }
  }

  /** The install stage's images have no tag and nobody else to remove them. */
  async #clean(buildId: string, stopped: boolean): Promise<void> {
    const { docker } = this.#options;
    // The engine goes on for a moment with the step that an aborted build was at.
    for (let round = 0; round < 5; round++) {
      if (stopped || round > 0) await new Promise((resolve) => setTimeout(resolve, 400));
      const left = await docker.listImages([`${BUILD_LABEL}=${buildId}`], true);
      const removed = await Promise.all(left.map((image) => docker.removeImage(image.Id)));
      if (!stopped && removed.every(Boolean)) return;
    }
  }
}

async function join(build: Build, options: EnsureOptions): Promise<string> {
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

/**
 * Two stages: certificates, npm's cache and its logs stay in the first. The exec form of RUN keeps
 * a package's name out of any shell.
 */
function dockerfile(npmPackage: NpmPackage, options: {
  installLabels: Record<string, string>;
  finalLabels: Record<string, string>;
  certificates: boolean;
  lock: boolean;
}): string {
  const labels = (all: Record<string, string>) =>
    "LABEL " + Object.entries(all).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
      .join(" ");
  const install = ["node", "/usr/local/lib/mooring/install.mjs", npmPackage.name];
  install.push(npmPackage.version);
  if (npmPackage.installScripts) install.push("--scripts");
  return [
    "ARG BASE=mooring/node:24",
    "FROM ${BASE} AS install",
    labels(options.installLabels),
    "USER 0",
    ...(options.certificates
      ? [
        "COPY extra-ca.pem /tmp/extra-ca.pem",
        "ENV NODE_EXTRA_CA_CERTS=/tmp/extra-ca.pem",
      ]
      : []),
    ...(options.lock ? ["COPY package-lock.json /app/package-lock.json"] : []),
    `RUN ${JSON.stringify(install)}`,
    "FROM ${BASE}",
    labels(options.finalLabels),
    "COPY --from=install /app /app",
    "",
  ].join("\n");
}

/** Next steps for what install.mjs in the base image says: `mooring-install: <code>: <sentence>`. */
const NEXT_STEPS: Record<string, { nextStep: string; retry: boolean }> = {
  "version-not-found": {
    nextStep: "Pick a version that the package's page on npm lists, and deploy again.",
    retry: false,
  },
  "package-not-found": {
    nextStep: "Check the package's name, and deploy again.",
    retry: false,
  },
  "untrusted-certificate": {
    nextStep:
      "If a proxy re-signs TLS here, start DTMA with NODE_EXTRA_CA_CERTS naming its CA file " +
      "(PEM). If it is set, the file does not cover the registry.",
    retry: false,
  },
  "network": {
    nextStep: "Check the toolbox's network, DNS and proxy. Mooring tries again by itself.",
    retry: true,
  },
  "no-bin": {
    nextStep: "Pick another package: an MCP server's package.json names its command under bin.",
    retry: false,
  },
  "bin-not-javascript": {
    nextStep: "Pick another package: this toolbox runs npm packages with Node.",
    retry: false,
  },
};

/** Names what went wrong by what the installer, npm and the engine say. */
function explain(
  error: unknown,
  npmPackage: NpmPackage,
  output: string[],
  timeoutMs: number,
): unknown {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return new ImageError(
      `Building the image took longer than ${Math.round(timeoutMs / 60_000)} minutes`,
      "Check the toolbox's network and load, then deploy again.",
      false,
    );
  }
  if (!(error instanceof DockerError)) return error;
  const said = [...output, error.message].join("\n");
  const which = `${npmPackage.name}@${npmPackage.version}`;
  if (/ENOSPC|no space left on device/i.test(said)) {
    return new ImageError(
      "The toolbox's disk is full",
      "Free space where Docker keeps its data (docker system df shows what uses it). Mooring " +
        "tries again by itself.",
      true,
    );
  }
  if (/\bEINTEGRITY\b/.test(said)) {
    return new ImageError(
      `What npm gives for ${which} is not what it gave at the first build`,
      "The package may have been tampered with: look into it before you deploy it anywhere. " +
        "Another version builds afresh.",
      false,
    );
  }
  const line = output.findLast((each) => each.includes("mooring-install: ")) ?? "";
  const [, code, sentence] = /mooring-install: ([a-z-]+): (.*)$/.exec(line) ?? [];
  const known = code && NEXT_STEPS[code];
  if (known) return new ImageError(sentence, known.nextStep, known.retry);
  const reason = sentence ?? error.message;
  return new ImageError(
    `Building the image of ${which} failed: ${reason.slice(0, 1000)}`,
    "The build's last lines are in the log below.",
    false,
  );
}

async function imageKey(npmPackage: NpmPackage, toolboxId: string): Promise<string> {
  const { name, version, installScripts } = npmPackage;
  return await shortHash([FORMAT, toolboxId, name, version, installScripts]);
}

/** Scripts or not, a lock file says the same; toolboxes have data directories of their own. */
function lockKey(npmPackage: NpmPackage): Promise<string> {
  return shortHash([npmPackage.name, npmPackage.version]);
}

function built(id: string): BuiltImage {
  return { id, command: ["node", "/app/server"], hasLauncher: false };
}

async function shortHash(parts: unknown[]): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(parts));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 16);
}

function repository(npmPackage: NpmPackage, key: string): string {
  return `mooring/server-${slug(npmPackage)}-${key}`;
}

/** The package's name in the letters that an image's name may have; for people, not unique. */
function slug(npmPackage: NpmPackage): string {
  return npmPackage.name.replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "").slice(0, 60)
    .replace(/-$/, "");
}

async function readIfThere(path: string): Promise<Uint8Array | null> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
