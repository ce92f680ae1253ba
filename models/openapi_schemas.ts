/**
 * Schemas of an OpenAPI document as a tool's: whole by themselves, with what they refer to in `$defs`, so
 * that a schema that refers to itself stays finite and one that refers to much does not grow by it.
 */
import {
  atPointer,
  isObject,
  type Json,
  type JsonObject,
  line,
  listOf,
  objectOf,
  OperationError,
} from "./openapi_document.ts";

/** Shorter ones stand where they are referred to. */
const INLINE_LIMIT = 200;
const INLINE_DEPTH = 40;
const DEFINITIONS_LIMIT = 400;
const DESCRIPTION_LIMIT = 600;
const VALUE_LIMIT = 1000;

/** Keywords of JSON Schema 2020-12 that are carried over, by what they hold. */
const SCHEMA = new Set([
  "items",
  "additionalProperties",
  "propertyNames",
  "contains",
  "not",
  "if",
  "then",
  "else",
]);
const SCHEMAS = new Set(["allOf", "anyOf", "oneOf", "prefixItems"]);
const SCHEMA_MAPS = new Set(["properties", "patternProperties", "dependentSchemas"]);
const PLAIN = new Set([
  "type",
  "format",
  "enum",
  "const",
  "default",
  "required",
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "multipleOf",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "uniqueItems",
  "minProperties",
  "maxProperties",
  "dependentRequired",
  "contentEncoding",
  "contentMediaType",
  "deprecated",
]);

export interface SchemasOptions {
  /** What is only read, or only written, is left out of the other. */
  direction: "request" | "response";
  /** How many schemas may be converted yet; shared by tools, so that no document takes for ever. */
  budget: { left: number };
}

/** So many characters of what is carried over cost as much as a schema. */
const UNIT_CHARS = 100;

/** For one tool's schemas, and for those of all that a document has. */
export const TOOL_BUDGET = 20_000;
export const DOCUMENT_BUDGET = 1_500_000;

/** Schemas of one tool, in one direction. */
export class Schemas {
  readonly #document: JsonObject;
  readonly #leftOut: "readOnly" | "writeOnly";
  readonly #isLoose: boolean;
  readonly #budget: SchemasOptions["budget"];
  readonly #least: number;
  /** By reference. */
  readonly #names = new Map<string, string>();
  readonly #definitions = new Map<string, JsonObject>();
  readonly #pending: { name: string; target: Json }[] = [];

  constructor(document: JsonObject, { direction, budget }: SchemasOptions) {
    this.#document = document;
    this.#budget = budget;
    this.#least = budget.left - TOOL_BUDGET;
    this.#leftOut = direction === "request" ? "readOnly" : "writeOnly";
    this.#isLoose = direction === "response";
  }

  /** A schema, of which what it refers to is gathered. @throws {OperationError} */
  of(schema: unknown): Json {
    if (typeof schema === "boolean") return schema;
    this.#spend(1);
    if (!isObject(schema)) return {};
    if (typeof schema.$ref === "string") {
      const { $ref, ...beside } = schema;
      const to = { $ref: `#/$defs/${this.#nameOf($ref as string)}` };
      const rest = objectOf(this.of(beside));
      return { ...rest, ...to };
    }
    return this.#isLoose ? this.#loosened(schema) : this.#converted(schema);
  }

  #spend(units: number) {
    this.#budget.left -= units;
    if (this.#budget.left < Math.max(0, this.#least)) {
      throw new OperationError("Its schemas are too large");
    }
  }

  /** For a value that is carried over as it is. */
  #spendFor(value: Json) {
    this.#spend(Math.floor(sizeOf(value, TOOL_BUDGET * UNIT_CHARS) / UNIT_CHARS));
  }

  /** A schema whole by itself: with the definitions that it needs, those that are needed once in place. */
  whole(schema: JsonObject): JsonObject {
    for (let next = this.#pending.shift(); next; next = this.#pending.shift()) {
      this.#definitions.set(next.name, objectOf(this.of(next.target)));
    }
    const counts = new Map<string, number>();
    for (const each of [schema, ...this.#definitions.values()]) {
      eachRef(each, (name) => counts.set(name, (counts.get(name) ?? 0) + 1));
    }
    const short = new Map<string, boolean>();
    const isShort = (name: string, definition: JsonObject) => {
      const known = short.get(name) ??
        (JSON.stringify(definition).length < INLINE_LIMIT && !hasRef(definition));
      short.set(name, known);
      return known;
    };
    const wanted = new Set<string>();
    const inlined = (value: Json, depth = 0): Json => {
      if (Array.isArray(value)) return value.map((each) => inlined(each, depth + 1));
      if (!isObject(value)) return value;
      const { $ref, ...beside } = value;
      const name = typeof $ref === "string" ? $ref.replace("#/$defs/", "") : null;
      const definition = name === null ? undefined : this.#definitions.get(name);
      if (name === null || !definition) return mapped(value, (each) => inlined(each, depth + 1));
      if (depth < INLINE_DEPTH && (counts.get(name) === 1 || isShort(name, definition))) {
        return { ...objectOf(inlined(definition, depth + 1)), ...beside };
      }
      wanted.add(name);
      return value;
    };
    const made = objectOf(inlined(schema)), $defs: JsonObject = {};
    // Grows while it is walked.
    for (const name of wanted) $defs[name] = inlined(this.#definitions.get(name)!);
    return wanted.size > 0 ? { ...made, $defs } : made;
  }

  #nameOf(ref: string): string {
    const known = this.#names.get(ref);
    if (known !== undefined) return known;
    const target = atPointer(this.#document, ref);
    if (this.#names.size === DEFINITIONS_LIMIT) {
      throw new OperationError(`Its schemas refer to more than ${DEFINITIONS_LIMIT} others`);
    }
    const last = ref.slice(ref.lastIndexOf("/") + 1).replaceAll(/[^A-Za-z0-9_.-]+/g, "_").slice(
      0,
      60,
    );
    const taken = new Set(this.#names.values());
    let name = last || "schema";
    for (let number = 2; taken.has(name); number++) name = `${last}_${number}`;
    this.#names.set(ref, name);
    // Later, and not by recursion: it may refer to itself, or begin a chain of hundreds.
    this.#pending.push({ name, target });
    return name;
  }

  #converted(schema: JsonObject): JsonObject {
    const made: JsonObject = {};
    const left = this.#leftOutOf(schema);
    for (const [name, value] of Object.entries(schema)) {
      if (name === "description") made.description = described(value);
      else if (name === "properties") made.properties = this.#properties(value, left);
      else if (name === "required") {
        this.#spendFor(value);
        const required = listOf(value).filter((each) =>
          typeof each === "string" && !left.has(each)
        );
        if (required.length > 0) made.required = required;
      } else if (name === "pattern") {
        if (isPattern(value)) made.pattern = value;
      } else if (SCHEMA.has(name)) made[name] = this.of(value);
      else if (SCHEMAS.has(name)) made[name] = listOf(value).map((each) => this.of(each));
      else if (SCHEMA_MAPS.has(name)) {
        made[name] = this.#mapOf(value);
      } else if (PLAIN.has(name)) {
        this.#spendFor(value);
        const isShort = name !== "default" || JSON.stringify(value).length <= VALUE_LIMIT;
        if (isShort) made[name] = value;
      } else if (name === "examples" && schema.description === undefined) {
        const [first] = listOf(value);
        if (first !== undefined) this.#spendFor(first);
        if (first !== undefined && JSON.stringify(first).length <= 100) made.examples = [first];
      }
    }
    return made;
  }

  /**
   * A response's schema as a description, without demands: APIs answer otherwise than their documents say
   * (a null, a member that is missing), and clients that check refuse such an answer whole.
   */
  #loosened(schema: JsonObject): JsonObject {
    const made: JsonObject = {};
    const { type, description, properties, additionalProperties, items } = schema;
    if (type !== undefined) {
      this.#spendFor(type);
      const types = [type].flat().map((each) => each === "integer" ? "number" : each);
      made.type = [...new Set([...types, "null"])];
    }
    if (description !== undefined) made.description = described(description);
    if (properties !== undefined) {
      made.properties = this.#properties(properties, this.#leftOutOf(schema));
    }
    if (isObject(additionalProperties)) {
      made.additionalProperties = this.of(additionalProperties);
    }
    if (items !== undefined) made.items = this.of(items);
    const alternatives = [...listOf(schema.anyOf), ...listOf(schema.oneOf)];
    if (alternatives.length > 0) {
      made.anyOf = [...alternatives.map((each) => this.of(each)), { type: ["null"] }];
    }
    const all = listOf(schema.allOf);
    if (all.length > 0) made.allOf = all.map((each) => this.of(each));
    return made;
  }

  #properties(properties: Json, left: Set<string>): JsonObject {
    return this.#mapOf(
      Object.fromEntries(Object.entries(objectOf(properties)).filter(([name]) => !left.has(name))),
    );
  }

  #mapOf(schemas: Json): JsonObject {
    const entries = Object.entries(objectOf(schemas));
    return Object.fromEntries(entries.map(([name, each]) => {
      this.#spendFor(name);
      return [name, this.of(each)];
    }));
  }

  #leftOutOf({ properties }: JsonObject): Set<string> {
    const isLeftOut = (property: Json): boolean => {
      if (!isObject(property)) return false;
      if (property[this.#leftOut] === true) return true;
      if (typeof property.$ref !== "string") return false;
      return objectOf(atPointer(this.#document, property.$ref))[this.#leftOut] === true;
    };
    const names = Object.entries(objectOf(properties)).filter(([, each]) => isLeftOut(each));
    return new Set(names.map(([name]) => name));
  }
}

function described(value: unknown): string {
  return line(value, DESCRIPTION_LIMIT);
}

/** Clients compile it, and throw on what JavaScript cannot. */
function isPattern(value: unknown): value is string {
  try {
    return typeof value === "string" && value.length <= 500 && Boolean(new RegExp(value, "u"));
  } catch {
    return false;
  }
}

/** About how many characters a value takes, or a few more than `most`. */
function sizeOf(value: Json, most: number): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 1;
  let size = 0;
  if (Array.isArray(value)) {
    for (const each of value) if ((size += 1 + sizeOf(each, most - size)) > most) break;
  } else {
    for (const name in value) {
      if ((size += 1 + name.length + sizeOf(value[name], most - size)) > most) break;
    }
  }
  return size;
}

function mapped(value: JsonObject, map: (each: Json) => Json): JsonObject {
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, map(each)]));
}

function eachRef(value: unknown, found: (name: string) => void): void {
  if (typeof value !== "object" || value === null) return;
  for (const [name, each] of Object.entries(value)) {
    if (name === "$ref" && typeof each === "string") found(each.replace("#/$defs/", ""));
    else eachRef(each, found);
  }
}

function hasRef(value: unknown): boolean {
  let has = false;
  eachRef(value, () => has = true);
  return has;
}
