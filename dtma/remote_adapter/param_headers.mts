/** `Mcp-Param-*`: arguments that a tool wants in headers too (2026-07-28, streamable-http#custom-headers-from-tool-parameters). */

import { Buffer } from "node:buffer";

interface Mirrored {
  path: string[];
  header: string;
}

const ANNOTATION = "x-mcp-header";
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const TYPES: unknown[] = ["string", "integer", "boolean"];
/** Keywords with schemas by names, and those with no schema at all. */
const BY_NAME = ["properties", "patternProperties", "dependentSchemas", "$defs", "definitions"];
const VALUES = ["const", "default", "enum", "examples"];
/** Schemas nest; what is deeper is not looked at. */
const DEPTH_LIMIT = 32;

export class ParamHeaders {
  readonly #byTool = new Map<string, Mirrored[]>();

  /**
   * Remembers what the tools of a list want.
   * @returns those whose annotations are against the rules, so that they must not be listed, and why
   */
  learn(tools: unknown[]): Map<unknown, string> {
    const refused = new Map<unknown, string>();
    for (const tool of tools) {
      if (!isObject(tool) || typeof tool.name !== "string") continue;
      const found = [...annotations(tool.inputSchema, [], true)];
      const fault = faultOf(found);
      if (fault) refused.set(tool, `${tool.name.slice(0, 128)}: ${fault}`);
      if (found.length > 0 && !fault) this.#byTool.set(tool.name, found as Mirrored[]);
      else this.#byTool.delete(tool.name);
    }
    return refused;
  }

  /** The headers of a call. */
  of({ name, arguments: args }: Record<string, unknown>): Record<string, string> {
    const headers: Record<string, string> = {};
    for (const { path, header } of this.#byTool.get(String(name)) ?? []) {
      let value: unknown = args;
      for (const key of path) value = isObject(value) ? value[key] : undefined;
      if (["string", "number", "boolean"].includes(typeof value)) {
        headers[`mcp-param-${header}`] = plainHeader(String(value));
      }
    }
    return headers;
  }
}

interface Annotation {
  path: string[];
  header: unknown;
  type: unknown;
  /** By `properties` alone, so that the path leads to an argument. */
  isReachable: boolean;
}

function* annotations(
  schema: unknown,
  path: string[],
  isReachable: boolean,
): Generator<Annotation> {
  if (path.length > DEPTH_LIMIT) return;
  if (Array.isArray(schema)) {
    for (const each of schema) yield* annotations(each, [...path, ""], false);
  }
  if (!isObject(schema)) return;
  const { [ANNOTATION]: header, type } = schema;
  if (header !== undefined) {
    yield { path, header, type, isReachable: isReachable && path.length > 0 };
  }
  for (const [keyword, value] of Object.entries(schema)) {
    if (VALUES.includes(keyword)) continue;
    if (!BY_NAME.includes(keyword)) yield* annotations(value, [...path, keyword], false);
    else if (isObject(value)) {
      for (const [name, each] of Object.entries(value)) {
        yield* annotations(each, [...path, name], isReachable && keyword === "properties");
      }
    }
  }
}

function faultOf(found: Annotation[]): string | null {
  const headers = new Set<string>();
  for (const { header, type, isReachable } of found) {
    if (!isReachable) return `${ANNOTATION} stands where no argument is`;
    if (typeof header !== "string" || !TOKEN.test(header)) {
      return `${ANNOTATION} is not the name of a header`;
    }
    if (!TYPES.includes(type)) return `${ANNOTATION} is of an argument that is no plain value`;
    if (headers.has(header.toLowerCase())) return `${ANNOTATION} has ${header} twice`;
    headers.add(header.toLowerCase());
  }
  return null;
}

/** A header's value; what a header cannot hold is in the `=?base64?…?=` form. */
export function plainHeader(value: string): string {
  const isPlain = /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(value) &&
    !/^=\?base64\?.*\?=$/.test(value);
  return isPlain ? value : `=?base64?${Buffer.from(value).toString("base64")}?=`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
