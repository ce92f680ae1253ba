import assert from "node:assert/strict";
import { Invalid } from "../../models/errors.ts";
import { remoteEntry } from "../../models/remote_servers.ts";
import { resolveInputs } from "../../models/server_form.ts";

Deno.test("remoteEntry reaches the URL's host alone, and sends what headers are given", () => {
  const entry = remoteEntry({
    url: " https://MCP.example.com/mcp?profile=a ",
    "header.1": "Authorization",
    "env.HEADER_1_VALUE": "Bearer x",
    "header.2": "X-Other",
    "env.HEADER_2_VALUE": "",
  });
  assert.deepEqual(entry.package, {
    registry: "remote",
    url: "https://mcp.example.com/mcp?profile=a",
  });
  assert.deepEqual(entry.network.hosts, ["mcp.example.com:443"]);
  const { environment, secrets } = resolveInputs(entry, {}, { HEADER_1_VALUE: "Bearer x" });
  assert.deepEqual(environment, { HEADER_1_NAME: "Authorization" });
  assert.deepEqual(secrets, { HEADER_1_VALUE: "Bearer x" });
  assert.ok(!JSON.stringify(entry).includes("Bearer x"), "a value is no part of the entry");
  assert.deepEqual(remoteEntry({ url: "http://a.example:8080/" }).network.hosts, [
    "a.example:8080",
  ]);
});

Deno.test("remoteEntry says what is wrong with a form, field by field", () => {
  const value = { "env.HEADER_1_VALUE": "v" };
  const wrong: [Record<string, string>, string, RegExp][] = [
    [{}, "url", /whole URL/],
    [{ url: "javascript:alert(1)" }, "url", /whole URL/],
    [{ url: "https://user:secret@a.example/" }, "url", /no user or password/],
    [{ url: "https://a.example/#x" }, "url", /before its #/],
    [{ url: "https://127.0.0.1/mcp" }, "url", /name its host/],
    [{ url: "https://[::1]/mcp" }, "url", /name its host/],
    [{ url: `https://a.example/${"x".repeat(2000)}` }, "url", /2,000 characters/],
    [{ url: "http://a.example/", "header.1": "X-Key", ...value }, "url", /must be https/],
    [{ url: "https://a.example/", "header.1": "", ...value }, "header.1", /header's name/],
    [{ url: "https://a.example/", "header.1": "a b\r\nc: d", ...value }, "header.1", /letters/],
    [{ url: "https://a.example/", "header.1": "Host", ...value }, "header.1", /not yours to set/],
    [
      { url: "https://a.example/", "header.1": "mcp-session-id", ...value },
      "header.1",
      /not yours/,
    ],
    [
      {
        url: "https://a.example/",
        "header.1": "X",
        "header.2": "x",
        "env.HEADER_2_VALUE": "v",
        ...value,
      },
      "header.2",
      /given twice/,
    ],
    [
      { url: "https://a.example/", "header.1": "X", "env.HEADER_1_VALUE": "a\nb" },
      "env.HEADER_1_VALUE",
      /one line/,
    ],
  ];
  for (const [form, field, sentence] of wrong) {
    assert.throws(() => remoteEntry(form), (error) => {
      assert.ok(error instanceof Invalid);
      assert.match(error.fields[field] ?? JSON.stringify(error.fields), sentence);
      return true;
    });
  }
});
