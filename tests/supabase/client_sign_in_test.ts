/** MCP clients that a project's OAuth server signs in, given the bridge's address alone; it is a stand-in. */
import assert from "node:assert/strict";
import {
  Client,
  SSEClientTransport,
  StreamableHTTPClientTransport,
} from "npm:@modelcontextprotocol/client@2.4.0";
import { getAgent, removeAgent, revokeToken } from "../../models/agents.ts";
import { grantManagement } from "../../models/management_grants.ts";
import { SUPABASE } from "../models/databases.ts";
import { Keeper } from "./keeper.ts";
import { openProject, type Project } from "./project.ts";

const options = { ignore: SUPABASE.ignore, sanitizeOps: false, sanitizeResources: false };

const TRANSPORTS = {
  "Streamable HTTP": (base: string, authProvider: Keeper) =>
    new StreamableHTTPClientTransport(new URL(`${base}/mcp`), { authProvider }),
  "HTTP+SSE": (base: string, authProvider: Keeper) =>
    new SSEClientTransport(new URL(`${base}/sse`), { authProvider }),
};
type Transport = keyof typeof TRANSPORTS;
type Person = Project["ann"];

const open = () => new Client({ name: "test", version: "1" });

/** What a client begins with: it hears where to sign in, registers, and wants its person to go there. */
async function begin({ base }: Project, keeper: Keeper, by: Transport) {
  const transport = TRANSPORTS[by](base, keeper);
  keeper.authorizationUrl = null;
  await assert.rejects(open().connect(transport), /[Uu]nauthorized/);
  assert.ok(keeper.authorizationUrl, "it wants its person to sign in");
  return transport;
}

/** Where the project sends the person: to Mooring's page. */
async function pageOf(keeper: Keeper): Promise<string> {
  const response = await fetch(keeper.authorizationUrl!, { redirect: "manual" });
  await response.body?.cancel();
  const { pathname, search } = new URL(response.headers.get("location")!);
  return pathname + search;
}

/** Where a page sends the browser back to. */
function backIn(response: Response): URL {
  const to = /url=(.*)/.exec(response.headers.get("refresh") ?? "")?.[1];
  assert.ok(to, String(response.status));
  return new URL(to);
}

/** Signs a client in, as an agent. */
async function letIn(
  project: Project,
  person: Person,
  agent: string,
  by: Transport,
  keeper: Keeper,
  scope = "tools",
) {
  const transport = await begin(project, keeper, by);
  const page = await pageOf(keeper);
  const asked = await person.visit(page);
  assert.equal(asked.status, 200);
  const html = await asked.text();
  assert.match(html, /Let <q>An editor<\/q>\s+use your tools\?/);
  const decided = await person.visit(page, { decision: "allow", agent, scope });
  assert.equal(decided.status, 200, await decided.clone().text());
  const told = backIn(decided);
  assert.equal(told.searchParams.get("state"), "a state");
  await transport.finishAuth(told.searchParams.get("code")!);
  await transport.close();
  return html;
}

async function callTool(base: string, keeper: Keeper, by: Transport): Promise<string> {
  const client = open();
  await client.connect(TRANSPORTS[by](base, keeper));
  const { tools } = await client.listTools();
  const tool = tools.find(({ name }) => name.endsWith("search_catalog"))!;
  const result = await client.callTool({ name: tool.name, arguments: { query: "memory" } });
  await client.close();
  return JSON.stringify(result.content);
}

Deno.test({
  name: "a client that is given the address alone is signed in by the project, and calls a tool",
  ...options,
  async fn(t) {
    await using project = await openProject({ oauth: true });
    const { ann, base, auth, ping, db } = project;
    const bea = await project.person("bea@example.com", "Bea's own");

    for (const by of Object.keys(TRANSPORTS) as Transport[]) {
      await t.step(by, async (t) => {
        const keeper = new Keeper();
        const html = await letIn(project, ann, ann.agentId, by, keeper);
        assert.match(html, /this computer/);
        assert.match(html, /It also learns your email address/);
        assert.match(await callTool(base, keeper, by), /memory/i);

        await t.step("and renews its token unasked", async () => {
          keeper.kept.tokens.access_token = "over";
          keeper.authorizationUrl = null;
          assert.match(await callTool(base, keeper, by), /memory/i);
          assert.equal(keeper.authorizationUrl, null);
        });
      });
    }

    await t.step("the metadata names the project, and only a scope that it knows", async () => {
      for (const path of ["", "/mcp", "/mcp/mooring", "/sse"]) {
        const response = await fetch(`${base}/.well-known/oauth-protected-resource${path}`);
        const metadata = await response.json();
        assert.equal(metadata.resource, base + path);
        assert.deepEqual(metadata.authorization_servers, [`${auth.url}/auth/v1`]);
        assert.deepEqual(metadata.scopes_supported, ["email"]);
      }
      const { challenge, status } = await ping("none.such.token");
      assert.equal(status, 401);
      assert.match(challenge, /error="invalid_token", scope="email", resource_metadata="http/);
      assert.equal(
        (await fetch(`${base}/.well-known/oauth-protected-resource/api`)).status,
        404,
      );
    });

    const keeper = new Keeper();
    await letIn(project, ann, ann.agentId, "Streamable HTTP", keeper);
    const { access_token: token } = keeper.kept.tokens;

    await t.step(
      "its token is one agent's, whatever it names, and opens nothing else",
      async () => {
        const other = await project.makeAgent(ann.user, ann.workspaceId, "Other");
        assert.equal((await ping(token, { "mooring-agent": other })).status, 200);
        const called = await callTool(base, keeper, "Streamable HTTP");
        assert.match(called, /memory/i);
        const api = await fetch(`${base}/api/v1/me`, {
          headers: { authorization: `Bearer ${token}` },
        });
        assert.equal(api.status, 401, await api.text());
        const chat = await fetch(`${base}/functions/v1/chat`, {
          method: "POST",
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
          body: JSON.stringify({ agent: ann.agentId, text: "Hi" }),
        });
        assert.equal(chat.status, 401, await chat.text());
        assert.equal(await project.identity.personOf(token), null);
        const session = `base64-${btoa(JSON.stringify({ access_token: token, expires_at: 9e9 }))}`;
        const cookie = new Headers({ cookie: `mooring_session=${session}` });
        assert.equal(await project.identity.userOf(cookie), null, "and no page");
        // As the project's Data API takes it: the claims as they are.
        const seen = await project.owner.begin(async (sql) => {
          const claims = { sub: ann.user.userId, role: "authenticated", client_id: "c" };
          await sql`select set_config('role', 'authenticated', true),
          set_config('request.jwt.claims', ${JSON.stringify(claims)}, true)`;
          return await sql`select id from public.agents union all select id from public.workspaces
          union all select id from public.agent_tokens`;
        });
        assert.deepEqual([...seen], []);
      },
    );

    await t.step(
      "its grant says how far it goes, and its person may let it go further",
      async () => {
        const agent = await project.makeAgent(ann.user, ann.workspaceId, "Careful");
        await grantManagement(db, ann.user, agent, {
          scopes: ["read", "servers:write"],
          asks: ["servers:write"],
        });
        const own = new Keeper();
        await letIn(project, ann, agent, "Streamable HTTP", own, "tools:read");
        const withdraw = async () =>
          await fetch(`${base}/mcp`, {
            method: "POST",
            headers: {
              authorization: `Bearer ${own.kept.tokens.access_token}`,
              "content-type": "application/json",
              accept: "application/json, text/event-stream",
            },
            body: JSON.stringify({
              jsonrpc: "2.0",
              id: 1,
              method: "tools/call",
              params: {
                name: "mooring__withdraw_request",
                arguments: { request: crypto.randomUUID() },
              },
            }),
          });
        assert.match(await callTool(base, own, "Streamable HTTP"), /memory/i);
        const refused = await withdraw();
        assert.equal(refused.status, 403, await refused.text());
        // Its own, since the project refuses Mooring's.
        assert.match(
          refused.headers.get("www-authenticate")!,
          /error="insufficient_scope", scope="email"/,
        );
        // The client signs in anew, and is not let in as before without a question.
        delete own.kept.tokens;
        const html = await letIn(project, ann, agent, "Streamable HTTP", own);
        assert.match(html, /It called one that may change something/);
        const answer = await withdraw();
        assert.equal(answer.status, 200);
        assert.ok((await answer.json()).result, "that there is no such request says the tool");
        const { tokens } = await getAgent(db, ann.user, agent);
        assert.deepEqual(tokens.map(({ scope }) => scope), ["tools"], "one grant, that was raised");
      },
    );

    await t.step("a token for another address than the bridge's is none", async () => {
      auth.oauth!.state.claims = { aud: "https://another.example/api" };
      keeper.kept.tokens.access_token = "over";
      await assert.rejects(open().connect(TRANSPORTS["Streamable HTTP"](base, keeper)));
      const refused = await ping(keeper.kept.tokens.access_token);
      assert.deepEqual([refused.status, /another address/.test(refused.message)], [401, true]);
      auth.oauth!.state.claims = { aud: `${base}/mcp` };
      const own = new Keeper();
      await letIn(project, ann, ann.agentId, "Streamable HTTP", own);
      assert.equal((await ping(own.kept.tokens.access_token)).status, 200);
      assert.equal((await ping(own.kept.tokens.access_token, {}, "/mcp/mooring")).status, 200);
      assert.equal((await ping(own.kept.tokens.access_token, {}, "/messages")).status, 401);
      auth.oauth!.state.claims = {};
    });

    await t.step("another tenant's agent is not to be had", async () => {
      const stranger = new Keeper();
      await begin(project, stranger, "Streamable HTTP");
      const page = await pageOf(stranger);
      await (await bea.visit(page)).body?.cancel();
      const refused = await bea.visit(page, { decision: "allow", agent: ann.agentId });
      assert.equal(refused.status, 404);
      assert.equal(refused.headers.get("refresh"), null);
      const foreign = await ann.visit(page);
      assert.equal(foreign.status, 422, "the request is Bea's");
      assert.match(await foreign.text(), /over or unknown/);
      const denied = backIn(await bea.visit(page, { decision: "deny" }));
      assert.equal(denied.searchParams.get("error"), "access_denied");
      assert.equal((await bea.visit(page)).status, 422, "it was decided");
    });

    await t.step("a request without a number, or with a path in it, is refused", async () => {
      for (const id of ["", "../../user", "x%2Fconsent"]) {
        const query = new URLSearchParams({ authorization_id: id });
        const response = await ann.visit(`/functions/v1/app/oauth/authorize?${query}`);
        assert.equal(response.status, 422);
        assert.match(await response.text(), /has no number/);
      }
    });

    await t.step("a newer word for the same client takes the place of the one before", async () => {
      const other = await project.makeAgent(ann.user, ann.workspaceId, "For it");
      const again = new Keeper();
      await letIn(project, ann, ann.agentId, "Streamable HTTP", again);
      const older = again.kept.tokens.access_token;
      // The project forgets its consent by itself, as when its owner removed it there.
      auth.oauth!.consents.clear();
      again.kept.tokens = undefined;
      await letIn(project, ann, other, "Streamable HTTP", again);
      assert.match(await callTool(base, again, "Streamable HTTP"), /memory/i);
      const { tokens } = await getAgent(db, ann.user, other);
      assert.equal(tokens.filter(({ revokedAt }) => !revokedAt).length, 1);
      assert.ok(older);
    });
  },
});

Deno.test({
  name:
    "a client that the project signed in is revoked as any, and comes back only when it is let in",
  ...options,
  async fn(t) {
    await using project = await openProject({ oauth: true });
    const { ann, base, auth, ping, db, owner } = project;
    const keeper = new Keeper();
    await letIn(project, ann, ann.agentId, "Streamable HTTP", keeper);
    const tokenOf = () => keeper.kept.tokens.access_token;
    const over = () => project.settled(() => ping(tokenOf()), ({ status }) => status === 401);
    const granted = async () =>
      (await getAgent(db, ann.user, ann.agentId)).tokens.find(({ revokedAt }) => !revokedAt)!;
    const agentPage = `/functions/v1/app/agents/${ann.agentId}`;

    await t.step("it stands on the agent's page, with its last use", async () => {
      assert.equal((await ping(tokenOf())).status, 200);
      const html = await (await ann.visit(agentPage)).text();
      assert.match(html, /Connected clients/);
      assert.match(html, /An editor/);
      assert.match(html, /at this computer/);
      assert.ok((await granted()).lastUsedAt);
    });

    await t.step("one that was let in before goes on by itself", async () => {
      keeper.kept.tokens = undefined;
      const transport = await begin(project, keeper, "Streamable HTTP");
      const page = await ann.visit(await pageOf(keeper));
      const told = backIn(page);
      assert.match(await page.text(), /You let this client in before/);
      await transport.finishAuth(told.searchParams.get("code")!);
      await transport.close();
      assert.match(await callTool(base, keeper, "Streamable HTTP"), /memory/i);
    });

    await t.step("its person revokes it, and the project forgets it", async () => {
      const { id } = await granted();
      const revoked = await ann.visit(`${agentPage}/tokens/${id}/revoke`, {});
      assert.equal(revoked.status, 303);
      await over();
      assert.equal(auth.oauth!.consents.size, 0);
      const sessions = await owner`select from auth.sessions where user_id = ${ann.user.userId}`;
      assert.equal(sessions.length, 1, "its sign-in has ended, and the browser's goes on");
      // Renewing does not help it either: it has its person asked again.
      await begin(project, keeper, "Streamable HTTP");
      assert.match(await (await ann.visit(await pageOf(keeper))).text(), /use your tools/);
    });

    await t.step(
      "revoked by a program, it is signed out, and its person is asked again",
      async () => {
        await letIn(project, ann, ann.agentId, "Streamable HTTP", keeper);
        await revokeToken(db, ann.user, ann.agentId, (await granted()).id);
        assert.equal(auth.oauth!.consents.size, 1, "the project does not know");
        await over();
        const sessions = await owner`select from auth.sessions where user_id = ${ann.user.userId}`;
        assert.equal(sessions.length, 1, "the browser's");
        await letIn(project, ann, ann.agentId, "Streamable HTTP", keeper);
        assert.equal((await ping(tokenOf())).status, 200);
      },
    );

    await t.step("what was signed in under an older grant stays over", async () => {
      const before = tokenOf();
      await owner`update auth.sessions set created_at = now() - interval '1 hour'`;
      await revokeToken(db, ann.user, ann.agentId, (await granted()).id);
      keeper.kept.tokens = undefined;
      auth.oauth!.consents.clear();
      await letIn(project, ann, ann.agentId, "Streamable HTTP", keeper);
      await project.settled(() => ping(before), ({ status }) => status === 401);
      assert.equal((await ping(tokenOf())).status, 200);
    });

    await t.step("it goes with its person's role, sign-in and agent", async () => {
      const bea = await project.person("bea@example.com", "Bea's own");
      await project.addMember(ann.workspaceId, bea.user.userId, "member");
      const beas = new Keeper();
      await letIn(project, bea, ann.agentId, "Streamable HTTP", beas);
      const token = beas.kept.tokens.access_token;
      assert.equal((await ping(token)).status, 200);
      await owner`update public.members set role = 'viewer'
        where user_id = ${bea.user.userId} and workspace_id = ${ann.workspaceId}`;
      await project.settled(() => ping(token), ({ status }) => status === 401);
      assert.equal((await ping(tokenOf())).status, 200, "Ann's goes on");

      await ann.visit("/functions/v1/app/account/sessions/end", {});
      await over();
      auth.oauth!.consents.clear();
      const browser = await project.signIn("ann@example.com");
      await letIn(project, { ...ann, ...browser }, ann.agentId, "Streamable HTTP", keeper);
      assert.equal((await ping(tokenOf())).status, 200);
      await removeAgent(db, ann.user, ann.agentId);
      await over();
    });
  },
});
