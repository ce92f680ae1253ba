// Answers with the line by which it was called, as it was written.
import { serve, text } from "../../fixtures/servers/server.mjs";

let heard = "";
process.stdin.on("data", (chunk) => {
  for (const line of String(chunk).split("\n")) if (line.includes("tools/call")) heard = line;
});

const tool = (name, description) => ({
  name,
  description,
  inputSchema: {
    type: "object",
    properties: {
      path: { type: "string", description: "Where" },
      lines: { type: "integer" },
      big: { type: "integer" },
    },
    required: ["path", "lines"],
  },
});

serve({
  name: "heard",
  listTools: () => [tool("read_file", "Reads a text"), tool("send_mail", "Sends a letter")],
  call: () => text(heard),
});
