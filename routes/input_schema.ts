/** JSON Schemas as forms need them: references followed, `allOf` merged, alternatives side by side. */
import { isObject } from "../mcp/revisions.ts";

export type Schema = Record<string, unknown>;

/** What a schema comes to at one place. */
export type Shape =
  | { kind: "one"; schema: Schema; isNullable: boolean }
  | { kind: "alternatives"; of: Schema[]; isNullable: boolean; schema: Schema }
  /** What no form is made for: written as JSON. */
  | { kind: "odd"; schema: Schema };

/** References that lead to references, and schemas merged into each other. */
const DEPTH_LIMIT = 20;

/** What says what a part of a schema is called, and never what it allows. */
const NOTES = ["title", "description", "default", "examples", "$comment", "deprecated", "$id"];

/** @param root where local references begin */
export function shapeOf(value: unknown, root: unknown): Shape {
  const schema = resolved(value, root, 0);
  if (!schema) return { kind: "odd", schema: notesOf(value) };
  if ("const" in schema || Array.isArray(schema.enum)) {
    return { kind: "one", schema, isNullable: false };
  }
  for (const name of ["oneOf", "anyOf"]) {
    if (!Array.isArray(schema[name])) continue;
    const { [name]: all, ...base } = schema;
    if ("oneOf" in base || "anyOf" in base) return { kind: "odd", schema };
    return alternatives(base, (all as unknown[]).slice(0, 50), root);
  }
  if (Array.isArray(schema.type)) {
    const { type, ...base } = schema;
    return alternatives(base, (type as unknown[]).map((type) => ({ type })), root);
  }
  return { kind: "one", schema, isNullable: false };
}

function alternatives(base: Schema, all: unknown[], root: unknown): Shape {
  const notes = notesOf(base);
  const rest = Object.fromEntries(Object.entries(base).filter(([key]) => !NOTES.includes(key)));
  const of: Schema[] = [];
  let isNullable = false;
  for (const one of all) {
    const schema = resolved(one, root, 0);
    const both = schema && merged(rest, schema);
    if (!both) return { kind: "odd", schema: base };
    if (both.type === "null") isNullable = true;
    else of.push(both);
  }
  if (of.length === 0) return { kind: "odd", schema: base };
  if (of.length > 1) return { kind: "alternatives", of, isNullable, schema: base };
  const only = shapeOf({ ...of[0], ...notes }, root);
  return only.kind === "odd" ? only : { ...only, isNullable: isNullable || only.isNullable };
}

/** Without `$ref` and `allOf`; null where that cannot be. */
function resolved(value: unknown, root: unknown, depth: number): Schema | null {
  if (value === true) return {};
  if (!isObject(value) || depth > DEPTH_LIMIT) return null;
  const { $ref, allOf, ...rest } = value;
  let schema: Schema = rest;
  if ($ref !== undefined) {
    const target = resolved(pointed(root, $ref), root, depth + 1);
    const both = target && merged(target, rest);
    if (!both) return null;
    schema = both;
  }
  for (const one of Array.isArray(allOf) ? allOf : []) {
    const part = resolved(one, root, depth + 1);
    const both = part && merged(part, schema);
    if (!both) return null;
    schema = both;
  }
  return schema;
}

/** What both allow, with the second's notes first; null where that is not simple. */
function merged(first: Schema, second: Schema): Schema | null {
  const all: Schema = { ...first };
  for (const [key, value] of Object.entries(second)) {
    const had = first[key];
    if (!(key in first) || NOTES.includes(key) || same(had, value)) all[key] = value;
    else if (key === "required" && Array.isArray(had) && Array.isArray(value)) {
      all[key] = [...new Set([...had, ...value])];
    } else if (
      ["properties", "$defs", "definitions"].includes(key) && isObject(had) &&
      isObject(value)
    ) {
      const entries = new Map(Object.entries(had));
      for (const [name, one] of Object.entries(value)) {
        const other = entries.get(name);
        entries.set(name, other === undefined || same(other, one) ? one : { allOf: [other, one] });
      }
      all[key] = Object.fromEntries(entries);
    } else if (/^(minimum|exclusiveMinimum|min[A-Z]\w*)$/.test(key)) {
      all[key] = Math.max(Number(had), Number(value));
    } else if (/^(maximum|exclusiveMaximum|max[A-Z]\w*)$/.test(key)) {
      all[key] = Math.min(Number(had), Number(value));
    } else if (key === "type") {
      const both = [had].flat(), others = [value].flat();
      const types = both.filter((type) => others.includes(type));
      if (both.concat(others).includes("number") && both.concat(others).includes("integer")) {
        if (!types.includes("integer")) types.push("integer");
      }
      if (types.length === 0) return null;
      all[key] = types.length === 1 ? types[0] : types;
    } else return null;
  }
  // Each side closes itself to the other's properties: nothing simple allows both.
  const closes = (schema: Schema) => schema.additionalProperties === false;
  const names = ({ properties }: Schema) => isObject(properties) ? Object.keys(properties) : [];
  const breaks = (one: Schema, other: Schema) =>
    closes(one) && names(other).some((name) => !names(one).includes(name));
  return breaks(first, second) || breaks(second, first) ? null : all;
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function notesOf(value: unknown): Schema {
  if (!isObject(value)) return {};
  return Object.fromEntries(Object.entries(value).filter(([key]) => NOTES.includes(key)));
}

/** What a local reference (`#/$defs/x`) points at: references elsewhere are not fetched. */
function pointed(root: unknown, reference: unknown): unknown {
  if (typeof reference !== "string" || !/^#(\/|$)/.test(reference)) return undefined;
  let at: unknown = root;
  for (const step of reference.split("/").slice(1)) {
    let name: string;
    try {
      name = decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~");
    } catch {
      return undefined;
    }
    if ((!isObject(at) && !Array.isArray(at)) || !Object.hasOwn(at, name)) return undefined;
    at = (at as Record<string, unknown>)[name];
  }
  return at;
}
