/**
 * What an agent that manages Mooring is given as tools: few of the operations, narrowed, and none that shows
 * or takes a secret. What it may not do by itself it asks people for (models/wishes.ts).
 */
import { z } from "zod";
import type { OwnAnswer, OwnTools } from "../../mcp/own_server.ts";
import { getAgent } from "../../models/agents.ts";
import {
  askedInputs,
  buildCodeOf,
  findCatalogEntry,
  secretsOf,
} from "../../models/catalog_entries.ts";
import { Conflict, Invalid } from "../../models/errors.ts";
import { type Manager, managerOf } from "../../models/management_grants.ts";
import { readForm } from "../../models/server_form.ts";
import { getServer, sameServer } from "../../models/servers.ts";
import {
  type Asked as AskedFor,
  type Basis,
  makeWish,
  type OwnWish,
  SCOPE_OF,
  WISH_STATES,
  wishOfAgent,
  withdrawWish,
} from "../../models/wishes.ts";
import { validName } from "../../models/workspaces.ts";
import { visibleText } from "../../views/visible_text.ts";
import type { AppDeps } from "../deps.ts";
import { answerOf, type Operation } from "./operation.ts";
import { OPERATIONS } from "./operations.ts";
import { invalidInput, said } from "./problems.ts";
import { fieldsOf, ServerShape } from "./servers.ts";

/** Who calls a tool, and for whom. */
interface Caller extends Manager {
  agentId: string;
  signal: AbortSignal;
}

interface OwnTool {
  name: string;
  title: string;
  description: string;
  input: z.ZodObject;
  output: z.ZodType;
  isRead: boolean;
  /** Whether a manager gets it. */
  isFor(manager: Manager): boolean;
  run(deps: AppDeps, caller: Caller, input: Record<string, unknown>): Promise<OwnAnswer>;
}

const server = { server: z.uuid().describe("A server's id") };
const reason = {
  reason: z.string().max(1000).optional().describe(
    "Why you want it, for the person who is asked where one has to approve it",
  ),
};
const request = { request: z.uuid().describe("The id of a request of yours") };

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

const RequestShape = z.object({
  id: z.uuid(),
  asksTo: z.string(),
  state: z.enum(WISH_STATES),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
  decidedAt: z.iso.datetime().nullable(),
  answer: z.string().nullable().describe("What the person who rejected it said"),
  server: z.uuid().nullable().describe("What was deployed, or connected to"),
  page: z.string().describe("Where a person decides"),
});

/** Done, or asked for: then there is nothing but the request. */
const orAsked = <Shape extends z.ZodRawShape>(shape: z.ZodObject<Shape>) =>
  shape.partial().extend({
    request: RequestShape.optional().describe("What a person has to approve first"),
  });

const BY_NAME = new Map(
  OPERATIONS.flatMap(({ operations }) => operations).map((each) => [each.name, each]),
);

// ── What reads ──────────────────────────────────────────────────────────────────────────────────────

const READING: Record<string, z.ZodType | null> = {
  search_catalog: null,
  get_catalog_entry: null,
  list_servers: null,
  get_server: Status,
  list_tools: null,
  list_events: null,
};

const readingTools = Object.entries(READING).map(([name, output]): OwnTool => {
  const operation = BY_NAME.get(name)!;
  return {
    ...toolOf(operation),
    output: output ?? operation.output!,
    run: async (deps, caller, input) => {
      const value = await runAs(
        { ...operation, output: output ?? operation.output },
        deps,
        caller,
        input,
      );
      return { result: resultOf(value) };
    },
  };
});

// ── What changes something ──────────────────────────────────────────────────────────────────────────

const deployServer: OwnTool = {
  ...toolOf(BY_NAME.get("deploy_server")!),
  description:
    "Deploy a catalog entry. Where a person has to approve it, the answer is the request " +
    "that waits for them; what is there already is answered as it is",
  // No options and no consent: what loosens a sandbox or runs code at a build is a person's to say.
  input: z.strictObject({
    entry: z.string().min(1).max(63).describe("The catalog entry's slug"),
    name: z.string().max(80).optional(),
    inputs: z.record(z.string().max(200), z.union([z.string(), z.number(), z.boolean()]))
      .default({}).describe("By an input's field or name. Never a secret: a person gives those"),
    ...reason,
  }),
  output: orAsked(Status),
  async run(deps, caller, input) {
    const { db } = deps, { bearer: { user, workspace }, asks } = caller;
    const { entry: slug, name, inputs, reason } = input as {
      entry: string;
      name?: string;
      inputs: Record<string, string | number | boolean>;
      reason?: string;
    };
    const { entry, obstacle } = await findCatalogEntry(db, user, slug, workspace.id);
    if (obstacle !== null) throw new Invalid(`This cannot be deployed here: ${obstacle}`);
    const secrets = secretsOf(entry);
    const given = secrets.filter(({ field, input: { name } }) =>
      Object.hasOwn(inputs, field) || Object.hasOwn(inputs, name)
    );
    if (given.length > 0) {
      const names = given.map(({ input }) => input.name).join(", ");
      throw new Invalid(
        `A model must not handle secrets: leave out ${names}, and a person is asked for it`,
      );
    }
    const form = fieldsOf(askedInputs(entry), inputs);
    const { values } = readForm(entry, form, secrets.map(({ secret }) => secret));
    const shownName = validName(name?.trim() || entry.title);
    const wanted = { workspaceId: workspace.id, slug: entry.slug, name: shownName, values };
    const same = await sameServer(db, user, wanted);
    const forPerson = asks.includes("servers:write") || buildCodeOf(entry) !== null ||
      secrets.some(({ input }) => input.isRequired);
    if (same === null && forPerson) {
      const wants = `deploy ${entry.title}${shownName === entry.title ? "" : ` as ${shownName}`}`;
      return await ask(deps, caller, {
        asked: { operation: "deploy_server", entry: slug, name: shownName, values },
        basis: { entry },
        wants,
        reason,
      });
    }
    const operation = { ...BY_NAME.get("deploy_server")!, output: Status };
    const value = same === null
      ? await runAs(operation, deps, caller, { entry: slug, name: shownName, inputs })
      : answerOf(operation, await getServer(db, user, same));
    const note = deployedNote(deps, (value as { id: string }).id);
    return { result: resultOf(value, same === null ? note : `It is there already. ${note}`) };
  },
};

const Connected = z.object({
  serverId: z.uuid(),
  serverName: z.string(),
  serverSlug: z.string(),
});

const connectServer: OwnTool = {
  ...toolOf(BY_NAME.get("connect_server")!),
  title: "Connect yourself to a server",
  description:
    "Connect yourself to a server of this workspace: you get its approved tools. Where a " +
    "person has to approve it, the answer is the request that waits for them",
  input: z.strictObject({ ...server, ...reason }),
  output: orAsked(Connected),
  async run(deps, caller, input) {
    const { db } = deps, { bearer: { user }, asks, agentId } = caller;
    const { server, reason } = input as { server: string; reason?: string };
    const { connections } = await getAgent(db, user, agentId);
    const isConnected = connections.some(({ serverId }) => serverId === server);
    if (!isConnected && asks.includes("agents:write")) {
      const { name, slug, removedAt } = await getServer(db, user, server);
      if (removedAt) throw new Conflict("The server is being removed");
      return await ask(deps, caller, {
        asked: { operation: "connect_server", serverId: server },
        basis: { server: { name, slug } },
        wants: `connect itself to ${name}`,
        reason,
      });
    }
    const operation = { ...BY_NAME.get("connect_server")!, output: Connected };
    return { result: resultOf(await runAs(operation, deps, caller, { server, agent: agentId })) };
  },
};

/** Makes the wish, and says that it waits. */
async function ask(
  deps: AppDeps,
  { agentId, bearer: { workspace } }: Caller,
  { reason, ...wish }: { asked: AskedFor; basis: Basis; wants: string; reason?: string },
): Promise<OwnAnswer> {
  const agent = { agentId, workspaceId: workspace.id };
  return answerTo(deps, await makeWish(deps.db, agent, { ...wish, reason: reason ?? null }));
}

// ── What was asked for ──────────────────────────────────────────────────────────────────────────────

const mayChange = ({ bearer: { scopes } }: Manager) =>
  Object.values(SCOPE_OF).some((scope) => scopes.includes(scope));

const requestTools: OwnTool[] = [
  {
    name: "get_request",
    title: "Read what became of a request of yours",
    description:
      "Whether a person approved what you asked for. Ask again after a while: people take their time",
    input: z.strictObject(request),
    output: RequestShape,
    isRead: true,
    isFor: mayChange,
    run: async (deps, { agentId }, input) => {
      const wish = await wishOfAgent(deps.db, agentId, String(input.request));
      return { result: resultOf(requestOf(deps, wish), stateNote(deps, wish)) };
    },
  },
  {
    name: "withdraw_request",
    title: "Withdraw a request of yours",
    description: "Take back what you asked for, as long as nobody has decided it",
    input: z.strictObject(request),
    output: RequestShape,
    isRead: false,
    isFor: mayChange,
    run: async (deps, { agentId }, input) => {
      const wish = await withdrawWish(deps.db, agentId, String(input.request));
      return { result: resultOf(requestOf(deps, wish), stateNote(deps, wish)) };
    },
  },
];

/** The answer of the tool that made a wish, as that stands now. */
function answerTo(deps: AppDeps, wish: OwnWish): OwnAnswer {
  const { id, state, wants } = wish, page = pageOf(deps, wish);
  const result = resultOf({ request: requestOf(deps, wish) }, stateNote(deps, wish));
  if (state === "rejected" || state === "withdrawn" || state === "expired") result.isError = true;
  return {
    result,
    ...(state === "open"
      ? {
        waits: {
          wishId: id,
          url: page,
          message: `Your agent asks to ${visibleText(wants)}. ` +
            "Look at it in Mooring, and approve or reject it.",
        },
      }
      : {}),
  };
}

function requestOf(deps: AppDeps, wish: OwnWish) {
  const { id, wants, state, createdAt, expiresAt, decidedAt, answer, serverId } = wish;
  return RequestShape.parse(JSON.parse(JSON.stringify({
    id,
    asksTo: wants,
    state,
    createdAt,
    expiresAt,
    decidedAt,
    answer,
    server: serverId,
    page: pageOf(deps, wish),
  })));
}

function stateNote(deps: AppDeps, wish: OwnWish): string {
  const { id, state, answer, serverId, asked } = wish;
  switch (state) {
    case "open":
      return `A person has to approve this, at ${pageOf(deps, wish)}. It is not done yet: ` +
        `get_request with ${id} says what became of it`;
    case "approved":
      return asked.operation === "connect_server" || serverId === null
        ? "A person approved it, and it is done"
        : `A person approved it, and the server ${serverId} is deployed. ` +
          deployedNote(deps, serverId);
    case "rejected":
      return `A person rejected it${answer ? `: ${answer}` : ""}. Do not ask for it again`;
    case "withdrawn":
      return "It was withdrawn";
    case "expired":
      return "Nobody decided it in time, and it has expired";
  }
}

const TOOLS = new Map(
  [...readingTools, deployServer, connectServer, ...requestTools].map((tool) => [tool.name, tool]),
);

/** Mooring's own tools, for the bridge. */
export function ownTools(deps: AppDeps): OwnTools {
  return {
    async of(agentId) {
      const manager = await managerOf(deps.db, agentId);
      if (!manager) return [];
      return [...TOOLS.values()].filter((tool) => tool.isFor(manager)).map(definitionOf);
    },
    async call(agentId, name, args, signal) {
      // As it is now: a list is older.
      const manager = await managerOf(deps.db, agentId), tool = TOOLS.get(name);
      if (!manager || !tool?.isFor(manager)) {
        return told("This agent may not do this any more: ask an admin of the workspace");
      }
      return await mendable(async () => {
        const parsed = tool.input.safeParse(args);
        if (!parsed.success) throw invalidInput(parsed.error);
        return await tool.run(deps, { ...manager, agentId, signal }, parsed.data);
      });
    },
    outcome: (agentId, wishId) =>
      mendable(async () => answerTo(deps, await wishOfAgent(deps.db, agentId, wishId))),
    withdraw: (agentId, wishId) =>
      mendable(async () => answerTo(deps, await withdrawWish(deps.db, agentId, wishId))),
  };
}

/** What a model can mend is told it. */
async function mendable(work: () => Promise<OwnAnswer>): Promise<OwnAnswer> {
  try {
    return await work();
  } catch (error) {
    const { kind, detail, errors = [] } = said(error);
    if (kind === "internal") throw error;
    return told(
      [detail, ...errors.map(({ pointer, detail }) => `${pointer}: ${detail}`)].join("\n"),
    );
  }
}

function toolOf({ name, summary, description, input, output, method, scopes }: Operation) {
  return {
    name,
    title: summary,
    description: [summary, description].filter(Boolean).join(". "),
    input,
    output: output!,
    isRead: method === "GET",
    isFor: ({ bearer }: Manager) => scopes.every((scope) => bearer.scopes.includes(scope)),
  };
}

/** Does an operation as the person who granted it. */
async function runAs(
  operation: Operation,
  deps: AppDeps,
  { bearer, signal }: Caller,
  given: Record<string, unknown>,
): Promise<unknown> {
  const asked = { deps, bearer, idempotencyKey: crypto.randomUUID(), signal, isAgent: true };
  return answerOf(operation, await operation.run(asked, operation.input.parse(given)));
}

function deployedNote({ baseUrl }: AppDeps, id: string): string {
  const page = `${baseUrl.href.replace(/\/$/, "")}/servers/${id}`;
  return "get_server says how far it is. A person has to approve its tools before any agent gets " +
    `them, at ${page}#tools`;
}

function pageOf({ baseUrl }: AppDeps, { id }: OwnWish): string {
  return `${baseUrl.href.replace(/\/$/, "")}/requests/${id}`;
}

const definitions = new Map<string, ReturnType<typeof makeDefinition>>();

function definitionOf(tool: OwnTool) {
  const known = definitions.get(tool.name) ?? makeDefinition(tool);
  definitions.set(tool.name, known);
  return known;
}

function makeDefinition({ name, title, description, input, output, isRead }: OwnTool) {
  return {
    name,
    title,
    description,
    inputSchema: schemaOf(input, "input"),
    outputSchema: schemaOf(output, "output"),
    annotations: {
      readOnlyHint: isRead,
      destructiveHint: false,
      idempotentHint: true,
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

function resultOf(value: unknown, ...notes: string[]): Record<string, unknown> {
  const texts = [JSON.stringify(value), ...notes];
  return {
    content: texts.map((text) => ({ type: "text", text })),
    structuredContent: value,
  };
}

function told(text: string): OwnAnswer {
  return { result: { content: [{ type: "text", text }], isError: true } };
}
