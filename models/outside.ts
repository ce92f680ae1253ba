/**
 * HTTPS requests to hosts that other people's servers name: an MCP server says who signs people in to
 * it, and that one says where to ask for tokens. None of them may point the app at what is near it
 * (SSRF; 2026-07-28, security_best_practices#server-side-request-forgery-ssrf).
 *
 * A name is resolved here, its addresses are looked at, and the connection goes to those and no others:
 * a name that answers differently the second time (DNS rebinding) gains nothing.
 */
import { lookup } from "node:dns/promises";
import https from "node:https";

export interface OutsideOptions {
  /** Names that may be of a private network, such as a company's own authorization server. */
  privateHosts?: string[];
  /** A proxy makes the connections (`HTTPS_PROXY`): it resolves names, and has to refuse what is private. */
  isProxied?: boolean;
  /** Names with addresses of their own, in place of the resolver's. */
  addresses?: Record<string, string[]>;
  /** Certificates to trust besides, in PEM. */
  ca?: string;
}

/** What `fetch` is of it; answers are read whole, and are small unless more is asked for. */
export type Outside = (url: string | URL, init?: OutsideRequest) => Promise<Response>;

export interface OutsideRequest {
  method?: string;
  headers?: HeadersInit;
  // deno-lint-ignore no-explicit-any -- oauth4webapi's own type: text or URLSearchParams
  body?: any;
  /** Longest answer, 256 KiB unless said, and longest time with all redirects, 10 s unless said. */
  limitBytes?: number;
  timeoutMs?: number;
  /** False: a GET's redirect is the answer, too. */
  followsRedirects?: boolean;
}

/** Why a host was not asked, or gave no answer: for a person. */
export class OutsideError extends Error {
  override name = "OutsideError";
}

const ANSWER_LIMIT_BYTES = 256 * 1024;
const TIMEOUT_MS = 10_000;
const REDIRECT_LIMIT = 3;

/** Opens the way out; see the top of this file. It follows three redirects of a GET, and none of a POST. */
export function openOutside(options: OutsideOptions = {}): Outside {
  return async (address, { method = "GET", headers, body, ...limits } = {}) => {
    const { limitBytes = ANSWER_LIMIT_BYTES, timeoutMs = TIMEOUT_MS } = limits;
    const follows = method === "GET" && limits.followsRedirects !== false;
    const signal = AbortSignal.timeout(timeoutMs);
    let url = new URL(address);
    for (let redirects = 0;; redirects++) {
      refuseUnfit(url);
      const request = {
        method,
        headers: new Headers(headers),
        body: textOf(body),
        limitBytes,
        signal,
      };
      const response = await (options.isProxied ? proxied : direct)(url, request, options)
        .catch((error) => {
          if (error instanceof OutsideError) throw error;
          const why = signal.aborted ? `took longer than ${timeoutMs / 1000} s` : reasonOf(error);
          throw new OutsideError(`${url.host} does not answer: ${why}`);
        });
      const location = response.headers.get("location");
      const isRedirect = [301, 302, 303, 307, 308].includes(response.status) && location !== null;
      if (!isRedirect || !follows) return response;
      if (redirects === REDIRECT_LIMIT || !URL.canParse(location, url)) {
        throw new OutsideError(`${url.host} redirects too often, or nowhere`);
      }
      url = new URL(location, url);
    }
  };
}

/** @throws {OutsideError} for a URL that is asked in no case */
export function refuseUnfit({ protocol, hostname, username, password }: URL): void {
  if (protocol !== "https:") throw new OutsideError(`${hostname} is not asked without https`);
  // URL writes every form of an IPv4 address (0x7f.1, 2130706433) as four numbers.
  if (/^[\d.]+$/.test(hostname) || hostname.startsWith("[")) {
    throw new OutsideError(`${hostname} is an address, not a name, and is not asked`);
  }
  if (username || password) {
    throw new OutsideError(`${hostname} is not asked with a password in a URL`);
  }
}

interface Request {
  method: string;
  headers: Headers;
  body: string | undefined;
  limitBytes: number;
  signal: AbortSignal;
}

type Answer = [status: number, headers: [string, string][], chunks: Uint8Array[]];

async function direct(
  url: URL,
  { method, headers, body, limitBytes, signal }: Request,
  options: OutsideOptions,
): Promise<Response> {
  const addresses = await addressesOf(url.hostname, options);
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const request = https.request(url, {
    method,
    headers: { ...Object.fromEntries(headers), "accept-encoding": "identity" },
    ca: options.ca,
    agent: false,
    signal,
    lookup: (_name, { all }, found) =>
      all ? found(null, addresses) : found(null, addresses[0].address, addresses[0].family),
  }, (answer) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    answer.on("data", (chunk: Uint8Array) => {
      length += chunk.length;
      if (length <= limitBytes) return void chunks.push(chunk);
      reject(
        new OutsideError(`${url.host} answers with more than ${limitBytes / 1024} KiB`),
      );
      request.destroy();
    });
    answer.on("error", reject);
    const { statusCode, rawHeaders } = answer;
    answer.on("end", () => resolve([statusCode!, pairsOf(rawHeaders), chunks]));
  });
  request.on("error", reject);
  request.end(body);
  // Not in the event above: what throws there ends the process.
  return answered(...await promise);
}

/** A name's addresses. @throws {OutsideError} it has none */
export async function resolved(name: string, addresses: Record<string, string[]> = {}) {
  const found =
    addresses[name]?.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })) ??
      await lookup(name, { all: true }).catch(() => []);
  if (found.length === 0) throw new OutsideError(`${name} has no address: is it written right?`);
  return found;
}

async function addressesOf(name: string, { addresses, privateHosts = [] }: OutsideOptions) {
  const found = await resolved(name, addresses);
  if (!privateHosts.includes(name) && !found.every(({ address }) => isPublic(address))) {
    throw new OutsideError(
      `${name} is a host of a private network, and is not asked. If it is meant, name it in OAUTH_PRIVATE_HOSTS`,
    );
  }
  return found;
}

async function proxied(
  url: URL,
  { method, headers, body, limitBytes, signal }: Request,
): Promise<Response> {
  const answer = await fetch(url, { method, headers, body, signal, redirect: "manual" });
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of answer.body ?? []) {
    length += chunk.length;
    if (length > limitBytes) {
      throw new OutsideError(`${url.host} answers with more than ${limitBytes / 1024} KiB`);
    }
    chunks.push(chunk);
  }
  return answered(answer.status, [...answer.headers], chunks);
}

function answered(...[status, headers, chunks]: Answer): Response {
  if (status < 200 || status > 599) throw new TypeError(`${status} is no status of an answer`);
  const hasBody = ![204, 205, 304].includes(status);
  return new Response(hasBody ? new Blob(chunks as BlobPart[]) : null, { status, headers });
}

function pairsOf(raw: string[]): [string, string][] {
  return raw.flatMap((name, index) =>
    index % 2 === 0 ? [[name, raw[index + 1]] as [string, string]] : []
  );
}

function textOf(body: unknown): string | undefined {
  return body === undefined || body === null ? undefined : String(body);
}

function reasonOf(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  return (code ?? message ?? "for no known reason").slice(0, 200);
}

/** IPv4 blocks that are nobody's on the internet (RFC 6890, RFC 5771), as [first address, bits]. */
const NOT_PUBLIC: [string, number][] = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 3],
];

/** Whether an address is one of the internet's; what it cannot read is not. */
export function isPublic(address: string): boolean {
  if (!address.includes(":")) {
    const number = ipv4(address);
    return number !== null && NOT_PUBLIC.every(([first, bits]) => {
      const span = 2 ** (32 - bits);
      return Math.floor(number / span) !== Math.floor(ipv4(first)! / span);
    });
  }
  // Global unicast is 2000::/3; not 2001::/23 (Teredo and others), 2001:db8::/32, 2002::/16 (6to4).
  const [first, second = ""] = address.toLowerCase().split(":");
  const [high, low] = [parseInt(first, 16), parseInt(second || "0", 16)];
  if (!(high >= 0x2000 && high <= 0x3fff) || high === 0x2002) return false;
  return high !== 0x2001 || (low >= 0x200 && low !== 0xdb8);
}

function ipv4(text: string): number | null {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (!parts || parts.some((part) => part > 255)) return null;
  return parts.reduce((number, part) => number * 256 + part, 0);
}
