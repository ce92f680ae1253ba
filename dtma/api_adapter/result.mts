/** An API's answer as a tool's result. */
import { Buffer } from "node:buffer";
import type { ApiTool, Schema } from "./plan.mts";

/** What is read of an answer; in base64 or twice, as JSON and as text, it has to fit a frame of 4 MiB. */
export const ANSWER_LIMIT_BYTES = 3 * 1024 * 1024;
const RESULT_LIMIT = 4 * 1024 * 1024 - 64 * 1024;
/** Of an answer that says what went wrong. */
const ERROR_LIMIT = 32 * 1024;

export interface Answer {
  status: number;
  statusText: string;
  headers: Headers;
  body: Uint8Array<ArrayBuffer>;
  /** There was more of it. */
  isCut: boolean;
}

/**
 * The `result` of a call, as JSON: a JSON answer stands in it as the API wrote it, so that no number
 * loses digits and no member its place.
 */
export function resultOf(
  answer: Answer,
  { definition, method, path }: Pick<ApiTool, "definition" | "method" | "path">,
): string {
  const { status, headers, body, isCut } = answer;
  const type = mediaTypeOf(headers);
  const asked = `${method} ${path}`;
  if (status < 200 || status >= 300) return failed(answer, asked);
  if (isCut) {
    return error(
      `${asked} answered ${status} with more than ${
        ANSWER_LIMIT_BYTES / 1024 ** 2
      } MiB, of which ` +
        "nothing is passed on. The request was carried out; ask for less at once.",
    );
  }
  if (body.length === 0) {
    return contentOf([textBlock(`Done: ${statusOf(answer)}, without a body`), ...told(headers)]);
  }
  if (isJsonType(type) || (type === "" && looksLikeJson(body))) {
    const text = decoded(body, headers).trim();
    const value = parsed(text);
    if (value !== undefined) return jsonResult(text, value, definition.outputSchema, answer, asked);
  }
  if (type.startsWith("image/") && type !== "image/svg+xml") {
    return fitting([{ type: "image", data: base64(body), mimeType: type }], answer, asked);
  }
  if (type.startsWith("audio/")) {
    return fitting([{ type: "audio", data: base64(body), mimeType: type }], answer, asked);
  }
  if (isTextType(type) || (type === "" && isUtf8(body))) {
    return fitting([textBlock(decoded(body, headers))], answer, asked);
  }
  const resource = {
    uri: `mooring-api:${encodeURI(path)}`,
    mimeType: type || "application/octet-stream",
    blob: base64(body),
  };
  return fitting([{ type: "resource", resource }], answer, asked);
}

/** A result that says in one sentence what went wrong. */
export function error(message: string): string {
  return `{"resultType":"complete","content":[${
    JSON.stringify(textBlock(message))
  }],"isError":true}`;
}

function jsonResult(
  text: string,
  value: unknown,
  schema: Schema | undefined,
  answer: Answer,
  asked: string,
): string {
  // Between tokens alone: within a string JSON has none.
  const raw = text.replaceAll(/[\r\n]+/g, " ");
  const misfit = schema && misfitOf(value, schema, schema);
  if (misfit) {
    return error(
      `${asked} answered ${
        statusOf(answer)
      } and was carried out, but ${misfit} is not as its OpenAPI ` +
        "document says, so clients would refuse the answer. To be rid of this, leave the shape of results " +
        `out, on the page of the server's operations. The answer:\n${text}`,
    );
  }
  const result = (shown: string) => {
    const content = JSON.stringify([textBlock(shown), ...told(answer.headers)]);
    return `{"resultType":"complete","content":${content},"structuredContent":${raw}}`;
  };
  const twice = result(text);
  if (Buffer.byteLength(twice) <= RESULT_LIMIT) return twice;
  const once = result("The answer is too long for text: see structuredContent");
  return Buffer.byteLength(once) <= RESULT_LIMIT ? once : tooLarge(answer, asked);
}

function fitting(content: object[], answer: Answer, asked: string): string {
  const result = contentOf([...content, ...told(answer.headers)]);
  return Buffer.byteLength(result) <= RESULT_LIMIT ? result : tooLarge(answer, asked);
}

function tooLarge(answer: Answer, asked: string): string {
  return error(
    `${asked} answered ${
      statusOf(answer)
    } with more than fits a message of 4 MiB. The request was ` +
      "carried out; ask for less at once.",
  );
}

function failed(answer: Answer, asked: string): string {
  const { status, headers, body } = answer;
  const type = mediaTypeOf(headers);
  // Which says it in a sentence (egress_proxy/http_side.mts).
  const isReadable = isJsonType(type) || isTextType(type) || type === "";
  const text = isReadable ? decoded(body.subarray(0, ERROR_LIMIT), headers).trim() : "";
  const byProxy = /^Mooring's egress proxy: \S+: (.{1,300})/.exec(text)?.[1];
  if (byProxy) return error(`${byProxy}. The request was not made.`);
  const advice = status === 401
    ? " The API wants credentials, or refuses those of the server's configuration."
    : status === 429 && headers.get("retry-after")
    ? ` Try again after ${headers.get("retry-after")!.slice(0, 40)}${
      /^\d+$/.test(headers.get("retry-after")!) ? " s" : ""
    }.`
    : status >= 300 && status < 400
    ? ` It leads to ${
      (headers.get("location") ?? "nowhere").slice(0, 500)
    }, which was not followed.`
    : "";
  const rest = body.length > ERROR_LIMIT || answer.isCut ? "\n…" : "";
  return error(`${asked} answered ${statusOf(answer)}.${advice}${text && `\n${text}${rest}`}`);
}

/** Headers that say what a body does not: where what was made is, and where a list goes on. */
function told(headers: Headers): object[] {
  return ["location", "link"].flatMap((name) => {
    const value = headers.get(name);
    return value ? [textBlock(`${name}: ${value.slice(0, 2000)}`)] : [];
  });
}

function contentOf(content: object[]): string {
  return JSON.stringify({ resultType: "complete", content });
}

function textBlock(text: string) {
  return { type: "text", text };
}

function statusOf({ status, statusText }: Answer): string {
  return `${status} ${statusText}`.trim().slice(0, 100);
}

function mediaTypeOf(headers: Headers): string {
  return (headers.get("content-type") ?? "").split(";")[0].trim().toLowerCase();
}

function isJsonType(type: string): boolean {
  return /^(application|text)\/([a-z0-9.+-]+\+)?json$/.test(type);
}

function isTextType(type: string): boolean {
  return /^text\/|[+/](xml|yaml|x-yaml|javascript|csv|x-ndjson|ndjson|toml|graphql|x-sh)$/.test(
    type,
  );
}

function looksLikeJson(body: Uint8Array): boolean {
  return [0x7b, 0x5b].includes(body[0]);
}

function isUtf8(body: Uint8Array): boolean {
  try {
    return !new TextDecoder("utf-8", { fatal: true }).decode(body).includes("\u0000");
  } catch {
    return false;
  }
}

function decoded(body: Uint8Array, headers: Headers): string {
  const charset = /charset="?([A-Za-z0-9_:.-]{1,40})/i.exec(headers.get("content-type") ?? "")?.[1];
  try {
    return new TextDecoder(charset ?? "utf-8").decode(body);
  } catch {
    return new TextDecoder().decode(body);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function base64(body: Uint8Array<ArrayBuffer>): string {
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("base64");
}

/** Deeper an answer is not held against its schema. */
const DEPTH_LIMIT = 200;

/**
 * Where a value is not what an output schema says, as a path; null where it fits. Of JSON Schema it knows
 * what output schemas are made of (models/openapi_schemas.ts): types, members, items and alternatives.
 */
function misfitOf(
  value: unknown,
  schema: unknown,
  root: Schema,
  at = "the body",
  depth = 0,
): string | null {
  if (typeof schema !== "object" || schema === null || depth > DEPTH_LIMIT) return null;
  const { $ref, type, properties, additionalProperties, items, anyOf, allOf } = schema as Schema;
  const go = (value: unknown, schema: unknown, where = at) =>
    misfitOf(value, schema, root, where, depth + 1);
  if (typeof $ref === "string") {
    const target = (root.$defs as Schema | undefined)?.[$ref.replace("#/$defs/", "")];
    const misfit = go(value, target);
    if (misfit) return misfit;
  }
  const types = type === undefined ? [] : [type].flat();
  if (types.length > 0 && !types.includes(typeOf(value))) return at;
  if (Array.isArray(anyOf) && !anyOf.some((each) => go(value, each) === null)) return at;
  for (const each of Array.isArray(allOf) ? allOf : []) {
    const misfit = go(value, each);
    if (misfit) return misfit;
  }
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      const misfit = go(item, items, `${at}[${index}]`);
      if (misfit) return misfit;
    }
  } else if (typeof value === "object" && value !== null) {
    const known = (properties ?? {}) as Schema;
    for (const [name, item] of Object.entries(value)) {
      const own = Object.hasOwn(known, name) ? known[name] : additionalProperties;
      const misfit = go(item, own, `${at}.${name.slice(0, 60)}`);
      if (misfit) return misfit;
    }
  }
  return null;
}

function typeOf(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
}
