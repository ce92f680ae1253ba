import assert from "node:assert/strict";
import { DockerError } from "../../dtma/docker.ts";
import { Label } from "../../dtma/policy.ts";
import type { ServerSpec } from "../../dtma/protocol.ts";
import { engineTest, FixtureImages, fixtureSpec, leftovers, type Toolbox } from "./engine.ts";
import { Dtma, eventually, sleep } from "./observed.ts";

const containersOf = ({ docker, id }: Toolbox) =>
  docker.listContainers([`${Label.toolbox}=${id}`, Label.server]);

const argumentsOf = async (dtma: Dtma, { serverId }: ServerSpec) =>
  JSON.parse(await dtma.call(serverId, "environment")).arguments;

engineTest("A change replaces the server without a call lost", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  try {
    const spec = fixtureSpec("echo", { arguments: ["one"] });
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    const seen = new Set<string>();
    let calling = true, calls = 0;
    const caller = (async () => {
      for (; calling; calls++) seen.add((await argumentsOf(dtma, spec))[0]);
    })();
    const changed = { ...spec, generation: 2, arguments: ["two"] };
    dtma.reconciler.apply([changed]);
    const up = await dtma.ready(changed);
    assert.equal(up.servingGeneration, 2);
    calling = false;
    await caller;
    assert.deepEqual(await argumentsOf(dtma, spec), ["two"]);
    assert.ok(calls > 1 && seen.has("one"), `${calls} calls saw ${[...seen]}`);
    await eventually(async () => (await containersOf(toolbox)).length === 1);
    assert.ok(dtma.events.some(({ message }) => message.includes("replaced generation 1")));
  } finally {
    await dtma.reconciler.close();
  }
});

engineTest("A change that does not get ready leaves the older serving", async (toolbox) => {
  const images = new FixtureImages(toolbox);
  const first = await Dtma.start(toolbox, images);
  const spec = fixtureSpec("echo", { arguments: ["one"] });
  const bad = { ...spec, generation: 2, package: fixtureSpec("exits-at-once").package };
  first.reconciler.apply([spec]);
  const { containerId } = await first.ready(spec);
  first.reconciler.apply([bad]);
  const failed = await first.until(bad, ({ gaveUp }) => gaveUp);
  assert.equal(failed.servingGeneration, 1);
  assert.equal(failed.layers.container.state, "failed");
  assert.match(
    failed.layers.container.detail,
    /exited with code 3.*Generation 1 goes on serving/,
  );
  assert.deepEqual(await argumentsOf(first, spec), ["one"]);
  assert.deepEqual((await containersOf(toolbox)).map(({ Id }) => Id), [containerId]);

  // A DTMA that starts in the middle of it finds the older by its label alone.
  await first.reconciler.close();
  const second = await Dtma.start(toolbox, images);
  try {
    second.reconciler.apply([bad]);
    await second.until(bad, ({ gaveUp, servingGeneration }) => gaveUp && servingGeneration === 1);
    assert.deepEqual(await argumentsOf(second, spec), ["one"]);

    // What the app does then: the older spec again, as the next generation. Nothing is started.
    const back = { ...spec, generation: 3 };
    second.reconciler.apply([back]);
    const again = await second.ready(back);
    assert.equal(again.containerId, containerId);
    assert.equal(again.servingGeneration, 3);
    assert.equal(again.gaveUp, false);
    assert.deepEqual((await containersOf(toolbox)).map(({ Id }) => Id), [containerId]);
  } finally {
    await second.reconciler.close();
  }
});

engineTest("A trouble of the host's own neither gives a change up nor loops", async (toolbox) => {
  const { docker } = toolbox;
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  const create = docker.createContainer.bind(docker);
  let refusals = 0;
  const fillDisk = (times: number) => {
    refusals = times;
    docker.createContainer = (...args) =>
      refusals-- > 0
        ? Promise.reject(new DockerError(500, "mkdir /var/lib/docker/x: no space left on device"))
        : create(...args);
  };
  try {
    const spec = fixtureSpec("echo", { arguments: ["one"] });
    fillDisk(1);
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    const changed = { ...spec, generation: 2, arguments: ["two"] };
    fillDisk(3);
    dtma.reconciler.apply([changed]);
    const failed = await dtma.until(changed, ({ layers }) => layers.container.state === "failed");
    assert.match(failed.layers.container.detail, /no space left.*Generation 1 goes on serving/);
    assert.match(failed.layers.container.nextStep!, /Free space/);
    assert.deepEqual(await argumentsOf(dtma, spec), ["one"]);
    await dtma.ready(changed);
    assert.deepEqual(await argumentsOf(dtma, spec), ["two"]);
    assert.ok(dtma.history.every(({ gaveUp }) => !gaveUp));
    assert.ok(dtma.history.every(({ restarts }) => restarts === 0));
  } finally {
    await dtma.reconciler.close();
  }
});

engineTest("An older server that dies after a failed change is not left dead", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  try {
    const spec = fixtureSpec("echo");
    const bad = { ...spec, generation: 2, package: fixtureSpec("exits-at-once").package };
    dtma.reconciler.apply([spec]);
    const { containerId } = await dtma.ready(spec);
    dtma.reconciler.apply([bad]);
    await dtma.until(bad, ({ gaveUp }) => gaveUp);
    await toolbox.docker.killContainer(containerId!);
    const looping = await dtma.until(
      bad,
      ({ layers }) => layers.container.detail.startsWith("crash_looping"),
    );
    assert.equal(looping.servingGeneration, null);
    assert.equal(looping.gaveUp, true);
  } finally {
    await dtma.reconciler.close();
  }
});

engineTest("A restart that is asked for makes a new container", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  try {
    const spec = fixtureSpec("echo");
    dtma.reconciler.apply([spec]);
    const { containerId } = await dtma.ready(spec);
    const restarted = { ...spec, generation: 2, restart: 1 };
    dtma.reconciler.apply([restarted]);
    assert.notEqual((await dtma.ready(restarted)).containerId, containerId);
  } finally {
    await dtma.reconciler.close();
  }
});

engineTest(
  "A container of the same generation that is made otherwise is replaced",
  async (toolbox) => {
    const images = new FixtureImages(toolbox);
    const first = await Dtma.start(toolbox, images);
    const spec = fixtureSpec("echo");
    first.reconciler.apply([spec]);
    const { containerId } = await first.ready(spec);
    await first.reconciler.close();
    // As after an update of DTMA whose policy is another one.
    await Deno.remove(`${toolbox.dataDir}/spec.key`);
    const second = await Dtma.start(toolbox, images);
    try {
      second.reconciler.apply([spec]);
      const up = await second.ready(spec);
      assert.notEqual(up.containerId, containerId);
      assert.equal((await containersOf(toolbox)).length, 1);
    } finally {
      await second.reconciler.close();
    }
  },
);

engineTest(
  "A volume outlives containers, and goes only when that is asked for",
  async (toolbox) => {
    const { docker } = toolbox;
    const images = new FixtureImages(toolbox);
    const dtma = await Dtma.start(toolbox, images);
    try {
      const spec = fixtureSpec("keeps", {
        volumes: [{ name: "memory", path: "/data/memory" }],
        environment: { KEEP_IN: "/data/memory" },
      });
      const keep = (text: string) => dtma.call(spec.serverId, "keep", { text });
      dtma.reconciler.apply([spec]);
      await dtma.ready(spec);
      assert.equal(await keep("one"), "nothing");
      // Never two at once that write it: the older ends first.
      const restarted = { ...spec, generation: 2, restart: 1 };
      dtma.reconciler.apply([restarted]);
      await dtma.ready(restarted);
      assert.equal(await keep("two"), "one");
      const volumes = () => docker.listVolumes([`${Label.toolbox}=${toolbox.id}`]);
      assert.deepEqual((await volumes()).map(({ Name }) => Name), [
        `mooring-${spec.serverId}-memory`,
      ]);
      const sizes = await docker.volumeSizes();
      assert.ok(sizes.get(`mooring-${spec.serverId}-memory`)! > 0);

      dtma.reconciler.apply([]);
      await eventually(() => dtma.removed.includes(spec.serverId));
      assert.equal((await volumes()).length, 1);
      const back = { ...spec, generation: 3 };
      dtma.reconciler.apply([back]);
      await dtma.ready(back);
      assert.equal(await keep("three"), "two");
      dtma.removed.length = 0;
      dtma.reconciler.apply([], [{ serverId: spec.serverId, deleteVolumes: true }]);
      await eventually(() => dtma.removed.includes(spec.serverId));
      assert.deepEqual(await volumes(), []);
      // Its report may have been lost: what is gone is told again.
      dtma.removed.length = 0;
      dtma.reconciler.apply([], [{ serverId: spec.serverId, deleteVolumes: false }]);
      await eventually(() => dtma.removed.includes(spec.serverId));
    } finally {
      await dtma.reconciler.close();
    }
  },
);

engineTest(
  "An idle server sleeps, keeps its tools, and starts at the next call",
  async (toolbox) => {
    const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
    try {
      const spec = fixtureSpec("echo", { idleStopS: 5 });
      dtma.reconciler.apply([spec]);
      const { containerId } = await dtma.ready(spec);
      assert.equal(await dtma.call(spec.serverId, "echo", { text: "a" }), "a");
      const asleep = await dtma.until(spec, ({ layers }) => layers.container.state === "idle");
      assert.equal(asleep.layers.tools.state, "ready");
      assert.equal(asleep.tools!.length, 2);
      assert.deepEqual(await containersOf(toolbox), []);
      // Several at once wake it once, and all are answered.
      const answers = await Promise.all(
        ["b", "c", "d"].map((text) => dtma.call(spec.serverId, "echo", { text })),
      );
      assert.deepEqual(answers, ["b", "c", "d"]);
      const up = await dtma.ready(spec);
      assert.notEqual(up.containerId, containerId);
      assert.equal((await containersOf(toolbox)).length, 1);
      assert.equal(up.restarts, 0);
      // It sleeps again, and a stop of a sleeping server is a stop.
      await sleep(5500);
      await dtma.until(spec, ({ layers }) => layers.container.state === "idle");
      const stopped = { ...spec, running: false };
      dtma.reconciler.apply([stopped]);
      await dtma.until(stopped, ({ layers }) => layers.container.state === "stopped");
      await assert.rejects(dtma.call(spec.serverId, "echo", { text: "e" }), /stopped/);
      assert.deepEqual((await leftovers(toolbox.docker, toolbox.id)).containers, []);
    } finally {
      await dtma.reconciler.close();
    }
  },
);

engineTest("Each agent gets an instance of its own", async (toolbox) => {
  const images = new FixtureImages(toolbox);
  const first = await Dtma.start(toolbox, images);
  const spec = fixtureSpec("keeps", { instances: "agent" });
  first.reconciler.apply([spec]);
  await first.ready(spec);
  const [ann, bob] = [crypto.randomUUID(), crypto.randomUUID()];
  const keep = (dtma: Dtma, text: string, agent: string) =>
    dtma.call(spec.serverId, "keep", { text }, agent);
  assert.equal(await keep(first, "ann's", ann), "nothing");
  assert.equal(await keep(first, "bob's", bob), "nothing");
  assert.equal(await keep(first, "ann's next", ann), "ann's");
  const seen = await first.until(
    spec,
    ({ instances }) => instances.filter(({ state }) => state === "ready").length === 2,
  );
  assert.deepEqual(seen.instances.map(({ instance }) => instance).sort(), [ann, bob].sort());
  assert.equal((await containersOf(toolbox)).length, 3);
  await first.reconciler.close();

  const second = await Dtma.start(toolbox, images);
  try {
    // From here on all sleep by themselves; a changed server's instances end with the change.
    const sleeps = { ...spec, generation: 2, idleStopS: 10 };
    second.reconciler.apply([sleeps]);
    await second.ready(sleeps);
    assert.equal(await keep(second, "bob's next", bob), "bob's", "the same container goes on");
    await eventually(async () => (await containersOf(toolbox)).length === 0);
    assert.equal(await keep(second, "new", ann).catch((error) => error.message), "nothing");
    const changed = { ...spec, generation: 3, restart: 1 };
    second.reconciler.apply([changed]);
    await second.ready(changed);
    await eventually(async () => (await containersOf(toolbox)).length === 1);
  } finally {
    await second.reconciler.close();
  }
});

engineTest("A change ends agents' instances that are being started", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  try {
    let spec = fixtureSpec("keeps", { instances: "agent" });
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    // At different points of a start: each is either not told of any more or the changed server's.
    for (const afterMs of [50, 250, 450]) {
      const agent = crypto.randomUUID();
      const called = dtma.call(spec.serverId, "keep", { text: "x" }, agent).catch(() => {});
      await sleep(afterMs);
      spec = { ...spec, generation: spec.generation + 1, restart: spec.restart + 1 };
      dtma.reconciler.apply([spec]);
      await dtma.ready(spec);
      await called;
      await dtma.until(spec, ({ instances }) => instances.every(({ state }) => state === "ready"));
      await eventually(async () => {
        const generations = (await containersOf(toolbox)).map(({ Labels }) =>
          Number(Labels[Label.generation])
        );
        return generations.every((generation) => generation === spec.generation);
      });
    }
  } finally {
    await dtma.reconciler.close();
  }
});

engineTest("A server that hangs is started anew once, then reported", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox), { pingEveryMs: 1000 });
  try {
    const spec = fixtureSpec("keeps");
    dtma.reconciler.apply([spec]);
    const up = await dtma.ready(spec);
    await dtma.until(spec, ({ health }) => health?.latencyMs != null);
    assert.equal(await dtma.call(spec.serverId, "hang"), "hangs");
    const failed = await dtma.until(spec, ({ layers }) => layers.handshake.state === "failed");
    assert.match(failed.layers.handshake.detail, /hangs: it answered no ping/);
    const again = await dtma.until(
      spec,
      ({ layers, restarts }) => restarts === 1 && layers.tools.state === "ready",
    );
    assert.notEqual(again.containerId, up.containerId);
    assert.equal(await dtma.call(spec.serverId, "hang"), "hangs");
    const reported = await dtma.until(spec, ({ gaveUp }) => gaveUp);
    assert.match(reported.layers.handshake.detail, /hung again/);
    await eventually(async () => (await containersOf(toolbox)).length === 0);
  } finally {
    await dtma.reconciler.close();
  }
});

engineTest(
  "A server that hangs is started anew though it is asked without end",
  async (toolbox) => {
    const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox), { pingEveryMs: 500 });
    const over = new AbortController();
    try {
      const spec = fixtureSpec("keeps");
      dtma.reconciler.apply([spec]);
      const up = await dtma.ready(spec);
      assert.equal(await dtma.call(spec.serverId, "hang"), "hangs");
      // It goes on for a moment, in which calls are answered.
      const isAnswered = () =>
        dtma.call(spec.serverId, "keep", { text: "w" }, null, AbortSignal.timeout(200))
          .then(() => true, () => false);
      while (await isAnswered());
      // One that nobody gives up, beside callers that do, one after the other.
      const patient = dtma.call(spec.serverId, "keep", { text: "x" }).catch(() => {});
      const impatient = (async () => {
        while (!over.signal.aborted) {
          const signal = AbortSignal.timeout(50);
          await dtma.call(spec.serverId, "keep", { text: "y" }, null, signal).catch(() => {});
          await sleep(10);
        }
      })();
      const failed = await dtma.until(spec, ({ layers }) => layers.handshake.state === "failed");
      assert.match(
        failed.layers.handshake.detail,
        /hangs: callers gave up, and it answered nothing/,
      );
      over.abort();
      await impatient;
      await patient;
      const again = await dtma.until(
        spec,
        ({ containerId, layers }) =>
          containerId !== up.containerId && layers.tools.state === "ready",
      );
      assert.equal(again.restarts, 1);
    } finally {
      over.abort();
      await dtma.reconciler.close();
    }
  },
);

engineTest(
  "A spec over the toolbox's ceiling is refused by the toolbox itself",
  async (toolbox) => {
    const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox), {
      ceiling: {
        maxMemoryMiB: 256,
        volumes: false,
        network: ["*.example.com:443"],
        registries: ["npm"],
        installScripts: false,
      },
    });
    try {
      const refused: [Partial<ServerSpec>, RegExp][] = [
        [{ memoryMiB: 257 }, /257 MiB of memory are over its limit of 256 MiB/],
        [{ volumes: [{ name: "data", path: "/data" }] }, /allows no volumes/],
        [{ network: { hosts: ["api.example.org:443"] } }, /no server reach api\.example\.org:443/],
        [{ network: { hosts: ["api.example.com:22"] } }, /no server reach api\.example\.com:22/],
        [
          { package: { registry: "pypi", name: "echo", version: "1.0", installScripts: false } },
          /no packages from pypi/,
        ],
        [
          { package: { registry: "npm", name: "echo", version: "1.0.0", installScripts: true } },
          /no package run scripts/,
        ],
      ];
      const specs = refused.map(([change]) => fixtureSpec("echo", { memoryMiB: 256, ...change }));
      dtma.reconciler.apply(specs);
      for (const [index, [, reason]] of refused.entries()) {
        const seen = await dtma.until(specs[index], ({ gaveUp }) => gaveUp);
        assert.match(seen.layers.container.detail, reason);
      }
      assert.deepEqual(await leftovers(toolbox.docker, toolbox.id), {
        containers: [],
        networks: [],
        images: [],
      });
    } finally {
      await dtma.reconciler.close();
    }
  },
);

engineTest(
  "A server's hosts change as it runs, and what it is refused is reported",
  async (toolbox) => {
    const images = new FixtureImages(toolbox);
    const dtma = await Dtma.start(toolbox, images);
    try {
      const spec = fixtureSpec("reaches", { network: { hosts: ["allowed.example:443"] } });
      dtma.reconciler.apply([spec]);
      const { containerId } = await dtma.ready(spec);
      const lookUp = (host: string) => dtma.call(spec.serverId, "look_up", { host });
      assert.match(await lookUp("allowed.example"), /^10\.213\./, "the proxy's own address");
      assert.match(await lookUp("wanted.example"), /ENOTFOUND|EREFUSED|EAI_AGAIN|ESERVFAIL/);
      await eventually(() => dtma.denials.some(({ host }) => host === "wanted.example"));
      assert.equal(dtma.denials[0].serverId, spec.serverId);
      const allowed = {
        ...spec,
        generation: 2,
        network: { hosts: ["allowed.example:443", "wanted.example:443"] },
      };
      dtma.reconciler.apply([allowed]);
      assert.equal((await dtma.ready(allowed)).containerId, containerId, "it was not restarted");
      assert.match(await lookUp("wanted.example"), /^10\.213\./);

      // A DTMA that comes after takes the proxy over, and with the last such server it goes.
      await dtma.reconciler.close();
      const second = await Dtma.start(toolbox, images);
      try {
        second.reconciler.apply([allowed]);
        assert.equal((await second.ready(allowed)).containerId, containerId);
        assert.match(
          await second.call(spec.serverId, "look_up", { host: "wanted.example" }),
          /^10/,
        );
        second.reconciler.apply([]);
        await eventually(() => second.removed.includes(spec.serverId));
        const none = { containers: [], networks: [], images: [] };
        await eventually(async () =>
          JSON.stringify(await leftovers(toolbox.docker, toolbox.id)) === JSON.stringify(none)
        );
      } finally {
        await second.reconciler.close();
      }
    } finally {
      await dtma.reconciler.close();
    }
  },
);
