/** Host names, addresses and what a server declared of them. Node runs this file as it is. */
import { BlockList, isIPv4 } from "node:net";

/** What a server may reach at a port: a name, all names under one, any host, or one address. */
export interface Rule {
  kind: "name" | "below" | "any" | "address";
  /** For `below`, with its leading dot. */
  host: string;
  port: number;
}

/**
 * A host as it is compared: lower case, without the root's dot. Null for what is neither a DNS name
 * nor a dotted IPv4 address. A last label of digits is an address to many programs (`127.1`,
 * `0x7f000001`), so only the one plain form of an address passes.
 * @see https://url.spec.whatwg.org/#ends-in-a-number-checker
 */
export function canonicalHost(text: string): string | null {
  const host = text.toLowerCase().replace(/\.$/, "");
  if (isIPv4(host)) return host;
  if (host.length > 253 || !/^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/.test(host)) return null;
  return /(^|\.)(\d+|0x[0-9a-f]*)$/.test(host) ? null : host;
}

/** `host:port`, `*.name:port` or `*:port`; null for anything else. */
export function parseRule(text: string): Rule | null {
  const [, name, digits] = /^(.+):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (!(port >= 1 && port <= 65_535)) return null;
  if (name === "*") return { kind: "any", host: "*", port };
  const below = name.startsWith("*.");
  const host = canonicalHost(below ? name.slice(2) : name);
  if (host === null || below && isIPv4(host)) return null;
  if (below) return { kind: "below", host: `.${host}`, port };
  return { kind: isIPv4(host) ? "address" : "name", host, port };
}

/** Whether a rule is for `host`, which is canonical. */
export function covers(rule: Rule, host: string): boolean {
  if (rule.kind === "any") return true;
  if (rule.kind === "below") return host.endsWith(rule.host) && !isIPv4(host);
  return rule.host === host;
}

/**
 * The one host that a port leads to when the stream names none (a database, SSH, TLS without SNI);
 * null when there are several, or a pattern.
 */
export function soleHost(rules: Rule[], port: number): string | null {
  const [rule, ...others] = rules.filter((each) => each.port === port);
  if (!rule || others.length > 0) return null;
  return rule.kind === "name" || rule.kind === "address" ? rule.host : null;
}

/** Ranges nobody on the internet has, and what is private to a site or to a cloud's own network. */
const SPECIAL: [cidr: string, what: string, kind: "never" | "local" | "private"][] = [
  // https://www.iana.org/assignments/iana-ipv4-special-registry
  ["0.0.0.0/8", "an unspecified address", "never"],
  ["127.0.0.0/8", "a loopback address", "never"],
  ["224.0.0.0/4", "a multicast address", "never"],
  ["255.255.255.255/32", "the broadcast address", "never"],
  // Clouds hand out credentials here: 169.254.169.254 (most), 100.100.100.200 (Alibaba),
  // 192.0.0.192 (Oracle), 168.63.129.16 (Azure's host, a public address by its number alone).
  ["169.254.0.0/16", "a link-local address, where clouds keep their metadata", "local"],
  ["100.100.100.200/32", "a cloud's metadata address", "local"],
  ["192.0.0.0/24", "an address for protocols' own use", "local"],
  ["168.63.129.16/32", "a cloud's host address", "local"],
  ["10.0.0.0/8", "a private address", "private"],
  ["172.16.0.0/12", "a private address", "private"],
  ["192.168.0.0/16", "a private address", "private"],
  ["100.64.0.0/10", "a carrier's private address", "private"],
  ["192.0.2.0/24", "a documentation address", "private"],
  ["192.88.99.0/24", "a reserved address", "private"],
  ["198.18.0.0/15", "a benchmarking address", "private"],
  ["198.51.100.0/24", "a documentation address", "private"],
  ["203.0.113.0/24", "a documentation address", "private"],
  ["240.0.0.0/4", "a reserved address", "private"],
];

const special = SPECIAL.map(([cidr, what, kind]) => ({ list: networks([cidr]), what, kind }));

/** A list of IPv4 ranges. @throws {TypeError} for what is not one */
export function networks(cidrs: string[]): BlockList {
  const list = new BlockList();
  for (const cidr of cidrs) {
    const [, address, bits] = /^([\d.]+)\/(\d{1,2})$/.exec(cidr) ?? [];
    if (!isIPv4(address ?? "") || Number(bits) > 32) {
      throw new TypeError(`${cidr} is not an IPv4 range, such as 10.1.0.0/16`);
    }
    list.addSubnet(address, Number(bits), "ipv4");
  }
  return list;
}

/**
 * Why an address is not connected to; null when it may be.
 *
 * @param declared the server declared this very address, which opens private ones. What no server
 *   should have for the asking, clouds' metadata, only DTMA's own configuration opens
 * @param own the networks between the servers and this proxy, and its own addresses: never opened
 */
export function refusal(
  address: string,
  { declared, privateNetworks, own }: {
    declared: boolean;
    privateNetworks: BlockList;
    own: BlockList;
  },
): string | null {
  // An IPv4-mapped address, and every other writing of one, is not IPv4's plain form.
  if (!isIPv4(address)) return "not an IPv4 address";
  if (own.check(address)) return "one of Mooring's own networks";
  const found = special.find(({ list }) => list.check(address));
  if (!found) return null;
  if (found.kind === "never") return found.what;
  if (privateNetworks.check(address)) return null;
  return declared && found.kind === "private" ? null : found.what;
}
