/** `Mcp-Param-*`: arguments that a tool wants in headers too (2026-07-28, streamable-http#custom-headers-from-tool-parameters). */

import { Buffer } from "node:buffer";

interface Mirrored {
  path: string[];
  header: string;
}

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Schemas nest; what is deeper is not looked at. */
const DEPTH_LIMIT = 16;

export class ParamHeaders {
  readonly #byTool = new Map<string, Mirrored[]>();

  /** Remembers what the tools of a list want. */
  learn(tools: unknown): void {
    if (!Array.isArray(tools)) return;
    for (const tool of tools) {
      if (!isObject(tool) || typeof tool.name !== "string") continue;
      const wanted = [...mirrored(tool.inputSchema, [])];
      if (wanted.length > 0) this.#byTool.set(tool.name, wanted);
      else this.#byTool.delete(tool.name);
    }
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

function* mirrored(schema: unknown, path: string[]): Generator<Mirrored> {
  if (!isObject(schema) || !isObject(schema.properties) || path.length > DEPTH_LIMIT) return;
  for (const [key, property] of Object.entries(schema.properties)) {
    if (!isObject(property)) continue;
    const header = property["x-mcp-header"];
    if (typeof header === "string" && TOKEN.test(header)) yield { path: [...path, key], header };
    else yield* mirrored(property, [...path, key]);
  }
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
