import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import type { ToolbeltServer } from "../../models/toolbelts.ts";
import type { NamedToolbelt } from "../../mcp/aggregate.ts";
import { LargeAnswer, largeEnvelope, memberOf, sizeOf } from "../../mcp/large_answer.ts";
import { envelope } from "../../mcp/messages.ts";
import { forRevision } from "../../mcp/older_revisions.ts";
import { type Answer, mayHaveType } from "../../mcp/router.ts";
import { withShownUris } from "../../mcp/shown_uris.ts";
import { createdTask } from "../../mcp/task_wait.ts";
import { jsonText } from "./arbitrary_json.ts";

const REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];
const METHODS = ["tools/call", "prompts/get", "resources/read", "tasks/result"];

const encode = (text: string) => new TextEncoder().encode(text);

/** As bytes and as text. */
function both(text: string): { large: LargeAnswer; small: Answer } {
  const large = LargeAnswer.of(encode(text));
  assert(large, text);
  return { large, small: { kind: "result", text } };
}

/** What an answer is to its client, JSON by which way whatsoever. */
function sent(answer: Answer): string {
  const body = answer instanceof LargeAnswer
    ? largeEnvelope(`"7"`, answer)
    : envelope(`"7"`, answer);
  return typeof body === "string" ? body : new TextDecoder().decode(body);
}

const block = fc.oneof(
  jsonText.map((extra) => `{"type":"text","text":"Grüße 🙂","extra":${extra}}`),
  fc.constant(`{ "data":"AA==" , "type" : "image","mimeType":"image/png"}`),
  fc.constant(`{"type":"audio","data":"AA==","mimeType":"audio/wav"}`),
  fc.constantFrom("x:1", "https://example.com").map((uri) =>
    `{"type":"resource_link","uri":"${uri}","name":"n"}`
  ),
  fc.constant(`{"type":"resource","resource":{"uri":"file:///x","text":"y"}}`),
  jsonText.map((beams) => `{"type":"hologram","beams":${beams}}`),
  fc.constantFrom(`{}`, `{"type":1}`, `"text"`, "null"),
);
const member = fc.oneof(
  fc.array(block, { maxLength: 3 }).map((blocks) => `"content":[${blocks.join(" , ")}]`),
  fc.array(block, { maxLength: 2 }).map((blocks) => `"contents":[${blocks.join()}]`),
  block.map((content) => `"messages":[{"role":"user","content":${content}}]`),
  jsonText.map((structured) => `"structuredContent":${structured}`),
  jsonText.map((rows) => `"structuredContent" : {"rows":[${rows}],"type":"x","uri":"x:2"}`),
  fc.constantFrom(
    `"resultType":"complete"`,
    `"ttlMs":1`,
    `"isError":true`,
    `"isError": false`,
    `"_meta":{"type":"hologram"}`,
    `"caf\\u00e9":1.0`,
  ),
);
const result = fc.array(member, { maxLength: 6 }).map((members) => `{${members.join(",")}}`);

Deno.test("a large answer is to clients of all revisions what a small one is", () => {
  fc.assert(
    fc.property(result, (text) => {
      const { large, small } = both(text);
      for (const revision of REVISIONS) {
        for (const method of METHODS) {
          const fitted = [large, small].map((each) => sent(forRevision(each, method, revision)));
          // Members' values stay as they are written; the space between members may go.
          assert.deepEqual(JSON.parse(fitted[0]), JSON.parse(fitted[1]), `${revision} ${method}`);
          if (revision !== "2026-07-28") assert.equal(fitted[0], fitted[1]);
          else assert.equal(fitted[0], sent(small));
        }
      }
      assert.equal(memberOf(large, "isError"), memberOf(small, "isError"));
      assert.equal(sizeOf(large), sizeOf(small));
      assert.equal(JSON.stringify(large), JSON.stringify(small));
    }),
    { numRuns: 500 },
  );
});

Deno.test("a large answer names resources as a small one does", () => {
  const server = { serverId: "one", slug: "one", capabilities: { resources: {} } };
  const other = { ...server, serverId: "other", slug: "other" };
  const named = { isAggregated: true, servers: [server, other] } as unknown as NamedToolbelt;
  let changed = 0;
  fc.assert(
    fc.property(result, (text) => {
      const { large, small } = both(text);
      const [one, two] = [large, small].map((each) =>
        withShownUris(named, server as unknown as ToolbeltServer, each)
      );
      if (two !== small) changed++;
      assert.equal(sent(one), sent(two));
    }),
    { numRuns: 500 },
  );
  assert(changed > 10);
});

Deno.test("a large answer that is a task, or asks, is seen to be", () => {
  const task = both(`{"resultType":"task","taskId":"1","padding":"x"}`);
  assert.deepEqual(createdTask(task.large), createdTask(task.small));
  assert.equal(createdTask(both(`{"resultType":"complete","x":"\\"task\\""}`).large), null);
  assert(mayHaveType(both(`{"a":1,"resultType": "input_required"}`).large, "input_required"));
});

Deno.test("LargeAnswer.of takes no bytes that are more or less than an object of JSON in UTF-8", () => {
  for (
    const text of [
      `{}}`,
      `{},"id":2`,
      `[]`,
      `{"a":1`,
      `{"a":"}`,
      ` {}`,
      `{"a":[}]}`,
      "",
      `{"a":${"[".repeat(64)}`,
    ]
  ) assert.equal(LargeAnswer.of(encode(text)), null, text);
  assert.equal(LargeAnswer.of(Uint8Array.of(0x7b, 0x22, 0xc0, 0xa2, 0x22, 0x3a, 0x31, 0x7d)), null);
  assert.equal(LargeAnswer.of(encode(`{"caf\\u00e9":1}`))?.member("café"), "1");
});
