/** What a build makes beside what the same inputs made before: the same digest, or why another one. */
import { createHash } from "node:crypto";
import type { Package } from "./protocol.ts";

/** What is kept of a package's last build on this toolbox. */
export interface BuildRecord {
  imageId: string;
  /** The id of the base image, "" of an image that brings its own. */
  baseId: string;
  /** The package URLs of its bill of materials. */
  parts: string[];
  /** {@link contentHash} of what was installed; null of what only its own maker can install. */
  content: string | null;
}

/** Changed packages that are named; a sentence is read, a list is not. */
const NAMED = 3;

/** How a build compares with the one before, as a sentence for a person; null when it is the first. */
export function comparison(
  { registry }: Package,
  before: BuildRecord | null,
  now: BuildRecord,
): string | null {
  if (!before) return null;
  if (before.imageId === now.imageId) return "Its digest is that of the build before";
  const [gone, come] = [less(before.parts, now.parts), less(now.parts, before.parts)];
  if (gone.length + come.length > 0) {
    return `Another digest than the build before, because the registry gave other packages: ${
      [named("now", come), named("before", gone)].filter(Boolean).join("; ")
    }`;
  }
  if (before.baseId !== now.baseId) {
    return "Another digest than the build before, because the base image is another one; its " +
      "packages are the same";
  }
  if (registry === "source") {
    return "Another digest than the build before, because its Dockerfile ran anew: what it fetches " +
      "and the times that it writes may be others";
  }
  return before.content === now.content
    ? "The same files as in the build before; the digest is another one only because the Docker " +
      "Engine writes the times of building into an image"
    : "Another digest than the build before: the same packages, but their installation wrote other " +
      "files";
}

function less(these: string[], those: string[]): string[] {
  const known = new Set(those);
  return these.filter((each) => !known.has(each));
}

function named(when: string, parts: string[]): string {
  if (parts.length === 0) return "";
  const names = parts.slice(0, NAMED).map((purl) => decodeURIComponent(purl.replace(/^pkg:/, "")));
  const more = parts.length > NAMED ? ` and ${parts.length - NAMED} more` : "";
  return `${when} ${names.join(", ")}${more}`;
}

const BLOCK_BYTES = 512;

/**
 * SHA-256 of a tar by all that it says but times: names, modes, owners, links and content.
 * @see https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06
 */
export async function contentHash(tar: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash("sha256");
  const header = new Uint8Array(BLOCK_BYTES);
  let headerBytes = 0, bodyBytes = 0;
  for await (let chunk of tar) {
    while (chunk.length > 0) {
      if (bodyBytes > 0) {
        const body = chunk.subarray(0, bodyBytes);
        hash.update(body);
        bodyBytes -= body.length;
        chunk = chunk.subarray(body.length);
        continue;
      }
      const part = chunk.subarray(0, BLOCK_BYTES - headerBytes);
      header.set(part, headerBytes);
      headerBytes += part.length;
      chunk = chunk.subarray(part.length);
      if (headerBytes < BLOCK_BYTES) continue;
      headerBytes = 0;
      const size = parseInt(new TextDecoder().decode(header.subarray(124, 136)), 8) || 0;
      bodyBytes = Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
      // The time, and the checksum that depends on it.
      hash.update(header.fill(0, 136, 156));
    }
  }
  return hash.digest("hex");
}

const READ_BYTES = 64 * 1024;

/**
 * A stream's bytes in one buffer, each chunk good until the next: read as they come, tens of megabytes of
 * an archive leave as much behind, which glibc keeps for the process.
 */
export async function* inOneBuffer(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader({ mode: "byob" });
  let buffer = new ArrayBuffer(READ_BYTES);
  try {
    while (true) {
      const { value, done } = await reader.read(new Uint8Array(buffer));
      if (done) return;
      yield value;
      buffer = value.buffer;
    }
  } finally {
    await reader.cancel();
  }
}
