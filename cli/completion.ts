/** Completion for shells, made of the list of commands. */
import type { Command } from "./command.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;

/** What a shell runs so that it completes `mooring`. */
export function completion(shell: (typeof SHELLS)[number], commands: Command[]): string {
  return shell === "fish" ? fish(commands) : shell === "bash" ? bash(commands) : zsh(commands);
}

function nounsOf(commands: Command[]): string[] {
  return [...new Set(commands.map(({ words }) => words.split(" ")[0]))];
}

function verbsOf(noun: string, commands: Command[]): string[] {
  return commands.flatMap(({ words }) => {
    const [first, verb] = words.split(" ");
    return first === noun && verb ? [verb] : [];
  });
}

/** Of an argument that is one of some words, `<bash|zsh|fish>`, these. */
function choicesOf({ arguments: [first = ""] = [] }: Command): string[] {
  return /^<\w+(\|\w+)+>$/.test(first) ? first.slice(1, -1).split("|") : [];
}

function bash(commands: Command[]): string {
  return `_mooring() {
  local words first="" second=""
  local current="\${COMP_WORDS[COMP_CWORD]}"
  [ "$COMP_CWORD" -gt 1 ] && first="\${COMP_WORDS[1]}"
  [ "$COMP_CWORD" -gt 2 ] && second="\${COMP_WORDS[2]}"
${choose(commands, "words")}
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _mooring mooring
`;
}

function zsh(commands: Command[]): string {
  return `#compdef mooring
_mooring() {
  local words_ first="" second="" words_list
  (( CURRENT > 2 )) && first="\${words[2]}"
  (( CURRENT > 3 )) && second="\${words[3]}"
${choose(commands, "words_")}
  words_list=(\${=words_})
  (( \${#words_list} )) && compadd -- $words_list || _files
}
compdef _mooring mooring
`;
}

/** Sets a variable to the words that may stand behind the first and the second one. */
function choose(commands: Command[], variable: string): string {
  const line = (pattern: string, words: string[]) =>
    `    ${pattern}) ${variable}="${words.join(" ")}" ;;`;
  const behind = (command: Command) => [
    ...choicesOf(command),
    ...[...Object.keys(command.options ?? {}), "json", "help"].map((name) => `--${name}`),
  ];
  const alone = commands.filter(({ words }) => !words.includes(" "));
  return [
    '  case "$first $second" in',
    line('" "', nounsOf(commands)),
    ...nounsOf(commands).map((noun) => {
      const own = alone.find(({ words }) => words === noun);
      return line(`"${noun} "`, [...verbsOf(noun, commands), ...(own ? behind(own) : [])]);
    }),
    ...commands.filter((each) => !alone.includes(each))
      .map((command) => line(`"${command.words}"`, behind(command))),
    ...alone.map((command) => line(`"${command.words} "*`, behind(command))),
    `    *) ${variable}="" ;;`,
    "  esac",
  ].join("\n");
}

function fish(commands: Command[]): string {
  const quoted = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const seen = (words: string[]) => `__fish_seen_subcommand_from ${words.join(" ")}`;
  const lines: string[] = [];
  const add = (condition: string, rest: string) =>
    lines.push(`complete -c mooring -n ${quoted(condition)} ${rest}`);
  // Files only where a command is there already.
  add("__fish_use_subcommand", "-f");
  for (const noun of nounsOf(commands)) {
    add("__fish_use_subcommand", `-a ${noun}`);
    const verbs = verbsOf(noun, commands);
    if (verbs.length === 0) continue;
    const isOpen = `${seen([noun])}; and not ${seen(verbs)}`;
    add(isOpen, "-f");
    for (const { words, summary } of commands) {
      const [first, verb] = words.split(" ");
      if (first === noun && verb) add(isOpen, `-a ${verb} -d ${quoted(summary)}`);
    }
  }
  for (const command of commands) {
    const isThis = command.words.split(" ").map((word) => seen([word])).join("; and ");
    const choices = choicesOf(command);
    if (choices.length > 0) add(isThis, `-f -a ${quoted(choices.join(" "))}`);
    const options = { ...command.options, json: { help: "As JSON" }, help: { help: "Help" } };
    for (const [name, { help }] of Object.entries(options)) {
      const needs = command.options?.[name]?.value ? " -r" : "";
      add(isThis, `-l ${name}${needs} -d ${quoted(help)}`);
    }
  }
  return lines.join("\n") + "\n";
}
