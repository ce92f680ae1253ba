/**
 * The bridge's endpoints, for agents with a bearer token: `/mcp` over Streamable HTTP, `/sse` and `/messages`
 * over HTTP+SSE, each for all of the agent's servers or, with a server's slug behind it, for that one.
 */
import { type Context, Hono } from "hono";
import { bridge, type BridgeDeps, type Caller, type HttpRequest } from "../mcp/bridge.ts";
import { agentOfToken } from "../models/agents.ts";
import { errorFields } from "../models/log.ts";
import { keepAlive } from "./keep_alive.ts";

/**
 * How long a token's verdict serves where it is not known that no change was missed, and where it is. A
 * revocation drops it at once where the database can tell.
 */
const VERDICT_MS = 2000;
const TOLD_VERDICT_MS = 30_000;

/** All that an answer to a program needs, should a browser be made to open it. */
const SAFE_HEADERS = {
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
};

/** To be mounted ahead of what pages need: of a call's time the middleware of pages took a fifth. */
export function mcpRoutes(deps: BridgeDeps): Hono {
  const { streamable, sse } = bridge({ keepAlive, ...deps });
  const callerOf = callers(deps);
  const safeHeaders = Object.entries({
    ...SAFE_HEADERS,
    ...(deps.baseUrl.protocol === "https:" && { "strict-transport-security": "max-age=31536000" }),
  });

  /** Answers whatever happens, and says so where it is not what was asked for. */
  const answering = (serve: (c: Context) => Promise<Response>) => async (c: Context) => {
    const started = performance.now();
    let response: Response;
    try {
      response = await serve(c);
    } catch (error) {
      deps.log.error("A request to the bridge failed", errorFields(error));
      response = refused(500, "Mooring failed to serve this; its log says why");
    }
    for (const [name, value] of safeHeaders) response.headers.set(name, value);
    if (response.status >= 400) {
      const ms = Math.round(performance.now() - started);
      const { method, path } = c.req;
      deps.log.info("Request", { method, path, status: response.status, ms });
    }
    return response;
  };

  /** Serves who has a token, and comes from no page of another site. */
  const guarded = (serve: (asked: HttpRequest) => Promise<Response>) =>
    answering(async (c) => {
      const stranger = strangeness(c, deps.baseUrl);
      if (stranger) return refused(403, stranger);
      const token = /^Bearer ([^\s]+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
      const caller = token ? await callerOf(token) : null;
      if (!caller) {
        return refused(
          401,
          token
            ? "The token is not valid: it is unknown, revoked or expired. Make a new one on the agent's page"
            : "Send an agent's token: Authorization: Bearer mag_…",
          { "www-authenticate": token ? 'Bearer error="invalid_token"' : "Bearer" },
        );
      }
      return await serve({
        request: c.req.raw,
        caller,
        scope: c.req.param("server") ?? null,
        stillHolds: async () => await callerOf(token!) !== null,
      });
    });

  return new Hono()
    .post("/mcp/:server?", guarded(streamable.post))
    .get("/mcp/:server?", guarded(streamable.get))
    .delete("/mcp/:server?", guarded(streamable.delete))
    .get("/sse/:server?", guarded(sse.get))
    .post("/messages/:server?", guarded(sse.post));
}

/**
 * Why a request may be a web page's that has no business here (DNS rebinding; 2026-07-28,
 * streamable-http#security--endpoint), or null. A page is known by its Origin; one that was given this
 * address under a name of its own, by that name in Host. An address, or a name without a dot, is no name that
 * a stranger can give.
 */
function strangeness(c: Context, baseUrl: URL): string | null {
  const origin = c.req.header("origin");
  if (origin && origin !== baseUrl.origin) {
    return "Requests from web pages of other sites are refused";
  }
  const host = c.req.header("host");
  if (!host || host.toLowerCase() === baseUrl.host) return null;
  const name = URL.parse(`http://${host}`)?.hostname;
  const isOwn = name === baseUrl.hostname || name !== undefined && !/\.\D[^.]*$/.test(name);
  return isOwn
    ? null
    : "The Host header names another host than Mooring's: set BASE_URL, or let the proxy pass Host on";
}

interface Verdict {
  at: number;
  verdict: ReturnType<typeof agentOfToken>;
  /** Missing while the verdict is on its way, and of a token that is nobody's. */
  agentId?: string;
}

/** Tokens' verdicts: a cache with an expiry. */
function callers({ db, changes }: BridgeDeps): (token: string) => Promise<Caller | null> {
  const cached = new Map<string, Verdict>();
  changes.watch(({ table }) => table === "agent_tokens" || table === "agents", (change) => {
    for (const [token, { agentId }] of cached) {
      if (!change || !agentId || agentId === change.agent) cached.delete(token);
    }
  });
  return async (token) => {
    const known = cached.get(token);
    const servesMs = changes.untoldMs() < VERDICT_MS ? TOLD_VERDICT_MS : VERDICT_MS;
    if (known && Date.now() - known.at < servesMs) {
      const agent = await known.verdict;
      if (!agent?.expiresAt || agent.expiresAt.getTime() > Date.now()) return agent;
    }
    const verdict = agentOfToken(db, token);
    const entry: Verdict = { at: Date.now(), verdict };
    if (cached.size > 10_000) cached.clear();
    // Before it is known, so that a revocation in between drops it too.
    cached.set(token, entry);
    verdict.then((agent) => entry.agentId = agent?.agentId, () => cached.delete(token));
    return await verdict;
  };
}

function refused(status: number, message: string, headers: Record<string, string> = {}): Response {
  // -32001 stands in SDKs' range for "request refused"; clients show the message.
  const body = { jsonrpc: "2.0", id: null, error: { code: -32001, message } };
  return Response.json(body, { status, headers: { ...headers, "cache-control": "no-store" } });
}
