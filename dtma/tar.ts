/**
 * The little of tar that build contexts and the engine's archives need: regular files with short
 * names, in the ustar format. Of our own because it is 40 lines, and `tar-stream` brings four more
 * packages and node's streams into a daemon that holds the Docker socket.
 * @see https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 */

const BLOCK_BYTES = 512;

/** A tar of files by name (at most 100 bytes), owned by root, mode 0644, of no particular time. */
export function writeTar(files: Record<string, string | Uint8Array>): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const blocks: Uint8Array[] = [];
  for (const [name, content] of Object.entries(files)) {
    const body = typeof content === "string" ? encoder.encode(content) : content;
    if (encoder.encode(name).length > 100) throw new RangeError(`Name too long for tar: ${name}`);
    const padding = new Uint8Array((BLOCK_BYTES - body.length % BLOCK_BYTES) % BLOCK_BYTES);
    blocks.push(header({ name, mode: 0o644, uid: 0, size: body.length, type: "0" }), body, padding);
  }
  return joined(blocks);
}

/** A tar of empty directories that are the user's and no one else's. */
export function writeTarOfDirectories(names: string[], uid: number): Uint8Array<ArrayBuffer> {
  return joined(names.map((name) => header({ name, mode: 0o700, uid, size: 0, type: "5" })));
}

function header(
  entry: { name: string; mode: number; uid: number; size: number; type: string },
): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES);
  const encoder = new TextEncoder();
  const field = (offset: number, text: string) => bytes.set(encoder.encode(text), offset);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  field(0, entry.name);
  field(100, octal(entry.mode, 7));
  field(108, octal(entry.uid, 7));
  field(116, octal(entry.uid, 7));
  field(124, octal(entry.size, 11));
  field(136, octal(0, 11));
  field(148, "        "); // the checksum counts its own field as spaces
  field(156, entry.type);
  field(257, "ustar\x0000");
  field(148, octal(bytes.reduce((sum, byte) => sum + byte, 0), 6) + "\0 ");
  return bytes;
}

/** The blocks, and the two empty ones that end a tar. */
function joined(blocks: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = blocks.reduce((sum, block) => sum + block.length, 2 * BLOCK_BYTES);
  const tar = new Uint8Array(bytes);
  let offset = 0;
  for (const block of blocks) {
    tar.set(block, offset);
    offset += block.length;
  }
  return tar;
}

export interface TarEntry {
  name: string;
  isFile: boolean;
  content: Uint8Array;
}

/** The entries of a tar; long-name and pax records come out as entries that are no files. */
export function readTar(tar: Uint8Array): TarEntry[] {
  const entries: TarEntry[] = [];
  const text = (start: number, length: number) =>
    new TextDecoder().decode(tar.subarray(start, start + length)).split("\0", 1)[0];
  for (let offset = 0; offset + BLOCK_BYTES <= tar.length && tar[offset] !== 0;) {
    const size = parseInt(text(offset + 124, 12).trim(), 8);
    if (!(size >= 0) || offset + BLOCK_BYTES + size > tar.length) {
      throw new RangeError("The tar archive is broken");
    }
    const content = tar.subarray(offset + BLOCK_BYTES, offset + BLOCK_BYTES + size);
    const type = text(offset + 156, 1);
    entries.push({ name: text(offset, 100), isFile: type === "0" || type === "", content });
    offset += BLOCK_BYTES + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
  }
  return entries;
}
