/**
 * The suite's client side: its servers behind the bridge as remote servers, called by a real client.
 * The same client called directly is what the bridge is held against.
 */
import { openBridge } from "../mcp/world.ts";
import { ADAPTER, compare, type Pairing, TESTS_LOCK } from "./pairings.ts";
import { type Results, runSuite } from "./suite.ts";

const SUITE = "0.2.0-alpha.12";
const CLIENT = "SDK 2.4.0"; // suite_client.ts
const SLUG = "suite";

const SCENARIOS = {
  "2025-11-25": [
    "initialize",
    "tools_call",
    "elicitation-sep1034-client-defaults",
    "sse-retry",
    "json-schema-2020-12-preservation",
  ],
  "2026-07-28": [
    "tools_call",
    "request-metadata",
    "sep-2322-client-request-state",
    "http-standard-headers",
    "http-custom-headers",
    "http-invalid-tool-headers",
    "json-schema-ref-no-deref",
    "json-schema-2020-12-preservation",
  ],
};
type Revision = keyof typeof SCENARIOS;

/** The pairings of a client with the suite's servers of each revision. */
export async function runClientPairings(
  directory: string,
  wanted: (client: { name: string }, upstream: { name: string }) => boolean,
): Promise<Pairing[]> {
  const pairings: Pairing[] = [];
  for (const revision of Object.keys(SCENARIOS) as Revision[]) {
    const upstream = `the suite's ${revision}`;
    if (!wanted({ name: CLIENT }, { name: upstream })) continue;
    const own = `${directory}/${CLIENT.replace(" ", "-")}-${revision}`;
    const direct = await runScenarios(revision, "directly", `${own}-directly`);
    const through = await runThrough(revision, `${own}-through`);
    pairings.push({
      client: CLIENT,
      upstream,
      ...compare(direct, through),
    });
  }
  return pairings;
}

/** Opens a bridge before each of the suite's servers, when the suite's client asks for it. */
async function runThrough(revision: Revision, directory: string): Promise<Results> {
  let bridge: AsyncDisposable | null = null;
  await using control = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      await bridge?.[Symbol.asyncDispose]();
      bridge = null;
      if (request.method !== "POST") return new Response();
      const opened = await openBridge(ADAPTER, { slug: SLUG, args: [await request.text()] });
      bridge = opened;
      return Response.json({ url: `${opened.url}/${SLUG}`, token: opened.token });
    },
  );
  return await runScenarios(revision, `http://127.0.0.1:${control.addr.port}`, directory);
}

async function runScenarios(
  revision: Revision,
  way: string,
  directory: string,
): Promise<Results> {
  const script = new URL("suite_client.ts", import.meta.url).pathname;
  const command =
    `${Deno.execPath()} run --quiet -A --no-check --lock=${TESTS_LOCK} ${script} ${way}`;
  const results: Results = new Map();
  for (const scenario of SCENARIOS[revision]) {
    const args = ["--command", command, "--scenario", scenario, "--spec-version", revision];
    const outcomes = await runSuite(SUITE, ["client", ...args], `${directory}/${scenario}`);
    for (const [check, outcome] of outcomes) results.set(check, outcome);
  }
  return results;
}
