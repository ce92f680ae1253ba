/**
 * `deno task conformance`: the official suite against an everything server directly and through the
 * bridge, for every pairing of revisions, compared check by check. Ends with the plain line
 * `N passed, N failed, N skipped`; a check that is lost and not in known.ts fails, as does an entry
 * there that is not needed any more.
 *
 * `--keep=DIR` keeps the suite's own results there; `--only=TEXT` runs the pairings with it in their name.
 */
import { closeWorld } from "../mcp/world.ts";
import { CLIENT_SCENARIOS_LEFT_OUT, runClientPairings } from "./client_pairings.ts";
import { KNOWN } from "./known.ts";
import { runPairings } from "./pairings.ts";
import { sortOut, table } from "./report.ts";

const option = (name: string) =>
  Deno.args.find((argument) => argument.startsWith(`--${name}=`))?.slice(name.length + 3);
const keep = option("keep"), only = option("only");
const directory = keep ?? await Deno.makeTempDir({ prefix: "mooring-conformance-" });
const say = (line = "") => console.log(line);

const wanted = (client: { name: string }, upstream: { name: string }) =>
  !only || `${client.name} -> ${upstream.name}`.includes(only);
const pairings = [
  ...await runPairings(directory, wanted),
  ...await runClientPairings(directory, wanted),
];
await closeWorld();
if (!keep) await Deno.remove(directory, { recursive: true });

say(table(pairings));
const { known, unknown, unnecessary } = sortOut(pairings, KNOWN);
say("\nLost through the bridge, for a known reason:");
for (const { lost, pairing, reason } of known) say(`- ${lost.check} (${pairing}): ${reason}`);
say("\nLost through the bridge, and not in known.ts:");
for (const { lost, pairing } of unknown) {
  say(`- ${lost.check} (${pairing}): ${lost.status}, ${lost.message ?? "no message"}`);
}
say("\nIn known.ts, and not lost any more:");
for (const { check, pairing } of unnecessary) say(`- ${check} (${pairing})`);
say();
say(`SKIPPED: ${CLIENT_SCENARIOS_LEFT_OUT}`);

const kept = pairings.reduce((sum, pairing) => sum + pairing.kept, 0);
const failed = unknown.length + unnecessary.length;
say(`${kept} passed, ${failed} failed, ${known.length + 1} skipped`);
Deno.exit(failed > 0 ? 1 : 0);
