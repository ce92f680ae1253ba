import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { Connection, type JsonRpcResponse, responseText } from "../../dtma/connection.ts";
import { type Frame, readFrames } from "../../dtma/frames.ts";
import { LargeResponse } from "../../dtma/large_response.ts";
import { jsonText } from "../mcp/arbitrary_json.ts";

const encode = (text: string) => new TextEncoder().encode(text);

/** Cut anywhere, in the midst of characters too. */
function cut(bytes: Uint8Array, sizes: number[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length];
        controller.enqueue(bytes.slice(at, at + size));
        at += size;
      }
      controller.close();
    },
  });
}

async function framesOf(bytes: Uint8Array, sizes: number[]): Promise<Frame[]> {
  const frames: Frame[] = [];
  await readFrames(cut(bytes, sizes), (frame) => frames.push(frame));
  return frames;
}

const PADDING = `"${'Grüße, 漢字 🙂 \\ud800 \\u0000 \\" 9007199254740993\\n'.repeat(1000)}"`;
/** A result's text of over 32 KiB with anything in it. */
const largeResult = fc.tuple(jsonText, jsonText, fc.nat({ max: 3 })).map(([a, b, place]) => {
  const members = [`"a":${a}`, `"b" : ${b}`, `"c":12345678901234567890.10`];
  members.splice(place, 0, `"padding":${PADDING}`);
  return `{${members.join(" ,")}}`;
});
const sizes = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 70_000 })),
  {
    minLength: 1,
    maxLength: 8,
  },
);

Deno.test("a large result is what its server wrote, however the stream is cut", async () => {
  await fc.assert(
    fc.asyncProperty(largeResult, largeResult, sizes, async (one, other, sizes) => {
      const lines = [one, other].map((result, n) =>
        `{"jsonrpc":"2.0", "id":"q-${n}" ,"result": ${result} }\n`
      );
      const frames = await framesOf(encode(lines.join("")), sizes);
      assert.deepEqual(frames.map(({ kind }) => kind), ["large", "large"]);
      for (const [n, frame] of frames.entries()) {
        assert(frame.kind === "large");
        assert.equal(frame.id, `q-${n}`);
        assert.equal(new TextDecoder().decode(frame.result), [one, other][n]);
        assert.deepEqual([...frame.keys].sort(), Object.keys(JSON.parse([one, other][n])).sort());
      }
    }),
    { numRuns: 60 },
  );
});

Deno.test("a large line that is anything but a result goes the common way", async () => {
  const padded = (text: string) => encode(`${text.replace("PADDING", PADDING)}\n`);
  const kinds: [Uint8Array, Frame["kind"]][] = [
    [padded(`{"id":"1","error":{"code":1,"message":PADDING}}`), "message"],
    [padded(`{"id":"1","result":{"a":PADDING},"error":null}`), "message"],
    [padded(`{"id":"1","result":[PADDING]}`), "message"],
    [padded(`{"method":"x","params":{"a":PADDING}}`), "message"],
    [padded(`[{"id":"1","result":{"a":PADDING}}]`), "message"],
    [padded(`\uFEFF{"id":"1","result":{"a":PADDING}}`), "message"],
    [padded(`{"id":"1","result":{"a":PADDING}`), "not-json"],
    [padded(`{"id":"1","result":{"a":PADDING,"b":"\\x"}}`), "not-json"],
    [
      padded(`{"id":"1","result":{"a":PADDING,"b":${"[".repeat(63)}${"]".repeat(63)}}}`),
      "too-deep",
    ],
    [encode(`{"id":"1","result":{"a":"${"x".repeat(4 * 1024 * 1024)}"}}\n`), "oversized"],
  ];
  const invalid = padded(`{"id":"1","result":{"a":PADDING}}`);
  invalid[invalid.length - 10] = 0xff;
  kinds.push([invalid, "invalid-utf8"]);
  for (const [line, kind] of kinds) {
    const [frame] = await framesOf(line, [65_536]);
    assert.equal(frame.kind, kind, new TextDecoder().decode(line.subarray(0, 40)));
  }
  // As a Windows program ends its lines.
  const [crlf] = await framesOf(padded(`{"id":"1","result":{"a":PADDING}}\r`), [1000]);
  assert(crlf.kind === "large");
  assert.equal(new TextDecoder().decode(crlf.result), `{"a":${PADDING}}`);
});

Deno.test("of equal keys the last counts, in a large line as in any other", async () => {
  const line = `{"id":"first","result":{"a":1},"id":"last","result":{"b":${PADDING},"b":2}}\n`;
  const [frame] = await framesOf(encode(line), [50_000]);
  assert(frame.kind === "large");
  assert.equal(frame.id, "last");
  assert.deepEqual([...frame.keys], ["b"]);
});

/** Asks a server that answers each request with the next of `results`. */
async function answers(results: string[]): Promise<JsonRpcResponse[]> {
  const stdin = new TransformStream<Uint8Array>(), stdout = new TransformStream<Uint8Array>();
  const connection = new Connection({ stdin: stdin.writable, stdout: stdout.readable }, {
    notification() {},
    request() {},
    log: (line) => assert.fail(line),
  });
  const asked = stdin.readable.pipeThrough(new TextDecoderStream()).getReader();
  const writer = stdout.writable.getWriter();
  const responses: JsonRpcResponse[] = [];
  for (const result of results) {
    const response = connection.request("tools/call", () => "{}", {});
    const { id } = JSON.parse((await asked.read()).value!);
    await writer.write(encode(`{"jsonrpc":"2.0","id":${id},"result":${result}}\n`));
    responses.push(await response);
  }
  connection.close("The test is over");
  return responses;
}

Deno.test("a large response is read as any other where somebody reads it", async () => {
  const small = `{"a" : 1.0}`, large = `{"a" : 1.0,"padding":${PADDING}}`;
  const [one, other] = await answers([small, large]);
  assert.equal(one instanceof LargeResponse, false);
  assert(other instanceof LargeResponse);
  assert.equal(other.text, large);
  assert.deepEqual(other.result, JSON.parse(large));
  assert.equal(responseText(other), `{"jsonrpc":"2.0","id":${other.id},"result":${large}}`);

  const added = other.with(7, { resultType: "complete", a: 2, ttlMs: 0 });
  assert.equal(added.text, `{"resultType":"complete","ttlMs":0,${large.slice(1)}`);
  assert.deepEqual([...added.keys], ["resultType", "ttlMs", "a", "padding"]);
  assert.equal(responseText(added.with(8, {})), `{"jsonrpc":"2.0","id":8,"result":${added.text}}`);
});
