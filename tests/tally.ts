/** What `deno test` counted, out of what it printed. */

export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** Stands where a test or a step ended, at times cut off behind its word, and not where one that hangs tells of a token. */
export const ENDED = / (?:ok|FAILED|ignored)(?: \(|$)/;

/**
 * Steps are counted with their tests: a test of ours is often a story of many. A run that Deno calls a success
 * has failed all the same where a file ended itself, whose tests Deno forgets.
 *
 * @param output without colours
 * @param isSuccess that it ended with 0
 */
export function tallyOf(output: string, isSuccess: boolean): Tally {
  // The last: a test may print another run's.
  const summary = [...output.matchAll(/^(?:ok|FAILED) \| (.*)$/gm)].at(-1)?.[1] ?? "";
  const [passed, failed, skipped] = ["passed", "failed", "ignored"].map((word) => {
    const [, tests = "0", steps = "0"] =
      new RegExp(`(\\d+) ${word}(?: \\((\\d+) steps?\\))?`).exec(summary) ?? [];
    return Number(tests) + Number(steps);
  });
  // A test that finds out while it runs that it cannot has said why, and has passed nothing.
  const unable = output.match(/^SKIPPED: /gm)?.length ?? 0;
  const ended = output.match(/^note \S.* called `Deno\.exit\(/gm)?.length ?? 0;
  // A run that broke off without a summary has failed, whatever it had counted.
  const broken = isSuccess || failed + ended > 0 ? 0 : 1;
  return {
    passed: passed - unable,
    failed: failed + ended + broken,
    skipped: skipped + unable,
  };
}
