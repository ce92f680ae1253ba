import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { demultiplex } from "../../dtma/docker_attach.ts";

const STDOUT = 1, STDERR = 2;

/** A frame as the engine writes it. */
function frame(stream: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + payload.length);
  bytes[0] = stream;
  new DataView(bytes.buffer).setUint32(4, payload.length);
  bytes.set(payload, 8);
  return bytes;
}

async function all(stream: ReadableStream<Uint8Array>): Promise<number[]> {
  return [...new Uint8Array(await new Response(stream as ReadableStream<never>).arrayBuffer())];
}

Deno.test("demultiplex takes frames apart, wherever reads break them", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/engine.sock`;
  const listener = Deno.listen({ transport: "unix", path });
  try {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            stream: fc.constantFrom(STDOUT, STDERR),
            payload: fc.uint8Array({ maxLength: 40 }),
          }),
          { maxLength: 30 },
        ),
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 10 }),
        fc.nat(20),
        async (frames, reads, early) => {
          const wire = frames.flatMap(({ stream, payload }) => [...frame(stream, payload)]);
          const of = (stream: number) =>
            frames.flatMap((each) => each.stream === stream ? [...each.payload] : []);
          const connecting = Deno.connect({ transport: "unix", path });
          const engine = await listener.accept();
          const attached = demultiplex(
            await connecting,
            new Uint8Array(wire.slice(0, early)),
          );
          const stdout = all(attached.stdout), stderr = all(attached.stderr);
          for (let at = early, turn = 0; at < wire.length; turn++) {
            const piece = new Uint8Array(wire.slice(at, at + reads[turn % reads.length]));
            assert.equal(await engine.write(piece), piece.length);
            at += piece.length;
          }
          engine.close();
          assert.deepEqual(await stdout, of(STDOUT));
          assert.deepEqual(await stderr, of(STDERR));
          await attached.closed;
        },
      ),
      { numRuns: 60 },
    );
  } finally {
    listener.close();
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a reader of stdout that is behind holds up the server, and loses nothing", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/engine.sock`;
  const listener = Deno.listen({ transport: "unix", path });
  const connecting = Deno.connect({ transport: "unix", path });
  const engine = await listener.accept();
  const attached = demultiplex(await connecting, new Uint8Array());
  try {
    const payload = new Uint8Array(1024).fill(7);
    let written = 0;
    const writing = (async () => {
      for (; written < 2000; written++) {
        for (let bytes = frame(STDOUT, payload); bytes.length > 0;) {
          bytes = bytes.subarray(await engine.write(bytes));
        }
      }
      engine.close();
    })();
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.ok(written < 2000, "it is held up while nobody reads");
    assert.equal((await all(attached.stdout)).length, 2000 * 1024);
    await writing;
  } finally {
    listener.close();
    await Deno.remove(directory, { recursive: true });
  }
});
