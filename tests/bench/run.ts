/**
 * `deno task bench`: what Mooring costs, as ratios in one run. The machine's speed drifts, so the ways
 * that are compared are measured in turn, round after round, and their medians are compared.
 *
 *   calls    a call through the whole of Mooring, beside the server's pipe and the least HTTP hop
 *   links    its way from app to DTMA alone, over a fetch, a direct link and a tunnel (no Docker)
 *   start    a container under the policy up to `initialize`, beside `docker run` of its image
 *   deploys  from the click to the tools being listed, image present
 *   discovery  from a deploy within an agent's turn to the model's step that is given its tools
 *   catalog  searches and pages of a marketplace with 10,000 entries (no Docker)
 *   pages    every page of a workspace with 200 servers and 100,000 calls (no Docker)
 *   many     fifty servers deployed at once, and what each costs the DTMA
 *   sessions 1,000 sessions opened and kept, each with its stream, on a Postgres server
 *   lists    tools/list of 1,000 tools from 50 servers (no Docker, as the next two)
 *   agents   calls of 1, 50 and 500 agents
 *   large    a result of 1 MiB, of five kinds
 *   peers    other gateways that npm has, beside the least HTTP hop and Mooring without Docker
 *
 * Options: `--only calls,start` for some of these, `--quick` for fewer rounds. Those that run containers
 * need a Docker Engine. How long until all is as it was after a fault is measured by `deno task chaos`.
 */
import { parseArgs } from "node:util";
import { ensureEngine } from "../../engine.ts";
import { serverEverything } from "../dtma/stdio_server.ts";
import { measureDiscovery } from "../chat/agents.ts";
import { type Caller, forwarder, pipe } from "./direct.ts";
import { measureCatalog } from "./catalog.ts";
import { measureLinks } from "./links.ts";
import { printRatio, printRounds, printTimes, rounds } from "./load.ts";
import { type Mooring, startMooring } from "./mooring.ts";
import { measureSandbox } from "./sandbox.ts";
import { measureSessions } from "./sessions.ts";
import { measurePages } from "./pages.ts";
import { measurePeers } from "./peers.ts";
import { measureStart } from "./start.ts";
import { measureToolbelts, TOOLBELT_PARTS } from "./toolbelts.ts";

const CONTAINER_PARTS = [
  "calls",
  "start",
  "deploys",
  "sandbox",
  "many",
  "sessions",
  "discovery",
] as const;
const PARTS = [
  ...CONTAINER_PARTS,
  "links",
  "catalog",
  "pages",
  ...TOOLBELT_PARTS,
  "peers",
] as const;
type Part = typeof PARTS[number];

const { values } = parseArgs({
  args: Deno.args,
  options: { only: { type: "string", default: PARTS.join() }, quick: { type: "boolean" } },
});
const isQuick = values.quick ?? false;
const asked = values.only.split(",");
const unknown = asked.find((each) => !(PARTS as readonly string[]).includes(each));
if (unknown !== undefined) {
  console.error(`There is no part ${unknown}: --only takes some of ${PARTS.join(", ")}`);
  Deno.exit(1);
}
const isAsked = (part: Part) => asked.includes(part);
const ROUNDS = isQuick ? 3 : 7;

const needsEngine = CONTAINER_PARTS.some(isAsked);
const engine = needsEngine
  ? await ensureEngine({ install: false, log: console.log, logDirectory: "/tmp" })
  : null;
if (engine?.state === "absent") {
  console.log(`skipped: ${engine.reason}. ${engine.advice}`);
  Deno.exit(1);
}
console.log(
  `${navigator.hardwareConcurrency} cores, Deno ${Deno.version.deno}` +
    `${engine ? `, Docker Engine ${engine.version}` : ""}, ${ROUNDS} rounds in turn, medians`,
);

if (isAsked("links")) await measureLinks({ count: ROUNDS, isQuick });
if (TOOLBELT_PARTS.some(isAsked)) await measureToolbelts(isAsked, { count: ROUNDS, isQuick });
if (isAsked("peers")) await measurePeers({ count: ROUNDS, isQuick });
if (isAsked("catalog")) await measureCatalog(isQuick ? 20 : 100);
if (isAsked("pages")) await measurePages(isQuick ? 20 : 100);
if (isAsked("start")) await measureStart({ count: isQuick ? 5 : 20 });
if (isAsked("sandbox")) await measureSandbox(isQuick ? 3 : 10);
if (isAsked("calls") || isAsked("deploys") || isAsked("many")) {
  await using mooring = await startMooring();
  if (isAsked("calls")) await calls(mooring);
  if (isAsked("deploys")) await deploys(mooring, isQuick ? 4 : 12);
  if (isAsked("many")) await many(mooring, isQuick ? 10 : 50);
}

if (isAsked("sessions")) await measureSessions(1000);
if (isAsked("discovery")) {
  const found = await measureDiscovery(isQuick ? 4 : 12);
  console.log("\ndiscovery: a deploy within a turn to the step that has its tools, image present");
  printTimes({ "deploy, approval, next step": found });
}

/** The same call by three ways, and what the processes hold after the load. */
async function calls(mooring: Mooring) {
  const script = await serverEverything();
  await using direct = await pipe(script);
  await using hop = await forwarder(script);
  const ways: Record<string, Caller> = { pipe: direct, forwarder: hop, Mooring: mooring };
  for (const concurrency of [1, 16, 64]) {
    // Some seconds: what is recorded in the pause behind them counts in nothing.
    const calls = (concurrency === 1 ? 1000 : 20_000) / (isQuick ? 10 : 1);
    const measured = await rounds(ways, { concurrency, calls, count: ROUNDS });
    console.log(`\ncalls: tools/call of echo, ${concurrency} in flight`);
    printRounds(measured);
    for (const other of ["pipe", "forwarder"]) printRatio(measured, "Mooring", other);
  }
  console.log("\ncalls: memory after the load, MB");
  for (const [name, megabytes] of Object.entries(await mooring.memory())) {
    console.log(`${name.padEnd(10)}${megabytes.toFixed(0).padStart(10)}`);
  }
}

/** Deploys again and again, each beside the bare container of the same image. */
async function deploys(mooring: Mooring, count: number) {
  const click: number[] = [], bare: number[] = [];
  for (let i = 0; i < count; i++) {
    click.push(await mooring.deployToTools());
    bare.push(await mooring.bareContainer());
  }
  console.log("\ndeploys: click to tools listed, image present");
  printTimes({ "Mooring: POST /servers to tools": click, "bare container to initialize": bare });
}

/** Deploys many at once: how long until the last runs, and what each costs the DTMA. */
async function many(mooring: Mooring, count: number) {
  const one = await mooring.deployToTools();
  const before = (await mooring.memory()).DTMA;
  let after = 0;
  const { firstMs, lastMs } = await mooring.deployMany(count, async () => {
    // Past the burst: what is held for each, not what was needed to start them.
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    after = (await mooring.memory()).DTMA;
  });
  console.log(`\nmany: ${count} servers deployed at once, image present`);
  console.log(
    `first running after ${(firstMs / 1000).toFixed(1)} s, last ${(lastMs / 1000).toFixed(1)} s`,
  );
  console.log(
    `one after the other, each ${one.toFixed(0)} ms: ratio ${(lastMs / (one * count)).toFixed(2)}`,
  );
  console.log(
    `DTMA ${before.toFixed(0)} MB before, ${after.toFixed(0)} MB with them: ` +
      `${((after - before) / count).toFixed(2)} MB a server`,
  );
}
