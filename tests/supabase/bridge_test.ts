/** The bridge with people's own tokens of Supabase Auth, which is a stand-in (auth_server.ts). */
import assert from "node:assert/strict";
import {
  Client,
  SSEClientTransport,
  StreamableHTTPClientTransport,
} from "npm:@modelcontextprotocol/client@2.4.0";
import { listCalls } from "../../models/calls.ts";
import { initialize } from "../mcp/streams.ts";
import { SUPABASE } from "../models/databases.ts";
import { openProject } from "./project.ts";

const options = { ignore: SUPABASE.ignore, sanitizeOps: false, sanitizeResources: false };

for (const algorithm of ["ES256", "HS256"] as const) {
  Deno.test({
    name: `a person's own token of ${algorithm} calls tools over every transport`,
    ...options,
    async fn(t) {
      await using project = await openProject({ algorithm });
      const { auth, ann, base, db } = project;
      const { access_token } = await auth.openSession(ann.account);
      const requestInit = { headers: { authorization: `Bearer ${access_token}` } };
      const at = (path: string) => new URL(base + path);
      const transports = {
        "2026-07-28": [
          "auto",
          () => new StreamableHTTPClientTransport(at("/mcp"), { requestInit }),
        ],
        "a session": [
          "legacy",
          () => new StreamableHTTPClientTransport(at("/mcp"), { requestInit }),
        ],
        "one server": [
          "auto",
          () => new StreamableHTTPClientTransport(at("/mcp/mooring"), { requestInit }),
        ],
        "HTTP+SSE": ["legacy", () => new SSEClientTransport(at("/sse"), { requestInit })],
        "HTTP+SSE with one server": [
          "legacy",
          () => new SSEClientTransport(at("/sse/mooring"), { requestInit }),
        ],
      } as const;
      for (const [name, [mode, transport]] of Object.entries(transports)) {
        await t.step(name, async () => {
          const client = new Client({ name: "test", version: "1" }, {
            versionNegotiation: { mode },
          });
          await client.connect(transport());
          const { tools } = await client.listTools();
          const tool = tools.find(({ name }) => name.endsWith("search_catalog"))!;
          const result = await client.callTool({ name: tool.name, arguments: { query: "memory" } });
          assert.match(JSON.stringify(result.content), /memory/i);
          await client.close();
        });
      }
      await t.step("and each call is the agent's", async () => {
        await project.flush();
        const calls = await listCalls(db, ann.user, { agentId: ann.agentId });
        assert.equal(calls.length, Object.keys(transports).length);
      });
    },
  });
}

Deno.test({
  name: "a person's own token is for the agent that is named, or for the only one",
  ...options,
  async fn(t) {
    await using project = await openProject();
    const { auth, ann, ping, makeAgent, base } = project;
    const { access_token: token } = await auth.openSession(ann.account);
    const bea = await project.person("bea@example.com", "Bea's own");

    await t.step("of several it has to be named", async () => {
      assert.equal((await ping(token)).status, 200);
      const other = await makeAgent(ann.user, ann.workspaceId, "Other");
      const which = await project.settled(() => ping(token), ({ status }) => status === 400);
      assert.match(which.message, /with the header Mooring-Agent: <id>/);
      assert.ok(which.message.includes(`Editor is ${ann.agentId}, Other is ${other}`));
      const requestInit = { headers: { authorization: `Bearer ${token}` } };
      for (const mode of ["auto", "legacy"] as const) {
        const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } });
        const transport = new StreamableHTTPClientTransport(new URL(`${base}/mcp`), {
          requestInit,
        });
        await assert.rejects(
          client.connect(transport),
          /Mooring-Agent/,
          `${mode}: a client says it`,
        );
      }
      assert.equal((await ping(token, { "mooring-agent": other })).status, 200);
      const both = { "mooring-agent": other, "mooring-workspace": ann.workspaceId };
      assert.equal((await ping(token, both)).status, 200);
    });

    await t.step("an agent of another tenant is none", async () => {
      for (const named of [bea.agentId, crypto.randomUUID()]) {
        const refused = await ping(token, { "mooring-agent": named });
        assert.equal(refused.status, 400);
        assert.match(refused.message, /You have no such agent/);
      }
      const elsewhere = { "mooring-agent": ann.agentId, "mooring-workspace": bea.workspaceId };
      assert.match((await ping(token, elsewhere)).message, /You have no such agent/);
      assert.match(
        (await ping(token, { "mooring-workspace": bea.workspaceId })).message,
        /no agent to call as/,
      );
      assert.match((await ping(token, { "mooring-agent": "x" })).message, /has to be an id/);
    });

    await t.step("a viewer calls nothing, a member does", async () => {
      const { access_token } = await auth.openSession(bea.account);
      const asAnns = { "mooring-agent": ann.agentId };
      await project.addMember(ann.workspaceId, bea.user.userId, "viewer");
      const viewer = await ping(access_token, asAnns);
      assert.equal(viewer.status, 403);
      assert.match(viewer.message, /call no tools/);
      await project.owner`update public.members set role = 'member'
        where user_id = ${bea.user.userId} and workspace_id = ${ann.workspaceId}`;
      await project.settled(() => ping(access_token, asAnns), ({ status }) => status === 200);
    });

    await t.step("a session is the agent's that opened it", async () => {
      const open = async (headers: Record<string, string>, more: RequestInit = {}) => {
        const response = await fetch(`${base}/mcp`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${token}`,
            "content-type": "application/json",
            accept: "application/json, text/event-stream",
            ...headers,
          },
          ...more,
        });
        await response.body?.cancel();
        return response;
      };
      const own = { "mooring-agent": ann.agentId };
      const opened = await open(own, { body: JSON.stringify(initialize("2025-06-18")) });
      const session = { "mcp-session-id": opened.headers.get("mcp-session-id")! };
      const list = { body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}` };
      assert.equal((await open({ ...own, ...session }, list)).status, 200);
      const another = await makeAgent(ann.user, ann.workspaceId, "Third");
      assert.equal(
        (await open({ "mooring-agent": another, ...session }, list)).status,
        404,
      );
    });

    await t.step("without a token it is said what to send, and that nothing signs in", async () => {
      const response = await fetch(`${base}/mcp`, { method: "POST", body: "{}" });
      assert.equal(response.status, 401);
      assert.equal(response.headers.get("www-authenticate"), "Bearer");
      assert.match((await response.json()).error.message, /^Send an agent's token/);
      const metadata = await fetch(`${base}/.well-known/oauth-protected-resource/mcp`);
      assert.equal(metadata.status, 404);
      assert.match((await metadata.json()).error_description, /give the client an agent's token/);
      const page = await (await ann.visit(`/functions/v1/app/agents/${ann.agentId}`)).text();
      assert.doesNotMatch(page, /nothing but the address|Connected clients/);
    });

    await t.step("it ends with its time, and when its person signs out everywhere", async () => {
      const own = { "mooring-agent": ann.agentId };
      const claims = auth.claimsOf(ann.account, (await claimsIn(token)).session_id);
      const over = await auth.sign({ ...claims, exp: Math.floor(Date.now() / 1000) - 1 });
      assert.equal((await ping(over, own)).status, 401);
      assert.equal((await ping(`${token}x`, own)).status, 401);
      assert.equal((await ping("a.b.c", own)).status, 401);
      assert.equal((await ping(token, own)).status, 200);
      await ann.visit("/functions/v1/app/account/sessions/end", {});
      const ended = await project.settled(
        () => ping(token, own),
        ({ status }) => status === 401,
      );
      assert.match(ended.challenge, /error="invalid_token"/);
      assert.match(ended.message, /The token is not valid/);
    });
  },
});

function claimsIn(token: string) {
  return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
}
