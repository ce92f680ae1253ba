/** The operations of an OpenAPI document, as the tools that they would be and how those are asked for. */
import { createHash } from "node:crypto";
import type {
  ApiBody,
  ApiCredential,
  ApiField,
  ApiParameter,
  ApiTool,
  ToolDefinition,
} from "../dtma/protocol.ts";
import {
  isObject,
  type Json,
  type JsonObject,
  line,
  listOf,
  objectOf,
  OperationError,
  resolved,
  textOf,
} from "./openapi_document.ts";
import { DOCUMENT_BUDGET, Schemas } from "./openapi_schemas.ts";

/** `fetch` makes no TRACE, and OPTIONS asks about requests rather than for something. */
const METHODS = ["get", "put", "post", "delete", "patch", "head"] as const;
type Method = typeof METHODS[number];

const OPERATIONS_LIMIT = 3000;
const PARAMETERS_LIMIT = 100;
/** Of an operation's answers, of the types of one, and of the parts of a form. */
const MEMBERS_LIMIT = 200;
/** Longer names are cut; a toolbelt puts its server's before it (mcp/names.ts). */
const NAME_LIMIT = 50;
const DESCRIPTION_LIMIT = 1500;
/** Of a tool's arguments; a larger one would be most of a model's context. */
const INPUT_LIMIT = 64 * 1024;
const OUTPUT_LIMIT = 32 * 1024;

/** Where a credential is sent. */
type Sent = Pick<ApiCredential, "place" | "name">;

/** Where one operation stands in its document. */
interface Place {
  method: Method;
  path: string;
  item: JsonObject;
  operation: JsonObject;
}

export interface ApiOperation {
  /** `GET /pets/{id}`: by it an operation is chosen, and known in a later document. */
  key: string;
  method: string;
  path: string;
  summary: string;
  /** Its first tag; empty: it has none. */
  tag: string;
  /** The name of its tool. */
  name: string;
  /** JSON text of its tool's definition without its output schema: what a model would be given. */
  definition: string;
  isReadOnly: boolean;
  isDeprecated: boolean;
  /** Why it cannot be a tool, as a sentence without its stop; null: it can. */
  obstacle: string | null;
}

/** All operations of a document, in its order. */
export function listOperations(document: JsonObject): ApiOperation[] {
  const places = placesOf(document), names = namesOf(places);
  const budget = { left: DOCUMENT_BUDGET }, credentials = schemesOf(document);
  return places.map((place) => {
    const { method, path, operation } = place, name = names.get(place)!;
    const known = {
      key: keyOf(place),
      method: method.toUpperCase(),
      path,
      summary: line(operation.summary ?? operation.description, 200),
      tag: line(listOf(operation.tags)[0], 80),
      name,
      isReadOnly: isReadOnly(method),
      isDeprecated: operation.deprecated === true,
    };
    try {
      const { definition } = toolOf(document, place, name, {
        budget,
        tellsShape: false,
        credentials,
      });
      return { ...known, definition: JSON.stringify(definition), obstacle: null };
    } catch (error) {
      return { ...known, definition: "", obstacle: obstacleOf(error) };
    }
  });
}

/**
 * The tools of chosen operations, in the document's order.
 *
 * @param keys of operations ({@link ApiOperation}); those that are not there, or cannot be tools, are
 *   left out
 * @param options.tellsShape with output schemas
 * @param options.credentials sent besides those of the document's schemes: they are no arguments either
 */
export function toolsOf(
  document: JsonObject,
  keys: string[],
  { tellsShape, credentials = [] }: { tellsShape: boolean; credentials?: Sent[] },
): ApiTool[] {
  const places = placesOf(document), names = namesOf(places), chosen = new Set(keys);
  const budget = { left: DOCUMENT_BUDGET };
  const sent = [...schemesOf(document), ...credentials];
  return places.filter((place) => chosen.has(keyOf(place))).flatMap((place) => {
    try {
      return [
        toolOf(document, place, names.get(place)!, { budget, tellsShape, credentials: sent }),
      ];
    } catch (error) {
      obstacleOf(error);
      return [];
    }
  });
}

/** The key of the operation that a tool is of. */
export function toolKey({ method, path }: Pick<ApiTool, "method" | "path">): string {
  return `${method} ${path}`;
}

function keyOf({ method, path }: Place): string {
  return `${method.toUpperCase()} ${path}`;
}

function obstacleOf(error: unknown): string {
  if (error instanceof OperationError) return error.message;
  // Of a stack that overflows: the document's depth is bounded, what its references make of it is not.
  if (error instanceof RangeError) return "Its schemas are nested too deeply";
  throw error;
}

function placesOf(document: JsonObject): Place[] {
  const places: Place[] = [];
  for (const [path, given] of Object.entries(objectOf(document.paths))) {
    let item: JsonObject;
    try {
      item = resolved(document, given);
    } catch {
      continue;
    }
    for (const method of METHODS) {
      const operation = item[method];
      if (!isObject(operation)) continue;
      if (places.length === OPERATIONS_LIMIT) return places;
      places.push({ method, path, item, operation });
    }
  }
  return places;
}

/**
 * Each operation's own name, by its operationId or else its method and path. One that is another's too,
 * or was changed, ends in a hash of method and path: so it depends on no other operation's place.
 */
function namesOf(places: Place[]): Map<Place, string> {
  const wanted = places.map(({ method, path, operation }) => {
    const id = textOf(operation.operationId).trim();
    // `/pets/{petId}` without an id is `get_pets_petId`.
    const text = id || `${method}${path}`;
    return text.replaceAll(/[^A-Za-z0-9_-]+/g, "_").replaceAll(/^_+|_+$/g, "") || method;
  });
  const counts = new Map<string, number>();
  for (const name of wanted) {
    const key = name.toLowerCase();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return new Map(places.map((place, index) => {
    const name = wanted[index];
    if (counts.get(name.toLowerCase()) === 1 && name.length <= NAME_LIMIT) return [place, name];
    const hash = createHash("sha256").update(keyOf(place)).digest("hex").slice(0, 6);
    return [place, `${name.slice(0, NAME_LIMIT - 7)}_${hash}`];
  }));
}

function isReadOnly(method: Method): boolean {
  return method === "get" || method === "head";
}

/** @throws {OperationError} */
function toolOf(
  document: JsonObject,
  place: Place,
  name: string,
  { budget, tellsShape, credentials }: {
    budget: { left: number };
    tellsShape: boolean;
    credentials: Sent[];
  },
): ApiTool {
  const { method, path, item, operation } = place;
  refuseElsewhere(document, place);
  if (!/^\/[^?#\\]*$/.test(path) || path.split("/").some((part) => /^\.{1,2}$/.test(part))) {
    throw new OperationError("Its path is none that can be asked for");
  }
  const schemas = new Schemas(document, { direction: "request", budget });
  const asked = new Arguments();
  const parameters = parametersOf(document, item, operation, credentials).flatMap((parameter) =>
    argumentOf(parameter, schemas, asked)
  );
  const inPath = new Set(
    parameters.flatMap(({ place, name }) => place === "path" ? [name] : []),
  );
  const missing = [...path.matchAll(/\{([^{}]+)\}/g)].find(([, name]) => !inPath.has(name));
  if (missing) throw new OperationError(`Its path names ${missing[0]}, which it does not declare`);
  const body = bodyOf(document, operation, schemas, asked);
  const inputSchema = schemas.whole(asked.schema());
  const size = JSON.stringify(inputSchema).length;
  if (size > INPUT_LIMIT) {
    throw new OperationError(
      `Its arguments take ${
        Math.ceil(size / 1024)
      } KiB to describe, and at most 64 are given to a model`,
    );
  }
  const title = line(operation.summary, 100);
  const outputSchema = tellsShape ? outputOf(document, operation, budget) : null;
  const definition: ToolDefinition & { inputSchema: JsonObject } = {
    name,
    ...(title && { title }),
    description: describedAs(place),
    inputSchema,
    ...(outputSchema && { outputSchema }),
    annotations: {
      readOnlyHint: isReadOnly(method),
      // A POST may do anything (RFC 9110, section 9.3.3).
      destructiveHint: !isReadOnly(method),
      idempotentHint: method !== "post" && method !== "patch",
      openWorldHint: true,
    },
  };
  return {
    definition: definition as ApiTool["definition"],
    method: method.toUpperCase(),
    path,
    parameters,
    body,
    accept: acceptOf(document, operation),
  };
}

function describedAs({ method, path, operation }: Place): string {
  const texts = [operation.summary, operation.description].map((text) => textOf(text).trim());
  const [summary, description] = texts;
  const said = summary && description && summary !== description
    ? `${summary}\n\n${description}`
    : summary || description || `${method.toUpperCase()} ${path}`;
  const whole = operation.deprecated === true ? `Deprecated. ${said}` : said;
  return whole.length > DESCRIPTION_LIMIT
    ? `${whole.slice(0, DESCRIPTION_LIMIT - 1).trimEnd()}…`
    : whole;
}

/** An operation of another server than the document's own would need another host. */
function refuseElsewhere(document: JsonObject, { item, operation }: Place): void {
  const own = listOf(operation.servers).length > 0 ? operation.servers : item.servers;
  const servers = listOf(own).map((server) => textOf(objectOf(server).url));
  const all = listOf(document.servers).map((server) => textOf(objectOf(server).url));
  const elsewhere = servers.length > 0 && !servers.some((url) => all.includes(url));
  if (elsewhere) {
    throw new OperationError(
      `It is at another address than the others (${servers[0].slice(0, 100)})`,
    );
  }
}

/** The path's and the operation's own, of which the latter override; less those that are credentials. */
function parametersOf(
  document: JsonObject,
  item: JsonObject,
  operation: JsonObject,
  credentials: Sent[],
): JsonObject[] {
  const found = new Map<string, JsonObject>();
  const all = [listOf(item.parameters), listOf(operation.parameters)];
  if (all.some(({ length }) => length > PARAMETERS_LIMIT)) refuseParameters();
  for (const given of all.flat()) {
    const parameter = resolved(document, given);
    found.set(`${textOf(parameter.in)} ${textOf(parameter.name)}`, parameter);
  }
  if (found.size > PARAMETERS_LIMIT) refuseParameters();
  const others = credentials.map(({ place, name }) => `${place} ${name}`.toLowerCase());
  return [...found].filter(([key]) => !others.includes(key.toLowerCase())).map(([, each]) => each);
}

function refuseParameters(): never {
  throw new OperationError(`It has more than ${PARAMETERS_LIMIT} parameters`);
}

/** Headers that OpenAPI leaves to others (3.1, "Parameter Object"), and those of the connection. */
const NOT_ARGUMENTS =
  /^(accept|accept-encoding|authorization|connection|content-.*|cookie|expect|host|keep-alive|origin|proxy-.*|te|trailer|transfer-encoding|upgrade)$/i;

const STYLES: Record<ApiParameter["place"], ApiParameter["style"][]> = {
  path: ["simple", "label", "matrix"],
  query: ["form", "spaceDelimited", "pipeDelimited", "deepObject"],
  header: ["simple"],
  cookie: ["form"],
};

/** Adds a parameter to the tool's arguments; none: it is not an argument. */
function argumentOf(
  parameter: JsonObject,
  schemas: Schemas,
  asked: Arguments,
): ApiParameter[] {
  const place = textOf(parameter.in) as ApiParameter["place"], name = textOf(parameter.name);
  if (!Object.hasOwn(STYLES, place) || name === "") {
    throw new OperationError(`It has a parameter in ${place.slice(0, 40) || "nothing"}`);
  }
  if (place === "header" && NOT_ARGUMENTS.test(name)) return [];
  // deno-lint-ignore no-control-regex
  const isToken = !/[\u0000-\u0020\u007f-\uffff()<>@,;:\\"/[\]?={}]/.test(name);
  if ((place === "header" || place === "cookie") && !isToken) {
    throw new OperationError(`It has a ${place} of a name that cannot be sent`);
  }
  const [content] = Object.entries(objectOf(parameter.content));
  const schema = objectOf(schemas.of(content ? objectOf(content[1]).schema : parameter.schema));
  const [fallback] = STYLES[place];
  const style = (textOf(parameter.style) || fallback) as ApiParameter["style"];
  if (!STYLES[place].includes(style)) {
    throw new OperationError(
      `Its parameter ${name.slice(0, 60)} has the style ${style.slice(0, 40)}`,
    );
  }
  const isRequired = place === "path" || parameter.required === true;
  const description = line(parameter.description, 600);
  const argument = asked.add(name, place, isRequired, {
    ...schema,
    ...(description && { description }),
  });
  const explode = typeof parameter.explode === "boolean" ? parameter.explode : style === "form";
  return [{
    argument,
    name,
    place,
    style,
    explode,
    ...(isRequired && { isRequired }),
    ...(content && isJson(content[0]) && { isJson: true }),
    ...(parameter.allowReserved === true && { allowsReserved: true }),
  }];
}

/** A tool's arguments, each of a name of its own that every model's vendor takes. */
class Arguments {
  readonly #properties: JsonObject = {};
  readonly #required: string[] = [];

  add(name: string, place: string, isRequired: boolean, schema: JsonObject): string {
    const plain =
      name.replaceAll(/[^A-Za-z0-9_.-]+/g, "_").replaceAll(/^_+|_+$/g, "").slice(0, 50) ||
      place;
    let argument = plain;
    for (let number = 1; Object.hasOwn(this.#properties, argument); number++) {
      argument = `${plain}_${place}${number === 1 ? "" : number}`;
    }
    this.#properties[argument] = schema;
    if (isRequired) this.#required.push(argument);
    return argument;
  }

  schema(): JsonObject {
    return {
      type: "object",
      properties: this.#properties,
      ...(this.#required.length > 0 && { required: this.#required }),
      additionalProperties: false,
    };
  }
}

function isJson(mediaType: string): boolean {
  return /^(application|text)\/([a-z0-9.+-]+\+)?json$/i.test(plainType(mediaType));
}

function plainType(mediaType: string): string {
  return mediaType.split(";")[0].trim().toLowerCase();
}

function kindOf(mediaType: string): ApiBody["kind"] {
  const type = plainType(mediaType);
  if (isJson(type)) return "json";
  if (type === "application/x-www-form-urlencoded") return "form";
  if (type === "multipart/form-data") return "multipart";
  return /^text\/|[+/](xml|yaml|x-yaml|javascript|graphql|x-ndjson|csv)$/.test(type)
    ? "text"
    : "bytes";
}

/** What is preferred where an operation takes several. */
const KINDS: ApiBody["kind"][] = ["json", "form", "multipart", "text", "bytes"];

function bodyOf(
  document: JsonObject,
  operation: JsonObject,
  schemas: Schemas,
  asked: Arguments,
): ApiBody | null {
  if (operation.requestBody === undefined) return null;
  const body = resolved(document, operation.requestBody);
  const [chosen] = membersOf(body.content)
    .map(([type, content]) => ({ type, content: objectOf(content), kind: kindOf(type) }))
    .toSorted((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind));
  if (!chosen) return null;
  const { content, kind } = chosen;
  // `*/*` and `image/*` are no types that can be sent.
  const mediaType = chosen.type.includes("*") ? "application/octet-stream" : chosen.type;
  if (/[^\x20-\x7e]/.test(mediaType)) throw new OperationError("Its body's type cannot be sent");
  const isRequired = body.required === true;
  const said = line(body.description, 600);
  let schema: JsonObject, fields: ApiBody["fields"];
  if (kind === "bytes") {
    schema = { type: "string", contentEncoding: "base64" };
  } else if (kind === "text") schema = { type: "string" };
  else if (kind === "json") schema = objectOf(schemas.of(content.schema ?? {}));
  else ({ schema, fields } = formOf(document, content, schemas, kind));
  const description = said || textOf(schema.description) ||
    (kind === "json"
      ? ""
      : `The request's body: ${mediaType}${kind === "bytes" ? ", in base64" : ""}`);
  const argument = asked.add("body", "content", isRequired, {
    ...schema,
    ...(description && { description }),
  });
  return {
    argument,
    mediaType,
    kind,
    ...(isRequired && { isRequired }),
    ...(fields && { fields }),
  };
}

const FILE = {
  type: "object",
  properties: {
    data: {
      type: "string",
      contentEncoding: "base64",
      description: "The file's content, in base64",
    },
    filename: { type: "string" },
    mediaType: { type: "string", description: "Such as image/png" },
  },
  required: ["data"],
} as const;

/** A form's schema, in which files are objects, and what is to be known of its fields. */
function formOf(
  document: JsonObject,
  { schema: given, encoding }: JsonObject,
  schemas: Schemas,
  kind: "form" | "multipart",
): { schema: JsonObject; fields: Record<string, ApiField> } {
  const declared = formSchema(document, given);
  const schema = objectOf(schemas.of(declared));
  const properties = { ...objectOf(schema.properties) };
  const fields: Record<string, ApiField> = {};
  for (const [name, property] of Object.entries(objectOf(declared.properties))) {
    if (!Object.hasOwn(properties, name)) continue;
    const { contentType, style, explode } = objectOf(objectOf(encoding)[name]);
    const field: ApiField = {};
    const type = textOf(contentType).split(",")[0].trim();
    if (type && !type.includes("*") && !/[^\x20-\x7e]/.test(type)) field.mediaType = type;
    if (style !== undefined && STYLES.query.includes(style as ApiParameter["style"])) {
      field.style = style as ApiParameter["style"];
    }
    if (typeof explode === "boolean") field.explode = explode;
    const own = resolved(document, property), item = resolved(document, own.items);
    if (kind === "multipart" && (isFile(own) || isFile(item))) {
      field.isFile = true;
      const description = textOf(own.description);
      const file = { ...FILE, required: [...FILE.required] } as unknown as JsonObject;
      const shown = isFile(own) ? file : { type: "array", items: file };
      properties[name] = { ...shown, ...(description && { description: line(description, 600) }) };
    }
    if (Object.keys(field).length > 0) fields[name] = field;
  }
  return { schema: { ...schema, type: "object", properties }, fields };
}

/** A form's fields stand in its schema itself, or in those that it is all of. */
function formSchema(document: JsonObject, given: unknown): JsonObject {
  const schema = resolved(document, given);
  const all = listOf(schema.allOf);
  if (all.length > MEMBERS_LIMIT) refuseMembers();
  const parts = all.map((part) => resolved(document, part));
  if (parts.length === 0) return schema;
  const { allOf: _, ...rest } = schema;
  return {
    ...rest,
    properties: Object.assign(
      {},
      ...[...parts, rest].map(({ properties }) => objectOf(properties)),
    ),
    required: [...parts, rest].flatMap(({ required }) => listOf(required)),
  };
}

function isFile(schema: JsonObject): boolean {
  if (schema.format === "binary") return true;
  const type = textOf(schema.contentMediaType);
  return type !== "" && schema.contentEncoding === undefined && !isJson(type) &&
    (schema.type === undefined || schema.type === "string");
}

/** What was found to have too many members: thousands of operations may share it. */
const overfull = new WeakSet<JsonObject>();

/** @throws {OperationError} */
function membersOf(value: unknown): [string, Json][] {
  const object = objectOf(value);
  if (overfull.has(object)) refuseMembers();
  const members = Object.entries(object);
  if (members.length <= MEMBERS_LIMIT) return members;
  overfull.add(object);
  refuseMembers();
}

function refuseMembers(): never {
  throw new OperationError(`It has more than ${MEMBERS_LIMIT} answers, types or parts of a form`);
}

/** The success responses, the lowest status first. */
function successes(document: JsonObject, operation: JsonObject): JsonObject[] {
  return membersOf(operation.responses)
    .filter(([status]) => /^2(\d\d|XX)$/i.test(status)).toSorted(([a], [b]) => a < b ? -1 : 1)
    .map(([, response]) => resolved(document, response));
}

/** Of what the first success is in JSON, if it is an object: null where it is not, or too much is said. */
function outputOf(
  document: JsonObject,
  operation: JsonObject,
  budget: { left: number },
): JsonObject | null {
  try {
    const answers = successes(document, operation).flatMap(({ content }) => membersOf(content));
    // One that answers in several shapes has none.
    if (answers.length !== 1 || !isJson(answers[0][0])) return null;
    const { schema: given } = objectOf(answers[0][1]);
    const target = resolved(document, given);
    const isAnObject = target.type === "object" || (Array.isArray(target.type) &&
      target.type.includes("object") && target.type.every((each) =>
        ["object", "null"].includes(String(each))
      )) ||
      (target.type === undefined && isObject(target.properties));
    if (!isAnObject) return null;
    const schemas = new Schemas(document, { direction: "response", budget });
    const whole = schemas.whole(objectOf(schemas.of(target)));
    const schema = { ...whole, type: "object" };
    return JSON.stringify(schema).length <= OUTPUT_LIMIT ? schema : null;
  } catch (error) {
    obstacleOf(error);
    return null;
  }
}

function acceptOf(document: JsonObject, operation: JsonObject): string {
  const types = successes(document, operation).flatMap(({ content }) =>
    membersOf(content).map(([type]) => type)
  ).filter((type) => /^[\x21-\x7e]{1,100}$/.test(type));
  const json = types.filter(isJson);
  const named = [...new Set([...json, ...types])].slice(0, 5);
  return named.length > 0 ? `${named.join(", ")}, */*;q=0.1` : "application/json, */*;q=0.5";
}

/** A way in which a document says that requests prove themselves, as credentials are sent. */
export interface ApiScheme {
  /** As the document calls it. */
  id: string;
  place: "header" | "query" | "cookie";
  name: string;
  scheme: "plain" | "bearer" | "basic";
  description: string;
}

/** The schemes that can be used; OAuth's and OpenID Connect's as the access token that comes of them. */
export function schemesOf(document: JsonObject): ApiScheme[] {
  const declared = objectOf(objectOf(document.components).securitySchemes);
  return Object.entries(declared).slice(0, 20).flatMap(([id, given]) => {
    let scheme: JsonObject;
    try {
      scheme = resolved(document, given);
    } catch {
      return [];
    }
    const known = schemeOf(scheme);
    return known ? [{ id, ...known, description: line(scheme.description, 300) }] : [];
  });
}

function schemeOf(scheme: JsonObject): Pick<ApiScheme, "place" | "name" | "scheme"> | null {
  const authorization = { place: "header", name: "Authorization" } as const;
  const kind = textOf(scheme.scheme).toLowerCase();
  switch (scheme.type) {
    case "apiKey": {
      const place = textOf(scheme.in), name = textOf(scheme.name);
      const isUsable = (place === "header" || place === "cookie" || place === "query") &&
        (place === "query" ? name !== "" && name.length <= 100 : isHeaderName(name));
      return isUsable ? { place, name, scheme: "plain" } : null;
    }
    case "http":
      if (kind === "bearer") return { ...authorization, scheme: "bearer" };
      if (kind === "basic") return { ...authorization, scheme: "basic" };
      return null;
    case "oauth2":
    case "openIdConnect":
      return { ...authorization, scheme: "bearer" };
    default:
      return null;
  }
}

/** A token of RFC 9110, and none that belongs to the connection. */
export function isHeaderName(name: string): boolean {
  return /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/.test(name) &&
    (name.toLowerCase() === "authorization" || !NOT_ARGUMENTS.test(name));
}

/** An address at which a document says that its API is. */
export interface ApiServer {
  /** With its variables' names in braces. */
  url: string;
  description: string;
  variables: { name: string; default: string; choices: string[]; description: string }[];
}

export function serversOf(document: JsonObject): ApiServer[] {
  return listOf(document.servers).slice(0, 30).flatMap((given) => {
    const { url, description, variables } = objectOf(given);
    if (typeof url !== "string" || url.length > 1000) return [];
    const named = [...new Set([...url.matchAll(/\{([^{}]{1,60})\}/g)].map(([, name]) => name))];
    return [{
      url,
      description: line(description, 120),
      variables: named.slice(0, 10).map((name) => {
        const known = objectOf(objectOf(variables)[name]);
        return {
          name,
          default: textOf(known.default).slice(0, 200),
          choices: listOf(known.enum).map(textOf).filter(Boolean).slice(0, 50),
          description: line(known.description, 200),
        };
      }),
    }];
  });
}
