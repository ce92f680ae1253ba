/**
 * The little of tar that build contexts and the engine's archives need: files, directories and links
 * in the ustar format. Of our own because it is short, and `tar-stream` brings four more
 * packages and node's streams into a daemon that holds the Docker socket.
 * @see https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 */

const BLOCK_BYTES = 512;

/** One thing of a tree that is written as a tar. */
export type TreeEntry =
  & { path: string }
  & (
    | { kind: "file"; content: Uint8Array; executable: boolean }
    /** With an owner it is that user's and no one else's. */
    | { kind: "directory"; owner?: number }
    | { kind: "link"; target: string }
  );

/**
 * A tar of files by name (at most 255 bytes), owned by root, of no particular time; mode 0644, or
 * 0755 of those named in `executable`.
 */
export function writeTar(
  files: Record<string, string | Uint8Array>,
  executable: string[] = [],
): Uint8Array<ArrayBuffer> {
  return writeTreeTar(
    Object.entries(files).map(([path, content]) => ({
      path,
      kind: "file",
      content: typeof content === "string" ? new TextEncoder().encode(content) : content,
      executable: executable.includes(path),
    })),
  );
}

/**
 * A tar of a tree, otherwise as {@link writeTar}.
 * @throws RangeError for a name or a link's target that is too long for the format
 */
export function writeTreeTar(entries: TreeEntry[]): Uint8Array<ArrayBuffer> {
  const blocks = entries.flatMap((entry) => {
    const body = entry.kind === "file" ? entry.content : new Uint8Array();
    const padding = new Uint8Array((BLOCK_BYTES - body.length % BLOCK_BYTES) % BLOCK_BYTES);
    return [header(entry, body.length), body, padding];
  });
  blocks.push(new Uint8Array(2 * BLOCK_BYTES));
  const tar = new Uint8Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let offset = 0;
  for (const block of blocks) {
    tar.set(block, offset);
    offset += block.length;
  }
  return tar;
}

const TYPES = { file: "0", link: "2", directory: "5" };

function header(entry: TreeEntry, size: number): Uint8Array {
  const encoder = new TextEncoder();
  const header = new Uint8Array(BLOCK_BYTES);
  const field = (offset: number, text: string, limit = BLOCK_BYTES) => {
    const bytes = encoder.encode(text);
    if (bytes.length > limit) throw new RangeError(`Name too long for tar: ${entry.path}`);
    header.set(bytes, offset);
  };
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  const owner = entry.kind === "directory" ? entry.owner : undefined;
  const isProgram = entry.kind === "directory" || (entry.kind === "file" && entry.executable);
  const [prefix, name] = splitName(entry.path);
  field(0, name, 100);
  field(100, octal(owner !== undefined ? 0o700 : isProgram ? 0o755 : 0o644, 7));
  field(108, octal(owner ?? 0, 7));
  field(116, octal(owner ?? 0, 7));
  field(124, octal(size, 11));
  field(136, octal(0, 11));
  field(148, "        "); // the checksum counts its own field as spaces
  field(156, TYPES[entry.kind]);
  if (entry.kind === "link") field(157, entry.target, 100);
  field(257, "ustar\x0000");
  field(345, prefix, 155);
  field(148, octal(header.reduce((sum, byte) => sum + byte, 0), 6) + "\0 ");
  return header;
}

/** A name over 100 bytes is split at a slash: ustar has 155 more for what stands before it. */
function splitName(path: string): [prefix: string, name: string] {
  const length = (text: string) => new TextEncoder().encode(text).length;
  for (let cut = -1; length(path.slice(cut + 1)) > 100;) {
    cut = path.indexOf("/", cut + 1);
    if (cut < 0 || cut === path.length - 1) return ["", path];
    if (length(path.slice(cut + 1)) <= 100) return [path.slice(0, cut), path.slice(cut + 1)];
  }
  return ["", path];
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
