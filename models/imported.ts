/**
 * What importers make of other people's catalogs: entries that can be deployed, entries that are listed
 * with the reason why not, and what is no entry at all. All of it is untrusted text and stays text.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { OciPackage, Transport, VolumeSpec } from "../dtma/protocol.ts";
import { type Argument, type Input, ListedEntry, type NamedTool } from "./catalog_entries.ts";

/** One version of an entry, as its source has it. */
export interface Imported {
  /** By which its source knows it, from sync to sync. */
  name: string;
  version: string;
  isLatest: boolean;
  /** Its source took it back. */
  isDeleted: boolean;
  /** RFC 3339. */
  publishedAt: string | null;
  /** Its slug is the wish of its name; the catalog makes it unique. */
  entry: ListedEntry;
  /** {@link import("./catalog_entries.ts").CatalogRow.obstacle} */
  obstacle: string | null;
  notes: string[];
  /** Tags and tools, for searches. */
  keywords: string;
  tools: NamedTool[];
  /** Its text, as the source has it. */
  raw: string;
  /** Of that text, and of what this version of Mooring makes of it. */
  hash: string;
}

/** What is no entry: where it stands, and what is wrong. */
export interface Broken {
  place: string;
  reason: string;
  raw: string;
}

export interface Import {
  entries: Imported[];
  broken: Broken[];
}

/** Raised when importers make something else of the same text: then all is imported again. */
export const IMPORT_VERSION = 1;

/** Longest raw text of one entry, in characters. */
export const RAW_LIMIT = 512 * 1024;

/** Thrown for what cannot be deployed here: the entry is listed with it. A sentence without its stop. */
export class Obstacle extends Error {
  override name = "Obstacle";
}

/** What cannot even be listed. */
export class Unreadable extends Error {
  override name = "Unreadable";
}

type Package = ListedEntry["package"];

/** What is asked when it is deployed. */
export interface Needs {
  package: Package;
  arguments?: Argument[];
  environment?: ListedEntry["environment"];
  hosts?: string[];
  volumes?: ListedEntry["volumes"];
  urlVariables?: ListedEntry["urlVariables"];
  memoryMiB?: number;
  transport?: Transport;
}

/** What an importer found out about an entry; texts as they came. */
export interface Found {
  name: unknown;
  title?: unknown;
  description?: unknown;
  version?: unknown;
  category?: unknown;
  homepages?: unknown[];
  license?: unknown;
  keywords?: unknown[];
  tools?: NamedTool[];
  publishedAt?: unknown;
  isLatest?: boolean;
  isDeleted?: boolean;
  notes?: string[];
  /** What it would be where it cannot be deployed. */
  kind: { type: string; name: string };
  /** @throws {Obstacle} */
  needs: (notes: string[]) => Needs;
}

/**
 * Makes an entry of what was found.
 *
 * @param raw its text; what is longer than {@link RAW_LIMIT} is refused
 * @throws {Unreadable} it has no name, or is too long
 */
export function imported(raw: string, found: Found): Imported {
  if (raw.length > RAW_LIMIT) {
    throw new Unreadable(`It is longer than ${RAW_LIMIT / 1024} KiB`);
  }
  const name = line(found.name, 300);
  if (name === "") throw new Unreadable("It has no name");
  const version = line(found.version, 100);
  const description = plainText(found.description, 4000);
  const notes = [...found.notes ?? []];
  const common = {
    slug: slugOf(name),
    title: line(found.title, 80) || titleOf(name),
    summary: summaryOf(description) || "Its source says nothing about it.",
    description,
    category: line(found.category, 40).toLowerCase() || "other",
    license: line(found.license, 80),
  };
  const homepage = (found.homepages ?? []).map(webUrl).find((url) => url !== null) ?? undefined;
  let entry: ListedEntry | null = null;
  let obstacle: string | null = null;
  try {
    const { package: wanted, hosts = [], ...needs } = found.needs(notes);
    const parsed = ListedEntry.safeParse({
      ...common,
      homepage: homepage ?? homeOf(wanted),
      package: wanted,
      arguments: [],
      environment: [],
      network: { hosts: [...new Set(hosts)] },
      ...needs,
    });
    if (parsed.success) entry = parsed.data;
    else throw new Obstacle(unfit(parsed.error.issues[0]));
  } catch (error) {
    if (!(error instanceof Obstacle)) throw error;
    obstacle = error.message;
    entry = ListedEntry.parse({
      ...common,
      homepage,
      package: {
        registry: "other",
        type: line(found.kind.type, 40) || "unknown",
        name: line(found.kind.name, 500),
      },
      arguments: [],
      environment: [],
      network: { hosts: [] },
    });
  }
  const tools = (found.tools ?? []).slice(0, 200).map((tool) => ({
    name: line(tool.name, 200),
    description: plainText(tool.description, 500) || undefined,
  })).filter((tool) => tool.name !== "");
  const words = [...found.keywords ?? [], ...tools.map((tool) => tool.name)];
  return {
    name,
    version: version || hashOf(raw).slice(0, 12),
    isLatest: found.isLatest ?? true,
    isDeleted: found.isDeleted ?? false,
    publishedAt: timeOf(found.publishedAt),
    entry,
    obstacle: obstacle && plainText(obstacle, 500),
    notes: notes.map((note) => plainText(note, 500)),
    keywords: line(words.map((word) => line(word, 100).replace(/[_/.-]+/g, " ")).join(" "), 4000),
    tools,
    raw: raw.replaceAll("\u0000", "\u2400"),
    hash: hashOf(`${IMPORT_VERSION}\n${raw}`),
  };
}

/** Runs one importer over many texts; what is no entry is told apart, and stops nothing. */
export function importEach<T>(
  items: { place: string; raw: string; value: T }[],
  importOne: (value: T, raw: string) => Imported,
): Import {
  const entries: Imported[] = [], broken: Broken[] = [];
  for (const { place, raw, value } of items) {
    try {
      entries.push(importOne(value, raw));
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      broken.push(brokenAt(place, error.message, raw));
    }
  }
  return { entries, broken };
}

export function brokenAt(place: string, reason: string, raw: string): Broken {
  return {
    place: line(place, 300) || "?",
    reason: plainText(reason, 500),
    raw: raw.slice(0, 4096).replaceAll("\u0000", "\u2400").toWellFormed(),
  };
}

function unfit(issue: z.core.$ZodIssue): string {
  return `Mooring cannot use its ${issue.path.join(".") || "entry"}: ${issue.message}`;
}

// ── Text ────────────────────────────────────────────────────────────────────────────────────────

/**
 * A stranger's text for a person: well-formed, capped, with characters that nobody sees written out, as
 * views/visible_text.ts does; here too, since an entry's words become names of servers.
 */
export function plainText(value: unknown, limit: number): string {
  if (typeof value !== "string") return "";
  const shown = value.slice(0, limit * 2).toWellFormed().replaceAll("\r\n", "\n").replace(
    // deno-lint-ignore no-control-regex
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0e\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e0fff}]/gu,
    (char) => `[U+${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`,
  ).trim();
  return shown.length <= limit ? shown : `${shown.slice(0, limit - 1).toWellFormed()}…`;
}

/** {@link plainText} on one line; numbers and booleans as they are written. */
export function line(value: unknown, limit: number): string {
  const text = typeof value === "number" || typeof value === "boolean" ? String(value) : value;
  return plainText(typeof text === "string" ? text.replace(/\s+/g, " ") : "", limit);
}

function summaryOf(description: string): string {
  const first = description.split(/\n\s*\n|(?<=[.!?])\s/)[0].replace(/\s+/g, " ").trim();
  return line(first.length < 25 ? description : first, 200);
}

/** `io.github.user/weather-mcp` -> `Weather mcp`. */
function titleOf(name: string): string {
  const last = name.split("/").at(-1)!.replace(/[_-]+/g, " ").trim();
  return line((last[0] ?? name[0]).toUpperCase() + last.slice(1), 80);
}

export function slugOf(name: string): string {
  const words = name.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").match(/[a-z0-9]+/g);
  return ((words ?? ["entry"]).join("-").slice(0, 40).replace(/-+$/, "")) || "entry";
}

export function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function timeOf(value: unknown): string | null {
  const time = typeof value === "string" && value.length < 40 ? Date.parse(value) : NaN;
  // Years that Postgres and people write in four digits.
  return time > Date.parse("2000-01-01") && time < Date.parse("2200-01-01")
    ? new Date(time).toISOString()
    : null;
}

const NO_HOMEPAGE = "https://modelcontextprotocol.io/";

/** An http(s) URL that a page may link to; anything else is none. */
export function webUrl(value: unknown): string | null {
  if (typeof value !== "string" || value.length > 500 || !URL.canParse(value.trim())) return null;
  const url = new URL(value.trim());
  return /^https?:$/.test(url.protocol) && !url.username && !url.password ? url.href : null;
}

function homeOf(wanted: Package): string {
  switch (wanted.registry) {
    case "npm":
      return `https://www.npmjs.com/package/${wanted.name}`;
    case "pypi":
      return `https://pypi.org/project/${wanted.name}/`;
    case "nuget":
      return `https://www.nuget.org/packages/${wanted.name}`;
    case "oci":
    case "image":
      return webUrl(`https://${wanted.image}`) ?? NO_HOMEPAGE;
    case "remote":
    case "openapi":
      return webUrl(new URL(wanted.url.replace(/[{}]/g, "")).origin) ?? NO_HOMEPAGE;
    case "source":
      return webUrl(wanted.location) ?? NO_HOMEPAGE;
    case "other":
      return NO_HOMEPAGE;
  }
}

// ── What several sources write alike ────────────────────────────────────────────────────────────

/**
 * An image's name as Docker reads it (`mcp/time`, `ghcr.io/a/b:1.0`, `c@sha256:…`), pinned where it has
 * a digest.
 *
 * @throws {Obstacle} it is none
 */
export function imageOf(reference: string): Package {
  const [, path, tag, digest] = /^([^@]+?)(?::([^/:@]+))?(?:@(.+))?$/.exec(reference.trim()) ?? [];
  if (!path) throw new Obstacle(`“${line(reference, 100)}” is no image's name`);
  const parts = path.split("/");
  const hasHost = parts.length > 1 && /[.:]|^localhost$/.test(parts[0]);
  const image = hasHost
    ? path
    : parts.length === 1
    ? `docker.io/library/${path}`
    : `docker.io/${path}`;
  const wanted = digest
    ? { registry: "oci" as const, image, digest }
    : { registry: "image" as const, image, tag: tag || "latest" };
  const parsed = ListedEntry.shape.package.safeParse(wanted);
  if (!parsed.success || !OciPackage.shape.image.safeParse(image).success) {
    throw new Obstacle(`“${line(reference, 100)}” is no image's name`);
  }
  return parsed.data;
}

/**
 * How a server in a container speaks over HTTP.
 *
 * @throws {Obstacle} its source does not say it whole
 */
export function httpTransport(type: string, port: number, path: string): Transport {
  const parsed = Transport.safeParse({ type, port, path });
  if (parsed.success) return parsed.data;
  throw new Obstacle(
    ["streamable-http", "sse"].includes(type)
      ? "Its source does not say on which port and path its container listens"
      : `Its container speaks ${line(type, 40)}, which Mooring does not`,
  );
}

/**
 * What is deployed for a remote server, as models/remote_servers.ts has it.
 *
 * @param headers each with its value's input
 * @throws {Obstacle} its URL cannot be used
 */
export function remoteNeeds(
  url: unknown,
  headers: { name: unknown; input: Input }[],
  urlVariables: Record<string, Input> = {},
): Needs {
  if (typeof url !== "string") throw new Obstacle("It has no URL");
  const concrete = url.replace(/\{[^{}]*\}/g, "x");
  if (!URL.canParse(concrete)) throw new Obstacle(`“${line(url, 100)}” is no URL`);
  const { protocol, hostname, port, hash, username } = new URL(concrete);
  if (!/^https?:$/.test(protocol)) throw new Obstacle("Its URL is not an http(s) one");
  if (hostname === "localhost" || hostname.endsWith(".localhost")) {
    throw new Obstacle("Its URL is of the machine that it runs on (localhost)");
  }
  if (!/^[a-z0-9.-]+$/.test(hostname) || /^[0-9.]+$/.test(hostname)) {
    throw new Obstacle("Its URL names an address, not a host: TLS and the way out go by names");
  }
  if (hash || username) throw new Obstacle("Its URL has a user or a fragment in it");
  if (protocol === "http:" && headers.length > 0) {
    throw new Obstacle("It sends headers without https, which would show them to anybody");
  }
  if (/[<>]/.test(url) || /\$\{|=YOUR|YOUR_/i.test(url)) {
    throw new Obstacle("Its URL has a blank in it to be filled in by hand");
  }
  for (const [name, variable] of Object.entries(urlVariables)) {
    if (variable.isSecret) {
      throw new Obstacle(`Its URL holds a secret (${line(name, 40)}), and URLs are shown on pages`);
    }
  }
  const named = Object.keys(urlVariables).length > 0;
  if (!named && /\{/.test(url)) {
    throw new Obstacle("Its URL has a blank in it that it does not describe");
  }
  if (headers.length > 16) throw new Obstacle("It sends more than 16 headers");
  const isHostFixed = !/\{/.test(url.split("/").slice(0, 3).join("/"));
  return {
    package: { registry: "remote", url },
    environment: headers.flatMap(({ name, input }, index) => {
      const header = line(name, 100);
      if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/.test(header)) {
        throw new Obstacle(`“${header}” is no header's name`);
      }
      return [
        { ...BLANK, name: `HEADER_${index + 1}_NAME`, value: header, isFile: false },
        {
          ...input,
          name: `HEADER_${index + 1}_VALUE`,
          label: input.label ?? `Header ${header}`,
          // Whatever a header says to its server, nobody else is to read.
          isSecret: input.variables ? input.isSecret : true,
          isFile: false,
        },
      ];
    }),
    hosts: isHostFixed ? [`${hostname}:${port || (protocol === "https:" ? "443" : "80")}`] : [],
    urlVariables: named ? urlVariables : undefined,
    memoryMiB: 128,
  };
}

/** An input that asks nothing yet. */
export const BLANK = {
  name: "value",
  isRequired: false,
  isSecret: false,
  format: "string",
} as const satisfies Input;

/** Where a source does not say which hosts it needs, a server starts with none. */
export function noHosts(notes: string[]): string[] {
  notes.push(
    "Its source does not say which hosts it needs: it starts without network, and what it asks for is " +
      "shown on the server's page, to be allowed there",
  );
  return [];
}

/** An environment variable's name that a container takes. @throws {Obstacle} */
export function variableName(name: unknown): string {
  // Room for a variable's name after it in the name of a secret.
  if (typeof name !== "string" || !/^[A-Za-z_][A-Za-z0-9_]{0,79}$/.test(name)) {
    throw new Obstacle(`“${line(name, 80)}” is no environment variable's name`);
  }
  return name;
}

/** A volume of the server's own. @throws {Obstacle} Mooring mounts none there */
export function volumeAt(name: string, path: string): z.infer<typeof VolumeSpec> {
  const parsed = VolumeSpec.safeParse({ name: slugOf(name).slice(0, 31).replace(/-+$/, ""), path });
  if (!parsed.success) {
    throw new Obstacle(
      `It keeps its data in a volume at ${
        line(path, 100)
      }, and Mooring mounts them below /data, /home, ` +
        "/var/lib and /work alone",
    );
  }
  return parsed.data;
}

/** Objects alone; whatever else stands in such a place is an empty one. */
export function objectOf(value: unknown): Record<string, unknown> {
  return value !== null && typeof value === "object" && !Array.isArray(value)
    ? value as Record<string, unknown>
    : {};
}

/** Lists alone, at most so long. */
export function listOf(value: unknown, limit = 200): unknown[] {
  return Array.isArray(value) ? value.slice(0, limit) : [];
}
