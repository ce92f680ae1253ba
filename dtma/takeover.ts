/**
 * Whether this DTMA does its work, told in the data directory's `status`: a trial is confirmed by it
 * (mooring-dtma.sh), and a container's health is read from it. It does once it has the app's desired
 * set and all servers that ran when it started can be called again.
 */
import type { DataDirectory } from "./data_directory.ts";
import { type Docker, DockerError, EngineAbsentError } from "./docker.ts";
import { Label } from "./policy.ts";
import type { Reconciler } from "./reconcile.ts";
import { aborted, sleep } from "./waiting.ts";

const LOOK_EVERY_MS = 500;

export class Takeover {
  readonly #directory: DataDirectory;
  readonly #run: string;
  #isDone = false;
  /** Why the app has not answered; null when it has. */
  #silence: string | null = "The app has not answered yet";
  #told = "";

  constructor(directory: DataDirectory, run: string) {
    this.#directory = directory;
    this.#run = run;
  }

  get isOnTrial(): boolean {
    return this.#run.startsWith("trial.") && !this.#isDone;
  }

  /** Looks until all is taken over; ends when `signal` is aborted. */
  async watch(
    { docker, toolboxId, reconciler }: {
      docker: Pick<Docker, "listContainers">;
      toolboxId: string;
      reconciler: Pick<Reconciler, "firstDown">;
    },
    signal: AbortSignal,
  ): Promise<void> {
    let ran: Set<string> | null = null;
    while (!signal.aborted && !this.#isDone) {
      let engine: string | null = null;
      ran ??= await serversThatRun(docker, toolboxId).catch((error) => {
        engine = reasonOf(error);
        return null;
      });
      const why = this.#silence ?? engine ?? reconciler.firstDown(ran!);
      this.#isDone = why === null;
      await this.#tell(why);
      await sleep(LOOK_EVERY_MS, signal);
    }
    await aborted(signal);
  }

  /** The app answered, or why it did not. */
  async turn(failure: string | null): Promise<void> {
    this.#silence = failure;
    if (!this.#isDone) return;
    this.#told = "";
    await this.#tell(failure);
  }

  /** DTMA ends for this. */
  async failed(why: string): Promise<void> {
    this.#isDone = false;
    await this.#tell(why);
  }

  async #tell(why: string | null): Promise<void> {
    const said = why === null ? "ok" : "waiting";
    if (said + why === this.#told) return;
    this.#told = said + why;
    const seconds = Math.floor(Date.now() / 1000);
    const line = `${said} ${seconds} ${this.#run} ${why ?? ""}`.replaceAll(/\s+/g, " ").trim();
    // A full disk must not end it: it is told again with the next turn.
    await this.#directory.keepStatus(line.slice(0, 600)).catch(() => this.#told = "");
  }
}

async function serversThatRun(
  docker: Pick<Docker, "listContainers">,
  toolboxId: string,
): Promise<Set<string>> {
  const containers = await docker.listContainers([`${Label.toolbox}=${toolboxId}`]);
  return new Set(
    containers.filter(({ State }) => State === "running")
      .flatMap(({ Labels }) => Labels[Label.server] ?? []),
  );
}

/** Why the engine does not say what runs: it is away, or refuses for now. */
function reasonOf(error: unknown): string {
  if (error instanceof EngineAbsentError) return "The Docker Engine does not answer";
  if (error instanceof DockerError) return `The Docker Engine refused: ${error.message}`;
  throw error;
}
