/** What the tests of DTMA share: a real Docker Engine, a toolbox of each test's own, and its end. */
import { Docker, EngineAbsentError } from "../../dtma/docker.ts";
import { type BuiltImage, type EnsureOptions, Images } from "../../dtma/image.ts";
import { Label } from "../../dtma/policy.ts";
import { type Package, type ServerSpec, STDIO } from "../../dtma/protocol.ts";
import { writeTar } from "../../dtma/tar.ts";

/** The base image that `deno task base` makes, or another one with the same inside. */
export const BASE = Deno.env.get("MOORING_TEST_BASE") ?? "mooring/node:24";

/** Why tests that need an engine and the base image cannot run here; null when they can. */
export const absent: string | null = await (async () => {
  const docker = new Docker();
  try {
    await docker.info();
    return await docker.inspectImage(BASE) ? null : `the base image ${BASE} is missing`;
  } catch (error) {
    if (error instanceof EngineAbsentError) return error.reason;
    throw error;
  } finally {
    docker.close();
  }
})();
if (absent) console.warn(`SKIPPED, all tests that run containers: ${absent}`);

export interface Toolbox {
  docker: Docker;
  id: string;
  dataDir: string;
}

/** A test on a toolbox of its own. */
export function engineTest(name: string, run: (toolbox: Toolbox) => Promise<void>): void {
  Deno.test({
    name: absent ? `${name} (skipped: ${absent})` : name,
    ignore: absent !== null,
    fn: () => withToolbox(run),
  });
}

/** Makes a toolbox; whatever carries its label is removed at the end. */
export async function withToolbox(run: (toolbox: Toolbox) => Promise<void>): Promise<void> {
  const dataDir = await Deno.makeTempDir({ prefix: "mooring-test-" });
  const docker = new Docker(undefined, dataDir);
  const id = crypto.randomUUID();
  try {
    await run({ docker, id, dataDir });
  } finally {
    await clean(docker, id);
    docker.close();
    await Deno.remove(dataDir, { recursive: true });
  }
}

/** What is there of a toolbox: the test of "nothing is left behind". */
export async function leftovers(docker: Docker, toolboxId: string) {
  const label = [`${Label.toolbox}=${toolboxId}`];
  return {
    containers: (await docker.listContainers(label)).map((each) => each.Id),
    networks: (await docker.listNetworks(label)).map((each) => each.Name),
    images: (await docker.listImages(label)).map((each) => each.Id),
  };
}

/** What the builds of a toolbox left beside its images: the stages that install, and half made ones. */
export async function buildLeftovers({ docker, id }: Toolbox): Promise<string[]> {
  const labels = ["dev.mooring.build", `${Label.toolbox}=${id}`];
  return (await docker.listImages(labels, true)).map((each) => each.Id);
}

/** Removes what is there of a toolbox. */
export async function clean(docker: Docker, toolboxId: string): Promise<void> {
  const left = await leftovers(docker, toolboxId);
  for (const id of left.containers) await docker.removeContainer(id);
  for (const name of left.networks) await docker.removeNetwork(name);
  for (const id of left.images) await docker.removeImage(id);
  const volumes = await docker.listVolumes([`${Label.toolbox}=${toolboxId}`]);
  for (const { Name } of volumes) await docker.removeVolume(Name);
}

const FIXTURES = new URL("../fixtures/servers/", import.meta.url);

/**
 * Stands in for `Images`, because a package must come from npm and hostile servers do not: the
 * package `fixture-<name>` is an image with tests/fixtures/servers/<name>.mjs as its server.
 */
export class FixtureImages {
  readonly #built = new Map<string, Promise<BuiltImage>>();
  /** The adapter before servers over HTTP is made as it always is. */
  readonly #images: Images;
  constructor(readonly toolbox: Toolbox) {
    const { docker, id: toolboxId, dataDir } = toolbox;
    this.#images = new Images({ docker, toolboxId, dataDir, bases: { node: BASE } });
  }

  ensure(wanted: Package, options: EnsureOptions = {}): Promise<BuiltImage> {
    if (wanted.registry === "remote" || wanted.registry === "openapi") {
      return this.#images.ensure(wanted, options);
    }
    const fixture = fixtureOf(wanted);
    const image = this.#built.get(fixture) ?? this.#build(fixture, options);
    this.#built.set(fixture, image);
    return image;
  }

  async #build(fixture: string, options: EnsureOptions): Promise<BuiltImage> {
    const id = await this.toolbox.docker.buildImage(
      writeTar({
        Dockerfile: `FROM ${BASE}\nUSER 0\nLABEL ${Label.toolbox}=${this.toolbox.id}\n` +
          `COPY *.mjs /app/\nRUN ["node","-e","fs.symlinkSync('${fixture}.mjs','/app/server')"]\n`,
        "server.mjs": await Deno.readFile(new URL("server.mjs", FIXTURES)),
        [`${fixture}.mjs`]: await Deno.readFile(new URL(`${fixture}.mjs`, FIXTURES)),
      }),
      {
        tag: `mooring-test/${fixture}:${this.toolbox.id}`,
        buildArguments: {},
        labels: {},
        onLine: options.onLine ?? (() => {}),
      },
    );
    const command = ["node", "/app/server"];
    return { id, command, hasLauncher: true, workingDirectory: null };
  }

  bomOf(): Promise<null> {
    return Promise.resolve(null);
  }

  async collect(inUse: Package[]): Promise<void> {
    const { docker, id } = this.toolbox;
    const fixtures = inUse.map(fixtureOf);
    for (const fixture of this.#built.keys()) {
      if (!fixtures.includes(fixture)) this.#built.delete(fixture);
    }
    const keep = fixtures.map((fixture) => `mooring-test/${fixture}:${id}`);
    const hasAdapters = inUse.some(({ registry }) => registry === "remote");
    for (const image of await docker.listImages([`${Label.toolbox}=${id}`])) {
      // Podman writes the registry before a name that has none.
      const kept = image.RepoTags?.map((tag) => tag.replace(/^docker\.io\//, "")).some((tag) =>
        keep.includes(tag) || (hasAdapters && tag.startsWith("mooring/server-localhost-"))
      );
      if (!kept) await docker.removeImage(image.Id);
    }
  }
}

function fixtureOf(wanted: Package): string {
  return "name" in wanted ? wanted.name.replace(/^fixture-/, "") : "none";
}

/** A spec for one of the fixtures, changed as told. */
export function fixtureSpec(fixture: string, changes: Partial<ServerSpec> = {}): ServerSpec {
  return {
    serverId: crypto.randomUUID(),
    generation: 1,
    name: fixture,
    running: true,
    package: {
      registry: "npm",
      name: `fixture-${fixture}`,
      version: "1.0.0",
      installScripts: false,
    },
    arguments: [],
    environment: {},
    secrets: {},
    secretFiles: {},
    network: { hosts: [] },
    volumes: [],
    memoryMiB: 512,
    instances: "shared",
    idleStopS: null,
    restart: 0,
    tier: "standard",
    transport: STDIO,
    ...changes,
  };
}
