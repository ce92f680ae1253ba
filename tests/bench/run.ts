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
import { type Mooring, startMooring } from "./mooring.ts";

const QUICK = Deno.args.includes("--quick");
const ROUNDS = QUICK ? 3 : 7;
const CALLS: Record<number, number> = QUICK
  ? { 1: 100, 16: 400, 64: 400 }
  : { 1: 300, 16: 1500, 64: 1500 };
const DEPLOYS = QUICK ? 4 : 12;

interface Round {
  callsPerS: number;
  p50: number;
  p95: number;
  errors: number;
}

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
  const rounds: Record<string, Round[]> = { pipe: [], forwarder: [], Mooring: [] };
  for (const way of Object.values(ways)) await load(way, concurrency, 100);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, way] of Object.entries(ways)) {
      rounds[name].push(await load(way, concurrency, CALLS[concurrency]));
    }
  }
  console.log(`tools/call of echo, ${concurrency} in flight`);
  console.log("             calls/s    p50 ms    p95 ms   errors");
  for (const [name, all] of Object.entries(rounds)) {
    const of = (key: keyof Round, digits: number) =>
      median(all.map((round) => round[key])).toFixed(digits).padStart(10);
    const errors = all.reduce((sum, round) => sum + round.errors, 0);
    console.log(
      `${name.padEnd(10)}${of("callsPerS", 0)}${of("p50", 2)}${of("p95", 2)}${
        String(errors).padStart(9)
      }`,
    );
  }
  for (const other of ["pipe", "forwarder"]) {
    const ratio = (key: "callsPerS" | "p50" | "p95") =>
      median(rounds.Mooring.map((round, i) => round[key] / rounds[other][i][key])).toFixed(2);
    console.log(
      `Mooring / ${other}: calls/s ${ratio("callsPerS")}, p50 ${ratio("p50")}, p95 ${ratio("p95")}`,
    );
  }
  console.log();
}

console.log("memory after the load, MB");
for (const [name, megabytes] of Object.entries(await mooring.memory())) {
  console.log(`${name.padEnd(10)}${megabytes.toFixed(0).padStart(10)}`);
}

console.log("\nclick to tools listed, image present");
await deploys(mooring);

/** Makes `count` calls, `concurrency` at a time. */
async function load(way: Caller, concurrency: number, count: number): Promise<Round> {
  const times: number[] = [];
  let left = count, errors = 0;
  const started = performance.now();
  await Promise.all(Array.from({ length: concurrency }, async () => {
    while (left-- > 0) {
      const from = performance.now();
      if (!await way.call()) errors++;
      times.push(performance.now() - from);
    }
  }));
  const seconds = (performance.now() - started) / 1000;
  return {
    callsPerS: count / seconds,
    p50: quantile(times, 0.5),
    p95: quantile(times, 0.95),
    errors,
  };
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

function median(values: number[]): number {
  return quantile(values, 0.5);
}

function quantile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
