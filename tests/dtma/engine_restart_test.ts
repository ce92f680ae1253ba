/** What becomes of servers when the Docker Engine goes away and comes back, on one of the test's own. */
import assert from "node:assert/strict";
import { Docker } from "../../dtma/docker.ts";
import { Images } from "../../dtma/image.ts";
import { withNeverStarted } from "../../dtma/never_started.ts";
import { Label } from "../../dtma/policy.ts";
import { absent, BASE, FixtureImages, fixtureSpec } from "./engine.ts";
import { Dtma, eventually } from "./observed.ts";

const missing = absent ?? await (async () => {
  if (Deno.uid() !== 0) return "a second dockerd needs root";
  for (const tool of ["dockerd", "ip"]) {
    const { success } = await new Deno.Command("sh", { args: ["-c", `command -v ${tool}`] })
      .output();
    if (!success) return `${tool} is not installed`;
  }
  return null;
})();
if (missing) console.warn(`SKIPPED, tests that restart an engine: ${missing}`);

for (const liveRestore of [true, false]) {
  const name = liveRestore
    ? "Reconciler attaches again to what survived an engine's restart"
    : "Reconciler starts again what an engine took down with it";
  Deno.test({
    name: missing ? `${name} (skipped: ${missing})` : name,
    ignore: missing !== null,
    async fn() {
      await using engine = await Engine.start(liveRestore);
      const docker = new Docker(engine.host);
      const toolbox = { docker, id: crypto.randomUUID(), dataDir: engine.folder };
      const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
      try {
        const spec = fixtureSpec("echo");
        dtma.reconciler.apply([spec]);
        const before = await dtma.ready(spec);
        await engine.stop();
        const away = await dtma.until(
          spec,
          ({ layers }) => Object.values(layers).some((layer) => /Docker socket/.test(layer.detail)),
        );
        const failed = Object.values(away.layers).find((layer) => layer.state === "failed")!;
        assert.match(failed.nextStep!, /Docker Engine/);
        assert.ok("unavailable" in await dtma.reconciler.reach(spec.serverId));
        await engine.run();
        const after = await dtma.ready(spec);
        assert.equal(after.containerId === before.containerId, liveRestore);
        if (liveRestore) assert.equal(after.restarts, 0);
        assert.equal(await dtma.call(spec.serverId, "echo", { text: "back" }), "back");
        dtma.reconciler.apply([]);
        await eventually(() => dtma.removed.includes(spec.serverId));
      } finally {
        await dtma.reconciler.close();
        docker.close();
      }
    },
  });
}

const frozenName = "Reconciler does not take an engine that stands still for a server that hangs";
Deno.test({
  name: missing ? `${frozenName} (skipped: ${missing})` : frozenName,
  ignore: missing !== null,
  async fn() {
    await using engine = await Engine.start(true);
    const docker = new Docker(engine.host);
    const toolbox = { docker, id: crypto.randomUUID(), dataDir: engine.folder };
    const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox), { pingEveryMs: 1000 });
    try {
      const spec = fixtureSpec("echo");
      dtma.reconciler.apply([spec]);
      const before = await dtma.ready(spec);
      await dtma.until(spec, ({ health }) => health?.latencyMs != null);
      engine.signal("SIGSTOP");
      // Two pings of 2 s, and more than an engine takes that is well.
      await new Promise((resolve) => setTimeout(resolve, 9000));
      const thawed = new Date().toISOString();
      engine.signal("SIGCONT");
      const after = await dtma.until(
        spec,
        ({ health }) => health?.latencyMs != null && health.at > thawed,
      );
      assert.equal(after.containerId, before.containerId);
      assert.equal(after.restarts, 0);
      assert.ok(!dtma.history.some(({ layers }) => layers.handshake.state === "failed"));
    } finally {
      await dtma.reconciler.close();
      docker.close();
    }
  },
});

const leftName = "A container that was never to be started is not left behind by an engine's end";
Deno.test({
  name: missing ? `${leftName} (skipped: ${missing})` : leftName,
  ignore: missing !== null,
  async fn() {
    await using engine = await Engine.start(true);
    const docker = new Docker(engine.host);
    const toolbox = { docker, id: crypto.randomUUID(), dataDir: engine.folder };
    const body = { Image: BASE, HostConfig: { NetworkMode: "none" } };
    const left = () => docker.listContainers([`${Label.toolbox}=${toolbox.id}`]);
    try {
      await withNeverStarted(docker, toolbox.id, body, async () => {
        assert.equal((await left()).length, 1);
        await engine.stop();
      });
      await engine.run();
      await eventually(async () => (await left()).length === 0);

      // What a DTMA left that was killed at it, the next one finds at once; its own it leaves alone.
      await docker.createContainer("mooring-never-started-by-another-process", {
        ...body,
        Labels: { [Label.toolbox]: toolbox.id },
        Entrypoint: ["never-started"],
      });
      await withNeverStarted(docker, toolbox.id, body, async (own) => {
        const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
        dtma.reconciler.apply([]);
        await eventually(async () => (await left()).length === 1);
        assert.deepEqual((await left()).map(({ Names }) => Names[0]), [`/${own}`]);
        await dtma.reconciler.close();
      });
      assert.equal((await left()).length, 0);

      // Of a build that the engine's end cut off.
      await docker.createContainer("step-of-a-build", {
        ...body,
        Labels: { [Label.toolbox]: toolbox.id, [Label.image]: "key" },
        Entrypoint: ["never-started"],
      });
      const images = new Images({ docker, toolboxId: toolbox.id, dataDir: toolbox.dataDir });
      await images.collect([]);
      assert.equal((await left()).length, 0);
    } finally {
      docker.close();
    }
  },
});

/** A dockerd with everything of its own: its bridge too, or it takes the first one's away. */
class Engine {
  #process: Deno.ChildProcess | null = null;
  private constructor(
    readonly folder: string,
    readonly bridge: string,
    readonly liveRestore: boolean,
  ) {}

  get host(): string {
    return `unix://${this.folder}/docker.sock`;
  }

  static async start(liveRestore: boolean): Promise<Engine> {
    const folder = await Deno.makeTempDir({ prefix: "mooring-engine-" });
    const bridge = `mrt${crypto.randomUUID().slice(0, 8)}`;
    const engine = new Engine(folder, bridge, liveRestore);
    await ip("link", "add", bridge, "type", "bridge");
    await ip("addr", "add", "10.213.77.1/24", "dev", bridge);
    await ip("link", "set", bridge, "up");
    await engine.run();
    const [from, to] = [new Docker().socketPath, `${folder}/docker.sock`].map((path) =>
      Deno.createHttpClient({ proxy: { transport: "unix", path } })
    );
    const image = await fetch(`http://localhost/images/${BASE}/get`, { client: from });
    const body = await image.bytes();
    await (await fetch("http://localhost/images/load", { method: "POST", body, client: to }))
      .bytes();
    from.close();
    to.close();
    return engine;
  }

  async run(): Promise<void> {
    const { folder, bridge, liveRestore } = this;
    this.#process = new Deno.Command("dockerd", {
      args: [
        `--data-root=${folder}/data`,
        `--exec-root=${folder}/exec`,
        `--pidfile=${folder}/docker.pid`,
        `--host=${this.host}`,
        `--bridge=${bridge}`,
        "--iptables=false",
        `--live-restore=${liveRestore}`,
      ],
      stdout: "null",
      stderr: "null",
    }).spawn();
    const docker = new Docker(this.host);
    await eventually(() => docker.version().then(() => true, () => false));
    docker.close();
  }

  signal(signal: Deno.Signal): void {
    this.#process!.kill(signal);
  }

  async stop(): Promise<void> {
    this.#process!.kill("SIGTERM");
    await this.#process!.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process!.kill("SIGTERM");
    } catch {
      // A test that failed in between left it ended.
    }
    await this.#process!.status;
    await ip("link", "del", this.bridge);
    const unmount = `grep " $0/" /proc/mounts | cut -d" " -f2 | sort -r | xargs -r umount`;
    await new Deno.Command("sh", { args: ["-c", unmount, this.folder] }).output();
    await Deno.remove(this.folder, { recursive: true });
  }
}

async function ip(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("ip", { args }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
}
