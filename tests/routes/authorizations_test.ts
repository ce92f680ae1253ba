/** Accounts at remote servers, from the button to the token: a real authorization server, the app by HTTP. */
import assert from "node:assert/strict";
import { renewAuthorizations } from "../../models/authorizations.ts";
import { connectServer, createAgent } from "../../models/agents.ts";
import { toolbeltOf } from "../../models/toolbelts.ts";
import { getServer } from "../../models/servers.ts";
import { touchToolbox } from "../../models/toolboxes.ts";
import { type Kind, KINDS } from "../models/databases.ts";
import { FACTS, linkIn, openApp } from "../oauth/app.ts";
import {
  type AuthorizationServerOptions,
  SCOPES,
  signInThere,
  startAuthorizationServer,
} from "../oauth/authorization_server.ts";
import { makeCertificates } from "../oauth/certificates.ts";
import { startProtectedServer } from "../oauth/protected_server.ts";

const certificates = await makeCertificates(["localhost", "hostile.example.test"]);
const OUTSIDE = {
  privateHosts: ["localhost", "hostile.example.test"],
  addresses: { "hostile.example.test": ["127.0.0.1"] },
  ca: certificates.ca,
};
const CALLBACK = "http://127.0.0.1:4680/oauth/callback";
async function worldOf(options: Partial<AuthorizationServerOptions> = {}, kind?: Kind) {
  const authorizationServer = await startAuthorizationServer({ certificates, ...options });
  const protectedServer = startProtectedServer(authorizationServer, certificates);
  const app = await openApp({ kind, outside: OUTSIDE });
  /** From the button to the callback. */
  const signIn = async (begun: Response) => {
    const { link, serverId } = await linkIn(begun);
    const back = await signInThere(link.href, certificates.ca, CALLBACK);
    return { serverId, back, ended: await app.get(back) };
  };
  return {
    authorizationServer,
    protectedServer,
    app,
    signIn,
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]();
      await protectedServer[Symbol.asyncDispose]();
      authorizationServer[Symbol.dispose]();
    },
  };
}

const tokenOf = ({ headers }: { headers?: Record<string, string> }) =>
  headers!.authorization.replace("Bearer ", "");

for (const kind of KINDS) {
  Deno.test({
    name: `an account is connected, renewed, lost, connected again and disconnected, ${kind.name}`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      await using world = await worldOf({}, kind);
      const { authorizationServer, protectedServer, app } = world;
      const { provider } = authorizationServer;
      const posts = (path: string) =>
        authorizationServer.asked.filter((each) => each === `POST ${path}`).length;
      const everSeen: string[] = [];
      let serverId = "", clientId = "", back = "";

      await t.step("the page shows where it leads, and the server is not run before", async () => {
        const begun = await linkIn(await app.add(protectedServer.url, { account: "true" }));
        serverId = begun.serverId;
        const { link, page } = begun;
        assert.match(page, /Continue to localhost:\d+/);
        assert.equal(link.origin, authorizationServer.issuer);
        const asked = Object.fromEntries(link.searchParams);
        clientId = asked.client_id;
        assert.equal(asked.code_challenge_method, "S256");
        assert.equal(asked.resource, protectedServer.url);
        assert.equal(asked.scope, "tools:read offline_access", "what the 401 asks for");
        assert.equal(asked.redirect_uri, CALLBACK);
        assert.equal((await app.desired(serverId)).running, false);
        const server = await getServer(app.db, app.user, serverId);
        assert.equal(server.status, "signed_out");
        back = await signInThere(link.href, certificates.ca, CALLBACK);
      });

      await t.step("another browser, another person and another state spend nothing", async () => {
        const cat = await app.person("cat", "member");
        const elsewhere = app.browser(app.bea);
        const other = app.browser(cat);
        other.jar.set("mooring_sign_in", app.jar.get("mooring_sign_in")!);
        const forged = new URL(back);
        forged.searchParams.set("state", "x".repeat(43));
        for (
          const [who, at] of [[elsewhere, back], [other, back], [app, forged.href]] as const
        ) {
          const answer = await who.get(at);
          assert.equal(answer.status, 404);
          assert.match(await answer.text(), /was not begun here/);
        }
        assert.equal(
          (await app.app.request(back)).status,
          303,
          "without a session: to sign in first",
        );
        assert.equal(posts("/token"), 0);
      });

      await t.step("the callback keeps the sign-in, once", async () => {
        const ended = await app.get(back);
        assert.equal(ended.status, 303, await ended.text());
        assert.equal(ended.headers.get("location"), `/servers/${serverId}?said=account-connected`);
        assert.equal((await app.get(back)).status, 404, "replayed");
        assert.equal(posts("/token"), 1);
        const wanted = await app.desired(serverId);
        assert.equal(wanted.running, true);
        const token = await provider.AccessToken.find(tokenOf(wanted));
        assert.equal(token!.aud, protectedServer.url);
        everSeen.push(tokenOf(wanted));
        assert.match(await app.eventsOf(serverId), /Connected an account at localhost/);
      });

      await t.step("five who renew at once renew once, with a rotated token", async () => {
        await app.due(serverId);
        await Promise.all(
          Array.from({ length: 5 }, () => renewAuthorizations(app.deps, app.toolboxId)),
        );
        assert.equal(posts("/token"), 2);
        const token = tokenOf(await app.desired(serverId));
        assert.ok(!everSeen.includes(token));
        everSeen.push(token);
        assert.equal((await app.row(serverId)).renewing_until, null);
        assert.equal((await touchToolbox(app.db, app.toolboxId, FACTS)).isRenewalDue, false);
      });

      await t.step(
        "a 401 that the toolbox reports makes it due, a fresh token's does not",
        async () => {
          await app.report([{ serverId, status: 401, error: "invalid_token" }]);
          assert.equal((await touchToolbox(app.db, app.toolboxId, FACTS)).isRenewalDue, false);
          await app.owner`
          update public.authorizations set renewed_at = now() - interval '2 minutes' where server_id = ${serverId}`;
          await app.report([{ serverId, status: 401, error: "invalid_token" }]);
          assert.equal((await touchToolbox(app.db, app.toolboxId, FACTS)).isRenewalDue, true);
          await renewAuthorizations(app.deps, app.toolboxId);
          assert.equal(posts("/token"), 3);
          everSeen.push(tokenOf(await app.desired(serverId)));
        },
      );

      await t.step("an authorization server that is away costs nothing but time", async () => {
        authorizationServer.answerWith(() => ({ status: 503, body: "{}" }));
        await app.due(serverId);
        await renewAuthorizations(app.deps, app.toolboxId);
        const row = await app.row(serverId);
        assert.equal(row.state, "signed_in");
        assert.match(row.trouble, /localhost/);
        assert.equal(tokenOf(await app.desired(serverId)), everSeen.at(-1));
        assert.match(await (await app.get(`/servers/${serverId}`)).text(), /could not be renewed/);
        authorizationServer.answerWith(null);
        await app.due(serverId);
        await renewAuthorizations(app.deps, app.toolboxId);
        assert.equal((await app.row(serverId)).trouble, null);
        everSeen.push(tokenOf(await app.desired(serverId)));
      });

      await t.step("more rights are asked for, and none lost", async () => {
        const scope = 'tools:write bad"scope';
        await app.report([{ serverId, status: 403, error: "insufficient_scope", scope }]);
        assert.match(await (await app.get(`/servers/${serverId}`)).text(), /want of more rights/);
        const { link } = await linkIn(await app.post(`/servers/${serverId}/account`));
        const asked = link.searchParams.get("scope")!.split(" ").toSorted();
        assert.deepEqual(asked, ["offline_access", ...SCOPES.split(" ")].toSorted());
        const returned = await signInThere(link.href, certificates.ca, CALLBACK);
        assert.equal((await app.get(returned)).status, 303);
        const row = await app.row(serverId);
        assert.equal(row.wanted_scope, null);
        assert.match(row.scope, /tools:write/);
        assert.equal(posts("/reg"), 1, "it is known there already");
        everSeen.push(tokenOf(await app.desired(serverId)));
      });

      await t.step("a refresh token that is dead is said, and the server stopped", async () => {
        const held = await provider.AccessToken.find(everSeen.at(-1)!);
        await (await provider.Grant.find(held!.grantId!))!.destroy();
        await app.due(serverId);
        await renewAuthorizations(app.deps, app.toolboxId);
        const wanted = await app.desired(serverId);
        assert.equal(wanted.running, false);
        assert.equal(wanted.headers, undefined);
        const server = await getServer(app.db, app.user, serverId);
        assert.equal(server.status, "signed_out");
        assert.match(server.statusDetail, /Sign in again: .*invalid_grant/);
        const agentId = await createAgent(app.db, app.user, app.workspaceId, "Agent");
        await connectServer(app.db, app.user, agentId, serverId);
        const [{ unavailable }] = (await toolbeltOf(app.db, agentId)).servers;
        assert.match(unavailable!, /waits for a person to sign in/);
        assert.match(await app.eventsOf(serverId), /has to be signed in again/);
        const page = await (await app.get(`/servers/${serverId}`)).text();
        assert.match(page, /Sign-in needed/);
        assert.match(
          await (await app.get("/")).text(),
          /: sign-in needed<\/a><small>Sign in again/,
        );
        assert.match(page, />\s*Sign in again\s*<\/button>/);
        await renewAuthorizations(app.deps, app.toolboxId);
        assert.equal((await app.eventsOf(serverId)).match(/has to be signed in again/g)!.length, 1);
      });

      await t.step(
        "signing in again lets it run again, though the client is forgotten",
        async () => {
          // Where nobody is registered any more it may be known still.
          authorizationServer.answerWith((path) =>
            path === "/reg" ? { status: 403, body: `{"error":"access_denied"}` } : null
          );
          const { link } = await linkIn(await app.post(`/servers/${serverId}/account`));
          assert.equal(link.searchParams.get("client_id"), clientId);
          authorizationServer.answerWith(null);
          // By the server that Mooring registered at, as many do in time.
          await provider.Client.adapter.destroy(clientId);
          const { ended } = await world.signIn(await app.post(`/servers/${serverId}/account`));
          assert.equal(ended.status, 303);
          assert.equal(posts("/reg"), 3);
          assert.equal((await app.desired(serverId)).running, true);
          everSeen.push(tokenOf(await app.desired(serverId)));
        },
      );

      await t.step("a viewer may neither connect nor disconnect", async () => {
        const viewer = app.browser(await app.person("vic", "viewer"));
        assert.equal((await viewer.post(`/servers/${serverId}/account`)).status, 403);
        assert.equal((await viewer.post(`/servers/${serverId}/account/disconnect`)).status, 403);
      });

      await t.step("no token is in a page, an event, a log or a column", async () => {
        const pages = await Promise.all(
          ["", "/account", "/log", "/configuration", "/events"].map((path) =>
            app.get(`/servers/${serverId}${path}`)
          ),
        );
        const told = [
          ...await Promise.all(pages.map((each) => each.text())),
          await app.eventsOf(serverId),
          app.logged.join("\n"),
          JSON.stringify(await app.row(serverId)),
        ].join("\n");
        assert.equal(everSeen.length, 6);
        for (const token of everSeen) assert.ok(!told.includes(token));
        assert.ok(!app.logged.join("\n").includes(new URL(back).searchParams.get("code")!));
      });

      await t.step("disconnecting revokes and forgets", async () => {
        const token = tokenOf(await app.desired(serverId));
        const answer = await app.post(`/servers/${serverId}/account/disconnect`);
        assert.equal(
          answer.headers.get("location"),
          `/servers/${serverId}?said=account-disconnected`,
        );
        assert.equal(await app.row(serverId), undefined);
        assert.equal(await provider.AccessToken.find(token), undefined);
        const wanted = await app.desired(serverId);
        assert.deepEqual([wanted.running, wanted.headers], [true, undefined]);
      });
    },
  });
}

const open = { sanitizeResources: false, sanitizeOps: false };

Deno.test(
  "a client that a person registered is asked for, and used with its secret",
  open,
  async () => {
    const client = {
      client_id: "by-hand",
      client_secret: "s3cret of the client",
      redirect_uris: [CALLBACK],
      grant_types: ["authorization_code", "refresh_token"],
      application_type: "native",
    };
    await using world = await worldOf({ clients: [client] });
    const { app } = world;
    const asked = await app.add(world.protectedServer.url, { account: "true" });
    assert.equal(asked.status, 422);
    const page = await asked.text();
    assert.match(page, /takes no clients by itself/);
    assert.ok(page.includes(CALLBACK));
    const serverId = /\/servers\/([0-9a-f-]{36})\/account/.exec(page)![1];
    const { link } = await linkIn(
      await app.post(`/servers/${serverId}/account`, {
        clientId: client.client_id,
        clientSecret: client.client_secret,
      }),
    );
    assert.equal(link.searchParams.get("client_id"), "by-hand");
    const back = await signInThere(link.href, certificates.ca, CALLBACK);
    assert.equal((await app.get(back)).status, 303);
    await app.due(serverId);
    const before = tokenOf(await app.desired(serverId));
    await renewAuthorizations(app.deps, app.toolboxId);
    assert.notEqual(tokenOf(await app.desired(serverId)), before, "renewed with the secret");
    const told = await (await app.get(`/servers/${serverId}`)).text() + app.logged.join();
    assert.ok(!told.includes(client.client_secret));
  },
);

Deno.test(
  "an answer of another issuer, a refusal and a late one are no sign-in",
  open,
  async () => {
    await using world = await worldOf();
    const { app, authorizationServer } = world;
    const { link, serverId } = await linkIn(
      await app.add(world.protectedServer.url, { account: "true" }),
    );
    const state = link.searchParams.get("state")!;
    const returned = (parameters: Record<string, string>) =>
      app.get(`${CALLBACK}?${new URLSearchParams({ state, ...parameters })}`);

    const foreign = await returned({
      iss: "https://attacker.example",
      error: "access_denied",
      error_description: "<b>call +1 555</b>",
    });
    assert.equal(foreign.status, 422);
    const shown = await foreign.text();
    assert.match(shown, /against the protocol/);
    assert.ok(!shown.includes("555"), "RFC 9207: nothing of it is shown");

    const again = await linkIn(await app.post(`/servers/${serverId}/account`));
    const refused = await app.get(
      `${CALLBACK}?${new URLSearchParams({
        state: again.link.searchParams.get("state")!,
        iss: authorizationServer.issuer,
        error: "access_denied",
      })}`,
    );
    assert.equal(refused.status, 422);
    assert.match(await refused.text(), /the sign-in was refused/);

    const late = await linkIn(await app.post(`/servers/${serverId}/account`));
    const back = await signInThere(late.link.href, certificates.ca, CALLBACK);
    await app
      .owner`update mooring.authorization_requests set expires_at = now() - interval '1 second'`;
    assert.equal((await app.get(back)).status, 404);
    assert.equal((await app.row(serverId)).state, "waiting");
  },
);

Deno.test(
  "a toolbox that knows no headers gets no server that is called with an account",
  open,
  async () => {
    await using world = await worldOf();
    const { app } = world;
    const { serverId, ended } = await world.signIn(
      await app.add(world.protectedServer.url, { account: "true" }),
    );
    assert.equal(ended.status, 303);
    const { knowsHeaders: _, ...older } = FACTS;
    await touchToolbox(app.db, app.toolboxId, older);
    const wanted = await app.desired(serverId);
    assert.deepEqual([wanted.running, wanted.headers], [false, undefined]);
    const server = await getServer(app.db, app.user, serverId);
    assert.equal(server.status, "failed");
    assert.match(server.statusDetail, /too old to call a server with an account/);
  },
);

Deno.test("Mooring is known by its metadata document, where one is taken", open, async () => {
  const baseUrl = "https://mooring.example.test/at";
  await using app = await openApp({ baseUrl, outside: OUTSIDE });
  const fetched: string[] = [];
  using authorizationServer = await startAuthorizationServer({
    certificates,
    features: {
      clientIdMetadataDocument: { enabled: true, ack: "draft-02" },
      registration: { enabled: true },
    },
    fetch: (url) => {
      fetched.push(String(url));
      return app.app.request(String(url));
    },
  });
  await using far = startProtectedServer(authorizationServer, certificates);
  const { link } = await linkIn(await app.add(far.url, { account: "true" }));
  assert.equal(link.searchParams.get("client_id"), `${baseUrl}/oauth/client.json`);
  const back = await signInThere(link.href, certificates.ca, `${baseUrl}/oauth/callback`);
  assert.equal((await app.get(back)).status, 303);
  assert.deepEqual([...new Set(fetched)], [`${baseUrl}/oauth/client.json`]);
  assert.ok(!authorizationServer.asked.includes("POST /reg"));

  const response = await app.app.request("https://mooring.example.test/at/oauth/client.json");
  const document = await response.json();
  assert.equal(document.client_id, "https://mooring.example.test/at/oauth/client.json");
  assert.deepEqual(document.redirect_uris, ["https://mooring.example.test/at/oauth/callback"]);
  assert.equal(document.token_endpoint_auth_method, "none");
  assert.equal(document.application_type, "web");
});

Deno.test("an agent's own Authorization header stands in place of the account", open, async () => {
  await using world = await worldOf();
  const { app } = world;
  const { serverId } = await world.signIn(
    await app.add(world.protectedServer.url, {
      account: "true",
      "header.1": "Authorization",
      "env.HEADER_1_VALUE": "Bearer of all",
    }),
  );
  const agentId = await createAgent(app.db, app.user, app.workspaceId, "Ann's");
  await connectServer(app.db, app.user, agentId, serverId);
  const path = `/agents/${agentId}/connections/${serverId}`;
  const own = { "env.HEADER_1_VALUE": "Bearer of Ann" };
  const refused = await app.post(`${path}/secrets`, own);
  assert.equal(refused.status, 422);
  const page = await refused.text();
  assert.match(page, /needs an instance for each agent/);
  assert.ok(!page.includes("Bearer of Ann"));
  const saved = await app.post(`${path}/secrets`, { ...own, instancePerAgent: "true" });
  assert.equal(saved.headers.get("location"), `${path}?said=credentials-saved`);
  const { headers, instanceInputs } = await app.desired(serverId);
  assert.match(headers!.authorization, /^Bearer /);
  const { secrets, headers: ownHeaders } = instanceInputs![agentId];
  assert.deepEqual([secrets, ownHeaders], [{ HEADER_1_VALUE: "Bearer of Ann" }, {}]);
});

/** A server that says whatever a test wants, at every path. */
function hostileServer(answers: (path: string, origin: string) => unknown) {
  const { cert, key } = certificates;
  const asked: string[] = [];
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, cert, key, onListen() {} },
    (request) => {
      const { pathname } = new URL(request.url);
      asked.push(pathname);
      if (request.method === "POST" && pathname === "/mcp") {
        return new Response(null, {
          status: 401,
        });
      }
      const answer = answers(pathname, origin);
      if (answer instanceof Response) return answer;
      return answer === undefined ? new Response(null, { status: 404 }) : Response.json(answer);
    },
  );
  const origin = `https://hostile.example.test:${server.addr.port}`;
  return { origin, asked, [Symbol.asyncDispose]: () => server.shutdown() };
}

const metadata = (issuer: string, changes: Record<string, unknown> = {}) => ({
  issuer,
  authorization_endpoint: `${issuer}/authorize`,
  token_endpoint: `${issuer}/token`,
  registration_endpoint: `${issuer}/register`,
  code_challenge_methods_supported: ["S256"],
  ...changes,
});

type Answers = (path: string, origin: string) => unknown;
const RESOURCE = "/.well-known/oauth-protected-resource/mcp";
const SERVER = "/.well-known/oauth-authorization-server";
const about = (resource: string, issuer: string) => ({ resource, authorization_servers: [issuer] });
const withServer =
  (changes: (origin: string) => Record<string, unknown>): Answers => (path, origin) =>
    path === RESOURCE
      ? about(`${origin}/mcp`, origin)
      : path === SERVER
      ? metadata(origin, changes(origin))
      : undefined;

const HOSTILE: [string, RegExp, Answers][] = [
  [
    "metadata of another resource",
    /is about another server/,
    (path, origin) => path === RESOURCE ? about("https://mcp.example.com/mcp", origin) : undefined,
  ],
  [
    "metadata of another path of its own",
    /is about another server/,
    (path, origin) => path === RESOURCE ? about(`${origin}/mcp-other`, origin) : undefined,
  ],
  ...["?tenant=other", "#part"].map((more): [string, RegExp, Answers] => [
    `metadata of a resource with ${more}`,
    /is about another server/,
    (path, origin) => path === RESOURCE ? about(`${origin}/mcp${more}`, origin) : undefined,
  ]),
  [
    "an issuer that is another",
    /against the protocol/,
    withServer(() => ({
      issuer: "https://honest.example.com",
    })),
  ],
  [
    "huge metadata",
    /more than 256 KiB/,
    (path) => path === RESOURCE ? new Response("x".repeat(300 * 1024)) : undefined,
  ],
  [
    "redirects without end",
    /redirects too often/,
    (path, origin) =>
      path === RESOURCE
        ? new Response(null, { status: 302, headers: { location: origin + RESOURCE } })
        : undefined,
  ],
  [
    "a redirect to the host's own metadata service",
    /is an address/,
    (path) =>
      path === RESOURCE
        ? new Response(null, { status: 302, headers: { location: "https://169.254.169.254/" } })
        : undefined,
  ],
  [
    "an authorization server by its address",
    /is an address/,
    (path, origin) => path === RESOURCE ? about(`${origin}/mcp`, "https://127.0.0.1") : undefined,
  ],
  [
    "an authorization server of a private network",
    /private network|no address/,
    (path, origin) =>
      path === RESOURCE ? about(`${origin}/mcp`, "https://ip6-localhost") : undefined,
  ],
  [
    "an authorization server without TLS",
    /does not hold/,
    (path, origin) =>
      path === RESOURCE ? about(`${origin}/mcp`, "http://hostile.example.test") : undefined,
  ],
  [
    "a token endpoint without TLS",
    /token_endpoint must be an https URL/,
    withServer(() => ({
      token_endpoint: "http://hostile.example.test/token",
    })),
  ],
  [
    "a sign-in page that is a script",
    /authorization_endpoint must be an https URL/,
    withServer(() => ({
      authorization_endpoint: "javascript:alert(1)",
    })),
  ],
  ["no PKCE", /PKCE/, withServer(() => ({ code_challenge_methods_supported: undefined }))],
  ["plain PKCE alone", /PKCE/, withServer(() => ({ code_challenge_methods_supported: ["plain"] }))],
  [
    "a registration at a private address",
    /is an address/,
    withServer(() => ({
      registration_endpoint: "https://10.0.0.1/register",
    })),
  ],
  ["nothing at all", /does not say how people sign in/, () => undefined],
];

Deno.test("a page at one of an issuer's addresses is no metadata of it", open, async () => {
  await using app = await openApp({ outside: OUTSIDE });
  const page = () =>
    new Response("<!doctype html>", { headers: { "content-type": "text/html; charset=utf-8" } });
  // As Keycloak's realms behind a site that answers whatever path is asked.
  await using server = hostileServer((path, origin) => {
    if (path === RESOURCE) return about(`${origin}/mcp`, `${origin}/realms/one`);
    return path === "/realms/one/.well-known/openid-configuration"
      ? metadata(`${origin}/realms/one`, { registration_endpoint: undefined })
      : page();
  });
  const answer = await (await app.add(`${server.origin}/mcp`, { account: "true" })).text();
  assert.match(answer, /takes no clients by itself/);
  assert.deepEqual(server.asked.slice(-3), [
    `${SERVER}/realms/one`,
    "/.well-known/openid-configuration/realms/one",
    "/realms/one/.well-known/openid-configuration",
  ]);
});

Deno.test("who a person is, said in an ID token, is nobody's concern", open, async () => {
  await using app = await openApp({ outside: OUTSIDE });
  const part = (of: object) =>
    btoa(JSON.stringify(of)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  await using server = hostileServer((path, origin) => {
    if (path === RESOURCE) return about(`${origin}/mcp`, origin);
    if (path === SERVER) return metadata(origin);
    // It has to be 201 by RFC 7591, and is not everywhere.
    if (path === "/register") return { client_id: "known" };
    if (path !== "/token") return;
    const iat = Math.floor(Date.now() / 1000);
    const claims = { iss: origin, sub: "ann", aud: "known", iat, exp: iat + 60 };
    const id_token = [part({ alg: "ES256" }), part(claims), "c2lnbmVk"].join(".");
    return { access_token: "a-token", token_type: "Bearer", id_token };
  });
  const begun = await app.add(`${server.origin}/mcp`, { account: "true" });
  const { link, serverId } = await linkIn(begun);
  const back = new URL(CALLBACK);
  back.search = String(
    new URLSearchParams({ code: "a-code", state: link.searchParams.get("state")! }),
  );
  assert.equal((await app.get(back.href)).status, 303);
  const { state, trouble } = await app.row(serverId);
  assert.deepEqual([state, trouble], ["signed_in", null]);
});

Deno.test("hostile metadata leads nowhere, and is told", open, async (t) => {
  await using app = await openApp({ outside: OUTSIDE });
  for (const [what, says, answers] of HOSTILE) {
    await t.step(what, async () => {
      await using hostile = hostileServer(answers);
      const answer = await app.add(`${hostile.origin}/mcp`, { account: "true" });
      const page = await answer.text();
      assert.equal(answer.status, 422, page);
      assert.match(page, says);
      assert.ok(!page.includes('rel="noreferrer"'), "there is nothing to go to");
    });
  }
  const [{ count }] = await app.owner`select count(*)::int from mooring.authorization_requests`;
  assert.equal(count, 0);
});

Deno.test(
  "a server of 2025-03-26, without metadata of its own, signs people in itself",
  open,
  async () => {
    await using app = await openApp({ outside: OUTSIDE });
    await using server = hostileServer((path, origin) =>
      path === SERVER ? metadata(origin) : undefined
    );
    const answer = await app.add(`${server.origin}/mcp`, { account: "true" });
    // It has no registration endpoint in truth.
    assert.equal(answer.status, 422);
    assert.deepEqual(server.asked, [
      "/mcp",
      RESOURCE,
      "/.well-known/oauth-protected-resource",
      SERVER,
      "/register",
    ]);
  },
);
