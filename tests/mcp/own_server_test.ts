import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport } from "npm:@modelcontextprotocol/client@2.4.0";
import { createAgent, setAgentOptions } from "../../models/agents.ts";
import { listCalls } from "../../models/calls.ts";
import { Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { grantManagement, managerOf } from "../../models/management_grants.ts";
import { approveWish, getWish, rejectWish } from "../../models/wishes.ts";
import { addMember, makeUser, testKey } from "../models/databases.ts";
import { type Bridge, modern, openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const STEPS = new URL("servers/steps.mjs", import.meta.url).pathname;
const READ = ["get_catalog_entry", "get_server", "list_events", "list_servers", "list_tools"];
const ALL = ["read", "servers:write", "agents:write"];

async function open(bridge: Bridge, mode: "legacy" | "auto" = "auto", scope = "") {
  const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } });
  const requestInit = { headers: { authorization: `Bearer ${bridge.token}` } };
  await client.connect(
    new StreamableHTTPClientTransport(new URL(bridge.url + scope), { requestInit }),
  );
  return client;
}

async function ownNames(bridge: Bridge): Promise<string[]> {
  const client = await open(bridge);
  const { tools } = await client.listTools();
  await client.close();
  return tools.map(({ name }) => name).filter((name) => name.startsWith("mooring"));
}

async function until(isSo: () => Promise<boolean>) {
  while (!await isSo()) await new Promise((resolve) => setTimeout(resolve, 50));
}

// deno-lint-ignore no-explicit-any
const textOf = (result: any) => result.content.map(({ text }: { text: string }) => text).join("\n");

Deno.test({
  name: "Mooring's own tools: off by default, as far as scopes and the person go",
  ...options,
  async fn(t) {
    await using bridge = await openBridge(STEPS, { slug: "steps" });
    const { db, user, agentId, workspaceId, serverId } = bridge;
    const grant = (scopes: string[], asks: string[] = []) =>
      grantManagement(db, user, agentId, { scopes, asks });
    const has = (name: string) => async () => (await ownNames(bridge)).includes(name);

    await t.step("an agent has none before it is granted", async () => {
      assert.deepEqual(await ownNames(bridge), []);
      await assert.rejects(open(bridge, "auto", "/mooring"));
    });

    await t.step("only admins and owners grant, and nothing else than the three", async () => {
      const member = await makeUser(bridge, "member@own.example");
      await addMember(bridge, workspaceId, member.userId, "member");
      const wanted = { scopes: ["read"], asks: [] };
      await assert.rejects(grantManagement(db, member, agentId, wanted), Forbidden);
      const stranger = await makeUser(bridge, "stranger@own.example");
      await assert.rejects(grantManagement(db, stranger, agentId, wanted), NotFound);
      await assert.rejects(grant(["tools:approve"]), Invalid);
      await assert.rejects(
        grantManagement(db, { ...user, within: workspaceId }, agentId, wanted),
        Forbidden,
        "nor with a token, or by an agent",
      );
      assert.equal(await managerOf(db, agentId), null);
    });

    await t.step("with read it reads, and changes nothing", async () => {
      await grant(["read"]);
      await until(has("mooring__search_catalog"));
      const own = [...READ, "search_catalog"].map((name) => `mooring__${name}`).sort();
      assert.deepEqual(await ownNames(bridge), own);
      for (const mode of ["legacy", "auto"] as const) {
        const client = await open(bridge, mode);
        await client.listTools();
        const calls: [string, Record<string, unknown>][] = [
          ["search_catalog", { query: "everything" }],
          ["get_catalog_entry", { slug: "everything" }],
          ["list_servers", {}],
          ["get_server", { server: serverId }],
          ["list_tools", { server: serverId }],
          ["list_events", {}],
        ];
        for (const [name, args] of calls) {
          const result = await client.callTool({ name: `mooring__${name}`, arguments: args });
          assert.notEqual(result.isError, true, textOf(result));
          assert.deepEqual(JSON.parse(textOf(result)), result.structuredContent);
        }
        const { error } = await client.callTool({
          name: "mooring__deploy_server",
          arguments: { entry: "everything" },
        }).then(() => ({ error: null }), (error) => ({ error }));
        assert.ok(error, "there is no such tool");
        await client.close();
      }
    });

    await t.step("bad input and others' servers are told, and do nothing", async () => {
      const client = await open(bridge, "auto", "/mooring");
      const said = async (name: string, args: Record<string, unknown>) => {
        const result = await client.callTool({ name, arguments: args });
        assert.equal(result.isError, true, name);
        return textOf(result);
      };
      await said("get_server", { server: "x" });
      await said("get_server", {});
      await said("get_server", { server: serverId, agent: agentId });
      await said("get_server", { server: crypto.randomUUID() });
      await said("list_servers", { cursor: "\u0000'; drop table servers" });
      await said("search_catalog", { query: "x".repeat(5000) });
      await client.close();
    });

    await t.step("with the other scopes it deploys and connects", async () => {
      await grant(ALL);
      await until(has("mooring__deploy_server"));
      const client = await open(bridge, "auto", "/mooring");
      await client.listTools();
      // The world's toolbox has no Engine; a deploy only wants to know of one.
      const engine = {
        state: "ready",
        version: "28",
        apiVersion: "1.51",
        os: "Linux",
        architecture: "x86_64",
        cpus: 4,
        memoryBytes: 4 * 1024 ** 3,
      };
      await bridge.owner`
        update public.toolboxes set facts = jsonb_set(facts::jsonb, '{engine}',
          ${JSON.stringify(engine)}::text::jsonb)`;
      const made = await client.callTool({
        name: "deploy_server",
        arguments: { entry: "everything", name: "Made by a model" },
      });
      assert.notEqual(made.isError, true, textOf(made));
      const { id } = made.structuredContent as { id: string };
      assert.ok(textOf(made).includes(`/servers/${id}#tools`));
      const connected = await client.callTool({
        name: "connect_server",
        arguments: { server: id },
      });
      assert.notEqual(connected.isError, true, textOf(connected));
      const again = await client.callTool({
        name: "deploy_server",
        arguments: { entry: "everything", name: "Made by a model", reason: "I forgot" },
      });
      assert.equal((again.structuredContent as { id: string }).id, id, "it is there already");
      const both = await Promise.all([1, 2].map(() =>
        client.callTool({
          name: "deploy_server",
          arguments: { entry: "everything", name: "At once" },
        })
      ));
      const ids = both.map(({ structuredContent }) => (structuredContent as { id: string }).id);
      assert.equal(ids[0], ids[1]);
      const secret = await client.callTool({
        name: "deploy_server",
        arguments: { entry: "github" },
      });
      assert.notEqual(secret.isError, true, textOf(secret));
      assert.match(textOf(secret), /person has to approve this, at .*\/requests\//);
      const given = await client.callTool({
        name: "deploy_server",
        arguments: { entry: "github", inputs: { GITHUB_PERSONAL_ACCESS_TOKEN: "ghp_x" } },
      });
      assert.equal(given.isError, true);
      assert.match(textOf(given), /must not handle secrets/);
      const loosened = await client.callTool({
        name: "deploy_server",
        arguments: { entry: "everything", options: { tier: "runc" } },
      });
      assert.equal(loosened.isError, true);
      await client.close();
    });

    const approve = async (id: string) => {
      const { version } = await getWish(db, user, id);
      return await approveWish({ db, secretsKey: testKey }, user, id, { version, form: {} });
    };
    // deno-lint-ignore no-explicit-any
    const requestIn = (result: any) => result.structuredContent.request;

    await t.step("what a person has to approve is asked, and told once it is decided", async () => {
      await grant(ALL, ["servers:write", "agents:write"]);
      for (const mode of ["legacy", "auto"] as const) {
        const client = await open(bridge, mode, "/mooring");
        await client.listTools();
        const deploy = () =>
          client.callTool({
            name: "deploy_server",
            arguments: { entry: "everything", name: `By request, ${mode}`, reason: "It is needed" },
          });
        const asked = await deploy();
        assert.notEqual(asked.isError, true, textOf(asked));
        const { id, state, page } = requestIn(asked);
        assert.equal(state, "open");
        assert.equal(page, new URL(`/requests/${id}`, bridge.url).href);
        assert.equal(requestIn(await deploy()).id, id, "asked again it is the same");
        const status = async (of = id) => {
          const name = "get_request";
          return (await client.callTool({ name, arguments: { request: of } }))
            .structuredContent as Record<string, unknown>;
        };
        assert.equal((await status()).state, "open");
        const { serverId: made } = await approve(id);
        assert.equal((await status()).state, "approved");
        assert.equal((await status()).server, made);
        const there = await deploy();
        assert.equal((there.structuredContent as { id: string }).id, made, "it is there already");

        const connect = () =>
          client.callTool({ name: "connect_server", arguments: { server: made } });
        const wanted = requestIn(await connect()).id;
        await client.callTool({ name: "withdraw_request", arguments: { request: wanted } });
        assert.equal((await status(wanted)).state, "withdrawn");
        const anew = requestIn(await connect()).id;
        assert.notEqual(anew, wanted);
        await rejectWish(db, user, anew, "Not this one");
        const rejected = await connect();
        assert.equal(rejected.isError, true);
        assert.match(textOf(rejected), /Not this one/);
        const foreign = await client.callTool({
          name: "get_request",
          arguments: { request: crypto.randomUUID() },
        });
        assert.equal(foreign.isError, true);
        await client.close();
      }
    });

    await t.step("a client that can show a page shows it, and its call waits", async () => {
      for (const mode of ["legacy", "auto"] as const) {
        const shown: Record<string, unknown>[] = [];
        let answer: (id: string) => Promise<"accept" | "decline" | "cancel">;
        const client = new Client({ name: "test", version: "1" }, {
          versionNegotiation: { mode },
          capabilities: { elicitation: { url: {} } },
        });
        client.setRequestHandler("elicitation/create", async ({ params }) => {
          shown.push(params);
          const { url } = params as { url: string };
          return { action: await answer(url.split("/").at(-1)!) };
        });
        await client.connect(
          new StreamableHTTPClientTransport(new URL(`${bridge.url}/mooring`), {
            requestInit: { headers: { authorization: `Bearer ${bridge.token}` } },
          }),
        );
        await client.listTools();
        const ask = (name: string) =>
          client.callTool({
            name: "deploy_server",
            arguments: { entry: "everything", name: `${name}, ${mode}` },
          });
        // The person takes a while: the call waits for them.
        answer = (id) => {
          setTimeout(() => approve(id), 300);
          return Promise.resolve("accept");
        };
        const approved = await ask("Shown");
        assert.notEqual(approved.isError, true, textOf(approved));
        assert.equal(requestIn(approved).state, "approved");
        assert.match(textOf(approved), /is deployed/);
        assert.equal(shown[0].mode, "url");
        assert.match(String(shown[0].message), /asks to deploy .* as Shown, /);
        assert.equal(shown[0].url, requestIn(approved).page);

        answer = (id) => rejectWish(db, user, id, "No").then(() => "accept");
        const rejected = await ask("Rejected");
        assert.deepEqual([rejected.isError, requestIn(rejected).state], [true, "rejected"]);
        answer = () => Promise.resolve("decline");
        assert.equal(requestIn(await ask("Declined")).state, "withdrawn");
        answer = () => Promise.resolve("cancel");
        const later = await ask("Later");
        assert.equal(requestIn(later).state, "open", "it waits for somebody else");
        await client.close();
      }
    });

    await t.step("a state of another agent's or tool's call opens nothing", async () => {
      const { body, headers } = modern("tools/call", {
        name: "deploy_server",
        arguments: { entry: "everything", name: "Forged" },
        requestState: "forged",
        inputResponses: { approval: { action: "accept" } },
        _meta: {
          "io.modelcontextprotocol/clientCapabilities": { elicitation: { url: {} } },
        },
      });
      const reply = await fetch(`${bridge.url}/mooring`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${bridge.token}`,
          "content-type": "application/json",
          accept: "application/json, text/event-stream",
          ...headers,
        },
        body: JSON.stringify(body),
      });
      assert.match(await reply.text(), /requestState is not of this request/);
    });

    await t.step("calls are recorded, and tool search finds them", async () => {
      await bridge.calls.flush();
      const calls = await listCalls(db, user, { agentId });
      assert.ok(
        calls.some(({ serverSlug, tool }) => serverSlug === "mooring" && tool === "deploy_server"),
      );
      await setAgentOptions(db, user, agentId, { presents: "search" });
      const client = await open(bridge);
      const names = async () => (await client.listTools()).tools.map(({ name }) => name);
      await until(async () => (await names()).includes("call_tool"));
      const found = await client.callTool({
        name: "find_tools",
        arguments: { query: "search catalog" },
      });
      assert.match(textOf(found), /mooring__search_catalog/);
      const called = await client.callTool({
        name: "call_tool",
        arguments: { name: "mooring__list_servers", arguments: {} },
      });
      assert.notEqual(called.isError, true);
      await client.close();
      await setAgentOptions(db, user, agentId, { presents: "tools" });
    });

    await t.step("a server named mooring keeps its names", async () => {
      await using _ = await bridge.another(STEPS, "mooring");
      await until(has("mooring-2__search_catalog"));
      assert.equal((await ownNames(bridge)).includes("mooring__search_catalog"), false);
    });

    await t.step("it may as much as its person now, and nothing once they leave", async () => {
      const admin = await makeUser(bridge, "admin@own.example");
      await addMember(bridge, workspaceId, admin.userId, "admin");
      await bridge.owner`
        insert into public.profiles (user_id, email, name)
        values (${admin.userId}, 'admin@own.example', 'Admin')`;
      const other = await createAgent(db, user, workspaceId, "Other");
      assert.equal(await managerOf(db, other), null, "a grant is one agent's");
      await grantManagement(db, admin, agentId, { scopes: ALL, asks: [] });
      await bridge.owner`
        update public.members set role = 'viewer' where user_id = ${admin.userId}`;
      const client = await open(bridge);
      const isDeploy = (name: string) => name.endsWith("__deploy_server");
      await until(async () => (await ownNames(bridge)).some(isDeploy));
      const deploy = (await client.listTools()).tools.map(({ name }) => name).find(isDeploy)!;
      const call = () => client.callTool({ name: deploy, arguments: { entry: "everything" } });
      assert.equal((await call()).isError, true, "viewers deploy nothing");
      await bridge.owner`delete from public.members where user_id = ${admin.userId}`;
      assert.equal(await managerOf(db, agentId), null);
      const gone = await call().then((result) => result.isError, () => true);
      assert.equal(gone, true);
      await client.close();
      await until(async () => !await has(deploy)());
    });
  },
});
