/** What the charts on a server's page are made of, read from the engine of a container that works. */
import assert from "node:assert/strict";
import type { ResourceSample } from "../../dtma/protocol.ts";
import { sampleContainers } from "../../dtma/sampler.ts";
import { engineTest, FixtureImages, fixtureSpec } from "./engine.ts";
import { Dtma, eventually } from "./observed.ts";

engineTest("sampleContainers reads processor, memory, network and processes", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  const stop = new AbortController();
  const samples: ResourceSample[] = [];
  try {
    const works = fixtureSpec("echo", { network: { hosts: ["*:443"] } });
    const agents = fixtureSpec("keeps", { instances: "agent" });
    dtma.reconciler.apply([works, agents]);
    await Promise.all([dtma.ready(works), dtma.ready(agents)]);
    const agent = crypto.randomUUID();
    await dtma.call(agents.serverId, "keep", { text: "a" }, agent);
    const gone = { serverId: works.serverId, instance: null, containerId: "0".repeat(64) };
    const sampling = sampleContainers({
      docker: toolbox.docker,
      running: () => [...dtma.reconciler.running(), gone],
      onSample: (sample) => samples.push(sample),
      everyMs: 300,
    }, stop.signal);
    const of = (serverId: string, instance: string | null) =>
      samples.filter((each) => each.serverId === serverId && each.instance === instance);
    let calling = true;
    const caller = (async () => {
      while (calling) await dtma.call(works.serverId, "echo", { text: "x".repeat(10_000) });
    })();
    await eventually(() => of(works.serverId, null).some(({ cpus }) => cpus > 0.02));
    calling = false;
    await caller;
    const busy = of(works.serverId, null);
    for (const sample of busy) {
      assert.ok(sample.cpus >= 0 && sample.cpus < 4, String(sample.cpus));
      assert.ok(sample.memoryBytes > 5e6 && sample.memoryBytes < 512 * 1024 ** 2);
      assert.ok(sample.pids >= 2 && sample.pids <= 128, String(sample.pids));
    }
    assert.ok(busy.every(({ receivedBytes, sentBytes }) => receivedBytes >= 0 && sentBytes >= 0));
    // An instance of an agent's own is measured as that agent's.
    await eventually(() => of(agents.serverId, agent).length > 0);
    // Idle again, it is seen to be.
    await eventually(() => of(works.serverId, null).at(-1)!.cpus < 0.02);
    stop.abort();
    await sampling;
  } finally {
    stop.abort();
    await dtma.reconciler.close();
  }
});

engineTest("measureVolumes tells how much a server keeps", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  try {
    const spec = fixtureSpec("keeps", {
      volumes: [{ name: "data", path: "/data" }],
      environment: { KEEP_IN: "/data" },
    });
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    assert.deepEqual(dtma.seen(spec.serverId)!.volumes, [{ name: "data", bytes: null }]);
    await dtma.call(spec.serverId, "keep", { text: "x".repeat(50_000) });
    await dtma.reconciler.measureVolumes();
    const seen = await dtma.until(spec, ({ volumes }) => (volumes[0].bytes ?? 0) >= 50_000);
    assert.ok(seen.volumes[0].bytes! < 200_000);
  } finally {
    await dtma.reconciler.close();
  }
});
