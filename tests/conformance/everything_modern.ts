/**
 * The everything server for 2026-07-28 alone, with SDK 2.x: `stdio` for one client, or `http`, which
 * prints its address.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { PassThrough } from "node:stream";
import {
  CLIENT_CAPABILITIES_META_KEY,
  createMcpHandler,
  createRequestStateCodec,
  fromJsonSchema,
  inputRequired,
  McpServer,
  ProtocolError,
  ProtocolErrorCode,
  type ServerContext,
  validateHostHeader,
} from "npm:@modelcontextprotocol/server@2.4.0";
import { serveStdio, StdioServerTransport } from "npm:@modelcontextprotocol/server@2.4.0/stdio";
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
  TOOLS,
} from "./everything.ts";
import { answerOfTasks, isOfTasks, type Request as Asked, TASKS } from "./tasks.ts";

type ListChanged = Round["listChanged"];

// Rounds of one call are served by instances of their own over HTTP: the state carries the key's seal.
const states = createRequestStateCodec<Record<string, unknown>>({
  key: crypto.getRandomValues(new Uint8Array(32)),
});

function everything(listChanged?: ListChanged): McpServer {
  const mcp = new McpServer(SERVER, {
    capabilities: { ...CAPABILITIES, extensions: { [TASKS]: {} } },
    instructions: INSTRUCTIONS,
    requestState: { verify: states.verify },
  });
  const { server } = mcp;
  listChanged ??= (of) =>
    of === "tools" ? server.sendToolListChanged() : server.sendPromptListChanged();

  // By the class on top: over HTTP it holds arguments' headers against its tools' schemas (SEP-2243).
  for (const { name, description, inputSchema, call } of TOOLS) {
    mcp.registerTool(
      name,
      { description, inputSchema: fromJsonSchema<Record<string, unknown>>(inputSchema) },
      async (args, context) => await result(call(roundOf(args, context, listChanged))) as never,
    );
  }
  server.setRequestHandler("prompts/list", () => ({
    prompts: PROMPTS.map(({ get: _, ...prompt }) => prompt),
  }));
  server.setRequestHandler("prompts/get", async ({ params }, context) => {
    const prompt = PROMPTS.find(({ name }) => name === params.name);
    if (!prompt) throw new ProtocolError(ProtocolErrorCode.InvalidParams, `No ${params.name}`);
    return await result(prompt.get(roundOf(params.arguments, context, listChanged))) as never;
  });
  server.setRequestHandler("resources/list", () => ({ resources: RESOURCES }));
  server.setRequestHandler("resources/templates/list", () => ({ resourceTemplates: TEMPLATES }));
  server.setRequestHandler("resources/read", ({ params: { uri } }) => {
    const found = readResource(uri);
    // 2026-07-28, server/resources#error-handling
    if (!found) {
      throw new ProtocolError(ProtocolErrorCode.InvalidParams, "Resource not found", { uri });
    }
    return found as never;
  });
  server.setRequestHandler("completion/complete", () => COMPLETION);
  return mcp;
}

function roundOf(
  args: Record<string, unknown> = {},
  { mcpReq }: ServerContext,
  listChanged: ListChanged,
): Round {
  const progressToken = mcpReq._meta?.progressToken;
  const { [CLIENT_CAPABILITIES_META_KEY]: can } = (mcpReq.envelope ?? {}) as Record<
    string,
    Record<string, unknown> | undefined
  >;
  return {
    args,
    answers: mcpReq.inputResponses ?? {},
    state: mcpReq.requestState<Record<string, unknown>>(),
    clientCan: (what) => can?.[what] !== undefined,
    log: (data) => mcpReq.log("info", data),
    progress: async (progress, total) => {
      if (progressToken === undefined) return;
      await mcpReq.notify({
        method: "notifications/progress",
        params: { progressToken, progress, total },
      });
    },
    listChanged,
    cutStream: () => {},
  };
}

async function result(made: unknown): Promise<unknown> {
  const answer = await made as Record<string, unknown> | Ask;
  if (!("asks" in answer)) return answer;
  const { asks, state } = answer as Ask;
  return inputRequired({
    inputRequests: asks as never,
    ...(state ? { requestState: await states.mint(state) } : {}),
  });
}

function serveHttp() {
  const handler = createMcpHandler(() =>
    everything((of) => {
      if (of === "tools") handler.notify.toolsChanged();
      else handler.notify.promptsChanged();
      return Promise.resolve();
    }), { legacy: "reject" });
  Deno.serve(
    {
      hostname: "127.0.0.1",
      port: 0,
      onListen: ({ port }) => console.log(`http://127.0.0.1:${port}/mcp`),
    },
    async (request) => {
      if (!validateHostHeader(request.headers.get("host"), ["127.0.0.1"]).ok) {
        return new Response("Of another host", { status: 403 });
      }
      const asked: Asked = await request.clone().json().catch(() => ({}));
      return isOfTasks(asked) ? answerOverHttp(asked, request.headers) : handler.fetch(request);
    },
  );
}

function answerOverHttp(asked: Asked, headers: Headers): Response {
  const { id, method, params } = asked;
  const name = method === "tools/call" ? params?.name : params?.taskId;
  const isMatching = headers.get("mcp-method") === method && headers.get("mcp-name") === name;
  const outcome = isMatching
    ? answerOfTasks(asked)
    : { error: { code: -32020, message: "The headers say another thing than the body" } };
  const isRefused = "error" in outcome && [-32020, -32021].includes(outcome.error.code);
  return Response.json({ jsonrpc: "2.0", id, ...outcome }, { status: isRefused ? 400 : 200 });
}

/** What is of tasks is answered before the SDK sees it. */
function serveOverStdio() {
  const rest = new PassThrough();
  createInterface({ input: process.stdin })
    .on("line", (line) => {
      // DTMA ends what may be half a line with an empty one.
      const asked: Asked = line === "" ? {} : JSON.parse(line);
      if (!isOfTasks(asked)) return rest.write(`${line}\n`);
      const answer = { jsonrpc: "2.0", id: asked.id, ...answerOfTasks(asked) };
      process.stdout.write(`${JSON.stringify(answer)}\n`);
    })
    .on("close", () => rest.end());
  serveStdio(() => everything(), { legacy: "reject", transport: new StdioServerTransport(rest) });
}

if (Deno.args[0] === "http") serveHttp();
else serveOverStdio();
