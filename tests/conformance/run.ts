/**
 * `deno task conformance`: the official suite against an everything server directly and through the
 * bridge, for every pairing of revisions, compared check by check. Ends with the plain line
 * `N passed, N failed, N skipped`; a check that is lost and not in known.ts fails, as does an entry
 * there that is not needed any more, and a check that fails without the bridge.
 *
 * `--keep=DIR` keeps the suite's own results there; `--only=TEXT` runs the pairings with it in their name.
 */
import { closeWorld } from "../mcp/world.ts";
import { runAuthorization } from "./authorization.ts";
import {
  CLIENT_SCENARIOS_LEFT_OUT,
  runClientAuthorization,
  unexpectedOf,
} from "./client_authorization.ts";
import { runClientPairings } from "./client_pairings.ts";
import { KNOWN, KNOWN_OF_AUTHORIZATION } from "./known.ts";
import { CLIENTS, runPairings } from "./pairings.ts";
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
const authorization = only ? [] : await runAuthorization(`${directory}/authorization`);
const signIns = only ? [] : await runClientAuthorization(`${directory}/client-authorization`);
await closeWorld();
if (only && pairings.length === 0) {
  console.error(`No pairing has ${JSON.stringify(only)} in its name, such as ${CLIENTS[0].name}`);
  Deno.exit(1);
}
if (!keep) await Deno.remove(directory, { recursive: true });

say(table(pairings));
const { known, unknown, unnecessary } = sortOut(pairings, KNOWN);
const broken = pairings.flatMap(({ broken }) => broken);
say("\nLost through the bridge, for a reason that is known:");
for (const [reason, entries] of Map.groupBy(known, ({ reason }) => reason)) {
  say(`\n${reason}`);
  for (const { lost, pairing } of entries) say(`- ${lost.check} (${pairing})`);
}
section(
  "Lost through the bridge, and not in known.ts",
  unknown,
  ({ lost, pairing }) =>
    `${lost.check} (${pairing}): ${lost.status}, ${lost.message ?? "no message"}`,
);
section(
  "In known.ts, and not lost any more",
  unnecessary,
  ({ check, pairing }) => `${check} (${pairing})`,
);
section(
  "Failing with nothing in between: the everything server is wrong",
  broken,
  (lost) => `${lost.check}: ${lost.message ?? "no message"}`,
);
const unauthorized = authorization.filter(({ status }) => status === "FAILURE");
section(
  "Failing at Mooring's own authorization server",
  unauthorized,
  ({ check, message }) => `${check}: ${message ?? "no message"}`,
);
const unsigned = unexpectedOf(signIns);
section(
  "Mooring as a client that signs a person in, and not in known.ts",
  unsigned,
  (line) => line,
);
if (signIns.length > 0) {
  say("\nNot passed with Mooring as a client that signs a person in, for a reason that is known:");
  for (const { check, reason } of KNOWN_OF_AUTHORIZATION) say(`- ${check}: ${reason}`);
}
say();
say(`SKIPPED: ${CLIENT_SCENARIOS_LEFT_OUT}`);

const kept = pairings.reduce((sum, pairing) => sum + pairing.kept, 0) +
  [...authorization, ...signIns].filter(({ status }) => status === "SUCCESS").length;
const failed = unknown.length + unnecessary.length + broken.length + unauthorized.length +
  unsigned.length;
const excused = known.length + (only ? 0 : KNOWN_OF_AUTHORIZATION.length);
say(`${kept} passed, ${failed} failed, ${excused + 1} skipped`);
Deno.exit(failed > 0 ? 1 : 0);

function section<T>(heading: string, entries: T[], line: (entry: T) => string) {
  if (entries.length === 0) return;
  say(`\n${heading}:`);
  for (const entry of entries) say(`- ${line(entry)}`);
}
