// A stdio server of any revision before 2026-07-28 that answers at once: `echo`, and results of 1 MiB.
import { createInterface } from "node:readline";

const MIB = 1024 * 1024;
const filled = (part) => part.repeat(Math.ceil(MIB / Buffer.byteLength(part)));
const text = (text) => ({ content: [{ type: "text", text }] });
const rows = Array.from(
  { length: 18_000 },
  (_, id) => ({ id, name: `name ${id}`, isOpen: true, at: 1.5 }),
);
const LARGE = {
  large: text(filled("a line of a large result\n")),
  large_words: text(filled("Grüße, naïve façade — 漢字 und 🙂, und so weiter und so fort\n")),
  large_json: text(JSON.stringify(rows)),
  large_image: { content: [{ type: "image", mimeType: "image/png", data: filled("iVBORw0K") }] },
  large_table: { ...text("18,000 rows"), structuredContent: { rows } },
};
const REVISIONS = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
const tool = (name) => ({ name, description: name, inputSchema: { type: "object" } });
const answers = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion: REVISIONS.includes(protocolVersion) ? protocolVersion : REVISIONS[0],
    capabilities: { tools: {} },
    serverInfo: { name: "bench", version: "1" },
  }),
  ping: () => ({}),
  "tools/list": () => ({ tools: ["echo", ...Object.keys(LARGE)].map(tool) }),
  "tools/call": ({ name, arguments: args }) => LARGE[name] ?? text(`Echo: ${args?.message}`),
};
createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "") return;
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  const result = answers[method]?.(params);
  const outcome = result ? { result } : { error: { code: -32601, message: "Method not found" } };
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", id, ...outcome })}\n`);
});
