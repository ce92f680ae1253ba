/**
 * `deno task chaos`: faults under load, for as long as is asked, and what held.
 *
 *     deno task chaos --rounds 20 --seed 7 --minutes 30 --only "app killed,dockerd killed"
 *
 * Ends with the plain line `N passed, N failed, N skipped`: rounds and the clean end, and fault kinds
 * that cannot be had here.
 */
import { parseArgs } from "node:util";
import { type ChaosResult, runChaos, whyNot } from "./harness.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    rounds: { type: "string", default: "20" },
    seed: { type: "string" },
    minutes: { type: "string", default: "30" },
    only: { type: "string", default: "" },
  },
});
const say = (line: string) => console.log(line);

const reason = await whyNot();
if (reason) {
  say(`Chaos cannot be made here: ${reason}`);
  say("0 passed, 0 failed, 1 skipped");
  Deno.exit(0);
}
const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, () => {
    say("Stopping after this round");
    stopping.abort();
  });
}
const result = await runChaos({
  rounds: Number(values.rounds),
  seed: Number(values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000),
  minutes: Number(values.minutes),
  hasLong: true,
  only: values.only.split(",").filter(Boolean),
  say,
  signal: stopping.signal,
});
tell(result);
Deno.exit(result.failed > 0 ? 1 : 0);

function tell({ passed, failed, skipped, reconvergedMs, tally }: ChaosResult): void {
  say("\nTime from the heal until all is as it was asked for, and answers:");
  say("| fault | rounds | p50 s | p95 s |");
  say("| --- | --- | --- | --- |");
  const rows = [...reconvergedMs].toSorted(([a], [b]) => a.localeCompare(b));
  for (const [kind, ms] of [...rows, ["all", rows.flatMap(([, each]) => each)] as const]) {
    say(`| ${kind} | ${ms.length} | ${quantile(ms, 0.5)} | ${quantile(ms, 0.95)} |`);
  }
  const counts = [...tally].toSorted().map(([what, count]) => `${what} ${count}`);
  say(`\nOperations: ${counts.join(", ")}`);
  for (const [kind, why] of skipped) say(`SKIPPED, ${kind}: ${why}`);
  say(`${passed} passed, ${failed} failed, ${skipped.size} skipped`);
}

function quantile(ms: readonly number[], part: number): string {
  const sorted = ms.toSorted((a, b) => a - b);
  return ((sorted[Math.ceil(part * sorted.length) - 1] ?? NaN) / 1000).toFixed(1);
}
