/** The official suite, @modelcontextprotocol/conformance: run against a server, its results read. */

export type Status = "SUCCESS" | "FAILURE" | "WARNING" | "SKIPPED" | "INFO";

/** What came of a check; its message says what was not as it should be. */
export interface Outcome {
  status: Status;
  message?: string;
}

/** Outcomes by `scenario/check`. */
export type Results = Map<string, Outcome>;

/** No run takes as long: each scenario ends by itself, or after 30 s. */
const HANGS_AFTER_MS = 300_000;
/** Of one check's several occurrences the first of these counts. */
const BY_WEIGHT: Status[] = ["FAILURE", "WARNING", "SUCCESS", "SKIPPED", "INFO"];
const LOCK = new URL("deno.lock", import.meta.url).pathname;

/**
 * Runs scenarios of the suite.
 *
 * @param version the suite's
 * @param args its command, `server` or `client`, and what it is to do
 * @param directory where its own results and output are kept
 * @param hear is told what it has said so far, for a scenario that asks something of a person
 */
export async function runSuite(
  version: string,
  args: string[],
  directory: string,
  hear: (said: string) => void = () => {},
): Promise<Results> {
  // What an earlier run left there is not this run's.
  await Deno.remove(directory, { recursive: true }).catch(() => {});
  await Deno.mkdir(directory, { recursive: true });
  const late = AbortSignal.timeout(HANGS_AFTER_MS);
  // Under Deno, since it crashes on Node 20.
  const suite = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "-A",
      `--lock=${LOCK}`,
      `npm:@modelcontextprotocol/conformance@${version}`,
      ...args,
      "--output-dir",
      directory,
    ],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: late,
  }).spawn();
  let said = "";
  const wrongs = new Response(suite.stderr).text();
  for await (const text of suite.stdout.pipeThrough(new TextDecoderStream())) hear(said += text);
  const stderr = await wrongs;
  await suite.status;
  await Deno.writeTextFile(`${directory}/output.txt`, said + stderr);
  // What it did not come to would be missed by nobody.
  if (late.aborted) throw new Error(`The suite ${version} hung: ${directory}/output.txt`);
  const results = await readResults(directory);
  // It exits with 1 for a failed check as for a crash of its own.
  if (results.size === 0) {
    throw new Error(`The suite ${version} left no results: ${stderr}`);
  }
  return results;
}

/**
 * Reads the suite's `<scenario>-<time>/checks.json` files, named `server-…` for servers; scenarios of
 * authorization are below `auth/`.
 */
export async function readResults(directory: string): Promise<Results> {
  const results: Results = new Map();
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    if (isDirectory && name === "auth") {
      for (const [check, outcome] of await readResults(`${directory}/auth`)) {
        results.set(`auth/${check}`, outcome);
      }
    }
    const scenario = /^(?:server-)?(.+)-\d{4}-\d\d-\d\dT[\dZ-]+$/.exec(name)?.[1];
    if (!isDirectory || !scenario) continue;
    // A scenario that broke off left its directory empty: its checks are in no result.
    const text = await Deno.readTextFile(`${directory}/${name}/checks.json`).catch(() => null);
    if (text === null) {
      results.set(`${scenario}/*`, { status: "FAILURE", message: "It broke off" });
      continue;
    }
    const checks: { id: string; status: Status; errorMessage?: string }[] = JSON.parse(text);
    for (const { id, status, errorMessage: message } of checks) {
      const check = `${scenario}/${id}`;
      const before = results.get(check);
      if (!before || BY_WEIGHT.indexOf(status) < BY_WEIGHT.indexOf(before.status)) {
        results.set(check, { status, message });
      }
    }
  }
  return results;
}
