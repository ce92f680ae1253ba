/**
 * OpenAPI documents, read at the border: of JSON or YAML, of version 2.0, 3.0 or 3.1, bounded, and brought
 * to 3.1, so that all that comes behind knows one dialect.
 */
import { upgrade } from "@scalar/openapi-upgrader";
import { parse as parseYaml } from "yaml";
import { Invalid } from "./errors.ts";

/** GitHub's, the largest that is known of, has 13 MB. */
export const DOCUMENT_LIMIT_BYTES = 16 * 1024 * 1024;
/** YAML takes ten times as long to read. */
const YAML_LIMIT_BYTES = 4 * 1024 * 1024;
const DEPTH_LIMIT = 120;
const VALUES_LIMIT = 2_000_000;
/** Of all its texts; more than its bytes can be by aliases alone. */
const TEXT_LIMIT = 2 * DOCUMENT_LIMIT_BYTES;
/** A YAML alias may repeat what is large already ("billion laughs"). */
const ALIAS_LIMIT = 100;

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };

export interface ApiDocument {
  title: string;
  /** Of the API, as its document says; empty: it says none. */
  version: string;
  description: string;
  /** As it was given: `2.0`, `3.0.3`, `3.1.0`. */
  openapi: string;
  /** In OpenAPI 3.1, less what nothing here reads. */
  document: JsonObject;
}

/** What of a document is kept. */
const KEPT = ["openapi", "info", "servers", "security", "tags", "paths", "components"];

/**
 * Reads a document.
 * @throws {Invalid} with a sentence under `document`
 */
export function readApiDocument(text: string): ApiDocument {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > DOCUMENT_LIMIT_BYTES) refuse("It is larger than 16 MiB");
  const given = parsed(text.replace(/^\uFEFF/, ""), bytes);
  if (!isObject(given)) refuse("It is no OpenAPI document: its top is not an object");
  tidy(given);
  const openapi = textOf(given.openapi ?? given.swagger);
  if (!/^(2\.0|3\.[01]\.\d{1,3}(-[\w.]+)?)$/.test(openapi)) {
    refuse(
      openapi === ""
        ? "It is no OpenAPI document: it has no member `openapi` that says its version"
        : `It is of version ${openapi.slice(0, 20)}: versions 2.0, 3.0 and 3.1 are read`,
    );
  }
  let document: JsonObject;
  try {
    document = upgrade(given, "3.1") as unknown as JsonObject;
  } catch {
    refuse("It does not hold together: what it declares is not of the form that OpenAPI has");
  }
  if (!isObject(document.paths) || Object.keys(document.paths).length === 0) {
    refuse("It has no paths, so there is nothing to call");
  }
  const info = objectOf(document.info);
  return {
    title: line(info.title, 80) || "A REST API",
    version: line(info.version, 60),
    description: textOf(info.description).trim().slice(0, 4000),
    openapi,
    document: Object.fromEntries(
      KEPT.filter((name) => Object.hasOwn(document, name)).map((name) => [name, document[name]]),
    ),
  };
}

function parsed(text: string, bytes: number): unknown {
  if (/^\s*[{[]/.test(text)) {
    try {
      return JSON.parse(text);
    } catch (error) {
      // A flow mapping is YAML too, and begins alike.
      if (bytes > YAML_LIMIT_BYTES) refuse(`It is no JSON: ${reasonOf(error)}`);
    }
  } else if (/^\s*</.test(text)) {
    refuse("It is a web page, not an OpenAPI document: give the address of its JSON or YAML");
  }
  if (bytes > YAML_LIMIT_BYTES) {
    refuse("It is YAML of more than 4 MiB: give it as JSON, which takes up to 16 MiB");
  }
  try {
    return parseYaml(text, { maxAliasCount: ALIAS_LIMIT, merge: true, logLevel: "error" });
  } catch (error) {
    refuse(`It is neither JSON nor YAML: ${reasonOf(error)}`);
  }
}

/**
 * Bounds what is walked later, and takes out members named `__proto__`, which copying would make the
 * prototype of a copy. What YAML's aliases share counts each time.
 */
function tidy(top: JsonObject): void {
  let level: unknown[] = [top], values = 0, characters = 0;
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEPTH_LIMIT) refuse(`It is nested more than ${DEPTH_LIMIT} deep`);
    const next: unknown[] = [];
    for (const each of level) {
      if (typeof each === "string") characters += each.length;
      else if (isObject(each)) { for (const name in each) characters += name.length; }
      if (characters > TEXT_LIMIT) {
        refuse("It repeats so much by its aliases that it is larger than 32 MiB");
      }
      if (typeof each !== "object" || each === null) continue;
      if (Object.hasOwn(each, "__proto__")) delete (each as Record<string, unknown>)["__proto__"];
      for (const member of Object.values(each)) next.push(member);
      if ((values += 1) > VALUES_LIMIT || next.length > VALUES_LIMIT) {
        refuse("It holds more values than any API needs");
      }
    }
    level = next;
  }
}

function refuse(message: string): never {
  throw new Invalid(message, { document: message });
}

function reasonOf(error: unknown): string {
  return (error as Error).message.split("\n")[0].slice(0, 200);
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function objectOf(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

export function listOf(value: unknown): Json[] {
  return Array.isArray(value) ? value : [];
}

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : typeof value === "number" ? String(value) : "";
}

/** A text as one line of at most so many characters. */
export function line(value: unknown, limit: number): string {
  // Its beginning is enough to look at: thousands of operations may refer to one that has megabytes.
  const text = textOf(value).slice(0, 20 * limit).replaceAll(/\s+/g, " ").trim();
  return text.length > limit ? `${text.slice(0, limit - 1).trimEnd()}…` : text;
}

/** Why an operation cannot be a tool, as a sentence without its stop. */
export class OperationError extends Error {}

/**
 * What a value is, if it is a reference: within its document alone, and not round in a circle.
 * @throws {OperationError}
 */
export function resolved(document: JsonObject, value: unknown): JsonObject {
  let found = value;
  for (let hops = 0; isObject(found) && typeof found.$ref === "string"; hops++) {
    if (hops === 16) {
      throw new OperationError(`The reference ${found.$ref} leads round in a circle`);
    }
    found = atPointer(document, found.$ref);
  }
  return objectOf(found);
}

/** @throws {OperationError} */
export function atPointer(document: JsonObject, ref: string): Json {
  if (!ref.startsWith("#/")) {
    throw new OperationError(
      `It refers to another document (${ref.slice(0, 100)}): give one that holds all of it, as ` +
        "`redocly bundle` makes it",
    );
  }
  let found: Json = document;
  for (const part of ref.slice(2).split("/")) {
    const name = decoded(part).replaceAll("~1", "/").replaceAll("~0", "~");
    const isThere = typeof found === "object" && found !== null && Object.hasOwn(found, name);
    if (!isThere) throw new OperationError(`The reference ${ref.slice(0, 200)} leads nowhere`);
    found = (found as JsonObject)[name];
  }
  return found;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
