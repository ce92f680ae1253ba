/**
 * The headers that a person or an account gives. Those of an account are renewed while the adapter
 * runs: DTMA tells them over stdin, and is told when the server refuses them.
 */
export type Headers = Record<string, string>;

/** What a server's refusal says (RFC 6750, section 3); untrusted text. */
export interface Refused {
  status: 401 | 403;
  error?: string;
  scope?: string;
}

/** Of DTMA's `dtma/protocol.ts`. */
export const HEADERS_METHOD = "dev.mooring/headers";
export const REFUSED_METHOD = "dev.mooring/refused";

/** A call that was refused waits so long for the headers to be renewed. */
const RENEWAL_WAIT_MS = 20_000;

export class Credentials {
  readonly #fixed: Headers;
  /** Null: there is no account. */
  #account: Headers | null = null;
  #renewed = Promise.withResolvers<void>();
  readonly #refused: (refused: Refused) => void;

  /** @param fixed sent always */
  constructor(fixed: Headers, refused: (refused: Refused) => void) {
    this.#fixed = fixed;
    this.#refused = refused;
  }

  /** The same object until they are renewed. */
  get headers(): Headers {
    return this.#account ?? this.#fixed;
  }

  get isAccount(): boolean {
    return this.#account !== null;
  }

  /** @param account without any: there is none, or not for this instance */
  renew(account: unknown): void {
    if (typeof account !== "object" || account === null) return;
    if (Object.keys(account).length === 0) return void (this.#account = null);
    const headers = { ...this.#fixed };
    for (const [name, value] of Object.entries(account)) {
      for (const fixed of Object.keys(headers)) {
        if (fixed.toLowerCase() === name.toLowerCase()) delete headers[fixed];
      }
      headers[name] = String(value);
    }
    // What is told again, with others' news, is no renewal for who waits for one.
    if (JSON.stringify(headers) === JSON.stringify(this.#account)) return;
    this.#account = headers;
    this.#renewed.resolve();
    this.#renewed = Promise.withResolvers();
  }

  /**
   * Tells DTMA that the server refused a request.
   * @param sent the headers that it had
   * @returns whether there are others now, with which it may be made again
   */
  async afterRefusal(
    response: Response,
    sent: Headers,
    signal: AbortSignal | null | undefined,
  ): Promise<boolean> {
    if (!this.#account) return false;
    const challenge = (response.headers.get("www-authenticate") ?? "").slice(0, 8192);
    const status = response.status as 401 | 403;
    const [error, scope] = ["error", "scope"].map((name) => parameterOf(challenge, name));
    if (status === 403) {
      if (error === "insufficient_scope") this.#refused({ status, error, scope });
      return false;
    }
    if (sent !== this.headers) return true;
    const { promise } = this.#renewed;
    this.#refused({ status, error, scope });
    const waiting = Promise.withResolvers<void>();
    const timer = setTimeout(waiting.resolve, RENEWAL_WAIT_MS);
    signal?.addEventListener("abort", () => waiting.resolve(), { once: true });
    await Promise.race([promise, waiting.promise]);
    clearTimeout(timer);
    return sent !== this.headers && !signal?.aborted;
  }
}

function parameterOf(challenge: string, name: string): string | undefined {
  const found = new RegExp(`(?:^|[\\s,])${name}\\s*=\\s*(?:"([^"]*)"|([^\\s,"]+))`, "i")
    .exec(challenge);
  return (found?.[1] ?? found?.[2])?.slice(0, name === "scope" ? 2000 : 100);
}
