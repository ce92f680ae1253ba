/** A remote server, reached from a container on the real engine through the egress proxy. */
import assert from "node:assert/strict";
import { linkServing } from "../../dtma/data_path.ts";
import { Docker } from "../../dtma/docker.ts";
import { ErrorCode, PIN_META } from "../../dtma/protocol.ts";
import { freePort } from "../free_port.ts";
import { Dtma, eventually } from "./observed.ts";
import { engineTest, fixtureSpec, leftovers } from "./engine.ts";

/** An address of the host that the proxy reaches: the internet, as far as this test goes. */
async function hostAddress(docker: Docker): Promise<string> {
  return (await docker.inspectNetwork("bridge"))?.IPAM.Config?.[0]?.Gateway ?? "172.17.0.1";
}

engineTest("A remote server is called from its container, and leaves nothing", async (toolbox) => {
  const host = await hostAddress(toolbox.docker);
  const keys = new Set<string | null>();
  const remote = Deno.serve({ hostname: host, port: 0, onListen() {} }, async (request) => {
    keys.add(request.headers.get("x-api-key"));
    if (request.method !== "POST") return new Response(null, { status: 405 });
    const { id, method, params } = await request.json();
    if (id === undefined) return new Response(null, { status: 202 });
    if (method === "server/discover") return new Response("no such method", { status: 400 });
    const result = method === "initialize"
      ? { protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: { name: "far" } }
      : method === "tools/list"
      ? { tools: [{ name: "say", inputSchema: { type: "object" } }] }
      : { content: [{ type: "text", text: `said ${params.arguments.text}` }] };
    return Response.json({ jsonrpc: "2.0", id, result }, { headers: { "mcp-session-id": "s" } });
  });
  const dtma = await Dtma.start(toolbox, undefined, {
    egress: { privateNetworks: [`${host}/32`], addresses: { "mcp.example.test": [host] } },
  });
  try {
    const spec = fixtureSpec("far", {
      package: { registry: "remote", url: `http://mcp.example.test:${remote.addr.port}/mcp` },
      network: { hosts: [`mcp.example.test:${remote.addr.port}`] },
      environment: { HEADER_1_NAME: "X-Api-Key" },
      secrets: { HEADER_1_VALUE: "a-secret-key" },
      memoryMiB: 128,
    });
    dtma.reconciler.apply([spec]);
    const { serverInfo, tools } = await dtma.ready(spec);
    assert.equal(serverInfo!.name, "far");
    assert.deepEqual(tools!.map(({ name }) => name), ["say"]);
    assert.equal(await dtma.call(spec.serverId, "say", { text: "hello" }), "said hello");
    assert.deepEqual([...keys], ["a-secret-key"]);
    assert.ok(!JSON.stringify([dtma.history, dtma.events]).includes("a-secret-key"));

    // A token: of the first one the container is another, for an adapter of before knew of none.
    const [{ containerId: plain }] = dtma.reconciler.running();
    const withToken = { ...spec, generation: 2, headers: { "x-api-key": "token one" } };
    dtma.reconciler.apply([withToken]);
    await dtma.ready(withToken);
    assert.equal(await dtma.call(spec.serverId, "say", { text: "again" }), "said again");
    const [{ containerId }] = dtma.reconciler.running();
    assert.notEqual(containerId, plain);
    // Later ones come to the same, with another change or without.
    const next = (generation: number, token: string, hosts: string[]) => ({
      ...withToken,
      generation,
      headers: { "x-api-key": token },
      network: { hosts: [...spec.network.hosts, ...hosts] },
    });
    for (
      const change of [
        next(2, "token two", []),
        next(3, "token three", ["other.example.test:443"]),
        next(3, "token four", ["other.example.test:443"]),
      ]
    ) {
      dtma.reconciler.apply([change]);
      await eventually(async () => {
        keys.clear();
        await dtma.call(spec.serverId, "say", { text: "x" });
        return keys.has(change.headers["x-api-key"]);
      });
      assert.deepEqual(dtma.reconciler.running().map((each) => each.containerId), [containerId]);
    }
    const told = [
      JSON.stringify([dtma.history, dtma.events]),
      await dtma.reconciler.log(spec.serverId),
      JSON.stringify(await toolbox.docker.inspectContainer(containerId)),
    ];
    assert.ok(!told.join().includes("token "));

    dtma.reconciler.apply([]);
    await eventually(() => dtma.removed.includes(spec.serverId));
    const left = await leftovers(toolbox.docker, toolbox.id);
    assert.deepEqual(left.images, []);
  } finally {
    await dtma.reconciler.close();
    await remote.shutdown();
  }
});

engineTest(
  "A URL that gives no session is told in one sentence, with advice for a URL",
  async (toolbox) => {
    const host = await hostAddress(toolbox.docker);
    const plain = Deno.serve(
      { hostname: host, port: 0, onListen() {} },
      () => new Response(null, { status: 404 }),
    );
    const nobody = freePort();
    const dtma = await Dtma.start(toolbox, undefined, {
      egress: { privateNetworks: [`${host}/32`], addresses: { "mcp.example.test": [host] } },
    });
    const { port } = plain.addr;
    const said: Record<string, [reason: RegExp, nextStep: RegExp]> = {
      [`https://mcp.example.test:${port}/mcp`]: [
        /^mcp\.example\.test:\d+ does not answer: it does not speak TLS there \([A-Z_]+\)$/,
        /^Check the URL, and that the server is up/,
      ],
      [`https://mcp.example.test:${nobody}/mcp`]: [
        /^mcp\.example\.test:\d+ does not answer: nothing takes connections there \([A-Z0-9_]+\)$/,
        /^Check the URL, and that the server is up/,
      ],
      [`http://mcp.example.test:${nobody}/mcp`]: [
        /^mcp\.example\.test:\d+ cannot be reached \(ECONNREFUSED\)$/,
        /^Check the URL, and that the server is up/,
      ],
      [`http://mcp.example.test:${port}/mcp`]: [
        /^The remote server answered 404$/,
        /^Check the URL's path/,
      ],
    };
    try {
      const specs = Object.keys(said).map((url) =>
        fixtureSpec("far", {
          package: { registry: "remote", url },
          network: { hosts: [new URL(url).host] },
          memoryMiB: 128,
        })
      );
      dtma.reconciler.apply(specs);
      for (const [index, spec] of specs.entries()) {
        const { layers } = await dtma.until(
          spec,
          ({ layers }) => layers.handshake.state === "failed",
        );
        const [reason, nextStep] = Object.values(said)[index];
        const { detail } = layers.handshake;
        assert.match(detail.replace(/\. It is started again.*$/, ""), reason);
        assert.match(layers.handshake.nextStep!, nextStep);
      }
    } finally {
      await dtma.reconciler.close();
      await plain.shutdown();
    }
  },
);

engineTest("A lost session's calls go by what the next one lists", async (toolbox) => {
  const host = await hostAddress(toolbox.docker);
  let revision = 1, opened = 0;
  const known = new Set<string>();
  const made: string[] = [];
  const remote = Deno.serve({ hostname: host, port: 0, onListen() {} }, async (request) => {
    if (request.method !== "POST") return new Response(null, { status: 405 });
    const { id, method, params } = await request.json();
    if (method === "server/discover") return new Response("no such method", { status: 400 });
    const session = method === "initialize"
      ? `s${++opened}`
      : request.headers.get("mcp-session-id") ?? "";
    if (method === "initialize") known.add(session);
    if (!known.has(session)) return new Response(null, { status: 404 });
    if (id === undefined) return new Response(null, { status: 202 });
    const inputSchema = { type: "object" };
    if (method === "tools/call") made.push(params.name);
    const result = method === "initialize"
      ? { protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: { name: "far" } }
      : method === "tools/list"
      ? {
        tools: [
          { name: "changing", description: `Revision ${revision}`, inputSchema },
          { name: "same", inputSchema },
        ],
      }
      : { content: [{ type: "text", text: session }] };
    return Response.json({ jsonrpc: "2.0", id, result }, {
      headers: { "mcp-session-id": session },
    });
  });
  const dtma = await Dtma.start(toolbox, undefined, {
    egress: { privateNetworks: [`${host}/32`], addresses: { "mcp.example.test": [host] } },
  });
  try {
    const spec = fixtureSpec("far", {
      package: { registry: "remote", url: `http://mcp.example.test:${remote.addr.port}/mcp` },
      network: { hosts: [`mcp.example.test:${remote.addr.port}`] },
      memoryMiB: 128,
    });
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    const { serverId } = spec;
    const route = await dtma.reconciler.reach(serverId);
    assert.ok("toolHashes" in route);
    const pins = new Map(route.toolHashes);
    const serve = linkServing({
      reach: dtma.reconciler.reach.bind(dtma.reconciler),
      logOf: dtma.reconciler.log.bind(dtma.reconciler),
    });
    const call = async (name: string) => {
      const _meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        [PIN_META]: pins.get(name),
      };
      const request = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name, _meta } };
      const { signal } = new AbortController();
      const text = JSON.stringify(request);
      return JSON.parse(
        String(await serve({ serverId, instance: null, text, signal, notify() {} })),
      );
    };
    assert.equal((await call("changing")).result.content[0].text, "s1");
    known.clear();
    revision = 2;
    made.length = 0;
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => call(n % 2 === 0 ? "changing" : "same")),
    );
    for (const [n, { result, error }] of answers.entries()) {
      if (n % 2 === 0) assert.equal(error?.code, ErrorCode.definitionChanged);
      else assert.equal(result?.content[0].text, "s2", JSON.stringify(error));
    }
    assert.deepEqual(made, Array.from({ length: 10 }, () => "same"));
    // A ping, or whatever else, finds it lost: the same.
    known.clear();
    revision = 3;
    const { session } = await dtma.reconciler.reach(serverId) as Extract<
      typeof route,
      { session: unknown }
    >;
    await Promise.all([session.ping(10_000), call("same"), call("changing")]);
    assert.equal((await call("same")).result.content[0].text, "s3");
    assert.ok(!made.includes("changing"));
  } finally {
    await dtma.reconciler.close();
    await remote.shutdown();
  }
});
