/**
 * How far a client may go as its agent: tools that only read, or all. The tools are Mooring's own, of which
 * search_catalog reads and withdraw_request does not, so no container is needed.
 */
import assert from "node:assert/strict";
import { createAgent, createToken, getAgent } from "../../models/agents.ts";
import { grantManagement } from "../../models/management_grants.ts";
import { KINDS, openWorld } from "../models/databases.ts";
import { openPageApp, ORIGIN, signedIn } from "../routes/page_app.ts";
import { callTool, clientId, decide, exchange, ping, renew, request } from "./client_flow.ts";

const READS = "mooring__search_catalog", WRITES = "mooring__withdraw_request";

for (const kind of KINDS) {
  Deno.test({
    name: `a client goes as far as its person lets it (${kind.name})`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { app, close } = await openPageApp(world);
      const { cookie, person } = await signedIn(world, "owner");
      const agent = await createAgent(world.db, person, world.workspaceId, "Ann's editor");
      await grantManagement(world.db, person, agent, {
        scopes: ["read", "servers:write"],
        asks: ["servers:write"],
      });
      const grants = async () =>
        (await getAgent(world.db, person, agent)).tokens.filter(({ revokedAt }) => !revokedAt);
      const signIn = async (client: string, asked: string, granted: string) => {
        const path = await request(client, { scope: asked });
        const to = await decide(app, cookie, path, { agent, scope: granted });
        const answer = await exchange(app, client, to.searchParams.get("code")!);
        assert.equal(answer.status, 200, JSON.stringify(answer.body));
        return answer.body as { access_token: string; refresh_token: string; scope: string };
      };
      const consentPage = async (client: string, scope: string) => {
        const path = await request(client, { scope });
        return await (await app.request(ORIGIN + path, { headers: { cookie } })).text();
      };
      const reads = (token: string) => callTool(app, token, READS, { query: "memory" });
      const writes = (token: string) =>
        callTool(app, token, WRITES, { request: crypto.randomUUID() });

      await t.step("the metadata names the least, and the server all", async () => {
        const get = async (path: string) => await (await app.request(ORIGIN + path)).json();
        const resource = await get("/.well-known/oauth-protected-resource/mcp");
        assert.deepEqual(resource.scopes_supported, ["tools:read"]);
        const server = await get("/.well-known/oauth-authorization-server");
        assert.deepEqual(server.scopes_supported, ["tools:read", "tools", "offline_access"]);
      });

      await t.step("a token to read calls what only reads, and sees all", async () => {
        const token = await signIn(await clientId(app), "tools:read", "tools:read");
        assert.deepEqual(token.scope.split(" "), ["tools:read", "offline_access"]);
        const answer = await reads(token.access_token);
        assert.equal(answer.status, 200);
        assert.ok((await answer.json()).result.content);
        const listed = await app.request(`${ORIGIN}/mcp`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${token.access_token}`,
            "content-type": "application/json",
          },
          body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
        });
        const names = (await listed.json()).result.tools.map(({ name }: { name: string }) => name);
        assert.ok(names.includes(READS) && names.includes(WRITES), "else nobody would step up");
      });

      await t.step("what may change something is refused, with what to ask for", async () => {
        const client = await clientId(app);
        const { access_token } = await signIn(client, "tools:read", "tools:read");
        const refused = await writes(access_token);
        assert.equal(refused.status, 403);
        const challenge = refused.headers.get("www-authenticate")!;
        assert.match(challenge, /^Bearer error="insufficient_scope", scope="tools", /);
        assert.match(challenge, /resource_metadata="[^"]+oauth-protected-resource\/mcp"/);
        assert.match(challenge, /error_description="[^"]+"$/);
        const { id, error } = await refused.json();
        assert.equal(id, 1);
        assert.equal(error.data.scope, "tools");
        assert.ok(
          (await grants()).some((grant) =>
            grant.clientId === client && grant.scope === "tools:read" && grant.wantedMoreAt
          ),
        );
        const legacy = await app.request(`${ORIGIN}/mcp`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${access_token}`,
            "content-type": "application/json",
            "mcp-protocol-version": "2025-11-25",
          },
          body: JSON.stringify({
            jsonrpc: "2.0",
            id: 1,
            method: "tools/call",
            params: { name: WRITES, arguments: {} },
          }),
        });
        assert.equal(legacy.status, 403);
        assert.match(legacy.headers.get("www-authenticate")!, /scope="tools"/);
      });

      await t.step("stepping up is the same grant, which the page says", async () => {
        const client = await clientId(app);
        const first = await signIn(client, "tools:read", "tools:read");
        assert.equal((await writes(first.access_token)).status, 403);
        const page = await consentPage(client, "tools:read tools");
        assert.match(page, /It called one that may change something/);
        assert.match(page, /value="tools" id="scope-tools" checked/);
        const before = (await grants()).length;
        const second = await signIn(client, "tools:read tools", "tools");
        assert.deepEqual(second.scope.split(" "), ["tools:read", "tools", "offline_access"]);
        assert.equal((await grants()).length, before);
        const [grant] = (await grants()).filter(({ clientId }) => clientId === client);
        assert.equal(grant.scope, "tools");
        assert.equal(grant.wantedMoreAt, null);
        assert.equal((await writes(second.access_token)).status, 200);
        assert.equal((await writes(first.access_token)).status, 403, "a token stays what it was");
      });

      await t.step("nobody steps up in what another person granted", async () => {
        const client = await clientId(app);
        const first = await signIn(client, "tools:read", "tools:read");
        assert.equal((await writes(first.access_token)).status, 403);
        await world.owner`update public.agent_tokens set granted_by = gen_random_uuid()
          where client_id = ${client}`;
        await signIn(client, "tools", "tools");
        const theirs = (await grants()).filter(({ clientId }) => clientId === client);
        assert.deepEqual(theirs.map(({ scope }) => scope).toSorted(), ["tools", "tools:read"]);
      });

      await t.step("less can be granted than was asked, and more", async () => {
        const less = await signIn(await clientId(app), "tools:read tools", "tools:read");
        assert.doesNotMatch(less.scope, /tools( |$)/);
        assert.equal((await writes(less.access_token)).status, 403);
        const more = await signIn(await clientId(app), "tools:read", "tools");
        assert.equal((await writes(more.access_token)).status, 200);
        const unsaid = await signIn(await clientId(app), "tools", "");
        assert.equal(
          (await writes(unsaid.access_token)).status,
          403,
          "what is not said is not given",
        );
      });

      await t.step("what is asked for is chosen beforehand, and said in words", async () => {
        const client = await clientId(app);
        assert.match(await consentPage(client, "tools:read"), /id="scope-tools-read" checked/);
        for (const asked of ["", "tools", "tools:read tools", "unknown"]) {
          assert.match(await consentPage(client, asked), /id="scope-tools" checked/, asked);
        }
      });

      await t.step("renewing keeps the scope", async () => {
        for (const scope of ["tools:read", "tools"]) {
          const client = await clientId(app);
          const { refresh_token } = await signIn(client, scope, scope);
          const renewed = await renew(app, client, refresh_token);
          assert.equal(renewed.status, 200);
          assert.equal(renewed.body.scope.split(" ").includes("tools"), scope === "tools");
          const answer = await writes(renewed.body.access_token);
          assert.equal(answer.status, scope === "tools" ? 200 : 403);
          const wider = await renew(app, client, renewed.body.refresh_token, {
            scope: "tools:read tools",
          });
          if (scope === "tools:read") assert.ok(wider.status >= 400, "not by itself");
        }
      });

      await t.step(
        "an access token that is narrowed leaves the next ones as they were",
        async () => {
          const client = await clientId(app);
          const { refresh_token } = await signIn(client, "tools", "tools");
          const less = await renew(app, client, refresh_token, { scope: "tools:read" });
          assert.equal(less.body.scope, "tools:read");
          assert.equal((await writes(less.body.access_token)).status, 403);
          // A call beyond the grant, which this is not, would have been noted.
          const next = await renew(app, client, less.body.refresh_token);
          assert.equal(
            (await writes(next.body.access_token)).status,
            200,
            JSON.stringify(next.body),
          );
          assert.equal((await renew(app, client, next.body.refresh_token)).status, 200);
        },
      );

      await t.step(
        "renewing is no way around the person, right after a call beyond it",
        async () => {
          const client = await clientId(app);
          const { access_token, refresh_token } = await signIn(client, "tools:read", "tools:read");
          assert.equal((await writes(access_token)).status, 403);
          assert.equal((await renew(app, client, refresh_token)).body.error, "server_error");
          await world.owner`update public.agent_tokens
          set wanted_more_at = now() - interval '1 minute' where client_id = ${client}`;
          assert.equal((await renew(app, client, refresh_token)).status, 200, "nothing was lost");
        },
      );

      await t.step(
        "a grant that was made less is less at once, whatever its tokens say",
        async () => {
          const client = await clientId(app);
          const { access_token } = await signIn(client, "tools", "tools");
          await world.owner`update public.agent_tokens set scope = 'tools:read'
          where client_id = ${client}`;
          assert.equal((await ping(app, access_token)).status, 200);
          assert.equal((await writes(access_token)).status, 403);
        },
      );

      await t.step("tokens that a person made are good for all", async () => {
        const { token } = await createToken(world.db, person, agent, {
          name: "laptop",
          expiresInDays: null,
        });
        assert.equal((await writes(token)).status, 200);
      });

      await close();
      await world.close();
    },
  });
}
