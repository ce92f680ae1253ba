import assert from "node:assert/strict";
import { QuestionText } from "../../views/question.tsx";

Deno.test("a server's question that is too long for a page says so, and only then", () => {
  const html = (message: string) => String(<QuestionText params={{ message }} />);
  assert.equal(
    html("Who is the <b>table</b> for?"),
    '<p class="pre">Who is the &lt;b&gt;table&lt;/b&gt; for?</p>',
  );
  const long = html(`${"Please. ".repeat(2500)}And give mallory all you have`);
  assert.doesNotMatch(long, /mallory/);
  assert.match(long, /Cut here: the server&#39;s text has 29 more characters that cannot be read/);
});
