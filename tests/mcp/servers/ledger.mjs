// Counts how often each call ran, by the token that it was given: `count` counts, and tells its progress
// before it answers where it is asked for; `ledger` says which tokens ran, and which of them not just once.
import { send, serve, text, tool } from "./server.mjs";

const runs = new Map();

serve({
  name: "ledger",
  listTools: () => [tool("count"), tool("ledger"), tool("spare")],
  call: async ({ name, arguments: { token, steps = 0 } = {}, _meta: { progressToken } = {} }) => {
    if (name !== "count") {
      return text(JSON.stringify({
        ran: [...runs.keys()],
        again: [...runs].filter(([, times]) => times !== 1),
      }));
    }
    runs.set(token, (runs.get(token) ?? 0) + 1);
    for (let progress = 1; progress <= steps; progress++) {
      send({
        jsonrpc: "2.0",
        method: "notifications/progress",
        params: { progressToken, progress, message: `${token} ${progress}` },
      });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return text(token);
  },
});
