import { z } from "zod";
import { credentialFields, OTHER_SERVER, PLAIN_HTTP_CONSENT } from "../../models/api_entries.ts";
import {
  type ApiDocumentRow,
  changeApi,
  deployApi,
  getApiDocument,
  importApiDocument,
  operationsOf,
} from "../../models/api_servers.ts";
import { NotFound } from "../../models/errors.ts";
import { getServer } from "../../models/servers.ts";
import { type Asked, Int, operation } from "./operation.ts";
import { placed, readServer, serverId, ServerShape } from "./servers.ts";

const Key = z.string().min(1).max(2000).describe("As its document's operations are keyed");

const ApiDocument = z.object({
  id: z.uuid(),
  serverId: z.uuid().nullable().describe("The server whose operations are chosen from it"),
  sourceUrl: z.string().nullable(),
  title: z.string(),
  version: z.string(),
  openapi: z.string().describe("The version of OpenAPI that it was given in"),
  createdAt: z.iso.datetime(),
  servers: z.array(z.object({
    url: z.string(),
    description: z.string(),
    variables: z.array(z.object({
      name: z.string(),
      default: z.string(),
      choices: z.array(z.string()),
      description: z.string(),
    })),
  })),
  credentials: z.array(z.object({
    scheme: z.string().describe("As the document calls it"),
    variables: z.array(z.string()).describe("By which its values are given"),
  })),
  operations: z.array(z.object({
    key: Key,
    method: z.string(),
    path: z.string(),
    summary: z.string(),
    tag: z.string(),
    name: z.string().describe("The name of its tool"),
    bytes: z.int().describe("What a model is given of it, as JSON"),
    isReadOnly: z.boolean(),
    isDeprecated: z.boolean(),
    obstacle: z.string().nullable().describe("Why it cannot be a tool"),
  })),
  changes: z.array(z.object({
    key: Key,
    name: z.string(),
    state: z.enum(["gone", "changed"]),
    parts: z.array(z.string()),
  })).describe("Of the server's own operations: what is another one in this document"),
}).meta({ id: "ApiDocument" });
export type ApiDocumentShape = z.infer<typeof ApiDocument>;

const source = {
  url: z.string().max(2000).optional().describe("Where it is, with https"),
  text: z.string().optional().describe("Or the document itself: JSON or YAML"),
};
const choice = {
  operations: z.array(Key).min(1).max(200),
  tellsShape: z.boolean().default(true).describe("Tools have output schemas"),
};
const documentId = { document: z.uuid().describe("An OpenAPI document's id") };

/** REST APIs as servers. */
export const apiServerOperations = [
  operation({
    name: "read_api_document",
    method: "POST",
    path: "/api-documents",
    scopes: ["servers:write"],
    summary: "Read an OpenAPI document, for operations of it to be chosen",
    description:
      "With a server, it is a newer document of that one. Of those that no server is made " +
      "of, the last 20 are kept for a day.",
    input: z.strictObject({ ...source, server: z.uuid().optional() }),
    output: ApiDocument,
    isCreating: true,
    run: async (asked, { server, ...given }) => {
      const { deps: { db, outside }, bearer: { user, workspace } } = asked;
      const of = server && await getServer(db, user, server);
      const id = await importApiDocument(
        db,
        user,
        of ? of.workspaceId : workspace.id,
        { ...given, serverId: of ? of.id : undefined },
        outside,
      );
      return await shown(asked, await getApiDocument(db, user, id));
    },
  }),
  operation({
    name: "get_api_document",
    method: "GET",
    path: "/api-documents/{document}",
    scopes: ["read"],
    summary: "Read which operations an OpenAPI document has",
    input: z.strictObject(documentId),
    output: ApiDocument,
    run: async (asked, { document }) =>
      await shown(asked, await getApiDocument(asked.deps.db, asked.bearer.user, document)),
  }),
  operation({
    name: "add_api_server",
    method: "POST",
    path: "/servers/api",
    scopes: ["servers:write"],
    summary: "Add a REST API: chosen operations of an OpenAPI document as tools",
    input: z.strictObject({
      ...documentId,
      ...placed,
      ...choice,
      address: z.union([z.int().min(0).max(99), z.string().max(2000)]).default(0).describe(
        "Which of the document's servers, by its place in the list, or another URL",
      ),
      variables: z.record(z.string().max(60), z.string().max(200)).default({})
        .describe("Of the server's URL"),
      credentials: z.record(z.string().max(128), z.string().max(32_768)).default({})
        .describe("Values by variable; kept as secrets"),
      ownCredential: z.strictObject({
        kind: z.enum(["bearer", "basic", "header", "query"]),
        name: z.string().max(100).optional().describe("Of the header, or in the query"),
      }).optional().describe(
        "Another way to send one: its values are the credentials AUTH_OWN, or AUTH_OWN_USER and " +
          "AUTH_OWN_PASSWORD",
      ),
      agreesToPlainHttp: z.boolean().default(false).describe(
        "That credentials are sent over http, readable on the way",
      ),
    }),
    output: ServerShape,
    isCreating: true,
    versionOf: ({ generation }) => generation,
    run: async (asked, input) => {
      const { deps: { db, secretsKey }, bearer: { user, workspace }, idempotencyKey } = asked;
      const { document, operations, tellsShape, name, toolboxId, label } = input;
      const request = { name, toolboxId, label, workspaceId: workspace.id, idempotencyKey };
      const made = await deployApi(
        db,
        user,
        document,
        { ...request, form: formOf(input), keys: operations, tellsShape },
        secretsKey,
      );
      return await readServer(asked, made.serverId);
    },
  }),
  operation({
    name: "change_api_operations",
    method: "PUT",
    path: "/servers/{server}/operations",
    scopes: ["servers:write"],
    summary: "Give a REST API's server other operations, or those of a newer document",
    description:
      "What is another definition then is withheld from agents until a person approves it.",
    input: z.strictObject({
      ...serverId,
      ...documentId,
      generation: Int.describe("The generation that the change was made from"),
      ...choice,
    }),
    output: ServerShape,
    basedOn: "generation",
    versionOf: ({ generation }) => generation,
    run: async (asked, { server, document, operations, tellsShape, generation }) => {
      const { deps: { db }, bearer: { user } } = asked;
      const row = await getApiDocument(db, user, document);
      if (row.serverId !== server) throw new NotFound("The server has no such document");
      const change = { keys: operations, tellsShape, baseGeneration: generation };
      await changeApi(db, user, document, change);
      return await readServer(asked, server);
    },
  }),
];

/** The fields of the page's form. */
function formOf(input: {
  address: number | string;
  variables: Record<string, string>;
  credentials: Record<string, string>;
  ownCredential?: { kind: string; name?: string };
  agreesToPlainHttp: boolean;
}): Record<string, string> {
  const { address, variables, credentials, ownCredential, agreesToPlainHttp } = input;
  const form: Record<string, string> = { [PLAIN_HTTP_CONSENT]: String(agreesToPlainHttp) };
  if (typeof address === "number") form.server = String(address);
  else Object.assign(form, { server: OTHER_SERVER, baseUrl: address });
  for (const [name, value] of Object.entries(variables)) {
    form[`variable.${address}.${name}`] = value;
  }
  for (const [name, value] of Object.entries(credentials)) form[`env.${name}`] = value;
  if (ownCredential) {
    form["own.kind"] = ownCredential.kind;
    form["own.name"] = ownCredential.name ?? "";
  }
  return form;
}

async function shown({ deps: { db }, bearer: { user } }: Asked, row: ApiDocumentRow) {
  const server = row.serverId === null ? null : await getServer(db, user, row.serverId);
  const present = server && await operationsOf(db, user, server, row.id);
  return {
    ...row,
    credentials: credentialFields(row.schemes).map(({ scheme, inputs }) => ({
      scheme: scheme.id,
      variables: inputs.map(({ variable }) => variable),
    })),
    changes: present?.changes ?? [],
  };
}
