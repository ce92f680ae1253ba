/** Agents with accounts of their own at a remote server, from the bridge to containers on the real engine. */
import assert from "node:assert/strict";
import { openAccountWorld } from "./account_world.ts";
import { engineTest } from "./engine.ts";
import { eventually } from "./observed.ts";

engineTest(
  "Each agent's calls are made with its own account, and with no other",
  async (toolbox) => {
    await using world = await openAccountWorld(toolbox, { "option.instances": "agent" });
    const { far, both, serverId, signIn, authorizationServer: { provider } } = world;
    const { app, reconciler } = both, { owner } = app;
    await signIn(undefined, "team");
    await world.approve();

    /** Whose account the one call is made with that the agent makes. */
    const callerOf = async ({ call }: { call: () => Promise<string> }) => {
      const before = far.callers.length;
      const answer = await call();
      assert.match(answer, /read done/);
      assert.equal(far.callers.length, before + 1);
      return far.callers.at(-1)!;
    };
    const instances = () =>
      Object.fromEntries(
        reconciler.running().filter(({ instance }) => instance)
          .map(({ instance, containerId }) => [instance, containerId]),
      );
    const [ann, ben] = [await world.agent("Ann's"), await world.agent("Ben's")];

    assert.equal(await callerOf(ann), "team");
    assert.equal(await callerOf(ben), "team");
    const first = instances();
    await signIn(ann.path, "ann");
    await eventually(() => instances()[ann.id] !== first[ann.id]);
    assert.equal(await callerOf(ann), "ann");
    assert.equal(await callerOf(ben), "team");
    await signIn(ben.path, "ben");
    await eventually(async () => await callerOf(ben).catch(() => "") === "ben");

    // Both at once, many times: no answer and no session is another's.
    const before = far.callers.length;
    await Promise.all(Array.from({ length: 10 }, () => [ann.call(), ben.call()]).flat());
    const made = far.callers.slice(before).toSorted();
    assert.deepEqual(made, [...Array(10).fill("ann"), ...Array(10).fill("ben")]);

    // Renewed under an instance that runs on, ahead of its end and after a refusal.
    const running = instances();
    const age = (agentId: string, due: boolean) =>
      owner`update public.authorizations set renewed_at = now() - interval '1 hour',
      renew_at = case when ${due} then now() else renew_at end where agent_id = ${agentId}`;
    const tokens = () => far.sent.size;
    const sent = tokens();
    await age(ann.id, true);
    await eventually(async () => (await ann.call(), tokens() === sent + 1));
    await age(ben.id, false);
    const [{ id }] = await owner<{ id: string }[]>`
    select id from public.authorizations where agent_id = ${ben.id}`;
    const wanted = (await app.desired(serverId)).instanceInputs![ben.id];
    assert.equal(wanted.account, id);
    const token = wanted.headers!.authorization.replace("Bearer ", "");
    await (await provider.AccessToken.find(token))!.destroy();
    assert.equal(await callerOf(ben), "ben", "the call waited, and was made with the next one");
    assert.deepEqual(instances(), running, "no container was touched");

    // More rights are wanted of that account alone.
    assert.match(await ann.call("write"), /wants more rights/);
    await eventually(async () => {
      const rows = await owner<{ agent_id: string | null }[]>`
      select agent_id from public.authorizations where wanted_scope = 'tools:write'`;
      return rows.length === 1 && rows[0].agent_id === ann.id;
    });

    // Disconnected, it is the server's again; the other one's is as it was.
    await app.post(`${ann.path}/account/disconnect`);
    await eventually(() => instances()[ann.id] !== running[ann.id]);
    assert.equal(await callerOf(ann), "team");
    assert.equal(await callerOf(ben), "ben");

    const told = [...both.logged, app.logged.join("\n"), await app.eventsOf(serverId)].join("\n");
    for (const value of far.sent) {
      if (value) assert.ok(!told.includes(value.replace("Bearer ", "")));
    }
  },
);
