/**
 * One server's network, seen from the proxy: its name server and its listeners, and every stream of
 * it. What is let through is decided by {@link Network.dial} alone.
 */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import type { Resolver } from "node:dns/promises";
import { readFileSync } from "node:fs";
import { METHODS } from "node:http";
import { type BlockList, connect, createServer, isIPv4, type Server, type Socket } from "node:net";
import { HELLO_LIMIT_BYTES, readClientHello } from "./client_hello.mts";
import type { Denials } from "./denials.mts";
import {
  CLASS_IN,
  Code,
  type Question,
  readQuery,
  Type,
  writeAnswer,
  writeError,
} from "./dns_message.mts";
import {
  canonicalHost,
  covers,
  networks,
  parseRule,
  refusal,
  type Rule,
  soleHost,
} from "./hosts.mts";

/** A server's network as DTMA describes it. */
export interface NetworkConfig {
  serverId: string;
  /** CIDR. */
  subnet: string;
  /** This proxy's address on it. */
  address: string;
  /** Rules as `hosts.mts` reads them. */
  hosts: string[];
}

/** What the networks share. */
export interface Shared {
  denials: Denials;
  resolver: Resolver;
  privateNetworks: BlockList;
  /** All networks between servers and this proxy, and its own addresses. */
  own: BlockList;
  /** Names with addresses of DTMA's configuration, which are not looked up. */
  addresses: Record<string, string[]>;
  clientCount: number;
  /**
   * Takes a client's stream over as HTTP; what was read of it is put back first.
   * @param host the only one to be asked, when it is known already
   */
  serveHttp(client: Socket, network: Network, port: number, host?: string): void;
}

/** Where a HTTP client that knows of the proxy finds it. */
export const PROXY_PORT = 3128;

const DNS_PORT = 53;

/** Streams of one server at once. */
const CLIENTS_PER_NETWORK = 256;

/** Streams of all servers: at 100 kB for one that is stalled both ways, what the memory holds. */
const CLIENTS = 1024;

/** What every server has even when others take all the rest. */
const CLIENTS_RESERVED = 8;

/** The first bytes, by which a stream says where it wants to go, must be whole by then. */
const START_MS = 10_000;

/** A client that says nothing for so long may wait for the server to speak (SSH, MySQL, SMTP). */
const SILENCE_MS = 250;

const CONNECT_MS = 10_000;

/** A stream on which nothing moves. Keep-alive probes do not count. */
export const IDLE_MS = 30 * 60_000;

/** Node's 64 KiB twice a stream is more than the proxy's memory can hold for {@link CLIENTS}. */
export const STREAM_BUFFER_BYTES = 16 * 1024;

const REQUEST_LINE_BYTES = 8 * 1024;

/** An answer of the largest size there is would be thousands of addresses. */
const ADDRESSES_TRIED = 3;

/** The stream is not let through, or its host cannot be reached. */
export class Refused extends Error {
  readonly denied: boolean;
  constructor(message: string, denied: boolean) {
    super(message);
    this.denied = denied;
  }
}

interface Flow {
  host: string;
  port: number;
  client: Socket;
  upstream: Socket;
}

export class Network {
  readonly #shared: Shared;
  #config: NetworkConfig;
  #rules: Rule[] = [];
  #subnet: BlockList;
  readonly #listeners = new Map<number, Server>();
  #nameServers: { udp: UdpSocket; tcp: Server } | null = null;
  readonly #clients = new Set<Socket>();
  readonly #flows = new Set<Flow>();

  constructor(shared: Shared, config: NetworkConfig) {
    this.#shared = shared;
    this.#config = config;
    this.#subnet = networks([config.subnet]);
  }

  get config(): NetworkConfig {
    return this.#config;
  }

  /** Opens it. @throws when the address is not this proxy's, or someone else answers on it */
  async open(): Promise<void> {
    await this.#refuseStrangers();
    this.#nameServers = await this.#serveNames();
    await this.update(this.#config);
  }

  /** Takes over other hosts, and cuts the streams to those that are no more among them. */
  async update(config: NetworkConfig): Promise<void> {
    this.#config = config;
    this.#rules = config.hosts.map(parseRule).filter((rule) => rule !== null);
    for (const { host, port, client, upstream } of this.#flows) {
      if (!this.#allows(host, port)) {
        client.destroy();
        upstream.destroy();
      }
    }
    const ports = new Set(this.#rules.map(({ port }) => port));
    // Name service stands there; a name server of the server's choice is reached by CONNECT alone.
    ports.delete(DNS_PORT);
    ports.add(PROXY_PORT);
    for (const [port, server] of this.#listeners) {
      if (!ports.has(port)) {
        server.close();
        this.#listeners.delete(port);
      }
    }
    for (const port of ports) {
      if (this.#listeners.has(port)) continue;
      this.#listeners.set(port, await this.#listen(port));
    }
  }

  close(): void {
    for (const server of this.#listeners.values()) server.close();
    this.#listeners.clear();
    this.#nameServers?.udp.close();
    this.#nameServers?.tcp.close();
    for (const client of this.#clients) client.destroy();
    for (const { upstream } of this.#flows) upstream.destroy();
  }

  /** Tells DTMA of a refusal. */
  deny(host: string, port: number, reason: string): void {
    this.#shared.denials.add(this.#config.serverId, host, port, reason);
  }

  /**
   * The one way out: a connection to a host that this network's server declared, at an address that
   * was checked. `client` ends with it when the host is not allowed any more.
   * @throws {Refused}
   */
  async dial(host: string, port: number, client: Socket): Promise<Socket> {
    const name = canonicalHost(host);
    if (name === null || !this.#allows(name, port)) {
      throw this.#refused(host, port, "Not among the hosts that the server declared");
    }
    const addresses = await this.#resolve(name);
    const reasons = new Map<string, string>();
    const usable = addresses.filter((address) => {
      const reason = refusal(address, {
        declared: isIPv4(name) &&
          this.#rules.some((rule) => rule.host === name && rule.port === port),
        privateNetworks: this.#shared.privateNetworks,
        own: this.#shared.own,
      });
      if (reason) reasons.set(address, reason);
      return reason === null;
    });
    const [wrong] = reasons;
    if (usable.length === 0) {
      if (!wrong) throw new Refused(`${name} has no address`, false);
      const what = isIPv4(name) ? "It is" : `The name leads to ${wrong[0].slice(0, 45)},`;
      throw this.#refused(name, port, `${what} ${wrong[1]}`);
    }
    let failure = "";
    for (const address of usable.slice(0, ADDRESSES_TRIED)) {
      try {
        const upstream = await connected(address, port);
        // The allow list may have changed while it was looked up and connected.
        if (client.destroyed || !this.#allows(name, port)) {
          upstream.destroy();
          throw new Refused(`${name} is not wanted any more`, false);
        }
        this.#track({ host: name, port, client, upstream });
        return upstream;
      } catch (error) {
        if (error instanceof Refused) throw error;
        failure = (error as NodeJS.ErrnoException).code ?? String(error);
      }
    }
    throw new Refused(`${name}:${port} cannot be reached (${failure})`, false);
  }

  /**
   * Lets a stream through to the host that it names itself, by TLS or HTTP, or to the only one that
   * its port leads to.
   *
   * @param tunnel where CONNECT went, which the stream must name too
   */
  async serve(
    client: Socket,
    port: number,
    tunnel?: { host: string; upstream: Socket },
  ): Promise<void> {
    // One that is an address was declared as such: names in the stream do not matter there.
    if (tunnel && isIPv4(tunnel.host)) return splice(client, tunnel.upstream);
    const sole = tunnel ? tunnel.host : soleHost(this.#rules, port);
    // What speaks TLS or HTTP by its port says its name first.
    const named = port === 443 || port === 80;
    let upstream = tunnel?.upstream ?? null;
    const start = readStart(client, sole !== null && !named);
    try {
      if (sole !== null && !named && await Promise.race([start, silence()]) === null) {
        upstream ??= await this.dial(sole, port, client);
        upstream.pipe(client);
      }
      const said = await start;
      if (said === null || said.kind === "http") {
        upstream?.unpipe(client);
        upstream?.destroy();
        if (said === null) return void client.destroy();
        // HTTP says where it goes again and again, so each request is looked at.
        return this.#shared.serveHttp(client, this, port, tunnel?.host);
      }
      const host = this.#hostOf(said, port, sole, named, tunnel !== undefined);
      upstream ??= await this.dial(host, port, client);
      splice(client, upstream);
    } catch (error) {
      upstream?.destroy();
      if (!(error instanceof Refused)) return void client.destroy();
      refuseTls(client, error.denied);
    }
  }

  /** Where a stream goes by its first bytes. */
  #hostOf(
    said: Exclude<Start, { kind: "http" }>,
    port: number,
    sole: string | null,
    named: boolean,
    tunnel: boolean,
  ): string {
    if (said.kind === "wrong") {
      throw this.#refused(sole ?? "*", port, `Not let through: ${said.reason}`);
    }
    if (said.kind === "other") {
      if (sole !== null && !named) return sole;
      const wanted = port === 443 ? "TLS" : port === 80 ? "HTTP/1" : "TLS or HTTP/1";
      throw this.#refused(
        "*",
        port,
        `The stream names no host: only ${wanted} is let through here`,
      );
    }
    if (said.serverName === null) {
      if (sole !== null) return sole;
      throw this.#refused(
        "*",
        port,
        "TLS without a server name, and the port leads to several hosts",
      );
    }
    const name = canonicalHost(said.serverName);
    const matches = name !== null && (tunnel ? name === sole : this.#allows(name, port));
    if (matches) return name;
    const reason = tunnel
      ? `TLS names another host than CONNECT did (${sole})`
      : "Not among the hosts that the server declared";
    throw this.#refused(said.serverName, port, reason);
  }

  #allows(host: string, port: number): boolean {
    return this.#rules.some((rule) => rule.port === port && covers(rule, host));
  }

  #refused(host: string, port: number, reason: string): Refused {
    this.deny(host, port, reason);
    return new Refused(reason, true);
  }

  #track(flow: Flow): void {
    this.#flows.add(flow);
    flow.upstream.once("close", () => this.#flows.delete(flow));
  }

  async #resolve(name: string): Promise<string[]> {
    if (isIPv4(name)) return [name];
    if (Object.hasOwn(this.#shared.addresses, name)) return this.#shared.addresses[name];
    try {
      return await this.#shared.resolver.resolve4(name);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new Refused(`${name} cannot be looked up (${code})`, false);
    }
  }

  #listen(port: number): Promise<Server> {
    const server = createServer({ allowHalfOpen: true, highWaterMark: STREAM_BUFFER_BYTES });
    server.on("connection", (client) => {
      if (!this.#admit(client, port)) return;
      if (port === PROXY_PORT) this.#shared.serveHttp(client, this, port);
      else void this.serve(client, port);
    });
    return listening(server, port, this.#config.address);
  }

  #admit(client: Socket, port: number): boolean {
    client.on("error", () => client.destroy());
    // Docker routes nobody else here; if it ever does, no other server goes out as this one.
    if (!isIPv4(client.remoteAddress ?? "") || !this.#subnet.check(client.remoteAddress!)) {
      client.destroy();
      return false;
    }
    const full = this.#shared.clientCount >= CLIENTS && this.#clients.size >= CLIENTS_RESERVED;
    if (full || this.#clients.size >= CLIENTS_PER_NETWORK) {
      this.deny("*", port, "Too many connections at once");
      client.resetAndDestroy();
      return false;
    }
    this.#clients.add(client);
    this.#shared.clientCount++;
    client.once("close", () => {
      this.#clients.delete(client);
      this.#shared.clientCount--;
    });
    client.setKeepAlive(true, 60_000);
    client.setNoDelay(true);
    client.setTimeout(IDLE_MS, () => client.destroy());
    return true;
  }

  async #serveNames(): Promise<{ udp: UdpSocket; tcp: Server }> {
    const { address } = this.#config;
    const udp = createSocket("udp4");
    udp.on("message", (message, from) => {
      if (!this.#subnet.check(from.address)) return;
      const answer = this.#answer(message);
      if (answer) udp.send(answer, from.port, from.address, () => {});
    });
    await new Promise<void>((resolve, reject) => {
      udp.once("error", reject);
      udp.bind(DNS_PORT, address, resolve);
    });
    udp.removeAllListeners("error").on("error", () => {});
    const tcp = createServer((client) => {
      if (this.#admit(client, DNS_PORT)) this.#serveNamesTo(client);
    });
    try {
      return { udp, tcp: await listening(tcp, DNS_PORT, address) };
    } catch (error) {
      udp.close();
      throw error;
    }
  }

  /** DNS over TCP: messages after their length. */
  #serveNamesTo(client: Socket): void {
    client.setTimeout(START_MS);
    let pending = Buffer.alloc(0);
    client.on("data", (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      while (pending.length >= 2) {
        const length = pending.readUInt16BE(0);
        // The largest question there is has 271 bytes; with EDNS options a little more.
        if (length > 2048) return client.destroy();
        if (pending.length < 2 + length) return;
        const answer = this.#answer(pending.subarray(2, 2 + length));
        pending = pending.subarray(2 + length);
        if (!answer) return client.destroy();
        const framed = Buffer.alloc(2 + answer.length);
        framed.writeUInt16BE(answer.length);
        framed.set(answer, 2);
        // A client that asks and does not read is not answered from memory without end.
        if (!client.write(framed)) return client.destroy();
      }
    });
    client.on("end", () => client.end());
  }

  /** Names are answered out of the allow list: no question is ever asked of another name server. */
  #answer(message: Uint8Array): Uint8Array | null {
    const query = readQuery(message);
    if (query === null) return null;
    if (!("name" in query)) return writeError(query);
    const host = canonicalHost(query.name);
    const known = query.class === CLASS_IN && host !== null && !isIPv4(host) &&
      this.#rules.some((rule) => covers(rule, host));
    if (!known) {
      this.#denyName(query);
      return writeAnswer(query, Code.noSuchName, []);
    }
    return writeAnswer(query, Code.noError, query.type === Type.A ? [this.#config.address] : []);
  }

  /** Reverse lookups and single labels are programs' habits, not hosts that they want to reach. */
  #denyName({ name }: Question): void {
    if (name.endsWith(".arpa") && name.length < 80 || !name.includes(".")) return;
    this.deny(name, 0, "Name not among the hosts that the server declared");
  }

  /**
   * Nobody but this proxy may be on the network before its server is: an address of the host's, or of
   * its other networks, that lies in the subnet would be answered for on it (the kernel answers ARP
   * for any of its addresses on any interface), and the server would reach the host.
   */
  async #refuseStrangers(): Promise<void> {
    const { address, subnet } = this.#config;
    const probe = createSocket("udp4");
    probe.on("error", () => {});
    try {
      await new Promise<void>((resolve, reject) => {
        probe.once("error", reject);
        probe.bind(0, address, resolve);
      });
      // The gateway's is the first address. The server has one of the others when this proxy is new
      // to a network that is in use, so they say nothing then.
      const [, prefix, first] = /^([\d.]+\.)(\d+)\//.exec(subnet)!;
      const gateway = `${prefix}${Number(first) + 1}`;
      probe.send("", 9, gateway, () => {});
      await new Promise((resolve) => setTimeout(resolve, 100));
      if (answersArp(gateway)) throw new Refused(`${gateway} is in use on this host`, false);
    } finally {
      probe.close();
    }
  }
}

/** Flags of an entry of /proc/net/arp: 0x2 is a complete one, for which somebody answered. */
function answersArp(address: string): boolean {
  return readFileSync("/proc/net/arp", "utf8").split("\n").some((line) => {
    const [ip, , flags] = line.split(/\s+/);
    return ip === address && (Number(flags) & 2) !== 0;
  });
}

type Start =
  | { kind: "tls"; serverName: string | null }
  | { kind: "http" }
  | { kind: "other" }
  | { kind: "wrong"; reason: string };

/**
 * Reads as much of a stream as says what it is, and puts it back. Null when it ends before.
 *
 * @param patient waits without end for the first byte: the other side may speak first
 */
function readStart(client: Socket, patient: boolean): Promise<Start | null> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0);
    const late = () => done(bytes.length > 0 ? { kind: "wrong", reason: "a slow start" } : null);
    let timer = patient ? null : setTimeout(late, START_MS);
    const done = (start: Start | null) => {
      if (timer) clearTimeout(timer);
      client.off("data", read).off("end", ended).off("close", ended);
      client.pause();
      if (bytes.length > 0 && !client.destroyed) client.unshift(bytes);
      resolve(start);
    };
    const ended = () => done(null);
    const read = (chunk: Buffer) => {
      timer ??= setTimeout(late, START_MS);
      bytes = Buffer.concat([bytes, chunk]);
      const start = whatIs(bytes);
      if (start) done(start);
    };
    client.on("data", read).on("end", ended).on("close", ended);
  });
}

/** What the first bytes of a stream are; null when there are too few to tell. */
export function whatIs(bytes: Buffer): Start | null {
  if (bytes[0] === 22 && (bytes.length < 2 || bytes[1] === 3)) {
    const hello = readClientHello(bytes.subarray(0, 2 * HELLO_LIMIT_BYTES));
    if (hello.kind === "incomplete") return null;
    if (hello.kind === "wrong") return hello;
    return { kind: "tls", serverName: hello.serverName };
  }
  // Servers skip blank lines before a request, so a request after some is still one.
  if (bytes[0] === 10 || bytes[0] === 13) return { kind: "wrong", reason: "a blank first line" };
  const text = bytes.subarray(0, REQUEST_LINE_BYTES).toString("latin1");
  const end = text.indexOf("\n");
  const line = end < 0 ? text : text.slice(0, end);
  // Some servers take a method in lower case for one.
  const [method] = line.toUpperCase().split(" ", 1);
  const whole = line.length > method.length;
  const known = METHODS.some((each) => whole ? each === method : each.startsWith(method));
  if (!known) return { kind: "other" };
  if (end < 0) {
    return bytes.length < REQUEST_LINE_BYTES
      ? null
      : { kind: "wrong", reason: "a long first line" };
  }
  return / HTTP\/1\.[01]\r?$/i.test(line) ? { kind: "http" } : { kind: "other" };
}

function silence(): Promise<null> {
  return new Promise((resolve) => setTimeout(() => resolve(null), SILENCE_MS).unref());
}

function listening(server: Server, port: number, address: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, address, () => {
      server.off("error", reject);
      // Too many open files: the streams that are there go on.
      server.on("error", () => {});
      resolve(server);
    });
  });
}

function connected(address: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const upstream = connect({
      ...{ host: address, port, allowHalfOpen: true, highWaterMark: STREAM_BUFFER_BYTES },
    });
    const timer = setTimeout(() => {
      upstream.destroy();
      reject(Object.assign(new Error("Timed out"), { code: "ETIMEDOUT" }));
    }, CONNECT_MS);
    upstream.once("error", reject);
    upstream.once("connect", () => {
      clearTimeout(timer);
      upstream.off("error", reject);
      upstream.on("error", () => upstream.destroy());
      upstream.setKeepAlive(true, 60_000);
      upstream.setNoDelay(true);
      upstream.setTimeout(IDLE_MS, () => upstream.destroy());
      resolve(upstream);
    });
    upstream.once("close", () => clearTimeout(timer));
  });
}

/** Both ways with back-pressure; the end of one way is passed on while the other goes on. */
export function splice(one: Socket, other: Socket): void {
  one.unpipe(other);
  other.unpipe(one);
  for (const [from, to] of [[one, other], [other, one]]) {
    const cut = () => {
      // After both ends were passed on, the other side still has to flush.
      if (!(from.readableEnded && from.writableFinished)) to.destroy();
    };
    if (from.destroyed) cut();
    else from.once("close", cut);
    from.pipe(to);
  }
}

/** A TLS client is told in its own words; others see the end. */
function refuseTls(client: Socket, denied: boolean): void {
  // Alert, fatal: access_denied, or internal_error when the host did not answer (RFC 8446, 6).
  client.end(Uint8Array.of(21, 3, 1, 0, 2, 2, denied ? 49 : 80));
  client.resume();
  setTimeout(() => client.destroy(), 1000).unref();
}
