/**
 * How arguments are written into a request: the styles of OpenAPI 3 (3.1.1, "Style Values"), which are
 * RFC 6570's but for `deepObject` and the delimited ones.
 */
import type { ApiParameter } from "./plan.mts";

/** A call's argument that cannot be sent, for the agent. */
export class ArgumentError extends Error {}

/** A number that JavaScript would change is kept as it was written (JSON.parse's `source`). */
export function parseJson(text: string): unknown {
  return JSON.parse(text, (_, value, context?: { source?: string }) => {
    const source = context?.source;
    const isChanged = typeof value === "number" && source !== undefined &&
      !Number.isSafeInteger(value) && String(value) !== source;
    return isChanged ? rawJson(source) : value;
  });
}

/** `JSON.rawJSON`, which TypeScript does not know yet. */
const { rawJSON: rawJson, isRawJSON: isRawJson } = JSON as unknown as {
  rawJSON(text: string): { rawJSON: string };
  isRawJSON(value: unknown): value is { rawJSON: string };
};

/** Whether a value is an object of members; not a list, and not a number that was kept. */
export function isMembers(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isRawJson(value);
}

/** One value as text; what OpenAPI has no rule for, such as a list in a list, as JSON. */
export function textOf(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (isRawJson(value)) return value.rawJSON;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** RFC 3986: all but unreserved characters become percent signs. */
export function encoded(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/**
 * Leaves reserved characters as they are, but for those that would end the value or begin another one:
 * an argument must not become two parameters, since a person may have fixed the other one.
 */
function encodedButReserved(text: string): string {
  return encoded(text).replace(
    /%(3A|2F|3F|5B|5D|40|21|24|27|28|29|2A|2C|3B)/g,
    (_, code) => String.fromCharCode(parseInt(code, 16)),
  );
}

/** What stands in a path's braces. @throws {ArgumentError} */
export function pathText(parameter: ApiParameter, value: unknown): string {
  const { name, style, explode, isJson } = parameter;
  if (isJson) return encoded(JSON.stringify(value));
  const prefix = style === "label" ? "." : style === "matrix" ? ";" : "";
  const separator = !explode || style === "simple" ? "," : prefix;
  const isNamed = style === "matrix";
  if (Array.isArray(value)) {
    const items = value.map((item) => encoded(textOf(item)));
    if (isNamed && explode) return items.map((item) => `;${encoded(name)}=${item}`).join("");
    return `${prefix}${isNamed ? `${encoded(name)}=` : ""}${items.join(separator)}`;
  }
  if (isMembers(value)) {
    const pairs = Object.entries(value).map(([key, item]) => [encoded(key), encoded(textOf(item))]);
    if (explode) return `${prefix}${pairs.map((pair) => pair.join("=")).join(separator)}`;
    return `${prefix}${isNamed ? `${encoded(name)}=` : ""}${pairs.flat().join(",")}`;
  }
  const text = encoded(textOf(value));
  if (!isNamed) return `${prefix}${text}`;
  return `;${encoded(name)}${text === "" ? "" : `=${text}`}`;
}

/** What a header says. @throws {ArgumentError} a header is one line, in Latin-1 */
export function headerText({ name, explode, isJson }: ApiParameter, value: unknown): string {
  const text = isJson
    ? JSON.stringify(value)
    : Array.isArray(value)
    ? value.map(textOf).join(",")
    : isMembers(value)
    ? Object.entries(value).map(([key, item]) => `${key}${explode ? "=" : ","}${textOf(item)}`)
      .join(",")
    : textOf(value);
  // A line break would begin another header (CWE-113).
  if (/[^\t\x20-\x7e\x80-\xff]/.test(text)) {
    throw new ArgumentError(`${name} must be one line of Latin-1 characters: it is a header`);
  }
  return text;
}

/** Pairs of a query, a form or a cookie, encoded. */
export function pairsOf(
  { name, style, explode, isJson, allowsReserved }: Pick<
    ApiParameter,
    "name" | "style" | "explode" | "isJson" | "allowsReserved"
  >,
  value: unknown,
): [name: string, value: string][] {
  const encode = allowsReserved ? encodedButReserved : encoded;
  const key = encoded(name);
  if (isJson) return [[key, encode(JSON.stringify(value))]];
  if (style === "deepObject") return deepPairs(name, value, encode);
  const separator = style === "spaceDelimited" ? "%20" : style === "pipeDelimited" ? "%7C" : ",";
  if (Array.isArray(value)) {
    const items = value.map((item) => encode(textOf(item)));
    if (explode) return items.map((item) => [key, item]);
    return items.length > 0 ? [[key, items.join(separator)]] : [];
  }
  if (isMembers(value)) {
    const pairs = Object.entries(value);
    if (explode && style === "form") {
      return pairs.map(([member, item]) => [encoded(member), encode(textOf(item))]);
    }
    const flat = pairs.flatMap(([member, item]) => [encoded(member), encode(textOf(item))]);
    return flat.length > 0 ? [[key, flat.join(separator)]] : [];
  }
  return [[key, encode(textOf(value))]];
}

/** `a[b]=1`; deeper and in lists, of which OpenAPI says nothing, as most frameworks read it: `a[b][0]=1`. */
function deepPairs(
  name: string,
  value: unknown,
  encode: (text: string) => string,
): [string, string][] {
  if (!Array.isArray(value) && !isMembers(value)) return [[encoded(name), encode(textOf(value))]];
  return Object.entries(value).flatMap(([key, item]) => deepPairs(`${name}[${key}]`, item, encode));
}
