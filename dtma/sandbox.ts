/**
 * Runtimes that give a container a kernel of its own, so that a fault of the host's is not within
 * its reach: which one an engine has, which servers run in it, and what it does otherwise than a
 * container on the host's kernel.
 */
import type { Ceiling } from "./ceiling.ts";
import { type EngineInfo, type EngineVersion, isPodman } from "./docker.ts";
import type { HostFacts, Sandbox, ServerSpec } from "./protocol.ts";
import type { Found } from "./sandboxes.ts";

type Runtime = NonNullable<EngineInfo["Runtimes"]>[string];
type ReadyEngine = Extract<HostFacts["engine"], { state: "ready" }>;

const KINDS: [Sandbox["kind"], RegExp][] = [["gvisor", /runsc|gvisor/i], ["kata", /kata/i]];

/** Programs that start a process on the host's kernel, by whatever name the engine calls them. */
const SHARES_KERNEL = /^(runc|crun|youki)$/;

export const SANDBOX_NAMES: Record<Sandbox["kind"], string> = {
  gvisor: "gVisor",
  kata: "Kata Containers",
  other: "a sandbox",
};

/** For a person: `gVisor (runsc)`. */
export function sandboxTitle({ kind, runtime }: Sandbox): string {
  return `${SANDBOX_NAMES[kind]} (${runtime})`;
}

/**
 * The runtime that sandboxes containers: the one that the host's owner names, else one that is known
 * by its name, its program or its type. Null on podman, whose Docker-compatible socket takes no
 * runtime, and which lists those that its settings know of, there or not.
 */
export function sandboxOf(
  version: EngineVersion,
  { Runtimes, DefaultRuntime }: EngineInfo,
  owner: Pick<Ceiling["sandbox"], "runtime">,
): Sandbox | null {
  if (!Runtimes || isPodman(version)) return null;
  if (owner.runtime !== undefined) {
    const named = Runtimes[owner.runtime];
    if (!named || sharesKernel(named)) return null;
    return { runtime: owner.runtime, kind: kindOf(owner.runtime, named) ?? "other" };
  }
  const known = Object.keys(Runtimes).sort().flatMap((runtime) => {
    const kind = kindOf(runtime, Runtimes[runtime]);
    return kind ? [{ runtime, kind }] : [];
  });
  return known.find(({ runtime }) => runtime === DefaultRuntime) ??
    known.find(({ kind }) => kind === "gvisor") ?? known[0] ?? null;
}

export type RuntimeFacts = Required<Pick<ReadyEngine, "runtimes" | "sandbox" | "warnings">>;

/**
 * What the toolbox's page says of the engine's runtimes.
 * @param sandbox the one of them that sandboxes servers; null while none does
 */
export function runtimeFacts(
  version: EngineVersion,
  info: EngineInfo,
  owner: Ceiling["sandbox"],
  sandbox: Sandbox | null,
): RuntimeFacts {
  const isMissing = owner.runtime !== undefined && sandboxOf(version, info, owner) === null;
  return {
    runtimes: isPodman(version)
      ? []
      : Object.entries(info.Runtimes ?? {}).slice(0, 20).map(([name, runtime]) => ({
        name: name.slice(0, 100),
        kind: sandbox?.runtime === name ? sandbox.kind : kindOf(name, runtime) ?? "shared" as const,
      })).sort((a, b) => a.name < b.name ? -1 : 1),
    sandbox: sandbox &&
      { ...sandbox, standard: owner.standard, differs: differences(sandbox, info) },
    warnings: isMissing
      ? [
        `The ceiling file names the runtime ${owner.runtime} as its sandbox, and the engine has none of that name`,
      ]
      : [],
  };
}

/** In what a server's container starts: in a sandbox, or beside the host's processes, and then why. */
export type Isolation = { sandbox: Sandbox } | { sandbox: null; why: string | null };

/** A server of tier `untrusted` that cannot be sandboxed here: why, and what a person can do. */
export class SandboxError extends Error {
  override name = "SandboxError";
  constructor(readonly reason: string, readonly nextStep: string) {
    super(reason);
  }
}

/**
 * In what a new container of a server starts. One that runs already keeps what it has, however the
 * host changes: see {@link mayKeep}.
 * @throws SandboxError for an untrusted server that would have to share the host's kernel
 */
export function isolationFor(
  { tier, network, transport }: Pick<ServerSpec, "tier" | "network" | "transport">,
  found: Found,
  owner: Ceiling["sandbox"],
): Isolation {
  const { sandbox } = found;
  if (!sandbox) {
    if (tier === "standard") return found;
    const why = found.why ??
      "the Docker Engine here has no runtime that gives it a kernel of its own";
    throw new SandboxError(
      `This toolbox refuses it: the server is untrusted, and ${why}`,
      "Install gVisor (runsc) or Kata Containers on the toolbox and register it with its Docker " +
        "Engine (runsc install -- --oci-seccomp, then systemctl reload docker), or deploy it on a " +
        "toolbox that has one.",
    );
  }
  if (tier === "standard" && !owner.standard) {
    return { sandbox: null, why: "The toolbox's owner keeps standard servers out of its sandbox" };
  }
  if (transport.type !== "stdio") {
    // Each sandbox has a network stack of its own: the loopback address of one is not the other's.
    const why = `A server in ${
      sandboxTitle(sandbox)
    } is reached on stdio alone, and it speaks HTTP`;
    if (tier === "standard") return { sandbox: null, why };
    throw new SandboxError(
      `This toolbox refuses it: the server is untrusted. ${why}`,
      "Take it on stdio, if it can be told to speak on it, or deploy it as a standard server if you " +
        "trust it so far.",
    );
  }
  const pattern = network.hosts.find((host) => host.startsWith("*"));
  if (pattern === undefined) return { sandbox };
  const why = `In ${sandboxTitle(sandbox)} hosts are known by their whole names alone, and it ` +
    `declares ${pattern}`;
  if (tier === "standard") return { sandbox: null, why };
  throw new SandboxError(
    `This toolbox refuses it: the server is untrusted. ${why}`,
    "Declare each host by its whole name instead.",
  );
}

/** Whether a container that runs in `runtime` (null: on the host's kernel) may go on as a server's. */
export function mayKeep({ tier }: Pick<ServerSpec, "tier">, runtime: string | null): boolean {
  return tier === "standard" || runtime !== null;
}

/** A sandbox by the name of its runtime, as a container's label keeps it. */
export function sandboxNamed(runtime: string): Sandbox {
  return { runtime, kind: kindOf(runtime, {}) ?? "other" };
}

function kindOf(name: string, runtime: Runtime): Sandbox["kind"] | null {
  if (sharesKernel(runtime)) return null;
  const words = [name, programOf(runtime), runtime.runtimeType ?? ""];
  return KINDS.find(([, pattern]) => words.some((word) => pattern.test(word)))?.[0] ?? null;
}

function sharesKernel(runtime: Runtime): boolean {
  return SHARES_KERNEL.test(programOf(runtime));
}

function programOf({ path = "" }: Runtime): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** What differs in a sandbox from what `policy.ts` asks for, in sentences without their full stop. */
function differences({ runtime, kind }: Sandbox, { Runtimes }: EngineInfo): string[] {
  const args = Runtimes?.[runtime]?.runtimeArgs ?? [];
  const has = (flag: string) => args.some((arg) => arg.replace(/^--?/, "") === flag);
  const names =
    "A server's hosts are written into its /etc/hosts when it starts, so another list of " +
    "hosts starts it anew, hosts with a * cannot be declared, and names that it was not allowed are " +
    "not listed as refused";
  if (kind === "kata") return [names];
  if (kind === "other") return [];
  return [
    ...(has("oci-seccomp") ? [] : [
      "The seccomp profile is not applied inside (runsc does that with --oci-seccomp): gVisor's own " +
      "kernel answers the server's system calls, and few of them reach the host's",
    ]),
    "Memory and processes are bounded for the whole sandbox: a server that uses up either is ended, and " +
    "is not refused more",
    names,
    ...(has("network=none") ? ["runsc is set to --network=none: no server reaches its hosts"] : []),
    ...(has("network=host")
      ? [
        "runsc is set to --network=host: the host's kernel answers for a server's sockets, within the " +
        "server's own network",
      ]
      : []),
  ];
}
