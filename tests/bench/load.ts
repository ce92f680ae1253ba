/** Loads ways of making a call in turn, and compares them. */
import { cpuUs } from "./cpu.ts";
import type { Caller } from "./direct.ts";

export interface Round {
  /** Of calls that were answered rightly: a refusal is quicker than an answer. */
  callsPerS: number;
  p50: number;
  p95: number;
  p99: number;
  errors: number;
  /** Microseconds of a call, by process; empty of ways whose processes are not known. */
  cpuUs: Record<string, number>;
}

/** Measures all ways, round after round; the machine's speed drifts, so they take turns. */
export async function rounds(
  ways: Record<string, Caller>,
  { concurrency, calls, count }: { concurrency: number; calls: number; count: number },
): Promise<Record<string, Round[]>> {
  const measured = Object.fromEntries(Object.keys(ways).map((name) => [name, [] as Round[]]));
  for (const way of Object.values(ways)) await load(way, concurrency, 100);
  for (let round = 0; round < count; round++) {
    for (const [name, way] of Object.entries(ways)) {
      measured[name].push(await load(way, concurrency, calls));
    }
  }
  return measured;
}

/** Prints each way's medians. */
export function printRounds(measured: Record<string, Round[]>): void {
  console.log("               calls/s    p50 ms    p95 ms    p99 ms   errors  CPU us a call");
  for (const [name, all] of Object.entries(measured)) {
    const of = (key: Exclude<keyof Round, "cpuUs">, digits: number) =>
      median(all.map((round) => round[key])).toFixed(digits).padStart(10);
    const cpu = Object.keys(all[0].cpuUs).map((process) =>
      `${process} ${median(all.map((round) => round.cpuUs[process])).toFixed(0)}`
    );
    const errors = all.reduce((sum, round) => sum + round.errors, 0);
    console.log(
      `${name.padEnd(12)}${of("callsPerS", 0)}${of("p50", 2)}${of("p95", 2)}${of("p99", 2)}${
        String(errors).padStart(9)
      }  ${cpu.join(", ")}`,
    );
  }
}

/** Prints the medians of one way's rounds over another's. */
export function printRatio(measured: Record<string, Round[]>, one: string, other: string): void {
  const ratio = (key: "callsPerS" | "p50" | "p95" | "p99") =>
    median(measured[one].map((round, i) => round[key] / measured[other][i][key])).toFixed(2);
  console.log(
    `${one} / ${other}: calls/s ${ratio("callsPerS")}, p50 ${ratio("p50")}, p95 ${
      ratio("p95")
    }, p99 ${ratio("p99")}${cpuRatio(measured[one], measured[other])}`,
  );
}

function cpuRatio(one: Round[], other: Round[]): string {
  const sum = (round: Round) => Object.values(round.cpuUs).reduce((all, each) => all + each, 0);
  if (sum(one[0]) === 0 || sum(other[0]) === 0) return "";
  return `, CPU ${median(one.map((round, i) => sum(round) / sum(other[i]))).toFixed(1)}`;
}

/** Prints milliseconds by what they are of, and the first one's median over each other's. */
export function printTimes(times: Record<string, number[]>): void {
  const [[first, ours], ...others] = Object.entries(times);
  for (const [name, all] of [[first, ours] as const, ...others]) {
    const of = (share: number) => `${quantile(all, share).toFixed(0)} ms`;
    console.log(`${name.padEnd(34)} p50 ${of(0.5)}, p95 ${of(0.95)} (${all.length})`);
  }
  for (const [name, all] of others) {
    console.log(`${first} / ${name}: p50 ${(median(ours) / median(all)).toFixed(2)}`);
  }
}

/** Makes `count` calls, `concurrency` at a time. */
export async function load(way: Caller, concurrency: number, count: number): Promise<Round> {
  const before = await usedBy(way);
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
  const after = await usedBy(way);
  return {
    callsPerS: (count - errors) / seconds,
    p50: quantile(times, 0.5),
    p95: quantile(times, 0.95),
    p99: quantile(times, 0.99),
    errors,
    cpuUs: Object.fromEntries(
      Object.keys(after).map((name) => [name, (after[name] - before[name]) / count]),
    ),
  };
}

async function usedBy({ processes = {} }: Caller): Promise<Record<string, number>> {
  const used: Record<string, number> = {};
  for (const [name, pid] of Object.entries(processes)) used[name] = await cpuUs(pid);
  return used;
}

export function median(values: number[]): number {
  return quantile(values, 0.5);
}

export function quantile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
