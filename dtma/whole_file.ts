/** Files that are there whole or not at all, whenever DTMA is killed or the power goes. */

export interface WholeFileOptions {
  mode?: number;
  /** False for what of a power cut may lose: until then it is there whole all the same. */
  sync?: boolean;
}

/** Of each path the last write that is under way. */
const writes = new Map<string, Promise<void>>();

/**
 * Writes a file in place of the one that may be there, by way of another beside it. Writes of one file come one
 * after the other.
 */
export function writeWhole(
  path: string,
  content: Uint8Array | string,
  options: WholeFileOptions = {},
): Promise<void> {
  const before = writes.get(path) ?? Promise.resolve();
  const write = before.catch(() => {}).then(() => replace(path, content, options))
    .finally(() => writes.get(path) === write && writes.delete(path));
  writes.set(path, write);
  return write;
}

async function replace(
  path: string,
  content: Uint8Array | string,
  { mode, sync = true }: WholeFileOptions,
): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const file = await Deno.open(`${path}.new`, {
    write: true,
    create: true,
    truncate: true,
    mode,
  });
  try {
    // A disk that is just full takes a part.
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    // Else the name may outlive a power cut, and what is in the file not.
    if (sync) await file.sync();
  } finally {
    file.close();
  }
  await Deno.rename(`${path}.new`, path);
  if (sync) await syncDirectory(path.slice(0, path.lastIndexOf("/")));
}

/** After a rename or a new name in it. */
export async function syncDirectory(path: string): Promise<void> {
  using directory = await Deno.open(path);
  await directory.sync();
}

/** What is in a file; null where there is none, or one that a power cut left empty. */
export async function readWhole(path: string): Promise<Uint8Array<ArrayBuffer> | null> {
  try {
    const bytes = await Deno.readFile(path);
    return bytes.length > 0 ? bytes : null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
