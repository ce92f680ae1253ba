/**
 * Stands in a container between DTMA and one remote MCP server, whose URL is its argument: MCP over
 * stdio on one side, Streamable HTTP or HTTP+SSE on the other. To DTMA it is a server like any other,
 * and the container's policy holds for it: it reaches the server's host and nothing else.
 *
 * The headers to send, such as an API key, are variables: HEADER_1_NAME and HEADER_1_VALUE, and so on.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { Remote } from "./remote.mts";

const HEADERS_LIMIT = 16;

const headers: Record<string, string> = {};
for (let n = 1; n <= HEADERS_LIMIT; n++) {
  const name = process.env[`HEADER_${n}_NAME`], value = process.env[`HEADER_${n}_VALUE`];
  if (name && value) headers[name] = value;
}
const remote = new Remote({
  url: new URL(process.argv[2]),
  headers,
  write: (line) => void process.stdout.write(`${line}\n`),
  log: (line) => void process.stderr.write(`${line}\n`),
});
createInterface({ input: process.stdin })
  .on("line", (line) => remote.receive(line))
  .on("close", async () => {
    await remote.close();
    process.exit(0);
  });
