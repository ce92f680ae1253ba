import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport } from "npm:@modelcontextprotocol/client@2.4.0";
import { LISTENERS_LIMIT } from "../../dtma/subscriptions.ts";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { withdrawDefinitions } from "../../models/definitions.ts";
import { readSession } from "../../models/sessions.ts";
import { calling, eventsOf, messagesOf, openSession } from "./streams.ts";
import { modern, openBridge } from "./world.ts";

const SCRIPTED = new URL("servers/scripted.mjs", import.meta.url).pathname;
const options = { sanitizeResources: false, sanitizeOps: false };
const request = (id: number, method: string, params: Record<string, unknown> = {}) => ({
  jsonrpc: "2.0",
  id,
  method,
  params,
});

Deno.test({
  name: "prompts, resources, templates and completion reach their server, of one or of two",
  ...options,
  async fn(t) {
    await using bridge = await openBridge("resources");

    for (const mode of ["legacy", "auto"] as const) {
      await t.step(`through SDK v2, ${mode}`, async () => {
        const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } });
        await client.connect(
          new StreamableHTTPClientTransport(new URL(bridge.url), {
            requestInit: { headers: { authorization: `Bearer ${bridge.token}` } },
          }),
        );
        assert.match(client.getInstructions() ?? "", /Read before you ask/);
        const { prompts } = await client.listPrompts();
        assert.deepEqual(prompts.map(({ name }) => name), ["demo__prompt-1"]);
        const prompt = await client.getPrompt({ name: "demo__prompt-1", arguments: { what: "x" } });
        assert.equal(prompt.description, "prompt-1");
        const { resources } = await client.listResources();
        assert.deepEqual(resources.map(({ uri }) => uri), ["file:///1"]);
        const { contents } = await client.readResource({ uri: "file:///1" });
        assert.deepEqual(contents, [{ uri: "file:///1", text: "content" }]);
        const { resourceTemplates } = await client.listResourceTemplates();
        assert.deepEqual(resourceTemplates.map(({ uriTemplate }) => uriTemplate), [
          "file:///1/{path}",
        ]);
        for (
          const ref of [
            { type: "ref/prompt" as const, name: "demo__prompt-1" },
            { type: "ref/resource" as const, uri: "file:///1/{path}" },
          ]
        ) {
          const { completion } = await client.complete({
            ref,
            argument: { name: "what", value: "a" },
          });
          assert.deepEqual(completion.values, ["a!"]);
        }
        await assert.rejects(client.readResource({ uri: "file:///secret" }));
        await assert.rejects(client.getPrompt({ name: "demo__none" }), /Unknown prompt/);
        await client.close();
      });
    }

    await t.step("a server with resources beside another has URIs of its own", async () => {
      await using other = await bridge.another("resources", "other");
      const session = await openSession(bridge);
      const ask = async (method: string, params: Record<string, unknown> = {}) => {
        const { result, error } = await (await session.send(1, {
          body: request(1, method, params),
        })).json();
        assert.equal(error, undefined, JSON.stringify(error));
        return result;
      };
      const { resources } = await ask("resources/list");
      assert.deepEqual(
        resources.map(({ uri }: { uri: string }) => uri),
        ["mooring://demo/file:///1", "mooring://other/file:///1"],
      );
      for (const { uri } of resources) {
        const { contents } = await ask("resources/read", { uri });
        assert.deepEqual(contents, [{ uri, text: "content" }], "it says by which URI it was read");
      }
      await other.process[Symbol.asyncDispose]();
      const without = await ask("resources/list");
      assert.equal(without.resources.length, 1);
      assert.ok(without._meta["dev.mooring/unavailable"].other);
    });

    await t.step("what a result names of two servers is read by that name", async () => {
      await using scripted = await bridge.another(SCRIPTED, "script");
      const session = await openSession(bridge);
      const ask = async (method: string, params: Record<string, unknown>) =>
        await (await session.send(1, { body: request(1, method, params) })).text();
      // A resource of this server answers what its URI says.
      const own = `text:${encodeURIComponent(`{"contents":[{"uri":"text:x","text":"read"}]}`)}`;
      const link = `{"type":"resource_link","uri":"${own}","name":"x","size":9007199254740993}`;
      const embedded = `{"type":"resource","resource":{ "uri" : "${own}","text":"","n":1.0}}`;
      const web = `{"type":"resource_link","uri":"https://example.com/","name" : "x"}`;
      const text = `{"type":"text", "text":"${own}","n":1.0}`;
      const results = {
        "tools/call": [
          { name: "script__says", arguments: { text: `{"content":[${link},${web},${text}]}` } },
          { name: "script__says", arguments: { text: `{"content":[${embedded}]}` } },
        ],
        "prompts/get": [{
          name: "script__says",
          arguments: { text: `{"messages":[{"role":"user","content":${embedded}}]}` },
        }],
      };
      for (const [method, all] of Object.entries(results)) {
        for (const params of all) {
          const answer = await ask(method, params);
          const [uri] = /mooring:\/\/script\/text:[^"]*/.exec(answer)!;
          const { result } = JSON.parse(await ask("resources/read", { uri }));
          assert.equal(result.contents[0].text, "read");
          assert.equal(result.contents[0].uri, "mooring://script/text:x");
          // The rest is as it was written.
          if (answer.includes("resource_link")) {
            assert.ok(answer.includes(`"name":"x","size":9007199254740993`), answer);
            assert.ok(answer.includes(web) && answer.includes(text), answer);
          } else assert.ok(answer.includes(`"text":"","n":1.0`), answer);
        }
      }
      const untouched = `{"content":[ ${web}, ${text} ],"x":[ 1.0 ]}`;
      const answer = await ask("tools/call", {
        name: "script__says",
        arguments: { text: untouched },
      });
      assert.ok(answer.includes(`[ ${web}, ${text} ]`) && answer.includes("[ 1.0 ]"), answer);
      // A URI that is nobody's by name is asked of nobody.
      const { error } = JSON.parse(await ask("resources/read", { uri: own }));
      assert.match(error.message, /There is no resource/);
      assert.equal(error.code, -32002);
      const { body, headers } = modern("resources/read", { uri: own });
      const unknown = await (await bridge.post(body, { ...headers, "mcp-name": own })).json();
      assert.deepEqual([unknown.error.code, unknown.error.data], [-32602, { uri: own }]);
      assert.equal(scripted.tools.length, 3);
    });

    await t.step("what is not approved is not given", async () => {
      const { db, user, serverId } = bridge;
      await withdrawDefinitions(db, user, serverId, "prompt", ["prompt-1"]);
      const session = await openSession(bridge);
      const { result } = await (await session.send(0, { body: request(1, "prompts/list") })).json();
      assert.deepEqual(result.prompts, []);
      await bridge.approveAll();
    });
  },
});

Deno.test({
  name: "a server of 2024-11-05 completes, though it cannot say that it does",
  ...options,
  async fn() {
    await using bridge = await openBridge("completes");
    const ref = { type: "ref/prompt", name: "demo__greets" };
    const argument = { name: "who", value: "A" };
    for (const revision of ["2024-11-05", "2025-11-25"]) {
      const { result, send } = await openSession(bridge, { revision });
      assert.deepEqual(result.capabilities.completions, {});
      const params = { ref, argument };
      const body = { jsonrpc: "2.0", id: 1, method: "completion/complete", params };
      const [answer] = await messagesOf(await send(0, { body }));
      assert.deepEqual(answer.result, { completion: { values: ["Ann"] } });
    }
  },
});

Deno.test({
  name: "updates of resources and lists reach sessions' streams and listeners, damped",
  ...options,
  async fn(t) {
    await using bridge = await openBridge("resources");

    await t.step("a session that subscribed, at another replica than its stream", async () => {
      const session = await openSession(bridge);
      assert.deepEqual(session.result.capabilities.resources, {
        listChanged: true,
        subscribe: true,
      });
      const cut = new AbortController();
      const events = eventsOf(await session.send(0, { method: "GET", signal: cut.signal }));
      assert.equal((await events.next()).value!.data, "");
      const uri = "file:///1";
      const subscribed = await session.send(1, {
        body: request(1, "resources/subscribe", { uri }),
      });
      assert.deepEqual((await subscribed.json()).result, {});
      // Until its server is listened to.
      await until(async () => {
        const { result } = await (await bridge.post(calling(9, "demo__seen"))).json();
        return JSON.stringify(result.structuredContent).includes("resources/subscribe");
      });
      await bridge.post(calling(2, "demo__updates", { uri, times: 500 })).then((r) => r.text());
      assert.deepEqual(await updateOn(events), {
        jsonrpc: "2.0",
        method: "notifications/resources/updated",
        params: { uri },
      });
      await bridge.post(calling(3, "demo__changes", { list: "resources", times: 500 }))
        .then((r) => r.text());
      const methods: string[] = [];
      let lastId = "";
      for (let n = 0; n < 9; n++) {
        const { value } = await events.next();
        lastId = value!.id!;
        methods.push(JSON.parse(value!.data).method);
        if (methods.at(-1) === "notifications/resources/list_changed") break;
      }
      assert.ok(methods.length < 5, `500 updates were told ${methods.length} times`);
      // Taken up again it is another stream, whose events have ids of their own.
      const ids = new Set([lastId]);
      for (let n = 0; n < 2; n++) {
        const headers = { "last-event-id": lastId };
        const again = await session.send(n, { method: "GET", headers, signal: cut.signal });
        const { value } = await eventsOf(again).next();
        assert.equal(JSON.parse(value!.data).method, "notifications/resources/updated");
        ids.add(value!.id!);
      }
      assert.equal(ids.size, 3, [...ids].join());
      await session.send(1, { body: request(4, "resources/unsubscribe", { uri }) })
        .then((r) => r.text());
      await until(async () => {
        const { result } = await (await bridge.post(calling(9, "demo__seen"))).json();
        return JSON.stringify(result.structuredContent).includes("resources/unsubscribe");
      });
      cut.abort();
    });

    await t.step("a listener of 2026-07-28", async () => {
      const cut = new AbortController();
      const { body, headers } = modern("subscriptions/listen", {
        notifications: { resourceSubscriptions: ["file:///2"], resourcesListChanged: true },
      }, 77);
      const response = await bridge.post(body, headers, cut.signal);
      const events = eventsOf(response);
      const next = async () => JSON.parse((await events.next()).value!.data);
      assert.deepEqual((await next()).params.notifications, {
        resourceSubscriptions: ["file:///2"],
        resourcesListChanged: true,
      });
      // It is told of all that happens once it was acknowledged.
      await bridge.post(calling(5, "demo__updates", { uri: "file:///2" })).then((r) => r.text());
      assert.deepEqual((await updateOn(events)).params, {
        _meta: { "io.modelcontextprotocol/subscriptionId": 77 },
        uri: "file:///2",
      });
      cut.abort();
    });

    await t.step("a listener whose server is heard long after it was acknowledged", async () => {
      const { session } = bridge.route, { call } = session;
      const isLate = Promise.withResolvers<void>();
      // As one that is started by it.
      session.call = async (request, options) => {
        if (request.method === "subscriptions/listen") await isLate.promise;
        return await call.call(session, request, options);
      };
      const cut = new AbortController();
      const { body, headers } = modern("subscriptions/listen", {
        notifications: { resourceSubscriptions: ["file:///3"] },
      });
      const events = eventsOf(await bridge.post(body, headers, cut.signal));
      const next = async () => JSON.parse((await events.next()).value!.data);
      assert.equal((await next()).method, "notifications/subscriptions/acknowledged");
      await bridge.post(calling(7, "demo__updates", { uri: "file:///3" })).then((r) => r.text());
      isLate.resolve();
      const { method, params } = await next();
      assert.deepEqual([method, params.uri], ["notifications/resources/updated", "file:///3"]);
      session.call = call;
      cut.abort();
    });

    await t.step(
      "a list that its server calls changed, though what is approved did not",
      async () => {
        const cut = new AbortController();
        const { body, headers } = modern("subscriptions/listen", {
          notifications: { toolsListChanged: true, promptsListChanged: true },
        });
        const listener = eventsOf(await bridge.post(body, headers, cut.signal));
        const methodOf = async (events: typeof listener) =>
          JSON.parse((await events.next()).value!.data).method;
        assert.equal(await methodOf(listener), "notifications/subscriptions/acknowledged");
        const session = await openSession(bridge);
        const stream = eventsOf(await session.send(1, { method: "GET", signal: cut.signal }));
        assert.equal((await stream.next()).value!.data, "");
        const told = methodOf(stream);
        let isTold = false;
        told.then(() => isTold = true);
        // Until its server is listened to for the session's stream, too.
        await until(async () => {
          await bridge.post(calling(6, "demo__changes", { list: "prompts", times: 100 }))
            .then((r) => r.text());
          return isTold;
        });
        assert.equal(await told, "notifications/prompts/list_changed");
        assert.equal(await methodOf(listener), "notifications/prompts/list_changed");
        cut.abort();
      },
    );

    await t.step("what no server has cannot be subscribed to", async () => {
      const session = await openSession(bridge);
      for (const uri of [7, "file:///\u0000"]) {
        for (const method of ["resources/subscribe", "resources/unsubscribe"]) {
          const { error } = await (await session.send(0, { body: request(1, method, { uri }) }))
            .json();
          assert.equal(error.code, -32602, method);
        }
      }
    });
  },
});

Deno.test({
  name: "a listener is told which of its resources their server does not tell of",
  ...options,
  async fn() {
    await using bridge = await openBridge("resources");
    for (
      const [asked, honoured] of [
        [["file:///1", "file:///secret"], { resourceSubscriptions: ["file:///1"] }],
        [["file:///secret"], {}],
      ]
    ) {
      const notifications = { resourceSubscriptions: asked };
      const { body, headers } = modern("subscriptions/listen", { notifications });
      const cut = new AbortController();
      const events = eventsOf(await bridge.post(body, headers, cut.signal));
      const { params } = JSON.parse((await events.next()).value!.data);
      assert.deepEqual(params.notifications, honoured);
      cut.abort();
    }
  },
});

Deno.test({
  name: "a session is told that a server does not let it subscribe, and nothing of it is kept",
  ...options,
  async fn(t) {
    await using bridge = await openBridge("resources");
    const { session: upstream } = bridge.route, { call } = upstream;
    const opened = await openSession(bridge);
    const cut = new AbortController();
    const events = eventsOf(await opened.send(0, { method: "GET", signal: cut.signal }));
    await events.next();
    const subscribe = async (uri: string, session = opened) => {
      const body = request(1, "resources/subscribe", { uri });
      const [{ result, error }] = await messagesOf(await session.send(1, { body }));
      return { result, error: error as { code: number; message: string } };
    };
    const kept = async () =>
      (await readSession(bridge.db, bridge.agentId, opened.id))!.subscriptions;

    await t.step("with the server's own error", async () => {
      assert.deepEqual((await subscribe("file:///secret")).error, {
        code: -32601,
        message: "Method not found",
      });
      assert.deepEqual(await kept(), []);
      assert.deepEqual((await subscribe("file:///1")).result, {});
      assert.deepEqual(await kept(), ["file:///1"]);
      // What happens from here on is told, though its stream may be at another replica.
      assert.deepEqual((await updateOn(events)).params, { uri: "file:///1" });
      // One of 2026-07-28 has but its acknowledgement to say so.
      upstream.call = (request, options) => {
        if (request.method !== "subscriptions/listen") return call.call(upstream, request, options);
        const notify = options.onNotification!;
        const method = "notifications/subscriptions/acknowledged";
        notify({ jsonrpc: "2.0", method, params: { notifications: {} } });
        return new Promise(() => {});
      };
      assert.match((await subscribe("file:///2")).error.message, /does not tell of updates/);
    });

    await t.step("of many at once each", async () => {
      upstream.call = call;
      const uris = Array.from({ length: 300 }, (_, n) => `file:///${n % 3 ? "" : "secret/"}${n}`);
      const answers = await Promise.all(uris.map((uri) => subscribe(uri)));
      assert.deepEqual(
        answers.map(({ error }) => error?.message),
        uris.map((uri) => uri.includes("secret") ? "Method not found" : undefined),
      );
      const all = await kept();
      assert.equal(all.length, 200);
      assert.ok(!all.some((uri) => uri.includes("secret")));
    });

    await t.step("where it is silent, or gone, in bounded time", async () => {
      const before = await kept();
      upstream.call = (request, options) =>
        request.method === "subscriptions/listen"
          ? new Promise(() => {})
          : call.call(upstream, request, options);
      assert.match((await subscribe("file:///silent")).error.message, /did not say within 10 s/);
      upstream.call = call;
      upstream.close("It ended");
      assert.equal((await subscribe("file:///gone")).error.code, -31001);
      assert.deepEqual(await kept(), before);
      cut.abort();
    });

    await t.step("or has no such capability", async () => {
      await using without = await openBridge(SCRIPTED);
      const session = await openSession(without);
      const { code, message } = (await subscribe("file:///1", session)).error;
      assert.deepEqual([code, message], [-32602, "Its server does not tell of updates"]);
    });
  },
});

Deno.test({
  name: "a resource of the only server that had any stays its own when another one comes",
  ...options,
  async fn() {
    await using bridge = await openBridge("resources");
    const session = await openSession(bridge);
    const cut = new AbortController();
    const events = eventsOf(await session.send(0, { method: "GET", signal: cut.signal }));
    await events.next();
    const uri = "x://followed";
    await session.send(0, { body: request(1, "resources/subscribe", { uri }) });
    const hears = async (count: number) => {
      const { result } = await (await bridge.post(calling(9, "demo__seen"))).json();
      const { value } = result.structuredContent as { value: { method: string }[] };
      return value.filter(({ method }) => method === "resources/subscribe").length >= count;
    };
    await until(() => hears(1));
    await using _other = await bridge.another(SCRIPTED, "script");
    let methods: string[] = [];
    while (!methods.includes("notifications/resources/updated")) {
      await bridge.post(calling(2, "demo__updates", { uri })).then((r) => r.text());
      const { value } = await events.next();
      const { method, params } = JSON.parse(value!.data);
      methods = [...methods, method];
      if (method === "notifications/resources/updated") assert.equal(params.uri, uri);
    }
    const [read] = await messagesOf(
      await session.send(0, { body: request(3, "resources/read", { uri }) }),
    );
    assert.ok(read.result, JSON.stringify(read));
    cut.abort();
  },
});

Deno.test({
  name: "a listener of many resources, which are updated all at once, is told of each",
  ...options,
  async fn() {
    await using bridge = await openBridge("resources");
    const cut = new AbortController();
    const uris = Array.from({ length: 300 }, (_, n) => `file:///many/${n}`);
    const { body, headers } = modern("subscriptions/listen", {
      notifications: { resourceSubscriptions: uris },
    });
    const events = eventsOf(await bridge.post(body, headers, cut.signal));
    await events.next();
    // Until its server is listened to for all of them.
    await until(async () => {
      const { result } = await (await bridge.post(calling(9, "demo__seen"))).json();
      const seen = JSON.stringify(result.structuredContent);
      return uris.every((uri) => seen.includes(`"${uri}"`));
    });
    await Promise.all(uris.map(async (uri) => {
      await (await bridge.post(calling(1, "demo__updates", { uri }))).body?.cancel();
    }));
    const told = new Set<string>();
    while (told.size < uris.length) {
      told.add(JSON.parse((await events.next()).value!.data).params.uri);
    }
    assert.deepEqual([...told].sort(), uris.sort());
    cut.abort();
  },
});

Deno.test({
  name: "clients of many agents are one listener to their server, and each hears what it asked for",
  ...options,
  async fn() {
    await using bridge = await openBridge("resources");
    const { db, user, workspaceId, serverId, route } = bridge;
    // More than a toolbox takes of a server, with more resources than one of its streams has.
    const AGENTS = LISTENERS_LIMIT + 4, RESOURCES = 4;
    const tokens = [];
    for (let n = 0; n < AGENTS; n++) {
      const agentId = await createAgent(db, user, workspaceId, `Agent ${n}`);
      await connectServer(db, user, agentId, serverId);
      tokens.push((await createToken(db, user, agentId, { name: "t", expiresInDays: 1 })).token);
    }
    let open = 0, most = 0;
    const { session } = route;
    const { call } = session;
    session.call = (request, options) => {
      if (request.method !== "subscriptions/listen") return call.call(session, request, options);
      most = Math.max(most, ++open);
      return call.call(session, request, options).finally(() => open--);
    };
    const cut = new AbortController();
    const heard = tokens.map(() => new Map<string, number>());
    const uriOf = (agent: number, n: number) => `file:///${agent * RESOURCES + n}`;
    const streams = await Promise.all(tokens.map(async (token, agent) => {
      const { body, headers } = modern("subscriptions/listen", {
        notifications: {
          resourceSubscriptions: Array.from({ length: RESOURCES }, (_, n) => uriOf(agent, n)),
        },
      });
      const authorization = `Bearer ${token}`;
      return await bridge.post(body, { ...headers, authorization }, cut.signal);
    }));
    const reading = streams.map(async (response, agent) => {
      for await (const { data } of eventsOf(response)) {
        const { uri } = JSON.parse(data).params;
        if (uri) heard[agent].set(uri, (heard[agent].get(uri) ?? 0) + 1);
      }
    });
    const update = async (uri: string) =>
      await (await bridge.post(calling(1, "demo__updates", { uri }))).body?.cancel();
    // The first is file:///0, the last a longer one that begins as others do.
    for (const agent of [0, 1, 25, AGENTS - 1]) {
      const uri = uriOf(agent, RESOURCES - 1);
      await until(async () => {
        await update(uri);
        return heard[agent].has(uri);
      });
    }
    await update("file:///7/part?of#it");
    await until(() => Promise.resolve(heard[1].has("file:///7/part?of#it")));
    for (const [agent, uris] of heard.entries()) {
      for (const uri of uris.keys()) {
        const [, number] = /^file:\/\/\/(\d+)/.exec(uri)!;
        assert.equal(Math.floor(Number(number) / RESOURCES), agent, `${agent} heard of ${uri}`);
      }
    }
    // Two for the resources, and as many again while new ones take over; never one an agent.
    assert.ok(most <= 4, `${most} streams from one server`);
    cut.abort();
    await Promise.allSettled(reading);
    await until(() => Promise.resolve(open === 0));
    session.call = call;
  },
});

/** The next update of a resource. Where a server is heard late, its list may have changed meanwhile, and is told of. */
async function updateOn(events: ReturnType<typeof eventsOf>) {
  for (;;) {
    const message = JSON.parse((await events.next()).value!.data);
    if (message.method === "notifications/resources/updated") return message;
    assert.equal(message.method, "notifications/resources/list_changed");
  }
}

async function until(isSo: () => Promise<boolean>) {
  while (!await isSo()) await new Promise((resolve) => setTimeout(resolve, 100));
}
