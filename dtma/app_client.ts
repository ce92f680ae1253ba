/** DTMA's requests to the app: signed JSON over HTTPS, bounded in time and in size. */
import { signRequest } from "./signature.ts";

/** The app, or something before it, answered with another status than 2xx. */
export class AppError extends Error {
  override name = "AppError";
  constructor(
    readonly status: number,
    readonly said: string,
    /** It came in the app's own form, `{"error": "..."}`: no proxy's page speaks for the app. */
    readonly isFromApp: boolean,
  ) {
    super(`The app answered ${status}${said && `: ${said}`}`);
  }

  /** The app does not know this toolbox (any more): asking again will not help. */
  get isRefusal(): boolean {
    return this.isFromApp && (this.status === 401 || this.status === 403) &&
      /revoked|key is not known/i.test(this.said);
  }
}

export interface PostOptions {
  /** Whose signature the request bears; without it none (enrolment). */
  key?: { keyId: string; privateKey: string };
  signal?: AbortSignal;
  timeoutMs: number;
  /** Largest answer that is read, in bytes. */
  limitBytes: number;
}

const ENCODER = new TextEncoder();

/**
 * The app at its base URL, which may have a path (an Edge Function's). Deno itself trusts the
 * certificates that NODE_EXTRA_CA_CERTS names.
 */
export class AppClient {
  readonly #base: string;
  readonly #onDate: (date: string | null) => void;

  /** @param onDate told the `Date` header of each answer, refusals too */
  constructor(baseUrl: string, onDate: (date: string | null) => void = () => {}) {
    this.#base = baseUrl.replace(/\/+$/, "");
    this.#onDate = onDate;
  }

  /**
   * @returns the answer's JSON, not validated
   * @throws {AppError} when the app refuses
   * @throws {TypeError} when it cannot be reached, or does not answer in JSON
   * @throws {RangeError} when the answer is too large
   * @throws {DOMException} TimeoutError, or the signal's reason
   */
  async post(path: string, value: unknown, options: PostOptions): Promise<unknown> {
    const url = this.#base + path;
    const body = ENCODER.encode(JSON.stringify(value));
    const signed = options.key && signRequest({ method: "POST", url, body }, options.key);
    const late = new AbortController();
    const timer = setTimeout(() => {
      late.abort(new DOMException(`No answer from ${url} in time`, "TimeoutError"));
    }, options.timeoutMs);
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json", ...signed },
        body,
        // What is signed is for this app and no other place.
        redirect: "manual",
        signal: options.signal ? AbortSignal.any([options.signal, late.signal]) : late.signal,
      });
      this.#onDate(response.headers.get("date"));
      const text = await boundedText(response, options.limitBytes);
      if (response.status >= 300 && response.status < 400) {
        const target = response.headers.get("location") ?? "";
        throw new AppError(response.status, `it redirects to ${target.slice(0, 200)}`, false);
      }
      if (!response.ok) throw appError(response.status, text);
      try {
        return JSON.parse(text);
      } catch {
        throw new TypeError(`${url} did not answer in JSON; is it a Mooring app?`);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

async function boundedText(response: Response, limitBytes: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "", length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > limitBytes) throw new RangeError(`The app's answer is over ${limitBytes} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function appError(status: number, text: string): AppError {
  try {
    const { error } = JSON.parse(text);
    if (typeof error === "string") return new AppError(status, error.slice(0, 300), true);
  } catch {
    // Not JSON: a proxy's page, perhaps.
  }
  return new AppError(status, text.replace(/\s+/g, " ").trim().slice(0, 300), false);
}
