// A 2026-07-28 server that asks a person: `book` for who and how many, and then whether that is right; `pay`
// to go to an address; `both` two things at once; `insists` for ever; `lists` for a list of names.
import { createInterface } from "node:readline";
import { result, send, text, tool } from "../../fixtures/servers/server.mjs";

const form = (message, properties, required) => ({
  method: "elicitation/create",
  params: { mode: "form", message, requestedSchema: { type: "object", properties, required } },
});
const WHO = form("Who is the table for?", {
  name: { type: "string", title: "Name", minLength: 2 },
  email: { type: "string", format: "email", description: "For the confirmation" },
  seats: { type: "integer", minimum: 1, maximum: 8, default: 2 },
  place: {
    type: "string",
    oneOf: [{ const: "in", title: "Inside" }, { const: "out", title: "Outside" }],
  },
}, ["name", "seats"]);
const SURE = form("Shall it be booked?", { sure: { type: "boolean" } }, ["sure"]);
const PAY = {
  method: "elicitation/create",
  params: { mode: "url", message: "Pay the deposit.", url: "https://pay.example.com/deposit?id=7" },
};

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "") return;
  const { id, method, params = {} } = JSON.parse(line);
  if (id === undefined) return;
  const asks = (inputRequests, requestState) =>
    result(id, { resultType: "input_required", inputRequests, requestState });
  const answers = (value) =>
    result(id, {
      resultType: "complete",
      ...text(typeof value === "string" ? value : JSON.stringify(value)),
    });
  if (method === "server/discover") {
    result(id, {
      resultType: "complete",
      supportedVersions: ["2026-07-28"],
      capabilities: { tools: {} },
      _meta: { "io.modelcontextprotocol/serverInfo": { name: "asks", version: "1.0.0" } },
    });
  } else if (method === "tools/list") {
    const names = ["book", "pay", "both", "insists", "lists", "echo"];
    result(id, { resultType: "complete", tools: names.map((name) => tool(name)) });
  } else if (method !== "tools/call") {
    send({ jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } });
  } else {
    const can = params._meta?.["io.modelcontextprotocol/clientCapabilities"] ?? {};
    const { who, sure, pay } = params.inputResponses ?? {};
    if (params.name === "echo") answers(params.arguments.text);
    else if (!can.elicitation) answers("nobody to ask");
    else if (params.name === "insists") asks({ who: WHO }, "again");
    else if (params.name === "both") who ? answers({ who, pay }) : asks({ who: WHO, pay: PAY });
    else if (params.name === "pay") pay ? answers(pay) : asks({ pay: PAY }, "p");
    else if (params.name === "lists") {
      const names = { type: "array", items: { type: "string" } };
      who ? answers(who) : asks({ who: form("Who comes?", { names }, ["names"]) });
    } else if (sure) answers({ who: JSON.parse(params.requestState), sure });
    else if (who && who.action !== "accept") answers(`not booked: ${who.action}`);
    else if (who) asks({ sure: SURE }, JSON.stringify(who.content));
    else asks({ who: WHO });
  }
}).on("close", () => process.exit(0));
