/** What a newer version of a catalog entry would change of a server, as a person would say it. */
import { packageTitle } from "../dtma/protocol.ts";
import { type AskedInput, askedInputs, buildCodeOf, type ListedEntry } from "./catalog_entries.ts";
import { type Change, INSTANCES, spokenOn } from "./server_changes.ts";
import type { ServerOptions } from "./server_options.ts";

export interface EntryChange extends Change {
  about: "package" | "inputs" | "permissions" | "running" | "tools";
  /** It could do, reach or be given more than before. */
  widens: boolean;
}

type Package = ListedEntry["package"];

/** Where two packages are of one name in one registry: of one owner, as far as names tell. */
export function isSamePackage(one: Package, other: Package): boolean {
  return identityOf(one) === identityOf(other);
}

function identityOf(wanted: Package): string {
  switch (wanted.registry) {
    case "npm":
    case "nuget":
      return `${wanted.registry} ${wanted.name}`;
    case "pypi":
      // PEP 503: these are one name.
      return `pypi ${wanted.name.toLowerCase().replace(/[-_.]+/g, "-")}`;
    case "oci":
    case "image":
      return `image ${wanted.image}`;
    case "source":
      return `source ${wanted.location}`;
    case "remote":
    case "openapi":
      return `${wanted.registry} ${
        URL.canParse(wanted.url) ? new URL(wanted.url).host : wanted.url
      }`;
    case "other":
      return `other ${wanted.type} ${wanted.name}`;
  }
}

/** A package on one line, in its registry's words. */
export function titleOf(wanted: Package): string {
  switch (wanted.registry) {
    case "image":
      return `${wanted.image}:${wanted.tag}`;
    case "other":
      return `${wanted.type} ${wanted.name}`;
    default:
      return packageTitle(wanted);
  }
}

/**
 * An input that both versions of an entry ask: environment variables by their name, arguments by theirs
 * and not by their place, which another version may change.
 *
 * @returns for each field of `after` what it was asked as before
 */
export function counterparts(before: ListedEntry, after: ListedEntry): Map<string, AskedInput> {
  const known = new Map(
    askedInputs(before).map((asked) => [stableName(before, asked.field), asked]),
  );
  const found = new Map<string, AskedInput>();
  for (const { field } of askedInputs(after)) {
    const asked = known.get(stableName(after, field));
    if (asked) found.set(field, asked);
  }
  return found;
}

/** Of `arg.3` its kind, name and which of those of this name it is. */
function stableName(entry: ListedEntry, field: string): string {
  const [, index, rest] = /^arg\.(\d+)(\..*)?$/.exec(field) ?? [];
  if (index === undefined) return field;
  const { type, name } = entry.arguments[Number(index)];
  const earlier = entry.arguments.slice(0, Number(index))
    .filter((other) => other.type === type && other.name === name).length;
  return `arg ${type} ${name} ${earlier}${rest ?? ""}`;
}

/**
 * The differences, in the order in which a person should read them.
 *
 * @param options what the server's person said: what an entry wishes besides changes nothing
 * @param tools those that the server lists now, and those that the newer entry names, if it names any
 */
export function entryChanges(
  before: ListedEntry,
  after: ListedEntry,
  options: ServerOptions,
  tools: { listed: string[]; named: string[] },
): EntryChange[] {
  const changes: EntryChange[] = [];
  const about = (about: EntryChange["about"]) =>
  (
    name: string,
    before: string | null,
    after: string | null,
    widens = false,
  ) => {
    if (before !== after) changes.push({ about, name, before, after, widens });
  };
  packageChanges(before, after, about("package"));
  permissionChanges(before, after, options, about("permissions"));
  inputChanges(before, after, about("inputs"), about("permissions"));
  runningChanges(before, after, options, about("running"));
  toolChanges(tools, about("tools"));
  return changes;
}

type Say = (name: string, before: string | null, after: string | null, widens?: boolean) => void;

function packageChanges(before: ListedEntry, after: ListedEntry, say: Say): void {
  const isOther = !isSamePackage(before.package, after.package);
  const isRemote = before.package.registry === "remote" && after.package.registry === "remote";
  say(
    !isOther ? "Package" : isRemote ? "Another host" : "Another package",
    titleOf(before.package),
    titleOf(after.package),
    isOther,
  );
  if (after.package.registry === "image") {
    say("Its digest", "the one it was deployed by", "what the tag stands for when you update");
  }
  if (before.license && after.license) say("License", before.license, after.license);
}

function permissionChanges(
  before: ListedEntry,
  after: ListedEntry,
  options: ServerOptions,
  say: Say,
): void {
  const reached = [...before.network.hosts, ...options.hosts];
  for (const host of after.network.hosts) {
    if (!reached.includes(host)) say("Reaches", null, host, !reached.some(covers(host)));
  }
  for (const host of before.network.hosts) {
    const goes = ![...after.network.hosts, ...options.hosts].includes(host);
    if (goes) say("Reaches no more", host, null);
  }
  for (const { path } of after.volumes) {
    if (!before.volumes.some((volume) => volume.path === path)) {
      say("Keeps data at", null, path, true);
    }
  }
  for (const { path } of before.volumes) {
    if (!after.volumes.some((volume) => volume.path === path)) {
      say("Keeps no data any more at", path, null);
    }
  }
  const code = { "install-scripts": "install scripts of its packages", dockerfile: "a Dockerfile" };
  const [one, other] = [before, after].map((entry) => {
    const built = buildCodeOf(entry);
    return built ? code[built] : "none";
  });
  say("Code that runs while its image is built", one, other, other !== "none");
  if (options.memoryMiB === null) {
    const widens = after.memoryMiB > before.memoryMiB;
    say("Memory", `${before.memoryMiB} MiB`, `${after.memoryMiB} MiB`, widens);
  }
  if (options.tier === null) {
    say("How far it is trusted", before.tier, after.tier, after.tier === "standard");
  }
}

/** Whether a pattern of what may be reached, such as `*.example.com:443`, allows a host. */
function covers(host: string): (pattern: string) => boolean {
  const [name, port] = host.split(":");
  return (pattern) => {
    const [allowed, allowedPort] = pattern.split(":");
    if (allowedPort !== port) return false;
    return allowed === "*" || allowed.startsWith("*.") && name.endsWith(allowed.slice(1));
  };
}

function inputChanges(before: ListedEntry, after: ListedEntry, say: Say, permit: Say): void {
  const known = counterparts(before, after);
  const label = ({ input }: AskedInput) => input.label ?? input.name;
  const need = ({ input }: AskedInput) =>
    `${input.isSecret ? "secret, " : ""}${input.isRequired ? "needed" : "optional"}`;
  for (const asked of askedInputs(after)) {
    const earlier = known.get(asked.field);
    if (earlier) {
      say(label(asked), need(earlier), need(asked));
      continue;
    }
    const { isRequired, default: preset, isSecret } = asked.input;
    const how = isSecret || preset === undefined
      ? isRequired ? "needed" : "optional"
      : `${preset || "empty"} unless you say otherwise`;
    if (isSecret) permit("Is given the secret", null, `${label(asked)}, ${how}`, true);
    else say("New input", null, `${label(asked)}, ${how}`);
  }
  const kept = new Set([...known.values()].map(({ field }) => field));
  for (const asked of askedInputs(before)) {
    if (!kept.has(asked.field)) say("Asks no more for", label(asked), null);
  }
}

function runningChanges(
  before: ListedEntry,
  after: ListedEntry,
  options: ServerOptions,
  say: Say,
): void {
  const [one, other] = [before, after].map(fixedInputs);
  for (const name of new Set([...one.keys(), ...other.keys()])) {
    say(name, one.get(name) ?? null, other.get(name) ?? null);
  }
  const command = (entry: ListedEntry) =>
    "command" in entry.package && entry.package.command
      ? [entry.package.command].flat().join(" ")
      : "what the package names";
  say("Started by", command(before), command(after));
  if (options.transport === null) {
    say("Speaks on", spokenOn(before.transport), spokenOn(after.transport));
  }
  if (options.instances === null) {
    const widens = after.instances === "shared";
    say("Instances", INSTANCES[before.instances], INSTANCES[after.instances], widens);
  }
}

/** What it is started with whatever a person gives, by what it is called. */
function fixedInputs(entry: ListedEntry): Map<string, string> {
  const fixed = [
    ...entry.environment.map((input) => [`Variable ${input.name}`, input.value] as const),
    ...entry.arguments.map((input, index) =>
      [`Argument ${index + 1}, ${input.name}`, input.value] as const
    ),
  ];
  return new Map(fixed.flatMap(([name, value]) => value === undefined ? [] : [[name, value]]));
}

function toolChanges({ listed, named }: { listed: string[]; named: string[] }, say: Say): void {
  if (listed.length === 0 || named.length === 0) return;
  const fresh = named.filter((name) => !listed.includes(name));
  const gone = listed.filter((name) => !named.includes(name));
  if (fresh.length > 0) say("New tools", null, some(fresh));
  if (gone.length > 0) say("Tools that it names no more", some(gone), null);
}

function some(names: string[]): string {
  const rest = names.length - 12;
  return names.slice(0, 12).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
