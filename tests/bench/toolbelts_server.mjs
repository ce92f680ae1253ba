// A stdio server of any revision before 2026-07-28 that answers at once: `echo`, and `large`, whose text is 1 MiB.
import { createInterface } from "node:readline";

const LARGE = "a line of a large result\n".repeat(Math.ceil(1024 * 1024 / 25));
const REVISIONS = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
const tool = (name) => ({ name, description: name, inputSchema: { type: "object" } });
const answers = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion: REVISIONS.includes(protocolVersion) ? protocolVersion : REVISIONS[0],
    capabilities: { tools: {} },
    serverInfo: { name: "bench", version: "1" },
  }),
  ping: () => ({}),
  "tools/list": () => ({ tools: [tool("echo"), tool("large")] }),
  "tools/call": ({ name, arguments: args }) => ({
    content: [{ type: "text", text: name === "large" ? LARGE : `Echo: ${args?.message}` }],
  }),
};
createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "") return;
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  const result = answers[method]?.(params);
  const outcome = result ? { result } : { error: { code: -32601, message: "Method not found" } };
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", id, ...outcome })}\n`);
});
