/** One REST API: makes the requests that calls of its tools mean, and reads what it answers. */
import { Buffer } from "node:buffer";
import type { ApiPlan, ApiTool } from "./plan.mts";
import { addCredentials, type ApiRequest, ArgumentError, requestOf } from "./request.mts";
import { type Answer, ANSWER_LIMIT_BYTES, error, resultOf } from "./result.mts";

const REDIRECT_LIMIT = 5;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/**
 * Node's fetch gives up an answer that is silent for 300 s (undici), and whoever calls a tool has a limit
 * of its own. Undici is no module of Node's: see remote_adapter/remote.mts.
 */
async function patientAgent(): Promise<object> {
  await (await fetch("data:,")).body?.cancel();
  const { [Symbol.for("undici.globalDispatcher.1")]: there } = globalThis as Record<
    symbol,
    { constructor: new (options: object) => unknown } | undefined
  >;
  return there ? { dispatcher: new there.constructor({ headersTimeout: 0, bodyTimeout: 0 }) } : {};
}

const PATIENT = await patientAgent();

export class Api {
  readonly #plan: ApiPlan;
  readonly #valueOf: (variable: string) => string | undefined;
  readonly #log: (line: string) => void;

  /**
   * @param valueOf a credential's variable
   * @param log told one line of each request: never an argument, which may be confidential
   */
  constructor(
    plan: ApiPlan,
    valueOf: (variable: string) => string | undefined,
    log: (line: string) => void,
  ) {
    this.#plan = plan;
    this.#valueOf = valueOf;
    this.#log = log;
  }

  /** Calls a tool. Never rejects. @returns its result, as JSON on one line */
  async call(
    tool: ApiTool,
    args: Record<string, unknown>,
    signal: AbortSignal,
  ): Promise<string> {
    const started = performance.now(), asked = `${tool.method} ${tool.path}`;
    try {
      const request = requestOf(this.#plan, tool, args);
      const answer = await this.#fetch(request, signal);
      this.#log(`${asked}: ${answer.status}, ${Math.round(performance.now() - started)} ms`);
      return resultOf(answer, tool);
    } catch (reason) {
      if (reason instanceof ArgumentError) return error(reason.message);
      const why = signal.aborted ? "it was cancelled" : reasonOf(reason);
      this.#log(`${asked}: ${why}`);
      return error(
        `${asked} got no answer: ${why}. Whether the API took the request is not known.`,
      );
    }
  }

  /**
   * Follows redirects as browsers do. To another origin only what reads goes on, and goes with nothing
   * but `accept`: neither credentials nor headers of arguments. The egress proxy refuses it in any case
   * until a person allows that host.
   */
  async #fetch(first: ApiRequest, signal: AbortSignal): Promise<Answer> {
    addCredentials(first, this.#plan.credentials, this.#valueOf);
    let request = first;
    for (let redirects = 0;; redirects++) {
      const { url, ...init } = request;
      const response = await fetch(url, {
        ...init,
        ...PATIENT,
        redirect: "manual",
        signal,
      } as RequestInit);
      const next = REDIRECTS.has(response.status) && redirects < REDIRECT_LIMIT
        ? redirected(request, response)
        : null;
      if (!next) return await answerOf(response);
      await response.body?.cancel();
      request = next;
    }
  }
}

/** Null: it is not followed. */
function redirected(request: ApiRequest, response: Response): ApiRequest | null {
  const location = response.headers.get("location");
  if (!location || !URL.canParse(location, request.url)) return null;
  const url = new URL(location, request.url);
  const { status } = response;
  const isReading = request.method === "GET" || request.method === "HEAD";
  const becomesGet = status === 303 && !isReading ||
    (status === 301 || status === 302) && request.method === "POST";
  const method = becomesGet ? "GET" : request.method;
  if (url.origin === request.url.origin) {
    if (!becomesGet) return { ...request, url };
    const headers = new Headers(request.headers);
    headers.delete("content-type");
    return { method, url, headers, body: undefined };
  }
  const isSafe = (isReading || becomesGet) && !url.username && !url.password &&
    (url.protocol === "https:" || url.protocol === request.url.protocol);
  if (!isSafe || !/^https?:$/.test(url.protocol)) return null;
  const accept = request.headers.get("accept") ?? "*/*";
  return { method, url, headers: new Headers({ accept }), body: undefined };
}

async function answerOf(response: Response): Promise<Answer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    length += chunk.length;
    // What was read ends the loop, and leaving the loop ends the answer.
    if (length > ANSWER_LIMIT_BYTES) break;
  }
  const { status, statusText, headers } = response;
  const isCut = length > ANSWER_LIMIT_BYTES;
  return { status, statusText, headers, body: Uint8Array.from(Buffer.concat(chunks)), isCut };
}

function reasonOf(reason: unknown): string {
  const { code } = (reason as { cause?: { code?: string } }).cause ?? {};
  const said = REASONS.find(([pattern]) => pattern.test(code ?? ""))?.[1];
  if (said) return `${said} (${code})`;
  // Not the error's own text: it may quote the URL, and a key can stand in its query.
  return code ? `the connection failed (${String(code).slice(0, 60)})` : "the connection failed";
}

const REASONS: [RegExp, string][] = [
  [/^ECONNREFUSED$/, "the host refuses the connection"],
  [/^(ENOTFOUND|EAI_AGAIN)$/, "the host's name has no address"],
  [/TIMEOUT|^ETIMEDOUT$/, "the host took too long"],
  [/^(ECONNRESET|EPIPE|UND_ERR_SOCKET)$/, "the host broke off the connection"],
  [/ALERT_INTERNAL_ERROR$/, "nothing takes connections there"],
  [/ALERT_ACCESS_DENIED$/, "the host may not be reached from this toolbox"],
  [/CERT|SELF_SIGNED|UNABLE_TO_/, "the host's certificate is not one that is trusted here"],
  [/SSL|TLS|^EPROTO$/, "the host does not speak TLS there"],
];
