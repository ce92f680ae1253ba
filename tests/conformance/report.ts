/** What is said of the pairings: the table, and what was lost with and without a known reason. */
import type { Known } from "./known.ts";
import type { Lost, Pairing } from "./pairings.ts";

export const nameOf = ({ client, upstream }: Pairing) => `${client} -> ${upstream}`;

/** A Markdown table, a row a pairing. */
export function table(pairings: Pairing[]): string {
  const rows = [
    ["client (suite)", "server behind the bridge", "checks passed directly", "through it", "lost"],
    ...pairings.map(({ client, upstream, direct, kept, lost }) =>
      [client, upstream, direct, kept, lost.length].map(String)
    ),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (cells: string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  const [head, ...body] = rows.map(line);
  return [head, line(widths.map((width) => "-".repeat(width))), ...body].join("\n");
}

/** Holds what was lost against what is known to be, of the pairings that were run. */
export function sortOut(pairings: Pairing[], list: Known[]) {
  const known: { lost: Lost; pairing: string; reason: string }[] = [];
  const unknown: { lost: Lost; pairing: string }[] = [];
  const unnecessary: { check: string; pairing: string }[] = [];
  for (const each of pairings) {
    const pairing = nameOf(each);
    const listed = list.filter((entry) => entry.pairings.includes(pairing));
    const needed = new Set<Known>();
    for (const lost of each.lost) {
      const entry = listed.find(({ check }) => isAbout(check, lost));
      if (entry) {
        needed.add(entry);
        known.push({ lost, pairing, reason: entry.reason });
      } else unknown.push({ lost, pairing });
    }
    for (const entry of listed) {
      if (!needed.has(entry)) unnecessary.push({ check: entry.check, pairing });
    }
  }
  return { known, unknown, unnecessary };
}

function isAbout(pattern: string, { check }: Lost): boolean {
  return pattern.endsWith("/*") ? check.startsWith(pattern.slice(0, -1)) : check === pattern;
}
