/** A real authorization server, oidc-provider, over TLS; and a person who signs in there by its own pages. */
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import Provider from "npm:oidc-provider@9.13.3";
import type { Certificates } from "./certificates.ts";

export const SCOPES = "tools:read tools:write";

export interface AuthorizationServerOptions {
  certificates: Certificates;
  /** Of its issuer, which has to lead to the loopback address. */
  host?: string;
  accessTokenS?: number;
  /** Clients that are known beforehand; without any Mooring may register itself. */
  clients?: Record<string, unknown>[];
  // deno-lint-ignore no-explicit-any -- as oidc-provider's own options are
  features?: Record<string, any>;
  /** How it fetches clients' metadata documents. */
  fetch?: (url: string | URL) => Response | Promise<Response>;
}

export type AuthorizationServer = Awaited<ReturnType<typeof startAuthorizationServer>>;

/** Starts one that gives tokens for whatever resource is asked for. */
export async function startAuthorizationServer(options: AuthorizationServerOptions) {
  const { certificates: { cert, key }, host = "localhost", clients } = options;
  let { accessTokenS = 3600 } = options;
  const server = createServer({ cert, key });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const issuer = `https://${host}:${port}`;
  const provider = new Provider(issuer, {
    clients,
    scopes: ["openid", "offline_access", ...SCOPES.split(" ")],
    ...(options.fetch && { fetch: (url: string | URL) => Promise.resolve(options.fetch!(url)) }),
    cookies: { keys: ["of the tests alone"] },
    // Of the token of a public client, as OAuth 2.1 wants it.
    rotateRefreshToken: true,
    features: {
      devInteractions: { enabled: true },
      registration: { enabled: clients === undefined },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: SCOPES,
          accessTokenTTL: accessTokenS,
          accessTokenFormat: "opaque",
        }),
      },
      ...options.features,
    },
  });
  const handle = provider.callback();
  /** Answers in place of the provider, where a test wants another one. */
  let hook: ((path: string) => { status: number; body?: string } | null) | null = null;
  const asked: string[] = [];
  server.on("request", (request, response) => {
    const { pathname } = new URL(request.url!, issuer);
    asked.push(`${request.method} ${pathname}`);
    const given = hook?.(pathname);
    if (!given) return handle(request, response);
    response.writeHead(given.status, { "content-type": "application/json" }).end(given.body);
  });
  return {
    issuer,
    provider,
    /** What it was asked, as `GET /path`. */
    asked,
    answerWith: (answer: typeof hook) => void (hook = answer),
    giveTokensFor: (seconds: number) => void (accessTokenS = seconds),
    [Symbol.dispose]: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

// It warns of what is fit for tests alone, whenever it first comes to it.
for (const level of ["warn", "info"] as const) {
  const write = console[level];
  console[level] = (...words) => String(words[0]).includes("oidc-provider") || write(...words);
}

/**
 * Signs a person in by the pages that an authorization server shows them, as a browser does.
 * @returns where the browser is sent with the answer
 */
export async function signInThere(
  at: string,
  ca: string,
  callback: string,
  login = "ann",
): Promise<string> {
  using client = Deno.createHttpClient({ caCerts: [ca] });
  const cookies = new Map<string, string>();
  let request: [string, RequestInit] = [at, {}];
  for (let step = 0; step < 20; step++) {
    const [url, init] = request;
    const response = await fetch(url, {
      ...init,
      client,
      redirect: "manual",
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie)!;
      if (value) cookies.set(name, value);
      else cookies.delete(name);
    }
    const location = response.headers.get("location");
    const page = await response.text();
    if (location) {
      const next = new URL(location, url).href;
      if (next.startsWith(callback)) return next;
      request = [next, {}];
      continue;
    }
    const action = /<form[^>]*action="([^"]*)"/.exec(page)?.[1];
    const prompt = /name="prompt" value="([^"]*)"/.exec(page)?.[1];
    if (!action || !prompt) throw new Error(`No form at ${url}: ${response.status} ${page}`);
    const body = new URLSearchParams({ prompt, login, password: "any" });
    request = [new URL(action, url).href, { method: "POST", body }];
  }
  throw new Error("The sign-in does not end");
}
