/**
 * A DTMA's data path without Docker, as a process of its own: `script` on stdio behind it. Prints its
 * address; dials the app at the second argument where there is one.
 */
import { dataPath, linkServing } from "../../dtma/data_path.ts";
import { canonicalHash } from "../../dtma/protocol.ts";
import { openSession } from "../../dtma/session.ts";
import { keepTunnel } from "../../dtma/tunnel.ts";

const [script, keys, appUrl] = Deno.args;
const { app, toolbox } = JSON.parse(keys);
const child = new Deno.Command("node", {
  args: [script],
  stdin: "piped",
  stdout: "piped",
  stderr: "null",
}).spawn();
const session = await openSession(child, { handshakeTimeoutMs: 30_000, log: () => {} });
const toolHashes = new Map<string, string>();
for (const tool of await session.listTools()) toolHashes.set(tool.name, await canonicalHash(tool));
const reach = () => Promise.resolve({ session, toolHashes });
const log = (line: string) => console.error(line);

Deno.serve({
  hostname: "127.0.0.1",
  port: 0,
  onListen: ({ port }) => console.log(`http://127.0.0.1:${port} ${toolHashes.get("echo")}`),
}, dataPath({ reach, logOf: () => Promise.resolve(null), appPublicKey: () => app.publicKey, log }));
if (appUrl) {
  await keepTunnel({
    appUrl,
    key: { keyId: "01890000-0000-7000-8000-00000000000b", privateKey: toolbox.privateKey },
    appPublicKey: () => app.publicKey,
    serve: linkServing({ reach, logOf: () => Promise.resolve(null) }),
    log: () => {},
  }, new AbortController().signal);
}
