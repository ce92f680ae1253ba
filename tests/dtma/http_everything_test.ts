/**
 * server-everything out of its npm package, in a container without a network: over Streamable HTTP and
 * over HTTP+SSE it serves what it does on stdio.
 */
import assert from "node:assert/strict";
import { adapterName } from "../../dtma/policy.ts";
import type { JsonRpcNotification, Session } from "../../dtma/session.ts";
import { engineTest, fixtureSpec, leftovers } from "./engine.ts";
import { Dtma, eventually } from "./observed.ts";
import { textOf, toolCall } from "./stdio_server.ts";

const CAPABILITIES = {
  "io.modelcontextprotocol/clientCapabilities": { elicitation: { form: {} }, sampling: {} },
};

for (
  const { type, path, argument } of [
    { type: "streamable-http", path: "/mcp", argument: "streamableHttp" },
    { type: "sse", path: "/sse", argument: "sse" },
  ] as const
) {
  engineTest(`server-everything serves all that it has over ${type}`, async (toolbox) => {
    const dtma = await Dtma.start(toolbox);
    try {
      const spec = fixtureSpec("everything", {
        package: {
          registry: "npm",
          name: "@modelcontextprotocol/server-everything",
          version: "2026.8.31",
          installScripts: false,
        },
        arguments: [argument],
        environment: { PORT: "3001" },
        transport: { type, port: 3001, path },
      });
      dtma.reconciler.apply([spec]);
      const { serverInfo, tools, prompts, resourceTemplates, containerId } = await dtma.ready(
        spec,
      );
      assert.match(String(serverInfo!.revision), /^20\d\d-\d\d-\d\d$/);
      assert.ok(tools!.some(({ name }) => name === "echo"));
      assert.ok(prompts!.length > 0 && resourceTemplates!.length > 0);
      const { HostConfig } = await toolbox.docker.inspectContainer(containerId!);
      assert.equal(HostConfig.NetworkMode, "none");

      const session = await sessionOf(dtma, spec.serverId);
      assert.match(
        textOf(await session.call(toolCall("echo", { message: "over HTTP" }), {})),
        /over/,
      );
      const progress = new Set<unknown>();
      const long = toolCall("trigger-long-running-operation", { duration: 0.4, steps: 4 }, {
        meta: { progressToken: "p" },
      });
      await session.call(long, { onNotification: ({ params }) => progress.add(params?.progress) });
      assert.deepEqual(progress, new Set([1, 2, 3, 4]));
      const sums = await Promise.all(
        Array.from(
          { length: 32 },
          (_, n) => session.call(toolCall("get-sum", { a: n, b: 1 }), {}),
        ),
      );
      sums.forEach((sum, n) => assert.match(textOf(sum), new RegExp(`\\b${n + 1}\\.`)));

      // It asks its caller something, and goes on with the answer.
      const asks = toolCall("trigger-elicitation-request", {}, { meta: CAPABILITIES });
      const asked = await session.call(asks, {});
      const { inputRequests, requestState } = asked.result as {
        inputRequests: Record<string, { method: string }>;
        requestState: string;
      };
      const [[key, { method }]] = Object.entries(inputRequests);
      assert.equal(method, "elicitation/create");
      const answered = await session.call({
        ...asks,
        params: {
          ...asks.params,
          requestState,
          inputResponses: { [key]: { action: "accept", content: { name: "Ada" } } },
        },
      }, {});
      assert.match(textOf(answered), /provided the requested information/);

      // What it says by itself comes on a stream of its own.
      const heard = await updatesOf(session);
      await session.call(toolCall("toggle-subscriber-updates"), {});
      await eventually(
        () => heard.updates.some(({ method }) => method.endsWith("/updated")),
      );
      heard.end();

      await toolbox.docker.killContainer(adapterName(`mooring-${spec.serverId}-1`));
      await eventually(async () =>
        await dtma.call(spec.serverId, "echo", { message: "again" }).then(
          (text) => text.includes("again"),
          () => false,
        )
      );
      assert.equal(dtma.seen(spec.serverId)!.containerId, containerId);
      await toolbox.docker.killContainer(containerId!);
      await dtma.until(
        spec,
        ({ restarts, layers }) => restarts === 1 && layers.tools.state === "ready",
      );
      assert.match(await dtma.call(spec.serverId, "echo", { message: "anew" }), /anew/);
      dtma.reconciler.apply([]);
      await eventually(() => dtma.removed.includes(spec.serverId));
      const { containers, images } = await leftovers(toolbox.docker, toolbox.id);
      assert.deepEqual([containers, images], [[], []]);
    } finally {
      await dtma.reconciler.close();
    }
  });
}

async function sessionOf(dtma: Dtma, serverId: string): Promise<Session> {
  const route = await dtma.reconciler.reach(serverId);
  if ("unavailable" in route) throw new Error(route.unavailable);
  return route.session;
}

/** Subscribes to a resource that the server updates now and then. */
async function updatesOf(session: Session) {
  const updates: JsonRpcNotification[] = [];
  const list = { jsonrpc: "2.0" as const, id: "resources", method: "resources/list", params: {} };
  const { result } = await session.call(list, {});
  const [{ uri }] = (result as { resources: { uri: string }[] }).resources;
  const life = new AbortController();
  session.call({
    jsonrpc: "2.0",
    id: "listen",
    method: "subscriptions/listen",
    params: { notifications: { resourceSubscriptions: [uri] } },
  }, { signal: life.signal, onNotification: (each) => updates.push(each) }).catch(() => {});
  return { updates, end: () => life.abort() };
}
