/**
 * `deno task bench`: what a call and a deploy cost, as ratios in one run. The machine's speed drifts,
 * so the ways are measured in turn, round after round, and the medians over the rounds are compared.
 *
 *   pipe       JSON-RPC straight to the server's stdin, as a client that started it itself
 *   forwarder  the least Deno program that takes a POST, writes to the pipe and answers: one HTTP hop
 *   Mooring    /mcp with a bearer token: all checks, calls recorded, app -> signed hop -> DTMA ->
 *              the same server in its container
 *
 * Options: `--quick` for fewer calls and rounds. Needs a Docker Engine.
 */
import { ensureEngine } from "../../engine.ts";
import { serverEverything } from "../dtma/stdio_server.ts";
import { type Caller, forwarder, pipe } from "./direct.ts";
import { printRatio, printRounds, quantile, rounds } from "./load.ts";
import { type Mooring, startMooring } from "./mooring.ts";
import { measureSandbox } from "./sandbox.ts";

const QUICK = Deno.args.includes("--quick");
const ROUNDS = QUICK ? 3 : 7;
const CALLS: Record<number, number> = QUICK
  ? { 1: 100, 16: 400, 64: 400 }
  : { 1: 300, 16: 1500, 64: 1500 };
const DEPLOYS = QUICK ? 4 : 12;
const MANY = QUICK ? 10 : 50;

const engine = await ensureEngine({ install: false, log: console.log, logDirectory: "/tmp" });
if (engine.state === "absent") {
  console.log(`skipped: ${engine.reason}. ${engine.advice}`);
  Deno.exit(1);
}
console.log(
  `${navigator.hardwareConcurrency} cores, Deno ${Deno.version.deno}, Docker Engine ${engine.version}, ` +
    `${ROUNDS} rounds in turn, medians\n`,
);

await using mooring = await startMooring();
const script = await serverEverything();
await using direct = await pipe(script);
await using hop = await forwarder(script);
const ways: Record<string, Caller> = { pipe: direct, forwarder: hop, Mooring: mooring };

for (const concurrency of [1, 16, 64]) {
  const measured = await rounds(ways, {
    concurrency,
    calls: CALLS[concurrency],
    count: ROUNDS,
  });
  console.log(`tools/call of echo, ${concurrency} in flight`);
  printRounds(measured);
  for (const other of ["pipe", "forwarder"]) printRatio(measured, "Mooring", other);
  console.log();
}

console.log("memory after the load, MB");
for (const [name, megabytes] of Object.entries(await mooring.memory())) {
  console.log(`${name.padEnd(10)}${megabytes.toFixed(0).padStart(10)}`);
}

console.log("\nclick to tools listed, image present");
await deploys(mooring);

console.log("\nin gVisor, against Docker's own runtime");
await measureSandbox(QUICK ? 3 : 10);

console.log(`\n${MANY} servers deployed at once, image present`);
await many(mooring);

/** Deploys many at once: how long until the last runs, and what each costs the DTMA. */
async function many(mooring: Mooring) {
  const before = (await mooring.memory()).DTMA;
  let after = 0;
  const one = await mooring.deployToTools();
  const { firstMs, lastMs } = await mooring.deployMany(MANY, async () => {
    // Past the burst: what is held for each, not what was needed to start them.
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    after = (await mooring.memory()).DTMA;
  });
  console.log(
    `first running after ${(firstMs / 1000).toFixed(1)} s, last ${(lastMs / 1000).toFixed(1)} s`,
  );
  console.log(
    `${MANY} alone, each ${one.toFixed(0)} ms: ratio ${(lastMs / (one * MANY)).toFixed(2)}`,
  );
  console.log(
    `DTMA ${before.toFixed(0)} MB before, ${after.toFixed(0)} MB with them: ` +
      `${((after - before) / MANY).toFixed(2)} MB a server`,
  );
}

/** Deploys again and again, each beside the bare container of the same image. */
async function deploys(mooring: Mooring) {
  const clicks: number[] = [], bare: number[] = [];
  for (let i = 0; i < DEPLOYS; i++) {
    clicks.push(await mooring.deployToTools());
    bare.push(await mooring.bareContainer());
  }
  const line = (name: string, times: number[]) =>
    console.log(
      `${name.padEnd(34)} p50 ${quantile(times, 0.5).toFixed(0)} ms, p95 ${
        quantile(times, 0.95).toFixed(0)
      } ms`,
    );
  line("Mooring: POST /servers to tools", clicks);
  line("bare container to initialize", bare);
  console.log(`ratio of the medians: ${(quantile(clicks, 0.5) / quantile(bare, 0.5)).toFixed(2)}`);
}
