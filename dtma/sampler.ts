/** How much of the host each running container takes, read from the engine now and then. */
import { type ContainerStats, type Docker, DockerError, EngineAbsentError } from "./docker.ts";
import type { ResourceSample } from "./protocol.ts";
import { sleep } from "./waiting.ts";

export interface SamplerOptions {
  docker: Docker;
  /** The containers of now. */
  running: () => { serverId: string; instance: string | null; containerId: string }[];
  onSample: (sample: ResourceSample) => void;
  everyMs?: number;
}

/** Asked at once; more are no faster and hold up the engine. */
const AT_ONCE = 4;

/** Samples all running containers every so often, until `signal` is aborted. */
export async function sampleContainers(
  { docker, running, onSample, everyMs = 10_000 }: SamplerOptions,
  signal: AbortSignal,
): Promise<void> {
  let before = new Map<string, { cpuNs: number; atMs: number }>();
  while (!signal.aborted) {
    const seen: typeof before = new Map();
    const queue = running();
    const worker = async () => {
      for (let each = queue.pop(); each && !signal.aborted; each = queue.pop()) {
        const { containerId, serverId, instance } = each;
        const stats = await docker.stats(containerId).catch(ignoreEnded);
        const cpuNs = stats?.cpu_stats?.cpu_usage?.total_usage;
        if (!stats || cpuNs === undefined) continue;
        const atMs = Date.now();
        seen.set(containerId, { cpuNs, atMs });
        const last = before.get(containerId);
        // The first reading of a container says only where its count stands.
        if (!last || atMs <= last.atMs) continue;
        const cpus = Math.max(0, (cpuNs - last.cpuNs) / 1e6 / (atMs - last.atMs));
        onSample({
          serverId,
          instance,
          at: new Date(atMs).toISOString(),
          cpus: Math.round(cpus * 1000) / 1000,
          ...usage(stats),
        });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    before = seen;
    await sleep(everyMs, signal);
  }
}

function usage({ memory_stats, pids_stats, networks }: ContainerStats) {
  // As `docker stats` does: without what the kernel would give back (v1 and v2 name it differently).
  const cache = memory_stats?.stats?.total_inactive_file ?? memory_stats?.stats?.inactive_file ?? 0;
  const sum = (key: "rx_bytes" | "tx_bytes") =>
    Object.values(networks ?? {}).reduce((total, each) => total + each[key], 0);
  return {
    memoryBytes: Math.max(0, (memory_stats?.usage ?? 0) - cache),
    receivedBytes: sum("rx_bytes"),
    sentBytes: sum("tx_bytes"),
    pids: pids_stats?.current ?? 0,
  };
}

function ignoreEnded(error: unknown): null {
  if (error instanceof DockerError || error instanceof EngineAbsentError) return null;
  throw error;
}
