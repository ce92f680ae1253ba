/** A remote server that is called with an account, from the app to the container on the real engine. */
import assert from "node:assert/strict";
import { getServer } from "../../models/servers.ts";
import { openAccountWorld } from "./account_world.ts";
import { engineTest } from "./engine.ts";
import { eventually } from "./observed.ts";
import { toolCall } from "./stdio_server.ts";

const tokenOf = ({ headers }: { headers?: Record<string, string> }) =>
  headers!.authorization.replace("Bearer ", "");

engineTest("A token is renewed under a container that runs on", async (toolbox) => {
  const { docker } = toolbox;
  await using world = await openAccountWorld(toolbox);
  const { far, both, serverId, signIn, authorizationServer } = world;
  const { app, reconciler } = both, { db, user, owner } = app;
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
  await eventually(async () => await status() === "running");
  assert.equal(await call("read"), "read done");
  const first = await container();
  const tokens = () => [...far.sent].filter((each) => each !== null);
  assert.equal(tokens().length, 1);

  // An agent's client: its own token, and whatever else it sends, goes no further.
  await world.approve();
  const agent = await world.agent("Agent");
  assert.match(await agent.call(), /read done/);
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
  await eventually(() => reconciler.running().length === 0);
  await signIn();
  await eventually(async () => await call("read") === "read done");
});
