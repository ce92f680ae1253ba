/** What a command is, how its line is read (node:util's parseArgs, in the runtime already), and its help. */
import { parseArgs } from "node:util";
import type { Client } from "./client.ts";
import type { Output } from "./output.ts";

export interface Option {
  /** Without it the option is a switch. */
  value?: string;
  isRepeatable?: boolean;
  help: string;
}

export interface Command {
  /** A noun and a verb, or one word. */
  words: string;
  summary: string;
  /** `<needed>`, `[optional]`, the last one perhaps `…` for several. */
  arguments?: string[];
  options?: Record<string, Option>;
  /** More than a line, where there is more to say. */
  details?: string;
  /** It works without a token. */
  isOffline?: boolean;
  /** @returns the exit code, 0 where it says none */
  run(line: Line): Promise<number | void>;
}

/** A command line as its command sees it. */
export interface Line {
  client: Client;
  output: Output;
  args: string[];
  flag(name: string): boolean;
  value(name: string): string | undefined;
  values(name: string): string[];
}

/** The line does not hold: told with the command's usage, exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
}

const COMMON: Record<string, Option> = {
  json: { help: "Answer as JSON, errors too" },
  help: { help: "Say what the command does" },
};

/** Reads what stands behind a command's words. @throws {UsageError} */
export function readLine(command: Command, rest: string[]): Omit<Line, "client" | "output"> {
  const known = { ...command.options, ...COMMON };
  let parsed;
  try {
    parsed = parseArgs({
      args: rest,
      allowPositionals: true,
      options: Object.fromEntries(
        Object.entries(known).map(([name, { value, isRepeatable }]) => [name, {
          type: value === undefined ? "boolean" as const : "string" as const,
          multiple: isRepeatable ?? false,
          ...(name === "help" ? { short: "h" } : {}),
        }]),
      ),
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const { positionals, values } = parsed as {
    positionals: string[];
    values: Record<string, string | boolean | string[] | undefined>;
  };
  if (values.help !== true) checkCount(command, positionals);
  return {
    args: positionals,
    flag: (name) => values[name] === true,
    value: (name) => values[name] as string | undefined,
    values: (name) => (values[name] ?? []) as string[],
  };
}

function checkCount({ arguments: wanted = [] }: Command, given: string[]) {
  const needed = wanted.filter((name) => name.startsWith("<"));
  if (given.length < needed.length) throw new UsageError(`${wanted[given.length]} is missing`);
  const isOpen = wanted.at(-1)?.includes("…") ?? false;
  if (!isOpen && given.length > wanted.length) {
    throw new UsageError(`${JSON.stringify(given[wanted.length])} is one argument too many`);
  }
}

/** A whole number of an option. @throws {UsageError} */
export function numberIn(line: Pick<Line, "value">, name: string): number | undefined {
  const text = line.value(name);
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`--${name} takes a whole number`);
  return Number(text);
}

/** `KEY=VALUE` of a repeatable option. @throws {UsageError} */
export function pairsIn(line: Pick<Line, "values">, name: string): Record<string, string> {
  return Object.fromEntries(
    line.values(name).map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw new UsageError(`--${name} takes KEY=VALUE`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

/** How a command is written. */
export function usage({ words, arguments: args = [], options = {} }: Command): string {
  return ["mooring", words, ...args, ...(Object.keys(options).length > 0 ? ["[options]"] : [])]
    .join(" ");
}

/** A command's help. */
export function helpOf(command: Command): string {
  const options = Object.entries({ ...command.options, ...COMMON }).map((
    [name, { value, isRepeatable, help }],
  ) => [`  --${name}${value ? ` ${value}` : ""}`, help + (isRepeatable ? " (repeatable)" : "")]);
  return [
    command.summary,
    "",
    `Usage: ${usage(command)}`,
    ...(command.details ? ["", command.details] : []),
    "",
    "Options:",
    ...columns(options),
    "",
  ].join("\n");
}

/** The help of all, or of a noun's. */
export function overview(commands: Command[], title: string): string {
  return [
    title,
    "",
    ...columns(commands.map(({ words, arguments: args = [], summary }) => [
      `  ${[words, ...args].join(" ")}`,
      summary,
    ])),
    "",
    "Each says more with --help. MOORING_URL and MOORING_TOKEN say where and as whom; `login` keeps them.",
    "Exit codes: 0 done, 1 failed, 2 not a command or what was given does not hold, 3 not found, 4 denied,",
    "5 changed meanwhile or in the way, 6 Mooring does not answer.",
    "",
  ].join("\n");
}

function columns(rows: string[][]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`);
}
