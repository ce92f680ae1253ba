import assert from "node:assert/strict";
import { createMCPClient } from "npm:@ai-sdk/mcp@2.0.99";
import {
  Client,
  SSEClientTransport,
  StreamableHTTPClientTransport,
} from "npm:@modelcontextprotocol/client@2.4.0";
import { Client as ClientV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/index.js";
import { StdioClientTransport as StdioV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/stdio.js";
import { SSEClientTransport as SseV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/sse.js";
import { StreamableHTTPClientTransport as TransportV1 } from "npm:@modelcontextprotocol/sdk@1.32.2/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
} from "npm:@modelcontextprotocol/sdk@1.32.2/types.js";
import { serverEverything } from "../dtma/stdio_server.ts";
import { openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const INSPECTOR = "@modelcontextprotocol/inspector@2.12.0";
const MCP_REMOTE = "mcp-remote@0.15.1";

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

const ANSWERS = {
  "elicitation/create": { action: "accept" as const, content: { name: "Ann" } },
  "sampling/createMessage": {
    role: "assistant" as const,
    content: { type: "text" as const, text: "hello" },
    model: "m",
  },
  "roots/list": { roots: [{ uri: "file:///x" }] },
};
const CAPABILITIES = { elicitation: {}, sampling: {}, roots: {} };

Deno.test({
  name: "servers of old and new put their questions to the real clients, of old and new",
  ...options,
  async fn(t) {
    for (const server of ["asks_legacy", "asks_modern"]) {
      const script = new URL(`servers/${server}.mjs`, import.meta.url).pathname;
      await using bridge = await openBridge(script);
      const requestInit = { headers: { authorization: `Bearer ${bridge.token}` } };
      const at = (path: string) => new URL(path, bridge.url);

      const check = (result: unknown) => {
        const [{ text }] = (result as { content: { text: string }[] }).content;
        const told = JSON.parse(text);
        const { who, says, where } = told;
        const all = server === "asks_legacy" ? told : {
          "elicitation/create": who,
          "sampling/createMessage": says,
          "roots/list": where,
        };
        assert.deepEqual(all, ANSWERS);
      };

      const transports = {
        "2026-07-28": [
          "auto",
          () => new StreamableHTTPClientTransport(at("/mcp"), { requestInit }),
        ],
        "2025-11-25": [
          "legacy",
          () => new StreamableHTTPClientTransport(at("/mcp"), { requestInit }),
        ],
        "HTTP+SSE": ["legacy", () => new SSEClientTransport(at("/sse"), { requestInit })],
      } as const;
      for (const [name, [mode, transport]] of Object.entries(transports)) {
        await t.step(`${server}, SDK v2, ${name}`, async () => {
          const client = new Client({ name: "test", version: "1" }, {
            versionNegotiation: { mode },
            capabilities: CAPABILITIES,
          });
          for (const [method, answer] of Object.entries(ANSWERS)) {
            // deno-lint-ignore no-explicit-any
            client.setRequestHandler(method as any, () => answer as any);
          }
          await client.connect(transport());
          check(await client.callTool({ name: "demo__introduces", arguments: {} }));
          await client.close();
        });
      }

      const transportsV1 = {
        "Streamable HTTP": () => new TransportV1(at("/mcp"), { requestInit }),
        "HTTP+SSE": () => new SseV1(at("/sse/demo"), { requestInit }),
      };
      for (const [name, transport] of Object.entries(transportsV1)) {
        await t.step(`${server}, SDK 1.x, ${name}`, async () => {
          const client = new ClientV1({ name: "test", version: "1" }, {
            capabilities: CAPABILITIES,
          });
          client.setRequestHandler(ElicitRequestSchema, () => ANSWERS["elicitation/create"]);
          client.setRequestHandler(
            CreateMessageRequestSchema,
            () => ANSWERS["sampling/createMessage"],
          );
          client.setRequestHandler(ListRootsRequestSchema, () => ANSWERS["roots/list"]);
          const logged: unknown[] = [];
          client.setNotificationHandler(
            LoggingMessageNotificationSchema,
            (told: { params: { level: string } }) => void logged.push(told.params.level),
          );
          await client.connect(transport());
          const prefix = name === "HTTP+SSE" ? "" : "demo__";
          check(await client.callTool({ name: `${prefix}introduces`, arguments: {} }));
          if (server === "asks_legacy") {
            await client.setLoggingLevel("info");
            await client.callTool({ name: `${prefix}logs`, arguments: {} });
            assert.deepEqual(logged, ["info", "error"]);
          }
          await client.close();
        });
      }
    }
  },
});

Deno.test({
  name: "/mcp serves the AI SDK's client and mcp-remote",
  ...options,
  async fn(t) {
    await using bridge = await openBridge(
      new URL("servers/steps.mjs", import.meta.url).pathname,
    );
    const headers = { authorization: `Bearer ${bridge.token}` };

    for (const [type, path] of [["http", "/mcp"], ["sse", "/sse"]] as const) {
      await t.step(`AI SDK, ${type}`, async () => {
        const url = new URL(path, bridge.url).href;
        const client = await createMCPClient({ transport: { type, url, headers } });
        const tools = await client.tools();
        assert.ok("demo__echo" in tools);
        const result = await tools.demo__echo.execute({ text: "hi" }, {
          toolCallId: "1",
          messages: [],
          // deno-lint-ignore no-explicit-any
        } as any);
        assert.match(JSON.stringify(result), /hi/);
        await client.close();
      });
    }

    for (const [transport, path] of [["http-only", "/mcp"], ["sse-only", "/sse"]]) {
      await t.step(`mcp-remote before an SDK's client on stdio, ${transport}`, async () => {
        const client = new ClientV1({ name: "test", version: "1" });
        const header = `Authorization: Bearer ${bridge.token}`;
        const url = new URL(path, bridge.url).href;
        await client.connect(
          new StdioV1({
            command: "npx",
            args: ["-y", MCP_REMOTE, url, "--header", header, "--transport", transport],
            stderr: "ignore",
          }),
        );
        assert.equal(client.getServerVersion()!.name, "mooring");
        const { tools } = await client.listTools();
        assert.ok(tools.some(({ name }: { name: string }) => name === "demo__echo"));
        const progress: number[] = [];
        // Apart: of what comes at once this SDK takes an answer before the progress that came before it.
        const steps = { steps: 2, name: transport, everyMs: 1500 };
        const [echoed, stepped] = await Promise.all([
          client.callTool({ name: "demo__echo", arguments: { text: "hi" } }),
          client.callTool(
            { name: "demo__steps", arguments: steps },
            undefined,
            {
              onprogress: (told: { progress: number }) => progress.push(told.progress),
            },
          ),
        ]);
        assert.match(JSON.stringify(echoed), /"hi"/);
        assert.match(JSON.stringify(stepped), /done/);
        assert.deepEqual(progress, [1, 2]);
        await client.close();
      });
    }
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
