/**
 * The Docker policy: what every container that Mooring starts is held to. DTMA makes the whole of
 * the Engine API's create body here, out of a typed spec, so that an app that was taken over cannot
 * ask for more (no privileged, binds, devices, ports, host namespaces: there is no word for them).
 */
import { resolve } from "node:path/posix";
import canonicalize from "canonicalize";
import type { EgressRoute } from "./egress.ts";
import type { BuiltImage } from "./image.ts";
import { type HttpTransport, type Sandbox, type ServerSpec, STDIO } from "./protocol.ts";
import { readWhole, writeWhole } from "./whole_file.ts";
// moby's default profile (Apache-2.0), resolved for a container without capabilities, less what
// helps one process into another or out of its sandbox and no MCP server needs: ptrace, mknod,
// mknodat, personality, io_uring (CVE-2022-29582 and its family); process_vm_* are not in it for
// want of CAP_SYS_PTRACE. socket() makes AF_UNIX, INET, INET6 and NETLINK alone (getifaddrs needs
// NETLINK; VSOCK, PACKET, ALG and the rest are attack surface). 32-bit calls are not let in at all:
// socketcall(2) hides its family from a filter.
import seccomp from "./seccomp.json" with { type: "json" };

/**
 * For gVisor, which applies a profile inside its sandbox if it is told to (--oci-seccomp): there a
 * refused call is EPERM whatever errno the rule names, and glibc makes no threads without ENOSYS from
 * clone3 (tried with 20221219 and 20240729). What is made by it is of gVisor's own kernel.
 */
const gvisorSeccomp = {
  ...seccomp,
  syscalls: seccomp.syscalls.map((rule) =>
    rule.names.includes("clone3") ? { names: ["clone3"], action: "SCMP_ACT_ALLOW" } : rule
  ),
};

/** Labels by which DTMA knows what is its own. Never put a secret in one. */
export const Label = {
  toolbox: "dev.mooring.toolbox",
  server: "dev.mooring.server",
  generation: "dev.mooring.generation",
  /** HMAC of everything the container was made from: see {@link specHash}. */
  spec: "dev.mooring.spec",
  image: "dev.mooring.image",
  /** Whose instance a container is: an agent's id; not there on the shared one. */
  instance: "dev.mooring.instance",
  /** What a server calls a volume of its own. */
  volume: "dev.mooring.volume",
  /** The runtime of a container that is in a sandbox; not there on others. */
  runtime: "dev.mooring.runtime",
  /** Of a server over HTTP: its transport, as JSON; not there on one on stdio. */
  transport: "dev.mooring.transport",
  /** Of the adapter beside a server over HTTP: the name of the server's container. */
  adapter: "dev.mooring.adapter",
} as const;

/** In every image that Mooring builds: takes secrets from stdin, then becomes the server. */
const LAUNCHER = "/mooring/launch";

const MIB = 1024 * 1024;

/** The limits and refusals, as the docs and the server's page state them. */
export const POLICY = {
  user: "65532:65532",
  cpus: 1,
  pids: 128,
  openFiles: 1024,
  writable: { "/tmp": 64 * MIB, "/work": 64 * MIB },
  /**
   * Whatever image a server comes in. .NET's debugger makes its pipes by mknod, which the seccomp
   * profile refuses: .NET 3.1 then does not start (CoreCLR's 0x80004005), later ones go without.
   * COMPlus_ is the name before .NET 6. Here and not in images, because a .NET program may come in
   * an npm package or another's image too.
   */
  environment: { HOME: "/tmp", DOTNET_EnableDiagnostics: "0", COMPlus_EnableDiagnostics: "0" },
} as const;

/** Of each directory that another's image calls a volume, in bytes. */
const IMAGE_VOLUME = 64 * MIB;

export interface ContainerContext {
  toolboxId: string;
  image: BuiltImage;
  specHash: string;
  /** Whose instance it is; null of the shared one. */
  instance: string | null;
  /** The way out, for a server that declares hosts. */
  route: EgressRoute | null;
  /** What gives it a kernel of its own; null: it is on the host's. */
  sandbox: Sandbox | null;
}

/**
 * What a container is called. It carries the generation and the instance, so that the engine itself
 * refuses a second one of the same, and the next generation can start beside the one before.
 */
export function containerName(
  { serverId, generation }: Pick<ServerSpec, "serverId" | "generation">,
  instance: string | null = null,
): string {
  return `mooring-${serverId}-${generation}${instance === null ? "" : `-${instance}`}`;
}

/**
 * What a server's container was called when it was made, by its labels: its network is still called so,
 * whatever somebody renamed the container to.
 */
export function givenName({ Labels }: { Labels: Record<string, string> }): string {
  const { [Label.server]: serverId, [Label.generation]: generation } = Labels;
  return containerName(
    { serverId, generation: Number(generation) },
    Labels[Label.instance] ?? null,
  );
}

/** What the adapter beside a server's container is called. */
export function adapterName(container: string): string {
  return `${container}-adapter`;
}

/** The volume of a server, which all of its generations and instances share. */
export function volumeName(serverId: string, name: string): string {
  return `mooring-${serverId}-${name}`;
}

/** The labels of everything that belongs to one server. */
export function ownLabels(toolboxId: string, serverId: string): Record<string, string> {
  return { [Label.toolbox]: toolboxId, [Label.server]: serverId };
}

/** The Engine API's `POST /containers/create` body for a server. */
export function containerConfig(spec: ServerSpec, context: ContainerContext) {
  const { image, instance, route, sandbox } = context;
  const profile = sandbox?.kind === "gvisor" ? gvisorSeccomp : seccomp;
  const memoryBytes = spec.memoryMiB * MIB;
  const kept = new Set(spec.volumes.map(({ path }) => resolve(path)));
  const tmpfs = {
    // The engine would make them on the host's disk: without a bound, and with what is in them executable.
    ...Object.fromEntries(
      (image.volumes ?? []).filter((path) => !kept.has(path)).map((path) => [path, IMAGE_VOLUME]),
    ),
    ...POLICY.writable,
    ...(hasSecretFiles(spec) ? { "/run/secrets": MIB } : {}),
  };
  // With the launcher secrets come over stdin (see launchText), and `docker inspect` shows none.
  const environment = {
    ...POLICY.environment,
    ...spec.environment,
    ...(image.hasLauncher ? {} : spec.secrets),
  };
  return {
    // By id: a tag could be moved to another image.
    Image: image.id,
    Labels: {
      ...ownLabels(context.toolboxId, spec.serverId),
      [Label.generation]: String(spec.generation),
      [Label.spec]: context.specHash,
      ...(instance !== null && { [Label.instance]: instance }),
      ...(sandbox && { [Label.runtime]: sandbox.runtime }),
      ...(spec.transport.type !== "stdio" && {
        [Label.transport]: JSON.stringify(spec.transport),
      }),
    },
    User: POLICY.user,
    // An entrypoint of our own: the image's may be an init (tini), and HostConfig.Init brings one.
    Entrypoint: image.hasLauncher ? [LAUNCHER, ...image.command] : image.command,
    Cmd: spec.arguments,
    Env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    WorkingDir: image.workingDirectory ?? "/work",
    OpenStdin: true,
    // With StdinOnce a server would get EOF, and end, when DTMA restarts.
    StdinOnce: false,
    Tty: false,
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    HostConfig: {
      NetworkMode: route?.network ?? "none",
      // Docker's own name server on the network passes what it does not know to this one alone.
      ...(route && { Dns: [route.proxyAddress], DnsSearch: ["."] }),
      ...(sandbox && { Runtime: sandbox.runtime }),
      ...(sandbox && route && { ExtraHosts: knownHosts(spec.network.hosts, route.proxyAddress) }),
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges", `seccomp=${JSON.stringify(profile)}`],
      ReadonlyRootfs: true,
      Tmpfs: Object.fromEntries(
        Object.entries(tmpfs).map(([path, bytes]) => [
          path,
          `rw,noexec,nosuid,nodev,size=${bytes},uid=65532,gid=65532,mode=0700`,
        ]),
      ),
      Mounts: spec.volumes.map(({ name, path }) => ({
        Type: "volume",
        Source: volumeName(spec.serverId, name),
        Target: path,
        // Else the engine copies what the image has there into an empty volume, with its owners.
        VolumeOptions: { NoCopy: true },
      })),
      PidsLimit: POLICY.pids,
      Memory: memoryBytes,
      // The sum of memory and swap: equal means no swap.
      MemorySwap: memoryBytes,
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

/** What the adapter may take: a Node process and the messages that it passes on. */
const ADAPTER_MEMORY_MIB = 128;

/**
 * The create body of the adapter beside a server over HTTP: the same policy, but that it shares the
 * network of the server's container, and nothing else of it. So it reaches the server's port on the
 * loopback address, no port is published, and what either may reach is as it was for the server alone.
 *
 * @param server the container of the server, which has to run
 */
export function adapterConfig(
  server: { id: string; name: string; serverId: string },
  { toolboxId, image, transport }: {
    toolboxId: string;
    image: BuiltImage;
    transport: HttpTransport;
  },
) {
  const { serverId, id, name } = server;
  const body = containerConfig({
    serverId,
    generation: 1,
    name: "adapter",
    running: true,
    package: { registry: "remote", url: endpointOf(transport) },
    arguments: [transport.type],
    environment: {},
    secrets: {},
    secretFiles: {},
    network: { hosts: [] },
    volumes: [],
    memoryMiB: ADAPTER_MEMORY_MIB,
    instances: "shared",
    idleStopS: null,
    restart: 0,
    tier: "standard",
    transport: STDIO,
  }, { toolboxId, image, specHash: "", instance: null, route: null, sandbox: null });
  return {
    ...body,
    Labels: { ...ownLabels(toolboxId, serverId), [Label.adapter]: name },
    HostConfig: { ...body.HostConfig, NetworkMode: `container:${id}` },
  };
}

/**
 * Where a server over HTTP is for its adapter. By name: servers that guard against DNS rebinding know
 * `localhost`, and it is tried at 127.0.0.1 and at ::1.
 */
export function endpointOf({ port, path }: HttpTransport): string {
  return `http://localhost:${port}${path}`;
}

/**
 * What the launcher in an image (images/launch.sh) reads from stdin before it becomes the server:
 * its secrets, a line each, and `run`.
 */
export function launchText(spec: ServerSpec): string {
  const lines = (kind: string, values: Record<string, string>) =>
    Object.entries(values).map(([name, value]) =>
      `${kind} ${name} ${new TextEncoder().encode(value).toBase64()}\n`
    ).join("");
  return `${lines("env", spec.secrets)}${lines("file", spec.secretFiles)}run\n`;
}

/**
 * Docker's own name server answers at 127.0.0.11 by rules of the host's kernel, which a sandbox's own
 * network stack does not have: there a server knows the hosts that it declares from /etc/hosts.
 */
function knownHosts(hosts: string[], address: string): string[] {
  const names = hosts.map((host) => host.slice(0, host.lastIndexOf(":")));
  return [...new Set(names)].filter((name) => !/^[\d.]+$/.test(name)).sort()
    .map((name) => `${name}:${address}`);
}

function hasSecretFiles(spec: ServerSpec): boolean {
  return Object.keys(spec.secretFiles).length > 0;
}

/** In place of an image, which is not of the hash. */
const NO_IMAGE: BuiltImage = { id: "", command: [], hasLauncher: true, workingDirectory: null };

/** A spec as one instance has it: an agent's may have inputs of its own, and an account. */
export function instanceSpec<T extends ServerSpec>(
  spec: T,
  key: string | null,
): T & { account?: string } {
  const own = key === null || spec.instances === "shared" ? undefined : spec.instanceInputs?.[key];
  return own ? { ...spec, ...own } : spec;
}

/**
 * What a running container is known by: HMAC-SHA-256, as hex, over all that it is made from but its
 * image, its generation and the hosts it may reach. So a change of the spec or of this policy is
 * seen; a rebuilt image, a generation that changes nothing and another allow list, which the egress
 * proxy takes over as it runs, are not (in a sandbox another list is: see {@link knownHosts}). Keyed
 * because secrets are among it, labels are not secret, and a plain hash of a short secret can be guessed.
 * Of headers only that there are some: they change as it runs, and an adapter of before knows of none; and
 * whose they are, so that nothing goes on at a remote server under another account.
 *
 * @param sandbox what the container runs in; the tier is not of the hash, only what came of it
 */
export async function specHash(
  spec: ServerSpec & { account?: string },
  key: CryptoKey,
  sandbox: Sandbox | null = null,
): Promise<string> {
  const made = containerConfig({ ...spec, generation: 1 }, {
    toolboxId: "",
    image: NO_IMAGE,
    specHash: "",
    instance: null,
    route: spec.network.hosts.length > 0 ? { network: "", proxyAddress: "" } : null,
    sandbox,
  });
  const { package: from, secrets, secretFiles, restart, instances, headers, transport } = spec;
  const account = spec.account === undefined ? {} : { account: spec.account };
  const hasHeaders = headers ? { hasHeaders: true } : {};
  const adapter = transport.type === "stdio" ? {} : {
    adapter: adapterConfig({ id: "", name: "", serverId: spec.serverId }, {
      toolboxId: "",
      image: NO_IMAGE,
      transport,
    }),
  };
  const body = canonicalize({
    ...{ from, made, secrets, secretFiles, restart, instances },
    ...hasHeaders,
    ...account,
    ...adapter,
  });
  const mac = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(body));
  return new Uint8Array(mac).toHex();
}

/** The key of {@link specHash}, made at the first start and kept beside DTMA's other keys (0600). */
export async function loadSpecKey(dataDir: string): Promise<CryptoKey> {
  const path = `${dataDir}/spec.key`;
  const bytes = await readWhole(path) ?? await makeKey(dataDir, path);
  return crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}

/** Of two that make one at once both go on with the first. */
async function makeKey(dataDir: string, path: string): Promise<Uint8Array<ArrayBuffer>> {
  await Deno.mkdir(dataDir, { recursive: true });
  const made = `${path}.${crypto.randomUUID()}`;
  await writeWhole(made, crypto.getRandomValues(new Uint8Array(32)), { mode: 0o600 });
  try {
    await Deno.link(made, path);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    if (await readWhole(path) === null) await Deno.copyFile(made, path);
  } finally {
    await Deno.remove(made);
  }
  return await Deno.readFile(path);
}
