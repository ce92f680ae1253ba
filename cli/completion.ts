/** Completion for shells, made of the list of commands. */
import type { Command } from "./command.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;

/** What a shell runs so that it completes `mooring`. */
export function completion(shell: (typeof SHELLS)[number], commands: Command[]): string {
  const nouns = [...new Set(commands.map(({ words }) => words.split(" ")[0]))];
  const verbsOf = (noun: string) =>
    commands.flatMap(({ words }) => {
      const [first, verb] = words.split(" ");
      return first === noun && verb ? [verb] : [];
    });
  const optionsOf = ({ options = {} }: Command) =>
    [...Object.keys(options), "json", "help"].map((name) => `--${name}`).join(" ");
  if (shell === "fish") {
    const quoted = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
    const lines = ["complete -c mooring -f"];
    for (const noun of nouns) {
      lines.push(`complete -c mooring -n __fish_use_subcommand -a ${noun}`);
      for (
        const { words, summary } of commands.filter(({ words }) => words.startsWith(`${noun} `))
      ) {
        const [, verb] = words.split(" ");
        const isOpen = `__fish_seen_subcommand_from ${noun}; and not __fish_seen_subcommand_from ${
          verbsOf(noun).join(" ")
        }`;
        lines.push(`complete -c mooring -n '${isOpen}' -a ${verb} -d ${quoted(summary)}`);
      }
    }
    for (const command of commands) {
      const seen = command.words.split(" ").map((word) => `__fish_seen_subcommand_from ${word}`);
      const options = { ...command.options, json: { help: "As JSON" }, help: { help: "Help" } };
      for (const [name, { help }] of Object.entries(options)) {
        const needs = (command.options?.[name]?.value) ? " -r" : "";
        lines.push(
          `complete -c mooring -n '${seen.join("; and ")}' -l ${name}${needs} -d ${quoted(help)}`,
        );
      }
    }
    return lines.join("\n") + "\n";
  }
  const cases = [
    ...nouns.filter((noun) => verbsOf(noun).length > 0)
      .map((noun) => `    "${noun} ") words="${verbsOf(noun).join(" ")}" ;;`),
    ...commands.map((command) => {
      const [noun, verb] = command.words.split(" ");
      return `    "${noun} ${verb ?? ""}"*) words="${optionsOf(command)}" ;;`;
    }),
  ].join("\n");
  const choose = (first: string, second: string) =>
    `  case "${first} ${second}" in
    " ") words="${nouns.join(" ")}" ;;
${cases}
    *) words="" ;;
  esac`;
  return shell === "bash"
    ? `_mooring() {
  local words first="" second=""
  local current="\${COMP_WORDS[COMP_CWORD]}"
  [ "$COMP_CWORD" -gt 1 ] && first="\${COMP_WORDS[1]}"
  [ "$COMP_CWORD" -gt 2 ] && second="\${COMP_WORDS[2]}"
${choose("$first", "$second")}
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _mooring mooring
`
    : `#compdef mooring
_mooring() {
  local words_ first="" second="" words_list
  (( CURRENT > 2 )) && first="\${words[2]}"
  (( CURRENT > 3 )) && second="\${words[3]}"
${choose("$first", "$second").replaceAll('words="', 'words_="')}
  words_list=(\${=words_})
  (( \${#words_list} )) && compadd -- $words_list || _files
}
compdef _mooring mooring
`;
}
