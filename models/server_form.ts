/** Reads the deploy form against a catalog entry, and turns what was given into a container's spec. */
import { z } from "zod";
import canonicalize from "canonicalize";
import { type ServerSpec, STDIO, Tier, Transport } from "../dtma/protocol.ts";
import {
  type AskedInput,
  askedInputs,
  buildCodeOf,
  type CatalogEntry,
  type EntryInputs,
  type Input,
} from "./catalog_entries.ts";
import { Invalid } from "./errors.ts";
import type { ServerOptions } from "./server_options.ts";

/** Longest value, in bytes: of an argument and of an environment variable. */
const LIMIT_BYTES = { argument: 8 * 1024, environment: 32 * 1024, url: 1024 };
/** Most arguments that a spec may have (ServerSpec of dtma/protocol.ts). */
const LIMIT_ARGUMENTS = 64;

/**
 * Checks a deploy form.
 *
 * @param form values by field name; what the entry does not ask is ignored
 * @param keptSecrets names of secrets that have a value already: left empty they keep it
 * @param mistakes what is wrong with the form besides, by field
 * @throws {Invalid} with a sentence for each field that does not hold
 */
export function readForm(
  entry: EntryInputs,
  form: Record<string, string>,
  keptSecrets: string[],
  mistakes: Record<string, string> = {},
): { values: Record<string, string>; secrets: Record<string, string> } {
  const values: Record<string, string> = {};
  const secrets: Record<string, string> = {};
  mistakes = { ...mistakes };
  for (const asked of askedInputs(entry)) {
    const { field, input } = asked;
    const given = form[field] ?? "";
    const value = input.isSecret ? given.trim() : given;
    if (value === "" && !(input.format === "boolean")) {
      const isKept = input.isSecret && keptSecrets.includes(asked.secret);
      if (input.isRequired && !isKept) mistakes[field] = `${labelOf(asked)} is needed`;
      continue;
    }
    const mistake = mistakeIn(asked, value);
    if (mistake) mistakes[field] = mistake;
    else if (input.isSecret) secrets[asked.secret] = value;
    else if (value !== "") values[field] = value;
  }
  const repeated = entry.arguments.findIndex((input) => input.isRepeated);
  if (
    repeated >= 0 && resolveInputs(entry, values, secrets).arguments.length > LIMIT_ARGUMENTS
  ) {
    mistakes[`arg.${repeated}`] ??= `Too many lines: at most ${LIMIT_ARGUMENTS} arguments fit`;
  }
  const count = Object.keys(mistakes).length;
  if (count > 0) {
    throw new Invalid(
      count === 1 ? "One field needs attention" : `${count} fields need attention`,
      mistakes,
    );
  }
  return { values, secrets };
}

/** The field of a deploy form by which a person agrees to what the build runs. */
export const BUILD_CONSENT = "consent.build";

/**
 * Why a deploy form lacks the person's agreement, by field: an entry whose build runs code of its own
 * is not deployed without it.
 */
export function missingConsent(
  entry: CatalogEntry,
  form: Record<string, string>,
): Record<string, string> {
  const code = buildCodeOf(entry);
  if (code === null || form[BUILD_CONSENT] === "true") return {};
  return {
    [BUILD_CONSENT]: code === "dockerfile"
      ? "Building this runs what its Dockerfile says: agree to it, or do not deploy this entry"
      : "Installing this runs scripts of its packages: agree to it, or do not deploy this entry",
  };
}

/** The fields of a configuration form that are of how a server runs, in its words. */
const OptionFields = z.object({
  "option.memoryMiB": z.coerce.number("must be a number").int("must be a whole number")
    .min(64, "must be 64 MiB at least").max(65_536, "must be 65,536 MiB at most"),
  "option.instances": z.enum(
    ["shared", "agent", "session"],
    "must be one for all, or one for each agent or session",
  ),
  "option.idleStopMinutes": z.union([
    z.literal("").transform(() => null),
    z.coerce.number("must be a number").min(0.5, "must be half a minute at least")
      .max(10_080, "must be a week at most"),
  ], "must be minutes, from half a minute to a week, or empty"),
  "option.tier": z.enum(Tier.options, "must be standard or untrusted"),
  "option.transport": z.enum(
    ["stdio", "streamable-http", "sse"],
    "must be standard input and output, Streamable HTTP or HTTP+SSE",
  ),
}).partial();

/**
 * How a server is to run, from its form; what the form does not have stays as it is.
 * @throws {Invalid} with a sentence for each field that does not hold
 */
export function readOptions(
  form: Record<string, string>,
  { entry, options }: { entry: CatalogEntry; options: ServerOptions },
): ServerOptions {
  const parsed = OptionFields.safeParse(form);
  if (!parsed.success) {
    throw new Invalid(
      "One field needs attention",
      Object.fromEntries(parsed.error.issues.map(({ path, message }) => [
        String(path[0]),
        `This ${message}`,
      ])),
    );
  }
  const {
    "option.memoryMiB": memoryMiB,
    "option.instances": instances,
    "option.idleStopMinutes": idleMinutes,
    "option.tier": tier,
    "option.transport": type,
  } = parsed.data;
  // How a remote server speaks is found by the adapter that is deployed for it.
  const isAsked = type && !["remote", "openapi"].includes(entry.package.registry);
  const transport = isAsked ? readTransport(type, form) : undefined;
  // What is the entry's own wish is not made the person's: a later entry may know better.
  const own = <T>(value: T | undefined, before: T | null, wished: T) =>
    value === undefined ? before : value === wished ? null : value;
  const read: ServerOptions = {
    ...options,
    memoryMiB: own(memoryMiB, options.memoryMiB, entry.memoryMiB),
    instances: own(instances, options.instances, entry.instances),
    tier: own(tier, options.tier, entry.tier),
    transport: transport && canonicalize(transport) === canonicalize(entry.transport)
      ? null
      : transport ?? options.transport,
    idleStopS: idleMinutes === undefined
      ? options.idleStopS
      : idleMinutes && Math.round(idleMinutes * 60),
  };
  const isOverHttp = (read.transport ?? entry.transport).type !== "stdio";
  if (isOverHttp && (read.tier ?? entry.tier) === "untrusted") {
    const mistake =
      "An untrusted server runs in a sandbox, in which it is reached on standard input and output " +
      "alone: this one speaks HTTP";
    throw new Invalid(mistake, { "option.tier": mistake });
  }
  return read;
}

/** @throws {Invalid} with a sentence for the port and the path where they do not hold */
function readTransport(type: Transport["type"], form: Record<string, string>): Transport {
  if (type === "stdio") return STDIO;
  const { "option.port": port = "", "option.path": path = "" } = form;
  const parsed = Transport.safeParse({ type, port: Number(port.trim()), path: path.trim() });
  if (parsed.success) return parsed.data;
  const sentences: Record<string, string> = {
    port: "The port must be a number from 1 to 65535: the one that the server listens on",
    path: "The path must begin with a slash, such as /mcp, and have no query",
  };
  throw new Invalid(
    "One field needs attention",
    Object.fromEntries(
      parsed.error.issues.map(({ path: [field] }) => [
        `option.${String(field)}`,
        sentences[String(field)],
      ]),
    ),
  );
}

/**
 * The arguments, environment and secrets of a container: fixed values, then given ones.
 *
 * @param secrets opened values by name; only those the entry asks are used
 */
export function resolveInputs(
  entry: EntryInputs,
  values: Record<string, string>,
  secrets: Record<string, string>,
): Pick<ServerSpec, "arguments" | "environment" | "secrets" | "secretFiles"> {
  const args: string[] = [];
  entry.arguments.forEach((input, index) => {
    const given = valueOf(input, `arg.${index}`, `arg.${index}`, values, secrets);
    if (given === undefined || given === "") return;
    if (input.format === "boolean") {
      if (given === "true") args.push(input.name);
      return;
    }
    for (const value of input.isRepeated ? given.split(/\r?\n/).filter(Boolean) : [given]) {
      args.push(...(input.type === "named" ? [input.name, value] : [value]));
    }
  });
  const environment: Record<string, string> = {};
  const secretEnvironment: Record<string, string> = {};
  const secretFiles: Record<string, string> = {};
  for (const input of entry.environment) {
    const given = valueOf(input, `env.${input.name}`, input.name, values, secrets);
    if (given === undefined || (given === "" && !input.isSecret)) continue;
    if (!isSecretValue(input)) environment[input.name] = given;
    else if (input.isFile) {
      secretFiles[input.name] = given;
      environment[input.name] = `/run/secrets/${input.name}`;
    } else secretEnvironment[input.name] = given;
  }
  return { arguments: args, environment, secrets: secretEnvironment, secretFiles };
}

/** What a secret is kept under: an environment variable's name, or an argument's field. */
export function secretName({ kind, field, input }: AskedInput): string {
  return kind === "environment" ? input.name : field;
}

/** What an input comes to: fixed, given, or a template with what was given for its variables. */
function valueOf(
  input: Input,
  field: string,
  secret: string,
  values: Record<string, string>,
  secrets: Record<string, string>,
): string | undefined {
  if (!input.variables) return input.value ?? (input.isSecret ? secrets[secret] : values[field]);
  let isWhole = true;
  const filled = fillTemplate(input.value ?? "", (name) => {
    const variable = input.variables![name];
    if (!variable) return undefined;
    const given = variable.value ??
      (variable.isSecret ? secrets : values)[`${field}.${name}`] ?? "";
    if (given === "") isWhole = false;
    return given;
  });
  // A value with a hole in it, such as "Bearer ", is worse than none.
  return isWhole ? filled : undefined;
}

/** Puts values where a template has their names in braces; a name without a value stays as it is. */
export function fillTemplate(
  template: string,
  valueOf: (name: string) => string | undefined,
): string {
  return template.replace(/\{([A-Za-z0-9_.-]{1,64})\}/g, (whole, name) => valueOf(name) ?? whole);
}

/** Whether what it comes to is kept from logs and labels: a part that is secret makes all of it so. */
function isSecretValue({ isSecret, variables }: Input): boolean {
  return isSecret || Object.values(variables ?? {}).some((variable) => variable.isSecret);
}

function labelOf({ input }: AskedInput): string {
  return input.label ?? input.name;
}

function mistakeIn(asked: AskedInput, value: string): string | null {
  const { input, kind } = asked;
  const limit = LIMIT_BYTES[kind];
  if (new TextEncoder().encode(value).length > limit) {
    return `${labelOf(asked)} is too long: at most ${limit / 1024} KiB fit`;
  }
  if (value.includes("\u0000")) return `${labelOf(asked)} must not hold a NUL character`;
  if (input.format === "number" && !/^-?\d+(\.\d+)?$/.test(value)) {
    return `${labelOf(asked)} must be a number`;
  }
  if (input.format === "boolean" && !["", "true", "false"].includes(value)) {
    return `${labelOf(asked)} must be yes or no`;
  }
  if (input.choices && !input.choices.includes(value)) {
    return `${labelOf(asked)} must be one of ${input.choices.join(", ")}`;
  }
  return null;
}
