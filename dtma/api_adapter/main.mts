/**
 * Stands in a container between DTMA and a REST API: an MCP server of 2026-07-28 on stdio, whose tools
 * are the API's operations that a person chose (plan.mts). To DTMA it is a server like any other, and the
 * container's policy holds for it: it reaches the API's host and nothing else.
 *
 * Its argument is the plan's file. Credentials are variables, which the plan names.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { Api } from "./api.mts";
import type { ApiPlan } from "./plan.mts";
import { parseJson } from "./values.mts";

const REVISION = "2026-07-28";
const REVISION_META = "io.modelcontextprotocol/protocolVersion";

const plan: ApiPlan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const api = new Api(plan, (variable) => process.env[variable], (line) => {
  process.stderr.write(`${line}\n`);
});
const underWay = new Map<unknown, AbortController>();

interface Message {
  id?: string | number;
  method?: string;
  params?: {
    _meta?: Record<string, unknown>;
    name?: unknown;
    arguments?: unknown;
    requestId?: unknown;
  };
}

const DISCOVERY = {
  resultType: "complete",
  supportedVersions: [REVISION],
  capabilities: { tools: {} },
  ttlMs: 3_600_000,
  cacheScope: "public",
  _meta: {
    "io.modelcontextprotocol/serverInfo": { name: plan.title, version: plan.apiVersion || "0" },
  },
};

async function serve(line: string): Promise<void> {
  if (line.trim() === "") return;
  let message: Message;
  try {
    message = parseJson(line) as Message;
  } catch {
    return void process.stderr.write("A line that is not JSON was left out\n");
  }
  const { id, method } = message ?? {}, params = message?.params ?? {};
  if (method === "notifications/cancelled") underWay.get(params.requestId)?.abort();
  if (id === undefined || method === undefined) return;
  if (params._meta?.[REVISION_META] !== REVISION) {
    // An `initialize` too: there is no older revision here.
    return fail(id, -32022, "Unsupported protocol version", { supported: [REVISION] });
  }
  switch (method) {
    case "server/discover":
      return answer(id, JSON.stringify(DISCOVERY));
    case "tools/list": {
      const tools = plan.tools.map(({ definition }) => definition);
      const kept = { ttlMs: 3_600_000, cacheScope: "public" };
      return answer(id, JSON.stringify({ resultType: "complete", tools, ...kept }));
    }
    case "tools/call":
      return await call(id, params);
    default:
      fail(id, -32601, "Method not found");
  }
}

async function call(id: string | number, params: NonNullable<Message["params"]>): Promise<void> {
  const tool = plan.tools.find(({ definition }) => definition.name === params.name);
  if (!tool) return fail(id, -32602, `Unknown tool: ${String(params.name).slice(0, 100)}`);
  const args = params.arguments ?? {};
  if (typeof args !== "object" || Array.isArray(args)) {
    return fail(id, -32602, "The arguments are no object");
  }
  const cancel = new AbortController();
  underWay.set(id, cancel);
  try {
    const result = await api.call(tool, args as Record<string, unknown>, cancel.signal);
    if (!cancel.signal.aborted) answer(id, result);
  } finally {
    underWay.delete(id);
  }
}

/** @param result as JSON, on one line */
function answer(id: string | number, result: string): void {
  process.stdout.write(`{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${result}}\n`);
}

function fail(id: string | number, code: number, message: string, data?: unknown): void {
  process.stdout.write(
    `${JSON.stringify({ jsonrpc: "2.0", id, error: { code, message, data } })}\n`,
  );
}

let begun = "";
process.stdin.setEncoding("utf8")
  .on("data", (text: string) => {
    // Not by Node's readline, which ends lines at U+2028 too: in JSON's strings that is a character like any.
    const lines = text.split("\n");
    lines[0] = begun + lines[0];
    begun = lines.pop()!;
    for (const line of lines) serve(line);
  })
  .on("end", () => process.exit(0));
