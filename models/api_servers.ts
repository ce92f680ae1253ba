/** Servers that are REST APIs: their OpenAPI documents, and the operations that are chosen from them. */
import canonicalize from "canonicalize";
import { v7 } from "uuid";
import type { ApiCredential, ApiPlan, ApiTool } from "../dtma/protocol.ts";
import { apiEntry, ownCredential, readPlan, withTools } from "./api_entries.ts";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, Forbidden, Invalid, isDenied, NotFound } from "./errors.ts";
import { withoutNul } from "./events.ts";
import {
  type ApiDocument,
  DOCUMENT_LIMIT_BYTES,
  type JsonObject,
  readApiDocument,
} from "./openapi_document.ts";
import {
  type ApiOperation,
  type ApiScheme,
  type ApiServer,
  listOperations,
  schemesOf,
  serversOf,
  toolKey,
  toolsOf,
} from "./openapi_operations.ts";
import type { Outside } from "./outside.ts";
import type { SecretsKey } from "./secrets.ts";
import {
  changing,
  deployEntry,
  type Deployment,
  nextGeneration,
  sayRequest,
  type Server,
} from "./servers.ts";

/** An operation as its document's page lists it. */
export interface ListedOperation extends Omit<ApiOperation, "definition"> {
  /** Of what a model is given of it, in bytes of JSON. */
  bytes: number;
}

interface Summary {
  servers: ApiServer[];
  schemes: ApiScheme[];
  operations: ListedOperation[];
}

/** A document as it was read, without its text. */
export interface ApiDocumentRow extends Omit<ApiDocument, "document">, Summary {
  id: string;
  workspaceId: string;
  /** The server whose operations are chosen from it; null: it is none's yet. */
  serverId: string | null;
  sourceUrl: string | null;
  createdAt: Date;
  usedAt: Date | null;
}

/** Documents of which no server was made are kept so long, and so many of a workspace. */
const DRAFTS_KEPT = "1 day";
const DRAFTS_LIMIT = 20;
const FETCH_TIMEOUT_MS = 30_000;

/**
 * Reads an OpenAPI document, and keeps it for its operations to be chosen.
 *
 * @param given its address, or else its text
 * @param given.serverId the server that it is a newer document of
 * @returns its id
 * @throws {Invalid} with a sentence under `url` or `document`
 * @throws {Forbidden} for viewers
 */
export async function importApiDocument(
  db: Database,
  user: User,
  workspaceId: string,
  given: { url?: string; text?: string; serverId?: string },
  outside: Outside,
): Promise<string> {
  const url = given.url?.trim(), text = given.text ?? "";
  if (!url && text.trim() === "") {
    const message = "Give the document's address, a file, or its text";
    throw new Invalid(message, { document: message });
  }
  const sourceUrl = url ? readUrl(url) : null;
  const read = readApiDocument(sourceUrl ? await fetched(sourceUrl, outside) : text);
  const summary = JSON.stringify(summaryOf(read.document, sourceUrl));
  const id = v7();
  try {
    await db.asUser(user, async (sql) => {
      await sql`
        delete from api_documents where workspace_id = ${workspaceId} and used_at is null
          and (created_at < now() - ${DRAFTS_KEPT}::interval or id in (
            select id from api_documents where workspace_id = ${workspaceId} and used_at is null
            order by created_at desc offset ${DRAFTS_LIMIT - 1}))`;
      await sql`
        insert into api_documents (id, workspace_id, server_id, source_url, title, version, openapi,
          description, document, summary)
        values (${id}, ${workspaceId}, ${given.serverId ?? null}, ${sourceUrl?.href ?? null},
          ${withoutNul(read.title)}, ${withoutNul(read.version)}, ${read.openapi},
          ${withoutNul(read.description)}, ${JSON.stringify(read.document)}, ${summary})`;
    });
  } catch (error) {
    if (isDenied(error)) throw new Forbidden("Only members of the workspace can add REST APIs");
    // A check of the table's: however it is written, it was not to be longer.
    if ((error as { code?: string }).code === "23514") {
      const message = "The document is too large to be kept: its paths or texts are very long";
      throw new Invalid(message, { document: message });
    }
    throw error;
  }
  return id;
}

function readUrl(text: string): URL {
  const refuse = (message: string): never => {
    throw new Invalid(message, { url: message });
  };
  if (text.length > 2000 || !URL.canParse(text) || new URL(text).protocol !== "https:") {
    return refuse(
      "The address must be a whole https URL. A document that is elsewhere can be uploaded or pasted",
    );
  }
  const url = new URL(text);
  if (url.username || url.password) refuse("The address must have no password in it");
  url.hash = "";
  return url;
}

async function fetched(url: URL, outside: Outside): Promise<string> {
  const refuse = (message: string): never => {
    throw new Invalid(message, { url: message });
  };
  try {
    const response = await outside(url, {
      headers: { accept: "application/json, application/yaml, text/yaml, */*;q=0.5" },
      limitBytes: DOCUMENT_LIMIT_BYTES,
      timeoutMs: FETCH_TIMEOUT_MS,
    });
    if (response.status !== 200) {
      await response.body?.cancel();
      return refuse(`${url.host} answers ${response.status} there, and no document`);
    }
    return await response.text();
  } catch (error) {
    // OutsideError: of other modules by its name alone, for a test's way out may be another's.
    if ((error as Error).name === "OutsideError") return refuse((error as Error).message);
    throw error;
  }
}

function summaryOf(document: JsonObject, sourceUrl: URL | null): Summary {
  return {
    servers: serversOf(document).flatMap((server) => {
      const url = wholeUrl(server.url, sourceUrl);
      return url === null ? [] : [{ ...server, url }];
    }),
    schemes: schemesOf(document),
    operations: listOperations(document).map(({ definition, ...operation }) => ({
      ...operation,
      bytes: modelBytes(definition),
    })),
  };
}

/** A server's URL may be relative to where its document is (3.1, "Server Object"). */
function wholeUrl(url: string, sourceUrl: URL | null): string | null {
  if (/^(https?:\/\/|\{)/i.test(url)) return url;
  if (!sourceUrl) return null;
  if (url.startsWith("//")) return sourceUrl.protocol + url;
  return url.startsWith("/")
    ? sourceUrl.origin + url
    : new URL(".", sourceUrl).href + url.replace(/^\.\//, "");
}

/** What clients pass on to a model: neither its title nor its annotations. */
function modelBytes(definition: string): number {
  if (definition === "") return 0;
  const { name, description, inputSchema } = JSON.parse(definition);
  return new TextEncoder().encode(JSON.stringify({ name, description, inputSchema })).length;
}

/** @throws {NotFound} */
export async function getApiDocument(
  db: Database,
  user: User,
  id: string,
): Promise<ApiDocumentRow> {
  return await db.asUser(user, (sql) => readRow(sql, id));
}

async function readRow(sql: Sql, id: string): Promise<ApiDocumentRow> {
  const [row] = await sql<(Omit<ApiDocumentRow, keyof Summary> & { summary: string })[]>`
    select id, workspace_id as "workspaceId", server_id as "serverId", source_url as "sourceUrl", title,
      version, openapi, description, summary, created_at as "createdAt", used_at as "usedAt"
    from api_documents where id = ${id}`;
  if (!row) {
    throw new NotFound(
      "There is no such document. One that no server was made of goes after a day",
    );
  }
  const { summary, ...rest } = row;
  return { ...rest, ...JSON.parse(summary) as Summary };
}

/** The tools of a document's chosen operations. */
async function chosenTools(
  sql: Sql,
  id: string,
  { keys, ...options }: ApiChoice & { credentials: Pick<ApiCredential, "place" | "name">[] },
): Promise<ApiTool[]> {
  const [{ document }] = await sql<{ document: string }[]>`
    select document from api_documents where id = ${id}`;
  return toolsOf(JSON.parse(document), keys, options);
}

/** The document that a server's operations are chosen from; null: none is kept, as of an imported server. */
export async function documentOfServer(
  db: Database,
  user: User,
  serverId: string,
): Promise<string | null> {
  const [row] = await db.asUser(user, (sql) =>
    sql<{ id: string }[]>`
      select id from api_documents where server_id = ${serverId} and used_at is not null
      order by used_at desc limit 1`);
  return row?.id ?? null;
}

export interface ApiChoice {
  /** Of operations: {@link ListedOperation}. */
  keys: string[];
  /** Tools say in which shape they answer. */
  tellsShape: boolean;
}

/**
 * Deploys chosen operations of a document as a server.
 * @param request.form as {@link apiEntry} takes it
 * @throws {Invalid | NotFound | Forbidden} as {@link apiEntry} and `deployEntry`
 */
export async function deployApi(
  db: Database,
  user: User,
  documentId: string,
  { keys, tellsShape, ...request }: Deployment & ApiChoice,
  secretsKey: SecretsKey,
): Promise<{ serverId: string; created: boolean }> {
  const { row, tools } = await db.asUser(user, async (sql) => ({
    row: await readRow(sql, documentId),
    tools: await chosenTools(sql, documentId, {
      keys,
      tellsShape,
      credentials: ownCredential(request.form),
    }),
  }));
  if (row.workspaceId !== request.workspaceId) throw new NotFound("There is no such document");
  const entry = apiEntry(row, tools, request.form);
  const also = async (sql: Sql, serverId: string) => {
    // Read again: another server may have been made of it since.
    const now = await readRow(sql, documentId);
    await use(sql, now.serverId === null ? documentId : await copy(sql, now), serverId);
  };
  return await deployEntry(db, user, { ...request, entry, also }, secretsKey);
}

/** Of a document that another server has meanwhile, as of a form that was open twice. */
async function copy(sql: Sql, { id }: ApiDocumentRow): Promise<string> {
  const own = v7();
  await sql`
    insert into api_documents (id, workspace_id, source_url, title, version, openapi, description, document,
      summary)
    select ${own}, workspace_id, source_url, title, version, openapi, description, document, summary
    from api_documents where id = ${id}`;
  return own;
}

/** Of the documents that a server had only the one of now is kept. */
async function use(sql: Sql, id: string, serverId: string): Promise<void> {
  await sql`update api_documents set server_id = ${serverId}, used_at = now() where id = ${id}`;
  await sql`delete from api_documents where server_id = ${serverId} and id <> ${id}`;
}

/**
 * Gives a server other operations, or those of a newer document, as its next generation. What agents had
 * approved and is another definition now is withheld until a person approves it.
 *
 * @param change.baseGeneration the generation that the page was made from
 * @throws {Conflict} the server has a newer one
 * @throws {Invalid | NotFound | Forbidden}
 */
export async function changeApi(
  db: Database,
  user: User,
  documentId: string,
  { keys, tellsShape, baseGeneration }: ApiChoice & { baseGeneration: number },
): Promise<string> {
  const { serverId } = await getApiDocument(db, user, documentId);
  if (serverId === null) throw new NotFound("No server is made of this document yet");
  await changing(db, user, serverId, async (sql, server) => {
    if (server.generation !== baseGeneration) {
      throw new Conflict(
        "The server's configuration was changed while you chose: reload the page and try again",
      );
    }
    const row = await readRow(sql, documentId);
    const entry = withTools(
      server.config.entry,
      row,
      await chosenTools(sql, documentId, {
        keys,
        tellsShape,
        credentials: planOf(server).credentials,
      }),
    );
    const isSame = canonicalize(entry) === canonicalize(server.config.entry);
    if (!isSame) {
      await nextGeneration(sql, user, server, { ...server.config, entry }, server.running);
      await sayRequest(sql, user, server, "Changed the operations of its API");
    }
    await use(sql, documentId, serverId);
  });
  return serverId;
}

/** A chosen operation that is another one in a document than it is in its server. */
export interface OperationChange {
  key: string;
  name: string;
  state: "gone" | "changed";
  /** What of it: `description`, `arguments`, `results`, `request`. */
  parts: string[];
}

export interface ServerOperations extends ApiChoice {
  changes: OperationChange[];
}

/** What a server has of a document, and what of that is another there. */
export async function operationsOf(
  db: Database,
  user: User,
  server: Server,
  documentId: string,
): Promise<ServerOperations> {
  const { tools, credentials } = planOf(server);
  const keys = tools.map(toolKey);
  const tellsShape = tools.some(({ definition }) => definition.outputSchema !== undefined);
  const now = await db.asUser(
    user,
    (sql) => chosenTools(sql, documentId, { keys, tellsShape, credentials }),
  );
  const changes = tools.flatMap((tool): OperationChange[] => {
    const key = toolKey(tool), { name } = tool.definition;
    const other = now.find((each) => toolKey(each) === key);
    if (!other) return [{ key, name, state: "gone", parts: [] }];
    const parts = differingParts(tool, other);
    return parts.length > 0 ? [{ key, name, state: "changed", parts }] : [];
  });
  return { keys, tellsShape, changes };
}

function planOf({ config: { entry: { package: from } } }: Server): ApiPlan {
  if (from.registry !== "openapi") throw new NotFound("The server is no REST API");
  return readPlan(from.plan);
}

function differingParts(one: ApiTool, other: ApiTool): string[] {
  const { definition: a, ...requestA } = one, { definition: b, ...requestB } = other;
  const differ = (x: unknown, y: unknown) => canonicalize(x ?? null) !== canonicalize(y ?? null);
  return [
    ...(a.name !== b.name ? ["name"] : []),
    ...(differ([a.title, a.description], [b.title, b.description]) ? ["description"] : []),
    ...(differ(a.inputSchema, b.inputSchema) ? ["arguments"] : []),
    ...(differ(a.outputSchema, b.outputSchema) ? ["results"] : []),
    ...(differ(requestA, requestB) ? ["request"] : []),
  ];
}

/**
 * Fetches a server's document again, from where it came.
 * @returns the id of what is there now, whose operations can be chosen
 * @throws {Invalid} it did not come from an address, or is not there any more
 */
export async function checkApiAgain(
  db: Database,
  user: User,
  documentId: string,
  outside: Outside,
): Promise<string> {
  const { sourceUrl, serverId, workspaceId } = await getApiDocument(db, user, documentId);
  if (sourceUrl === null || serverId === null) {
    const message = "The document came from no address: upload or paste a newer one";
    throw new Invalid(message, { document: message });
  }
  return await importApiDocument(db, user, workspaceId, { url: sourceUrl, serverId }, outside);
}
