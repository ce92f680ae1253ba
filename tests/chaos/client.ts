/** A person's browser and an agent, as plain HTTP to whichever replica is asked. */

export const OWNER = { OWNER_EMAIL: "ann@example.com", OWNER_PASSWORD: "a long enough password" };

const TIMEOUT_MS = 10_000;

/** A form's answer, or null when it is not known what became of it. */
export type FormAnswer = { status: number; location: string; html: string } | null;

export class Person {
  #cookie = "";

  async signIn(base: string): Promise<void> {
    const answer = await this.post(base, "/sign-in", {
      email: OWNER.OWNER_EMAIL,
      password: OWNER.OWNER_PASSWORD,
    });
    if (answer?.status !== 303) throw new Error(`Signing in failed: ${answer?.status}`);
  }

  /** @returns the page, or null when the replica did not answer with one */
  async get(base: string, path: string): Promise<string | null> {
    try {
      const response = await this.#send(base, path, {});
      const html = await response.text();
      return response.ok ? html : null;
    } catch {
      return null;
    }
  }

  async post(
    base: string,
    path: string,
    form: Record<string, string | string[]>,
  ): Promise<FormAnswer> {
    const body = new URLSearchParams();
    for (const [name, values] of Object.entries(form)) {
      for (const value of [values].flat()) body.append(name, value);
    }
    try {
      const response = await this.#send(base, path, { method: "POST", body });
      const html = await response.text();
      this.#cookie = response.headers.getSetCookie()[0]?.split(";")[0] ?? this.#cookie;
      // The app's own failure says nothing of what was committed before it.
      if (response.status >= 500) return null;
      return { status: response.status, location: response.headers.get("location") ?? "", html };
    } catch {
      return null;
    }
  }

  #send(base: string, path: string, init: RequestInit): Promise<Response> {
    return fetch(base + path, {
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...init,
      headers: { cookie: this.#cookie, origin: base },
    });
  }
}

/** How often the server may have run a call, by what its caller was told. */
export type CallOutcome =
  /** An answer of the server's: it ran once. */
  | { kind: "answered"; mark: string | null }
  /** It was said that the call was not made, or it was refused: it never ran. */
  | { kind: "not made"; why: string }
  /** Nobody can tell: it ran once at most. */
  | { kind: "indeterminate"; why: string }
  /** It got what another call was answered, which must never be. */
  | { kind: "another's answer"; why: string };

const NOT_MADE = [-31001, -31003];

/** Calls the fixture's tool through a replica's bridge. */
export async function call(
  base: string,
  options: { bearer: string; slug: string; token: string; delayMs: number; timeoutMs: number },
): Promise<CallOutcome> {
  const { bearer, slug, token, delayMs, timeoutMs } = options;
  try {
    const response = await fetch(`${base}/mcp`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${bearer}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
      },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "tools/call",
        params: { name: `${slug}__count`, arguments: { token, delayMs } },
      }),
      signal: AbortSignal.timeout(timeoutMs),
    });
    return outcomeOf(response.status, await response.text(), token);
  } catch (error) {
    return { kind: "indeterminate", why: String(error).slice(0, 200) };
  }
}

/** @throws {SyntaxError} of an answer that broke off */
export function outcomeOf(status: number, text: string, token: string): CallOutcome {
  const why = `${status} ${text.slice(0, 300)}`;
  if (status >= 500) return { kind: "indeterminate", why };
  const json = text.startsWith("event:") || text.startsWith("data:")
    ? text.split("\n").findLast((line) => line.startsWith("data:"))?.slice(5) ?? ""
    : text;
  const { result, error } = JSON.parse(json);
  if (error) return { kind: "not made", why };
  const code = result._meta?.["dev.mooring/errorCode"];
  if (code !== undefined) {
    return { kind: NOT_MADE.includes(code) ? "not made" : "indeterminate", why };
  }
  // The fixture's own failure is that it could not write the call down.
  if (result.isError) return { kind: "not made", why };
  const answer = JSON.parse(result.content[0].text);
  return answer.token === token
    ? { kind: "answered", mark: answer.mark }
    : { kind: "another's answer", why };
}
