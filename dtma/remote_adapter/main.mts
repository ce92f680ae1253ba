/**
 * Stands in a container between DTMA and one MCP server, whose URL is its argument: MCP over stdio on
 * one side, Streamable HTTP or HTTP+SSE on the other. To DTMA it is a server like any other, and the
 * container's policy holds for it: it reaches the server's host and nothing else.
 *
 * A second argument, `streamable-http` or `sse`, says that the server is no remote one: it starts now
 * in a container beside, whose network this one shares, and speaks that transport.
 *
 * The headers to send, such as an API key, are variables: HEADER_1_NAME and HEADER_1_VALUE, and so on.
 */
import process from "node:process";
import { Remote } from "./remote.mts";

const HEADERS_LIMIT = 16;

const headers: Record<string, string> = {};
for (let n = 1; n <= HEADERS_LIMIT; n++) {
  const name = process.env[`HEADER_${n}_NAME`], value = process.env[`HEADER_${n}_VALUE`];
  if (name && value) headers[name] = value;
}
const [, , url, transport] = process.argv;
const remote = new Remote({
  url: new URL(url),
  beside: transport === "streamable-http" || transport === "sse" ? transport : null,
  headers,
  write: (line) => void process.stdout.write(`${line}\n`),
  log: (line) => void process.stderr.write(`${line}\n`),
});
let begun = "";
process.stdin.setEncoding("utf8")
  .on("data", (text: string) => {
    // Not by Node's readline, which ends lines at U+2028 too: in JSON's strings that is a character like any.
    const lines = text.split("\n");
    lines[0] = begun + lines[0];
    begun = lines.pop()!;
    for (const line of lines) remote.receive(line);
  })
  .on("end", async () => {
    await remote.close();
    process.exit(0);
  });
