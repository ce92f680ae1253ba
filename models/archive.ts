/**
 * Reads text files out of an archive (.tar.gz, .tgz, .tar, .zip) that anybody may have made: nothing is
 * written anywhere, names are names alone, and what it unpacks to is bounded however small it is.
 */
import type { CatalogFile } from "./catalog_files.ts";

/** Why an archive was not read, for a person. */
export class ArchiveError extends Error {
  override name = "ArchiveError";
}

/** Bytes that may come out of an archive before reading stops, whether they are wanted or not. */
const UNPACKED_LIMIT_BYTES = 256 * 1024 * 1024;
/** Bytes of wanted files: with what is made of them it has to fit into an edge isolate. */
export const KEPT_LIMIT_BYTES = 32 * 1024 * 1024;
const FILE_LIMIT_BYTES = 16 * 1024 * 1024;
const FILES_LIMIT = 20_000;

/** Whether bytes are an archive, by how they begin. */
export function isArchive(bytes: Uint8Array): boolean {
  return isGzip(bytes) || isZip(bytes) || isTar(bytes);
}

const isGzip = (bytes: Uint8Array) => bytes[0] === 0x1f && bytes[1] === 0x8b;
const isZip = (bytes: Uint8Array) =>
  bytes[0] === 0x50 && bytes[1] === 0x4b && [3, 5].includes(bytes[2]);
const isTar = (bytes: Uint8Array) => bytes.length >= 512 && text(bytes, 257, 5) === "ustar";

/**
 * The wanted files of an archive.
 *
 * @throws {ArchiveError} it is none, is cut off or too large
 */
export async function readArchive(
  bytes: Uint8Array,
  isWanted: (path: string) => boolean,
): Promise<CatalogFile[]> {
  const files: CatalogFile[] = [];
  let kept = 0;
  const keep = (path: string, body: Uint8Array) => {
    kept += body.length;
    if (kept > KEPT_LIMIT_BYTES) throw tooLarge(KEPT_LIMIT_BYTES, "of catalog files");
    if (files.length === FILES_LIMIT) {
      throw new ArchiveError(`The archive has more than ${FILES_LIMIT} catalog files`);
    }
    files.push({ path: path.slice(0, 300), text: new TextDecoder().decode(body) });
  };
  if (isZip(bytes)) await readZip(bytes, isWanted, keep);
  else if (isGzip(bytes)) await readTar(unpacked(bytes, "gzip"), isWanted, keep);
  else if (isTar(bytes)) await readTar(chunksOf(bytes), isWanted, keep);
  else throw new ArchiveError("It is no .zip, .tar or .tar.gz archive");
  return files;
}

function tooLarge(limit: number, what = ""): ArchiveError {
  return new ArchiveError(`The archive holds more than ${limit / 1024 / 1024} MiB ${what}`.trim());
}

async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function* unpacked(
  bytes: Uint8Array,
  format: "gzip" | "deflate-raw",
): AsyncGenerator<Uint8Array> {
  const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(
    new DecompressionStream(format),
  );
  const reader = stream.getReader();
  let length = 0;
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      length += value.length;
      if (length > UNPACKED_LIMIT_BYTES) throw tooLarge(UNPACKED_LIMIT_BYTES);
      yield value;
    }
  } catch (error) {
    if (error instanceof ArchiveError) throw error;
    throw new ArchiveError("The archive is damaged, or cut off");
  } finally {
    // A bomb is not unpacked further.
    await reader.cancel().catch(() => {});
  }
}

// ── tar (POSIX ustar, pax and GNU long names) ───────────────────────────────────────────────────

const BLOCK = 512;

async function readTar(
  source: AsyncGenerator<Uint8Array>,
  isWanted: (path: string) => boolean,
  keep: (path: string, body: Uint8Array) => void,
) {
  const blocks = new Blocks(source);
  let longPath: string | null = null;
  try {
    while (true) {
      const header = await blocks.take(BLOCK);
      if (!header || header.every((byte) => byte === 0)) return;
      const size = parseInt(text(header, 124, 12).trim() || "0", 8);
      if (!Number.isSafeInteger(size) || size < 0) {
        throw new ArchiveError("The archive is damaged: a file in it has no size");
      }
      const type = String.fromCharCode(header[156]);
      const prefix = text(header, 257, 5) === "ustar" ? text(header, 345, 155) : "";
      const path: string = longPath ?? (prefix ? `${prefix}/` : "") + text(header, 0, 100);
      const isNamer = type === "x" || type === "L";
      const isFile = type === "0" || type === "\0";
      const isKept = isNamer ? size <= 64 * 1024 : isFile && isWanted(path);
      if (isKept && size > FILE_LIMIT_BYTES) {
        throw tooLarge(FILE_LIMIT_BYTES, `in ${path.slice(0, 100)}`);
      }
      const body: Uint8Array | null | undefined = isKept
        ? await blocks.take(size)
        : await blocks.skip(size);
      if (body === null) throw new ArchiveError("The archive is cut off");
      await blocks.skip((BLOCK - size % BLOCK) % BLOCK);
      if (isNamer && body) {
        const named = new TextDecoder().decode(body);
        longPath = type === "L"
          ? named.replace(/\0.*$/s, "")
          : /(?:^|\n)\d+ path=([^\n]*)\n/.exec(named)?.[1] ?? null;
        continue;
      }
      longPath = null;
      if (isKept) keep(path, body!);
    }
  } finally {
    await source.return(undefined);
  }
}

/** Bytes of a stream in pieces of asked lengths. */
class Blocks {
  #left: Uint8Array = new Uint8Array();
  constructor(readonly source: AsyncGenerator<Uint8Array>) {}

  /** Null when the stream ends before. */
  async take(length: number): Promise<Uint8Array | null> {
    const taken = new Uint8Array(length);
    let at = 0;
    while (at < length) {
      if (!await this.#more()) return null;
      const piece = this.#left.subarray(0, length - at);
      taken.set(piece, at);
      at += piece.length;
      this.#left = this.#left.subarray(piece.length);
    }
    return taken;
  }

  async skip(length: number): Promise<undefined | null> {
    while (length > 0) {
      if (!await this.#more()) return null;
      const skipped = Math.min(length, this.#left.length);
      this.#left = this.#left.subarray(skipped);
      length -= skipped;
    }
  }

  async #more(): Promise<boolean> {
    while (this.#left.length === 0) {
      const { done, value } = await this.source.next();
      if (done) return false;
      this.#left = value;
    }
    return true;
  }
}

function text(bytes: Uint8Array, at: number, length: number): string {
  return new TextDecoder().decode(bytes.subarray(at, at + length)).replace(/\0.*$/s, "");
}

// ── zip (APPNOTE 4.3: the directory at its end) ─────────────────────────────────────────────────

async function readZip(
  bytes: Uint8Array,
  isWanted: (path: string) => boolean,
  keep: (path: string, body: Uint8Array) => void,
) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const damaged = () => new ArchiveError("The archive is damaged, or cut off");
  try {
    let end = bytes.length - 22;
    while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
    if (end < 0) throw damaged();
    const count = view.getUint16(end + 10, true);
    let at = view.getUint32(end + 16, true);
    let total = 0;
    for (let n = 0; n < count; n++) {
      if (view.getUint32(at, true) !== 0x02014b50) throw damaged();
      const isEncrypted = (view.getUint16(at + 8, true) & 1) === 1;
      const method = view.getUint16(at + 10, true), packed = view.getUint32(at + 20, true);
      const [nameLength, extra, comment] = [28, 30, 32].map((offset) =>
        view.getUint16(at + offset, true)
      );
      const local = view.getUint32(at + 42, true);
      const path = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
      at += 46 + nameLength + extra + comment;
      if (!isWanted(path)) continue;
      if (isEncrypted) throw new ArchiveError("The archive is encrypted");
      if (method !== 0 && method !== 8) {
        throw new ArchiveError(`The archive is packed in a way that is not read here (${method})`);
      }
      const start = local + 30 + view.getUint16(local + 26, true) +
        view.getUint16(local + 28, true);
      if (start + packed > bytes.length) throw damaged();
      const body = bytes.subarray(start, start + packed);
      const parts: Uint8Array[] = [];
      let length = 0;
      for await (const part of method === 8 ? unpacked(body, "deflate-raw") : chunksOf(body)) {
        length += part.length;
        total += part.length;
        if (length > FILE_LIMIT_BYTES) throw tooLarge(FILE_LIMIT_BYTES, `in ${path.slice(0, 100)}`);
        if (total > KEPT_LIMIT_BYTES) throw tooLarge(KEPT_LIMIT_BYTES, "of catalog files");
        parts.push(part);
      }
      keep(path, new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer()));
    }
  } catch (error) {
    // Its numbers point outside of it.
    if (error instanceof RangeError) throw damaged();
    throw error;
  }
}
