/**
 * The bridge's endpoints, for agents with a bearer token, clients that signed a person in and, where accounts
 * have access tokens, people who say as which agent they call: `/mcp` over Streamable HTTP, `/sse` and
 * `/messages` over HTTP+SSE, each for all of the agent's servers or, with a server's slug behind it, for that
 * one.
 */
import { type Context, Hono } from "hono";
import { bridge, type BridgeDeps, type HttpRequest } from "../mcp/bridge.ts";
import { RpcCode } from "../mcp/revisions.ts";
import { BEYOND_SCOPE } from "../mcp/serving.ts";
import { agentOfBearer, isAgents, type Named } from "../models/agent_bearer.ts";
import { clientWantedMore, type TokenHolder } from "../models/agents.ts";
import {
  clientSignIn,
  isFor,
  permits,
  READ_SCOPE,
  resourceMetadataAddress,
  resourceOf,
  SCOPE,
  siteAddress,
  type ToolScope,
} from "../models/authorization_server.ts";
import { Forbidden, Invalid } from "../models/errors.ts";
import type { Identity } from "../models/identity.ts";
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
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
};

export interface McpDeps extends BridgeDeps {
  /** Who signs clients in, and whose access tokens are people's; left out, agents' tokens are all there is. */
  identity?: Pick<
    Identity,
    "senderOf" | "authorizationServer" | "foreignAuthorizationServer"
  >;
}

/** Not to be mounted behind what pages need: of a call's time their middleware took a fifth. */
export function mcpRoutes(deps: McpDeps): Hono {
  const { streamable, sse } = bridge({ keepAlive, ...deps });
  const callerOf = callers(deps);
  const site = siteAddress(deps.baseUrl);
  const safeHeaders = Object.entries({
    ...SAFE_HEADERS,
    ...(deps.baseUrl.protocol === "https:" && { "strict-transport-security": "max-age=31536000" }),
  });

  /** Answers whatever happens, and says so where it is not what was asked for. */
  const answering = (serve: (c: Context) => Promise<Response>) => async (c: Context) => {
    const startedAt = Date.now();
    let response: Response;
    try {
      response = await serve(c);
    } catch (error) {
      deps.log.error("A request to the bridge failed", errorFields(error));
      response = refused(500, "Mooring failed to serve this; its log says why");
    }
    // What a POST is answered that brought a token no page can open, and nothing keeps (RFC 9111, section 3).
    if (c.req.method !== "POST" || !response.ok) {
      for (const [name, value] of safeHeaders) response.headers.set(name, value);
    }
    if (response.status >= 400) {
      const ms = Date.now() - startedAt;
      const { method, path } = c.req;
      deps.log.info("Request", { method, path, status: response.status, ms });
    }
    return response;
  };

  /** Apart from the request, which a stream that asks this would keep. */
  const holdsFor = (token: string, named: Named) => async () => {
    const now = await callerOf(token, named);
    return now !== null && !(now instanceof Error);
  };

  /** Serves who has a token, and comes from no page of another site. */
  const guarded = (at: "/mcp" | "/sse", serve: (asked: HttpRequest) => Promise<Response>) =>
    answering(async (c) => {
      const stranger = strangeness(c, deps.baseUrl);
      if (stranger) return refused(403, stranger);
      const token = /^Bearer ([^\s]+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
      const named = token && !isAgents(token) ? namedIn(c) : NOTHING_NAMED;
      const caller = token ? await callerOf(token, named) : null;
      if (caller instanceof Error) {
        return refused(caller instanceof Forbidden ? 403 : 400, caller.message);
      }
      const server = c.req.param("server") ?? null;
      const endpoint = server ? `${at}/${server}` : at;
      const refusal = refusalOf(caller, endpoint, token !== undefined);
      if (refusal) return await refusal;
      // As a session's row takes it.
      if (server && server.length > 64) return refused(404, "There is no server of this name");
      // Hono asks for what GET gives, and drops its body: a stream that nobody reads, and nobody ends.
      if (c.req.method === "HEAD") return refused(405, "Ask with GET", { allow: "GET" });
      const response = await serve({
        request: c.req.raw,
        caller: caller!,
        scope: server,
        stillHolds: holdsFor(token!, named),
      });
      if (response.status === 403) {
        await clientWantedMore(deps.db, caller!.tokenId);
        response.headers.set(
          "www-authenticate",
          challengeOf(await signInHere(), endpoint, SCOPE, "insufficient_scope", BEYOND_SCOPE),
        );
      }
      return response;
    });

  async function signInHere() {
    return deps.identity ? await clientSignIn(deps.identity, deps.baseUrl) : null;
  }

  /** What a client is told to ask its person for (RFC 6750, section 3; RFC 9728, section 5.1). */
  function challengeOf(
    signIn: Awaited<ReturnType<typeof signInHere>>,
    endpoint: string,
    scope: ToolScope,
    error: string | null,
    error_description?: string,
  ): string {
    const parameters = {
      ...(error && { error }),
      ...(signIn && {
        scope: signIn.scope ?? scope,
        // What is no server's slug, quotes among it, names no resource.
        resource_metadata: resourceMetadataAddress(
          deps.baseUrl,
          resourceOf(deps.baseUrl, site + endpoint) ? endpoint : "",
        ),
      }),
      ...(error_description && { error_description }),
    };
    const said = Object.entries(parameters).map(([name, value]) => `${name}="${value}"`);
    return ["Bearer", said.join(", ")].filter(Boolean).join(" ");
  }

  /**
   * Why a caller is not served at an endpoint (2026-07-28, basic/authorization): a client's token is good
   * for the addresses and in the scope that its person agreed to.
   */
  function refusalOf(
    caller: TokenHolder | null,
    endpoint: string,
    broughtOne: boolean,
  ): Promise<Response> | null {
    const refuse = async (
      status: 401 | 403,
      error: string | null,
      message: string,
      orSignIn = message,
    ) => {
      const signIn = await signInHere();
      return refused(status, signIn ? orSignIn : message, {
        "www-authenticate": challengeOf(signIn, endpoint, READ_SCOPE, error),
      });
    };
    if (!caller) {
      const invalid = "The token is not valid: it is unknown, revoked or expired. ";
      const send = "an agent's token: Authorization: Bearer mag_…";
      return broughtOne
        ? refuse(
          401,
          "invalid_token",
          `${invalid}Make a new one on the agent's page`,
          `${invalid}Sign in again, or make a new one on the agent's page`,
        )
        : refuse(401, null, `Send ${send}`, `Sign in, or send ${send}`);
    }
    if (caller.limits && !isFor(caller.limits.resources, site + endpoint)) {
      return refuse(401, "invalid_token", "The token is for another address than this one");
    }
    if (caller.limits && !permits(caller.limits.scopes, READ_SCOPE)) {
      return refuse(403, "insufficient_scope", `The token is not for tools: ask for ${READ_SCOPE}`);
    }
    return null;
  }

  return new Hono()
    .post("/mcp/:server?", guarded("/mcp", streamable.post))
    .get("/mcp/:server?", guarded("/mcp", streamable.get))
    .delete("/mcp/:server?", guarded("/mcp", streamable.delete))
    .get("/sse/:server?", guarded("/sse", sse.get))
    .post("/messages/:server?", guarded("/sse", sse.post));
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
  // A dot at the end makes a name no other.
  const name = URL.parse(`http://${host}`)?.hostname.replace(/\.$/, "");
  const isOwn = name === baseUrl.hostname || name !== undefined && !/\.\D[^.]*$/.test(name);
  return isOwn
    ? null
    : "The Host header names another host than Mooring's: set BASE_URL, or let the proxy pass Host on";
}

const NOTHING_NAMED: Named = {};

function namedIn(c: Context): Named {
  return {
    agentId: c.req.header("mooring-agent"),
    workspaceId: c.req.header("mooring-workspace"),
  };
}

/** Whom a token stands for; null when it opens nothing, and why not when a person's names no agent. */
type Holder = TokenHolder | Invalid | Forbidden | null;

interface Verdict {
  at: number;
  verdict: Promise<Holder>;
  /** Missing while the verdict is on its way. */
  known?: Holder;
}

/** What a verdict hangs on: a client's and a conversation's on its person's role as well. */
const VERDICT_TABLES = new Set(["agent_tokens", "agents", "members"]);

/** Tokens' verdicts: a cache with an expiry, which gives at once what it knows. */
function callers(
  { db, changes, identity }: McpDeps,
): (token: string, named: Named) => Holder | Promise<Holder> {
  const cached = new Map<string, Verdict>();
  changes.watch(({ table }) => VERDICT_TABLES.has(table), (change) => {
    for (const [token, { known }] of cached) {
      const holder = known instanceof Error ? null : known;
      const isMeant = change?.table === "members"
        ? holder?.workspaceId === change.workspace
        : holder?.agentId === change?.agent;
      if (!change || !holder || isMeant) cached.delete(token);
    }
  });
  return (token, named) => {
    const isOwn = isAgents(token);
    const key = isOwn ? token : [token, named.agentId, named.workspaceId].join("\n");
    const before = cached.get(key);
    // That a sign-in of the accounts' ended is told to nobody.
    const servesMs = isOwn && changes.untoldMs() < VERDICT_MS ? TOLD_VERDICT_MS : VERDICT_MS;
    if (before && Date.now() - before.at < servesMs) {
      const { verdict, known } = before;
      if (known === undefined) return verdict;
      const expiresAt = known instanceof Error ? null : known?.expiresAt;
      if (!expiresAt || expiresAt.getTime() > Date.now()) return known;
    }
    const verdict = agentOfBearer({ db, identity }, token, named).catch(asRefusal);
    const entry: Verdict = { at: Date.now(), verdict };
    if (cached.size > 10_000) cached.clear();
    // Before it is known, so that a revocation in between drops it too.
    cached.set(key, entry);
    verdict.then((holder) => entry.known = holder, () => cached.delete(key));
    return verdict;
  };
}

/** A refusal is a verdict too, and is asked for no more often than another. */
function asRefusal(error: unknown): Invalid | Forbidden {
  if (error instanceof Invalid || error instanceof Forbidden) return error;
  throw error;
}

function refused(status: number, message: string, headers: Record<string, string> = {}): Response {
  const body = { jsonrpc: "2.0", id: null, error: { code: RpcCode.refused, message } };
  return Response.json(body, { status, headers: { ...headers, "cache-control": "no-store" } });
}
