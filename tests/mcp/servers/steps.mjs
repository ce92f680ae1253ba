// Takes its time: `steps` tells its progress so many times (`repeats` as well, and may be repeated), `waits` waits until it is cancelled or told to
// go on by `go`, `runs` says how often each of them ran to its end.
import { createInterface } from "node:readline";
import { result, send, text, tool } from "../../fixtures/servers/server.mjs";

const runs = {};
const waiting = new Map();

async function call(id, { name, arguments: given = {}, _meta = {} }) {
  if (name === "steps" || name === "repeats") {
    for (let progress = 1; progress <= (given.steps ?? 3); progress++) {
      const { progressToken } = _meta;
      send({
        jsonrpc: "2.0",
        method: "notifications/progress",
        params: { progressToken, progress, message: `${given.name} ${progress}` },
      });
      if (given.everyMs) await new Promise((resolve) => setTimeout(resolve, given.everyMs));
    }
    runs[given.name] = (runs[given.name] ?? 0) + 1;
    result(id, text(`${given.name} done`));
  } else if (name === "waits") {
    waiting.set(id, given.name);
  } else if (name === "go") {
    for (const [waits, name] of waiting) result(waits, text(`${name} went on`));
    waiting.clear();
    result(id, text("went"));
  } else if (name === "waiting") result(id, text(JSON.stringify([...waiting.values()])));
  else if (name === "echo") result(id, text(given.text));
  else result(id, text(JSON.stringify(runs)));
}

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "") return;
  const { id, method, params } = JSON.parse(line);
  if (method === "notifications/cancelled") waiting.delete(params.requestId);
  else if (method === "initialize") {
    result(id, {
      protocolVersion: "2025-06-18",
      capabilities: { tools: {} },
      serverInfo: { name: "steps", version: "1.0.0" },
    });
  } else if (method === "tools/list") {
    const names = ["steps", "waits", "go", "waiting", "echo", "runs"];
    const repeats = { ...tool("repeats"), annotations: { idempotentHint: true } };
    result(id, { tools: [...names.map((name) => tool(name)), repeats] });
  } else if (method === "tools/call") call(id, params);
  else if (id !== undefined) {
    send({ jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } });
  }
}).on("close", () => process.exit(0));
