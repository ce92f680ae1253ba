/**
 * The name in a TLS ClientHello, read without taking part in TLS. Hostile input: every length is
 * checked against what is there, and anything that is not exactly a ClientHello is refused, so that
 * the far end cannot read another name out of the same bytes. With Encrypted ClientHello the outer
 * name is what counts: a host that serves others under its name (as CDNs do, and as they do by
 * HTTP's Host inside of TLS) can be asked for them, which only reading the TLS would show.
 * @see https://www.rfc-editor.org/rfc/rfc8446#section-4.1.2
 * @see https://www.rfc-editor.org/rfc/rfc6066#section-3
 */

export type ClientHello =
  | { kind: "incomplete" }
  | { kind: "hello"; serverName: string | null }
  | { kind: "wrong"; reason: string };

/** A ClientHello with post-quantum key shares and tickets is 2 to 4 kB. */
export const HELLO_LIMIT_BYTES = 16 * 1024;

const HANDSHAKE_RECORD = 22;
const RECORD_LIMIT_BYTES = 16_384;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;

/** Reads the beginning of a stream; `incomplete` asks for more of it. */
export function readClientHello(bytes: Uint8Array): ClientHello {
  const message = new Uint8Array(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length;) {
    if (bytes[at] !== HANDSHAKE_RECORD) return wrong("a record that is no handshake");
    if (at + 1 < bytes.length && bytes[at + 1] !== 3) return wrong("no version of TLS");
    if (at + 5 > bytes.length) break;
    const size = bytes[at + 3] << 8 | bytes[at + 4];
    if (size === 0 || size > RECORD_LIMIT_BYTES) return wrong("a record of a wrong length");
    const fragment = bytes.subarray(at + 5, at + 5 + size);
    message.set(fragment, length);
    length += fragment.length;
    if (length > 0 && message[0] !== CLIENT_HELLO) return wrong("a handshake without ClientHello");
    if (length >= 4) {
      const needed = 4 + (message[1] << 16 | message[2] << 8 | message[3]);
      if (needed > HELLO_LIMIT_BYTES) return wrong("a ClientHello that is too long");
      if (length >= needed) return readBody(message.subarray(4, needed));
    }
    if (fragment.length < size) break;
    at += 5 + size;
  }
  return bytes.length >= 2 * HELLO_LIMIT_BYTES
    ? wrong("a ClientHello in too many pieces")
    : { kind: "incomplete" };
}

function readBody(body: Uint8Array): ClientHello {
  try {
    const hello = new Reader(body);
    hello.take(2 + 32); // version, random
    if (hello.vector(1).length > 32) return wrong("a session id that is too long");
    const suites = hello.vector(2).length;
    if (suites < 2 || suites % 2 !== 0) return wrong("no cipher suites");
    if (hello.vector(1).length < 1) return wrong("no compression methods");
    if (hello.rest === 0) return { kind: "hello", serverName: null };
    const extensions = new Reader(hello.vector(2));
    if (hello.rest > 0) return wrong("bytes after its end");
    const seen = new Set<number>();
    let serverName: string | null = null;
    while (extensions.rest > 0) {
      const type = extensions.uint(2);
      const data = extensions.vector(2);
      if (seen.has(type)) return wrong("an extension twice");
      seen.add(type);
      if (type === SERVER_NAME) serverName = readServerName(data);
    }
    return { kind: "hello", serverName };
  } catch (error) {
    if (error instanceof RangeError) return wrong(error.message);
    throw error;
  }
}

function readServerName(data: Uint8Array): string {
  const extension = new Reader(data);
  const list = new Reader(extension.vector(2));
  if (extension.rest > 0) throw new RangeError("bytes after the server name");
  const type = list.uint(1);
  const name = list.vector(2);
  // One name of the one type there is: a second could be the one that the far end takes.
  if (type !== 0 || list.rest > 0) throw new RangeError("not exactly one server name");
  if (name.length === 0 || name.length > 255) throw new RangeError("a server name of wrong length");
  if (name.some((byte) => byte <= 0x20 || byte >= 0x7f)) {
    throw new RangeError("a server name that is no ASCII");
  }
  return String.fromCharCode(...name);
}

function wrong(reason: string): ClientHello {
  return { kind: "wrong", reason };
}

/** Takes bytes from the front. @throws {RangeError} when there are fewer */
class Reader {
  #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get rest(): number {
    return this.#bytes.length;
  }

  take(count: number): Uint8Array {
    if (count > this.#bytes.length) throw new RangeError("a length beyond its end");
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  uint(size: number): number {
    return this.take(size).reduce((value, byte) => value * 256 + byte, 0);
  }

  /** Bytes after their own count, which is `size` bytes itself. */
  vector(size: number): Uint8Array {
    return this.take(this.uint(size));
  }
}
