/** What the toolbox page shows of this host. */
import { type Docker, EngineAbsentError, isPodman } from "./docker.ts";
import { podmanWarnings } from "./podman.ts";
import { type HostFacts, PROTOCOL_VERSION } from "./protocol.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { DTMA_VERSION } from "./version.ts";

/** An engine that does not answer for this long is not there, for all that a person can do with it. */
const ENGINE_TIMEOUT_MS = 5000;

/** @param own what DTMA knows of itself: how the app's calls come, of an upgrade, and what scans images */
export async function hostFacts(
  docker: Docker,
  own: Omit<HostFacts, "dtmaVersion" | "protocolVersion" | "engine">,
  sandboxes: Sandboxes,
): Promise<HostFacts> {
  return {
    dtmaVersion: DTMA_VERSION,
    protocolVersion: PROTOCOL_VERSION,
    knowsTiers: true,
    knowsTransports: true,
    knowsHeaders: true,
    knowsInstanceInputs: true,
    knowsInstanceAccounts: true,
    knowsApis: true,
    ...own,
    engine: await engineFacts(docker, sandboxes),
  };
}

/** Since when the engines that do not answer do not. */
const awaySince = new WeakMap<Docker, string>();

async function engineFacts(
  docker: Docker,
  sandboxes: Sandboxes,
): Promise<HostFacts["engine"]> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error("The Docker Engine does not answer")),
      ENGINE_TIMEOUT_MS,
    );
  });
  try {
    const [version, info] = await Promise.race([
      Promise.all([docker.version(), docker.info()]),
      silence,
    ]);
    awaySince.delete(docker);
    const { warnings, ...runtimes } = sandboxes.facts(version, info);
    if (isPodman(version)) warnings.push(...podmanWarnings(info));
    return {
      state: "ready",
      version: version.Version.slice(0, 80),
      apiVersion: version.ApiVersion.slice(0, 20),
      os: info.OperatingSystem.slice(0, 200),
      architecture: info.Architecture.slice(0, 40),
      cpus: info.NCPU,
      memoryBytes: info.MemTotal,
      ...runtimes,
      ...(isPodman(version) && { product: "podman" }),
      ...(warnings.length > 0 && { warnings }),
    };
  } catch (error) {
    const absent = error instanceof EngineAbsentError;
    const reason = absent ? error.reason : (error as Error).message;
    const advice = absent ? error.advice : "Look at the Docker Engine's log on the toolbox.";
    const since = awaySince.get(docker) ?? new Date().toISOString();
    awaySince.set(docker, since);
    return { state: "absent", reason: reason.slice(0, 500), advice: advice.slice(0, 500), since };
  } finally {
    clearTimeout(timer);
  }
}
