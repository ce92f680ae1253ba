import { visibleText } from "./visible_text.ts";

/** A definition as a person reads it: all of it, with what would not be seen made visible. */
export function definitionText(definition: unknown): string {
  const text = typeof definition === "string" ? definition : JSON.stringify(definition, null, 2);
  return visibleText(text).slice(0, 200_000);
}

/** What was approved, or else known, beside what it is now, with the lines marked that the other has not. */
export function Difference({ approved, now, title = "Approved" }: {
  approved: unknown;
  now: unknown;
  /** What the first of the two is. */
  title?: string;
}) {
  const [before, after] = [sorted(approved), sorted(now)].map((value) =>
    definitionText(value).split("\n")
  );
  return (
    <div class="versus">
      <Side title={title} lines={before} others={after} />
      <Side title="Now" lines={after} others={before} />
    </div>
  );
}

function Side({ title, lines, others }: { title: string; lines: string[]; others: string[] }) {
  const left = new Map<string, number>();
  for (const line of others.map(bare)) left.set(line, (left.get(line) ?? 0) + 1);
  return (
    <div>
      <h3>{title}</h3>
      <pre tabindex={0}>
        {lines.map((line, index) => {
          const remaining = left.get(bare(line)) ?? 0;
          left.set(bare(line), remaining - 1);
          return <>{index > 0 && "\n"}{remaining > 0 ? line : <mark>{line}</mark>}</>;
        })}
      </pre>
    </div>
  );
}

/** A comma that comes with a next member is no difference. */
function bare(line: string): string {
  return line.replace(/,$/, "");
}

/** With the keys in one order: where they stand says nothing, and is not what changed. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1);
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}
