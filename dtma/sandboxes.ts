/** The sandbox of one engine: found among its runtimes, and tried before a server is left to it. */
import type { Ceiling } from "./ceiling.ts";
import { type Docker, DockerError, type EngineInfo, type EngineVersion } from "./docker.ts";
import { BASES } from "./image_recipes.ts";
import { containerConfig } from "./policy.ts";
import { type Sandbox, type ServerSpec, STDIO } from "./protocol.ts";
import { type RuntimeFacts, runtimeFacts, sandboxOf, sandboxTitle } from "./sandbox.ts";

/** The engine's sandbox; or none, and why there is none although one is registered. */
export type Found = { sandbox: Sandbox } | { sandbox: null; why: string | null };

const TRIAL_TIMEOUT_MS = 60_000;

/** What is tried: the whole policy, and a program that ends at once. */
const TRIAL: ServerSpec = {
  serverId: "00000000-0000-4000-8000-000000000000",
  generation: 1,
  name: "trial",
  running: true,
  package: { registry: "npm", name: "trial", version: "1.0.0", installScripts: false },
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
  tier: "untrusted",
  transport: STDIO,
};

/**
 * Registered is not working: a gVisor older than its kernel starts nothing (google/gvisor#10704), and
 * Kata needs a machine that virtualizes. One trial for each thing that is registered, and not one for
 * each server: a start that fails leaves a process of gVisor's behind, which DTMA cannot end.
 */
export class Sandboxes {
  readonly owner: Ceiling["sandbox"];
  readonly #docker: Docker;
  /** Of what is registered now: why it does not work; null when it does. */
  #tried: { registered: string; failure: Promise<string | null> } | null = null;
  /** Undefined until the trial has ended. */
  #failure: string | null | undefined = undefined;

  /** @param owner what the host's owner says of the sandbox */
  constructor(docker: Docker, owner: Ceiling["sandbox"]) {
    this.#docker = docker;
    this.owner = owner;
  }

  /** Waits for the trial, once. */
  async find(): Promise<Found> {
    const [version, info] = await Promise.all([this.#docker.version(), this.#docker.info()]);
    const sandbox = sandboxOf(version, info, this.owner);
    if (!sandbox) return { sandbox: null, why: null };
    const failure = await this.#try(sandbox, info);
    return failure === null ? { sandbox } : { sandbox: null, why: failure };
  }

  /** What the toolbox's page says; does not wait for the trial, which the next facts tell of. */
  facts(version: EngineVersion, info: EngineInfo): RuntimeFacts {
    const sandbox = sandboxOf(version, info, this.owner);
    if (!sandbox) return runtimeFacts(version, info, this.owner, null);
    // An engine that went away meanwhile is tried again by the next facts.
    this.#try(sandbox, info).catch(() => {});
    const facts = runtimeFacts(version, info, this.owner, this.#failure === null ? sandbox : null);
    if (typeof this.#failure === "string") facts.warnings.push(this.#failure);
    return facts;
  }

  #try(sandbox: Sandbox, info: EngineInfo): Promise<string | null> {
    const registered = JSON.stringify([
      info.ServerVersion,
      sandbox.runtime,
      info.Runtimes?.[sandbox.runtime],
    ]);
    if (this.#tried?.registered !== registered) {
      this.#failure = undefined;
      const failure = this.#trial(sandbox);
      this.#tried = { registered, failure };
      failure.then((why) => this.#failure = why, () => this.#tried = null);
    }
    return this.#tried!.failure;
  }

  /** @returns why it does not work, as a sentence; null when it does, or nothing is there to try it with */
  async #trial(sandbox: Sandbox): Promise<string | null> {
    const docker = this.#docker;
    const images = await Promise.all(Object.values(BASES).map((base) => docker.inspectImage(base)));
    const image = images.find((each) => each !== null);
    if (!image) return null;
    const { HostConfig, ...config } = containerConfig(TRIAL, {
      toolboxId: "",
      image: { id: image.Id, command: ["/bin/sh"], hasLauncher: false, workingDirectory: null },
      specHash: "",
      instance: null,
      route: null,
      sandbox,
    });
    const body = { ...config, Labels: {}, Cmd: ["-c", "exit 0"], HostConfig };
    let id: string | null = null;
    try {
      id = await docker.createContainer(`mooring-trial-${crypto.randomUUID()}`, body);
      await docker.startContainer(id);
      const deadline = AbortSignal.timeout(TRIAL_TIMEOUT_MS);
      const code = await docker.waitContainer(id, deadline);
      return code === 0 ? null : this.#failed(sandbox, `a program in it ended with code ${code}`);
    } catch (error) {
      if (error instanceof DockerError) return this.#failed(sandbox, error.message);
      if (error instanceof DOMException) {
        return this.#failed(sandbox, "a program in it did not end");
      }
      throw error;
    } finally {
      if (id) await docker.removeContainer(id).catch(() => {});
    }
  }

  #failed(sandbox: Sandbox, why: string): string {
    return `${
      sandboxTitle(sandbox)
    } is registered with the Docker Engine and starts no container ` +
      `(${why.slice(0, 250)}): see that it is as new as the kernel, then restart DTMA`;
  }
}
