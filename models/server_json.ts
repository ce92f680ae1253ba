/**
 * Imports `server.json` of the official registry: the schema of 2025-12-11, those before it (snake_case
 * names among them), and the registry's oldest shape (`version_detail`, `registry_name`).
 */
import type { Transport } from "../dtma/protocol.ts";
import type { Argument, Input, Variable } from "./catalog_entries.ts";
import {
  BLANK,
  type Found,
  httpTransport,
  imageOf,
  type Imported,
  imported,
  line,
  listOf,
  type Needs,
  noHosts,
  objectOf,
  Obstacle,
  plainText,
  remoteNeeds,
  Unreadable,
  variableName,
} from "./imported.ts";
import { permittedHosts } from "./toolhive_registry.ts";

type Fields = Record<string, unknown>;

const OFFICIAL = "io.modelcontextprotocol.registry/official";
const PROVIDED = "io.modelcontextprotocol.registry/publisher-provided";
/** ToolHive's registry in the official format says more of each package here, permissions among it. */
const STACKLOK = "io.github.stacklok";

/**
 * @param value a `server.json`, or an answer of the registry's API about one (`{ server, _meta }`)
 * @throws {Unreadable}
 */
export function importServerJson(value: unknown, raw: string): Imported {
  const outer = camel(value);
  const server = "server" in outer ? camel(outer.server) : outer;
  if (typeof server.name !== "string") {
    throw new Unreadable("It is no server.json: it has no name");
  }
  const meta = camel(objectOf(outer._meta ?? server._meta)[OFFICIAL]);
  const detail = camel(server.versionDetail);
  const repository = camel(server.repository);
  const packages = listOf(server.packages, 20).map(camel);
  const remotes = listOf(server.remotes, 20).map(camel);
  const extras = Object.values(
    objectOf(objectOf(objectOf(outer._meta ?? server._meta)[PROVIDED])[STACKLOK]),
  ).map(objectOf);
  const [extra = {}] = extras;
  const status = line(meta.status ?? server.status, 20).toLowerCase();
  const message = line(meta.statusMessage, 200);
  const found: Found = {
    name: server.name,
    title: server.title,
    description: server.description,
    version: server.version ?? detail.version,
    homepages: [server.websiteUrl, repository.url],
    category: listOf(extra.tags).find((tag) => tag !== "remote"),
    keywords: [
      ...packages.map(({ identifier, name }) => identifier ?? name),
      ...listOf(extra.tags, 50),
    ],
    tools: [...listOf(extra.tool_definitions), ...listOf(extra.tools)].map((tool) => ({
      name: line(objectOf(tool).name ?? tool, 200),
      description: plainText(objectOf(tool).description, 500),
    })).filter(({ name }, index, all) => all.findIndex((other) => other.name === name) === index),
    publishedAt: meta.publishedAt ?? detail.releaseDate,
    isLatest: (meta.isLatest ?? detail.isLatest) !== false,
    isDeleted: status === "deleted",
    notes: status === "deprecated"
      ? [`Its publisher calls it deprecated${message ? `: ${message}` : ""}`]
      : [],
    kind: kindOf(packages[0], remotes[0]),
    needs: (notes) => firstFit(packages, remotes, extra, notes),
  };
  return imported(raw, found);
}

function kindOf(first: Fields | undefined, remote: Fields | undefined): Found["kind"] {
  if (first) {
    return {
      type: line(first.registryType ?? first.registryName, 40),
      name: line(first.identifier ?? first.name, 500),
    };
  }
  return remote ? { type: "remote", name: line(remote.url, 500) } : { type: "nothing", name: "" };
}

/** What it can be deployed from, in the order in which it is offered; else why the first is not fit. */
function firstFit(
  packages: Fields[],
  remotes: Fields[],
  extra: Fields,
  notes: string[],
): Needs {
  if (packages.length + remotes.length === 0) {
    throw new Obstacle("It names no package and no remote server");
  }
  let why: Obstacle | null = null;
  const ways = [
    ...packages.map((each) => () => ofPackage(each, extra, notes)),
    ...remotes.map((each) => () => ofRemote(each)),
  ];
  for (const way of ways) {
    const before = notes.length;
    try {
      return way();
    } catch (error) {
      if (!(error instanceof Obstacle)) throw error;
      why ??= error;
      notes.length = before;
    }
  }
  throw why!;
}

/** Registries that a toolbox asks where nothing else is set. */
const HOME: Record<string, RegExp> = {
  npm: /^https:\/\/registry\.npmjs\.org\/?$/,
  pypi: /^https:\/\/(files\.pythonhosted|pypi)\.org(\/simple)?\/?$/,
  nuget: /^https:\/\/(api\.|www\.)?nuget\.org(\/v3\/index\.json|\/v3)?\/?$/,
};

function ofPackage(wanted: Fields, extra: Fields, notes: string[]): Needs {
  const type = line(wanted.registryType ?? wanted.registryName, 40).toLowerCase();
  const identifier = line(wanted.identifier ?? wanted.name, 500);
  const version = line(wanted.version, 100);
  const base = line(wanted.registryBaseUrl, 300);
  if (HOME[type] && base && !HOME[type].test(base)) {
    throw new Obstacle(`It comes from a registry of its own, ${base}`);
  }
  const isOldest = "registryName" in wanted;
  const fromRuntime = runtimeEnvironment(listOf(wanted.runtimeArguments, 64), notes);
  return {
    package: packageOf(type, identifier, version, base),
    transport: transportOf(wanted),
    arguments: listOf(wanted.packageArguments, 200).flatMap((each, index) =>
      isOldest ? oldestArgument(camel(each), index) : [argumentOf(camel(each), index)]
    ),
    environment: unique([
      ...listOf(wanted.environmentVariables, 200).map((each) => environmentOf(camel(each))),
      ...fromRuntime,
    ]),
    hosts: extra.permissions ? permittedHosts(extra.permissions, notes) : noHosts(notes),
  };
}

/** Its URL is a template, whose names are those of arguments and environment variables. */
function transportOf(wanted: Fields): Transport | undefined {
  const { type, url } = camel(wanted.transport);
  const name = line(type, 40) || "stdio";
  if (name === "stdio") return undefined;
  const inputs = [...listOf(wanted.packageArguments), ...listOf(wanted.environmentVariables)];
  const filled = line(url, 500).replace(/\{([^{}]{1,64})\}/g, (whole, key) => {
    const input = inputs.map(camel).find((each) => [each.name, each.valueHint].includes(key));
    return line(input?.value ?? input?.default, 100) || whole;
  });
  const parsed = URL.parse(filled);
  const isOwn = parsed?.protocol === "http:" &&
    ["localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"].includes(parsed.hostname);
  return httpTransport(name, isOwn ? Number(parsed.port || 80) : 0, parsed?.pathname ?? "");
}

function packageOf(
  type: string,
  identifier: string,
  version: string,
  base: string,
): Needs["package"] {
  const exact = () => {
    if (version === "" || /^latest$|[\^~<>*]|\.x$/i.test(version)) {
      throw new Obstacle(
        `It names no exact version (${version || "none"}), and another could come tomorrow`,
      );
    }
    return version;
  };
  switch (type) {
    case "npm":
      return { registry: "npm", name: identifier, version: exact(), installScripts: false };
    case "pypi":
      return { registry: "pypi", name: identifier, version: exact(), installScripts: false };
    case "nuget":
      return { registry: "nuget", name: identifier, version: exact() };
    case "oci":
    case "docker": {
      // Before 2025-10 the host stood apart, and the tag was the version.
      const host = base ? base.replace(/^https?:\/\//, "").replace(/\/.*$/, "") : "";
      const isWhole = /[:@][^/]*$/.test(identifier);
      const name = host && !identifier.startsWith(`${host}/`)
        ? `${host}/${identifier}`
        : identifier;
      return imageOf(isWhole || !version ? name : `${name}:${version}`);
    }
    case "mcpb":
      throw new Obstacle("It is an MCPB bundle, which is made for desktop programs");
    case "":
    case "unknown":
      throw new Obstacle("Its source does not say where its package comes from");
    default:
      throw new Obstacle(`Mooring does not know packages of “${type}”`);
  }
}

function ofRemote(remote: Fields): Needs {
  const headers = listOf(remote.headers, 50).map(camel).map((header) => ({
    name: header.name,
    input: inputOf(header, "value"),
  }));
  return remoteNeeds(remote.url, headers, variablesOf(remote.variables));
}

// ── Inputs ──────────────────────────────────────────────────────────────────────────────────────

function environmentOf(fields: Fields): NonNullable<Needs["environment"]>[number] {
  const name = variableName(fields.name);
  const input = inputOf(fields, name);
  return { ...input, name, isFile: false };
}

/** Twice the same variable is the first. */
function unique(environment: NonNullable<Needs["environment"]>) {
  const seen = new Set<string>();
  return environment.filter(({ name }) => !seen.has(name) && seen.add(name));
}

function argumentOf(fields: Fields, index: number): Argument {
  const type = fields.type === "named" ? "named" as const : "positional" as const;
  const name = line(fields.name, 128);
  if (type === "named" && name === "") throw new Obstacle("One of its arguments has no name");
  const label = line(fields.valueHint, 120);
  const input = inputOf(fields, type === "named" ? name : label || `argument ${index + 1}`);
  return {
    ...input,
    type,
    name: type === "named" ? name : label || `argument ${index + 1}`,
    label: type === "named" ? undefined : label || undefined,
    isRepeated: fields.isRepeated === true,
  };
}

/**
 * An argument of the oldest shape, which was read out of READMEs: flag and value in one, `value` being
 * an example as often as not.
 */
function oldestArgument(fields: Fields, index: number): Argument[] {
  const text = plainText(fields.value, 1000) || plainText(fields.default, 1000);
  const description = plainText(fields.description, 1000) || undefined;
  const base = { ...BLANK, type: "positional" as const, isRepeated: false };
  const [, flag, separator, rest] = /^(--?[A-Za-z0-9][\w.-]*)(?:(=|\s+)(.*))?$/s.exec(text) ?? [];
  const fixed = (value: string) => ({ ...base, name: line(value, 128) || "argument", value });
  if (!isExample(flag ? rest ?? "" : text)) {
    if (!flag || !separator) return text === "" ? [] : [fixed(text)];
    return separator === "=" ? [fixed(text)] : [fixed(flag), fixed(rest)];
  }
  const named = flag ?? (line(fields.valueHint, 100) || `argument ${index + 1}`);
  const variable = {
    name: "value",
    label: line(named.replace(/^-+/, ""), 120) || undefined,
    description,
    isRequired: fields.isRequired === true,
    isSecret: isSecretName(`${named} ${rest ?? text}`),
    format: "string" as const,
    placeholder: line(rest ?? text, 200) || undefined,
  };
  if (!flag) return [{ ...base, ...variable, name: line(named, 128) }];
  if (separator === "=") {
    return [{
      ...base,
      name: line(flag, 128),
      value: `${flag}={value}`,
      variables: { value: variable },
    }];
  }
  return [{ ...base, ...variable, type: "named", name: line(flag, 128) }];
}

/** A value that a README has for the reader to replace. */
function isExample(text: string): boolean {
  return /<[^>]*>|\byour\b|your[-_]|\$\{?\w|path\/to|\/ABSOLUTE|^\[.*\]$|\/Users\/|example\.com|xxx/i
    .test(text);
}

function isSecretName(text: string): boolean {
  return /(api|access|auth|private|secret)[-_ ]?(key|token)|token|secret|passw|credential/i.test(
    text,
  );
}

function variablesOf(value: unknown): Record<string, Variable> {
  const variables: Record<string, Variable> = {};
  for (const [name, fields] of Object.entries(objectOf(value)).slice(0, 32)) {
    if (!/^[A-Za-z0-9_.-]{1,40}$/.test(name)) {
      throw new Obstacle(`“${line(name, 40)}” is no variable's name`);
    }
    const { variables: _, ...input } = inputOf(camel(fields), name);
    variables[name] = input;
  }
  return variables;
}

/** An input of any shape. One whose template has variables asks those; a fixed value asks nothing. */
function inputOf(fields: Fields, name: string): Input {
  const variables = variablesOf(fields.variables);
  const value = typeof fields.value === "string" ? fields.value : undefined;
  const used = Object.fromEntries(
    Object.entries(variables).filter(([each]) => value?.includes(`{${each}}`)),
  );
  const choices = listOf(fields.choices, 100).map((choice) => line(choice, 200)).filter(Boolean);
  const text = (wanted: unknown, limit: number) => {
    const shown = typeof wanted === "number" || typeof wanted === "boolean"
      ? String(wanted)
      : wanted;
    return typeof shown === "string" && shown !== "" && shown.length <= limit &&
        !shown.includes("\u0000")
      ? shown
      : undefined;
  };
  return {
    name,
    description: plainText(fields.description, 1000) || undefined,
    isRequired: fields.isRequired === true,
    isSecret: fields.isSecret === true,
    format: formatOf(fields.format),
    default: fields.isSecret === true ? undefined : text(fields.default, 4096),
    placeholder: line(fields.placeholder, 200) || undefined,
    choices: choices.length > 0 ? choices : undefined,
    value: text(value, 4096),
    variables: Object.keys(used).length > 0 ? used : undefined,
  };
}

function formatOf(format: unknown): Input["format"] {
  return format === "number" || format === "boolean" || format === "filepath" ? format : "string";
}

/** Arguments of `docker run`, `npx` and `uvx` that change nothing for Mooring, which runs none of them. */
const HARMLESS = /^(-y|--yes|-i|-t|-it|-ti|--interactive|--tty|--rm|--quiet|-q|--init|run)$/;

/** What runtime arguments say of the environment (`docker run -e NAME=value`). @throws {Obstacle} */
function runtimeEnvironment(list: unknown[], notes: string[]): NonNullable<Needs["environment"]> {
  return list.map(camel).flatMap((fields) => {
    const name = line(fields.name, 100) || line(fields.value, 100);
    if (HARMLESS.test(name)) return [];
    const [, variable, value] = /^([A-Za-z_]\w*)=(.*)$/s.exec(String(fields.value ?? "")) ?? [];
    if (/^(-e|--env)$/.test(name) && variable) {
      return [environmentOf({ ...fields, name: variable, value })];
    }
    if (/^(-v|--volume|--mount)$/.test(name)) {
      throw new Obstacle("It needs a folder of the host, and no server gets one");
    }
    if (
      /^(--name|-p|--publish|--network|--net|--add-host|-p=.*)$/.test(name) && name !== "--network"
    ) {
      notes.push(`Its runtime argument ${name} is left out`);
      return [];
    }
    throw new Obstacle(`It needs the runtime argument ${name}, which Mooring does not pass on`);
  });
}

/** Its own members with their names in camelCase: schemas before 2025-09-16 have snake_case. */
function camel(value: unknown): Fields {
  return Object.fromEntries(
    Object.entries(objectOf(value)).slice(0, 100).map(([name, member]) => [
      name.startsWith("_") ? name : name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase()),
      member,
    ]),
  );
}
