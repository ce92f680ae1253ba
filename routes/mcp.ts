/** `/mcp`: the bridge over Streamable HTTP, for agents with a bearer token. */
import { Hono } from "hono";
import { bridge, type BridgeDeps, type Caller } from "../mcp/bridge.ts";
import { agentOfToken } from "../models/agents.ts";
import { errorFields } from "../models/log.ts";

/** How long a token's verdict serves; a revocation drops it at once where the database can tell. */
const VERDICT_MS = 2000;

export function mcpRoutes(deps: BridgeDeps & { baseUrl: URL }): Hono {
  const serve = bridge(deps);
  const callerOf = callers(deps);

  return new Hono()
    .post("/mcp", async (c) => {
      const origin = c.req.header("origin");
      // A page of another site must not reach a local bridge through a browser (DNS rebinding;
      // 2026-07-28, streamable-http#security--endpoint).
      if (origin && origin !== deps.baseUrl.origin) {
        return refused(403, "Requests from web pages of other sites are refused");
      }
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
      return await serve(c.req.raw, caller);
    })
    // No stream of its own and no session to end (2025-11-25, transports#listening-for-messages).
    .on(
      ["GET", "DELETE"],
      "/mcp",
      () =>
        new Response("Send MCP messages with POST", { status: 405, headers: { allow: "POST" } }),
    )
    .onError((error) => {
      deps.log.error("A request to the bridge failed", errorFields(error));
      return refused(500, "Mooring failed to serve this; its log says why");
    });
}

/** Tokens' verdicts: a cache with an expiry. */
function callers({ db, changes }: BridgeDeps): (token: string) => Promise<Caller | null> {
  type Verdict = Awaited<ReturnType<typeof agentOfToken>>;
  const cached = new Map<string, { at: number; verdict: Promise<Verdict> }>();
  changes.watch(
    ({ table }) => table === "agent_tokens" || table === "agents",
    () => cached.clear(),
  );
  return async (token) => {
    const known = cached.get(token);
    if (known && Date.now() - known.at < VERDICT_MS) {
      const agent = await known.verdict;
      if (!agent?.expiresAt || agent.expiresAt.getTime() > Date.now()) return agent;
    }
    const verdict = agentOfToken(db, token);
    verdict.catch(() => cached.delete(token));
    if (cached.size > 10_000) cached.clear();
    // Before it is known, so that a revocation in between drops it too.
    cached.set(token, { at: Date.now(), verdict });
    return await verdict;
  };
}

function refused(status: number, message: string, headers: Record<string, string> = {}): Response {
  // -32001 stands in SDKs' range for "request refused"; clients show the message.
  const body = { jsonrpc: "2.0", id: null, error: { code: -32001, message } };
  return Response.json(body, { status, headers: { ...headers, "cache-control": "no-store" } });
}
