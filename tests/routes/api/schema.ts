/** The OpenAPI document as a judge: what it says of an operation, and whether an answer is as it says. */
import { Ajv2020 } from "npm:ajv@8.20.0/dist/2020.js";
import assert from "node:assert/strict";
import type { OpenApi, OpenApiOperation } from "../../../routes/api/openapi.ts";
import type { Reply } from "./app.ts";

export interface Described {
  method: string;
  path: string;
  operation: OpenApiOperation;
}

export function operationsOf(document: OpenApi): Map<string, Described> {
  return new Map(
    Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => [
        operation.operationId,
        { method: method.toUpperCase(), path, operation },
      ])
    ),
  );
}

/** Fails unless an answer is one that the document has, of the type and the schema that it says. */
export function judge(document: OpenApi) {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema({ $id: "openapi", ...document }, "openapi");
  return ({ operation, method, path }: Described, reply: Reply) => {
    const what = `${method} ${path} ${reply.status} ${reply.text.slice(0, 500)}`;
    const said = operation.responses[reply.status] as
      | { content?: Record<string, { schema: object }> }
      | undefined;
    assert.ok(said, `the document has this status: ${what}`);
    const type = reply.headers.get("content-type");
    if (!said.content) return assert.equal(reply.text, "", what);
    assert.ok(type && said.content[type], `the document has this type: ${type} ${what}`);
    const schema = JSON.parse(
      JSON.stringify(said.content[type].schema).replaceAll('"#/', '"openapi#/'),
    );
    const valid = ajv.validate(schema, reply.body);
    assert.ok(valid, `${what}\n${JSON.stringify(ajv.errors)}`);
  };
}
