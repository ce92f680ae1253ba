/**
 * Plain HTTP, which names its host in every request, and the proxy that HTTP clients know how to
 * ask. Node's own parser reads the requests and they are written anew: what reaches a host is what
 * was checked, so no second request can hide in the first.
 */
import {
  Agent,
  type AgentOptions,
  createServer,
  type IncomingMessage,
  request as ask,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import { pipeline } from "node:stream";
import { canonicalHost } from "./hosts.mts";
import { IDLE_MS, type Network, PROXY_PORT, Refused, type Shared, splice } from "./network.mts";

/** What is known of a client's stream. */
interface Context {
  network: Network;
  port: number;
  /** The host of the first request, to which a stream that knows of no proxy is held. */
  host: string | null;
  /** Inside of CONNECT: nobody to be asked for another host. */
  tunnel: boolean;
  agent: DialAgent;
}

interface Target {
  host: string;
  port: number;
  path: string;
}

/** A whole request head must have come by then. */
const HEAD_MS = 10_000;

/** Between a client and this proxy alone (RFC 9110, 7.6.1). */
const HOP_BY_HOP = new Set([
  ...["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "upgrade"],
  ...["proxy-authorization", "transfer-encoding", "expect"],
]);

/** Connections to the hosts of one client's stream, by the network's dial. */
class DialAgent extends Agent {
  readonly #network: Network;
  readonly #client: Socket;

  constructor(network: Network, client: Socket, options: AgentOptions) {
    super(options);
    this.#network = network;
    this.#client = client;
  }

  // deno-lint-ignore no-explicit-any -- Node's types leave the asynchronous form out
  override createConnection(options: any, done: any): any {
    this.#network.dial(options.host, Number(options.port), this.#client)
      .then((upstream) => done(null, upstream), (error) => done(error));
  }
}

/** @returns what takes a client's stream over */
export function httpSide(): Shared["serveHttp"] {
  const contexts = new WeakMap<object, Context>();
  const server = createServer({
    maxHeaderSize: 32 * 1024,
    requestTimeout: 0,
    keepAliveTimeout: 60_000,
    // A WebSocket is let through; h2c and others are left out of the request, which may be ignored.
    ...{ shouldUpgradeCallback: isWebSocket },
  });
  server.timeout = IDLE_MS;
  server.on("request", (request, response) => {
    const context = contexts.get(request.socket)!;
    const target = targetOf(request, context);
    if (typeof target === "string") return refuse(response, 403, target);
    forward(request, response, target, context.agent);
  });
  server.on("upgrade", (request, client: Socket, head) => {
    const context = contexts.get(client)!;
    const target = targetOf(request, context);
    if (typeof target === "string") return refuseRaw(client, 403, target);
    client.unshift(head);
    upgrade(request, client, target, context.agent);
  });
  server.on("connect", (request, client: Socket, head) => {
    client.unshift(head);
    void tunnel(request, client, contexts.get(client)!);
  });
  server.on("clientError", (_error, client) => client.destroy());
  return (client, network, port, host) => {
    const agent = new DialAgent(network, client, { keepAlive: true, maxSockets: 8 });
    contexts.set(client, { network, port, host: host ?? null, tunnel: host !== undefined, agent });
    const late = setTimeout(() => client.destroy(), HEAD_MS);
    const begun = () => clearTimeout(late);
    heads.set(client, begun);
    client.once("close", () => {
      begun();
      agent.destroy();
    });
    server.emit("connection", client);
    // It was paused to put back what was read of it.
    client.resume();
  };
}

/** What ends the wait for the first request's head. */
const heads = new WeakMap<object, () => void>();

/** Where a request goes, or why it goes nowhere. */
function targetOf(request: IncomingMessage, context: Context): Target | string {
  heads.get(request.socket)?.();
  const { network, port } = context;
  const url = request.url ?? "";
  const absolute = /^http:\/\/([^/?#]*)([/?].*)?$/i.exec(url);
  const viaProxy = port === PROXY_PORT && !context.tunnel;
  if (viaProxy && !absolute) return "Ask this proxy for http://host/path, or by CONNECT";
  if (!viaProxy && url !== "*" && !url.startsWith("/")) return "Not a path";
  const hosts = request.rawHeaders.filter((name, at) => at % 2 === 0 && /^host$/i.test(name));
  if (hosts.length > 1) return "More than one Host";
  const authority = viaProxy ? absolute![1] : request.headers.host ?? "";
  const to = splitAuthority(authority, viaProxy ? 80 : port);
  if (!to) {
    network.deny(authority, viaProxy ? 0 : port, "Not the name of a host");
    return "Not the name of a host";
  }
  if (!viaProxy) {
    if (to.port !== port) return denied(network, to.host, port, "Host names another port");
    context.host ??= to.host;
    if (to.host !== context.host) {
      return denied(network, to.host, port, "A second Host on the same connection");
    }
  }
  const path = absolute?.[2] ?? "/";
  return { ...to, path: viaProxy ? (path.startsWith("/") ? path : `/${path}`) : url };
}

function denied(network: Network, host: string, port: number, reason: string): string {
  network.deny(host, port, reason);
  return `${host}: ${reason}`;
}

function splitAuthority(text: string, defaultPort: number): { host: string; port: number } | null {
  const [, name, digits] = /^([^:@\s]+)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = canonicalHost(name ?? "");
  const port = digits === undefined ? defaultPort : Number(digits);
  return host === null || port < 1 || port > 65_535 ? null : { host, port };
}

function isWebSocket(request: IncomingMessage): boolean {
  return request.headers.upgrade?.toLowerCase() === "websocket";
}

function optionsFor(request: IncomingMessage, target: Target, agent: Agent) {
  const { host, port, path } = target;
  const headers = ["Host", port === 80 ? host : `${host}:${port}`, ...kept(request)];
  // Node frames a body that has no length, and leaves one out where a method has none.
  if (request.headers["transfer-encoding"]) headers.push("Transfer-Encoding", "chunked");
  return { host, port, path, method: request.method, headers, agent, setHost: false };
}

/**
 * Headers as they came, less those for this hop and `Host`. A length stays, whoever names it: without it the
 * body that Node has read would be written behind the request as another one, which nobody looked at.
 */
function kept({ rawHeaders, headers }: IncomingMessage): string[] {
  const named = (headers.connection ?? "").toLowerCase().split(",").map((each) => each.trim());
  const list: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at].toLowerCase();
    if (name === "host" || HOP_BY_HOP.has(name)) continue;
    if (named.includes(name) && name !== "content-length") continue;
    list.push(rawHeaders[at], rawHeaders[at + 1]);
  }
  return list;
}

function forward(
  request: IncomingMessage,
  response: ServerResponse,
  target: Target,
  agent: Agent,
): void {
  const upstream = ask(optionsFor(request, target, agent));
  upstream.on("response", (answer) => {
    response.sendDate = false;
    response.writeHead(answer.statusCode!, answer.statusMessage, kept(answer));
    pipeline(answer, response, (error) => error && request.socket.destroy());
  });
  upstream.on("error", (error) => {
    if (response.headersSent) return request.socket.destroy();
    const status = error instanceof Refused && error.denied ? 403 : 502;
    refuse(response, status, `${target.host}:${target.port}: ${error.message}`);
  });
  response.on("close", () => upstream.destroy());
  pipeline(request, upstream, () => {});
}

function upgrade(request: IncomingMessage, client: Socket, target: Target, agent: Agent): void {
  const options = optionsFor(request, target, agent);
  options.headers.push("Connection", "Upgrade", "Upgrade", "websocket");
  const upstream = ask(options);
  upstream.on("upgrade", (answer, socket: Socket, head) => {
    if (head.length > 0) socket.unshift(head);
    client.write(rawHead(answer, ["Connection", "Upgrade", "Upgrade", "websocket"]));
    splice(client, socket);
  });
  upstream.on("response", (answer) => {
    client.write(rawHead(answer, ["Connection", "close"]));
    pipeline(answer, client, () => {});
  });
  upstream.on("error", (error) => {
    refuseRaw(client, error instanceof Refused && error.denied ? 403 : 502, error.message);
  });
  client.on("close", () => upstream.destroy());
  upstream.end();
}

/** CONNECT: a stream to a host, which its TLS must name as well. */
async function tunnel(request: IncomingMessage, client: Socket, { network }: Context) {
  heads.get(client)?.();
  const to = splitAuthority(request.url ?? "", 0);
  if (!to) {
    network.deny(request.url ?? "", 0, "Not the name of a host");
    return refuseRaw(client, 403, "Not the name of a host");
  }
  try {
    const upstream = await network.dial(to.host, to.port, client);
    client.write("HTTP/1.1 200 Connection Established\r\n\r\n");
    await network.serve(client, to.port, { host: to.host, upstream });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refuseRaw(client, error.denied ? 403 : 502, `${to.host}:${to.port}: ${error.message}`);
  }
}

function rawHead(answer: IncomingMessage, more: string[]): string {
  const headers = [...kept(answer), ...more];
  let head = `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n`;
  for (let at = 0; at < headers.length; at += 2) head += `${headers[at]}: ${headers[at + 1]}\r\n`;
  return head + "\r\n";
}

/** In words, because a person looks for the reason in the server's log. */
function refuse(response: ServerResponse, status: number, reason: string): void {
  const headers = { "content-type": "text/plain; charset=utf-8", "connection": "close" };
  response.writeHead(status, headers).end(`Mooring's egress proxy: ${reason}\n`);
}

function refuseRaw(client: Socket, status: number, reason: string): void {
  const body = `Mooring's egress proxy: ${reason}\n`;
  client.end(
    `HTTP/1.1 ${status} ${status === 403 ? "Forbidden" : "Bad Gateway"}\r\nConnection: close\r\n` +
      `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `\r\n${body}`,
  );
  client.resume();
}
