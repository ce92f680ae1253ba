import assert from "node:assert/strict";
import { Docker } from "../../dtma/docker.ts";
import { type BuiltImage, Images } from "../../dtma/image.ts";
import { containerName, Label } from "../../dtma/policy.ts";
import {
  canonicalHash,
  type LayerState,
  type Observation,
  type ToolDefinition,
} from "../../dtma/protocol.ts";
import { Dtma, eventually, sleep } from "./observed.ts";
import { BASE, engineTest, FixtureImages, fixtureSpec, leftovers, type Toolbox } from "./engine.ts";

/** A test with a DTMA on fixture servers, which is closed at its end. */
function reconcilerTest(
  name: string,
  run: (dtma: Dtma, toolbox: Toolbox, images: FixtureImages) => Promise<void>,
): void {
  engineTest(`Reconciler ${name}`, async (toolbox) => {
    const images = new FixtureImages(toolbox);
    const dtma = await Dtma.start(toolbox, images);
    try {
      await run(dtma, toolbox, images);
    } finally {
      await dtma.reconciler.close();
    }
  });
}

const states = ({ layers }: Observation) =>
  [layers.image, layers.container, layers.handshake, layers.tools].map(({ state }) => state);

/** Of servers: the toolbox's egress proxy is beside them. */
const containersOf = async ({ docker, id }: Toolbox) =>
  await docker.listContainers([`${Label.toolbox}=${id}`, Label.server]);

reconcilerTest("deploys, stops, starts, changes and removes a server", async (dtma, toolbox) => {
  const spec = fixtureSpec("echo", {
    arguments: ["one"],
    secrets: { SAY: "a-secret-value" },
    network: { hosts: ["api.example.com:443"] },
  });
  dtma.reconciler.apply([spec]);
  const up = await dtma.ready(spec);
  assert.deepEqual(states(up), ["ready", "ready", "ready", "ready"]);
  assert.deepEqual(up.tools!.map((tool) => tool.name), ["echo", "environment"]);
  assert.match(up.imageDigest!, /^sha256:/);
  assert.equal(up.serverInfo!.name, "echo");
  assert.equal(await dtma.call(spec.serverId, "echo", { text: "hello" }), "hello");
  const environment = JSON.parse(await dtma.call(spec.serverId, "environment"));
  assert.deepEqual(environment.arguments, ["one"]);
  assert.equal(environment.uid, 65532);
  const reachable = await dtma.reconciler.reach(spec.serverId);
  assert.ok("toolHashes" in reachable && reachable.toolHashes.get("echo")?.length === 64);
  const { networks } = await leftovers(toolbox.docker, toolbox.id);
  assert.ok(networks.includes(`mooring-${spec.serverId}-1`), String(networks));
  const logged = await dtma.until(spec, ({ logTail }) => logTail.includes("••••"));
  assert.ok(!JSON.stringify([dtma.history, dtma.events, logged]).includes("a-secret-value"));

  const stopped = { ...spec, generation: 2, running: false };
  dtma.reconciler.apply([stopped]);
  const down = await dtma.until(stopped, ({ layers }) => layers.tools.state === "stopped");
  assert.deepEqual(states(down), ["stopped", "stopped", "stopped", "stopped"]);
  assert.deepEqual(await dtma.reconciler.reach(spec.serverId), {
    unavailable: "The server is stopped",
  });
  const left = await leftovers(toolbox.docker, toolbox.id);
  assert.deepEqual([left.containers, left.networks], [[], []]);
  assert.equal(left.images.length, 1);

  const changed = { ...spec, generation: 3, arguments: ["two", "$(id)"] };
  dtma.reconciler.apply([changed]);
  await dtma.ready(changed);
  const now = JSON.parse(await dtma.call(spec.serverId, "environment"));
  assert.deepEqual(now.arguments, ["two", "$(id)"]);
  assert.equal((await containersOf(toolbox)).length, 1);

  dtma.reconciler.apply([]);
  await eventually(() => dtma.removed.includes(spec.serverId));
  assert.deepEqual(await leftovers(toolbox.docker, toolbox.id), {
    containers: [],
    networks: [],
    images: [],
  });
  assert.ok("unavailable" in await dtma.reconciler.reach(spec.serverId));
});

reconcilerTest(
  "keeps an image that another server uses, removes it with the last",
  async (dtma, toolbox) => {
    const [one, two] = [fixtureSpec("echo"), fixtureSpec("echo")];
    dtma.reconciler.apply([one, two]);
    await Promise.all([dtma.ready(one), dtma.ready(two)]);
    dtma.reconciler.apply([two]);
    await eventually(() => dtma.removed.includes(one.serverId));
    assert.equal((await leftovers(toolbox.docker, toolbox.id)).images.length, 1);
    assert.equal(await dtma.call(two.serverId, "echo", { text: "still" }), "still");
    dtma.reconciler.apply([]);
    await eventually(() => dtma.removed.includes(two.serverId));
    assert.equal((await leftovers(toolbox.docker, toolbox.id)).images.length, 0);
  },
);

engineTest(
  "Reconciler adopts a running server after a restart, and does not restart it",
  async (toolbox) => {
    const images = new FixtureImages(toolbox);
    const specs = [
      fixtureSpec("echo"),
      fixtureSpec("exits-on-probe"),
      fixtureSpec("echo", { running: false }),
    ];
    const first = await Dtma.start(toolbox, images);
    first.reconciler.apply(specs);
    const before = await Promise.all(specs.slice(0, 2).map((spec) => first.ready(spec)));
    const started = await Promise.all(
      before.map(async ({ containerId }) =>
        (await toolbox.docker.inspectContainer(containerId!)).State.StartedAt
      ),
    );
    await first.reconciler.close();

    const second = await Dtma.start(toolbox, images);
    try {
      second.reconciler.apply(specs);
      for (const [index, spec] of specs.slice(0, 2).entries()) {
        const after = await second.ready(spec);
        assert.equal(after.containerId, before[index].containerId);
        assert.equal(after.imageDigest, before[index].imageDigest);
        assert.equal(after.restarts, 0);
        const { State } = await toolbox.docker.inspectContainer(after.containerId!);
        assert.equal(State.StartedAt, started[index]);
      }
      assert.equal(
        await second.call(specs[0].serverId, "echo", { text: "still here" }),
        "still here",
      );
      assert.equal(await second.call(specs[1].serverId, "fine"), "fine");
    } finally {
      await second.reconciler.close();
    }
  },
);

engineTest(
  "Reconciler starts what exits on the probe though it cannot keep that",
  async (toolbox) => {
    const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
    try {
      await Deno.mkdir(`${toolbox.dataDir}/unprobed_images.txt`);
      const spec = fixtureSpec("exits-on-probe");
      dtma.reconciler.apply([spec]);
      assert.equal((await dtma.ready(spec)).restarts, 0);
    } finally {
      await dtma.reconciler.close();
    }
  },
);

engineTest("Reconciler leaves a container that somebody renamed its way out", async (toolbox) => {
  const { docker, id } = toolbox;
  const images = new FixtureImages(toolbox);
  const spec = fixtureSpec("echo", { network: { hosts: ["example.com:443"] } });
  const first = await Dtma.start(toolbox, images);
  first.reconciler.apply([spec]);
  const { containerId } = await first.ready(spec);
  await first.reconciler.close();
  const before = (await leftovers(docker, id)).networks.sort();
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path: docker.socketPath } });
  const rename = `http://localhost/containers/${containerId}/rename?name=mooring-test-${id}`;
  assert.equal((await fetch(rename, { method: "POST", client })).status, 204);
  const { Config: { Labels } } = await docker.inspectContainer(containerId!);
  const copy = await docker.createContainer(`mooring-test-${id}-copy`, {
    ...{ Image: BASE, Labels, Entrypoint: ["never-started"] },
  });

  const second = await Dtma.start(toolbox, images);
  try {
    second.reconciler.apply([spec]);
    assert.equal((await second.ready(spec)).containerId, containerId);
    // The second look at what is there comes after the first has ended.
    for (let looks = 0; looks < 2; looks++) second.reconciler.apply([spec]);
    await sleep(1000);
    assert.deepEqual((await leftovers(docker, id)).networks.sort(), before);
    const proxy = await docker.inspectContainer(`mooring-egress-${id}`);
    await assert.rejects(docker.inspectContainer(copy), { status: 404 });
    const layers = second.history.flatMap((seen) => Object.values(seen.layers));
    assert.deepEqual(layers.filter(({ state }) => state === "failed"), []);
    assert.ok(containerName(spec) in proxy.NetworkSettings.Networks);
    second.reconciler.apply([]);
    await eventually(() => second.removed.includes(spec.serverId));
    assert.deepEqual(await leftovers(docker, id), { containers: [], networks: [], images: [] });
  } finally {
    await second.reconciler.close();
  }
});

engineTest("Reconciler removes orphans and duplicates at its start", async (toolbox) => {
  const images = new FixtureImages(toolbox);
  const [kept, orphan] = [
    fixtureSpec("echo"),
    fixtureSpec("echo", { network: { hosts: ["*:443"] } }),
  ];
  const first = await Dtma.start(toolbox, images);
  first.reconciler.apply([kept, orphan]);
  const [{ imageDigest }] = await Promise.all([first.ready(kept), first.ready(orphan)]);
  await first.reconciler.close();
  await toolbox.docker.createContainer(`mooring-duplicate-${kept.serverId}`, {
    Image: imageDigest,
    Entrypoint: ["node"],
    Labels: { [Label.toolbox]: toolbox.id, [Label.server]: kept.serverId, [Label.generation]: "1" },
  });
  const second = await Dtma.start(toolbox, images);
  try {
    second.reconciler.apply([kept]);
    await second.ready(kept);
    await eventually(() => second.removed.includes(orphan.serverId));
    assert.equal((await containersOf(toolbox)).length, 1);
    assert.deepEqual((await leftovers(toolbox.docker, toolbox.id)).networks, []);
  } finally {
    await second.reconciler.close();
  }
});

reconcilerTest("sees at once that a server died, and starts it again", async (dtma) => {
  const spec = fixtureSpec("dies-mid-call");
  dtma.reconciler.apply([spec]);
  const { containerId } = await dtma.ready(spec);
  await assert.rejects(dtma.call(spec.serverId, "dies_mid_call"));
  assert.equal(dtma.seen(spec.serverId)!.restarts, 0, "the caller hears at once");
  const down = await dtma.until(spec, ({ layers }) => layers.container.state === "failed");
  assert.match(down.layers.container.detail, /exited with code 7.*started again in \d+ s/);
  assert.ok(down.layers.container.nextStep);
  const again = await dtma.until(
    spec,
    (seen) => seen.restarts === 1 && seen.layers.tools.state === "ready",
  );
  assert.notEqual(again.containerId, containerId);
  assert.equal(await dtma.call(spec.serverId, "fine"), "fine");
});

reconcilerTest("makes a container again that someone removed", async (dtma, toolbox) => {
  const spec = fixtureSpec("echo");
  dtma.reconciler.apply([spec]);
  const { containerId } = await dtma.ready(spec);
  await toolbox.docker.removeContainer(containerId!);
  await dtma.until(spec, (seen) => seen.restarts === 1 && seen.layers.tools.state === "ready");
});

reconcilerTest("says that memory ran out", async (dtma) => {
  const spec = fixtureSpec("uses-memory");
  dtma.reconciler.apply([spec]);
  await dtma.ready(spec);
  await assert.rejects(dtma.call(spec.serverId, "uses_memory"));
  const down = await dtma.until(spec, ({ layers }) => layers.container.state === "failed");
  assert.match(down.layers.container.detail, /512 MiB of memory/);
});

reconcilerTest("gives up on a crash loop until a new generation", async (dtma, toolbox) => {
  const spec = fixtureSpec("exits-at-once");
  dtma.reconciler.apply([spec]);
  const looping = await dtma.until(
    spec,
    ({ layers }) => layers.container.detail.startsWith("crash_looping"),
  );
  assert.match(looping.layers.container.detail, /5 times in a row.*exited with code 3/);
  assert.equal(looping.layers.container.state, "failed");
  assert.ok(looping.logTail.includes("exits-at-once: no configuration given"));
  await eventually(async () => (await containersOf(toolbox)).length === 0);
  await sleep(3000);
  assert.equal((await containersOf(toolbox)).length, 0);
  const next = { ...spec, generation: 2, package: fixtureSpec("echo").package };
  dtma.reconciler.apply([next]);
  await dtma.ready(next);
});

reconcilerTest("ignores a desired set that is out of date", async (dtma, toolbox) => {
  const spec = fixtureSpec("echo", { generation: 5 });
  dtma.reconciler.apply([spec]);
  const { containerId } = await dtma.ready(spec);
  dtma.reconciler.apply([{ ...spec, generation: 4, arguments: ["old"] }]);
  await sleep(500);
  assert.deepEqual((await containersOf(toolbox)).map((each) => each.Id), [containerId]);
  assert.equal(await dtma.call(spec.serverId, "echo", { text: "5" }), "5");

  // A new DTMA knows of generation 5 by the container's label alone.
  await dtma.reconciler.close();
  const second = await Dtma.start(toolbox, new FixtureImages(toolbox));
  try {
    const old = { ...spec, generation: 4, arguments: ["old"] };
    second.reconciler.apply([old]);
    const refused = await second.until(old, ({ layers }) =>
      layers.image.state === "waiting" &&
      layers.container.state === "failed");
    assert.match(refused.layers.container.detail, /Generation 5/);
    second.reconciler.apply([{ ...old, running: false }]);
    await sleep(500);
    assert.deepEqual((await containersOf(toolbox)).map((each) => each.Id), [containerId]);
  } finally {
    await second.reconciler.close();
  }
});

reconcilerTest(
  "ends in one container, the newest, however often and fast it is told",
  async (dtma, toolbox) => {
    const spec = fixtureSpec("echo");
    for (let generation = 1; generation <= 20; generation++) {
      dtma.reconciler.apply([{ ...spec, generation, arguments: [String(generation)] }]);
      if (generation % 5 === 0) await sleep(150);
    }
    const last = { ...spec, generation: 20, arguments: ["20"] };
    for (let times = 0; times < 100; times++) dtma.reconciler.apply([structuredClone(last)]);
    await dtma.ready(last);
    await sleep(500);
    const containers = await containersOf(toolbox);
    assert.equal(containers.length, 1);
    assert.equal(containers[0].Labels[Label.generation], "20");
    assert.deepEqual(JSON.parse(await dtma.call(spec.serverId, "environment")).arguments, ["20"]);
  },
);

engineTest("Reconcilers that race for one toolbox end in one container", async (toolbox) => {
  const images = new FixtureImages(toolbox);
  const spec = fixtureSpec("echo");
  const both = await Promise.all([Dtma.start(toolbox, images), Dtma.start(toolbox, images)]);
  try {
    for (const dtma of both) dtma.reconciler.apply([spec]);
    await Promise.race(both.map((dtma) => dtma.ready(spec)));
    await eventually(async () => (await containersOf(toolbox)).length === 1);
    await sleep(3000);
    assert.equal((await containersOf(toolbox)).length, 1);
  } finally {
    await Promise.all(both.map((dtma) => dtma.reconciler.close()));
  }
});

reconcilerTest("aborts the build of an older generation", async (dtma, toolbox, images) => {
  const slow = Promise.withResolvers<BuiltImage>();
  let aborted = false;
  const ensure = images.ensure.bind(images);
  images.ensure = (npmPackage, options = {}) => {
    if (!("version" in npmPackage) || npmPackage.version !== "9.9.9") {
      return ensure(npmPackage, options);
    }
    options.signal!.addEventListener("abort", () => {
      aborted = true;
      slow.reject(options.signal!.reason);
    });
    return slow.promise;
  };
  const spec = fixtureSpec("echo");
  const building = { ...spec, package: { ...spec.package, version: "9.9.9" } };
  dtma.reconciler.apply([building]);
  await dtma.until(building, ({ layers }) => layers.image.state === "working");
  const next = { ...spec, generation: 2 };
  dtma.reconciler.apply([next]);
  await dtma.ready(next);
  assert.ok(aborted);
  assert.equal((await containersOf(toolbox)).length, 1);
});

reconcilerTest("tells in an event why a build's digest is another one", async (dtma, _, images) => {
  const ensure = images.ensure.bind(images);
  const note = "Another digest than the build before, because of a test";
  images.ensure = async (wanted, options) => ({ ...await ensure(wanted, options), note });
  const spec = fixtureSpec("echo");
  dtma.reconciler.apply([spec]);
  await dtma.ready(spec);
  const built = dtma.events.find(({ layer, message }) =>
    layer === "image" && /built/.test(message)
  );
  assert.match(built!.message, new RegExp(`^Image built in [0-9.]+ s\\. ${note}$`));
});

reconcilerTest("lists again when the server's tools change", async (dtma) => {
  const spec = fixtureSpec("changes-tools");
  dtma.reconciler.apply([spec]);
  await dtma.ready(spec);
  const hash = async () => {
    const reachable = await dtma.reconciler.reach(spec.serverId);
    return "toolHashes" in reachable ? reachable.toolHashes.get("changing") : undefined;
  };
  const before = await hash();
  await dtma.call(spec.serverId, "changes_tools");
  const changed = await dtma.until(
    spec,
    ({ tools }) => (tools as ToolDefinition[])[1].description === "Revision 2",
  );
  assert.equal(changed.layers.tools.state, "ready");
  await eventually(async () => await hash() !== before);
});

engineTest("Reconciler finds by itself what a server changed and did not tell", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox), { listEveryMs: 200 });
  try {
    const spec = fixtureSpec("changes-tools");
    dtma.reconciler.apply([spec]);
    const before = await dtma.ready(spec);
    // It cannot be listed a few times, which is no reason to start it anew.
    await dtma.call(spec.serverId, "changes_tools", { silently: true, failures: 3 });
    const { tools, restarts, containerId } = await dtma.until(
      spec,
      ({ tools }) => (tools as ToolDefinition[])[1].description === "Revision 2",
    );
    assert.deepEqual([restarts, containerId], [0, before.containerId]);
    await eventually(async () => {
      const reachable = await dtma.reconciler.reach(spec.serverId);
      return "toolHashes" in reachable &&
        reachable.toolHashes.get("changing") === await canonicalHash(tools![1]);
    });
    // What is as it was is not told again.
    const listings = () =>
      dtma.history.filter(({ layers }) => layers.tools.state === "working").length;
    const told = listings();
    await sleep(2000);
    assert.equal(listings(), told);
  } finally {
    await dtma.reconciler.close();
  }
});

reconcilerTest("lets no call through that was listed before the newest change", async (dtma) => {
  const spec = fixtureSpec("changes-tools");
  dtma.reconciler.apply([spec]);
  await dtma.ready(spec);
  const described = (text: string) =>
    dtma.until(spec, ({ tools }) => (tools as ToolDefinition[])[1].description === text);
  const changing = async () => {
    const reachable = await dtma.reconciler.reach(spec.serverId);
    return "toolHashes" in reachable ? reachable.toolHashes.get("changing") : undefined;
  };
  await dtma.call(spec.serverId, "changes_tools", { again: true });
  const { tools } = await described("Revision 2");
  assert.notEqual(await changing(), await canonicalHash(tools![1]));
  const newest = await described("Revision 3");
  await eventually(async () => await changing() === await canonicalHash(newest.tools![1]));
});

reconcilerTest("serves a server that floods stderr, and keeps a bounded log", async (dtma) => {
  const spec = fixtureSpec("floods-stderr");
  dtma.reconciler.apply([spec]);
  await dtma.ready(spec);
  assert.equal(await dtma.call(spec.serverId, "floods_stderr"), "fine");
  const before = dtma.history.length, beganMs = performance.now();
  await sleep(3000);
  const reports = dtma.history.length - before, seconds = (performance.now() - beganMs) / 1000;
  assert.ok(reports <= seconds + 1, `${reports} reports in ${seconds.toFixed(1)} s`);
  const { logTail } = dtma.seen(spec.serverId)!;
  assert.ok(logTail.length <= 100);
  assert.ok(logTail.every((line) => line.length <= 2000 && !line.includes("\x1b")));
  assert.equal(await dtma.call(spec.serverId, "floods_stderr"), "fine");
});

reconcilerTest("says that a server never answered initialize", async (dtma) => {
  const spec = fixtureSpec("never-initialize");
  dtma.reconciler.apply([spec]);
  const failed = await dtma.until(
    spec,
    ({ layers }) => layers.handshake.state === "failed",
  );
  assert.ok(failed.layers.handshake.nextStep);
  assert.equal(failed.layers.container.state, "ready");
  assert.ok(failed.logTail.includes("never-initialize: listening"));
});

Deno.test("Reconciler says that the engine is away, and goes on when it is back", async (test) => {
  const dataDir = await Deno.makeTempDir();
  const docker = new Docker(`unix://${dataDir}/docker.sock`);
  const dtma = await Dtma.start({ docker, id: crypto.randomUUID(), dataDir });
  try {
    const spec = fixtureSpec("echo");
    dtma.reconciler.apply([spec]);
    const { layers } = await dtma.until(spec, ({ layers }) => layers.image.state === "failed");
    assert.match(layers.image.detail, /There is no Docker socket at/);
    assert.match(layers.image.nextStep!, /Install Docker Engine/);
    const waiting: LayerState["state"] = "waiting";
    assert.equal(layers.container.state, waiting);
    await test.step("a removal waits for the engine too", async () => {
      dtma.reconciler.apply([]);
      await sleep(100);
      assert.deepEqual(dtma.removed, []);
    });
  } finally {
    await dtma.reconciler.close();
    docker.close();
    await Deno.remove(dataDir, { recursive: true });
  }
});

engineTest("Reconciler runs a real server from npm, and leaves nothing behind", async (toolbox) => {
  const images = new Images({
    docker: toolbox.docker,
    toolboxId: toolbox.id,
    dataDir: toolbox.dataDir,
    bases: { node: BASE },
  });
  const dtma = await Dtma.start(toolbox, images);
  try {
    const spec = fixtureSpec("everything", {
      package: {
        registry: "npm",
        name: "@modelcontextprotocol/server-everything",
        version: "2026.8.31",
        installScripts: false,
      },
    });
    dtma.reconciler.apply([spec]);
    const up = await dtma.ready(spec);
    assert.ok(up.tools!.some((tool) => tool.name === "echo"));
    assert.ok(dtma.history.some(({ layers }) => (layers.image.progress ?? 0) > 0));
    assert.match(await dtma.call(spec.serverId, "echo", { message: "hi" }), /hi/);
    const startedMs = Date.now();
    const next = { ...spec, generation: 2, environment: { CHANGED: "1" } };
    dtma.reconciler.apply([next]);
    await dtma.ready(next);
    console.log(`image present, deploy to tools listed: ${Date.now() - startedMs} ms`);
    dtma.reconciler.apply([]);
    await eventually(() => dtma.removed.includes(spec.serverId));
    assert.deepEqual(await leftovers(toolbox.docker, toolbox.id), {
      containers: [],
      networks: [],
      images: [],
    });
  } finally {
    await dtma.reconciler.close();
  }
});
