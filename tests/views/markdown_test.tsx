import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { Markdown } from "../../views/markdown.tsx";

async function html(text: string): Promise<string> {
  return String(await (<Markdown text={text} id="m" />).toString());
}

Deno.test("Markdown makes of what models write what they mean", async () => {
  const made = await html(
    "# Title\n\nA **bold** and *slanted* `code` ~~gone~~.\n\n- one\n- two\n\n3. three\n\n> quoted\n\n" +
      "| a | b |\n|---|---|\n| 1 | 2 |\n\n```ts\nconst x = 1 < 2;\n```\n\n---\n",
  );
  assert.match(made, /<h3>Title<\/h3>/);
  assert.match(
    made,
    /<strong>bold<\/strong> and <em>slanted<\/em> <code>code<\/code> <s>gone<\/s>/,
  );
  assert.match(made, /<ul>\s*<li>one<\/li>\s*<li>two<\/li>\s*<\/ul>/);
  assert.match(made, /<ol start="3">\s*<li>three<\/li>/);
  assert.match(made, /<blockquote>\s*<p>quoted<\/p>\s*<\/blockquote>/);
  assert.match(made, /<th>a<\/th>[\s\S]*<td>2<\/td>/);
  assert.match(made, /<pre id="m-code-0" tabindex="0"><code>const x = 1 &lt; 2;<\/code><\/pre>/);
  assert.match(made, /data-copy="m-code-0" aria-label="Copy ts code"/);
  assert.match(made, /<hr\/?>/);
});

Deno.test("Markdown leads to the web alone, and fetches nothing", async () => {
  const fit = await html("[site](https://example.com/a?b=c) <mailto:a@example.com>");
  assert.match(
    fit,
    /href="https:\/\/example\.com\/a\?b=c" target="_blank" rel="noopener noreferrer nofollow"/,
  );
  assert.match(fit, /href="mailto:a@example\.com"/);
  for (
    const address of [
      "javascript:alert(1)",
      "JaVaScRiPt:alert(1)",
      "&#106;avascript:alert(1)",
      "data:text/html,<script>alert(1)</script>",
      "vbscript:x",
      "file:///etc/passwd",
      "/workspace/delete",
      "//evil.example",
      "blob:https://example.com/x",
    ]
  ) assert.ok(!(await html(`[x](${address})`)).includes("<a"), address);
  const picture = await html("![secret](https://evil.example/?q=secret)");
  assert.ok(!picture.includes("<img"), "a picture would tell its server what was said");
  assert.match(picture, /\[picture: secret\]/);
});

Deno.test("Markdown takes over no HTML, whatever it is given", async () => {
  const allowed =
    /^<(\/?(div|p|h[3-6]|ul|ol|li|blockquote|table|thead|tbody|tr|th|td|strong|em|s|a|code|pre|br|hr|button))( (class|id|tabindex|start|href|target|rel|title|type|data-copy|aria-label)="[^"<>]*")*\/?>$/;
  const pieces = fc.constantFrom(
    ...[
      "<script>alert(1)</script>",
      "<img src=x onerror=alert(1)>",
      "[a](javascript:x)",
      "**",
      "`",
    ],
    ...[
      "```\n",
      "\n",
      "> ",
      "- ",
      "1. ",
      "| a |\n|--|\n",
      "![x](",
      "](https://a.example)",
      "<a href=",
      `"`,
    ],
    ...[
      "&lt;",
      "<!--",
      "-->",
      "\u202e",
      "\\",
      "# ",
      "<https://a.example>",
      "[x]: https://b.example 't'",
    ],
  );
  const texts = fc.array(fc.oneof(pieces, fc.string()), { maxLength: 30 }).map((all) =>
    all.join("")
  );
  await fc.assert(
    fc.asyncProperty(texts, async (text) => {
      for (const [tag] of (await html(text)).matchAll(/<[^>]*>/g)) assert.match(tag, allowed);
    }),
    { numRuns: 500 },
  );
});
