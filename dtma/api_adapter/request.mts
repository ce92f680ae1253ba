/** A tool's call as the HTTP request that it means. */
import { Buffer } from "node:buffer";
import type { ApiBody, ApiCredential, ApiField, ApiPlan, ApiTool } from "./plan.mts";
import { ArgumentError, headerText, isMembers, pairsOf, pathText, textOf } from "./values.mts";

export { ArgumentError };

export interface ApiRequest {
  method: string;
  url: URL;
  headers: Headers;
  body: string | Uint8Array<ArrayBuffer> | FormData | undefined;
}

/** @throws {ArgumentError} an argument is missing, or cannot stand where it has to */
export function requestOf(
  { url: base }: Pick<ApiPlan, "url">,
  { method, path, parameters, body, accept }: ApiTool,
  args: Record<string, unknown>,
): ApiRequest {
  const headers = new Headers({ accept });
  const query: string[] = [], cookies: string[] = [];
  const inPath = new Map<string, string>();
  for (const parameter of parameters) {
    const { argument, name, place } = parameter;
    const value = Object.hasOwn(args, argument) ? args[argument] : undefined;
    if (value === undefined || value === null) {
      if (parameter.isRequired) throw new ArgumentError(`${argument} is needed`);
      continue;
    }
    if (place === "path") inPath.set(name, pathText(parameter, value));
    else if (place === "header") headers.append(name, headerText(parameter, value));
    else {
      const pairs = pairsOf(parameter, value).map((pair) => pair.join("="));
      (place === "query" ? query : cookies).push(...pairs);
    }
  }
  if (cookies.length > 0) headers.set("cookie", cookies.join("; "));
  const url = urlOf(base, path, inPath);
  if (query.length > 0) url.search = `?${query.join("&")}`;
  return { method, url, headers, body: body ? bodyOf(body, args, headers) : undefined };
}

/**
 * URLs treat `.` and `..` as steps up, however they are written, and browsers' rules (WHATWG) take them
 * out before anything is sent: a value of these would name another operation than the one approved.
 */
function urlOf(base: string, path: string, inPath: Map<string, string>): URL {
  const segments = path.split("/").map((segment) => {
    const names: string[] = [];
    const filled = segment.replace(/\{([^{}]+)\}/g, (whole, name) => {
      names.push(name);
      return inPath.get(name) ?? whole;
    });
    const isStep = /^(\.|%2e){1,2}$/i.test(filled);
    if (names.length > 0 && (filled === "" || isStep)) {
      throw new ArgumentError(
        `${names.join(", ")} must not be ${filled === "" ? "empty" : filled}`,
      );
    }
    return filled;
  });
  const url = new URL(base + segments.join("/"));
  const { origin, pathname } = new URL(base);
  if (url.origin !== origin || !url.pathname.startsWith(pathname === "/" ? "/" : `${pathname}/`)) {
    throw new ArgumentError("The arguments would lead out of the API");
  }
  return url;
}

function bodyOf(
  body: ApiBody,
  args: Record<string, unknown>,
  headers: Headers,
): ApiRequest["body"] {
  const { argument, mediaType, kind, fields = {} } = body;
  const value = Object.hasOwn(args, argument) ? args[argument] : undefined;
  if (value === undefined) {
    if (body.isRequired) throw new ArgumentError(`${argument} is needed`);
    return undefined;
  }
  // Its boundary is of the body's own making.
  if (kind !== "multipart") headers.set("content-type", mediaType);
  switch (kind) {
    case "json":
      return JSON.stringify(value);
    case "text":
      return textOf(value);
    case "bytes":
      return bytesOf(argument, value);
    case "form":
      return membersOf(argument, value).flatMap(([name, item]) => {
        const { style = "form", explode = style === "form", mediaType } = fields[name] ?? {};
        // OpenAPI 3.1.1: an object's default is JSON.
        const isJson = mediaType === "application/json" ||
          style === "form" && isMembers(item) && fields[name]?.style === undefined;
        return pairsOf({ name, style, explode, isJson }, item);
      }).map((pair) => pair.join("=")).join("&");
    case "multipart": {
      const form = new FormData();
      for (const [name, item] of membersOf(argument, value)) {
        for (const part of Array.isArray(item) ? item : [item]) {
          addPart(form, name, part, Object.hasOwn(fields, name) ? fields[name] : {});
        }
      }
      return form;
    }
  }
}

function addPart(form: FormData, name: string, value: unknown, field: ApiField): void {
  if (field.isFile) {
    const { data, filename, mediaType } = isMembers(value) ? value : { data: value };
    const type = textOf(mediaType) || field.mediaType || "application/octet-stream";
    // What it may not be in a header, undici writes in percent signs.
    form.append(
      name,
      new Blob([bytesOf(`${name}.data`, data)], { type }),
      textOf(filename) || "file",
    );
  } else if (typeof value === "object" && value !== null) {
    form.append(name, new Blob([JSON.stringify(value)], { type: "application/json" }));
  } else form.append(name, textOf(value));
}

function membersOf(argument: string, value: unknown): [string, unknown][] {
  if (!isMembers(value)) throw new ArgumentError(`${argument} must be an object`);
  return Object.entries(value).filter(([, item]) => item !== undefined && item !== null);
}

function bytesOf(name: string, value: unknown): Uint8Array<ArrayBuffer> {
  const text = typeof value === "string" ? value.replaceAll(/\s/g, "") : null;
  if (text === null || !/^[A-Za-z0-9+/_-]*={0,2}$/.test(text)) {
    throw new ArgumentError(`${name} must be base64`);
  }
  return Uint8Array.from(Buffer.from(text, "base64"));
}

/**
 * Puts the credentials that have a value into a request to the API's own origin.
 * @param valueOf a variable's value; none: the credential is not sent
 */
export function addCredentials(
  request: ApiRequest,
  credentials: ApiCredential[],
  valueOf: (variable: string) => string | undefined,
): void {
  for (const { place, name, scheme, variables } of credentials) {
    const values = variables.map((variable) => valueOf(variable) ?? "");
    if (values.every((value) => value === "")) continue;
    const value = scheme === "basic"
      ? `Basic ${Buffer.from(values.join(":")).toString("base64")}`
      : scheme === "bearer"
      ? `Bearer ${values[0].replace(/^bearer\s+/i, "")}`
      : values[0];
    if (place === "header") request.headers.set(name, value);
    else if (place === "query") {
      const pair = `${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
      request.url.search += `${request.url.search ? "&" : "?"}${pair}`;
    } else {
      const others = request.headers.get("cookie");
      const pair = `${name}=${encodeURIComponent(value)}`;
      request.headers.set("cookie", others ? `${others}; ${pair}` : pair);
    }
  }
}
