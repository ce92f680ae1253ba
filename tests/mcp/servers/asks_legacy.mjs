// A 2025-06-18 server that asks while it works: `introduces` wants a name, a completion and the roots of
// its client before it answers; `logs` tells its log; `slow` is there to be under way beside it.
import { createInterface } from "node:readline";
import { result, send, text, tool } from "../../fixtures/servers/server.mjs";

const QUESTIONS = {
  "elicitation/create": {
    message: "What is your name?",
    requestedSchema: { type: "object", properties: { name: { type: "string" } } },
  },
  "sampling/createMessage": {
    messages: [{ role: "user", content: { type: "text", text: "Say hello" } }],
    maxTokens: 10,
  },
  "roots/list": {},
};

const asked = new Map();
let lastId = 0;
let level = "info";

function ask(method) {
  const id = `q${++lastId}`;
  send({ jsonrpc: "2.0", id, method, params: QUESTIONS[method] });
  return new Promise((resolve) => asked.set(id, resolve));
}

async function call(id, { name }) {
  if (name === "introduces") {
    const told = {};
    for (const method of Object.keys(QUESTIONS)) told[method] = await ask(method);
    result(id, text(JSON.stringify(told)));
  } else if (name === "logs") {
    for (const level of ["debug", "info", "error"]) {
      send({
        jsonrpc: "2.0",
        method: "notifications/message",
        params: { level, logger: "test", data: level },
      });
    }
    result(id, text(level));
  } else setTimeout(() => result(id, text("slow")), 500);
}

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "") return;
  const { id, method, params, ...answer } = JSON.parse(line);
  if (method === undefined) asked.get(id)?.(answer.result ?? answer.error);
  else if (method === "initialize") {
    result(id, {
      protocolVersion: "2025-06-18",
      capabilities: { tools: {}, logging: {} },
      serverInfo: { name: "asks", version: "1.0.0" },
    });
  } else if (method === "tools/list") {
    result(id, { tools: ["introduces", "logs", "slow"].map((name) => tool(name)) });
  } else if (method === "tools/call") call(id, params);
  else if (method === "logging/setLevel") {
    level = params.level;
    result(id, {});
  } else if (id !== undefined) {
    send({ jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } });
  }
}).on("close", () => process.exit(0));
