/**
 * The base images that servers stand on. On the app's own machine images/base.ts makes them ahead; on
 * any other toolbox they are made here when the first server needs one, of the same files on the same
 * official image. What cannot be pulled is not assembled here, since that starts programs.
 */
import dotnet from "../images/dotnet/Dockerfile" with { type: "text" };
import dotnetSdk from "../images/dotnet-sdk/Dockerfile" with { type: "text" };
import dotnetInstaller from "../images/dotnet-sdk/install.sh" with { type: "text" };
import node from "../images/node/Dockerfile" with { type: "text" };
import nodeInstaller from "../images/node/install.mjs" with { type: "text" };
import python from "../images/python/Dockerfile" with { type: "text" };
import pythonInstaller from "../images/python/install.py" with { type: "text" };
import { type Docker, DockerError, type ImageDetails } from "./docker.ts";
import { ImageError } from "./image_error.ts";
import type { Bases } from "./image_recipes.ts";
import launcher from "./launch.sh" with { type: "text" };
import { writeTar } from "./tar.ts";

export type BaseName = keyof Bases;

/** Images in place of the official ones, such as a mirror's. */
export type BaseParents = Partial<Record<BaseName, string>>;

/** What each is made of, and what its family is called where a person makes it. */
const SOURCES: Record<
  BaseName,
  { family: string; official: string; files: Record<string, string> }
> = {
  node: {
    family: "node",
    official: "docker.io/library/node:24-slim",
    files: { Dockerfile: node, "install.mjs": nodeInstaller },
  },
  python: {
    family: "python",
    official: "docker.io/library/python:3.13-slim",
    files: { Dockerfile: python, "install.py": pythonInstaller },
  },
  dotnet: {
    family: "dotnet",
    official: "mcr.microsoft.com/dotnet/aspnet:10.0",
    files: { Dockerfile: dotnet },
  },
  dotnetSdk: {
    family: "dotnet",
    official: "mcr.microsoft.com/dotnet/sdk:10.0",
    files: { Dockerfile: dotnetSdk, "install.sh": dotnetInstaller },
  },
};

export interface BaseImagesOptions {
  docker: Docker;
  /** What they are called on this engine. */
  names: Bases;
  parents: BaseParents;
  /** Missing ones are made here; else whoever started DTMA makes them. */
  makes: boolean;
}

/** On those that were made here: what they were made of. A newer DTMA may bring other files. */
export const FILES_LABEL = "dev.mooring.base.files";

export class BaseImages {
  readonly #options: BaseImagesOptions;
  readonly #making = new Map<BaseName, Promise<void>>();
  /** Those of another DTMA's files that could not be made anew. */
  readonly #kept = new Set<BaseName>();

  constructor(options: BaseImagesOptions) {
    this.#options = options;
  }

  /** Its id; null when it is not there, or is to be made anew. */
  async find(base: BaseName): Promise<string | null> {
    const image = await this.#present(base);
    return image && !await this.#isStale(base, image) ? image.Id : null;
  }

  /**
   * Its id, once it is there; callers at once share the making.
   * @param onLine told what is done for it
   * @throws {ImageError}
   */
  async ensure(base: BaseName, onLine: (line: string) => void): Promise<string> {
    const found = await this.find(base);
    if (found) return found;
    const { makes } = this.#options;
    if (!makes) throw this.#missing(base, null);
    let making = this.#making.get(base);
    if (!making) {
      making = this.#renew(base, onLine).finally(() => this.#making.delete(base));
      this.#making.set(base, making);
    }
    await making;
    return (await this.find(base))!;
  }

  async #present(base: BaseName): Promise<ImageDetails | null> {
    const { docker, names } = this.#options;
    return await docker.inspectImage(names[base]);
  }

  /** What a person made or brought has no such label, and is theirs to look after. */
  async #isStale(base: BaseName, { Config }: ImageDetails): Promise<boolean> {
    const files = Config.Labels?.[FILES_LABEL];
    if (!this.#options.makes || files === undefined || this.#kept.has(base)) return false;
    return files !== await filesHash(base);
  }

  /** Makes it in place of what may be there, which serves on where that cannot be done. */
  async #renew(base: BaseName, onLine: (line: string) => void): Promise<void> {
    const { docker, names, parents } = this.#options;
    const before = await this.#present(base);
    const parent = parents[base] ?? SOURCES[base].official;
    try {
      await this.#make(base, parent, onLine);
    } catch (error) {
      if (!(error instanceof DockerError)) throw error;
      const why = `on ${parent} it could not be made: ${error.message}`;
      if (!before) throw this.#missing(base, why);
      this.#kept.add(base);
      onLine(`${names[base]} is another DTMA's, and goes on serving; ${why}`);
      return;
    }
    // Not where servers' images stand on it.
    if (before) await docker.removeImage(before.Id);
  }

  async #make(base: BaseName, parent: string, onLine: (line: string) => void): Promise<void> {
    const { docker, names } = this.#options;
    if (!await docker.inspectImage(parent)) {
      onLine(`Pulling ${parent}`);
      await docker.pullImage(parent, { onLine });
    }
    onLine(`Building ${names[base]} on ${parent}`);
    await docker.buildImage(contextOf(base), {
      tag: names[base],
      buildArguments: { BASE: parent },
      labels: { [FILES_LABEL]: await filesHash(base) },
      onLine,
    });
  }

  #missing(base: BaseName, why: string | null): ImageError {
    const { family } = SOURCES[base];
    const itself = family === "node" && why === null
      ? "It is made when Mooring starts: wait a minute, or run"
      : "Run";
    return new ImageError(
      `The base image ${this.#options.names[base]} is not on this toolbox${why ? `; ${why}` : ""}`,
      `${itself} \`deno task base ${family}\` on the toolbox, or bring the image there ` +
        "(docker save, docker load). Mooring tries again by itself.",
      true,
    );
  }
}

function contextOf(base: BaseName): Uint8Array<ArrayBuffer> {
  return writeTar({ launch: launcher, ...SOURCES[base].files }, ["launch"]);
}

const hashes = new Map<BaseName, Promise<string>>();

/** Of what the image is made of, which is the same for as long as this DTMA runs. */
function filesHash(base: BaseName): Promise<string> {
  let hash = hashes.get(base);
  if (!hash) {
    hash = crypto.subtle.digest("SHA-256", contextOf(base))
      .then((digest) => new Uint8Array(digest).toHex());
    hashes.set(base, hash);
  }
  return hash;
}
