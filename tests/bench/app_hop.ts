/**
 * The app's part of a call without its pages and database, as a process of its own: takes a POST, calls
 * the toolbox (its own child) and answers. The first argument says how: `fetch`, `direct` or `tunnel`.
 */
import { dial } from "../../dtma/dial.ts";
import { generateSigningKey, PIN_META } from "../../dtma/protocol.ts";
import { links, type Target } from "../../mcp/links.ts";
import { callServer } from "../../mcp/router.ts";
import type { Changes } from "../../models/changes.ts";
import type { Database } from "../../models/db.ts";
import { createLog } from "../../models/log.ts";

const [how, script] = Deno.args;
const TOOLBOX = "01890000-0000-7000-8000-00000000000b";
const [app, toolbox] = [await generateSigningKey(), await generateSigningKey()];
const own = links({
  db: {} as Database,
  changes: { watch() {} } as unknown as Changes,
  appSigningKey: app,
  log: createLog("text", (line) => console.error(line)),
  dial,
  replicaAddress: null,
  seenEveryMs: 3_600_000,
  idleMs: 3_600_000,
});
const deps = { appSigningKey: app, links: how === "fetch" ? null : own };
/** Known when the toolbox started, which needs our address first. */
const started = Promise.withResolvers<{ target: Target; pin: string }>();

const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
  if (request.method === "GET") {
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    own.accept(TOOLBOX, socket);
    return response;
  }
  const { target, pin } = await started.promise;
  const { params } = JSON.parse(await request.text());
  params._meta = { "io.modelcontextprotocol/protocolVersion": "2026-07-28", [PIN_META]: pin };
  const call = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params });
  const { kind, text } = await callServer(deps, target, call, { signal: request.signal });
  return new Response(`{"jsonrpc":"2.0","id":1,"${kind}":${text}}`);
});
const url = `http://127.0.0.1:${http.addr.port}`;
const child = new Deno.Command(Deno.execPath(), {
  args: [
    "run",
    "-A",
    "--quiet",
    "--no-check",
    new URL("./toolbox.ts", import.meta.url).pathname,
    script,
    JSON.stringify({ app, toolbox }),
    ...(how === "tunnel" ? [url] : []),
  ],
  stdin: "null",
  stdout: "piped",
  stderr: "inherit",
}).spawn();
const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
const [address, hash] = (await reader.read()).value!.trim().split(" ");
const target: Target = {
  toolboxId: TOOLBOX,
  reach: how === "tunnel" ? "tunnel" : "direct",
  address: how === "tunnel" ? null : address,
  serverId: "01890000-0000-7000-8000-000000000001",
  instance: null,
};
started.resolve({ target, pin: hash });
Deno.addSignalListener("SIGTERM", () => {
  child.kill("SIGKILL");
  Deno.exit(0);
});
console.log(url);
