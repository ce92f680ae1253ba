/**
 * The everything server for the revisions up to 2025-11-25, with SDK 1.x: `stdio` for one client, or
 * `http`, which prints its address and gives each client a session.
 */
import {
  InMemoryTaskMessageQueue,
  InMemoryTaskStore,
} from "npm:@modelcontextprotocol/sdk@1.32.2/experimental/tasks/stores/in-memory.js";
import { Server } from "npm:@modelcontextprotocol/sdk@1.32.2/server/index.js";
import { StdioServerTransport } from "npm:@modelcontextprotocol/sdk@1.32.2/server/stdio.js";
import { WebStandardStreamableHTTPServerTransport as HttpTransport } from "npm:@modelcontextprotocol/sdk@1.32.2/server/webStandardStreamableHttp.js";
import {
  CallToolRequestSchema,
  CompleteRequestSchema,
  ErrorCode,
  GetPromptRequestSchema,
  ListPromptsRequestSchema,
  ListResourcesRequestSchema,
  ListResourceTemplatesRequestSchema,
  ListToolsRequestSchema,
  McpError,
  ReadResourceRequestSchema,
  ResultSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
} from "npm:@modelcontextprotocol/sdk@1.32.2/types.js";
import {
  type Ask,
  CAPABILITIES,
  COMPLETION,
  INSTRUCTIONS,
  PROMPTS,
  readResource,
  RESOURCES,
  type Round,
  SERVER,
  TEMPLATES,
  type Tool,
  TOOLS,
} from "./everything.ts";

// SDK 1.x's types do not reach Deno through its exports: what is used of them.
type Json = Record<string, unknown>;
type Call = { name: string; arguments?: Json; task?: { ttl?: number } };
type Params<T = Call> = { params: T };
interface Task {
  taskId: string;
}
interface Extra {
  _meta?: { progressToken?: string | number };
  sendNotification(notification: { method: string; params?: Json }): Promise<void>;
  sendRequest(request: { method: string; params?: Json }, schema: unknown): Promise<unknown>;
  closeSSEStream?(): void;
  taskStore: {
    createTask(params: { ttl: number; pollInterval: number }): Promise<Task>;
    updateTaskStatus(taskId: string, status: string, message?: string): Promise<void>;
    storeTaskResult(taskId: string, status: string, result: Json): Promise<void>;
  };
}
interface Session {
  handleRequest(request: Request): Promise<Response>;
}

function everything(): Server {
  const server = new Server(SERVER, {
    capabilities: { ...CAPABILITIES, tasks: { cancel: {}, requests: { tools: { call: {} } } } },
    instructions: INSTRUCTIONS,
    taskStore: new InMemoryTaskStore(),
    taskMessageQueue: new InMemoryTaskMessageQueue(),
  });

  server.setRequestHandler(ListToolsRequestSchema, () => ({
    tools: TOOLS.map(({ name, description, inputSchema, task }) => ({
      ...{ name, description, inputSchema },
      ...(task ? { execution: { taskSupport: SUPPORT[task] } } : {}),
    })),
  }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }: Params, extra: Extra) => {
    const tool = named(TOOLS, params.name);
    if (params.task ? !tool.task : tool.task === "must") {
      throw new McpError(ErrorCode.MethodNotFound, `As a task: ${tool.task ?? "never"}`);
    }
    if (params.task) return await begin(tool, params, extra, server);
    return await inOneGo((round) => tool.call(round), params.arguments, extra, server);
  });
  server.setRequestHandler(ListPromptsRequestSchema, () => ({
    prompts: PROMPTS.map(({ get: _, ...prompt }) => prompt),
  }));
  server.setRequestHandler(GetPromptRequestSchema, async ({ params }: Params, extra: Extra) => {
    const prompt = named(PROMPTS, params.name);
    return await inOneGo((round) => prompt.get(round), params.arguments, extra, server);
  });
  server.setRequestHandler(ListResourcesRequestSchema, () => ({ resources: RESOURCES }));
  server.setRequestHandler(
    ListResourceTemplatesRequestSchema,
    () => ({ resourceTemplates: TEMPLATES }),
  );
  server.setRequestHandler(
    ReadResourceRequestSchema,
    ({ params: { uri } }: Params<{ uri: string }>) => {
      const found = readResource(uri);
      // 2025-11-25, server/resources#error-handling
      if (!found) throw new McpError(-32002, "Resource not found", { uri });
      return found;
    },
  );
  server.setRequestHandler(SubscribeRequestSchema, () => ({}));
  server.setRequestHandler(UnsubscribeRequestSchema, () => ({}));
  server.setRequestHandler(CompleteRequestSchema, () => COMPLETION);
  return server;
}

/** Makes one call of what is written in rounds: asks the client whatever a round wants answered. */
async function inOneGo(
  make: (round: Round) => unknown,
  args: Json = {},
  extra: Extra,
  server: Server,
): Promise<Json> {
  const told = (method: string, params?: Json) => extra.sendNotification({ method, params });
  const progressToken = extra._meta?.progressToken;
  let answers: Json = {};
  let state: Json | undefined;
  for (let rounds = 0; rounds < 4; rounds++) {
    const made = await make({
      args,
      answers,
      state,
      clientCan: (what) => server.getClientCapabilities()?.[what] !== undefined,
      log: (data) => told("notifications/message", { level: "info", data }),
      progress: async (progress, total) => {
        if (progressToken === undefined) return;
        await told("notifications/progress", { progressToken, progress, total });
      },
      // Without a request to belong to, as a change of its own is told.
      listChanged: (of) =>
        of === "tools" ? server.sendToolListChanged() : server.sendPromptListChanged(),
      cutStream: () => extra.closeSSEStream?.(),
    }) as Json | Ask;
    if (!("asks" in made)) return made;
    ({ state, answers } = { state: (made as Ask).state, answers: await ask(made as Ask, extra) });
  }
  throw new McpError(ErrorCode.InternalError, "It asked again and again");
}

/** What the client answers; a refusal is left out, as long as there is something to go on with. */
async function ask({ asks }: Ask, extra: Pick<Extra, "sendRequest">): Promise<Json> {
  const answers: Json = {};
  const refusals: unknown[] = [];
  await Promise.all(
    Object.entries(asks).map(async ([key, request]) => {
      try {
        answers[key] = await extra.sendRequest(request, ResultSchema);
      } catch (error) {
        refusals.push(error);
      }
    }),
  );
  if (Object.keys(answers).length === 0) throw refusals[0];
  return answers;
}

const SUPPORT = { may: "optional", must: "required" };

/** Makes a task of a call. Of `test_tool_with_task` the question comes before it, and of others in it. */
async function begin(tool: Tool, params: Call, extra: Extra, server: Server): Promise<Json> {
  const asksBefore = tool.name === "test_tool_with_task";
  const first = asksBefore ? await tool.call(silent(params)) : undefined;
  const answers = first ? await ask(first as Ask, extra) : {};
  const { ttl = 60_000 } = params.task!;
  const task = await extra.taskStore.createTask({ ttl, pollInterval: 200 });
  work(tool, params, answers, task, extra, server);
  return { task };
}

async function work(
  tool: Tool,
  params: Call,
  answers: Json,
  { taskId }: Task,
  { taskStore }: Extra,
  server: Server,
) {
  const of = { relatedTask: { taskId } };
  const sendRequest: Extra["sendRequest"] = async (request, schema) => {
    await taskStore.updateTaskStatus(taskId, "input_required");
    return await server.request(request, schema, of);
  };
  try {
    for (;;) {
      const made = await tool.call({ ...silent(params), answers });
      if (!("asks" in made)) {
        return await taskStore.storeTaskResult(
          taskId,
          made.isError ? "failed" : "completed",
          made as Json,
        );
      }
      answers = await ask(made as Ask, { sendRequest });
      await taskStore.updateTaskStatus(taskId, "working");
    }
  } catch (error) {
    // What was cancelled meanwhile takes no other status.
    await taskStore.updateTaskStatus(taskId, "failed", String(error)).catch(() => {});
  }
}

function silent({ arguments: args = {} }: Call): Round {
  return {
    args,
    answers: {},
    state: undefined,
    clientCan: () => true,
    log: () => Promise.resolve(),
    progress: () => Promise.resolve(),
    listChanged: () => Promise.resolve(),
    cutStream: () => {},
  };
}

function named<T extends { name: string }>(list: T[], name: string): T {
  const found = list.find((each) => each.name === name);
  if (!found) throw new McpError(ErrorCode.InvalidParams, `There is no ${name}`);
  return found;
}

/** Streams' messages, so that a cut stream is taken up again (Last-Event-ID). */
function eventStore() {
  const events: { streamId: string; message: Json }[] = [];
  return {
    storeEvent: (streamId: string, message: Json) =>
      Promise.resolve(String(events.push({ streamId, message }))),
    async replayEventsAfter(
      lastEventId: string,
      { send }: { send(id: string, message: Json): Promise<void> },
    ) {
      const after = Number(lastEventId);
      const { streamId } = events[after - 1];
      for (let index = after; index < events.length; index++) {
        const event = events[index];
        // The SDK primes a stream with an empty message, which is no one's to read again.
        if (event.streamId !== streamId || !("jsonrpc" in event.message)) continue;
        await send(String(index + 1), event.message);
      }
      return streamId;
    },
  };
}

function serveHttp() {
  const sessions = new Map<string, Session>();
  const http: Deno.HttpServer<Deno.NetAddr> = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(addressAt(port)) },
    async (request) => {
      const known = request.headers.get("mcp-session-id");
      if (known !== null) {
        const session = sessions.get(known);
        return await session?.handleRequest(request) ??
          Response.json({ jsonrpc: "2.0", id: null, error: { code: -32001, message: "Unknown" } }, {
            status: 404,
          });
      }
      const transport: Session = new HttpTransport({
        sessionIdGenerator: () => crypto.randomUUID(),
        eventStore: eventStore(),
        retryInterval: 500,
        enableDnsRebindingProtection: true,
        allowedHosts: [new URL(addressAt(http.addr.port)).host],
        onsessioninitialized: (id: string) => void sessions.set(id, transport),
        onsessionclosed: (id: string) => void sessions.delete(id),
      });
      await everything().connect(transport);
      return await transport.handleRequest(request);
    },
  );
}
const addressAt = (port: number) => `http://127.0.0.1:${port}/mcp`;

if (Deno.args[0] === "http") serveHttp();
else await everything().connect(new StdioServerTransport());
