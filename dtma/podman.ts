/**
 * What podman's Docker-compatible socket wants otherwise than a Docker Engine, so that a container
 * is held to the same policy: the one place that knows of it. Read and tried with podman 4.3.
 * docs/podman.md lists what differs.
 */
import { DockerError } from "./docker.ts";

/** What of a create body is looked at here; the rest passes as it is. */
export interface CreateBody {
  HostConfig?: {
    SecurityOpt?: string[];
    Tmpfs?: Record<string, string>;
    Ulimits?: { Name: string; Soft: number; Hard: number }[];
    ReadonlyRootfs?: boolean;
    CapDrop?: string[];
    NetworkMode?: string;
    Memory?: number;
    MemorySwap?: number;
    NanoCpus?: number;
    PidsLimit?: number;
    [field: string]: unknown;
  };
  [field: string]: unknown;
}

/** The parts of podman's own inspect (not the compatible one) that say what was really set. */
export interface PodmanContainer {
  /** Null when there are none. */
  EffectiveCaps: string[] | null;
  BoundingCaps: string[] | null;
  HostConfig: {
    SecurityOpt: string[] | null;
    ReadonlyRootfs: boolean;
    Tmpfs: Record<string, string> | null;
    Memory: number;
    MemorySwap: number;
    NanoCpus: number;
    PidsLimit: number;
    Privileged: boolean;
    NetworkMode: string;
  };
}

/** What podman says of a network that it made. */
export interface PodmanNetworkMade {
  id: string;
  internal?: boolean;
  dns_enabled?: boolean;
  subnets?: { gateway?: string }[];
}

interface NetworkBody {
  Name: string;
  Labels: Record<string, string>;
  Internal?: boolean;
  Options?: Record<string, string>;
  IPAM?: { Config: { Subnet: string; IPRange?: string }[] };
}

/** Below `/`, of which podman makes writable file systems when the root is read-only. */
const WRITABLE_BY_PODMAN = ["/run", "/tmp", "/var/tmp"];

/**
 * Podman asks for 1048576 of both where it is not told, which a host without CAP_SYS_RESOURCE (a
 * virtual machine's sandbox) refuses. Processes are counted over all containers of a user:
 * `PidsLimit` is what bounds a server.
 */
const ULIMITS = ["nofile", "nproc"].map((Name) => ({ Name, Soft: 16_384, Hard: 16_384 }));

const INHIBIT_IPV4 = "com.docker.network.bridge.inhibit_ipv4";

/**
 * A create body as podman understands it.
 *
 * @param directory where seccomp profiles are kept for podman to read: it takes a path, and not the
 *   profile itself
 */
export async function podmanBody(body: CreateBody, directory: string): Promise<CreateBody> {
  const { HostConfig } = body;
  if (!HostConfig?.SecurityOpt) return body;
  const { Tmpfs = {}, Ulimits = [], ReadonlyRootfs, SecurityOpt } = HostConfig;
  const tmpfs = Object.entries(Tmpfs).map(([path, options]) => [
    path,
    // It knows no owner of a tmpfs: one that all may write to, in a container with one user, is the
    // same. Without notmpcopyup it copies what the image has there.
    `${options.replace(/,uid=\d+,gid=\d+,mode=0700/, ",mode=1777")},notmpcopyup`,
  ]);
  const shut = ReadonlyRootfs
    ? WRITABLE_BY_PODMAN.filter((path) => !(path in Tmpfs)).map((path) => [
      path,
      "rw,noexec,nosuid,nodev,size=65536,mode=0755,notmpcopyup",
    ])
    : [];
  const ulimits = ULIMITS.filter(({ Name }) => !Ulimits.some((each) => each.Name === Name));
  return {
    ...body,
    HostConfig: {
      ...HostConfig,
      SecurityOpt: await Promise.all(SecurityOpt.map(async (option) => {
        const profile = /^seccomp=(\{.*)$/s.exec(option)?.[1];
        return profile === undefined ? option : `seccomp=${await keepProfile(profile, directory)}`;
      })),
      Tmpfs: Object.fromEntries([...tmpfs, ...shut]),
      Ulimits: [...Ulimits, ...ulimits],
    },
  };
}

/**
 * That a container is held to what was asked for. Podman leaves out what it does not know or what
 * its host has not (limits, without a cgroup of its own to set them in), and says nothing.
 * @throws DockerError with 501 that names what is missing
 */
export function assertHeld(body: CreateBody, { HostConfig: held, ...caps }: PodmanContainer): void {
  const asked = body.HostConfig ?? {};
  const missing: string[] = (["Memory", "MemorySwap", "NanoCpus", "PidsLimit"] as const)
    .filter((field) => asked[field] !== undefined && asked[field] !== held[field]);
  if (asked.ReadonlyRootfs && !held.ReadonlyRootfs) missing.push("ReadonlyRootfs");
  // A network of its own has another name there than was asked for.
  const isExact = /^(none$|container:)/.test(asked.NetworkMode ?? "");
  if (isExact && held.NetworkMode !== asked.NetworkMode) missing.push("NetworkMode");
  if (held.Privileged) missing.push("Privileged: false");
  const dropsAll = asked.CapDrop?.includes("ALL");
  if (dropsAll && (caps.EffectiveCaps?.length || caps.BoundingCaps?.length)) {
    missing.push("CapDrop");
  }
  for (const option of asked.SecurityOpt ?? []) {
    if (!held.SecurityOpt?.includes(option)) missing.push(option.split("=")[0]);
  }
  for (const [path, options] of Object.entries(held.Tmpfs ?? {})) {
    if (asked.ReadonlyRootfs && !/\bnoexec\b/.test(options)) missing.push(`noexec of ${path}`);
  }
  if (missing.length === 0) return;
  throw new DockerError(
    501,
    `podman does not hold the container to the policy (${
      missing.join(", ")
    }), so it is not started`,
  );
}

/**
 * A network without an address of the host's, for podman's own API: the compatible one ignores
 * `inhibit_ipv4`, and gives each network name service and so a gateway that the host answers at.
 * Null for every other network, which the compatible one makes well.
 */
export function podmanNetwork(body: unknown) {
  const { Name, Labels, Internal, Options, IPAM } = body as NetworkBody;
  if (Options?.[INHIBIT_IPV4] !== "true") return null;
  return {
    name: Name,
    driver: "bridge",
    internal: Internal,
    ipv6_enabled: false,
    dns_enabled: false,
    labels: Labels,
    subnets: IPAM?.Config.map(({ Subnet, IPRange }) => ({
      subnet: Subnet,
      ...(IPRange && { lease_range: leases(IPRange) }),
    })),
  };
}

/**
 * The query of a build as podman understands it. Without `nsoptions` its steps run in the network
 * of the host itself, whatever `networkmode` says (seen with 4.3.1), and reach all that listens there.
 */
export function podmanBuild(query: Record<string, string>): Record<string, string> {
  const ulimits: { Name: string; Soft: number; Hard: number }[] = JSON.parse(query.ulimits ?? "[]");
  return {
    ...query,
    ulimits: JSON.stringify(
      [...ulimits, ...ULIMITS].map(({ Name, Soft, Hard }) => `${Name}=${Soft}:${Hard}`),
    ),
    nsoptions: JSON.stringify([{ Name: "network", Host: false, Path: "" }]),
  };
}

/** What of podman's info decides how far it can hold servers to the policy. */
interface PodmanInfo {
  SecurityOptions: string[] | null;
  Rootless?: boolean;
  CgroupVersion?: string;
}

/** What a person should know of a toolbox on podman. */
export function podmanWarnings({ SecurityOptions, Rootless, CgroupVersion }: PodmanInfo): string[] {
  const warnings = [
    "podman closes a server's input when DTMA lets go of it, so servers start anew when DTMA does, " +
    "unless conmon is told to leave it open: see docs/podman.md",
    "podman does not say what a build's step writes: it is bounded by the build's time and by the " +
    "size of each file alone, and steps that need no network have one",
  ];
  if (Rootless || SecurityOptions?.includes("name=rootless")) {
    warnings.push(
      "podman runs without root, which Mooring was not tried with: what it cannot hold to the " +
        "policy is not started",
    );
  }
  if (CgroupVersion === "1") {
    warnings.push(
      "The host has version 1 of cgroups, on which podman gives containers no cgroup namespace of " +
        "their own: a server sees where the host keeps its limits, and cannot change them",
    );
  }
  if (!SecurityOptions?.some((option) => option.startsWith("name=seccomp"))) {
    warnings.push("podman says that it filters no system calls (seccomp)");
  }
  return warnings;
}

/**
 * That the host has no address on a network of {@link podmanNetwork}'s.
 * @throws DockerError with 501
 */
export function assertShut({ internal, dns_enabled, subnets }: PodmanNetworkMade): void {
  if (internal && !dns_enabled && !subnets?.some(({ gateway }) => gateway)) return;
  throw new DockerError(501, "podman gives the host an address on the server's network");
}

/** All of an IPv4 range but its last address, which is the network's broadcast. */
function leases(range: string): { start_ip: string; end_ip: string } {
  const [start, bits] = range.split("/");
  const bytes = start.split(".").map(Number);
  const last = bytes[3] + 2 ** (32 - Number(bits)) - 2;
  return { start_ip: start, end_ip: [...bytes.slice(0, 3), last].join(".") };
}

/** By its hash, so that it is written once and never changes under a container. */
async function keepProfile(profile: string, directory: string): Promise<string> {
  const bytes = new TextEncoder().encode(profile);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 32);
  const path = `${directory}/seccomp-${hash}.json`;
  const present = await Deno.readTextFile(path).catch(() => null);
  if (present === profile) return path;
  await Deno.mkdir(directory, { recursive: true });
  const made = `${path}.${crypto.randomUUID()}`;
  await Deno.writeFile(made, bytes, { mode: 0o600 });
  await Deno.rename(made, path);
  return path;
}
