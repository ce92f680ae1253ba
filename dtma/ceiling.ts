/**
 * The toolbox's own limits, in a file of its host: what no app can ask past, so that a control plane
 * that was taken over does not own the host. A person who runs the toolbox writes it.
 */
import { z } from "zod";
import type { ServerSpec } from "./protocol.ts";

const Limits = z.strictObject({
  /** Memory that one server may ask for. */
  maxMemoryMiB: z.int().min(64).default(4096),
  /** Servers may keep data in volumes. */
  volumes: z.boolean().default(true),
  /** Hosts that servers may be allowed to reach, `host:port`; `*` stands for any host or any port. */
  network: z.array(z.string().regex(/^(\*|(\*\.)?[a-z0-9.-]+):(\*|\d{1,5})$/)).default(["*:*"]),
  /** Where servers may come from: npm, pypi, nuget, oci, source; remote: they run elsewhere; openapi: REST APIs. */
  registries: z.array(z.string().max(20))
    .default(["npm", "pypi", "nuget", "oci", "source", "remote", "openapi"]),
  /** Packages may run scripts when they are installed. */
  installScripts: z.boolean().default(true),
  /** Servers in a sandbox with a kernel of its own (sandbox.ts). */
  sandbox: z.strictObject({
    /** The engine's runtime that is the sandbox; without it one that is known by its name. */
    runtime: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/).optional(),
    /** Servers of tier `standard` run in it too, not those of tier `untrusted` alone. */
    standard: z.boolean().default(true),
  }).prefault({}),
});
type Limits = z.infer<typeof Limits>;

export class Ceiling {
  readonly #limits: Limits;

  private constructor(limits: Limits) {
    this.#limits = limits;
  }

  /**
   * @param text of the file, as JSON; null for the limits of a host that has none
   * @throws {TypeError} with a line for each mistake
   */
  static read(text: string | null): Ceiling {
    let given: unknown;
    try {
      given = text === null ? {} : JSON.parse(text);
    } catch (error) {
      throw new TypeError(`The ceiling file is not JSON: ${(error as Error).message}`);
    }
    const parsed = Limits.safeParse(given);
    if (parsed.success) return new Ceiling(parsed.data);
    const mistakes = parsed.error.issues.map(({ path, message }) =>
      `  ${path.map(String).join(".") || "the file"}: ${message}`
    );
    throw new TypeError(`The ceiling file is wrong:\n${mistakes.join("\n")}`);
  }

  /** What the host's owner says of its sandbox. */
  get sandbox(): Limits["sandbox"] {
    return this.#limits.sandbox;
  }

  /** Why a spec is over the ceiling, for a person; null when it is not. */
  refuses(spec: ServerSpec): string | null {
    const limits = this.#limits;
    if (spec.memoryMiB > limits.maxMemoryMiB) {
      return `${spec.memoryMiB} MiB of memory are over its limit of ${limits.maxMemoryMiB} MiB`;
    }
    if (spec.volumes.length > 0 && !limits.volumes) return "it allows no volumes";
    const { registry } = spec.package;
    if (!limits.registries.includes(registry)) return `it takes no packages from ${registry}`;
    if ("installScripts" in spec.package && spec.package.installScripts && !limits.installScripts) {
      return "it lets no package run scripts when it is installed";
    }
    const refused = spec.network.hosts.find((host) =>
      !limits.network.some((pattern) => covers(pattern, host))
    );
    return refused === undefined ? null : `it lets no server reach ${refused}`;
  }
}

function covers(pattern: string, hostPort: string): boolean {
  const [host, port] = split(hostPort);
  const [wantedHost, wantedPort] = split(pattern);
  if (wantedPort !== "*" && wantedPort !== port) return false;
  if (wantedHost === "*") return true;
  return wantedHost.startsWith("*.") ? host.endsWith(wantedHost.slice(1)) : host === wantedHost;
}

function split(hostPort: string): [host: string, port: string] {
  const colon = hostPort.lastIndexOf(":");
  return [hostPort.slice(0, colon), hostPort.slice(colon + 1)];
}
