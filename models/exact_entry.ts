/** What is deployed of what the marketplace lists: with the digest of a tag, and the URL that was filled in. */
import {
  askedInputs,
  CatalogEntry,
  type CatalogRow,
  readCatalogEntry,
  type TaggedImage,
} from "./catalog_entries.ts";
import type { Database, User } from "./db.ts";
import { Invalid, NotFound } from "./errors.ts";
import type { DigestOf } from "./image_digests.ts";
import { fillTemplate, readForm } from "./server_form.ts";

/**
 * The digest of an entry's image, where its catalog names a tag; else null. It asks a registry, so it is
 * no part of a transaction.
 *
 * @throws {Invalid} the registry does not say
 */
export async function digestFor(
  db: Database,
  user: User,
  { slug, workspaceId }: { slug: string; workspaceId: string },
  digestOf: DigestOf | undefined,
): Promise<string | null> {
  if (!digestOf) return null;
  try {
    const { entry, obstacle } = await db.asUser(
      user,
      (sql) => readCatalogEntry(sql, slug, workspaceId),
    );
    if (obstacle !== null || entry.package.registry !== "image") return null;
    return await digestOf(entry.package);
  } catch (error) {
    // Gone since: the deploy itself says so, if it was not made already.
    if (error instanceof NotFound) return null;
    throw error;
  }
}

/**
 * An entry that says exactly what runs.
 *
 * @param digest of {@link digestFor}
 * @throws {Invalid} it cannot be deployed here, or the form does not say what its URL needs
 */
export function exactEntry(
  { entry, obstacle }: Pick<CatalogRow, "entry" | "obstacle">,
  form: Record<string, string>,
  digest: string | null,
): CatalogEntry {
  if (obstacle !== null) throw new Invalid(`This cannot be deployed here: ${obstacle}`);
  const { urlVariables, ...rest } = entry;
  const wanted = entry.package;
  if (wanted.registry === "image") {
    return CatalogEntry.parse({ ...rest, package: pinned(wanted, digest) });
  }
  if (wanted.registry !== "remote" || !urlVariables) return CatalogEntry.parse(rest);
  const ofUrl = { arguments: [], environment: [], urlVariables };
  const { values } = readForm(ofUrl, form, []);
  const url = fillTemplate(wanted.url, (name) => {
    const variable = urlVariables[name];
    return variable && encodeURIComponent(variable.value ?? values[`url.${name}`] ?? "");
  });
  const [first] = askedInputs(ofUrl);
  const unfit = (why: string) => new Invalid(why, first ? { [first.field]: why } : {});
  // What is filled in may not make it another host's URL, such as by a `/` or a `@`.
  if (!URL.canParse(url) || !/^[a-z0-9.-]+$/.test(new URL(url).hostname)) {
    throw unfit(`That makes no URL: ${url.slice(0, 200)}`);
  }
  const { hostname, port, protocol } = new URL(url);
  if (hostname === "localhost" || /^[0-9.]+$/.test(hostname)) {
    throw unfit("The URL must name its host, not an address: TLS and the way out go by names");
  }
  return CatalogEntry.parse({
    ...rest,
    package: { registry: "remote", url },
    network: { hosts: [`${hostname}:${port || (protocol === "https:" ? "443" : "80")}`] },
  });
}

function pinned({ image, tag }: TaggedImage, digest: string | null) {
  if (digest === null) {
    throw new Invalid(
      `The catalog names the image ${image}:${tag} by a tag, whose digest could not be looked up`,
    );
  }
  return { registry: "oci" as const, image, digest };
}
