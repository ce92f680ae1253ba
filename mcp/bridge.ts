/**
 * The bridge: the MCP endpoints that serve an agent's toolbelt to clients of any revision.
 *
 * Two transports (streamable_http.ts, http_sse.ts) read what clients send and bring the answers to them;
 * serving.ts answers, whatever the revision and the transport; waist.ts asks the servers. All that is
 * remembered here is a cache of the database, or of a request that is under way.
 */
import { exchanges } from "./exchange.ts";
import { httpSse } from "./http_sse.ts";
import { limits } from "./limits.ts";
import { serving, type ServingDeps } from "./serving.ts";
import { sessions } from "./sessions.ts";
import { type HttpRequest, streamableHttp } from "./streamable_http.ts";

export type { HttpRequest } from "./streamable_http.ts";
export type { Caller } from "./sessions.ts";

export interface BridgeDeps extends ServingDeps {
  /** Where the app is reached; its path is the prefix of all links. */
  baseUrl: URL;
  /** Told of work that goes on behind an answer, where the process may end once it has answered. */
  keepAlive?: (work: Promise<void>) => void;
}

type Handler = (asked: HttpRequest) => Promise<Response>;

/** The handlers of the endpoints. Callers were authenticated before. */
export interface Bridge {
  streamable: { post: Handler; get: Handler; delete: Handler };
  sse: { get: Handler; post: Handler };
}

/** Makes the bridge of one replica. */
export function bridge(deps: BridgeDeps): Bridge {
  const known = sessions(deps);
  const shared = {
    sessions: known,
    serving: serving(deps, known),
    exchanges: exchanges(deps, known),
    limits: limits(),
    log: deps.log,
  };
  const { db, changes, baseUrl, keepAlive } = deps;
  const basePath = baseUrl.pathname.replace(/\/+$/, "");
  return {
    streamable: streamableHttp(shared),
    sse: httpSse({ ...shared, db, changes, basePath, keepAlive }),
  };
}
