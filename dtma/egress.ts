/**
 * The only way out for a server: a network of its container's own, on which nothing is but the
 * container and the toolbox's egress proxy, which lets through what the server declared.
 *
 * The network is internal and its bridge has no address on the host (`inhibit_ipv4`), so that
 * nothing of the host answers on it: neither the host's listeners nor a way to other networks. With
 * two containers on it there is no third to keep apart, so containers may speak with each other
 * (`enable_icc`), which is how the server reaches the proxy. The proxy does not forward packets: it
 * ends every stream, and opens a new one to where it may go (`egress_proxy/`). TCP over IPv4 alone:
 * no UDP (HTTP/3), and hosts that have an IPv6 address only are not reached.
 *
 * Docker's embedded resolver asks `HostConfig.Dns` from inside the container, so over this network.
 * Engines 25.0.5 to 26.1.2 do not (moby/moby#47822, mended in 26.1.3): there no name resolves.
 */
import { type Docker, DockerError, EngineAbsentError, type NetworkSummary } from "./docker.ts";
import { openProxyLink, type ProxyConfig, type ProxyLink } from "./egress_link.ts";
import { ensureProxyImage } from "./egress_image.ts";
import { ImageError } from "./image_error.ts";
import type { Log } from "./log.ts";
import { Label } from "./policy.ts";
import type { Denial } from "./protocol.ts";
import seccomp from "./seccomp.json" with { type: "json" };

/** What a container's create body needs to be on its network. */
export interface EgressRoute {
  /** The network's name. */
  network: string;
  /** The proxy's address on it: the container's one name server. */
  proxyAddress: string;
}

export interface Egress {
  /**
   * Makes the network of a container with the proxy on it, or changes what may be reached over the
   * one that is there: idempotent, and without a restart of anything.
   *
   * @param container the container's name, which is its network's too
   * @param labels of the network, by which it is known as the server's
   */
  open(
    container: string,
    server: { serverId: string; hosts: string[]; labels: Record<string, string> },
  ): Promise<EgressRoute>;
  /** Removes the network; nothing when there is none. */
  close(container: string): Promise<void>;
}

export type OnDenied = (denial: Denial) => void;

export interface EgressOptions {
  docker: Docker;
  toolboxId: string;
  /** Image that the proxy's stands on: Node 24 or newer, user 65532. */
  base?: string;
  /** Called before that image is looked for: makes it, where it can be made. */
  prepareBase?: () => Promise<unknown>;
  /** Where the servers' networks lie (CIDR): nothing else on the host may use it. */
  pool?: string;
  /** Private ranges (CIDR) that servers may reach when they declare a host there. */
  privateNetworks?: string[];
  /** Hosts by name whose addresses are not looked up. */
  addresses?: Record<string, string[]>;
  onDenied: OnDenied;
  log: Log;
}

/** A toolbox's way out, and its end. */
export interface ManagedEgress extends Egress {
  /** Removes the networks of containers that are not in use, and the proxy when none is left. */
  sweep(containersInUse: string[]): Promise<void>;
  /** Lets go of the proxy, which goes on as it is. */
  detach(): Promise<void>;
}

/** No network or no proxy can be had: why, and what a person can do about it. */
export class EgressError extends Error {
  override name = "EgressError";
  constructor(readonly reason: string, readonly nextStep: string) {
    super(reason);
  }
}

/** All of the pool is used, or cannot be. */
class PoolError extends EgressError {}

/**
 * Marks what belongs to egress: on the proxy the hash of what it was made from. The proxy has the
 * toolbox's label and no server's, and is no orphan.
 */
export const EGRESS_LABEL = "dev.mooring.egress";

/** Raise when servers' networks are made in another way: those of before are made anew. */
const NETWORK_FORMAT = "1";

/** Docker's default pools end after about 30 networks; this one holds 8192 of 8 addresses. */
const DEFAULT_POOL = "10.213.0.0/16";

/**
 * So many networks of one container are tried. That the host uses a few of the pool is usual; where it, or
 * who is beside it, answers for all addresses of the pool, none can be had.
 */
const NETWORKS_TRIED = 8;

const SUBNET_BITS = 29;
const SUBNET_SIZE = 2 ** (32 - SUBNET_BITS);

const MIB = 1024 * 1024;

const RETRY_MS = 1000;
const LONGEST_RETRY_MS = 30_000;

/** The way out of one toolbox's servers. Does nothing until a server needs it. */
export function openEgress(options: EgressOptions): ManagedEgress {
  return new DockerEgress(options);
}

class DockerEgress implements ManagedEgress {
  readonly #options: EgressOptions & { base: string; pool: string };
  readonly #proxyName: string;
  /** What the proxy is to know, by container. */
  readonly #networks = new Map<string, ProxyConfig["networks"][string]>();
  /** Those of them that this DTMA opened itself; the others a DTMA before it did. */
  readonly #opened = new Set<string>();
  /** Subnets that cannot be had: the engine or the host uses them in a way that cannot be seen. */
  readonly #unusable = new Set<number>();
  /** What is about to be sent, and what was sent last. */
  #configuring: Promise<Record<string, string>> | null = null;
  #configured: Promise<unknown> = Promise.resolve();
  #link: ProxyLink | null = null;
  #proxyId = "";
  #detached = false;
  #retry: ReturnType<typeof setTimeout> | null = null;
  /** One at a time: networks are shared with the proxy, and the engine makes them one by one too. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: EgressOptions) {
    this.#options = { base: "mooring/node:24", pool: DEFAULT_POOL, ...options };
    this.#proxyName = `mooring-egress-${options.toolboxId}`;
  }

  async open(
    container: string,
    server: { serverId: string; hosts: string[]; labels: Record<string, string> },
  ): Promise<EgressRoute> {
    const tried: { subnet: string; failed: string }[] = [];
    for (let failures = 0;;) {
      try {
        const { made, subnet, address } = await this.#inTurn(() => this.#place(container, server));
        // Out of turn: networks that are made one after the other are opened together.
        const failed = (await this.#configure())[container];
        if (!failed) return { network: container, proxyAddress: address };
        await this.#inTurn(() => this.#abandon(container, subnet, made, failed));
        if (tried.push({ subnet, failed }) < NETWORKS_TRIED) continue;
        // It was not about them.
        for (const { subnet } of tried) this.#unusable.delete(range(subnet).first);
        throw this.#rangeError(tried);
      } catch (error) {
        if (error instanceof PoolError && tried.length > 0) throw this.#rangeError(tried);
        if (error instanceof EgressError || error instanceof EngineAbsentError) throw error;
        if (this.#detached || error instanceof DockerError && this.#link) throw error;
        // The proxy ended meanwhile and is made again: no fault of this server's.
        if (++failures === 3) {
          const { message } = error as Error;
          throw new EgressError(message, "Nothing to do: Mooring starts the egress proxy again.");
        }
      }
    }
  }

  close(container: string): Promise<void> {
    return this.#inTurn(async () => {
      this.#opened.delete(container);
      const known = this.#networks.delete(container);
      if (known) await this.#configureIfUp();
      if (!await this.#docker.inspectNetwork(container)) return;
      await this.#removeNetwork(container);
      await this.#removeUnneeded();
    });
  }

  sweep(containersInUse: string[]): Promise<void> {
    return this.#inTurn(async () => {
      const keep = new Set([...containersInUse, ...this.#opened]);
      for (const container of this.#networks.keys()) {
        if (!keep.has(container)) this.#networks.delete(container);
      }
      await this.#configureIfUp();
      for (const { Name, Labels } of await this.#serverNetworks()) {
        if (keep.has(Name)) continue;
        // Still in use by a container that was not named: whoever removes that one comes back.
        await this.#removeNetwork(Name).catch((error) => {
          if (!(error instanceof DockerError)) throw error;
          this.#options.log(
            "warning",
            `The network of ${Labels[Label.server]}: ${error.message}`,
          );
        });
      }
      await this.#removeUnneeded();
    });
  }

  async detach(): Promise<void> {
    this.#detached = true;
    if (this.#retry) clearTimeout(this.#retry);
    this.#link?.close();
    await this.#turn.catch(() => {});
    this.#link?.close();
  }

  get #docker(): Docker {
    return this.#options.docker;
  }

  /** The container's network with the proxy on it, which does not serve it yet. */
  async #place(
    container: string,
    { serverId, hosts, labels }: {
      serverId: string;
      hosts: string[];
      labels: Record<string, string>;
    },
  ): Promise<{ made: boolean; subnet: string; address: string }> {
    await this.#ensureProxy();
    const { subnet, made } = await this.#ensureNetwork(container, labels);
    const address = addressIn(subnet, 2);
    this.#opened.add(container);
    this.#networks.set(container, { serverId, subnet, address, hosts });
    if (made) await this.#docker.connectNetwork(container, this.#proxyId, address);
    else await this.#connectProxy(container, address);
    return { made, subnet, address };
  }

  /** Removes a network that cannot be used, so that another one is made; throws if it was not new. */
  async #abandon(container: string, subnet: string, made: boolean, reason: string): Promise<void> {
    this.#networks.delete(container);
    this.#opened.delete(container);
    if (!made) {
      throw new EgressError(
        `The server's network ${subnet} cannot be used: ${reason}`,
        "Stop the server and start it again: it gets another network.",
      );
    }
    this.#options.log("warning", `The network ${subnet} cannot be used: ${reason}`);
    this.#unusable.add(range(subnet).first);
    await this.#removeNetwork(container);
  }

  #rangeError(tried: { failed: string }[]): EgressError {
    const networks = tried.length === 1 ? "1 network" : `${tried.length} networks`;
    const { failed } = tried.at(-1)!;
    return new EgressError(
      `${networks} of ${this.#options.pool} cannot be used, the last because ${failed}`,
      "Something on this toolbox's network answers for that range. Set DTMA_SUBNETS to one that " +
        "nothing else uses.",
    );
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(() => {
      if (this.#detached) throw new DOMException("DTMA is ending", "AbortError");
      return act();
    });
    this.#turn = done.catch(() => {});
    return done;
  }

  /** The proxy runs, is spoken to, and is on every network that it is to know. */
  async #ensureProxy(): Promise<void> {
    if (this.#link) return;
    const { toolboxId, base, log, onDenied } = this.#options;
    const docker = this.#docker;
    await this.#options.prepareBase?.().catch((error) => {
      if (!(error instanceof ImageError)) throw error;
      throw new EgressError(error.reason, error.nextStep);
    });
    const image = await ensureProxyImage(docker, base);
    if (!image) {
      throw new EgressError(
        `The base image ${base} is not on this toolbox`,
        "It is made when Mooring starts: wait a minute, or run `deno task base` on the toolbox.",
      );
    }
    const body = proxyBody(image, this.#proxyName);
    const hash = await shortHash(body);
    const link = async (id: string, start: boolean) =>
      await openProxyLink(docker, id, {
        ...{ start, log },
        onDenied: (denial) => {
          // What is parsed from a hostile stream by the proxy names servers of this toolbox alone.
          const known = [...this.#networks.values()].some((each) =>
            each.serverId === denial.serverId
          );
          if (known) onDenied(denial);
        },
      });
    const present = await this.#docker.listContainers([
      `${Label.toolbox}=${toolboxId}`,
      EGRESS_LABEL,
    ]);
    let adopted: ProxyLink | null = null;
    for (const container of present) {
      const running = container.State === "running";
      const same = container.Labels[EGRESS_LABEL] === hash;
      const found = running
        ? await link(container.Id, false).catch((error) => {
          log("warning", `The egress proxy does not answer: ${error.message}`);
          return null;
        })
        : null;
      if (found) await this.#learn(found);
      if (found && same && !adopted) {
        adopted = found;
        this.#proxyId = container.Id;
        continue;
      }
      found?.close();
      await docker.removeContainer(container.Id);
    }
    if (!adopted) {
      await this.#ensureOutward();
      this.#proxyId = await docker.createContainer(this.#proxyName, {
        ...body,
        Labels: { [Label.toolbox]: toolboxId, [EGRESS_LABEL]: hash },
      });
      adopted = await link(this.#proxyId, true);
      log("info", "The egress proxy runs");
    }
    this.#watch(adopted);
    try {
      if (this.#networks.size === 0) return;
      for (const [container, { address }] of this.#networks) {
        await this.#connectProxy(container, address);
      }
      const failed = await this.#configure();
      for (const [container, reason] of Object.entries(failed)) {
        log("error", `${container} has no way out: ${reason}`);
      }
    } catch (error) {
      adopted.close();
      this.#link = null;
      throw error;
    }
  }

  /** What a proxy from before lets through, as far as the networks are still there. */
  async #learn(link: ProxyLink): Promise<void> {
    const there = new Set((await this.#serverNetworks()).map(({ Name }) => Name));
    for (const [container, network] of Object.entries(link.inForce.networks)) {
      if (there.has(container) && !this.#networks.has(container)) {
        this.#networks.set(container, network);
      }
    }
  }

  #watch(link: ProxyLink): void {
    this.#link = link;
    void link.closed.then(() => {
      if (this.#link !== link) return;
      this.#link = null;
      if (!this.#detached) this.#recover(RETRY_MS / 10);
    });
  }

  /** Without the proxy servers reach nothing at all, so it comes back by itself. */
  #recover(delayMs: number): void {
    if (this.#retry) clearTimeout(this.#retry);
    this.#retry = setTimeout(() => {
      this.#retry = null;
      this.#inTurn(async () => {
        if (this.#networks.size > 0) await this.#ensureProxy();
      }).catch((error) => {
        if (this.#detached) return;
        this.#options.log("warning", `The egress proxy is not up: ${error.message}`);
        this.#recover(Math.min(LONGEST_RETRY_MS, Math.max(RETRY_MS, 2 * delayMs)));
      });
    }, delayMs);
  }

  /** Tells the proxy all it is to know; who asks before that is sent shares the answer. */
  #configure(): Promise<Record<string, string>> {
    this.#configuring ??= this.#configured.catch(() => {}).then(async () => {
      this.#configuring = null;
      const { privateNetworks = [], addresses = {} } = this.#options;
      if (!this.#link) throw new Error("The egress proxy went away");
      return await this.#link.configure({
        ...{ privateNetworks, addresses },
        networks: Object.fromEntries(this.#networks),
      });
    });
    this.#configured = this.#configuring;
    return this.#configuring;
  }

  /** A proxy that is away is told all when it is back. */
  async #configureIfUp(): Promise<void> {
    if (this.#link) await this.#configure().catch(() => {});
  }

  async #connectProxy(network: string, address: string): Promise<void> {
    const { NetworkSettings } = await this.#docker.inspectContainer(this.#proxyId);
    const present = NetworkSettings.Networks[network];
    if (present?.IPAddress === address) return;
    if (present) await this.#docker.disconnectNetwork(network, this.#proxyId);
    await this.#docker.connectNetwork(network, this.#proxyId, address);
  }

  /** The container's network as it should be, made if it is not there. */
  async #ensureNetwork(
    container: string,
    labels: Record<string, string>,
  ): Promise<{ subnet: string; made: boolean }> {
    const docker = this.#docker;
    const present = await docker.inspectNetwork(container);
    if (present) {
      const subnet = present.IPAM.Config?.[0]?.Subnet;
      if (present.Labels[EGRESS_LABEL] === NETWORK_FORMAT && present.Internal && subnet) {
        return { subnet, made: false };
      }
      await this.#removeNetwork(container);
    }
    const used = subnetsOf(await docker.listNetworks([]));
    for (const subnet of this.#candidates(used)) {
      try {
        await docker.createNetwork(this.#networkBody(container, labels, subnet));
        return { subnet, made: true };
      } catch (error) {
        // 20.10 takes a subnet twice when it is exactly the same, and then misses the gateway.
        const taken = /overlap|address already in use/i;
        if (!(error instanceof DockerError && taken.test(error.message))) throw error;
        this.#unusable.add(range(subnet).first);
      }
    }
    // What used them may be gone by the next try.
    this.#unusable.clear();
    throw new PoolError(
      `No network is left in ${this.#options.pool} for servers that reach hosts`,
      "Stop servers that are not needed.",
    );
  }

  /** Subnets of the pool that look free. Each toolbox begins elsewhere, for two on one engine. */
  *#candidates(used: Range[]): Generator<string> {
    const { first, last } = range(this.#options.pool);
    const count = Math.floor((last - first + 1) / SUBNET_SIZE);
    const begin = parseInt(this.#options.toolboxId.replaceAll("-", "").slice(-8), 16) || 0;
    for (let step = 0; step < count; step++) {
      const start = first + (begin + step) % count * SUBNET_SIZE;
      const end = start + SUBNET_SIZE - 1;
      if (this.#unusable.has(start)) continue;
      if (used.some((each) => each.first <= end && each.last >= start)) continue;
      yield `${toAddress(start)}/${SUBNET_BITS}`;
    }
  }

  #networkBody(name: string, labels: Record<string, string>, subnet: string) {
    return {
      Name: name,
      Driver: "bridge",
      CheckDuplicate: true,
      Internal: true,
      EnableIPv6: false,
      Labels: {
        ...labels,
        [Label.toolbox]: this.#options.toolboxId,
        [EGRESS_LABEL]: NETWORK_FORMAT,
      },
      Options: {
        // An internal network's bridge has an address by which every listener of the host is
        // reached (measured with 20.10); without one nothing of the host is on the network.
        "com.docker.network.bridge.inhibit_ipv4": "true",
      },
      IPAM: {
        Driver: "default",
        Config: [{
          Subnet: subnet,
          // Nobody has it: the engine reserves one.
          Gateway: addressIn(subnet, 1),
          // The upper half for the server: the proxy's address is free when the proxy comes back.
          IPRange: `${addressIn(subnet, SUBNET_SIZE / 2)}/${SUBNET_BITS + 1}`,
        }],
      },
    };
  }

  async #removeNetwork(name: string): Promise<void> {
    await this.#docker.disconnectNetwork(name, this.#proxyName);
    await this.#docker.removeNetwork(name);
  }

  /** The proxy and its outward network go when no server's network is left. */
  async #removeUnneeded(): Promise<void> {
    if (this.#networks.size > 0 || (await this.#serverNetworks()).length > 0) return;
    const link = this.#link;
    this.#link = null;
    link?.close();
    const { toolboxId } = this.#options;
    const label = [`${Label.toolbox}=${toolboxId}`, EGRESS_LABEL];
    for (const { Id } of await this.#docker.listContainers(label)) {
      await this.#docker.removeContainer(Id);
    }
    await this.#docker.removeNetwork(this.#proxyName);
  }

  /** Networks between a server and the proxy: all of egress but the outward one. */
  async #serverNetworks(): Promise<NetworkSummary[]> {
    const label = [`${Label.toolbox}=${this.#options.toolboxId}`, EGRESS_LABEL];
    const all = await this.#docker.listNetworks(label);
    return all.filter(({ Name }) => Name !== this.#proxyName);
  }

  async #ensureOutward(): Promise<void> {
    if (await this.#docker.inspectNetwork(this.#proxyName)) return;
    const body = {
      Name: this.#proxyName,
      Driver: "bridge",
      CheckDuplicate: true,
      EnableIPv6: false,
      Labels: { [Label.toolbox]: this.#options.toolboxId, [EGRESS_LABEL]: NETWORK_FORMAT },
      Options: { "com.docker.network.bridge.enable_icc": "false" },
    };
    try {
      // Of the engine's default pools, in which it leaves out what the host has routes for.
      await this.#docker.createNetwork(body);
    } catch (error) {
      if (!(error instanceof DockerError && /pool|subnet/i.test(error.message))) throw error;
      const used = subnetsOf(await this.#docker.listNetworks([]));
      const [subnet] = this.#candidates(used);
      await this.#docker.createNetwork({ ...body, IPAM: { Config: [{ Subnet: subnet }] } });
    }
  }
}

/** The proxy's create body, less the labels: what its hash is over. */
function proxyBody(image: string, network: string) {
  return {
    Image: image,
    Hostname: "egress",
    User: "65532:65532",
    // A heap that leaves room for the streams' buffers, which are outside of it.
    Env: ["NODE_OPTIONS=--max-old-space-size=96"],
    OpenStdin: true,
    // With StdinOnce it would get EOF when DTMA restarts.
    StdinOnce: false,
    Tty: false,
    HostConfig: {
      NetworkMode: network,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges", `seccomp=${JSON.stringify(seccomp)}`],
      ReadonlyRootfs: true,
      // 1024 streams at 100 kB each when all stall, and Node.
      Memory: 256 * MIB,
      MemorySwap: 256 * MIB,
      NanoCpus: 1e9,
      PidsLimit: 32,
      Ulimits: [
        // Open files as many as the engine's own: a daemon without CAP_SYS_RESOURCE cannot raise them.
        { Name: "core", Soft: 0, Hard: 0 },
      ],
      Sysctls: {
        // Names and HTTPS are served by a user without capabilities.
        "net.ipv4.ip_unprivileged_port_start": "0",
        // Docker sets it on the host, and containers inherit it: servers' packages end here.
        "net.ipv4.ip_forward": "0",
      },
      IpcMode: "private",
      CgroupnsMode: "private",
      Init: true,
      Privileged: false,
      PublishAllPorts: false,
      LogConfig: { Type: "none" },
      RestartPolicy: { Name: "no" },
    },
  };
}

interface Range {
  first: number;
  last: number;
}

/** @throws {TypeError} for what is no IPv4 range */
function range(cidr: string): Range {
  const [, address, bits] = /^(\d+\.\d+\.\d+\.\d+)\/(\d{1,2})$/.exec(cidr) ?? [];
  if (!address || Number(bits) > 32) throw new TypeError(`${cidr} is not an IPv4 range`);
  const size = 2 ** (32 - Number(bits));
  const first = Math.floor(toNumber(address) / size) * size;
  return { first, last: first + size - 1 };
}

function subnetsOf(networks: NetworkSummary[]): Range[] {
  return networks.flatMap(({ IPAM }) => IPAM.Config ?? [])
    .filter(({ Subnet }) => /^[\d.]+\/\d+$/.test(Subnet ?? ""))
    .map(({ Subnet }) => range(Subnet!));
}

function addressIn(subnet: string, offset: number): string {
  return toAddress(range(subnet).first + offset);
}

function toNumber(address: string): number {
  return address.split(".").reduce((value, byte) => value * 256 + Number(byte), 0);
}

function toAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".");
}

async function shortHash(value: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 32);
}
