/**
 * `deno task chaos`: faults under load, for as long as is asked, and what held.
 *
 *     deno task chaos --rounds 1000 --minutes 150     the long form
 *     deno task chaos --seed 7 --only "app killed,dockerd killed"
 *     deno task chaos --sum                           what all runs so far came to
 *     deno task chaos --mutants                       whether planted bugs are found
 *
 * Each round is a line of `.cache/chaos.jsonl` (or of `--results FILE`), so that runs add up, also
 * those that were stopped. Ends with the plain line `N passed, N failed, N skipped`: rounds and the
 * clean end, and fault kinds that cannot be had here.
 */
import { parseArgs } from "node:util";
import { type ChaosResult, type Played, runChaos, whyNot } from "./harness.ts";
import { MUTANTS, mutated } from "./mutants.ts";
import { addResult, codeOfNow, readResults, RESULTS_FILE, summary } from "./results.ts";

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "20" },
    seed: { type: "string" },
    minutes: { type: "string", default: "30" },
    only: { type: "string", default: "" },
    results: { type: "string", default: RESULTS_FILE },
    sum: { type: "boolean", default: false },
    mutants: { type: "boolean", default: false },
  },
});
const say = (line: string) => console.log(line);

if (values.sum) {
  say(summary(await readResults(positionals.length > 0 ? positionals : [values.results])));
  Deno.exit(0);
}
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
const seed = Number(values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000);
Deno.exit(await (values.mutants ? findMutants(positionals) : runRounds()) ? 0 : 1);

/** @returns whether all held */
async function runRounds(): Promise<boolean> {
  const code = await codeOfNow();
  const result = await runChaos({
    rounds: Number(values.rounds),
    seed,
    minutes: Number(values.minutes),
    hasLong: true,
    only: values.only.split(",").filter(Boolean),
    say,
    onRound: (round) => addResult(values.results, kept(round, code)),
    signal: stopping.signal,
  });
  say("\nTime from the heal until all is as it was asked for, and answers:");
  say(summary(result.rounds.map((round) => kept(round, code))));
  tell(result);
  return result.failed === 0;
}

function kept(round: Played, code: string) {
  return { at: new Date().toISOString(), code, ...round };
}

function tell({ passed, failed, skipped, tally }: ChaosResult): void {
  const counts = [...tally].toSorted().map(([what, count]) => `${what} ${count}`);
  say(`\nOperations: ${counts.join(", ")}`);
  for (const [kind, why] of skipped) say(`SKIPPED, ${kind}: ${why}`);
  say(`${passed} passed, ${failed} failed, ${skipped.size} skipped`);
}

/** @param names of some mutants; none: all. @returns whether each was found */
async function findMutants(names: string[]): Promise<boolean> {
  const unknown = names.find((name) => !MUTANTS.some((mutant) => mutant.name === name));
  if (unknown !== undefined) {
    say(`There is no mutant ${JSON.stringify(unknown)}`);
    return false;
  }
  const chosen = MUTANTS.filter(({ name }) => names.length === 0 || names.includes(name));
  let found = 0, missed = 0;
  for (const mutant of chosen) {
    if (stopping.signal.aborted) break;
    const folder = await Deno.makeTempDir({ prefix: "mooring-mutant-" });
    const root = await mutated(mutant, new URL("../..", import.meta.url).pathname, folder);
    const { violations } = await runChaos({
      ...{ rounds: 40, seed, minutes: 10, only: mutant.only, root },
      say: () => {},
      signal: stopping.signal,
    });
    await Deno.remove(folder, { recursive: true });
    const by = violations.find(({ rule }) => mutant.rules.includes(rule));
    if (by) found++;
    else if (stopping.signal.aborted) break;
    else missed++;
    say(`${mutant.name}: ${by ? `found by "${by.rule}": ${by.detail}` : "NOT FOUND"}`);
  }
  // One that was not tried to the end is not known to be found.
  say(`${found} passed, ${missed} failed, ${chosen.length - found - missed} skipped`);
  return found === chosen.length;
}
