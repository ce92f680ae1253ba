/** Why a server is not up, as an error that its loop understands. */
import { DockerError } from "./docker.ts";
import { EgressError } from "./egress.ts";
import type { Layer } from "./protocol.ts";

/** The server went down, or will not come up: which layer, why, and what a person can do. */
export class Failure extends Error {
  override name = "Failure";
  constructor(
    readonly layer: Layer,
    readonly reason: string,
    readonly nextStep: string,
    /**
     * `final`: trying again would not help until something is changed. `host`: it is the toolbox's own
     * trouble (a full disk, an engine that fails) and says nothing of the server.
     */
    readonly kind: "final" | "host" | null = null,
  ) {
    super(reason);
  }
}

/** The attach stream ended and the container did not: attach again. */
export class StreamLost extends Error {
  override name = "StreamLost";
}

/** The server exits on the probe for the newest revision: start it again and do not probe. */
export class SkipProbe extends Error {
  override name = "SkipProbe";
}

/** How a container ended, for a person. */
export function exitFailure(
  state: { ExitCode: number; OOMKilled: boolean; Error: string },
  memoryMiB: number,
): Failure {
  if (state.OOMKilled) {
    return new Failure(
      "container",
      `The server used more than its ${memoryMiB} MiB of memory and was killed`,
      "Ask it for less at once, give it more memory, or look for a leaner version of it.",
    );
  }
  // 128 + signal, as an init reports a child that a signal ended.
  const signals: Record<number, string> = { 134: "ABRT", 137: "KILL", 139: "SEGV", 143: "TERM" };
  const by = signals[state.ExitCode];
  return new Failure(
    "container",
    `The server exited with code ${state.ExitCode}${by ? ` (signal ${by})` : ""}` +
      (state.Error ? `: ${state.Error}` : ""),
    "The last lines of the log below usually say why: a missing setting, a wrong argument.",
  );
}

/** Any error as a {@link Failure}. */
export function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof EgressError) {
    return new Failure("container", error.reason, error.nextStep, "host");
  }
  if (error instanceof DockerError) {
    return new Failure(
      "container",
      `The Docker Engine refused: ${error.message}`,
      /no space left on device/i.test(error.message)
        ? "Free space on the toolbox's disk."
        : "Check the Docker Engine on the toolbox.",
      // What is wrong with the asked for container is the engine's 4xx.
      error.status >= 500 ? "host" : null,
    );
  }
  return new Failure(
    "handshake",
    error instanceof Error ? error.message : String(error),
    "Look at the log below.",
  );
}
