/** What is deployed of what the marketplace lists: with the digest of a tag, and the URL that was filled in. */
import { z } from "zod";
import {
  askedInputs,
  CatalogEntry,
  type CatalogRow,
  readCatalogEntry,
  TaggedImage,
} from "./catalog_entries.ts";
import type { Database, User } from "./db.ts";
import { Invalid, NotFound } from "./errors.ts";
import type { DigestOf } from "./image_digests.ts";
import { fillTemplate, readForm } from "./server_form.ts";

/** How the catalog had an entry when a generation was made of it: what a newer one is told by. */
export const Origin = z.object({
  version: z.string(),
  publishedAt: z.iso.datetime().nullable(),
  /** Since when it stood in the catalog so. */
  updatedAt: z.iso.datetime(),
  /** By which it names the image; the generation has the digest. */
  tag: TaggedImage.shape.tag.optional(),
  /** What was given for its URL, by form field. */
  url: z.record(z.string(), z.string()).default({}),
});
export type Origin = z.infer<typeof Origin>;

/** @param form what its URL is filled in from */
export function originOf(
  { entry, version, publishedAt, updatedAt }: Pick<
    CatalogRow,
    "entry" | "version" | "publishedAt" | "updatedAt"
  >,
  form: Record<string, string>,
): Origin {
  const ofUrl = Object.keys(entry.urlVariables ?? {}).map((name) => `url.${name}`);
  return {
    version,
    publishedAt: publishedAt?.toISOString() ?? null,
    updatedAt: updatedAt.toISOString(),
    ...(entry.package.registry === "image" && { tag: entry.package.tag }),
    url: Object.fromEntries(
      ofUrl.filter((field) => form[field]).map((field) => [field, form[field]]),
    ),
  };
}

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
