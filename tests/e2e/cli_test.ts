/** All that a person does, on a command line: from a token to a tool's answer, on a real container. */
import assert from "node:assert/strict";
import { absent } from "../dtma/engine.ts";
import { freePort } from "../free_port.ts";
import { App, OWNER, personalToken, withDataDirectory } from "./app.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

if (absent) console.warn(`SKIPPED, the command line on a real container: ${absent}`);

Deno.test({
  name: `The command line on a real container${absent ? ` (skipped: ${absent})` : ""}`,
  ignore: absent !== null,
  fn: () =>
    withDataDirectory(async (dataDirectory) => {
      const app = await App.start({ dataDirectory, port: freePort(), environment: OWNER });
      try {
        await app.toolboxId();
        await story(app, dataDirectory);
      } finally {
        await app.end();
      }
    }),
});

async function story(app: App, home: string) {
  async function mooring(args: string[], input?: string) {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["task", "--quiet", "cli", "--", ...args],
      cwd: ROOT,
      env: { XDG_CONFIG_HOME: home, MOORING_URL: "", MOORING_TOKEN: "", NO_COLOR: "1" },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    if (input !== undefined) await writer.write(new TextEncoder().encode(input));
    await writer.close();
    const { code, stdout, stderr } = await child.output();
    const out = new TextDecoder().decode(stdout), err = new TextDecoder().decode(stderr);
    return { code, out, err };
  }
  const done = async (args: string[], input?: string) => {
    const { code, out, err } = await mooring(args, input);
    assert.equal(code, 0, `${args.join(" ")}: ${err}`);
    return out + err;
  };

  await done(["login", app.url], `${await personalToken(app.url)}\n`);
  assert.match(await done(["whoami"]), /ann@example\.com/);
  assert.match(await done(["catalog", "search", "everything"]), /^everything\t/m);
  const deployed = await done(["servers", "deploy", "everything", "--name", "Demo", "--wait"]);
  assert.match(deployed, /demo is running/);
  assert.match(await done(["tools", "list", "demo"]), /^waiting\ttool\techo\t/m);
  await done(["tools", "approve", "demo", "echo"]);
  assert.match(await done(["call", "demo", "echo", '{"message":"ahoy"}']), /ahoy/);
  assert.equal((await mooring(["call", "demo", "get-sum", "{}"])).code, 5, "it is not approved");

  await done(["agents", "create", "Claude"]);
  await done(["agents", "connect", "Claude", "demo"]);
  const token = /mag_\S+/.exec(await done(["agents", "token", "Claude", "laptop"]))![0];
  const listed = await fetch(`${app.url}/mcp`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2026-07-28",
      "mcp-method": "tools/list",
    },
    body: JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "tools/list",
      params: {
        _meta: {
          "io.modelcontextprotocol/protocolVersion": "2026-07-28",
          "io.modelcontextprotocol/clientCapabilities": {},
        },
      },
    }),
  });
  assert.match(await listed.text(), /"demo__echo"/);

  const file = JSON.parse((await mooring(["export"])).out);
  assert.equal(file.servers[0].approved[0].name, "echo");
  await done(["servers", "logs", "demo"]);
  await done(["servers", "stop", "demo"]);
  await done(["servers", "remove", "demo", "--yes", "--delete-volumes"]);
  // It is gone once its toolbox says so.
  while ((await mooring(["servers", "get", "demo"])).code !== 3) {
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  await done(["logout"]);
  assert.equal((await mooring(["whoami"])).code, 2);
}
