/** The hijacked stdio stream of the Engine API's `POST /containers/{id}/attach`. */

/** A container's stdio. Ends when the container does, or when the engine goes away. */
export interface Attachment {
  stdin: WritableStream<Uint8Array>;
  /** Read it: a container whose stdout is not read blocks, by back-pressure. */
  stdout: ReadableStream<Uint8Array>;
  /** What is not read in time is dropped, so that it never holds up stdout (they share a stream). */
  stderr: ReadableStream<Uint8Array>;
  /** Resolves when the connection is over, whoever ended it. */
  closed: Promise<void>;
  /** Detaches. The container goes on. */
  close(): void;
}

/** Buffered for a slow reader before back-pressure (stdout) or dropping (stderr) sets in. */
const BUFFER_BYTES = 64 * 1024;

/** An engine's answer to an attach request is a status line and a few headers. */
const HEAD_LIMIT_BYTES = 16 * 1024;

/** Asks for a path with `Upgrade: tcp`; `rest` is what came after the headers already. */
export async function upgrade(
  connection: Deno.Conn,
  path: string,
): Promise<{ status: number; body: string; rest: Uint8Array }> {
  const request = `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n` +
    `Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n`;
  await writeAll(connection, new TextEncoder().encode(request));
  const buffer = new Uint8Array(HEAD_LIMIT_BYTES);
  let length = 0;
  for (;;) {
    const count = await connection.read(buffer.subarray(length));
    if (!count) throw new Deno.errors.UnexpectedEof("The Docker Engine closed the attach request");
    length += count;
    // latin1: one character a byte, so that an index in the text is one in the buffer.
    const text = new TextDecoder("latin1").decode(buffer.subarray(0, length));
    const end = text.indexOf("\r\n\r\n");
    if (end < 0) continue;
    const status = Number(text.split(" ", 2)[1]);
    return { status, body: text.slice(end + 4), rest: buffer.slice(end + 4, length) };
  }
}

/**
 * Takes the engine's frames apart: 8 bytes of header (stream 1 or 2, three zeros, length as
 * big-endian uint32), then the payload. A frame is passed on in pieces as it comes: its length is
 * the engine's word and no reason to hold memory.
 */
export function demultiplex(connection: Deno.UnixConn, rest: Uint8Array): Attachment {
  const strategy = new ByteLengthQueuingStrategy({ highWaterMark: BUFFER_BYTES });
  let stdoutController!: ReadableStreamDefaultController<Uint8Array>;
  let stderrController!: ReadableStreamDefaultController<Uint8Array>;
  let wanted = Promise.withResolvers<void>();
  let stdoutCancelled = false;
  const { promise: closed, resolve: ended } = Promise.withResolvers<void>();

  const stdout = new ReadableStream<Uint8Array>({
    start: (controller) => void (stdoutController = controller),
    pull: () => wanted.resolve(),
    cancel: () => {
      stdoutCancelled = true;
      wanted.resolve();
    },
  }, strategy);
  const stderr = new ReadableStream<Uint8Array>({
    start: (controller) => void (stderrController = controller),
  }, strategy);
  const stdin = new WritableStream<Uint8Array>({
    write: (chunk) => writeAll(connection, chunk),
    // Nothing: the server's stdin stays open for the next who attaches (StdinOnce is false).
    close: () => {},
  });

  function deliverStderr(payload: Uint8Array): void {
    if ((stderrController.desiredSize ?? 0) > 0) stderrController.enqueue(payload);
  }

  async function deliverStdout(payload: Uint8Array): Promise<void> {
    if (payload.length === 0 || stdoutCancelled) return;
    wanted = Promise.withResolvers();
    stdoutController.enqueue(payload);
    if (stdoutController.desiredSize! <= 0) await Promise.race([wanted.promise, closed]);
  }

  async function pump(): Promise<void> {
    const header = new Uint8Array(8);
    let headerLength = 0, stream = 0, remaining = 0;
    const buffer = new Uint8Array(BUFFER_BYTES);
    let chunk = rest;
    for (;;) {
      // A server writes each answer by itself, and a read has many: to pass on one costs as much as all.
      const stdout = new Uint8Array(chunk.length);
      let stdoutLength = 0;
      while (chunk.length > 0) {
        if (remaining === 0) {
          const part = chunk.subarray(0, 8 - headerLength);
          header.set(part, headerLength);
          headerLength += part.length;
          chunk = chunk.subarray(part.length);
          if (headerLength < 8) break;
          headerLength = 0;
          stream = header[0];
          remaining = new DataView(header.buffer).getUint32(4);
          continue;
        }
        const payload = chunk.subarray(0, remaining);
        remaining -= payload.length;
        chunk = chunk.subarray(payload.length);
        if (stream === 2) deliverStderr(payload.slice());
        else {
          stdout.set(payload, stdoutLength);
          stdoutLength += payload.length;
        }
      }
      await deliverStdout(stdout.subarray(0, stdoutLength));
      const count = await connection.read(buffer);
      if (count === null) return;
      chunk = buffer.subarray(0, count);
    }
  }

  function close(): void {
    try {
      connection.close();
    } catch (error) {
      // Closed before: that is what was asked for.
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
    ended();
  }

  // A read that fails (reset, closed by us) ends the streams just like the end of the connection.
  pump().catch(() => {}).finally(() => {
    close();
    if (!stdoutCancelled) stdoutController.close();
    try {
      stderrController.close();
    } catch {
      // Cancelled by its reader.
    }
  });
  return { stdin, stdout, stderr, closed, close };
}

/** A stream whose reader never holds up its writer: what is not read in time is dropped. */
export function lossy(stream: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const reader = stream.getReader();
  return new ReadableStream<Uint8Array>({
    start(controller) {
      // Not awaited: a stream gives nothing until its start has ended.
      void (async () => {
        for (let read = await reader.read(); !read.done; read = await reader.read()) {
          if ((controller.desiredSize ?? 0) > 0) controller.enqueue(read.value);
        }
        controller.close();
      })().catch(() => {});
    },
    cancel: (reason) => reader.cancel(reason),
  }, new ByteLengthQueuingStrategy({ highWaterMark: BUFFER_BYTES }));
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  while (bytes.length > 0) bytes = bytes.subarray(await connection.write(bytes));
}
