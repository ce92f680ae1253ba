import { type Context, Hono } from "hono";
import { z } from "zod";
import { STDIO } from "../dtma/protocol.ts";
import { API_MEMORY_MIB, credentialFields } from "../models/api_entries.ts";
import {
  type ApiDocumentRow,
  changeApi,
  checkApiAgain,
  deployApi,
  documentOfServer,
  getApiDocument,
  importApiDocument,
  operationsOf,
} from "../models/api_servers.ts";
import { Invalid, NotFound } from "../models/errors.ts";
import { DOCUMENT_LIMIT_BYTES } from "../models/openapi_document.ts";
import { getServer } from "../models/servers.ts";
import { listToolboxes } from "../models/toolboxes.ts";
import { AddApi, type AddApiProps } from "../views/api_add.tsx";
import { ApiOperations } from "../views/api_operations.tsx";
import type { Deps, Env } from "./deps.ts";
import { placing } from "./placing.ts";
import { formOf, goTo, page } from "./render.tsx";

/** What a form with an OpenAPI document may hold, and the paths of such. */
export const DOCUMENT_FORM_LIMIT_BYTES = DOCUMENT_LIMIT_BYTES + 1024 * 1024;
export const DOCUMENT_FORMS = /^\/servers\/(api|[0-9a-f-]{36}\/api)$/;

const Form = z.object({
  name: z.string().trim().optional(),
  /** Left empty: the app chooses. */
  toolboxId: z.preprocess((value) => value || undefined, z.uuid().optional()),
  label: z.preprocess((value) => value || undefined, z.string().max(200).optional()),
  idempotencyKey: z.uuid(),
});

const Change = z.object({ baseGeneration: z.coerce.number().int() });

/** More than these are read by nobody: then nothing is chosen beforehand. */
const PRECHOSEN_LIMIT = 60;

/** REST APIs: an OpenAPI document is given, and operations of it are chosen as a server's tools. */
export function apiServerRoutes(deps: Deps) {
  const { db, secretsKey, outside } = deps;
  return new Hono<Env>()
    .get("/servers/api", (c) => page(c, ADD, <AddApi values={{}} mistakes={{}} />))
    .post("/servers/api", (c) => imported(c, {}))
    .get("/servers/api/:document", (c) => operationsPage(c))
    .post("/servers/api/:document", async (c) => {
      const documentId = documentOf(c), user = c.get("user");
      const form = await formOf(c), keys = await keysOf(c);
      const tellsShape = form.tellsShape === "true";
      try {
        if ("baseGeneration" in form) {
          const { baseGeneration } = Change.parse(form);
          const change = { keys, tellsShape, baseGeneration };
          const serverId = await changeApi(db, user, documentId, change);
          return goTo(c, `/servers/${serverId}`, "saved");
        }
        const parsed = Form.safeParse(form);
        if (!parsed.success) throw new Invalid("The form is not whole: open it again");
        const workspaceId = c.get("workspace").id;
        const request = { ...parsed.data, workspaceId, form, keys, tellsShape };
        const { serverId } = await deployApi(db, user, documentId, request, secretsKey);
        return goTo(c, `/servers/${serverId}`);
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return await operationsPage(c, { form, keys, error });
      }
    })
    .get("/servers/:id/api", async (c) => {
      const server = await getServer(db, c.get("user"), serverOf(c));
      if (server.config.entry.package.registry !== "openapi") {
        throw new NotFound("The server is no REST API");
      }
      const documentId = await documentOfServer(db, c.get("user"), server.id);
      if (documentId) return goTo(c, `/servers/api/${documentId}`);
      return page(
        c,
        `Operations of ${server.name}`,
        <AddApi values={{}} mistakes={{}} of={server} />,
      );
    })
    .post("/servers/:id/api", async (c) => {
      const server = await getServer(db, c.get("user"), serverOf(c));
      return await imported(c, { of: server });
    })
    .post("/servers/api/:document/check", async (c) => {
      try {
        const id = await checkApiAgain(db, c.get("user"), documentOf(c), outside);
        return goTo(c, `/servers/api/${id}`);
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return await operationsPage(c, { checking: error.message });
      }
    });

  /** Takes a document from its address, a file or a text, and goes on to its operations. */
  async function imported(c: Context<Env>, { of }: Pick<AddApiProps, "of">) {
    const body = await c.req.parseBody(), form = await formOf(c);
    const file = body.file instanceof File && body.file.size > 0 ? body.file : null;
    try {
      const given = { url: form.url, text: file ? await file.text() : form.document };
      const id = await importApiDocument(
        db,
        c.get("user"),
        of?.workspaceId ?? c.get("workspace").id,
        {
          ...(file ? { text: given.text } : given),
          serverId: of?.id,
        },
        outside,
      );
      return goTo(c, `/servers/api/${id}`);
    } catch (error) {
      if (!(error instanceof Invalid)) throw error;
      const title = of ? `Operations of ${of.name}` : ADD;
      const { fields, message } = error;
      return page(
        c,
        title,
        <AddApi values={form} mistakes={fields} message={message} of={of} />,
        422,
      );
    }
  }

  async function operationsPage(
    c: Context<Env>,
    again?: { form?: Record<string, string>; keys?: string[]; error?: Invalid; checking?: string },
  ) {
    const user = c.get("user"), row = await getApiDocument(db, user, documentOf(c));
    const server = row.serverId ? await getServer(db, user, row.serverId) : null;
    const present = server && await operationsOf(db, user, server, row.id);
    const form = again?.form ?? {};
    const toolboxes = await listToolboxes(db, user, c.get("workspace").id);
    return page(
      c,
      row.title,
      <ApiOperations
        document={row}
        credentials={credentialFields(row.schemes)}
        server={server}
        changes={present?.changes ?? []}
        chosen={new Set(again?.keys ?? present?.keys ?? prechosen(row))}
        tellsShape={again?.form ? form.tellsShape === "true" : present?.tellsShape ?? true}
        values={form}
        mistakes={again?.error?.fields ?? {}}
        message={again?.error?.message}
        checking={again?.checking}
        idempotencyKey={z.uuid().safeParse(form.idempotencyKey).data ?? crypto.randomUUID()}
        {...placing(
          toolboxes,
          { memoryMiB: API_MEMORY_MIB, tier: "standard", transport: STDIO },
          { label: form.label || undefined, registry: "openapi" },
        )}
      />,
      again?.error || again?.checking ? 422 : 200,
    );
  }
}

const ADD = "Add a REST API";

/** Those that only read, if they are few enough to be read. */
function prechosen({ operations }: ApiDocumentRow): string[] {
  const reading = operations.filter(({ isReadOnly, isDeprecated, obstacle }) =>
    isReadOnly && !isDeprecated && obstacle === null
  );
  return reading.length <= PRECHOSEN_LIMIT ? reading.map(({ key }) => key) : [];
}

function documentOf(c: Context<Env>): string {
  const id = z.uuid().safeParse(c.req.param("document"));
  if (!id.success) throw new NotFound("There is no such document");
  return id.data;
}

function serverOf(c: Context<Env>): string {
  const id = z.uuid().safeParse(c.req.param("id"));
  if (!id.success) throw new NotFound("There is no such server");
  return id.data;
}

async function keysOf(c: Context<Env>): Promise<string[]> {
  const { operation } = await c.req.parseBody({ all: true });
  return [operation ?? []].flat().filter((key) => typeof key === "string");
}
