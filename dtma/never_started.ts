/**
 * Containers that are never started: the engine's way to look into an image and to fill a volume.
 * None may be left behind, whichever of DTMA and engine goes down in the middle.
 */
import { type Docker, DockerError, EngineAbsentError } from "./docker.ts";
import { Label } from "./policy.ts";

/** How often the removal is tried again while the engine is away or says no. */
const RETRY_MS = 2000;

const PREFIX = "mooring-never-started-";

/** By name, of this process. */
const inUse = new Set<string>();

/** Whether a container, by its name, is one that another process made, which was killed at it. */
export function isForgotten(name: string): boolean {
  return name.startsWith(PREFIX) && !inUse.has(name);
}

/**
 * Makes one, lets it be used, and removes it: later, if the engine is away just then.
 * @param body of its creation, less what is the same for all
 */
export async function withNeverStarted<T>(
  docker: Docker,
  toolboxId: string,
  body: { Image: string; HostConfig: Record<string, unknown> },
  use: (container: string) => Promise<T>,
): Promise<T> {
  const name = PREFIX + crypto.randomUUID();
  inUse.add(name);
  try {
    await docker.createContainer(name, {
      ...body,
      Labels: { [Label.toolbox]: toolboxId },
      Entrypoint: ["/never-started"],
    });
    return await use(name);
  } finally {
    inUse.delete(name);
    // Also where making it failed: the engine may have made it and gone away before it said so.
    if (!await isRemoved(docker, name)) void removeLater(docker, name);
  }
}

async function isRemoved(docker: Docker, name: string): Promise<boolean> {
  try {
    await docker.removeContainer(name);
    return true;
  } catch (error) {
    if (error instanceof DockerError || error instanceof EngineAbsentError) return false;
    throw error;
  }
}

async function removeLater(docker: Docker, name: string): Promise<void> {
  do {
    const { promise, resolve } = Promise.withResolvers<void>();
    // Not waited for at the end: the next DTMA finds what is left.
    Deno.unrefTimer(setTimeout(resolve, RETRY_MS));
    await promise;
  } while (!await isRemoved(docker, name));
}
