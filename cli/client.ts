/** The API over HTTP. */
import type { Problem } from "../routes/api/problems.ts";
import { isThisMachine } from "./settings.ts";

/** What a process ends with. */
export const Exit = {
  done: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  denied: 4,
  conflict: 5,
  unreachable: 6,
} as const;

/** What the API answers when something cannot be done. */
export class ApiError extends Error {
  override name = "ApiError";
  constructor(readonly problem: Problem) {
    super([
      problem.detail,
      ...(problem.errors ?? []).map(({ pointer, detail }) => `${pointer.slice(2)}: ${detail}`),
    ].join("\n  "));
  }

  get exitCode(): number {
    const { status } = this.problem;
    if (status === 404) return Exit.notFound;
    if (status === 401 || status === 403) return Exit.denied;
    if (status === 409 || status === 412) return Exit.conflict;
    return status >= 400 && status < 500 && status !== 429 ? Exit.usage : Exit.failed;
  }
}

/** Nothing answers at the URL, or something else does. */
export class UnreachableError extends Error {
  override name = "UnreachableError";
}

/** Tries of a request that is safe to send again. */
const TRIES = 3;
const PAUSE_MS = 500;

export class Client {
  readonly #base: string;
  readonly #token: string;

  constructor({ url, token }: { url: string; token: string }) {
    this.#base = `${url.replace(/\/+$/, "")}/api/v1`;
    this.#token = token;
    askThisMachineItself(url);
  }

  async get<T>(path: string, query: Record<string, string | number | undefined> = {}): Promise<T> {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
    return await this.#send("GET", path + (search.size > 0 ? `?${search}` : ""));
  }

  /** All parts of a list, or the first `limit` of its items. */
  async list<T>(
    path: string,
    query: Record<string, string | undefined> = {},
    limit = Infinity,
  ): Promise<T[]> {
    const items: T[] = [];
    let cursor: string | undefined;
    do {
      const part: { items: T[]; nextCursor: string | null } = await this.get(path, {
        ...query,
        limit: Math.min(limit - items.length, 200),
        cursor,
      });
      items.push(...part.items);
      cursor = part.nextCursor ?? undefined;
    } while (cursor && items.length < limit);
    return items;
  }

  /** Does something, which is not done again when no answer comes: it may have been done. */
  post<T>(path: string, body?: unknown): Promise<T> {
    return this.#send("POST", path, body);
  }

  /** Makes something: once, however often its request has to be sent. */
  create<T>(path: string, body?: unknown): Promise<T> {
    return this.#send("POST", path, body, crypto.randomUUID());
  }

  put<T>(path: string, body?: unknown): Promise<T> {
    return this.#send("PUT", path, body);
  }

  patch<T>(path: string, body?: unknown): Promise<T> {
    return this.#send("PATCH", path, body);
  }

  delete(path: string): Promise<void> {
    return this.#send("DELETE", path);
  }

  /** Any request, for who knows the API. */
  request<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.#send(method, path, body);
  }

  async #send<T>(method: string, path: string, body?: unknown, key?: string): Promise<T> {
    const request = {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: {
        authorization: `Bearer ${this.#token}`,
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(key === undefined ? {} : { "idempotency-key": key }),
      },
      // The token is for this address alone.
      redirect: "manual" as const,
    };
    const isRepeatable = key !== undefined || !["POST", "PATCH"].includes(method);
    const response = await this.#tried(path, request, isRepeatable ? TRIES : 1);
    if (response.status === 204) return undefined as T;
    const type = response.headers.get("content-type") ?? "";
    const isJson = /^application\/(problem\+)?json/.test(type);
    const answer = isJson
      ? await response.json().catch(() => {
        throw new UnreachableError(`The answer of ${this.#base} broke off`);
      })
      : await response.body?.cancel();
    // What lies before it, or another one's API, says what is wrong in JSON as well, in words of its own.
    if (!isJson || answer === null || !response.ok && typeof answer.detail !== "string") {
      throw new UnreachableError(
        `What answers at ${this.#base} is not Mooring's API (status ${response.status}): check the URL`,
      );
    }
    if (!response.ok) throw new ApiError(answer);
    return answer;
  }

  async #tried(path: string, request: RequestInit, tries: number): Promise<Response> {
    for (let tried = 1;; tried++) {
      try {
        const response = await fetch(this.#base + path, request);
        const isPassing = response.status === 429 || response.status === 503;
        if (!isPassing || tried >= tries) return response;
        await response.body?.cancel();
      } catch (error) {
        if (tried >= tries) {
          throw new UnreachableError(
            `Nothing answers at ${this.#base} (${whyOf(error as Error).slice(0, 200)})`,
          );
        }
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * tried));
    }
  }
}

/**
 * Has `fetch` pass a proxy by on the way to this machine: to the proxy the address is its own, and what goes to
 * it over http, the token too, others may read.
 */
function askThisMachineItself(address: string): void {
  const url = URL.parse(address);
  if (!url || !isThisMachine(url)) return;
  const named = Deno.env.get("NO_PROXY") ?? Deno.env.get("no_proxy");
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  Deno.env.set("NO_PROXY", named ? `${named},${host}` : host);
}

/** Deno's "fetch failed" has its reason as its cause. */
function whyOf({ message, cause }: Error): string {
  if (!(cause instanceof Error)) return message;
  return cause.message.replace(/^error sending request for url \(.*?\): /, "");
}
