import { diffArrays } from "diff";
import { count } from "./parts.tsx";
import { visibleText } from "./visible_text.ts";

/** So much of a text is on a page. A server may send five times of it, and agents read all. */
const SHOWN_CHARS = 200_000;
/** Of a text that is longer, the pieces of a line. */
const PIECE = /[^]{1,1000}/gu;

/** A definition as a person reads it, with what would not be seen made visible; what is cut is said. */
export function definitionText(definition: unknown): string {
  const text = wholeText(definition), more = text.length - SHOWN_CHARS;
  return more <= 0
    ? text
    : `${text.slice(0, SHOWN_CHARS)}\n\n[Cut here: ${
      count(more, "more character")
    } that cannot be read on this page]`;
}

function wholeText(definition: unknown): string {
  return visibleText(
    typeof definition === "string" ? definition : JSON.stringify(definition, null, 2),
  );
}

/** What was approved, or else known, beside what it is now, with the lines marked that the other has not there. */
export function Difference({ approved, now, title = "Approved" }: {
  approved: unknown;
  now: unknown;
  /** What the first of the two is. */
  title?: string;
}) {
  const texts = [approved, now].map((value) => wholeText(sorted(value)));
  // What is the same may not take the place on the page of what is not.
  const isLong = texts.some(({ length }) => length > SHOWN_CHARS);
  const [before, after] = texts.map((text) =>
    isLong ? text.split("\n").flatMap(pieces) : text.split("\n")
  );
  const same = inBoth(before.map(bare), after.map(bare));
  return (
    <div class="versus">
      <Side title={title} lines={before} same={same[0]} isLong={isLong} />
      <Side title="Now" lines={after} same={same[1]} isLong={isLong} />
    </div>
  );
}

function Side({ title, lines, same, isLong }: {
  title: string;
  lines: string[];
  same: boolean[];
  isLong: boolean;
}) {
  const all = lines.map((line, index) => ({ line, isOther: !same[index] }));
  const wanted = isLong ? all.filter(({ isOther }) => isOther) : all;
  let room = SHOWN_CHARS;
  const shown = wanted.filter(({ line }) => (room -= line.length + 1) >= 0 || !isLong);
  return (
    <div>
      <h3>{title}</h3>
      {isLong && (
        <p class="help">
          It is too long for a page, so only what differs is shown{shown.length < wanted.length &&
            `, and not all of that: ${count(wanted.length - shown.length, "more piece")} of it`}.
        </p>
      )}
      <pre tabindex={0}>
        {shown.map(({ line, isOther }, index) => (
          <>{index > 0 && "\n"}{isOther ? <mark>{line}</mark> : line}</>
        ))}
      </pre>
    </div>
  );
}

/** More insertions and removals are looked for in vain: all that is between the ends is marked then. */
const EDITS_LIMIT = 500;

/** Which lines of each the other has too, in the same order: a line that was moved can mean another thing. */
function inBoth(a: string[], b: string[]): [boolean[], boolean[]] {
  const inA = a.map(() => false), inB = b.map(() => false);
  let start = 0, endA = a.length, endB = b.length;
  for (; start < endA && start < endB && a[start] === b[start]; start++) {
    inA[start] = inB[start] = true;
  }
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    inA[--endA] = inB[--endB] = true;
  }
  const between = diffArrays(a.slice(start, endA), b.slice(start, endB), {
    maxEditLength: EDITS_LIMIT,
  });
  let [atA, atB] = [start, start];
  for (const { value, added, removed } of between ?? []) {
    const { length } = value;
    if (!added && !removed) {
      inA.fill(true, atA, atA + length);
      inB.fill(true, atB, atB + length);
    }
    if (!added) atA += length;
    if (!removed) atB += length;
  }
  return [inA, inB];
}

function pieces(line: string): string[] {
  return line.match(PIECE) ?? [line];
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
