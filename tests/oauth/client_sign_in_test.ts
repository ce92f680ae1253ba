import assert from "node:assert/strict";
import { createAgent, getAgent, revokeToken } from "../../models/agents.ts";
import { KINDS, openWorld } from "../models/databases.ts";
import { openPageApp, ORIGIN, signedIn } from "../routes/page_app.ts";
import { totp } from "../routes/totp.ts";
import {
  CALLBACK,
  clientId,
  decide,
  exchange,
  ping,
  register,
  renew,
  request,
  token,
} from "./client_flow.ts";

const options = { sanitizeResources: false, sanitizeOps: false };

for (const kind of KINDS) {
  Deno.test({
    name: `clients sign a person in and act as their agent (${kind.name})`,
    ignore: kind.ignore,
    ...options,
    async fn(t) {
      const world = await openWorld(kind);
      const { app, close } = await openPageApp(world);
      const { cookie, person } = await signedIn(world, "member");
      const agentId = await createAgent(world.db, person, world.workspaceId, "Ann's editor");
      const get = async (path: string, headers: Record<string, string> = {}) =>
        await app.request(`${ORIGIN}${path}`, { headers });
      const live = async () =>
        (await getAgent(world.db, person, agentId)).tokens.filter(({ revokedAt }) => !revokedAt);
      const signIn = async (more: Record<string, string> = {}) => {
        const client = await clientId(app);
        const to = await decide(app, cookie, await request(client, more), { agent: agentId });
        const answer = await exchange(app, client, to.searchParams.get("code")!);
        assert.equal(answer.status, 200, JSON.stringify(answer.body));
        return { client, code: to.searchParams.get("code")!, ...answer.body };
      };

      await t.step("a request without a token is told where to sign in", async () => {
        for (
          const [path, of] of [
            ["/mcp", "/mcp"],
            ["/mcp/demo", "/mcp/demo"],
            ["/messages/demo", "/sse/demo"],
          ]
        ) {
          const response = await app.request(ORIGIN + path, { method: "POST" });
          assert.equal(response.status, 401);
          const challenge = response.headers.get("www-authenticate")!;
          assert.match(challenge, /^Bearer scope="tools:read", resource_metadata="/);
          const address = /resource_metadata="([^"]+)"/.exec(challenge)![1];
          assert.equal(address, `${ORIGIN}/.well-known/oauth-protected-resource${of}`);
          const metadata = await (await app.request(address)).json();
          assert.equal(metadata.resource, ORIGIN + of);
          assert.deepEqual(metadata.authorization_servers, [ORIGIN]);
        }
        const { issuer, code_challenge_methods_supported } =
          await (await get("/.well-known/oauth-authorization-server")).json();
        assert.equal(issuer, ORIGIN);
        assert.deepEqual(code_challenge_methods_supported, ["S256"]);
        assert.equal((await get("/.well-known/oauth-protected-resource/agents")).status, 404);
      });

      await t.step("an address's quotes stay out of the challenge", async () => {
        const response = await app.request(`${ORIGIN}/mcp/a%22,x=%22`, { method: "POST" });
        assert.doesNotMatch(response.headers.get("www-authenticate")!, /x=/);
      });

      await t.step("registration takes apps' schemes, and no unfit address", async () => {
        for (
          const uri of [
            "https://claude.ai/api/mcp/auth_callback",
            "http://localhost:33418/",
            "cursor://anysphere.cursor-mcp/oauth/callback",
          ]
        ) assert.equal((await register(app, { redirect_uris: [uri] })).status, 201, uri);
        for (
          const uri of [
            "http://evil.example/",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://ann:secret@evil.example/",
            "https://evil.example/#part",
            "//evil.example",
          ]
        ) {
          const response = await register(app, { redirect_uris: [uri] });
          assert.equal(response.status, 400, uri);
          assert.equal((await response.json()).error, "invalid_redirect_uri");
        }
        assert.equal((await register(app, { redirect_uris: [] })).status, 400);
      });

      await t.step("what a program sends without form is answered in JSON", async () => {
        const nul = await register(app, { redirect_uris: ["https://e.example/\u0000"] });
        assert.deepEqual([nul.status, (await nul.json()).error], [400, "invalid_redirect_uri"]);
        const named = await register(app, {
          client_name: "An\u0000editor",
          client_uri: "https://e.example/\u0000",
        });
        assert.equal(named.status, 201);
        assert.equal((await named.json()).client_name, "An␀editor");
        for (
          const [path, body] of [
            ["revoke", "client_id=%00&token=moa_x"],
            ["token", "grant_type=refresh_token&refresh_token=mor_x&client_id=%00"],
            ["token", "grant_type=refresh_token&refresh_token=mor_x&client_id=a&client_id=b"],
          ]
        ) {
          const answer = await app.request(`${ORIGIN}/oauth/${path}`, {
            method: "POST",
            headers: { "content-type": "application/x-www-form-urlencoded" },
            body,
          });
          assert.equal(answer.status, 400, body);
          assert.equal((await answer.json()).error, "invalid_request", body);
        }
      });

      await t.step("the page says who asks, and leads over sign-in", async () => {
        const path = await request(
          await clientId(app, {
            client_name: "<b>Editor</b>\u202e",
            client_uri: "https://e.example",
          }),
        );
        const away = await get(path);
        assert.equal(away.status, 303);
        assert.equal(
          new URL(away.headers.get("location")!, ORIGIN).searchParams.get("next"),
          path,
        );
        const html = await (await get(path, { cookie })).text();
        assert.match(html, /&lt;b&gt;Editor&lt;\/b&gt;/);
        assert.match(html, /this computer/);
        assert.match(html, /Ann&#39;s editor/);
        assert.match(html, /nobody verified it/);
        assert.match(html, /Any program on this computer may be the one that takes the answer/);
      });

      await t.step("allowed, a client calls as the agent and renews its token", async () => {
        const { client, access_token, refresh_token, expires_in, scope } = await signIn();
        assert.match(access_token, /^moa_/);
        assert.equal(expires_in, 3600);
        assert.match(scope, /tools/);
        assert.equal((await ping(app, access_token)).status, 200);
        assert.equal((await ping(app, access_token, "/mcp/demo")).status, 200);
        const [grant] = await live();
        assert.equal(grant.name, "An editor");
        assert.equal(grant.clientHost, "this computer");
        assert.ok(grant.lastUsedAt);
        const renewed = await renew(app, client, refresh_token);
        assert.equal(renewed.status, 200, JSON.stringify(renewed.body));
        assert.notEqual(renewed.body.refresh_token, refresh_token);
        assert.equal(renewed.headers.get("cache-control"), "no-store");
        assert.equal((await ping(app, renewed.body.access_token)).status, 200);
      });

      await t.step("a grant revoked on the agent's page is over at once", async () => {
        const { client, access_token, refresh_token } = await signIn();
        assert.equal((await ping(app, access_token)).status, 200);
        const [{ id }] = await live();
        await revokeToken(world.db, person, agentId, id);
        const deadline = performance.now() + 300_000;
        while ((await ping(app, access_token)).status === 200 && performance.now() < deadline);
        assert.equal((await ping(app, access_token)).status, 401);
        assert.equal((await renew(app, client, refresh_token)).body.error, "invalid_grant");
      });

      await t.step("a client gives up its grant by either token", async () => {
        const { client, access_token, refresh_token } = await signIn();
        const before = (await live()).length;
        const revoke = (client_id: string) =>
          app.request(`${ORIGIN}/oauth/revoke`, {
            method: "POST",
            body: new URLSearchParams({ client_id, token: refresh_token }),
          });
        assert.equal((await revoke("another")).status, 200);
        assert.equal((await live()).length, before);
        assert.equal((await revoke(client)).status, 200);
        assert.equal((await live()).length, before - 1);
        assert.equal((await ping(app, access_token)).status, 401);
      });

      await t.step("a token is for the address that was agreed to", async () => {
        const { access_token } = await signIn({ resource: `${ORIGIN}/mcp/demo` });
        assert.equal((await ping(app, access_token, "/mcp/demo")).status, 200);
        for (const path of ["/mcp", "/mcp/demo2", "/mcp/other", "/messages/demo"]) {
          const refused = await ping(app, access_token, path);
          assert.equal(refused.status, 401, path);
          assert.match(refused.headers.get("www-authenticate")!, /error="invalid_token"/);
        }
        const all = await signIn({ resource: "" });
        assert.equal((await ping(app, all.access_token, "/mcp/demo")).status, 200);
        const client = await clientId(app);
        const foreign = await request(client, { resource: "https://other.example/mcp" });
        const page = await get(foreign, { cookie });
        assert.equal(page.status, 422);
        assert.match(await page.text(), /error=invalid_target/);
      });

      await t.step("a parameter without a value is none", async () => {
        const client = await clientId(app);
        const path = `${await request(client, { resource: "" })}&resource=`;
        const to = await decide(app, cookie, path, { agent: agentId });
        const { status, body } = await exchange(app, client, to.searchParams.get("code")!, {
          resource: "",
          scope: "",
        });
        assert.equal(status, 200, JSON.stringify(body));
        assert.equal((await ping(app, body.access_token, "/mcp/demo")).status, 200);
      });

      await t.step("a parameter that comes twice is not the one that the page shows", async () => {
        const client = await clientId(app, { redirect_uris: [CALLBACK, "https://b.example/"] });
        const other = await clientId(app);
        for (const twice of [`redirect_uri=https://b.example/`, `client_id=${other}`, "state=b"]) {
          const { status } = await get(`${await request(client)}&${twice}`, { cookie });
          assert.equal(status, 422, twice);
        }
      });

      await t.step("a token without a scope is told which is the least", async () => {
        const { client, access_token } = await signIn();
        await world.db.asApp`update auth.oauth_access_tokens set scopes = '["offline_access"]'
          where "clientId" = ${client}`;
        const refused = await ping(app, access_token);
        assert.equal(refused.status, 403);
        assert.match(
          refused.headers.get("www-authenticate")!,
          /error="insufficient_scope", scope="tools:read", resource_metadata=/,
        );
      });

      await t.step("a code serves once, and what it gave ends with the second try", async () => {
        const { client, code, access_token } = await signIn();
        const again = await exchange(app, client, code);
        assert.equal(again.body.error, "invalid_grant");
        const [{ count }] = await world.db.asApp`
          select count(*)::int from auth.oauth_access_tokens
          where "clientId" = ${client}`;
        assert.equal(count, 0, access_token.slice(0, 4));
      });

      await t.step(
        "a code serves its client, at its address, with its verifier alone",
        async () => {
          const client = await clientId(app);
          const code = async () =>
            (await decide(app, cookie, await request(client), { agent: agentId }))
              .searchParams.get("code")!;
          const refused = async (more: Record<string, string>) =>
            (await exchange(app, client, await code(), more)).status;
          assert.ok(await refused({ code_verifier: "w".repeat(43) }) >= 400);
          assert.ok(await refused({ redirect_uri: "http://127.0.0.1:9999/other" }) >= 400);
          assert.ok(await refused({ client_id: await clientId(app) }) >= 400);
          assert.ok(await refused({ resource: `${ORIGIN}/mcp/demo` }) >= 400);
          assert.ok(await refused({ resource: "https://other.example" }) >= 400);
          const bare = await token(app, {
            grant_type: "authorization_code",
            client_id: client,
            code: await code(),
            redirect_uri: CALLBACK,
          });
          assert.ok(bare.status >= 400, "without a verifier");
          assert.equal((await exchange(app, client, await code())).status, 200);
        },
      );

      await t.step("an expired token opens nothing", async () => {
        const { client, access_token, refresh_token } = await signIn();
        await world.db.asApp`update auth.oauth_access_tokens
          set "expiresAt" = now() - interval '1 second' where "clientId" = ${client}`;
        assert.equal((await ping(app, access_token)).status, 401);
        assert.equal((await renew(app, client, refresh_token)).status, 200);
      });

      await t.step("a refresh token that comes again ends all that came of it", async () => {
        const { client, refresh_token } = await signIn();
        const next = await renew(app, client, refresh_token);
        const lost = await renew(app, client, refresh_token);
        assert.equal(lost.body.access_token, next.body.access_token, "an answer that was lost");
        await world.db.asApp`update auth.oauth_refresh_tokens
          set "rotationReplayExpiresAt" = now() - interval '1 second',
            "rotatedAt" = now() - interval '1 minute' where "rotatedAt" is not null`;
        assert.equal((await renew(app, client, refresh_token)).body.error, "invalid_grant");
        assert.equal(
          (await renew(app, client, next.body.refresh_token)).body.error,
          "invalid_grant",
        );
        const other = await signIn();
        const thief = await clientId(app);
        assert.equal((await renew(app, thief, other.refresh_token)).body.error, "invalid_grant");
        assert.equal((await renew(app, thief, "of another server")).body.error, "invalid_grant");
      });

      await t.step("windows of one client that renew at once are answered alike", async () => {
        for (const windows of [2, 6]) {
          const { client, refresh_token } = await signIn();
          const answers = await Promise.all(
            Array.from({ length: windows }, () => renew(app, client, refresh_token)),
          );
          assert.deepEqual(answers.map(({ status }) => status), Array(windows).fill(200));
          assert.equal(new Set(answers.map(({ body }) => body.refresh_token)).size, 1);
          assert.equal((await renew(app, client, answers[0].body.refresh_token)).status, 200);
        }
      });

      await t.step(
        "of an address on this computer the port may be another, and nothing else",
        async () => {
          const client = await clientId(app, { redirect_uris: [CALLBACK, "https://b.example/c"] });
          const redirect_uri = CALLBACK.replace("9999", "50123");
          const to = await decide(app, cookie, await request(client, { redirect_uri }), {
            agent: agentId,
          });
          assert.equal(to.origin + to.pathname, redirect_uri);
          const code = to.searchParams.get("code")!;
          assert.ok((await exchange(app, client, code)).status >= 400, "as it was asked for alone");
          for (
            const other of [
              CALLBACK.replace("127.0.0.1", "localhost"),
              CALLBACK.replace("http:", "https:"),
              `${CALLBACK}?more`,
              "https://b.example:8443/c",
              "https://B.example/c",
            ]
          ) {
            const page = await get(await request(client, { redirect_uri: other }), { cookie });
            assert.equal(page.status, 422, other);
          }
        },
      );

      await t.step("no answer goes to an address that is not the client's", async () => {
        const client = await clientId(app);
        const wrongs: Record<string, string>[] = [
          { redirect_uri: "https://evil.example/" },
          { redirect_uri: "http://127.0.0.1:9999/callback/more" },
          { client_id: "unknown" },
          { client_id: "https://unknown.example/client.json" },
          { redirect_uri: "" },
        ];
        for (const more of wrongs) {
          const page = await get(await request(client, more), { cookie });
          assert.equal(page.status, 422, JSON.stringify(more));
          assert.equal(page.headers.get("location"), null);
          assert.equal(page.headers.get("refresh"), null);
          assert.doesNotMatch(await page.text(), /href="https:\/\/evil/);
        }
        const without = await get(await request(client, { code_challenge: "" }), { cookie });
        assert.equal(without.status, 422);
        assert.equal(without.headers.get("refresh"), null, "nobody is led away by a link alone");
        const plain = await get(
          await request(client, { code_challenge_method: "plain" }),
          { cookie },
        );
        assert.equal(plain.status, 422);
        const implicit = await get(await request(client, { response_type: "token" }), { cookie });
        const back = /href="(http:[^"]+callback[^"]*)"/.exec(await implicit.text())![1];
        const { hash } = new URL(back.replaceAll("&amp;", "&"));
        assert.equal(new URLSearchParams(hash.slice(1)).get("iss"), ORIGIN);
      });

      await t.step("a no is told, and a form of another site decides nothing", async () => {
        const path = await request(await clientId(app));
        const to = await decide(app, cookie, path, { decision: "deny" });
        assert.equal(to.searchParams.get("error"), "access_denied");
        assert.equal(to.searchParams.get("state"), "a state");
        assert.equal(to.searchParams.get("iss"), ORIGIN);
        const forged = await app.request(ORIGIN + path, {
          method: "POST",
          headers: {
            cookie,
            origin: "https://evil.example",
            "content-type": "application/x-www-form-urlencoded",
          },
          body: `decision=allow&agent=${agentId}`,
        });
        assert.equal(forged.status, 403);
      });

      await t.step(
        "a new agent is made on the way, and a name that does not hold is said",
        async () => {
          const client = await clientId(app);
          const path = await request(client);
          const unnamed = await app.request(ORIGIN + path, {
            method: "POST",
            headers: {
              cookie,
              origin: ORIGIN,
              "content-type": "application/x-www-form-urlencoded",
            },
            body: "decision=allow&agent=new&name=",
          });
          assert.equal(unnamed.status, 422);
          const to = await decide(app, cookie, path, { agent: "new", name: "Made here" });
          assert.equal(to.searchParams.get("iss"), ORIGIN);
          const { body } = await exchange(app, client, to.searchParams.get("code")!);
          assert.equal((await ping(app, body.access_token)).status, 200);
        },
      );

      await t.step("a viewer lets nobody in, and a person who left no more", async () => {
        const { access_token } = await signIn();
        // Known, and from then on only told of anew.
        for (let time = 0; time < 3; time++) {
          assert.equal((await ping(app, access_token)).status, 200);
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        await world
          .owner`update public.members set role = 'viewer' where user_id = ${person.userId}`;
        const deadline = Date.now() + 10_000;
        while ((await ping(app, access_token)).status === 200 && Date.now() < deadline) {
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        assert.equal((await ping(app, access_token)).status, 401);
        const path = await request(await clientId(app));
        const refused = await app.request(ORIGIN + path, {
          method: "POST",
          headers: {
            cookie,
            origin: ORIGIN,
            "content-type": "application/x-www-form-urlencoded",
          },
          body: `decision=allow&agent=${agentId}`,
        });
        assert.equal(refused.status, 403);
      });

      await t.step("a sign-in with a second factor leads back to the request", async () => {
        const from = { clientIp: "10.1.0.1", userAgent: "" }, password = "a long enough password";
        const headers = new Headers({ cookie });
        const { key } = await world.identity.makeSecondFactor(headers, password, from);
        await world.identity.turnOnSecondFactor(headers, await totp(key), from);
        const path = await request(await clientId(app));
        const post = async (to: string, cookie: string, form: Record<string, string>) =>
          await app.request(ORIGIN + to, {
            method: "POST",
            headers: {
              cookie,
              origin: ORIGIN,
              "content-type": "application/x-www-form-urlencoded",
            },
            body: new URLSearchParams(form).toString(),
          });
        const asked = await post("/sign-in", "", {
          email: "bea@example.com",
          password,
          next: path,
        });
        const location = new URL(asked.headers.get("location")!, ORIGIN);
        assert.equal(location.pathname, "/sign-in/code");
        assert.equal(location.searchParams.get("next"), path);
        const challenge = asked.headers.getSetCookie().map((each) => each.split(";")[0]).join("; ");
        const form = await (await get(location.pathname + location.search)).text();
        assert.match(form, /name="next"/);
        const signedIn = await post("/sign-in/code", challenge, {
          code: await totp(key),
          next: path,
        });
        assert.equal(signedIn.headers.get("location"), path);
        const session = signedIn.headers.getSetCookie().map((each) => each.split(";")[0]).join(
          "; ",
        );
        assert.equal((await get(path, { cookie: session })).status, 200);
      });

      await close();
      await world.close();
    },
  });
}
