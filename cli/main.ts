/**
 * Mooring's command line, over its API: `deno task cli -- servers list`. As a command of its own:
 * `deno install --global --name mooring --allow-net --allow-env --allow-read --allow-write cli/main.ts`.
 */
import { ApiError, Client, Exit, UnreachableError } from "./client.ts";
import { type Command, helpOf, overview, readLine, usage, UsageError } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { NothingSo } from "./find.ts";
import { Output, visible } from "./output.ts";
import { readSettings, whyUnsafe } from "./settings.ts";

/**
 * Runs a command line.
 * @returns the exit code
 */
export async function run(given: string[]): Promise<number> {
  // `deno task cli -- …` hands the dashes on.
  const words = given[0] === "--" ? given.slice(1) : given;
  const command = commandOf(words);
  const isJson = words.includes("--json");
  try {
    if (!command) return helpFor(words);
    const line = readLine(command, words.slice(command.words.split(" ").length));
    const output = new Output(isJson, Deno.stdout.isTerminal(), write, tell);
    if (line.flag("help")) {
      write(helpOf(command));
      return Exit.done;
    }
    const client = command.isOffline ? new Client({ url: "", token: "" }) : await clientFor();
    return await command.run({ ...line, client, output }) ?? Exit.done;
  } catch (error) {
    return failed(error, command, isJson);
  }
}

function commandOf([first, second]: string[]): Command | undefined {
  return COMMANDS.find(({ words }) => words === `${first} ${second}`) ??
    COMMANDS.find(({ words }) => words === first);
}

/** Of a noun its commands, of nothing all. @throws {UsageError} what is no noun, or no verb of it */
function helpFor([noun, verb]: string[]): number {
  const isHelp = (word: string) => ["--help", "-h", "help"].includes(word);
  const known = COMMANDS.filter(({ words }) => words.split(" ")[0] === noun);
  if (known.length > 0) {
    if (verb !== undefined && !isHelp(verb)) {
      const said = JSON.stringify(`${noun} ${verb}`);
      throw new UsageError(`There is no command ${said}: ${noun} --help lists them`);
    }
    write(overview(known, `mooring ${noun}`));
    return Exit.done;
  }
  if (noun === undefined || isHelp(noun)) {
    write(overview(COMMANDS, "Mooring's command line"));
    return noun === undefined ? Exit.usage : Exit.done;
  }
  throw new UsageError(`There is no command ${JSON.stringify(noun)}: --help lists them`);
}

async function clientFor(): Promise<Client> {
  const settings = await readSettings();
  if (!settings) {
    throw new UsageError(
      "Say where Mooring is and as whom: `login`, or MOORING_URL and MOORING_TOKEN",
    );
  }
  const unsafe = whyUnsafe(settings.url);
  if (unsafe) throw new UsageError(unsafe);
  // Of a header that cannot be sent Deno would say the whole.
  if (!/^[!-~]+$/.test(settings.token)) {
    throw new UsageError("MOORING_TOKEN holds what no token has, such as a space or a line break");
  }
  return new Client(settings);
}

function failed(error: unknown, command: Command | undefined, isJson: boolean): number {
  // Who read it had enough, as `head` does.
  if (error instanceof Deno.errors.BrokenPipe) return Exit.done;
  const code = error instanceof UsageError
    ? Exit.usage
    : error instanceof NothingSo
    ? Exit.notFound
    : error instanceof UnreachableError
    ? Exit.unreachable
    : error instanceof ApiError
    ? error.exitCode
    : Exit.failed;
  const message = (error as Error).message;
  if (isJson) {
    const problem = error instanceof ApiError ? error.problem : { detail: message };
    tell(JSON.stringify({ ...problem, exitCode: code }));
  } else {
    tell(visible(message));
    if (error instanceof UsageError && command) tell(`Usage: ${usage(command)}`);
  }
  return code;
}

function write(text: string) {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

function tell(text: string) {
  console.error(text);
}

if (import.meta.main) Deno.exit(await run(Deno.args));
