// A 2026-07-28 server that asks: `introduces` wants a name, a completion and the roots before it answers;
// `insists` asks for ever; `states` answers the requestState that it got; `mixes` asks what is no question too.
import { createInterface } from "node:readline";
import { result, send, text, tool } from "../../fixtures/servers/server.mjs";

const QUESTIONS = {
  who: {
    method: "elicitation/create",
    params: {
      message: "What is your name?",
      requestedSchema: { type: "object", properties: { name: { type: "string" } } },
    },
  },
  says: {
    method: "sampling/createMessage",
    params: {
      messages: [{ role: "user", content: { type: "text", text: "Say hello" } }],
      maxTokens: 10,
    },
  },
  where: { method: "roots/list", params: {} },
};

const asks = (id, inputRequests, requestState) =>
  result(id, { resultType: "input_required", inputRequests, requestState });

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "") return;
  const { id, method, params = {} } = JSON.parse(line);
  const meta = params._meta ?? {};
  const can = meta["io.modelcontextprotocol/clientCapabilities"] ?? {};
  if (id === undefined) return;
  if (method === "server/discover") {
    result(id, {
      resultType: "complete",
      supportedVersions: ["2026-07-28"],
      capabilities: { tools: {} },
      _meta: { "io.modelcontextprotocol/serverInfo": { name: "asks", version: "1.0.0" } },
    });
  } else if (method === "tools/list") {
    const tools = ["introduces", "insists", "states", "mixes"].map((name) => tool(name));
    result(id, { resultType: "complete", tools });
  } else if (method !== "tools/call") {
    send({ jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } });
  } else if (params.name === "insists") asks(id, { who: QUESTIONS.who }, "again");
  else if (params.name === "mixes") {
    asks(id, { who: QUESTIONS.who, what: { method: "no/such", params: {} } }, "mixed");
  } else if (params.name === "states") {
    if (params.requestState === undefined) asks(id, undefined, "the state of the server");
    else result(id, { resultType: "complete", ...text(params.requestState) });
  } else if (params.inputResponses) {
    const { who, says, where } = params.inputResponses;
    const told = { who, says, where, state: params.requestState };
    result(id, { resultType: "complete", ...text(JSON.stringify(told)) });
  } else if (can.elicitation && can.sampling && can.roots) asks(id, QUESTIONS, "s1");
  else result(id, { resultType: "complete", ...text("nobody to ask") });
}).on("close", () => process.exit(0));
