/**
 * The Docker policy: what every container that Mooring starts is held to. DTMA makes the whole of
 * the Engine API's create body here, out of a typed spec, so that an app that was taken over cannot
 * ask for more (no privileged, binds, devices, ports, host namespaces: there is no word for them).
 */
import canonicalize from "canonicalize";
import type { ServerSpec } from "./protocol.ts";
// moby's default profile (Apache-2.0), resolved for a container without capabilities, less what
// helps one process into another or out of its sandbox and no MCP server needs: ptrace, mknod,
// mknodat, personality, io_uring (CVE-2022-29582 and its family); process_vm_* are not in it for
// want of CAP_SYS_PTRACE. socket() makes AF_UNIX, INET, INET6 and NETLINK alone (getifaddrs needs
// NETLINK; VSOCK, PACKET, ALG and the rest are attack surface). 32-bit calls are not let in at all:
// socketcall(2) hides its family from a filter.
import seccomp from "./seccomp.json" with { type: "json" };

/** Labels by which DTMA knows what is its own. Never put a secret in one. */
export const Label = {
  toolbox: "dev.mooring.toolbox",
  server: "dev.mooring.server",
  generation: "dev.mooring.generation",
  /** HMAC of everything the container was made from: see {@link specHash}. */
  spec: "dev.mooring.spec",
  image: "dev.mooring.image",
} as const;

const MIB = 1024 * 1024;

/** The limits and refusals, as the docs and the server's page state them. */
export const POLICY = {
  user: "65532:65532",
  memoryBytes: 512 * MIB,
  cpus: 1,
  pids: 128,
  openFiles: 1024,
  writable: { "/tmp": 64 * MIB, "/work": 64 * MIB },
  /**
   * Without declared hosts there is no network at all. With them there is, for now, a bridge network
   * of the server's own that reaches every host: the allow-list proxy that holds a server to its
   * declared hosts, and the network options that close the way to the host's own listeners, come
   * with the egress issue. Until then the page must say "reaches the whole network".
   */
  network: { declaredHostsEnforced: false },
} as const;

export interface ContainerContext {
  toolboxId: string;
  /** The image's id (`sha256:...`): a tag could be moved to another image. */
  image: string;
  /** What starts the server in the image. */
  command: string[];
  /** Where it is started, if it matters to it. */
  workingDirectory?: string | null;
  specHash: string;
}

/** Names carry the server's id, by which the engine itself refuses a second container of a server. */
export function containerName(serverId: string): string {
  return `mooring-${serverId}`;
}

/** The labels of everything that belongs to one server. */
export function ownLabels(toolboxId: string, serverId: string): Record<string, string> {
  return { [Label.toolbox]: toolboxId, [Label.server]: serverId };
}

/** The Engine API's `POST /containers/create` body for a server. */
export function containerConfig(spec: ServerSpec, context: ContainerContext) {
  const networked = spec.network.hosts.length > 0;
  return {
    Image: context.image,
    Labels: {
      ...ownLabels(context.toolboxId, spec.serverId),
      [Label.generation]: String(spec.generation),
      [Label.spec]: context.specHash,
    },
    User: POLICY.user,
    // An entrypoint of our own: the image's may be an init (tini), and HostConfig.Init brings one.
    Entrypoint: context.command,
    Cmd: spec.arguments,
    // Secrets are environment variables for now, because catalog entries declare variables. Anyone
    // who may inspect containers on the host reads them: files on tmpfs come with a later issue.
    Env: Object.entries({ HOME: "/tmp", ...spec.environment, ...spec.secrets })
      .map(([name, value]) => `${name}=${value}`),
    WorkingDir: context.workingDirectory ?? "/work",
    OpenStdin: true,
    // With StdinOnce a server would get EOF, and end, when DTMA restarts.
    StdinOnce: false,
    Tty: false,
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    HostConfig: {
      NetworkMode: networked ? containerName(spec.serverId) : "none",
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges", `seccomp=${JSON.stringify(seccomp)}`],
      ReadonlyRootfs: true,
      Tmpfs: Object.fromEntries(
        Object.entries(POLICY.writable).map(([path, bytes]) => [
          path,
          `rw,noexec,nosuid,nodev,size=${bytes},uid=65532,gid=65532,mode=0700`,
        ]),
      ),
      PidsLimit: POLICY.pids,
      Memory: POLICY.memoryBytes,
      // The sum of memory and swap: equal means no swap.
      MemorySwap: POLICY.memoryBytes,
      NanoCpus: POLICY.cpus * 1e9,
      Ulimits: [
        { Name: "nofile", Soft: POLICY.openFiles, Hard: POLICY.openFiles },
        { Name: "core", Soft: 0, Hard: 0 },
      ],
      IpcMode: "private",
      CgroupnsMode: "private",
      Init: true,
      Privileged: false,
      PublishAllPorts: false,
      // json-file would keep every MCP response on disk and halve throughput (measured).
      LogConfig: { Type: "none" },
      // DTMA owns restarts: two that restart would fight.
      RestartPolicy: { Name: "no" },
    },
  };
}

/** The network of a server that declares hosts; null for one that needs none. */
export function networkConfig(spec: ServerSpec, toolboxId: string) {
  if (spec.network.hosts.length === 0) return null;
  return {
    Name: containerName(spec.serverId),
    Driver: "bridge",
    CheckDuplicate: true,
    Labels: ownLabels(toolboxId, spec.serverId),
    Options: { "com.docker.network.bridge.enable_icc": "false" },
  };
}

/**
 * What a running container is known by: HMAC-SHA-256, as hex, over the create body less its image
 * and command,
 * so that a change of the spec or of this policy is seen and a rebuilt image alone is not. Keyed
 * because the body holds secrets, labels are not secret, and a plain hash of a short secret can be
 * guessed.
 */
export async function specHash(spec: ServerSpec, key: CryptoKey): Promise<string> {
  const made = containerConfig(spec, { toolboxId: "", image: "", command: [], specHash: "" });
  const body = canonicalize({ package: spec.package, made });
  const mac = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(body));
  return new Uint8Array(mac).toHex();
}

/** The key of {@link specHash}, made at the first start and kept beside DTMA's other keys (0600). */
export async function loadSpecKey(dataDir: string): Promise<CryptoKey> {
  const path = `${dataDir}/spec.key`;
  const bytes = await readKey(path) ?? await makeKey(dataDir, path);
  return crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}

async function readKey(path: string): Promise<Uint8Array<ArrayBuffer> | null> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/** A crash leaves no half key, and of two that make one at once both go on with the first. */
async function makeKey(dataDir: string, path: string): Promise<Uint8Array<ArrayBuffer>> {
  await Deno.mkdir(dataDir, { recursive: true });
  const made = `${path}.${crypto.randomUUID()}`;
  await Deno.writeFile(made, crypto.getRandomValues(new Uint8Array(32)), { mode: 0o600 });
  try {
    await Deno.link(made, path);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  } finally {
    await Deno.remove(made);
  }
  return await Deno.readFile(path);
}
