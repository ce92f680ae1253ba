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

/** Kinds of faults, as they are summed up. */
const GROUPS: Record<string, string[]> = {
  "app killed, frozen, restarted": ["app killed", "all apps killed", "app frozen", "app restarted"],
  "DTMA killed, frozen, restarted": ["DTMA killed", "DTMA frozen", "DTMA restarted"],
  "dockerd killed, frozen": ["dockerd killed", "dockerd frozen"],
  "Postgres crashed, frozen, cut off, slow, half open": [
    "Postgres crashed",
    "Postgres frozen",
    "database cut off",
    "database delayed",
    "database half open",
  ],
  "network cut, slow, half open": [
    "control path cut",
    "data path cut",
    "network delayed",
    "network half open",
  ],
  "a DTMA's or an engine's disk full": ["DTMA's disk full", "engine's disk full"],
  "server killed, frozen": ["server killed", "server frozen"],
  "egress proxy killed": ["egress proxy killed"],
  "a DTMA's or an app's clock set": ["DTMA's clock jumped", "app's clock jumped"],
  "reports lost, late, repeated": ["reports repeated"],
};

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

/**
 * Tables in Markdown: by fault, and by the code that was run. Rounds, and the times from the heal on,
 * are of the fault alone; of two at once both are counted as faults.
 */
export function summary(results: RoundResult[]): string {
  const rows = Object.entries(GROUPS).map(([name, kinds]) => {
    const of = results.flatMap(({ faults }) => faults.filter((each) => kinds.includes(each)));
    const isAlone = ({ faults }: RoundResult) => faults.length === 1 && kinds.includes(faults[0]);
    return row(name, of.length, results.filter(isAlone));
  });
  const together = results.filter(({ faults }) => faults.length > 1);
  const long = results.filter(({ lastedMs }) => lastedMs >= LONG_MS);
  const codes = [...new Set(results.map(({ code }) => code))];
  const violations = results.filter(({ violated }) => violated.length > 0);
  return [
    "| fault | faults | rounds | p50 s | p95 s |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    row("two at once", 2 * together.length, together),
    row("of all, those over 10 s", count(long), long),
    row("all", count(results), results),
    "",
    "| code | seeds | rounds | faults | violations |",
    "| --- | --- | --- | --- | --- |",
    ...codes.map((code) => {
      const of = results.filter((each) => each.code === code);
      const seeds = [...new Set(of.map(({ seed }) => seed))].join(" ");
      const violated = of.filter((each) => each.violated.length > 0).length;
      return `| ${code} | ${seeds} | ${of.length} | ${count(of)} | ${violated} |`;
    }),
    "",
    ...violations.map(({ code, seed, round, faults, violated }) =>
      `Seed ${seed}, round ${round} of ${code}, ${faults.join(" and ")}: ${violated.join("; ")}`
    ),
    `${results.length} rounds, ${violations.length} with violations; a round took ` +
    `${quantile(results.map(({ tookMs }) => tookMs), 0.5)} s (p50)`,
  ].join("\n");
}

function count(results: RoundResult[]): number {
  return results.reduce((sum, { faults }) => sum + faults.length, 0);
}

function row(name: string, faults: number, rounds: RoundResult[]): string {
  const ms = rounds.map(({ reconvergedMs }) => reconvergedMs);
  return `| ${name} | ${faults} | ${rounds.length} | ${quantile(ms, 0.5)} | ${
    quantile(ms, 0.95)
  } |`;
}

function quantile(ms: readonly number[], part: number): string {
  if (ms.length === 0) return "";
  return (ms.toSorted((a, b) => a - b)[Math.ceil(part * ms.length) - 1] / 1000).toFixed(1);
}
