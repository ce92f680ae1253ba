import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport } from "npm:@modelcontextprotocol/client@2.4.0";
import { Client as ClientV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/index.js";
import { StreamableHTTPClientTransport as TransportV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/streamableHttp.js";
import { serverEverything } from "../dtma/stdio_server.ts";
import { openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const INSPECTOR = "@modelcontextprotocol/inspector@2.12.0";

Deno.test({
  name: "/mcp serves the real clients in front of the real server-everything",
  ...options,
  async fn(t) {
    await using bridge = await openBridge(await serverEverything(), { slug: "everything" });
    const requestInit = { headers: { authorization: `Bearer ${bridge.token}` } };
    const url = new URL(bridge.url);

    for (const mode of ["legacy", "auto"] as const) {
      await t.step(`SDK v2, versionNegotiation ${mode}`, async () => {
        const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } });
        await client.connect(new StreamableHTTPClientTransport(url, { requestInit }));
        assert.equal(
          client.getNegotiatedProtocolVersion(),
          mode === "auto" ? "2026-07-28" : "2025-11-25",
        );
        const { tools } = await client.listTools();
        assert.ok(tools.some((tool) => tool.name === "everything__get-sum"));
        const sum = await client.callTool({
          name: "everything__get-sum",
          arguments: { a: 2, b: 40 },
        });
        assert.match(JSON.stringify(sum.content), /42/);
        const image = await client.callTool({ name: "everything__get-tiny-image", arguments: {} });
        assert.ok((image.content as { type: string }[]).some((block) => block.type === "image"));
        const progress: number[] = [];
        await client.callTool(
          {
            name: "everything__trigger-long-running-operation",
            arguments: { duration: 0.2, steps: 2 },
          },
          { onprogress: (at) => progress.push(at.progress) },
        );
        assert.deepEqual(progress, [1, 2]);
        const wrong = await client.callTool({ name: "everything__get-sum", arguments: { a: "x" } })
          .catch((error) => ({ isError: true, content: [{ type: "text", text: String(error) }] }));
        assert.equal(wrong.isError, true, "arguments that break the schema are told");
        await assert.rejects(
          client.callTool({ name: "everything__none", arguments: {} }),
          /Unknown tool/,
        );
        await client.close();
      });
    }

    await t.step("SDK 1.x", async () => {
      const client = new ClientV1({ name: "test", version: "1" });
      await client.connect(new TransportV1(url, { requestInit }));
      const { tools } = await client.listTools();
      assert.ok(tools.some((tool: { name: string }) => tool.name === "everything__echo"));
      const echoed = await client.callTool({
        name: "everything__echo",
        arguments: { message: "hi" },
      });
      assert.match(JSON.stringify(echoed.content), /hi/);
      const structured = await client.callTool({
        name: "everything__get-structured-content",
        arguments: { location: "New York" },
      });
      assert.ok(structured.structuredContent);
      await client.close();
    });

    const obstacle = await whyNoInspector();
    if (obstacle) console.log(`skipped: MCP Inspector's CLI does not run here: ${obstacle}`);
    await t.step({
      name: "MCP Inspector's CLI",
      ignore: obstacle !== null,
      fn: async () => {
        const inspect = async (...args: string[]) => {
          const { success, stdout, stderr } = await new Deno.Command("npx", {
            args: [
              "-y",
              INSPECTOR,
              "--cli",
              bridge.url,
              "--transport",
              "http",
              "--header",
              `Authorization: Bearer ${bridge.token}`,
              ...args,
            ],
            stdin: "null",
          }).output();
          const said = new TextDecoder().decode(stdout);
          assert.ok(success, `${said}${new TextDecoder().decode(stderr)}`);
          return JSON.parse(said.slice(said.indexOf("{")));
        };
        const { tools } = await inspect("--method", "tools/list");
        assert.ok(tools.some((tool: { name: string }) => tool.name === "everything__echo"));
        const called = await inspect(
          "--method",
          "tools/call",
          "--tool-name",
          "everything__echo",
          "--tool-arg",
          "message=hi",
        );
        assert.match(JSON.stringify(called.content), /hi/);
      },
    });
  },
});

/** Why the Inspector cannot run here (no npx, no registry, too old a node), or null when it can. */
async function whyNoInspector(): Promise<string | null> {
  try {
    const { success, stderr } = await new Deno.Command("npx", {
      args: ["-y", INSPECTOR, "--cli", "--help"],
      stdin: "null",
      stdout: "null",
    }).output();
    return success ? null : new TextDecoder().decode(stderr).trim().slice(-500);
  } catch (error) {
    return String(error);
  }
}
