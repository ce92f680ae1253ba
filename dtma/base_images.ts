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
import { type Docker, DockerError } from "./docker.ts";
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

export class BaseImages {
  readonly #options: BaseImagesOptions;
  readonly #making = new Map<BaseName, Promise<void>>();

  constructor(options: BaseImagesOptions) {
    this.#options = options;
  }

  /** Its id; null when it is not there. */
  async find(base: BaseName): Promise<string | null> {
    const { docker, names } = this.#options;
    return (await docker.inspectImage(names[base]))?.Id ?? null;
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
      making = this.#make(base, onLine).finally(() => this.#making.delete(base));
      this.#making.set(base, making);
    }
    await making;
    return (await this.find(base))!;
  }

  async #make(base: BaseName, onLine: (line: string) => void): Promise<void> {
    const { docker, names, parents } = this.#options;
    const parent = parents[base] ?? SOURCES[base].official;
    try {
      if (!await docker.inspectImage(parent)) {
        onLine(`Pulling ${parent}`);
        await docker.pullImage(parent, { onLine });
      }
      onLine(`Building ${names[base]} on ${parent}`);
      const context = writeTar({ launch: launcher, ...SOURCES[base].files }, ["launch"]);
      const buildArguments = { BASE: parent };
      await docker.buildImage(context, { tag: names[base], buildArguments, labels: {}, onLine });
    } catch (error) {
      if (!(error instanceof DockerError)) throw error;
      throw this.#missing(base, `on ${parent} it could not be made: ${error.message}`);
    }
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
