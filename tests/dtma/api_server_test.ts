/** A REST API from its OpenAPI document to an agent's call: the app's pages, a real container, a real API. */
import assert from "node:assert/strict";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { getServer } from "../../models/servers.ts";
import { listTools } from "../../models/tools.ts";
import { openAppAndDtma } from "./app_and_dtma.ts";
import { askBridge } from "./bridge_call.ts";
import { engineTest } from "./engine.ts";
import { eventually } from "./observed.ts";
import { bridgeAddress } from "./package_index.ts";

const NAME = "api.example.test";

const document = (port: number, summary: string) => ({
  openapi: "3.1.0",
  info: { title: "Notes", version: "1" },
  servers: [{ url: `http://${NAME}:${port}/v1` }],
  components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
  paths: {
    "/notes/{id}": {
      get: {
        operationId: "readNote",
        summary,
        parameters: [
          { name: "id", in: "path", required: true, schema: { type: "string" } },
          { name: "lang", in: "query", schema: { type: "array", items: { type: "string" } } },
        ],
        responses: {
          200: {
            content: {
              "application/json": {
                schema: { type: "object", properties: { id: { type: "string" } } },
              },
            },
          },
        },
      },
      delete: {
        operationId: "removeNote",
        parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }],
        responses: { 204: {} },
      },
    },
    "/notes": {
      post: {
        operationId: "addNote",
        requestBody: { content: { "application/json": { schema: { type: "object" } } } },
        responses: { 201: {} },
      },
    },
  },
});

engineTest(
  "A REST API is added on its page, approved, and called through the bridge",
  async (toolbox) => {
    const host = await bridgeAddress(toolbox.docker);
    const asked: { line: string; authorization: string | null; body: string }[] = [];
    const api = Deno.serve({ hostname: host, port: 0, onListen() {} }, async (request) => {
      const { pathname, search } = new URL(request.url);
      const authorization = request.headers.get("authorization");
      const body = await request.text();
      asked.push({ line: `${request.method} ${pathname}${search}`, authorization, body });
      if (authorization !== "Bearer the-secret-token") return new Response("no", { status: 401 });
      if (pathname.endsWith("/elsewhere")) {
        return Response.redirect("http://other.example.test/secret", 302);
      }
      return Response.json({ id: pathname.split("/").at(-1) });
    });
    await using both = await openAppAndDtma(toolbox, { host, name: NAME });
    const { app, baseUrl, reconciler } = both;
    const { db, user, workspaceId, toolboxId } = app;
    const cookie = [...app.jar.values()].join("; ");
    const post = (path: string, form: [string, string][]) =>
      fetch(baseUrl + path, {
        method: "POST",
        body: new URLSearchParams(form),
        headers: { cookie, origin: baseUrl },
        redirect: "manual",
      });
    const sentOn = async (response: Response) => {
      const page = await response.text();
      assert.equal(response.status, 303, page);
      return response.headers.get("location")!.split("?")[0];
    };
    const { port } = api.addr as Deno.NetAddr;
    try {
      const text = JSON.stringify(document(port, "Read a note"));
      const choosing = await sentOn(await post("/servers/api", [["document", text]]));
      const page = await (await app.get(choosing)).text();
      // Of reading ones it is chosen, of writing ones it is not.
      assert.match(page, /value="GET \/notes\/\{id\}" checked/);
      assert.doesNotMatch(page, /value="DELETE \/notes\/\{id\}" checked/);
      const form: [string, string][] = [
        ["operation", "GET /notes/{id}"],
        ["operation", "POST /notes"],
        ["server", "0"],
        ["env.AUTH_TOKEN", "the-secret-token"],
        ["tellsShape", "true"],
        ["toolboxId", toolboxId],
        ["idempotencyKey", crypto.randomUUID()],
      ];
      const refused = await post(choosing, form);
      assert.equal(refused.status, 422);
      assert.match(await refused.text(), /shows a key to anybody on the way/);
      form.push(["consent.plainHttp", "true"]);
      const serverPath = await sentOn(await post(choosing, form));
      assert.equal(
        await sentOn(await post(choosing, form)),
        serverPath,
        "sent twice it is one server",
      );
      const serverId = serverPath.split("/").at(-1)!;

      await eventually(async () => (await listTools(db, user, serverId)).length === 2);
      await sentOn(
        await post(`${serverPath}/tools`, [
          ["act", "approve-all"],
          ...(await listTools(db, user, serverId)).map(({ name, hash }): [string, string] => [
            "waiting",
            `${hash} ${name}`,
          ]),
        ]),
      );
      const server = await getServer(db, user, serverId);
      assert.deepEqual(server.tools, { total: 2, approved: 2, changed: 0, waiting: 0 });
      assert.deepEqual([server.status, server.serverInfo!.name], ["running", "Notes"]);
      const agentId = await createAgent(db, user, workspaceId, "Agent");
      await connectServer(db, user, agentId, serverId);
      const { token } = await createToken(db, user, agentId, { name: "t", expiresInDays: 1 });
      const call = async (method: string, params: Record<string, unknown>) =>
        JSON.parse(await askBridge(baseUrl, token, method, params)).result;
      const tool = (name: string, args: object) =>
        call("tools/call", { name: `${server.slug}__${name}`, arguments: args });

      const read = await tool("readNote", { id: "a/../b", lang: ["en", "de"] });
      assert.deepEqual(asked.at(-1), {
        line: "GET /v1/notes/a%2F..%2Fb?lang=en&lang=de",
        authorization: "Bearer the-secret-token",
        body: "",
      });
      assert.deepEqual(read.structuredContent, { id: "a%2F..%2Fb" });
      await tool("addNote", { body: { text: "hello" } });
      assert.deepEqual(asked.at(-1)!.body, '{"text":"hello"}');

      // Another host is not reached: no word in a document or an answer leads a call there.
      const elsewhere = await tool("readNote", { id: "elsewhere" });
      assert.equal(elsewhere.isError, true);
      assert.match(
        JSON.stringify([elsewhere, both.logged]),
        /other\.example\.test|egress|name has no address/,
      );

      // A newer document: what is another tool is withheld until it is approved anew.
      const newer = JSON.stringify(document(port, "Read a note, or what is left of it"));
      const again = await sentOn(await post(`${serverPath}/api`, [["document", newer]]));
      const changes = await (await app.get(again)).text();
      assert.match(changes, /readNote<\/code>.*has changed<\/strong>: description/);
      assert.match(changes, /value="POST \/notes" checked/);
      await sentOn(
        await post(again, [
          ["operation", "GET /notes/{id}"],
          ["operation", "POST /notes"],
          ["tellsShape", "true"],
          ["baseGeneration", String(server.generation)],
        ]),
      );
      await eventually(
        async () => (await getServer(db, user, serverId)).tools.changed === 1,
      );
      const { tools } = await call("tools/list", {});
      assert.deepEqual(tools.map(({ name }: { name: string }) => name), [
        `${server.slug}__addNote`,
      ]);
      assert.equal((await tool("addNote", { body: {} })).isError, undefined, "the key is kept");

      const told = [
        ...both.logged,
        app.logged.join("\n"),
        await reconciler.log(serverId),
        await app.eventsOf(serverId),
        await (await app.get(serverPath)).text(),
      ].join("\n");
      assert.ok(!told.includes("the-secret-token"));
    } finally {
      await api.shutdown();
    }
  },
);
