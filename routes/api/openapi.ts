/**
 * The OpenAPI document, made of the operations' own zod schemas. zod writes JSON Schema of the dialect that
 * OpenAPI 3.1 uses (2020-12) itself.
 */
import { z } from "zod";
import { SCOPES } from "../../models/personal_tokens.ts";
import { needsBasis, type Operation } from "./operation.ts";
import { OPERATIONS } from "./operations.ts";
import { Problem, type ProblemKind, PROBLEMS } from "./problems.ts";

type Schema = Record<string, unknown>;

export interface OpenApi {
  openapi: string;
  info: { title: string; version: string; description: string };
  servers: { url: string }[];
  security: Record<string, string[]>[];
  tags: { name: string }[];
  paths: Record<string, Record<string, OpenApiOperation>>;
  components: { schemas: Record<string, Schema>; securitySchemes: Schema };
}

export interface OpenApiOperation {
  operationId: string;
  tags: string[];
  summary: string;
  description: string;
  "x-scopes": readonly string[];
  parameters: {
    name: string;
    in: "path" | "query" | "header";
    required: boolean;
    description?: string;
    schema: Schema;
  }[];
  requestBody?: { required: boolean; content: { "application/json": { schema: Schema } } };
  responses: Record<string, Schema>;
}

/** The members of an operation's input that its path names. */
export function pathMembers({ path }: Pick<Operation, "path">): string[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
}

/** Whether what the path does not name travels in the query. */
export function asksByQuery({ method }: Pick<Operation, "method">): boolean {
  return method === "GET" || method === "DELETE";
}

/** @param baseUrl where the app is reached */
export function openApi(baseUrl: URL, version: string): OpenApi {
  const schemas: Record<string, Schema> = {};
  const paths: OpenApi["paths"] = {};
  const problem = schemaOf(Problem, "output", schemas);
  for (const { section, operations } of OPERATIONS) {
    for (const operation of operations) {
      const path = paths[operation.path] ??= {};
      path[operation.method.toLowerCase()] = described(section, operation, schemas, problem);
    }
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Mooring",
      version,
      description: "All that the pages do. A personal access token acts as its person in one " +
        "workspace, as far as its scopes go.",
    },
    servers: [{ url: `${baseUrl.href.replace(/\/+$/, "")}/api/v1` }],
    security: [{ token: [] }],
    tags: OPERATIONS.map(({ section }) => ({ name: section })),
    paths,
    components: {
      schemas,
      securitySchemes: {
        token: {
          type: "http",
          scheme: "bearer",
          description: "A personal access token (mpt_…), made on your account's page. Scopes:\n\n" +
            Object.entries(SCOPES).map(([name, what]) => `- \`${name}\`: ${what}`).join("\n"),
        },
      },
    },
  };
}

function described(
  section: string,
  operation: Operation,
  schemas: Record<string, Schema>,
  problem: Schema,
): OpenApiOperation {
  const { name, scopes, summary, description, input, output, status, isCreating } = operation;
  const { properties = {}, required = [] } = schemaOf(input, "input", schemas) as {
    properties?: Record<string, Schema & { description?: string }>;
    required?: string[];
  };
  const inPath = pathMembers(operation), inQuery = asksByQuery(operation);
  const others = Object.entries(properties).filter(([member]) => !inPath.includes(member));
  const needed = required.filter((member) =>
    !inPath.includes(member) && member !== operation.basedOn
  );
  const parameter = (
    where: "path" | "query" | "header",
    member: string,
    { description, ...schema }: Schema & { description?: string },
    isRequired = where === "path" || needed.includes(member),
  ) => ({ name: member, in: where, required: isRequired, description, schema });
  const headers = [
    ...(isCreating
      ? [parameter("header", "Idempotency-Key", {
        type: "string",
        maxLength: 255,
        description: "Sent again with it within a day, the request makes nothing more and is " +
          "answered as it was",
      })]
      : []),
    ...(operation.basedOn
      ? [parameter("header", "If-Match", {
        type: "string",
        description: `The ETag that the change was made from, in place of ${operation.basedOn}`,
      })]
      : []),
  ];
  const body = {
    type: "object",
    properties: Object.fromEntries(others),
    ...(needed.length > 0 ? { required: needed } : {}),
    additionalProperties: false,
  };
  return {
    operationId: name,
    tags: [section],
    summary,
    description: [description, scopes.length > 0 && `Scopes: ${scopes.join(", ")}.`].filter(Boolean)
      .join("\n\n"),
    "x-scopes": scopes,
    parameters: [
      ...inPath.map((member) => parameter("path", member, properties[member])),
      ...(inQuery ? others.map(([member, schema]) => parameter("query", member, schema)) : []),
      ...headers,
    ],
    ...(!inQuery && others.length > 0
      ? {
        requestBody: {
          required: needed.length > 0,
          content: { "application/json": { schema: body } },
        },
      }
      : {}),
    responses: {
      [status]: {
        description: output ? "Done" : "Done; there is nothing to say",
        ...(operation.versionOf
          ? {
            headers: {
              ETag: { description: "Its version, for If-Match", schema: { type: "string" } },
            },
          }
          : {}),
        ...(output
          ? { content: { "application/json": { schema: schemaOf(output, "output", schemas) } } }
          : {}),
      },
      ...Object.fromEntries(
        problemsOf(operation, Object.values(properties)).map((kind) => {
          const [status, title] = PROBLEMS[kind];
          return [status, {
            description: title,
            content: { "application/problem+json": { schema: problem } },
          }];
        }),
      ),
    },
  };
}

/** What an operation may be refused with; whatever it is given by its id may not be there. */
function problemsOf(operation: Operation, members: Schema[]): ProblemKind[] {
  const { method, path, basedOn } = operation;
  const hasInput = members.length > 0;
  const names = path.includes("{") || members.some(({ format }) => format === "uuid");
  return [
    ...(method === "GET" || method === "DELETE"
      ? []
      : ["malformed", "too-large", "media-type"] as const),
    "unauthenticated",
    "forbidden",
    ...(names ? ["not-found"] as const : []),
    ...(method === "GET" ? [] : ["conflict"] as const),
    ...(basedOn ? ["stale"] as const : []),
    ...(needsBasis(operation) ? ["unconditional"] as const : []),
    ...(hasInput ? ["invalid"] as const : []),
    "too-many",
    "internal",
  ];
}

/** A schema's JSON Schema; what has an id goes to the others by that name. */
function schemaOf(
  schema: z.ZodType,
  io: "input" | "output",
  schemas: Record<string, Schema>,
): Schema {
  const { $schema: _, $defs, ...json } = z.toJSONSchema(schema, {
    io,
    // What a later version answers besides is no reason to refuse an answer.
    override: ({ jsonSchema }) => {
      if (io === "output" && jsonSchema.additionalProperties === false) {
        delete jsonSchema.additionalProperties;
      }
    },
  });
  const named = (part: unknown) =>
    JSON.parse(JSON.stringify(part).replaceAll('"#/$defs/', '"#/components/schemas/'));
  Object.assign(schemas, named($defs ?? {}));
  return named(json);
}
