/**
 * The way to the server of a model, which a workspace's admin names. Like all that others name it may not
 * lead to what is near the app (outside.ts); unlike there, answers are streams and may take minutes, and an
 * operator's own model may be on a private network, over http, once it is named in MODEL_PRIVATE_HOSTS.
 */
import http from "node:http";
import https from "node:https";
import { Readable } from "node:stream";
import { isPublic, OutsideError, refuseUnfit, resolved } from "./outside.ts";

export interface ModelReachOptions {
  /** `name`, `name:port` or an address of a private network that models may be at. */
  privateHosts?: string[];
  /** A proxy makes the connections (`HTTPS_PROXY`): it resolves names, and has to refuse what is private. */
  isProxied?: boolean;
}

export interface ModelReach {
  /** As the AI SDK's providers ask: no redirect is followed, since it would take the key along. */
  fetch: typeof fetch;
  /** Why a URL would not be asked, as a sentence; null: it would be. */
  refusalOf(url: URL): Promise<string | null>;
}

/** No byte for so long, and the server is given up. */
const SILENCE_MS = 5 * 60_000;

/**
 * An answer is given up at this size. Of the longest that models write it is several times the bytes (some 250 of
 * stream a token), and who reads it may hold all of it at once.
 */
const LIMIT_BYTES = 64 * 1024 * 1024;

export function openModelReach(
  { privateHosts = [], isProxied = false }: ModelReachOptions = {},
): ModelReach {
  const isNamed = ({ host, hostname }: URL) =>
    privateHosts.includes(host) || privateHosts.includes(hostname);

  /** The addresses to connect to; null where a proxy finds them. */
  async function addressesOf(url: URL) {
    if (isNamed(url)) return url.hostname.startsWith("[") ? null : await resolved(url.hostname);
    refuseUnfit(url);
    if (isProxied) return null;
    const found = await resolved(url.hostname);
    if (found.every(({ address }) => isPublic(address))) return found;
    throw new OutsideError(
      `${url.host} is a host of a private network, and is not asked. If it is meant, ` +
        `whoever runs Mooring names it in MODEL_PRIVATE_HOSTS`,
    );
  }

  return {
    async refusalOf(url) {
      try {
        await addressesOf(url);
        return null;
      } catch (error) {
        if (error instanceof OutsideError) return error.message;
        throw error;
      }
    },
    async fetch(input, init = {}) {
      const url = new URL(input instanceof Request ? input.url : input);
      const addresses = await addressesOf(url);
      if (!addresses) return bounded(url, await fetch(url, { ...init, redirect: "manual" }));
      const { promise, resolve, reject } = Promise.withResolvers<Response>();
      const { request } = url.protocol === "https:" ? https : http;
      const asking = request(url, {
        method: init.method ?? "GET",
        headers: {
          ...Object.fromEntries(new Headers(init.headers)),
          "accept-encoding": "identity",
        },
        agent: false,
        signal: init.signal ?? undefined,
        lookup: (_name, { all }, found) =>
          all ? found(null, addresses) : found(null, addresses[0].address, addresses[0].family),
      }, (answer) => {
        const said = answer.statusCode ?? 502;
        // Of another a Response throws, which here would end the process.
        const status = said < 200 || said > 599 ? 502 : said;
        const headers = new Headers();
        for (const [name, value] of Object.entries(answer.headers)) {
          if (value !== undefined) headers.set(name, String(value));
        }
        const hasBody = ![204, 205, 304].includes(status);
        const body = hasBody ? Readable.toWeb(answer) as ReadableStream<Uint8Array> : null;
        resolve(new Response(body, { status, headers }));
      });
      asking.setTimeout(
        SILENCE_MS,
        () =>
          asking.destroy(new Error(`${url.host} was silent for ${SILENCE_MS / 60_000} minutes`)),
      );
      asking.on("error", reject);
      asking.end(init.body as string | undefined);
      return bounded(url, await promise);
    },
  };
}

function bounded({ host }: URL, answer: Response): Response {
  if (!answer.body) return answer;
  let bytes = 0;
  const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      bytes += chunk.length;
      if (bytes > LIMIT_BYTES) {
        throw new OutsideError(`${host} answered with more than ${LIMIT_BYTES / 1024 ** 2} MiB`);
      }
      controller.enqueue(chunk);
    },
  });
  const { status, statusText, headers } = answer;
  return new Response(answer.body.pipeThrough(counted), { status, statusText, headers });
}
