/** What rounds came to, kept in a file over many runs, and their sums. */

/** One round: a line of the file. */
export interface RoundResult {
  /** When it ended, ISO 8601. */
  at: string;
  /** The commit that was run; with "+" when files differed from it. */
  code: string;
  seed: number;
  round: number;
  /** The kinds of its faults. */
  faults: string[];
  /** How long the faults lasted. */
  lastedMs: number;
  /** From the heal until all was as it was asked for, and answered. */
  reconvergedMs: number;
  /** The whole round. */
  tookMs: number;
  /** Rules that did not hold. */
  violated: string[];
}

/** Where runs add their rounds, unless told otherwise. */
export const RESULTS_FILE = new URL("../../.cache/chaos.jsonl", import.meta.url).pathname;

/** From when on a fault is a long one. */
const LONG_MS = 10_000;

export async function addResult(file: string, result: RoundResult): Promise<void> {
  await Deno.mkdir(file.slice(0, file.lastIndexOf("/")), { recursive: true });
  await Deno.writeTextFile(file, JSON.stringify(result) + "\n", { append: true });
}

/** @throws {Deno.errors.NotFound} when no run has written there */
export async function readResults(files: string[]): Promise<RoundResult[]> {
  const texts = await Promise.all(files.map((file) => Deno.readTextFile(file)));
  return texts.flatMap((text) =>
    text.split("\n").filter(Boolean).map((line) => JSON.parse(line) as RoundResult)
  );
}

/** A commit and whether the files are as it has them. */
export async function codeOfNow(): Promise<string> {
  const git = async (...args: string[]) => {
    const cwd = new URL("../..", import.meta.url);
    const { success, stdout } = await new Deno.Command("git", { args, cwd }).output();
    return success ? new TextDecoder().decode(stdout).trim() : "";
  };
  try {
    const changed = await git("status", "--porcelain", "--untracked-files=no");
    return await git("rev-parse", "--short", "HEAD") + (changed && "+");
  } catch {
    return "unknown"; // no git here
  }
}

/** Tables in Markdown: by fault, and by the code that was run. */
export function summary(results: RoundResult[]): string {
  const alone = results.filter(({ faults }) => faults.length === 1);
  const kinds = [...new Set(results.flatMap(({ faults }) => faults))].toSorted();
  const rows = kinds.map((kind) => {
    const withIt = results.filter(({ faults }) => faults.includes(kind));
    return row(kind, withIt.length, alone.filter(({ faults }) => faults[0] === kind));
  });
  const together = results.filter(({ faults }) => faults.length > 1);
  const long = results.filter(({ lastedMs }) => lastedMs >= LONG_MS);
  const codes = [...new Set(results.map(({ code }) => code))];
  const violations = results.filter(({ violated }) => violated.length > 0);
  return [
    "| fault | times | alone | p50 s | p95 s |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    row("two at once", together.length, together),
    row("lasting over 10 s", long.length, long),
    row("all rounds", results.length, results),
    "",
    "| code | seeds | rounds | faults | violations |",
    "| --- | --- | --- | --- | --- |",
    ...codes.map((code) => {
      const of = results.filter((each) => each.code === code);
      const seeds = [...new Set(of.map(({ seed }) => seed))].join(" ");
      const faults = of.reduce((sum, each) => sum + each.faults.length, 0);
      const violated = of.filter((each) => each.violated.length > 0).length;
      return `| ${code} | ${seeds} | ${of.length} | ${faults} | ${violated} |`;
    }),
    "",
    ...violations.map(({ code, seed, round, faults, violated }) =>
      `Seed ${seed}, round ${round} of ${code}, ${faults.join(" and ")}: ${violated.join("; ")}`
    ),
    `${results.length} rounds, ${violations.length} with violations; a round took ` +
    `${quantile(results.map(({ tookMs }) => tookMs), 0.5)} s (p50)`,
  ].join("\n");
}

function row(name: string, times: number, timed: RoundResult[]): string {
  const ms = timed.map(({ reconvergedMs }) => reconvergedMs);
  return `| ${name} | ${times} | ${timed.length} | ${quantile(ms, 0.5)} | ${quantile(ms, 0.95)} |`;
}

function quantile(ms: readonly number[], part: number): string {
  if (ms.length === 0) return "";
  return (ms.toSorted((a, b) => a - b)[Math.ceil(part * ms.length) - 1] / 1000).toFixed(1);
}
