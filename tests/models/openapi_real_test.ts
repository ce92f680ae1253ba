/** OpenAPI documents of real services, out of their npm packages. */
import assert from "node:assert/strict";
import { Ajv2020 } from "npm:ajv@8.20.0/dist/2020.js";
import { readApiDocument } from "../../models/openapi_document.ts";
import { listOperations, schemesOf, serversOf, toolsOf } from "../../models/openapi_operations.ts";
import { npmPackage } from "../dtma/stdio_server.ts";

const DOCUMENTS = [
  {
    name: "@blockfrost/openapi",
    version: "0.1.93",
    file: "openapi.yaml",
    operations: 129,
    // Of IPFS, which has a host of its own.
    obstacles: 6,
    scheme: "header project_id plain",
  },
  {
    name: "@ideal-postcodes/openapi",
    version: "4.21.0",
    file: "dist/openapi.json",
    operations: 31,
    obstacles: 0,
    // Its key is a parameter of each operation.
    scheme: null,
  },
];

for (const { name, version, file, scheme, ...counts } of DOCUMENTS) {
  Deno.test(`each operation of ${name} is a tool whose schemas hold, or says why not`, async () => {
    const root = await npmPackage(name, version);
    const { document } = readApiDocument(await Deno.readTextFile(`${root}/${file}`));
    const operations = listOperations(document);
    const withObstacle = operations.filter(({ obstacle }) => obstacle !== null);
    assert.deepEqual(
      { operations: operations.length, obstacles: withObstacle.length },
      counts,
      JSON.stringify(withObstacle, null, 1),
    );
    assert.ok(serversOf(document).every(({ url }) => url.startsWith("https://")));
    const schemes = schemesOf(document).map(({ place, name, scheme }) =>
      `${place} ${name} ${scheme}`
    );
    assert.ok(scheme === null ? schemes.length === 0 : schemes.includes(scheme), schemes.join());
    const credentials = [{ place: "query", name: "api_key" } as const];
    const keys = operations.map(({ key }) => key);
    const tools = toolsOf(document, keys, { tellsShape: true, credentials });
    assert.ok(!JSON.stringify(tools).includes('"api_key"'), "a credential is no argument");
    assert.equal(tools.length, counts.operations - counts.obstacles);
    assert.ok(tools.some(({ definition }) => definition.outputSchema));
    for (const { definition } of tools) {
      assert.match(definition.name, /^[A-Za-z0-9_-]{1,50}$/);
      for (const schema of [definition.inputSchema, definition.outputSchema]) {
        if (schema) new Ajv2020({ strict: false, validateFormats: false }).compile(schema);
      }
    }
  });
}
