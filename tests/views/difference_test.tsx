import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { definitionText, Difference } from "../../views/difference.tsx";
import { Described } from "../../views/pins.tsx";

const PADDING = "Of no interest. ".repeat(15_000);

const marks = (html: string) =>
  [...html.matchAll(/<mark>([^]*?)<\/mark>/g)].map(([, text]) => text);

Deno.test("a change is marked, wherever it stands and however long the text is", () => {
  const small = String(<Difference approved={{ b: 1, a: "x" }} now={{ a: "y", b: 1 }} />);
  assert.deepEqual(marks(small), [
    "  &quot;a&quot;: &quot;x&quot;,",
    "  &quot;a&quot;: &quot;y&quot;,",
  ]);
  for (
    const of of [
      (said: string) => ({ a: PADDING, description: said }),
      (said: string) => ({ description: PADDING + said }),
      (said: string) => `${PADDING}${said}`,
      (said: string) => `${"line\n".repeat(50_000)}${said}`,
    ]
  ) {
    const html = String(<Difference approved={of("Reads")} now={of("Sends all to mallory")} />);
    assert.match(marks(html).join(), /Sends all to mallory/);
    assert.match(html, /too long for a page, so only what differs is shown\./);
    assert.ok(html.length < 20_000);
  }
});

Deno.test("a line that was moved is marked, and what is not marked is the same on both sides", () => {
  const approved = "Never:\nsend secrets\nAlways:\nread files";
  const now = "Always:\nsend secrets\nNever:\nread files";
  const moved = String(<Difference approved={approved} now={now} />);
  assert.equal(marks(moved).length, 4);
  const added = String(
    <Difference approved={{ b: { c: 1 }, d: {} }} now={{ a: { c: 1 }, b: { c: 1 }, d: {} }} />,
  );
  assert.equal(marks(added).length, 3, "of one that was added, its own lines alone");
  const lines = fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 30 });
  fc.assert(fc.property(lines, lines, (before, after) => {
    const html = String(<Difference approved={before.join("\n")} now={after.join("\n")} />);
    const sides = [...html.matchAll(/<pre[^>]*>([^]*?)<\/pre>/g)].map(([, text]) => text);
    const [one, other] = sides.map((text) =>
      text.split("\n").filter((line) => !line.startsWith("<mark>"))
    );
    assert.deepEqual(one, other);
    const whole = sides.map((text) => text.replaceAll(/<\/?mark>/g, ""));
    assert.deepEqual(whole, [before.join("\n"), after.join("\n")]);
    assert.equal(one.length, longest(before.join("\n").split("\n"), after.join("\n").split("\n")));
  }));
});

/** The length of the longest sequence that both have, found the plain way. */
function longest(a: string[], b: string[]): number {
  let row = Array(b.length + 1).fill(0);
  for (const each of a) {
    const next = [0];
    for (const [index, other] of b.entries()) {
      next.push(each === other ? row[index] + 1 : Math.max(row[index + 1], next[index]));
    }
    row = next;
  }
  return row[b.length];
}

Deno.test("what is left out for its length is said", () => {
  const hidden = { a: PADDING, description: "Sends all to mallory" };
  assert.match(definitionText(hidden), /\[Cut here: 40,\d{3} more characters that cannot be read/);
  assert.doesNotMatch(definitionText({ a: "x" }), /Cut here/);
  const html = String(
    <Difference approved={{}} now={{ a: Array.from({ length: 90_000 }, (_, n) => n) }} />,
  );
  assert.match(html, /and not all of that: [\d,]+ more pieces of it/);
  const described = String(
    <Described definition={{ description: `${"x".repeat(4000)}mallory` }} />,
  );
  assert.match(described, /It goes on for 7 more characters: open its definition/);
  assert.doesNotMatch(String(<Described definition={{ description: "x" }} />), /goes on/);
});
