/**
 * Newline-delimited JSON-RPC over byte streams (MCP 2026-07-28, transports/stdio): a reader that
 * holds no more of a line than it may, and a writer that holds no more than the other side reads.
 */
import { joined, LARGE_BYTES } from "./json_bytes.ts";
import { DEPTH_LIMIT, oneLine, type Outline, outline } from "./json_text.ts";
import { type LargeFrame, largeFrame } from "./large_response.ts";
import { FRAME_LIMIT_BYTES } from "./protocol.ts";

const NEWLINE = 0x0a;

/** Kept of a line that is not a message: enough to find its id, which may stand first or last. */
const EXCERPT_BYTES = 1024;

/** What waits to be written, in characters, before the writer refuses more. */
const QUEUE_LIMIT = 4 * FRAME_LIMIT_BYTES;

/** Short messages are written together up to about this many characters: a write costs more. */
const BATCH_LENGTH = 64 * 1024;

/** A line's pieces of this size are kept as they came, and put together once. */
const PIECE_BYTES = 16 * 1024;

/** One line of the stream. Blank lines are not reported. */
export type Frame =
  | {
    kind: "message";
    /** The line, without line breaks. */
    text: string;
    value: unknown;
    members: Outline;
  }
  | LargeFrame
  | {
    kind: "oversized" | "invalid-utf8" | "not-json" | "too-deep" | "unfinished";
    /** The beginning and the end of the line, wrong bytes replaced: for its id and for the log. */
    excerpt: { head: string; tail: string };
    lengthBytes: number;
  };

/**
 * Reads lines until the stream ends or `signal` is aborted, and gives each to `onFrame` at once: what
 * that throws ends the reading. Rejects with the stream's error. Cancels the stream at the end, so
 * that a server whose output nobody wants is not held up by it.
 */
export async function readFrames(
  stream: ReadableStream<Uint8Array>,
  onFrame: (frame: Frame) => void,
  { limitBytes = FRAME_LIMIT_BYTES, signal }: { limitBytes?: number; signal?: AbortSignal } = {},
): Promise<void> {
  const line = new LineBuffer(limitBytes);
  const reader = stream.getReader();
  const cancel = () => void reader.cancel().catch(() => {});
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    for (;;) {
      const { value: chunk, done } = await reader.read();
      if (done) break;
      let start = 0;
      const last = chunk.lastIndexOf(NEWLINE);
      const texts = last < 0 ? null : line.textsOf(chunk.subarray(0, last));
      if (texts) {
        for (const text of texts) {
          const frame = parseText(text);
          if (frame) onFrame(frame);
        }
        start = last + 1;
      }
      while (start <= last) {
        const end = chunk.indexOf(NEWLINE, start);
        const frame = line.finish(chunk.subarray(start, end));
        if (frame) onFrame(frame);
        start = end + 1;
      }
      line.add(chunk.subarray(start));
    }
    const rest = line.finishUnended();
    if (rest) onFrame(rest);
  } finally {
    signal?.removeEventListener("abort", cancel);
    cancel();
    reader.releaseLock();
  }
}

/** The line under way, as bytes: whole up to the limit, above it the beginning and the end. */
class LineBuffer {
  readonly #limitBytes: number;
  /** What came in pieces of some size, and what came in small ones before the last of these. */
  #pieces: Uint8Array[] = [];
  /** What came in small pieces since. */
  #bytes = new Uint8Array(0);
  #filled = 0;
  #length = 0;
  #tail: Uint8Array | null = null;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /**
   * Lines that came whole, as text: a server's answers are short and come together, and to decode one costs
   * as much as all. Null where a line has to be looked at by itself.
   */
  textsOf(lines: Uint8Array): string[] | null {
    if (this.#length > 0 || lines.length >= Math.min(LARGE_BYTES, this.#limitBytes)) return null;
    try {
      const text = STRICT.decode(lines);
      // A mark of the byte order is none within a text.
      return text.includes("\ufeff") ? null : text.split("\n");
    } catch {
      return null;
    }
  }

  /** The line ends with these bytes; most lines come whole and are never copied. */
  finish(last: Uint8Array): Frame | null {
    if (this.#length === 0 && last.length <= this.#limitBytes) return parse(last);
    this.add(last);
    const frame = this.#tail ? this.#broken("oversized") : parse(this.#whole());
    this.#reset();
    return frame;
  }

  finishUnended(): Frame | null {
    return this.#length === 0 ? null : this.#broken("unfinished");
  }

  add(piece: Uint8Array): void {
    this.#length += piece.length;
    if (this.#length <= this.#limitBytes) return this.#keep(piece);
    if (!this.#tail) {
      // Over the limit from here on: keep the beginning, let go of the rest.
      const held = this.#whole();
      const head = concat(held.subarray(0, EXCERPT_BYTES), piece.subarray(0, EXCERPT_BYTES));
      this.#tail = held.slice(-EXCERPT_BYTES);
      this.#pieces = [];
      this.#bytes = head.slice(0, EXCERPT_BYTES);
      this.#filled = this.#bytes.length;
    }
    this.#tail = concat(this.#tail, piece.subarray(-EXCERPT_BYTES)).slice(-EXCERPT_BYTES);
  }

  #keep(piece: Uint8Array): void {
    if (piece.length >= PIECE_BYTES) {
      if (this.#filled > 0) this.#pieces.push(this.#bytes.slice(0, this.#filled));
      this.#filled = 0;
      this.#pieces.push(piece);
      return;
    }
    this.#grow(this.#filled + piece.length);
    this.#bytes.set(piece, this.#filled);
    this.#filled += piece.length;
  }

  /** Doubles: a server that writes byte by byte costs no more memory than one that does not. */
  #grow(length: number): void {
    if (length <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(length, Math.min(2 * length, this.#limitBytes)));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }

  /** Of a large line a copy, which whoever reads it may keep. */
  #whole(): Uint8Array {
    const rest = this.#bytes.subarray(0, this.#filled);
    const isSmall = this.#pieces.length === 0 && rest.length < LARGE_BYTES;
    return isSmall ? rest : joined([...this.#pieces, rest]);
  }

  #broken(kind: "oversized" | "unfinished"): Frame {
    const head = this.#tail ? this.#bytes : this.#whole();
    return brokenFrame(kind, head, this.#tail ?? head, this.#length);
  }

  #reset(): void {
    this.#pieces = [];
    this.#filled = this.#length = 0;
    this.#tail = null;
    if (this.#bytes.length > BATCH_LENGTH) this.#bytes = new Uint8Array(0);
  }
}

const ENCODER = new TextEncoder();
const STRICT = new TextDecoder("utf-8", { fatal: true });
const LENIENT = new TextDecoder();

/** @param bytes kept if they are many, so that nobody may write to them any more */
function parse(bytes: Uint8Array): Frame | null {
  const large = largeFrame(bytes);
  if (large) return large;
  let text: string;
  try {
    text = STRICT.decode(bytes);
  } catch {
    return brokenFrame("invalid-utf8", bytes, bytes, bytes.length);
  }
  return parseText(text);
}

function parseText(text: string): Frame | null {
  const line = oneLine(text);
  const members = outline(line);
  if (members.depth > DEPTH_LIMIT) return brokenText("too-deep", text);
  try {
    const value = JSON.parse(text);
    return { kind: "message", text: line, value, members };
  } catch {
    return text.trim() === "" ? null : brokenText("not-json", text);
  }
}

function brokenText(kind: "too-deep" | "not-json", text: string): Frame {
  const bytes = ENCODER.encode(text);
  return brokenFrame(kind, bytes, bytes, bytes.length);
}

function brokenFrame(
  kind: Extract<Frame, { excerpt: unknown }>["kind"],
  head: Uint8Array,
  tail: Uint8Array,
  lengthBytes: number,
): Frame {
  const excerpt = {
    head: LENIENT.decode(head.subarray(0, EXCERPT_BYTES)),
    tail: LENIENT.decode(tail.subarray(-EXCERPT_BYTES)),
  };
  return { kind, excerpt, lengthBytes };
}

function concat(left: Uint8Array, right: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(left.length + right.length);
  both.set(left);
  both.set(right, left.length);
  return both;
}

/** A message that was given to a {@link FrameWriter}. */
export class SentFrame {
  /** `handed-over` once any of it may have reached the other side. */
  state: "queued" | "handed-over" | "withdrawn" = "queued";

  constructor(readonly text: string) {}
}

/** Writes messages in order, one a line, as fast as the other side reads. */
export class FrameWriter {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #onError: (error: unknown) => void;
  #queue: SentFrame[] = [];
  #queuedLength = 0;
  #pumping = false;
  #failed = false;
  #released = false;

  /** @param onError called once, when the stream takes no more */
  constructor(stream: WritableStream<Uint8Array>, onError: (error: unknown) => void) {
    this.#writer = stream.getWriter();
    this.#onError = onError;
    // A stream that fails while nothing is written is noticed by the next write.
    this.#writer.closed.catch(() => {});
  }

  /**
   * Queues a message of valid JSON; null, and nothing is queued, when the other side has left too
   * much unread already.
   */
  send(text: string): SentFrame | null {
    const frame = new SentFrame(oneLine(text));
    if (this.#failed || this.#released) return null;
    if (this.#queuedLength + frame.text.length > QUEUE_LIMIT) return null;
    this.#queue.push(frame);
    this.#queuedLength += frame.text.length;
    if (!this.#pumping) this.#pump();
    return frame;
  }

  /** Takes back a message that was not handed over; false when it is too late. */
  withdraw(frame: SentFrame): boolean {
    if (frame.state !== "queued") return false;
    frame.state = "withdrawn";
    this.#queue.splice(this.#queue.indexOf(frame), 1);
    this.#queuedLength -= frame.text.length;
    return true;
  }

  /**
   * Takes no more messages, and lets go of the stream when the queued ones are written. Does not
   * close it: that a server's stdin ends is for its owner to say.
   */
  release(): void {
    this.#released = true;
    if (!this.#pumping) this.#writer.releaseLock();
  }

  async #pump(): Promise<void> {
    this.#pumping = true;
    // What is sent in the same turn goes out in the same write.
    await null;
    try {
      while (this.#queue.length > 0) {
        await this.#writer.write(ENCODER.encode(this.#takeBatch()));
      }
    } catch (error) {
      this.#failed = true;
      if (!this.#released) this.#onError(error);
    }
    this.#pumping = false;
    if (this.#released) this.#writer.releaseLock();
  }

  #takeBatch(): string {
    let count = 0, length = 0;
    while (count < this.#queue.length && (count === 0 || length < BATCH_LENGTH)) {
      const frame = this.#queue[count++];
      frame.state = "handed-over";
      length += frame.text.length;
    }
    this.#queuedLength -= length;
    return this.#queue.splice(0, count).map((frame) => frame.text + "\n").join("");
  }
}
