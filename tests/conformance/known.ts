/**
 * The checks that pass directly and not through the bridge, each with its reason: impossible by the
 * revisions themselves, or what they leave open. One that has become unnecessary fails the run, so that the
 * list stays true.
 */
export interface Known {
  /** `scenario/check` as the report names it; `scenario/*` for all that is lost of a scenario. */
  check: string;
  /** `client -> upstream`, as the report names them. */
  pairings: string[];
  reason: string;
}

const OLD = "2025-11-25 (0.1.16)";
const LEGACY = "2025-11-25 (0.2.0-alpha.12)";
const MODERN = "2026-07-28 (0.2.0-alpha.12)";
const LEGACY_SERVERS = ["stdio 2025-11-25", "http 2025-11-25"];
const MODERN_SERVERS = ["stdio 2026-07-28", "http 2026-07-28"];
const SERVERS = [...LEGACY_SERVERS, ...MODERN_SERVERS];

const between = (clients: string[], upstreams: string[]) =>
  clients.flatMap((client) => upstreams.map((upstream) => `${client} -> ${upstream}`));

const INPUT_KEYS =
  "A server of 2025-11-25 asks with a request, which has no name of the server's own: " +
  "its key in inputRequests is DTMA's, and the check wants its own word";

const NO_STREAM =
  "The scenario's tool has its server cut the stream of an answer. Behind the bridge no " +
  "server has a stream to the client, and what is answered at once is answered as JSON, as the " +
  "revision allows. The bridge's own streams are cut and taken up again in tests/mcp/bridge_sessions_test.ts";

export const KNOWN: Known[] = [
  {
    check: "server-sse-multiple-streams/server-sse-streams-functional",
    pairings: between([OLD, LEGACY], SERVERS),
    reason:
      "The bridge answers lists as JSON, which the revision leaves to it; the check looks at " +
      "event streams alone",
  },
  { check: "server-sse-polling/*", pairings: between([LEGACY], SERVERS), reason: NO_STREAM },
  {
    check: "input-required-result-basic-elicitation/*",
    pairings: between([MODERN], LEGACY_SERVERS),
    reason: INPUT_KEYS,
  },
  {
    check: "input-required-result-ignore-extra-params/sep-2322-ignore-unexpected-params",
    pairings: between([MODERN], LEGACY_SERVERS),
    reason:
      "The answer comes before the question, under the server's key: a server of 2025-11-25 has " +
      "none, and asks",
  },
  ...["tools", "prompts"].map((list) => ({
    check: `server-stateless/sep-2575-server-sends-${list}-list-changed-on-subscription`,
    pairings: between([MODERN], SERVERS),
    reason:
      "The scenario's tool says that a list changed without changing it. The bridge tells of what " +
      "changed of an agent's own lists, which are those that a person approved",
  })),
  {
    check: "tasks-required-task-error/*",
    pairings: between([MODERN], LEGACY_SERVERS),
    reason:
      "A server of 2025-11-25 cannot say that its client has to declare tasks of 2026-07-28: the call " +
      "is made as a task, and waited for",
  },
];

/**
 * What does not pass of the client scenarios of authorization, with Mooring as the client
 * (client_authorization.ts), in whatever revision; `auth/scenario/*` for all of a scenario.
 */
export const KNOWN_OF_AUTHORIZATION: { check: string; reason: string }[] = [
  {
    check: "auth/2025-03-26-oauth-endpoint-fallback/*",
    reason:
      "Endpoints that no metadata names are not guessed: nothing says that PKCE holds there, which " +
      "later revisions want of a client to see",
  },
  {
    check: "auth/basic-cimd/cimd-client-id-used",
    reason:
      "A warning: the scenario knows one client's document, at an address of its own, and takes a " +
      "registration as well. Mooring names its document where it is reached by https " +
      "(tests/routes/authorizations_test.ts)",
  },
];
