import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { Ajv2020 } from "npm:ajv@8.20.0/dist/2020.js";
import { Invalid } from "../../models/errors.ts";
import { readApiDocument } from "../../models/openapi_document.ts";
import { listOperations, schemesOf, serversOf, toolsOf } from "../../models/openapi_operations.ts";

const PETS = await Deno.readTextFile(new URL("../fixtures/apis/pets.yaml", import.meta.url));

function tools(text: string, keys?: string[]) {
  const { document } = readApiDocument(text);
  const all = keys ?? listOperations(document).map(({ key }) => key);
  return toolsOf(document, all, { tellsShape: true });
}

/** A document with one operation. */
function withOperation(operation: object, more: object = {}, path = "/a") {
  return JSON.stringify({
    openapi: "3.1.0",
    info: { title: "A", version: "1" },
    paths: { [path]: { post: { responses: {}, ...operation } } },
    ...more,
  });
}

Deno.test("an OpenAPI 3.0 document in YAML becomes tools, with what cannot be one named", () => {
  const read = readApiDocument(PETS);
  assert.deepEqual([read.title, read.version, read.openapi], ["Pet shop", "1.4.0", "3.0.3"]);
  const operations = listOperations(read.document);
  assert.deepEqual(
    operations.map(({ key, name, tag, isReadOnly }) => [key, name, tag, isReadOnly]),
    [
      ["GET /pets", "listPets", "pets", true],
      ["POST /pets", "create_pet", "pets", false],
      ["GET /pets/{petId}", "getPet", "pets", true],
      ["DELETE /pets/{petId}", "delete_pets_petId", "pets", false],
      ["GET /pets/{petId}/picture", "getPicture", "pictures", true],
      ["PUT /pets/{petId}/picture", "setPicture", "pictures", false],
      ["POST /reports", "makeReport", "", false],
    ],
  );
  assert.deepEqual(operations.flatMap(({ obstacle }) => obstacle ?? []), [
    "It is at another address than the others (https://reports.example.org)",
  ]);
  assert.deepEqual(operations.filter(({ isDeprecated }) => isDeprecated).length, 1);
});

Deno.test("a tool's arguments are its parameters and its body, whole by themselves", () => {
  const [list, create, read, remove, picture, setPicture] = tools(PETS);
  assert.deepEqual(list.definition.inputSchema, {
    type: "object",
    properties: {
      "X-Trace": { type: "string" },
      tags: {
        type: "array",
        items: { type: "string" },
        description: "Pets that have all of them",
      },
      filter: {
        type: "object",
        properties: {
          species: { type: "string", enum: ["cat", "dog"] },
          age: { type: "integer", exclusiveMinimum: 0 },
        },
      },
      limit: { type: "integer", default: 20, maximum: 100 },
    },
    additionalProperties: false,
  });
  // What is only read is not asked, and a schema that refers to itself stays finite.
  assert.deepEqual(create.definition.inputSchema, {
    type: "object",
    properties: { "X-Trace": { type: "string" }, body: { $ref: "#/$defs/Pet" } },
    required: ["body"],
    additionalProperties: false,
    $defs: {
      Pet: {
        type: "object",
        required: ["name"],
        properties: {
          name: { type: "string", examples: ["Milo"], pattern: "^\\S" },
          species: { type: "string", enum: ["cat", "dog"] },
          password: { type: "string" },
          parents: { type: "array", items: { $ref: "#/$defs/Pet" } },
          note: { type: ["string", "null"] },
        },
      },
    },
  });
  assert.deepEqual(read.definition.annotations, {
    readOnlyHint: true,
    destructiveHint: false,
    idempotentHint: true,
    openWorldHint: true,
  });
  assert.deepEqual(remove.definition.annotations!.destructiveHint, true);
  assert.match(remove.definition.description!, /^Deprecated\. Remove a pet$/);
  assert.equal(picture.accept, "image/png, */*;q=0.1");
  const { file, about } =
    (setPicture.definition.inputSchema as { properties: { body: { properties: object } } })
      .properties.body.properties as Record<string, { type: string; required?: string[] }>;
  assert.deepEqual([file.type, file.required, about.type], ["object", ["data"], "object"]);
  assert.deepEqual(setPicture.body!.fields, { file: { isFile: true } });
});

Deno.test("an output schema says what an answer looks like, and demands nothing", () => {
  const [list, , read, remove] = tools(PETS);
  const { properties, required, $defs } = list.definition.outputSchema as Record<string, object>;
  assert.equal(required, undefined);
  assert.deepEqual(Object.keys(properties), ["items", "next"]);
  const pet = ($defs as Record<string, { properties: object }>).Pet.properties;
  assert.deepEqual(Object.keys(pet), ["id", "name", "species", "parents", "note"], "no password");
  assert.deepEqual((read.definition.outputSchema as { type: string }).type, "object");
  assert.equal(remove.definition.outputSchema, undefined);
});

Deno.test("servers have their variables, and schemes the place of their credential", () => {
  const { document } = readApiDocument(PETS);
  assert.deepEqual(serversOf(document)[0], {
    url: "https://{region}.pets.example.com/v1",
    description: "Production",
    variables: [{
      name: "region",
      default: "eu",
      choices: ["eu", "us"],
      description: "Where the shop is",
    }],
  });
  assert.deepEqual(
    schemesOf(document).map(({ id, place, name, scheme }) => [id, place, name, scheme]),
    [
      ["key", "header", "X-Api-Key", "plain"],
      ["login", "header", "Authorization", "basic"],
      ["oauth", "header", "Authorization", "bearer"],
    ],
  );
});

Deno.test("Swagger 2.0 is read as OpenAPI", () => {
  const [upload, find] = tools(JSON.stringify({
    swagger: "2.0",
    info: { title: "Old", version: "1" },
    host: "old.example.com",
    basePath: "/v2",
    schemes: ["https"],
    consumes: ["application/json"],
    paths: {
      "/files": {
        post: {
          operationId: "upload",
          consumes: ["multipart/form-data"],
          parameters: [{ name: "file", in: "formData", type: "file", required: true }],
          responses: { 200: { description: "x" } },
        },
        get: {
          operationId: "find",
          parameters: [{
            name: "ids",
            in: "query",
            type: "array",
            items: { type: "integer" },
            collectionFormat: "pipes",
          }],
          responses: { 200: { description: "x", schema: { $ref: "#/definitions/F" } } },
        },
      },
    },
    definitions: { F: { type: "object", properties: { id: { type: "integer" } } } },
  })).toSorted((a, b) => a.method < b.method ? 1 : -1);
  assert.deepEqual(upload.body!.fields, { file: { isFile: true } });
  assert.deepEqual([find.parameters[0].style, find.parameters[0].explode], [
    "pipeDelimited",
    false,
  ]);
  assert.deepEqual(find.definition.outputSchema, {
    type: "object",
    properties: { id: { type: ["number", "null"] } },
  });
});

Deno.test("names are stable, unique and within limits", () => {
  const long = "x".repeat(80);
  const document = (ids: string[]) =>
    JSON.stringify({
      openapi: "3.1.0",
      info: {},
      paths: Object.fromEntries(
        ids.map((operationId, n) => [`/${operationId || "none"}-${n}`, { get: { operationId } }]),
      ),
    });
  const names = (ids: string[]) => tools(document(ids)).map(({ definition }) => definition.name);
  const found = names(["a", "A", "b.c", "", long, "ünïcödé/x"]);
  assert.equal(new Set(found.map((name) => name.toLowerCase())).size, 6);
  for (const name of found) assert.match(name, /^[A-Za-z0-9_-]{1,50}$/);
  assert.match(found[0], /^a_[0-9a-f]{6}$/);
  assert.equal(found[2], "b_c");
  // Another operation before them changes no name.
  assert.deepEqual(names(["a", "A", "b.c"]).slice(0, 2), found.slice(0, 2));
});

Deno.test("arguments of one name are told apart, and what belongs to the connection is none", () => {
  const [tool] = tools(withOperation(
    {
      parameters: [
        { name: "id", in: "path", required: true, schema: { type: "string" } },
        { name: "id", in: "query", schema: { type: "string" } },
        { name: "filter[name]", in: "query", schema: { type: "string" } },
        { name: "body", in: "query", schema: { type: "string" } },
        { name: "Authorization", in: "header", schema: { type: "string" } },
        { name: "Host", in: "header", schema: { type: "string" } },
        { name: "key", in: "query", schema: { type: "string" } },
        { name: "q", in: "query", content: { "application/json": { schema: { type: "object" } } } },
      ],
      requestBody: { content: { "application/json": { schema: { type: "array", items: {} } } } },
    },
    { components: { securitySchemes: { k: { type: "apiKey", in: "query", name: "key" } } } },
    "/a/{id}",
  ));
  assert.deepEqual(
    tool.parameters.map(({ argument, name, place, isJson }) => [argument, name, place, isJson]),
    [
      ["id", "id", "path", undefined],
      ["id_query", "id", "query", undefined],
      ["filter_name", "filter[name]", "query", undefined],
      ["body", "body", "query", undefined],
      ["q", "q", "query", true],
    ],
  );
  assert.equal(tool.body!.argument, "body_content");
});

Deno.test("a document that is hostile or none is refused with a sentence, or has its reasons named", () => {
  const laughs = ["openapi: 3.1.0", "info: {}", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"];
  for (let n = 1; n < 12; n++) {
    laughs.push(`a${n}: &a${n} [${Array(10).fill(`*a${n - 1}`).join(", ")}]`);
  }
  const refused: [string, RegExp][] = [
    ["", /no OpenAPI document/],
    ["<!doctype html><html>", /web page/],
    ["{", /no JSON|neither JSON nor YAML/],
    ["[1]", /not an object/],
    ["a: 1", /no member `openapi`/],
    ['{"openapi":"4.0.0","paths":{"/":{}}}', /version 4\.0\.0/],
    ['{"swagger":"1.2"}', /version 1\.2/],
    ['{"openapi":"3.1.0","paths":{}}', /no paths/],
    [laughs.join("\n"), /alias/i],
    [`${laughs[0]}\nx: [&a ${"x".repeat(1024 * 1024)}${", *a".repeat(60)}]`, /by its aliases/],
    [`${laughs[0]}\nx: [&a {${"x".repeat(1000)}: 1}${", *a".repeat(90)}]`, /no paths/],
    [`{"openapi":"3.1.0","paths":${"[".repeat(5000)}${"]".repeat(5000)}}`, /nested/],
    [`{"openapi":"3.1.0","x":${"9".repeat(17 * 1024 * 1024)}}`, /16 MiB/],
    [`a: ${"x".repeat(5 * 1024 * 1024)}`, /4 MiB/],
  ];
  for (const [text, why] of refused) {
    assert.throws(
      () => readApiDocument(text),
      (error) => error instanceof Invalid && why.test(error.message),
      `${text.slice(0, 60)} ${why}`,
    );
  }
});

Deno.test("members named __proto__ reach no prototype", () => {
  const text = withOperation({
    requestBody: { content: { "application/json": { schema: { type: "object" } } } },
  }).replace(
    '"type":"object"',
    '"type":"object","properties":{"__proto__":{"type":"string"},"a":{}}',
  )
    .replace('"info":', '"__proto__":{"polluted":true},"info":');
  const [tool] = tools(text);
  assert.equal(({} as { polluted?: boolean }).polluted, undefined);
  assert.deepEqual(tool.definition.inputSchema, {
    type: "object",
    properties: { body: { type: "object", properties: { a: {} } } },
    additionalProperties: false,
  });
});

Deno.test("references that lead out, nowhere or in a circle cost their own operation alone", () => {
  const refs: [object, RegExp | null][] = [
    [{ $ref: "https://evil.example/schema.json" }, /another document/],
    [{ $ref: "file:///etc/passwd" }, /another document/],
    [{ $ref: "#/components/schemas/None" }, /leads nowhere/],
    [{ $ref: "#/__proto__/toString" }, /leads nowhere/],
    [{ $ref: "#/components/schemas/Loop" }, null],
  ];
  for (const [schema, why] of refs) {
    const { document } = readApiDocument(withOperation(
      { requestBody: { content: { "application/json": { schema } } } },
      { components: { schemas: { Loop: { $ref: "#/components/schemas/Loop" } } } },
    ));
    const [{ obstacle, definition }] = listOperations(document);
    if (why) assert.match(obstacle!, why);
    else assert.ok(definition.length < 1000, "a schema that is itself says nothing, and ends");
  }
  const { document } = readApiDocument(withOperation(
    { parameters: [{ $ref: "#/components/parameters/A" }] },
    {
      components: {
        parameters: {
          A: { $ref: "#/components/parameters/B" },
          B: { $ref: "#/components/parameters/A" },
        },
      },
    },
  ));
  assert.match(listOperations(document)[0].obstacle!, /circle/);
});

Deno.test("schemas that double at each reference stay as large as they are written", () => {
  const schemas: Record<string, object> = { S0: { type: "string", description: "x".repeat(300) } };
  for (let n = 1; n < 60; n++) {
    const $ref = `#/components/schemas/S${n - 1}`;
    schemas[`S${n}`] = { type: "object", properties: { a: { $ref }, b: { $ref } } };
  }
  const body = (schema: object) => ({
    requestBody: { content: { "application/json": { schema } } },
  });
  const text = withOperation(body({ $ref: "#/components/schemas/S59" }), {
    components: { schemas },
  });
  const [tool] = tools(text);
  assert.ok(JSON.stringify(tool).length < 20_000);
  // One after another, by the hundred: no stack is too short for it.
  const chain = Object.fromEntries(Array.from({ length: 900 }, (_, n) => [
    `C${n}`,
    { type: "object", properties: { next: { $ref: `#/components/schemas/C${n + 1}` } } },
  ]));
  const { document } = readApiDocument(withOperation(
    body({ $ref: "#/components/schemas/C0" }),
    { components: { schemas: { ...chain, C900: {} } } },
  ));
  assert.match(listOperations(document)[0].obstacle!, /more than 400/);
});

// Each of these kept a process busy for minutes before it was bounded.
Deno.test("what thousands of operations refer to costs its size once, not with each", () => {
  const operations = (parameters: number, components: object, schema: string) => {
    const paths = Object.fromEntries(Array.from({ length: 1500 }, (_, n) => [`/p${n}`, {
      get: {
        parameters: Array.from({ length: parameters }, (_, m) => ({
          name: `a${m}`,
          in: "query",
          schema: { $ref: `#/components/schemas/${schema}` },
        })),
      },
    }]));
    const { document } = readApiDocument(JSON.stringify({ openapi: "3.1.0", paths, components }));
    return listOperations(document);
  };
  const schemas = {
    Chosen: { enum: Array.from({ length: 400_000 }, (_, n) => `value ${n}`) },
    Described: { type: "string", description: "Long. ".repeat(1_000_000) },
  };
  for (const { obstacle } of operations(10, { schemas }, "Chosen")) {
    assert.equal(obstacle, "Its schemas are too large");
  }
  for (const { obstacle } of operations(1, { schemas }, "Described")) assert.equal(obstacle, null);
  const many = Object.fromEntries(Array.from({ length: 300_000 }, (_, n) => [`x/${n}`, {}]));
  for (const item of [{ responses: many }, { requestBody: { content: many } }]) {
    const paths = Object.fromEntries(
      Array.from({ length: 1500 }, (_, n) => [`/p${n}`, { $ref: "#/components/pathItems/it" }]),
    );
    const components = { pathItems: { it: { post: item } } };
    const { document } = readApiDocument(JSON.stringify({ openapi: "3.1.0", paths, components }));
    for (const { obstacle } of listOperations(document)) {
      assert.match(obstacle!, /^It has more than 200 answers, types or parts/);
    }
  }
  // A list of credentials, and a path's own parameters.
  const securitySchemes = Object.fromEntries(
    Array.from({ length: 200_000 }, (_, n) => [`scheme${n}`, { type: "none" }]),
  );
  const light = { schemas: { Small: { type: "string" } }, securitySchemes };
  for (const { obstacle } of operations(1, light, "Small")) assert.equal(obstacle, null);
  const text = withOperation({
    parameters: Array.from({ length: 101 }, () => ({ name: "a", in: "query" })),
  });
  const [{ obstacle }] = listOperations(readApiDocument(text).document);
  assert.equal(obstacle, "It has more than 100 parameters");
});

Deno.test("paths that lead elsewhere are no tools", () => {
  for (const path of ["/a/../b", "/a?x=1", "/a#b", "a", "/a\\b"]) {
    const { document } = readApiDocument(withOperation({}, {}, path));
    assert.match(listOperations(document)[0].obstacle!, /none that can be asked/, path);
  }
  const { document } = readApiDocument(withOperation({}, {}, "/a/{id}"));
  assert.match(listOperations(document)[0].obstacle!, /does not declare/);
});

Deno.test("whatever stands where in a document, it is refused with a sentence or read", () => {
  const whole = readApiDocument(PETS).document;
  const junk = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom({ $ref: "#/paths" }, { $ref: "#/components/schemas/Pet" }, { $ref: "#" }),
    fc.constantFrom({ type: {} }, { allOf: [null] }, { properties: { a: null } }, { items: 1 }),
  );
  /** The n-th place of a value, from its top. */
  const replaced = (value: unknown, at: { left: number }, by: unknown): unknown => {
    if (at.left-- === 0) return by;
    if (Array.isArray(value)) return value.map((each) => replaced(each, at, by));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, each]) => [name, replaced(each, at, by)]),
    );
  };
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 330 }), junk, fc.boolean(), (left, by, isOld) => {
      const changed = replaced(whole, { left }, by) as object;
      const text = JSON.stringify({ ...changed, openapi: isOld ? "3.0.3" : "3.1.0" });
      try {
        const { document } = readApiDocument(text);
        const operations = listOperations(document);
        for (
          const tool of toolsOf(document, operations.map(({ key }) => key), { tellsShape: true })
        ) {
          assert.match(tool.definition.name, /^[A-Za-z0-9_-]{1,50}$/);
          assert.equal(tool.definition.inputSchema.type, "object");
        }
        serversOf(document);
        schemesOf(document);
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
      }
    }),
    { numRuns: 1500 },
  );
});

Deno.test("every input schema is one that clients can compile, and refers to nothing that is not there", () => {
  for (const { definition } of tools(PETS)) {
    for (const schema of [definition.inputSchema, definition.outputSchema]) {
      if (schema) new Ajv2020({ strict: false, validateFormats: false }).compile(schema);
    }
  }
});
