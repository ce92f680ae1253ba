import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { type Frame, FrameWriter, readFrames } from "../../dtma/frames.ts";
import { objectMembers, objectText, outline } from "../../dtma/json_text.ts";

/** Feeds bytes in chunks of `size` and collects the frames. */
async function framesOf(bytes: Uint8Array, size = 7, limitBytes?: number): Promise<Frame[]> {
  const frames: Frame[] = [];
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) {
        controller.enqueue(bytes.slice(at, at + size));
      }
      controller.close();
    },
  });
  await readFrames(stream, (frame) => frames.push(frame), { limitBytes });
  return frames;
}

const encode = (text: string) => new TextEncoder().encode(text);

Deno.test("readFrames gives each line's value however the stream is cut", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.json({ maxDepth: 5 })),
    fc.oneof(fc.integer({ min: 1, max: 50 }), fc.constant(100_000)),
    async (texts, size) => {
      const frames = await framesOf(encode(texts.map((text) => text + "\n").join("")), size);
      assert.deepEqual(
        frames.map((frame) => frame.kind === "message" && frame.value),
        texts.map((text) => JSON.parse(text)),
      );
    },
  ));
});

Deno.test("readFrames passes over blank lines and takes CRLF", async () => {
  const frames = await framesOf(encode('\n  \r\n{"a":1}\r\n\n'));
  assert.deepEqual(frames.map((frame) => frame.kind), ["message"]);
});

Deno.test("readFrames drops a line over the limit, tells its beginning and end, and goes on", async () => {
  const line = `{"id":"first","result":"${"x".repeat(10_000)}","last":"id"}`;
  for (const size of [1, 64, 100_000]) {
    const frames = await framesOf(encode(`${line}\n{"next":1}\n`), size, 1000);
    assert.equal(frames.length, 2);
    const [broken, next] = frames;
    assert(broken.kind === "oversized");
    assert.equal(broken.lengthBytes, line.length);
    assert(broken.excerpt.head.startsWith('{"id":"first"'));
    assert(broken.excerpt.tail.endsWith('"last":"id"}'));
    assert(next.kind === "message");
  }
});

Deno.test("readFrames takes a line of exactly the limit", async () => {
  for (const size of [3, 1000]) {
    const frames = await framesOf(encode(`"${"x".repeat(98)}"\n"${"x".repeat(99)}"\n`), size, 100);
    assert.deepEqual(frames.map((frame) => frame.kind), ["message", "oversized"]);
  }
});

Deno.test("readFrames reports what is not UTF-8, not JSON, too deep or cut off", async () => {
  const bytes = [
    ...encode('{"id":"a'),
    0xff,
    0xfe,
    ...encode('"}\n'),
    ...encode("listening on stdio\n"),
    ...encode("[".repeat(65) + "]".repeat(65) + "\n"),
    ...encode("[".repeat(64) + "]".repeat(64) + "\n"),
    ...encode('{"half":'),
  ];
  for (const size of [7, bytes.length]) {
    const frames = await framesOf(new Uint8Array(bytes), size);
    assert.deepEqual(
      frames.map((frame) => frame.kind),
      ["invalid-utf8", "not-json", "too-deep", "message", "unfinished"],
    );
    assert.deepEqual(frames.map((frame) => "lengthBytes" in frame && frame.lengthBytes), [
      12,
      18,
      130,
      false,
      8,
    ]);
  }
});

Deno.test("readFrames takes a mark of the byte order before each line", async () => {
  for (const size of [7, 100_000]) {
    const frames = await framesOf(encode('\ufeff{"a":1}\n\ufeff{"a":"\ufeff"}\n'), size);
    assert.deepEqual(frames.map((frame) => frame.kind === "message" && frame.value), [
      { a: 1 },
      { a: "\ufeff" },
    ]);
  }
});

Deno.test("readFrames reads four million brackets without harm", async () => {
  const frames = await framesOf(encode("[".repeat(4_000_000) + "\n1\n"), 65536);
  assert.deepEqual(frames.map((frame) => frame.kind), ["too-deep", "message"]);
});

Deno.test("readFrames ends when its signal is aborted", async () => {
  const stop = new AbortController();
  const stream = new ReadableStream<Uint8Array>({});
  const reading = readFrames(stream, () => {}, { signal: stop.signal });
  stop.abort();
  await reading;
});

Deno.test("outline finds the members that JSON.parse finds, with their text", () => {
  fc.assert(fc.property(
    fc.dictionary(fc.string(), fc.jsonValue()),
    fc.constantFrom(undefined, 2, "\t"),
    (value, space) => {
      const text = JSON.stringify(value, null, space);
      const parsed = JSON.parse(text);
      const members = objectMembers(text);
      assert.deepEqual([...members.keys()].sort(), Object.keys(parsed).sort());
      for (const [key, source] of members) assert.deepEqual(JSON.parse(source), parsed[key]);
      assert.deepEqual(JSON.parse(objectText(members)), parsed);
    },
  ));
});

Deno.test("outline takes the last of equal keys, escaped ones too", () => {
  assert.deepEqual(
    [...objectMembers(String.raw`{"id":1,"\u0069d":2.50,"a\"b":{"id":3}}`)],
    [["id", "2.50"], ['a"b', '{"id":3}']],
  );
});

Deno.test("outline ends on text that is not JSON", () => {
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom(...'"\\{}[]:,a1 ') }), (text) => {
    outline(text);
  }));
});

Deno.test("FrameWriter writes one line a message and waits for its reader", async () => {
  const { readable, writable } = new TransformStream<Uint8Array>();
  const writer = new FrameWriter(writable, () => {});
  const sent = Array.from({ length: 100 }, (_, n) => writer.send(`{"n":\n${n},\r\n"t":"é"}`));
  writer.release();
  const frames: Frame[] = [];
  const reading = readFrames(readable, (frame) => frames.push(frame));
  await waitFor(() => frames.length === 100);
  assert(sent.every((frame) => frame?.state === "handed-over"));
  assert.deepEqual(frames.map((frame) => frame.kind === "message" && (frame.value as { n: 1 }).n), [
    ...Array(100).keys(),
  ]);
  assert.equal(writer.send("{}"), null);
  await writable.close();
  await reading;
});

Deno.test("FrameWriter refuses when too much is unread, and gives back what was not written", () => {
  const never = new WritableStream<Uint8Array>({ write: () => new Promise(() => {}) });
  const writer = new FrameWriter(never, () => {});
  const large = `"${"x".repeat(1024 * 1024)}"`;
  const sent = [];
  for (let frame = writer.send(large); frame; frame = writer.send(large)) sent.push(frame);
  assert(sent.length >= 15 && sent.length <= 16);
  assert.equal(writer.withdraw(sent[3]), true);
  assert.equal(writer.withdraw(sent[3]), false);
  assert(writer.send(large));
});

Deno.test("FrameWriter tells once that its stream is broken", async () => {
  const errors: unknown[] = [];
  const broken = new WritableStream<Uint8Array>({
    write: () => Promise.reject(new Error("EPIPE")),
  });
  const writer = new FrameWriter(broken, (error) => errors.push(error));
  writer.send("1");
  await waitFor(() => errors.length > 0);
  assert.equal(writer.send("2"), null);
  assert.equal(errors.length, 1);
});

async function waitFor(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
