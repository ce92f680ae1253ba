/** What is printed: tables for people at a terminal, tab-separated lines in a pipe, JSON where it is asked for. */

export class Output {
  /** For people, beside what is answered: servers' words are in it. */
  readonly tell: (text: string) => void;

  constructor(
    readonly isJson: boolean,
    readonly isTerminal: boolean,
    readonly write: (text: string) => void,
    tell: (text: string) => void,
  ) {
    this.tell = (text) => tell(visible(text));
  }

  /** A list: one line each, with the columns' names at a terminal. */
  list<T>(items: T[], columns: Record<string, (item: T) => unknown>, empty: string): void {
    if (this.isJson) return this.json(items);
    if (items.length === 0) return this.tell(empty);
    const names = Object.keys(columns);
    const rows = items.map((item) => names.map((name) => oneLine(columns[name](item))));
    if (!this.isTerminal) {
      for (const row of rows) this.write(row.join("\t") + "\n");
      return;
    }
    const all = [names.map((name) => name.toUpperCase()), ...rows];
    const widths = names.map((_, column) => Math.max(...all.map((row) => row[column].length)));
    for (const row of all) {
      const cells = row.map((cell, column) =>
        column === row.length - 1 ? cell : cell.padEnd(widths[column])
      );
      this.write(cells.join("  ").trimEnd() + "\n");
    }
  }

  /** One thing: a line for each of its facts. */
  facts(whole: unknown, facts: Record<string, unknown>): void {
    if (this.isJson) return this.json(whole);
    const shown = Object.entries(facts).map(([name, value]) => [oneLine(name), value] as const);
    const width = Math.max(...shown.map(([name]) => name.length)) + 1;
    for (const [name, value] of shown) {
      if (value === undefined || value === null || value === "") continue;
      const label = this.isTerminal ? `${name}:`.padEnd(width) + " " : `${name}\t`;
      this.write(label + oneLine(value) + "\n");
    }
  }

  /** What was done, for people; with --json what came of it. */
  done(whole: unknown, sentence: string): void {
    if (this.isJson) this.json(whole ?? {});
    else this.tell(sentence);
  }

  /** Text as it is, but for what a terminal would act upon. */
  text(whole: unknown, text: string): void {
    if (this.isJson) this.json(whole);
    else this.write(this.isTerminal ? visible(text) : text);
  }

  json(value: unknown): void {
    const text = JSON.stringify(value, null, 2) + "\n";
    this.write(this.isTerminal ? escaped(text) : text);
  }
}

/**
 * Characters that a terminal acts upon or nobody sees are shown as their code points: tools' texts and
 * logs are others' words, and must not move the cursor, set a title or turn the reading direction.
 */
export function visible(text: string): string {
  return text.replace(
    ACTED_UPON,
    (char) => `[U+${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`,
  );
}

const ACTED_UPON =
  // deno-lint-ignore no-control-regex
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;

/** The same JSON, with these characters as escapes. */
function escaped(json: string): string {
  return json.replace(
    ACTED_UPON,
    (char) => char.split("").map((unit) => `\\u${hex(unit.charCodeAt(0))}`).join(""),
  );
}

function hex(code: number): string {
  return code.toString(16).padStart(4, "0");
}

function oneLine(value: unknown): string {
  const text = value === null || value === undefined ? "" : String(value);
  return visible(text.replace(/[\t\r\n]+/g, " "));
}

/** How long ago, for people. */
export function ago(at: string | null): string {
  if (!at) return "never";
  const seconds = Math.max(0, (Date.now() - new Date(at).getTime()) / 1000);
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}
