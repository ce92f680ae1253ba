/** Credentials of an agent's own, in its own container on the real engine. */
import assert from "node:assert/strict";
import { Label } from "../../dtma/policy.ts";
import type { ServerSpec } from "../../dtma/protocol.ts";
import { engineTest, FixtureImages, fixtureSpec } from "./engine.ts";
import { Dtma, eventually } from "./observed.ts";

const SHARED = "the-value-of-all", ANNS = "the-value-of-ann", NEXT = "the-next-value-of-ann";

engineTest("An agent's instance has the agent's own secrets, and no other has", async (toolbox) => {
  const { docker, id } = toolbox;
  const images = new FixtureImages(toolbox);
  let dtma = await Dtma.start(toolbox, images);
  const [ann, bob] = [crypto.randomUUID(), crypto.randomUUID()];
  const base = fixtureSpec("counts", { instances: "agent", secrets: { MARK: SHARED } });
  const withAnns = (mark: string): ServerSpec => ({
    ...base,
    instanceInputs: {
      [ann]: { arguments: [], environment: {}, secrets: { MARK: mark }, secretFiles: {} },
    },
  });
  const markOf = async (agent: string | null) =>
    JSON.parse(await dtma.call(base.serverId, "count", { token: "t" }, agent)).mark;
  /** By whose it is; the shared one's is empty. */
  const containers = async () => {
    const found = await docker.listContainers([`${Label.toolbox}=${id}`, Label.server]);
    return new Map(found.map((each) => [each.Labels[Label.instance] ?? "", each.Id]));
  };
  const told: string[] = [];
  const look = async () => {
    for (const containerId of (await containers()).values()) {
      told.push(JSON.stringify(await docker.inspectContainer(containerId)));
    }
    told.push(JSON.stringify([dtma.history, dtma.events]));
    told.push(await dtma.reconciler.log(base.serverId) ?? "");
  };
  try {
    dtma.reconciler.apply([withAnns(ANNS)]);
    await dtma.ready(base);
    assert.deepEqual([await markOf(ann), await markOf(bob)], [ANNS, SHARED]);
    const first = await containers();
    assert.deepEqual([...first.keys()].toSorted(), ["", ann, bob].toSorted());

    // Another value: that instance alone is another one.
    dtma.reconciler.apply([withAnns(NEXT)]);
    await eventually(async () => (await containers()).get(ann) !== first.get(ann));
    assert.deepEqual([await markOf(ann), await markOf(bob)], [NEXT, SHARED]);
    const second = await containers();
    assert.deepEqual([second.get(""), second.get(bob)], [first.get(""), first.get(bob)]);
    await look();

    // A DTMA that starts takes all three over.
    await dtma.reconciler.close();
    dtma = await Dtma.start(toolbox, images);
    dtma.reconciler.apply([withAnns(NEXT)]);
    await dtma.ready(base);
    assert.deepEqual([await markOf(ann), await markOf(bob)], [NEXT, SHARED]);
    assert.deepEqual(await containers(), second);

    // Taken back while no DTMA ran: the container with the old value does not serve.
    await dtma.reconciler.close();
    dtma = await Dtma.start(toolbox, images);
    dtma.reconciler.apply([base]);
    await dtma.ready(base);
    assert.deepEqual([await markOf(ann), await markOf(bob)], [SHARED, SHARED]);
    assert.notEqual((await containers()).get(ann), second.get(ann));
    assert.equal((await containers()).get(bob), second.get(bob));
    await look();
    for (const secret of [SHARED, ANNS, NEXT]) assert.ok(!told.join("\n").includes(secret), secret);
  } finally {
    await dtma.reconciler.close();
  }
});
