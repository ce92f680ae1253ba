/**
 * A remote server that is called with an account, from the app to the container on the real engine: a
 * real authorization server, and a real MCP server that checks its tokens, over TLS.
 */
import assert from "node:assert/strict";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { remoteEntry } from "../../models/remote_servers.ts";
import { deployEntry, getServer } from "../../models/servers.ts";
import { testKey } from "../models/databases.ts";
import { linkIn } from "../oauth/app.ts";
import { signInThere, startAuthorizationServer } from "../oauth/authorization_server.ts";
import { makeCertificates } from "../oauth/certificates.ts";
import { startProtectedServer } from "../oauth/protected_server.ts";
import { openAppAndDtma } from "./app_and_dtma.ts";
import { engineTest } from "./engine.ts";
import { eventually } from "./observed.ts";
import { bridgeAddress } from "./package_index.ts";
import { toolCall } from "./stdio_server.ts";

const FAR = "mcp.example.test";

const tokenOf = ({ headers }: { headers?: Record<string, string> }) =>
  headers!.authorization.replace("Bearer ", "");

engineTest("A token is renewed under a container that runs on", async (toolbox) => {
  const { docker } = toolbox;
  const host = await bridgeAddress(docker);
  const certificates = await makeCertificates([FAR, "localhost"]);
  using authorizationServer = await startAuthorizationServer({ certificates });
  await using far = startProtectedServer(authorizationServer, certificates, {
    name: FAR,
    address: host,
  });
  await using both = await openAppAndDtma(toolbox, {
    host,
    name: FAR,
    outside: { privateHosts: [FAR, "localhost"], ca: certificates.ca },
  });
  const { app, reconciler } = both;
  const { db, user, owner } = app;

  // The adapter is to trust the tests' authority, as no real one's entry asks.
  const entry = remoteEntry({ url: far.url });
  const ca = { name: "NODE_EXTRA_CA_CERTS", isSecret: true, isFile: true } as const;
  const { serverId } = await deployEntry(db, user, {
    entry: { ...entry, environment: [{ ...ca, isRequired: true, format: "string" }] },
    form: { "env.NODE_EXTRA_CA_CERTS": certificates.ca },
    workspaceId: app.workspaceId,
    toolboxId: app.toolboxId,
    awaitsSignIn: true,
    idempotencyKey: crypto.randomUUID(),
  }, testKey);
  const signIn = async () => {
    const { link } = await linkIn(await app.post(`/servers/${serverId}/account`));
    const callback = link.searchParams.get("redirect_uri")!;
    const back = await signInThere(link.href, certificates.ca, callback);
    assert.equal((await app.get(back)).status, 303);
  };
  const status = async () => (await getServer(db, user, serverId)).status;
  const call = async (name: string) => {
    const route = await reconciler.reach(serverId);
    if ("unavailable" in route) return route.unavailable;
    const { result, error } = await route.session.call(toolCall(name), {});
    return error?.message ?? (result!.content as { text: string }[])[0].text;
  };
  const container = async () => {
    const [{ containerId }] = reconciler.running();
    const { Id, State } = await docker.inspectContainer(containerId);
    return { Id, StartedAt: (State as unknown as { StartedAt: string }).StartedAt };
  };
  /** As if the last renewal were long ago. */
  const age = () =>
    owner`update public.authorizations set renewed_at = now() - interval '1 hour' where server_id = ${serverId}`;

  assert.equal(await status(), "signed_out");
  assert.deepEqual(reconciler.running(), []);
  assert.equal(far.sent.size, 0, "it is not called before a person signed in");
  await signIn();
  await eventually(async () => await status() === "running", 120_000);
  assert.equal(await call("read"), "read done");
  const first = await container();
  const tokens = () => [...far.sent].filter((each) => each !== null);
  assert.equal(tokens().length, 1);

  // An agent's client: its own token, and whatever else it sends, goes no further.
  await eventually(async () => (await listTools(db, user, serverId)).length === 2);
  await approveTools(db, user, serverId, await listTools(db, user, serverId));
  const agentId = await createAgent(db, user, app.workspaceId, "Agent");
  await connectServer(db, user, agentId, serverId);
  const { token } = await createToken(db, user, agentId, { name: "t", expiresInDays: 1 });
  const answer = await fetch(`${both.baseUrl}/mcp`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2025-11-25",
    },
    body: JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "tools/call",
      params: { name: `${(await getServer(db, user, serverId)).slug}__read`, arguments: {} },
    }),
  });
  assert.match(await answer.text(), /read done/);
  assert.deepEqual(tokens(), [`Bearer ${tokenOf(await app.desired(serverId))}`]);

  // Ahead of its end.
  await app.due(serverId);
  await eventually(async () => (await call("read"), tokens().length === 2));

  // Refused: the call waits, and is made with the next one.
  await age();
  await far.forget();
  assert.equal(await call("read"), "read done");
  assert.equal(tokens().length, 3);
  assert.deepEqual(await container(), first, "the container was not touched");

  // For want of rights: said, and asked for at the next sign-in.
  assert.match(await call("write"), /wants more rights.*sign in again/);
  await eventually(async () => (await app.row(serverId)).wanted_scope === "tools:write");
  await signIn();
  await eventually(async () => await call("write") === "write done");
  assert.deepEqual(await container(), first, "nor by a sign-in");

  const told = [
    JSON.stringify(await docker.inspectContainer(first.Id)),
    await reconciler.log(serverId),
    ...both.logged,
    app.logged.join("\n"),
    await app.eventsOf(serverId),
  ].join("\n");
  for (const token of tokens()) assert.ok(!told.includes(token.replace("Bearer ", "")));

  // The refresh token is dead as well.
  const { provider } = authorizationServer;
  const last = await provider.AccessToken.find(tokens().at(-1)!.replace("Bearer ", ""));
  await (await provider.Grant.find(last!.grantId!))!.destroy();
  await age();
  await far.forget();
  assert.match(await call("read"), /sign in again|stopped|being changed|lost/);
  await eventually(async () => await status() === "signed_out");
  await eventually(() => reconciler.running().length === 0, 60_000);
  await signIn();
  await eventually(async () => await call("read") === "read done", 60_000);
});
