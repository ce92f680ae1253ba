/** What of a catalog a server can be given next: whether what is listed is newer, and what it would mean. */
import canonicalize from "canonicalize";
import {
  type AskedInput,
  askedInputs,
  type BuildCode,
  buildCodeOf,
  type CatalogRow,
  type Input,
  type ListedEntry,
} from "./catalog_entries.ts";
import { counterparts, type EntryChange, entryChanges, isSamePackage } from "./entry_changes.ts";
import { Invalid } from "./errors.ts";
import { exactEntry } from "./exact_entry.ts";
import { readForm } from "./server_form.ts";
import type { ServerConfig } from "./servers.ts";
import { compareVersions, isPrerelease } from "./versions.ts";

/** A newer version of a server's entry, and what it would mean. */
export interface Offer {
  /** What a person says yes to: of an entry that changes meanwhile it is another one. */
  id: string;
  from: string;
  to: string;
  /**
   * `newer` by its number; `revised`: the same version, described otherwise; `later`: which one is newer
   * cannot be told from their numbers, but the catalog has had this one since.
   */
  kind: "newer" | "revised" | "later";
  isPrerelease: boolean;
  /** Since when its source, or else this catalog, has it. */
  at: Date;
  changes: EntryChange[];
  /** Whether its catalog names tools at all. */
  namesTools: boolean;
  /** What has to be given first. */
  asks: AskedInput[];
  /** What its build runs of its own, which nobody agreed to yet. */
  asksConsent: BuildCode | null;
  /** What goes on as it is, by form field. */
  values: Record<string, string>;
}

/** What of an entry's row an update is told by. */
export type ListedRow = Pick<
  CatalogRow,
  "entry" | "version" | "obstacle" | "tools" | "publishedAt" | "updatedAt"
>;

/**
 * How what a catalog has stands to what a server has: an older version is never an update, whatever else
 * is said of it, and where the numbers do not tell, only what the catalog has had since is one.
 *
 * @param since when the server's generation was made, for one that does not know what its catalog had
 */
export function standingOf(
  config: ServerConfig,
  listed: ListedRow,
  since: Date,
): Offer["kind"] | "current" | "older" {
  const before = asListed(config), after = wouldRun(listed, config);
  const { origin } = config;
  // The image that a tag stands for is another one in each version of its entry.
  const isRetagged = after.package.registry === "image" && origin !== null &&
    origin.version !== listed.version;
  if (runsAlike(before, after) && !isRetagged) return "current";
  const isLater = origin?.publishedAt && listed.publishedAt &&
      origin.publishedAt !== listed.publishedAt.toISOString()
    ? listed.publishedAt > new Date(origin.publishedAt)
    : listed.updatedAt > (origin ? new Date(origin.updatedAt) : since);
  const order = orderOf(before, after, origin?.version ?? "", listed.version);
  if (order === 0) return isLater ? "revised" : "current";
  if (order === null) return isLater ? "later" : "current";
  return order > 0 ? "newer" : "older";
}

/** Above 0: `after` is the newer; null: that cannot be told. */
function orderOf(
  before: ListedEntry,
  after: ListedEntry,
  ...[was, is]: [string, string]
): number | null {
  const ofEntry = was === is ? 0 : was && is ? compareVersions(is, was) : null;
  if (!isSamePackage(before.package, after.package)) return ofEntry || null;
  // A package's own version says more than that of the entry which describes it.
  const [one, other] = [before, after].map(versionOf);
  const isTag = after.package.registry === "image" && one === other;
  const ofPackage = one && other && !isTag ? compareVersions(other, one) : null;
  return ofPackage || (ofEntry ?? ofPackage);
}

/** What a package calls its version itself; empty where it has none that a person would know. */
export function versionOf({ package: wanted }: ListedEntry): string {
  switch (wanted.registry) {
    case "npm":
    case "pypi":
    case "nuget":
      return wanted.version;
    case "image":
      return wanted.tag;
    case "oci":
      return wanted.digest.slice(0, 19);
    case "source":
      return wanted.revision.slice(0, 12);
    case "remote":
    case "openapi":
    case "other":
      return "";
  }
}

/** What a server runs, as its catalog would name it: an image by the tag whose digest it has. */
function asListed({ entry, origin }: ServerConfig): ListedEntry {
  const { package: wanted } = entry;
  if (wanted.registry !== "oci" || !origin?.tag) return entry;
  return { ...entry, package: { registry: "image", image: wanted.image, tag: origin.tag } };
}

/** What would run: with the URL filled in as it was, where that still holds. */
export function wouldRun(listed: ListedRow, { origin }: ServerConfig): ListedEntry {
  const { entry } = listed;
  if (entry.package.registry !== "remote" || !entry.urlVariables) return entry;
  try {
    return exactEntry(listed, origin?.url ?? {}, null);
  } catch (error) {
    if (error instanceof Invalid) return entry;
    throw error;
  }
}

/** Whether two entries would run the same, whatever else they say of themselves. */
function runsAlike(one: ListedEntry, other: ListedEntry): boolean {
  return runsBy(one) === runsBy(other);
}

function runsBy(entry: ListedEntry): string | undefined {
  const { network, volumes, memoryMiB, instances, tier, transport, urlVariables } = entry;
  return canonicalize({
    package: entry.package,
    arguments: entry.arguments.map(withoutWords),
    environment: entry.environment.map(withoutWords),
    urlVariables: urlVariables && wordless(urlVariables),
    hosts: network.hosts.toSorted(),
    ...{ volumes, memoryMiB, instances, tier, transport },
  });
}

/** An input without what is said of it to a person. */
function withoutWords(asked: Input): object {
  const { label: _, description: __, placeholder: ___, variables, ...rest } = asked;
  return { ...rest, variables: variables && wordless(variables) };
}

function wordless(variables: Record<string, Input>): object {
  return Object.fromEntries(
    Object.entries(variables).map(([name, variable]) => [name, withoutWords(variable)]),
  );
}

/** What a newer version would mean for a server. @param tools those that it lists now */
export function offerOf(
  config: ServerConfig,
  listed: ListedRow,
  kind: Offer["kind"],
  installed: string,
  tools: string[],
): Offer {
  const before = asListed(config), after = wouldRun(listed, config);
  const { form, secrets, lost } = carry(config, after);
  const to = listed.version || versionOf(after);
  const code = buildCodeOf(after);
  const isAgreed = code === buildCodeOf(before) && isSamePackage(before.package, after.package);
  const needed = neededFields(after, form, Object.keys(secrets));
  return {
    id: kind === "newer" ? to : idOf(to, listed.updatedAt),
    from: installed,
    to,
    kind,
    isPrerelease: isPrerelease(to),
    at: listed.publishedAt ?? listed.updatedAt,
    changes: entryChanges(before, after, config.options, {
      listed: tools,
      named: listed.tools.map(({ name }) => name),
    }),
    namesTools: listed.tools.length > 0,
    asks: askedInputs(after).filter(({ field }) => needed.includes(field) || lost.has(field)),
    asksConsent: isAgreed ? null : code,
    values: form,
  };
}

function neededFields(
  entry: ListedEntry,
  form: Record<string, string>,
  keptSecrets: string[],
): string[] {
  try {
    readForm(entry, form, keptSecrets);
    return [];
  } catch (error) {
    if (error instanceof Invalid) return Object.keys(error.fields);
    throw error;
  }
}

/**
 * What a server was given, as another version of its entry asks for it. Secrets go to the same package
 * alone: whoever owns another one, or another host, is somebody else.
 *
 * @returns the form's fields; ids of secrets by their new names; fields whose secrets do not go along
 */
export function carry(
  { entry, values, secrets, origin }: ServerConfig,
  after: ListedEntry,
): { form: Record<string, string>; secrets: Record<string, string>; lost: Set<string> } {
  const known = counterparts(entry, after);
  const isSame = isSamePackage(entry.package, after.package);
  const form: Record<string, string> = { ...origin?.url };
  const kept: Record<string, string> = {};
  const lost = new Set<string>();
  for (const { field, secret, input } of askedInputs(after)) {
    const earlier = known.get(field);
    if (earlier?.input.isSecret) {
      const id = secrets[earlier.secret];
      if (!id) continue;
      if (isSame && input.isSecret) kept[secret] = id;
      else lost.add(field);
      continue;
    }
    const value = earlier && values[earlier.field];
    // As the deploy form has it filled in for a new input; one that was left empty stays so.
    const isPreset = !earlier || input.isRequired;
    const preset = !isPreset || input.isSecret ? undefined : input.default;
    if (value ?? preset) form[field] = (value ?? preset)!;
  }
  return { form, secrets: kept, lost };
}

/** What names an offer whose version alone does not. */
export function idOf(version: string, at: Date): string {
  return `${version} of ${at.toISOString()}`.trim();
}
