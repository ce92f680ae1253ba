/**
 * Servers that people use, of the marketplace's versions and one of Python's official SDK, behind one agent's
 * `/mcp`: each lists what it lists without a bridge, and is called by a real client of old and new.
 */
import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport } from "npm:@modelcontextprotocol/client@2.4.0";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { npmServer, type StartOptions } from "../dtma/stdio_server.ts";
import { type Bridge, openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };

/** Made of Debian's packages by tests/images/python_test.ts, and kept. */
const PYTHON_SDK = "mooring-test/python-mcp:sid";

interface Try extends StartOptions {
  call: { name: string; arguments: Record<string, unknown> };
  answer: RegExp;
}

/** By their slugs in the marketplace: how each is started here, and a call that it can answer. */
function tries(directory: string): Record<string, Try> {
  return {
    everything: {
      call: { name: "get-sum", arguments: { a: 2, b: 40 } },
      answer: /42/,
    },
    filesystem: {
      args: [directory],
      call: { name: "read_text_file", arguments: { path: `${directory}/note.txt` } },
      answer: /Ünïcode 🎉/,
    },
    memory: {
      env: { MEMORY_FILE_PATH: `${directory}/memory.jsonl` },
      call: { name: "search_nodes", arguments: { query: "Ann" } },
      answer: /knits/,
    },
    "sequential-thinking": {
      call: {
        name: "sequentialthinking",
        arguments: { thought: "x", nextThoughtNeeded: false, thoughtNumber: 1, totalThoughts: 1 },
      },
      answer: /thoughtHistoryLength/,
    },
    calculator: {
      call: { name: "math", arguments: { expression: "6 * 7" } },
      answer: /42/,
    },
    "task-manager": {
      env: { TASK_MANAGER_FILE_PATH: `${directory}/tasks.json` },
      call: {
        name: "request_planning",
        arguments: { originalRequest: "x", tasks: [{ title: "Knit", description: "a scarf" }] },
      },
      answer: /Knit/,
    },
  };
}

async function pythonServer(): Promise<{ script: string; start: Try } | string> {
  try {
    const { success } = await new Deno.Command("docker", {
      args: ["image", "inspect", PYTHON_SDK],
      stdout: "null",
      stderr: "null",
    }).output();
    if (!success) return `the image ${PYTHON_SDK} is not there`;
  } catch (error) {
    return String(error);
  }
  const script = new URL("../fixtures/python/sdk_server.py", import.meta.url).pathname;
  const command = [
    ...[
      "docker",
      "run",
      "-i",
      "--rm",
      "--init",
      "--network=none",
      `--volume=${script}:${script}:ro`,
    ],
    ...["--entrypoint=python3", PYTHON_SDK],
  ];
  const call = { name: "add", arguments: { a: 2, b: 40 } };
  return { script, start: { command, call, answer: /42/ } };
}

Deno.test({
  name: "/mcp lists and calls real servers of npm and Python, all at once",
  ...options,
  async fn(t) {
    const directory = await Deno.makeTempDir({ prefix: "mooring-servers-" });
    await Deno.writeTextFile(`${directory}/note.txt`, "Ünïcode 🎉");
    await Deno.writeTextFile(
      `${directory}/memory.jsonl`,
      `{"type":"entity","name":"Ann","entityType":"person","observations":["knits"]}`,
    );
    const started: { slug: string; server: Pick<Bridge, "tools">; asked: Try }[] = [];
    let bridge: Bridge | null = null;
    await using stack = new AsyncDisposableStack();
    stack.defer(() => Deno.remove(directory, { recursive: true }));
    const start = async (slug: string, script: string, asked: Try) => {
      const server = bridge
        ? await bridge.another(script, slug, asked)
        : bridge = await openBridge(script, { slug, ...asked });
      stack.use(server);
      started.push({ slug, server, asked });
    };
    for (const [slug, asked] of Object.entries(tries(directory))) {
      const entry = builtin.find((entry) => entry.slug === slug)!;
      const { name, version } = entry.package as { name: string; version: string };
      await start(slug, await npmServer(name, version), asked);
    }
    const python = await pythonServer();
    if (typeof python === "string") console.log(`SKIPPED: a server of Python's SDK: ${python}`);
    else await start("python", python.script, python.start);

    for (const mode of ["legacy", "auto"] as const) {
      await t.step(`SDK v2, versionNegotiation ${mode}`, async () => {
        const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } });
        const requestInit = { headers: { authorization: `Bearer ${bridge!.token}` } };
        await client.connect(
          new StreamableHTTPClientTransport(new URL(bridge!.url), { requestInit }),
        );
        const { tools } = await client.listTools();
        const listed = tools.map(({ name }) => name);
        for (const { slug, server, asked } of started) {
          const own = server.tools.map(({ name }) => `${slug}__${name}`);
          assert.deepEqual(own.filter((name) => !listed.includes(name)), [], slug);
          const result = await client.callTool({
            ...asked.call,
            name: `${slug}__${asked.call.name}`,
          });
          assert.ok(!result.isError, `${slug}: ${JSON.stringify(result)}`);
          assert.match(JSON.stringify(result.content), asked.answer, slug);
        }
        const all = started.reduce((sum, { server }) => sum + server.tools.length, 0);
        assert.equal(listed.length, all, "nothing else is listed");
        await client.close();
      });
    }
    console.log(`${started.length} servers, ${started.map(({ slug }) => slug).join(", ")}`);
  },
});
