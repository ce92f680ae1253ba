import assert from "node:assert/strict";
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

Deno.test("what is left out for its length is said", () => {
  const hidden = { a: PADDING, description: "Sends all to mallory" };
  assert.match(definitionText(hidden), /\[Cut here: 40\d{3} more characters that cannot be read/);
  assert.doesNotMatch(definitionText({ a: "x" }), /Cut here/);
  const html = String(
    <Difference approved={{}} now={{ a: Array.from({ length: 90_000 }, (_, n) => n) }} />,
  );
  assert.match(html, /and not all of that: \d+ more pieces of it/);
  const described = String(
    <Described definition={{ description: `${"x".repeat(4000)}mallory` }} />,
  );
  assert.match(described, /It goes on for 7 more characters: open its definition/);
  assert.doesNotMatch(String(<Described definition={{ description: "x" }} />), /goes on/);
});
