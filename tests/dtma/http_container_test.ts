/** Servers that speak HTTP in their container, on the real engine: reached by the adapter beside them. */
import assert from "node:assert/strict";
import { adapterName, Label } from "../../dtma/policy.ts";
import type { HttpTransport, ServerSpec } from "../../dtma/protocol.ts";
import { engineTest, FixtureImages, fixtureSpec, leftovers, type Toolbox } from "./engine.ts";
import { Dtma, eventually } from "./observed.ts";

const HTTP: HttpTransport = { type: "streamable-http", port: 3000, path: "/deep/mcp" };

function httpSpec(changes: Partial<ServerSpec> = {}): ServerSpec {
  const { environment, ...rest } = changes;
  return fixtureSpec("http", {
    transport: HTTP,
    environment: { PORT: "3000", ...environment },
    ...rest,
  });
}

/** A test on the fixture, with a DTMA that is closed at its end. */
function httpTest(
  name: string,
  run: (dtma: Dtma, toolbox: Toolbox, images: FixtureImages) => Promise<void>,
): void {
  engineTest(`A server over HTTP ${name}`, async (toolbox) => {
    const images = new FixtureImages(toolbox);
    const dtma = await Dtma.start(toolbox, images);
    try {
      await run(dtma, toolbox, images);
    } finally {
      await dtma.reconciler.close();
    }
  });
}

/** What runs: servers by their names, and adapters by those of the servers that they are beside. */
async function running({ docker, id }: Toolbox) {
  const all = await docker.listContainers([`${Label.toolbox}=${id}`, Label.server]);
  const up = all.filter(({ State }) => State === "running");
  const beside = ({ Labels }: typeof up[number]) => Labels[Label.adapter];
  return {
    servers: up.filter((each) => !beside(each)).map(({ Names }) => Names[0].slice(1)).sort(),
    adapters: up.flatMap((each) => beside(each) ?? []).sort(),
    count: all.length,
  };
}

const environmentOf = async (dtma: Dtma, { serverId }: ServerSpec, instance?: string) =>
  JSON.parse(await dtma.call(serverId, "environment", {}, instance));

httpTest("is called, logged and measured, and leaves nothing", async (dtma, toolbox) => {
  const spec = httpSpec({ secrets: { TOKEN: "a-secret-value", SAY: "a-secret-value" } });
  dtma.reconciler.apply([spec]);
  const up = await dtma.ready(spec);
  assert.equal(up.serverInfo!.name, "http");
  assert.equal(up.sandbox, null);
  const { containerId } = up;
  const name = `mooring-${spec.serverId}-1`;
  assert.deepEqual(await running(toolbox), { servers: [name], adapters: [name], count: 2 });
  const { pid: _, ...environment } = await environmentOf(dtma, spec);
  assert.deepEqual(environment, {
    uid: 65532,
    secret: "a-secret-value",
    sessions: 1,
    interfaces: ["lo"],
  });
  // Both streams are its log, without its secrets.
  const { logTail } = await dtma.until(
    spec,
    ({ logTail }) => logTail.some((line) => line.startsWith("said to stderr")),
  );
  assert.ok(logTail.includes("said to stdout"), String(logTail));
  assert.ok(logTail.includes("said to stderr ••••"), String(logTail));
  // Of the two what is shown and measured is the server.
  const { HostConfig, Config } = await toolbox.docker.inspectContainer(containerId!);
  assert.equal(HostConfig.NetworkMode, "none");
  assert.ok(!Config.Labels[Label.adapter]);
  assert.deepEqual(dtma.reconciler.running(), [
    { serverId: spec.serverId, instance: null, containerId },
  ]);
  dtma.reconciler.apply([]);
  await eventually(() => dtma.removed.includes(spec.serverId));
  assert.deepEqual(await leftovers(toolbox.docker, toolbox.id), {
    containers: [],
    networks: [],
    images: [],
  });
});

httpTest("is reached wherever it binds, and waited for while it starts", async (dtma) => {
  const binds = ["127.0.0.1", "0.0.0.0", "localhost"].map((HOST) =>
    httpSpec({ environment: { HOST, LATE_MS: "4000" } })
  );
  dtma.reconciler.apply(binds);
  await Promise.all(binds.map((spec) => dtma.ready(spec)));
  for (const spec of binds) assert.equal((await environmentOf(dtma, spec)).sessions, 1);
  for (const spec of binds) assert.equal(dtma.seen(spec.serverId)!.restarts, 0);
});

httpTest("that never listens is said to run and not to answer", async (dtma, toolbox) => {
  const spec = httpSpec({ environment: { PORT: "" } });
  dtma.reconciler.apply([spec]);
  const { layers } = await dtma.until(
    spec,
    ({ layers }) => layers.handshake.state === "failed",
  );
  const { detail, nextStep } = layers.handshake;
  assert.match(detail, /^The container runs, but nothing answers on port 3000\. It is started/);
  assert.match(nextStep!, /check the port that its entry declares/);
  dtma.reconciler.apply([{ ...spec, generation: 2, running: false }]);
  await eventually(async () => (await running(toolbox)).count === 0);
});

httpTest("at another path, or that ends at its start, says so", async (dtma, toolbox) => {
  const lost = httpSpec({ transport: { ...HTTP, path: "/mcp" } });
  const ends = fixtureSpec("exits-at-once", { transport: HTTP });
  dtma.reconciler.apply([lost, ends]);
  const at = await dtma.until(lost, ({ layers }) => layers.handshake.state === "failed");
  assert.match(at.layers.handshake.detail, /The server answers 404 at port 3000 and path \/mcp/);
  const gone = await dtma.until(
    ends,
    ({ layers }) => layers.container.state === "failed",
  );
  assert.match(gone.layers.container.detail, /The server exited with code/);
  dtma.reconciler.apply([]);
  await eventually(async () => (await running(toolbox)).count === 0);
});

httpTest("that ends is started again with its adapter", async (dtma, toolbox) => {
  const spec = httpSpec();
  dtma.reconciler.apply([spec]);
  const before = await dtma.ready(spec);
  await assert.rejects(dtma.call(spec.serverId, "die"));
  const again = await dtma.until(
    spec,
    ({ restarts, layers }) => restarts === 1 && layers.tools.state === "ready",
  );
  assert.notEqual(again.containerId, before.containerId);
  assert.ok(dtma.history.some(({ layers }) => /exited with code 7/.test(layers.container.detail)));
  await toolbox.docker.killContainer(again.containerId!);
  const third = await dtma.until(
    spec,
    ({ restarts, layers }) => restarts === 2 && layers.tools.state === "ready",
  );
  assert.equal((await environmentOf(dtma, spec)).sessions, 1);
  assert.equal((await running(toolbox)).count, 2);
  assert.notEqual(third.containerId, again.containerId);
});

httpTest("keeps running when its adapter ends, and gets another", async (dtma, toolbox) => {
  const spec = httpSpec();
  dtma.reconciler.apply([spec]);
  const before = await dtma.ready(spec);
  const { pid } = await environmentOf(dtma, spec);
  const adapter = adapterName(`mooring-${spec.serverId}-1`);
  const answers = async () => {
    await eventually(async () => (await environmentOf(dtma, spec).catch(() => ({}))).pid === pid);
    assert.equal((await running(toolbox)).count, 2);
    assert.equal(dtma.seen(spec.serverId)!.containerId, before.containerId);
    assert.equal(dtma.seen(spec.serverId)!.restarts, 0);
  };
  const first = await toolbox.docker.inspectContainer(adapter);
  await toolbox.docker.killContainer(adapter);
  await answers();
  await toolbox.docker.removeContainer(adapter);
  await answers();
  assert.notEqual((await toolbox.docker.inspectContainer(adapter)).Id, first.Id);
  assert.ok(dtma.events.some(({ message }) => message.includes("another adapter")));
});

httpTest("that hangs or closes its port is started anew", async (_, toolbox, images) => {
  const dtma = await Dtma.start(toolbox, images, { pingEveryMs: 1000 });
  try {
    for (const how of ["close", "hang"]) {
      const spec = httpSpec();
      dtma.reconciler.apply([spec]);
      const before = await dtma.ready(spec);
      await dtma.call(spec.serverId, how).catch(() => {});
      const after = await dtma.until(
        spec,
        ({ containerId, layers }) =>
          layers.tools.state === "ready" && containerId !== before.containerId,
      );
      assert.equal(after.restarts, 1, how);
      assert.ok(
        dtma.history.some(({ serverId, layers }) =>
          serverId === spec.serverId && layers.handshake.detail.startsWith("The server hangs")
        ),
        how,
      );
    }
  } finally {
    await dtma.reconciler.close();
  }
});

httpTest("is taken over by the next DTMA as it runs", async (first, toolbox, images) => {
  const [spec, bare] = [httpSpec(), httpSpec()];
  first.reconciler.apply([spec, bare]);
  const [before] = await Promise.all([first.ready(spec), first.ready(bare)]);
  const [{ pid }, { pid: barePid }] = [
    await environmentOf(first, spec),
    await environmentOf(first, bare),
  ];
  const adapter = adapterName(`mooring-${spec.serverId}-1`);
  const { Id } = await toolbox.docker.inspectContainer(adapter);
  await first.reconciler.close();
  // Of the other one the adapter went away meanwhile.
  await toolbox.docker.removeContainer(adapterName(`mooring-${bare.serverId}-1`));
  const second = await Dtma.start(toolbox, images);
  try {
    second.reconciler.apply([spec, bare]);
    const after = await second.ready(spec);
    await second.ready(bare);
    assert.equal(after.containerId, before.containerId);
    assert.equal(after.restarts, 0);
    // The session of the DTMA before was ended, and not left to the server.
    const { pid: same, sessions } = await environmentOf(second, spec);
    assert.deepEqual([same, sessions], [pid, 1]);
    assert.equal((await toolbox.docker.inspectContainer(adapter)).Id, Id);
    assert.equal((await environmentOf(second, bare)).pid, barePid);
  } finally {
    await second.reconciler.close();
  }
  // What ended while no DTMA was there is begun anew, and no adapter is left without its server.
  await toolbox.docker.killContainer(before.containerId!);
  const third = await Dtma.start(toolbox, images);
  try {
    third.reconciler.apply([bare]);
    await eventually(() => third.removed.includes(spec.serverId));
    await third.ready(bare);
    assert.equal((await running(toolbox)).count, 2);
    await toolbox.docker.removeContainer(`mooring-${bare.serverId}-1`);
    await eventually(async () => (await running(toolbox)).adapters.length === 1);
    await third.until(bare, ({ restarts }) => restarts === 1);
  } finally {
    await third.reconciler.close();
  }
});

httpTest(
  "changes its transport without a gap, and goes back when that fails",
  async (dtma, box) => {
    const spec = httpSpec({ name: "one" });
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    const moved = {
      ...spec,
      generation: 2,
      environment: { PORT: "3001" },
      transport: { ...HTTP, port: 3001 },
    };
    dtma.reconciler.apply([moved]);
    while (dtma.seen(spec.serverId)?.layers.tools.state !== "ready") {
      await environmentOf(dtma, spec);
    }
    const { servingGeneration } = await dtma.ready(moved);
    assert.equal(servingGeneration, 2);
    await eventually(async () => (await running(box)).count === 2);

    const wrong = { ...moved, generation: 3, transport: { ...HTTP, port: 3001, path: "/no" } };
    dtma.reconciler.apply([wrong]);
    const refused = await dtma.until(wrong, ({ gaveUp }) => gaveUp);
    assert.equal(refused.servingGeneration, 2);
    assert.match(refused.layers.handshake.detail, /answers 404 .* Generation 2 goes on serving/);
    assert.equal((await environmentOf(dtma, spec)).sessions, 1);
    assert.equal((await running(box)).count, 2);
  },
);

httpTest("has instances for each session, and sleeps", async (dtma, toolbox) => {
  const spec = httpSpec({ instances: "session" });
  dtma.reconciler.apply([spec]);
  await dtma.ready(spec);
  const [one, two] = await Promise.all(
    ["one", "two"].map((instance) => environmentOf(dtma, spec, instance)),
  );
  assert.deepEqual([one.sessions, two.sessions], [1, 1]);
  const { servers, adapters } = await running(toolbox);
  assert.equal(servers.length, 3);
  assert.deepEqual(adapters, servers);
  dtma.reconciler.end(spec.serverId, "one");
  await eventually(async () => (await running(toolbox)).count === 4);
  const sleeps = { ...spec, generation: 2, idleStopS: 10 };
  dtma.reconciler.apply([sleeps]);
  await eventually(async () => (await running(toolbox)).count === 0);
  await environmentOf(dtma, spec);
  assert.equal((await running(toolbox)).count, 2);
});

httpTest("that floods its stdout goes on answering", async (dtma) => {
  const spec = httpSpec({ environment: { FLOODS: "1" } });
  dtma.reconciler.apply([spec]);
  await dtma.ready(spec);
  for (let call = 0; call < 20; call++) await environmentOf(dtma, spec);
});
