// A 2025-11-25 server that says what it is told, as text: `says` tells `told` as a notification and answers
// `text` as a result or an error; `asks` puts the question `text` and answers with the line that came back;
// `heard` answers with the line by which it was called. The prompt `says` and any resource answer `text`.
import { createInterface } from "node:readline";
import { result, send, text, tool } from "../../fixtures/servers/server.mjs";

const write = (id, kind, said) =>
  process.stdout.write(`{"jsonrpc":"2.0","id":${JSON.stringify(id)},"${kind}":${said}}\n`);
const notify = (method, params) =>
  process.stdout.write(`{"jsonrpc":"2.0","method":"notifications/${method}","params":${params}}\n`);

const asked = new Map();

function call(id, { name, arguments: given = {}, _meta = {} }, line) {
  if (name === "heard") return result(id, text(line));
  if (name === "asks") {
    const question = `q${id}`;
    asked.set(question, id);
    process.stdout.write(
      `{"jsonrpc":"2.0","id":"${question}","method":"elicitation/create","params":${given.text}}\n`,
    );
    return;
  }
  if (given.told && _meta.progressToken !== undefined) {
    const token = JSON.stringify(_meta.progressToken);
    notify("progress", `{"progressToken":${token},"progress":1,"extra":${given.told}}`);
    notify("message", `{"level":"error","data":${given.told}}`);
  }
  write(id, given.as ?? "result", given.text);
}

createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "") return;
  const { id, method, params } = JSON.parse(line);
  if (method === undefined) {
    const question = asked.get(id);
    asked.delete(id);
    if (question !== undefined) result(question, text(line));
  } else if (method === "initialize") {
    result(id, {
      protocolVersion: "2025-11-25",
      capabilities: { tools: {}, prompts: {}, resources: {}, logging: {} },
      serverInfo: { name: "scripted", version: "1.0.0" },
    });
  } else if (method === "tools/list") {
    result(id, { tools: ["says", "asks", "heard"].map((name) => tool(name)) });
  } else if (method === "prompts/list") {
    result(id, { prompts: [{ name: "says", arguments: [{ name: "text" }] }] });
  } else if (method === "resources/list") result(id, { resources: [] });
  else if (method === "resources/templates/list") result(id, { resourceTemplates: [] });
  else if (method === "tools/call") call(id, params, line);
  else if (method === "prompts/get") write(id, "result", params.arguments.text);
  else if (method === "resources/read") {
    write(id, "result", decodeURIComponent(params.uri.slice("text:".length)));
  } else if (method === "logging/setLevel") result(id, {});
  else if (id !== undefined) {
    send({ jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } });
  }
}).on("close", () => process.exit(0));
