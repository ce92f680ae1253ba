/** Source trees as build contexts: a git repository's, which the engine fetches, or a folder's. */
import { ImageError } from "./image_error.ts";
import type { SourcePackage } from "./protocol.ts";
import { type TreeEntry, writeTreeTar } from "./tar.ts";

/** A tree is held in memory while it is sent to the engine. */
const TREE_LIMIT_BYTES = 64 * 1024 * 1024;
const TREE_LIMIT_ENTRIES = 20_000;

/**
 * The build context of a source tree: for git the URL that the engine fetches by itself with the
 * commit pinned (DTMA may run no process), for a folder its tar less `.git`.
 * @param allowed directories that a folder must stand below
 * @throws ImageError when the folder is not allowed, not at that commit, or too large
 * @see https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageBuild
 */
export async function sourceContext(
  { kind, location, revision }: SourcePackage,
  allowed: string[],
): Promise<Uint8Array<ArrayBuffer> | URL> {
  // The engine takes an http(s) URL for a repository by its ending.
  if (kind === "git") return new URL(`${location.replace(/\.git$/, "")}.git#${revision}`);
  const folder = await allowedFolder(location, allowed);
  const commit = await headOf(folder);
  if (commit !== revision) {
    throw new ImageError(
      commit
        ? `${location} is at commit ${commit.slice(0, 12)}, not at ${revision.slice(0, 12)}`
        : `${location} is not a git work tree, so it is at no commit`,
      "Check out that commit there, or deploy the one that is checked out.",
      false,
    );
  }
  const entries = await readTree(folder).catch((error) => {
    if (error instanceof ImageError) throw error;
    // It was changed while it was read, or DTMA may not read all of it.
    throw new ImageError(
      `${location} cannot be read: ${(error as Error).message}`,
      "Check that nothing writes to the folder and that DTMA may read all of it, and deploy again.",
      false,
    );
  });
  try {
    return writeTreeTar(entries);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ImageError(
      `${location} has a file that cannot be sent to the engine: ${error.message}`,
      "Give it a shorter name (100 bytes, and 155 for the folders it is in), and deploy again.",
      false,
    );
  }
}

/** Links are followed before the comparison: one inside of an allowed directory may lead out. */
async function allowedFolder(location: string, allowed: string[]): Promise<string> {
  const refused = new ImageError(
    `${location} is not a folder below a directory that this toolbox may build from`,
    allowed.length > 0
      ? `Move it below ${allowed.join(" or ")}, or allow its directory where DTMA is configured.`
      : "Allow a directory where DTMA is configured, or deploy from a git repository.",
    false,
  );
  const real = (path: string) => Deno.realPath(path).catch(() => null);
  // Asked of the name first, so that nothing is learned of what stands elsewhere.
  const isBelow = (path: string, directory: string) =>
    path.startsWith(directory.replace(/\/*$/, "/")) && !path.split("/").includes("..");
  if (!allowed.some((directory) => isBelow(location, directory))) throw refused;
  const folder = await real(location);
  for (const directory of allowed) {
    const resolved = await real(directory);
    if (folder && resolved && isBelow(folder, resolved)) {
      if ((await Deno.stat(folder)).isDirectory) return folder;
    }
  }
  throw refused;
}

/** The commit that a work tree's `.git` says is checked out; what was changed since is not seen. */
async function headOf(folder: string): Promise<string | null> {
  const read = (name: string) => Deno.readTextFile(`${folder}/.git/${name}`).catch(() => "");
  const head = (await read("HEAD")).trim();
  const [, reference] = /^ref: (refs\/[A-Za-z0-9._\/-]+)$/.exec(head) ?? [];
  if (!reference) return head || null;
  if (reference.includes("..")) return null;
  const loose = (await read(reference)).trim();
  if (loose) return loose;
  const line = (await read("packed-refs")).split("\n").find((each) =>
    each.endsWith(` ${reference}`)
  );
  return line?.split(" ", 1)[0] ?? null;
}

async function readTree(folder: string): Promise<TreeEntry[]> {
  const entries: TreeEntry[] = [];
  let bytes = 0;
  const tooLarge = () =>
    new ImageError(
      `The folder has more than ${
        TREE_LIMIT_BYTES / 1024 / 1024
      } MiB or ${TREE_LIMIT_ENTRIES} files`,
      "Leave out what the image does not need, such as node_modules.",
      false,
    );
  async function walk(directory: string): Promise<void> {
    const found = await Array.fromAsync(Deno.readDir(`${folder}/${directory}`));
    for (const { name, isDirectory, isFile, isSymlink } of found.sort(byName)) {
      if (directory === "" && name === ".git") continue;
      const path = directory + name;
      const from = `${folder}/${path}`;
      if (entries.length >= TREE_LIMIT_ENTRIES) throw tooLarge();
      if (isDirectory) {
        entries.push({ path: `${path}/`, kind: "directory" });
        await walk(`${path}/`);
      } else if (isSymlink) {
        // Not followed: the builder resolves links within the context.
        entries.push({ path, kind: "link", target: await Deno.readLink(from) });
      } else if (isFile) {
        const { size, mode } = await Deno.lstat(from);
        if ((bytes += size) > TREE_LIMIT_BYTES) throw tooLarge();
        const content = await Deno.readFile(from);
        entries.push({ path, kind: "file", content, executable: ((mode ?? 0) & 0o100) !== 0 });
      }
    }
  }
  await walk("");
  return entries;
}

function byName(a: Deno.DirEntry, b: Deno.DirEntry): number {
  return a.name < b.name ? -1 : 1;
}
