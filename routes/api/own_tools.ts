/** The operations that an agent may be given as tools: few, and none that shows or takes a secret. */
import { z } from "zod";
import type { OwnTools } from "../../mcp/own_server.ts";
import { askedInputs, buildCodeOf, findCatalogEntry } from "../../models/catalog_entries.ts";
import { type Manager, managerOf } from "../../models/management_grants.ts";
import type { AppDeps } from "../deps.ts";
import { answerOf, type Operation } from "./operation.ts";
import { OPERATIONS } from "./operations.ts";
import { invalidInput, said } from "./problems.ts";
import { ServerShape } from "./servers.ts";

interface OwnTool {
  operation: Operation;
  input: z.ZodObject;
  output: z.ZodType;
  /** What the operation is given besides, or in place of, what the model says. */
  given(agentId: string): Record<string, unknown>;
}

const server = { server: z.uuid().describe("A server's id") };
const Status = ServerShape.pick({
  id: true,
  name: true,
  slug: true,
  status: true,
  statusDetail: true,
  running: true,
  toolboxName: true,
  tools: true,
});

/** How an operation is narrowed for a model. */
const NARROWED: Record<string, Partial<OwnTool>> = {
  search_catalog: {},
  get_catalog_entry: {},
  list_servers: {},
  get_server: { output: Status },
  list_tools: {},
  list_events: {},
  deploy_server: {
    // No options and no consent: what loosens a sandbox or runs code at a build is a person's to say.
    input: z.strictObject({
      entry: z.string().min(1).max(63).describe("The catalog entry's slug"),
      name: z.string().max(80).optional(),
      inputs: z.record(z.string().max(200), z.union([z.string(), z.number(), z.boolean()]))
        .default({}).describe("By an input's field or name. Never a secret"),
    }),
    output: Status,
  },
  connect_server: {
    input: z.strictObject(server),
    output: z.object({ serverId: z.uuid(), serverName: z.string(), serverSlug: z.string() }),
    given: (agent) => ({ agent }),
  },
};

const TOOLS = new Map(
  OPERATIONS.flatMap(({ operations }) => operations)
    .filter(({ name }) => Object.hasOwn(NARROWED, name))
    .map((operation) => {
      const { input, output } = operation;
      return [operation.name, {
        operation,
        input,
        output: output!,
        given: () => ({}),
        ...NARROWED[operation.name],
      }] as [string, OwnTool];
    }),
);

/** Mooring's own tools, for the bridge. */
export function ownTools(deps: AppDeps): OwnTools {
  return {
    async of(agentId) {
      const manager = await managerOf(deps.db, agentId);
      if (!manager) return [];
      return [...TOOLS.values()].filter((tool) => allows(manager, tool)).map(definitionOf);
    },
    async call(agentId, name, args, signal) {
      // As it is now: a list is older.
      const manager = await managerOf(deps.db, agentId), tool = TOOLS.get(name);
      if (!manager || !tool || !allows(manager, tool)) {
        return told("This agent may not do this any more: ask an admin of the workspace");
      }
      const parsed = tool.input.safeParse(args);
      try {
        if (!parsed.success) throw invalidInput(parsed.error);
        const isRead = tool.operation.method === "GET";
        const forPerson = isRead ? null : await whyForPerson(deps, manager, name, parsed.data);
        if (forPerson) return told(forPerson);
        const { operation, output } = tool;
        const asked = {
          deps,
          bearer: manager.bearer,
          idempotencyKey: crypto.randomUUID(),
          signal,
        };
        const input = operation.input.parse({ ...parsed.data, ...tool.given(agentId) });
        const value = answerOf({ ...operation, output }, await operation.run(asked, input));
        const text = [JSON.stringify(value)];
        if (name === "deploy_server") text.push(deployedNote(deps, value as { id: string }));
        return {
          content: text.map((text) => ({ type: "text", text })),
          structuredContent: value,
        };
      } catch (error) {
        const { kind, detail, errors = [] } = said(error);
        if (kind === "internal") throw error;
        return told(
          [detail, ...errors.map(({ pointer, detail }) => `${pointer}: ${detail}`)].join("\n"),
        );
      }
    },
  };
}

function allows({ bearer }: Manager, { operation }: OwnTool): boolean {
  return operation.scopes.every((scope) => bearer.scopes.includes(scope));
}

/** Why a person has to do this themselves, and where; null when the agent may. */
async function whyForPerson(
  { db, baseUrl }: AppDeps,
  { bearer, leavesChangesToPeople }: Manager,
  name: string,
  input: Record<string, unknown>,
): Promise<string | null> {
  const base = baseUrl.href.replace(/\/$/, "");
  if (name !== "deploy_server") {
    return leavesChangesToPeople
      ? `A person connects servers in this workspace: ask them to, at ${base}/agents/${bearer.tokenId}`
      : null;
  }
  const { entry } = await findCatalogEntry(db, bearer.user, String(input.entry));
  const page = `${base}/marketplace/${entry.slug}`;
  if (leavesChangesToPeople) {
    return `A person deploys servers in this workspace: ask them to, at ${page}`;
  }
  const asked = askedInputs(entry), given = Object.keys(input.inputs as object);
  const secrets = asked.filter(({ input }) => input.isSecret);
  const isGiven = secrets.some(({ field, input }) =>
    given.includes(field) || given.includes(input.name)
  );
  if (isGiven || secrets.some(({ input }) => input.isRequired)) {
    const names = secrets.map(({ input }) => input.name).join(", ");
    return `This server takes secrets (${names}), which a model must not handle: ask a person to ` +
      `deploy it, at ${page}`;
  }
  return buildCodeOf(entry)
    ? `Code runs while this server's image is built, which a person has to agree to, at ${page}`
    : null;
}

function deployedNote({ baseUrl }: AppDeps, { id }: { id: string }): string {
  const page = `${baseUrl.href.replace(/\/$/, "")}/servers/${id}`;
  return "It is being started: get_server says how far it is. A person has to approve its tools " +
    `before any agent gets them, at ${page}#tools`;
}

const definitions = new Map<string, ReturnType<typeof makeDefinition>>();

function definitionOf(tool: OwnTool) {
  const { name } = tool.operation;
  const known = definitions.get(name) ?? makeDefinition(tool);
  definitions.set(name, known);
  return known;
}

function makeDefinition({ operation, input, output }: OwnTool) {
  const { name, summary, description, method } = operation;
  const isRead = method === "GET";
  return {
    name,
    title: summary,
    description: [summary, description].filter(Boolean).join(". "),
    inputSchema: schemaOf(input, "input"),
    outputSchema: schemaOf(output, "output"),
    annotations: {
      readOnlyHint: isRead,
      destructiveHint: false,
      idempotentHint: name !== "deploy_server",
      openWorldHint: false,
    },
  };
}

function schemaOf(schema: z.ZodType, io: "input" | "output"): { type: "object" } {
  const { $schema: _, ...json } = z.toJSONSchema(schema, {
    io,
    override: ({ jsonSchema }) => {
      // Draft 4's name for $id, which validators refuse.
      delete jsonSchema.id;
      if (io === "output" && jsonSchema.additionalProperties === false) {
        delete jsonSchema.additionalProperties;
      }
    },
  });
  return { type: "object", ...json as object };
}

function told(text: string) {
  return { content: [{ type: "text", text }], isError: true };
}
