/**
 * The checks that pass directly and not through the bridge, each with the reason why it is impossible by the
 * revisions themselves. One that has become unnecessary fails the run, so that the list stays true.
 */
export interface Known {
  /** `scenario/check` as the report names it; `scenario/*` for all that is lost of a scenario. */
  check: string;
  /** `client -> upstream`, as the report names them. */
  pairings: string[];
  reason: string;
}

const LEGACY = "2025-11-25 (0.2.0-alpha.12)";
const MODERN = "2026-07-28 (0.2.0-alpha.12)";
const LEGACY_SERVERS = ["stdio 2025-11-25", "http 2025-11-25"];
const MODERN_SERVERS = ["stdio 2026-07-28", "http 2026-07-28"];
const SERVERS = [...LEGACY_SERVERS, ...MODERN_SERVERS];

const between = (clients: string[], upstreams: string[]) =>
  clients.flatMap((client) => upstreams.map((upstream) => `${client} -> ${upstream}`));

const INPUT_KEYS =
  "A server of 2025-11-25 asks with a request, in which its revision has no place for a name of the " +
  "server's own (SDK 2.x leaves it out as well when it asks older clients): the key in inputRequests is " +
  "DTMA's, and the check wants the scenario's word, user_name";

export const KNOWN: Known[] = [
  {
    check: "server-sse-polling/server-sse-disconnect-resume",
    pairings: between([LEGACY], SERVERS.filter((server) => server !== "http 2025-11-25")),
    reason:
      "The scenario's tool has its server close the stream of its answer, so that the client polls. " +
      "2025-11-25 over HTTP alone has that, and there it passes: on stdio there is no stream, and 2026-07-28 " +
      "has no resuming",
  },
  {
    check: "input-required-result-basic-elicitation/*",
    pairings: between([MODERN], LEGACY_SERVERS),
    reason: INPUT_KEYS,
  },
  {
    check: "input-required-result-ignore-extra-params/sep-2322-ignore-unexpected-params",
    pairings: between([MODERN], LEGACY_SERVERS),
    reason:
      "The scenario answers under the key user_name before it was asked. A server of 2025-11-25 takes an " +
      "answer to a request that it made, and has not made one yet",
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
