import assert from "node:assert/strict";
import {
  CallToolResultSchema,
  GetPromptResultSchema,
  ListToolsResultSchema,
} from "npm:@modelcontextprotocol/sdk@1.32.2/types.js";
import { ErrorCode } from "../../dtma/protocol.ts";
import { LargeAnswer } from "../../mcp/large_answer.ts";
import { definitionFor, forRevision } from "../../mcp/older_revisions.ts";

const REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];
const text = { type: "text", text: "hi" };
const image = { type: "image", data: "AA==", mimeType: "image/png" };
const audio = { type: "audio", data: "AA==", mimeType: "audio/wav", annotations: { priority: 1 } };
const link = { type: "resource_link", uri: "file:///x", name: "x" };
const resource = { type: "resource", resource: { uri: "file:///x", text: "y" } };
const hologram = { type: "hologram", beams: 1 };

/** A tool's result as a client of the revision gets it. */
function result(revision: string, value: unknown, method = "tools/call") {
  const answer = forRevision({ kind: "result", text: JSON.stringify(value) }, method, revision);
  assert.equal(answer.kind, "result");
  return JSON.parse(answer.text);
}

const types = (content: { type: string }[]) => content.map(({ type }) => type);

Deno.test("forRevision gives each revision the content that it has, and drops nothing", () => {
  const content = [text, image, audio, link, resource, hologram];
  const expected: Record<string, string[]> = {
    "2024-11-05": ["text", "image", "text", "resource", "text", "resource", "text"],
    "2025-03-26": ["text", "image", "audio", "text", "resource", "text"],
    "2025-06-18": ["text", "image", "audio", "resource_link", "resource", "text"],
    "2025-11-25": ["text", "image", "audio", "resource_link", "resource", "text"],
    "2026-07-28": ["text", "image", "audio", "resource_link", "resource", "hologram"],
  };
  for (const revision of REVISIONS) {
    const fitted = result(revision, { resultType: "complete", content, "x/y": 1 });
    assert.deepEqual(types(fitted.content), expected[revision], revision);
    assert.equal(fitted["x/y"], 1);
    assert.equal("resultType" in fitted, revision === "2026-07-28");
    if (revision !== "2026-07-28") CallToolResultSchema.parse(fitted);
    const all = JSON.stringify(fitted).replaceAll("\\", "");
    for (const kept of ["file:///x", `"beams":1`, "AA==", "audio/wav", `"priority":1`]) {
      assert.ok(all.includes(kept), `${revision} ${kept}`);
    }
  }
});

Deno.test("forRevision takes a result of an unknown type for none before 2026-07-28, and drops nothing", () => {
  const padding = "x".repeat(50_000);
  for (const type of ["com.example/partial", "input_required", "task", "Complete", "", null, 1]) {
    const text = `{"resultType":${JSON.stringify(type)},"content":[],"n":9007199254740993,"f":1.0}`;
    const large = LargeAnswer.of(
      new TextEncoder().encode(text.replace("[]", `[{"type":"text","text":"${padding}"}]`)),
    )!;
    for (const given of [{ kind: "result" as const, text }, large]) {
      for (const method of ["tools/call", "prompts/get", "resources/read", "completion/complete"]) {
        for (const revision of REVISIONS) {
          const fitted = forRevision(given, method, revision);
          if (revision === "2026-07-28") {
            assert.equal(fitted, given);
            continue;
          }
          assert.equal(fitted.kind, "error");
          const { code, message } = JSON.parse(fitted.text);
          assert.equal(code, ErrorCode.indeterminate);
          assert.ok(message.includes(`of the type ${JSON.stringify(type)}, which`), message);
          assert.ok(fitted.text.includes(`"data":{"dev.mooring/result":${given.text}}`));
        }
      }
    }
  }
  const escaped = { kind: "result" as const, text: `{"resultType":"compl\\u0065te","content":[]}` };
  assert.equal(forRevision(escaped, "tools/call", "2025-11-25").kind, "result");
});

Deno.test("forRevision shows as JSON what is no block of its type", () => {
  const odd = { ...audio, mimeType: { toString: 1 } };
  for (const content of [[odd], [{ type: { toString: 1 } }], [{}]]) {
    const [shown] = result("2024-11-05", { content: [...content, audio] }).content;
    assert.ok(shown.text?.includes(JSON.stringify(content[0])) ?? shown.type === undefined);
  }
});

Deno.test("forRevision shows structured content to clients that do not know it", () => {
  for (const revision of REVISIONS) {
    const object = result(revision, { content: [], structuredContent: { a: 1 } });
    assert.deepEqual(object.structuredContent, { a: 1 });
    const knows = revision >= "2025-06-18";
    assert.deepEqual(object.content, knows ? [] : [{ type: "text", text: `{"a":1}` }]);

    const array = result(revision, { content: [], structuredContent: [1], _meta: { b: 2 } });
    if (revision === "2026-07-28" || !knows) assert.deepEqual(array.structuredContent, [1]);
    else {
      assert.equal("structuredContent" in array, false);
      assert.deepEqual(array._meta, { b: 2, "dev.mooring/structuredContent": [1] });
      assert.deepEqual(array.content, [{ type: "text", text: "[1]" }]);
      CallToolResultSchema.parse(array);
    }
    const both = result(revision, { content: [text], structuredContent: { a: 1 } });
    assert.deepEqual(both.content, [text]);
  }
});

Deno.test("forRevision makes two messages of a prompt's content that needs a note", () => {
  const messages = [{ role: "user", content: audio }, { role: "assistant", content: link }];
  const old = result("2024-11-05", { messages }, "prompts/get");
  GetPromptResultSchema.parse(old);
  assert.deepEqual(
    old.messages.map(({ role, content }: { role: string; content: { type: string } }) => [
      role,
      content.type,
    ]),
    [["user", "text"], ["user", "resource"], ["assistant", "text"]],
  );
  assert.deepEqual(result("2025-06-18", { messages }, "prompts/get").messages, messages);
});

Deno.test("definitionFor keeps a list readable whose output schemas a revision refuses", () => {
  const inputSchema = { type: "object" };
  const array = { name: "a", inputSchema, outputSchema: { type: "array" } };
  const object = { name: "o", inputSchema, outputSchema: { type: "object" }, icons: [] };
  for (const revision of ["2025-06-18", "2025-11-25"]) {
    const tools = [array, object].map((tool) => definitionFor(tool, revision));
    assert.deepEqual(tools[0], {
      name: "a",
      inputSchema,
      _meta: { "dev.mooring/outputSchema": { type: "array" } },
    });
    assert.equal(tools[1], object);
    ListToolsResultSchema.parse({ tools });
  }
  assert.equal(definitionFor(array, "2026-07-28"), array);
  assert.equal(definitionFor(array, "2024-11-05"), array);
});

Deno.test("forRevision takes back error codes that 2026-07-28 forbids", () => {
  const code = (revision: string, code: number, data: unknown = 1) => {
    const error = { kind: "error" as const, text: JSON.stringify({ code, message: "m", data }) };
    return JSON.parse(forRevision(error, "resources/read", revision).text);
  };
  assert.deepEqual(code("2026-07-28", -32002), { code: -32602, message: "m", data: 1 });
  assert.equal(code("2026-07-28", -32042).code, -32603);
  // Reserved, or said of the client's own headers and revision, which are not what the server had.
  for (const taken of [-32020, -32021, -32022, -32050, -32099]) {
    assert.deepEqual(code("2026-07-28", taken), { code: -32603, message: "m", data: 1 });
    assert.equal(code("2025-11-25", taken).code, taken);
  }
  const required = { requiredCapabilities: { sampling: {} } };
  assert.equal(code("2026-07-28", -32021, required).code, -32021);
  for (const free of [-32000, -32019, -32100, -31002]) {
    assert.equal(code("2026-07-28", free).code, free);
  }
  assert.equal(code("2025-11-25", -32002).code, -32002);
  assert.equal(code("2025-11-25", -32042).code, -32042);
});
