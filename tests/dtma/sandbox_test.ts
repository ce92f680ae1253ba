/** Servers in gVisor: a real one on a Docker Engine of the tests' own, and which runtime is taken for one. */
import assert from "node:assert/strict";
import { Ceiling } from "../../dtma/ceiling.ts";
import type { EngineInfo, EngineVersion } from "../../dtma/docker.ts";
import { hostFacts } from "../../dtma/host_facts.ts";
import { containerConfig, containerName, Label } from "../../dtma/policy.ts";
import { HostFacts, type ServerSpec } from "../../dtma/protocol.ts";
import { isolationFor, runtimeFacts, SandboxError, sandboxOf } from "../../dtma/sandbox.ts";
import { type Found, Sandboxes } from "../../dtma/sandboxes.ts";
import { BASE, FixtureImages, fixtureSpec, leftovers } from "./engine.ts";
import { gvisorTest } from "./gvisor.ts";
import { assertIsHeld } from "./held.ts";
import { Dtma, eventually } from "./observed.ts";

const docker = { Version: "28", ApiVersion: "1.51", MinAPIVersion: "1.24" } as EngineVersion;
const infoOf = (Runtimes: EngineInfo["Runtimes"], DefaultRuntime = "runc") =>
  ({ Runtimes, DefaultRuntime }) as EngineInfo;
const runc = { path: "runc" };
const runsc = { path: "/usr/local/bin/runsc" };

Deno.test("sandboxOf knows a sandbox by its name, its program or its type", () => {
  const of = (runtimes: EngineInfo["Runtimes"]) =>
    sandboxOf(docker, infoOf({ runc, "io.containerd.runc.v2": runc, ...runtimes }), {});
  assert.equal(of({}), null);
  assert.deepEqual(of({ runsc }), { runtime: "runsc", kind: "gvisor" });
  assert.deepEqual(of({ safe: runsc }), { runtime: "safe", kind: "gvisor" });
  assert.deepEqual(of({ vm: { path: "/opt/kata/bin/kata-runtime" } }), {
    runtime: "vm",
    kind: "kata",
  });
  const typed = { runtimeType: "io.containerd.kata.v2" };
  assert.deepEqual(of({ "kata-fc": typed }), { runtime: "kata-fc", kind: "kata" });
  // A name that promises what its program does not hold.
  assert.equal(of({ runsc: { path: "/usr/bin/runc" }, kata: { path: "crun" } }), null);
  assert.equal(of(null), null);
  assert.equal(sandboxOf(docker, infoOf(undefined), {}), null);
  assert.equal(of({ kata: typed, runsc })?.runtime, "runsc");
  const preset = infoOf({ runc, runsc, kata: typed }, "kata");
  assert.equal(sandboxOf(docker, preset, {})?.runtime, "kata");
});

Deno.test("sandboxOf takes the host's owner at their word", () => {
  const info = infoOf({ runc, runsc, firecracker: { path: "/opt/fc" } });
  assert.deepEqual(sandboxOf(docker, info, { runtime: "firecracker" }), {
    runtime: "firecracker",
    kind: "other",
  });
  assert.equal(sandboxOf(docker, info, { runtime: "gone" }), null, "and at nothing else's");
  assert.equal(sandboxOf(docker, info, { runtime: "runc" }), null);
  const { warnings } = runtimeFacts(docker, info, { runtime: "gone", standard: true }, null);
  assert.match(warnings[0], /names the runtime gone/);
});

Deno.test("sandboxOf finds none on podman, which lists runtimes that are not there", () => {
  const podman = { ...docker, Components: [{ Name: "Podman Engine" }] };
  const info = infoOf({ runsc, kata: { path: "/usr/bin/kata-runtime" } });
  assert.equal(sandboxOf(podman, info, {}), null);
  assert.deepEqual(runtimeFacts(podman, info, { standard: true }, null).runtimes, []);
});

Deno.test("Ceiling has the sandbox's runtime and for whom it is", () => {
  assert.deepEqual(Ceiling.read(null).sandbox, { standard: true });
  const text = JSON.stringify({ sandbox: { runtime: "my-vm", standard: false } });
  assert.deepEqual(Ceiling.read(text).sandbox, { runtime: "my-vm", standard: false });
  assert.throws(() => Ceiling.read('{"sandbox":{"runtime":"a b"}}'), /sandbox\.runtime/);
  assert.throws(() => Ceiling.read('{"sandbox":{"kind":"gvisor"}}'), /sandbox/);
});

Deno.test("isolationFor puts untrusted servers into the sandbox or refuses them", () => {
  const of = (found: Found, spec: Partial<ServerSpec>, standard = true) =>
    isolationFor(fixtureSpec("echo", spec), found, { standard });
  const untrusted = { tier: "untrusted" as const };
  const gvisor: Found = { sandbox: { runtime: "runsc", kind: "gvisor" } };
  const none: Found = { sandbox: null, why: null };
  const broken: Found = { sandbox: null, why: "gVisor (runsc) starts no container" };
  assert.deepEqual(of(gvisor, {}), gvisor);
  assert.deepEqual(of(gvisor, untrusted), gvisor);
  assert.deepEqual(of(none, {}), none);
  assert.deepEqual(of(broken, {}), broken);
  const refusal = (found: Found, spec: Partial<ServerSpec> = untrusted) => {
    try {
      of(found, spec);
    } catch (error) {
      if (error instanceof SandboxError) return error;
      throw error;
    }
    assert.fail("It was not refused");
  };
  assert.match(refusal(none).reason, /untrusted.*no runtime/);
  assert.match(refusal(none).nextStep, /Install gVisor/);
  assert.match(refusal(broken).reason, /starts no container/);
  // As the host's owner wants it.
  assert.deepEqual(of(gvisor, untrusted, false), gvisor);
  const kept = of(gvisor, {}, false);
  assert.match(kept.sandbox === null ? kept.why! : "", /owner keeps standard servers out/);
  // Hosts that a sandbox's own network stack cannot find.
  const anyHost = { network: { hosts: ["a.example:443", "*.example.com:443"] } };
  const outside = of(gvisor, anyHost);
  assert.match(outside.sandbox === null ? outside.why! : "", /declares \*\.example\.com/);
  assert.match(refusal(gvisor, { ...untrusted, ...anyHost }).reason, /declares \*/);
  // Nor would its adapter find its port.
  const overHttp = { transport: { type: "sse", port: 3000, path: "/sse" } as const };
  const beside = of(gvisor, overHttp);
  assert.match(beside.sandbox === null ? beside.why! : "", /on stdio alone, and it speaks HTTP/);
  assert.match(refusal(gvisor, { ...untrusted, ...overHttp }).reason, /untrusted.*speaks HTTP/);
});

gvisorTest("Servers run in gVisor", async (toolbox, t) => {
  const { docker, id: toolboxId, runtimes, setRuntimes } = toolbox;
  const images = new FixtureImages(toolbox);
  const hostKernel = await Deno.readTextFile("/proc/version");

  await t.step("the toolbox's facts name it, and what differs", async () => {
    const sandboxes = new Sandboxes(docker, { standard: true });
    await sandboxes.find();
    const facts = HostFacts.parse(
      await hostFacts(docker, { reach: "tunnel", address: null }, sandboxes),
    );
    assert(facts.engine.state === "ready");
    const { runtimes = [], sandbox } = facts.engine;
    assert.equal(runtimes.find(({ name }) => name === "runc")?.kind, "shared");
    assert.equal(runtimes.find(({ name }) => name === "runsc")?.kind, "gvisor");
    assert.deepEqual([sandbox?.runtime, sandbox?.standard], ["runsc", true]);
    assert.match(sandbox!.differs.join(), /bounded for the whole sandbox/);
    assert.ok(!/seccomp/.test(sandbox!.differs.join()), "it is told to apply the profile");
    assert.equal(facts.knowsTiers, true);
  });

  await t.step("a container in it is held to the policy, field by field", async () => {
    const { Id } = (await docker.inspectImage(BASE))!;
    const spec = fixtureSpec("echo", {
      network: { hosts: ["b.example:443", "a.example:443", "a.example:80", "10.1.2.3:443"] },
    });
    await docker.createNetwork({ Name: "mooring-held", Internal: true });
    const config = containerConfig(spec, {
      toolboxId,
      image: { id: Id, command: ["node"], hasLauncher: true, workingDirectory: null },
      specHash: "abc",
      instance: null,
      route: { network: "mooring-held", proxyAddress: "10.9.9.9" },
      sandbox: { runtime: "runsc", kind: "gvisor" },
    });
    const id = await docker.createContainer(containerName(spec), config);
    const details = await docker.inspectContainer(id);
    assertIsHeld(details, config);
    assert.equal(details.HostConfig.Runtime, "runsc");
    assert.equal(details.Config.Labels[Label.runtime], "runsc");
    assert.deepEqual(details.HostConfig.ExtraHosts, ["a.example:10.9.9.9", "b.example:10.9.9.9"]);
    await docker.removeContainer(id);
    await docker.removeNetwork("mooring-held");
  });

  await t.step("a server over HTTP runs beside it, and says why", async () => {
    const dtma = await Dtma.start(toolbox, images);
    try {
      const spec = fixtureSpec("http", {
        environment: { PORT: "3000" },
        transport: { type: "streamable-http", port: 3000, path: "/deep/mcp" },
      });
      const serverId = crypto.randomUUID();
      const untrusted = fixtureSpec("http", { ...spec, serverId, tier: "untrusted" });
      dtma.reconciler.apply([spec, untrusted]);
      const { sandbox, unsandboxed } = await dtma.ready(spec);
      assert.equal(sandbox, null);
      assert.match(unsandboxed!, /^A server in gVisor \(runsc\) is reached on stdio alone/);
      assert.match(await dtma.call(spec.serverId, "environment"), /"sessions":1/);
      const { layers } = await dtma.until(untrusted, ({ gaveUp }) => gaveUp);
      assert.match(layers.container.detail, /refuses it: the server is untrusted.*speaks HTTP/);
      dtma.reconciler.apply([]);
      await eventually(() => dtma.removed.length === 2);
    } finally {
      await dtma.reconciler.close();
    }
  });

  await t.step(
    "an untrusted server answers calls there, reaches its hosts, and stops",
    async () => {
      const dtma = await Dtma.start(toolbox, images);
      const spec = fixtureSpec("kernel", {
        tier: "untrusted",
        network: { hosts: ["a.example:443"] },
        secretFiles: { "key.pem": "s3cret" },
      });
      dtma.reconciler.apply([spec]);
      const { sandbox } = await dtma.ready(spec);
      assert.deepEqual(sandbox, { runtime: "runsc", kind: "gvisor" });
      const read = (path: string) => dtma.call(spec.serverId, "read", { path });
      const kernel = await read("/proc/version");
      assert.notEqual(kernel, hostKernel);
      // What gVisor says of itself, whatever the host's kernel is.
      assert.match(kernel, /^Linux version 4\.4\.0 #1 SMP Sun Jan 10 15:06:54 PST 2016/);
      assert.equal(await read("/run/secrets/key.pem"), "s3cret");
      const look = (host: string) => dtma.call(spec.serverId, "look_up", { host });
      const proxy = await look("a.example");
      assert.match(proxy, /^10\.213\./);
      assert.match(await look("b.example"), /^E/);
      const reach = (port: number) =>
        dtma.call(spec.serverId, "connect", { host: "a.example", port });
      assert.equal(await reach(443), "connected");
      assert.equal(await reach(80), "ECONNREFUSED");

      // Another list of hosts is another container, as names stand in its /etc/hosts.
      const before = dtma.seen(spec.serverId)!.containerId;
      const hosts = ["a.example:443", "b.example:443"];
      const changed = { ...spec, generation: 2, network: { hosts } };
      dtma.reconciler.apply([changed]);
      assert.notEqual((await dtma.ready(changed)).containerId, before);
      assert.match(await look("b.example"), /^10\.213\./);

      const stopped = { ...changed, generation: 3, running: false };
      dtma.reconciler.apply([stopped]);
      await dtma.until(stopped, ({ layers }) => layers.container.state === "stopped");
      assert.deepEqual((await leftovers(docker, toolboxId)).networks, []);
      dtma.reconciler.apply([]);
      await eventually(() => dtma.removed.includes(spec.serverId));
      await dtma.reconciler.close();
    },
  );

  await t.step("each agent's instance is in it too", async () => {
    const dtma = await Dtma.start(toolbox, images);
    const spec = fixtureSpec("kernel", { instances: "agent" });
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    const version = await dtma.call(spec.serverId, "read", { path: "/proc/version" }, "agent-1");
    assert.match(version, /^Linux version 4\.4\.0/);
    await remove(dtma, spec);
  });

  await t.step("the owner keeps standard servers out of it, and not untrusted ones", async () => {
    const dtma = await Dtma.start(toolbox, images, { ceiling: { sandbox: { standard: false } } });
    const [standard, untrusted] = [
      fixtureSpec("kernel"),
      fixtureSpec("kernel", { tier: "untrusted" }),
    ];
    dtma.reconciler.apply([standard, untrusted]);
    const seen = await dtma.ready(standard);
    assert.equal(seen.sandbox, null);
    assert.match(seen.unsandboxed!, /owner keeps standard servers out/);
    assert.equal((await dtma.ready(untrusted)).sandbox?.runtime, "runsc");
    const version = await dtma.call(standard.serverId, "read", { path: "/proc/version" });
    assert.equal(version, hostKernel);

    // Trusted less, it moves; trusted more, it stays where it is.
    const less: ServerSpec = { ...standard, generation: 2, tier: "untrusted" };
    const more: ServerSpec = { ...untrusted, generation: 2, tier: "standard" };
    const { containerId } = dtma.seen(untrusted.serverId)!;
    dtma.reconciler.apply([less, more]);
    assert.equal((await dtma.ready(less)).sandbox?.runtime, "runsc");
    assert.equal((await dtma.ready(more)).containerId, containerId);
    await remove(dtma, less, more);
  });

  await t.step(
    "an engine that gains or loses it restarts nothing, and the next start follows",
    async () => {
      await setRuntimes({});
      let dtma = await Dtma.start(toolbox, images);
      const spec = fixtureSpec("kernel");
      dtma.reconciler.apply([spec]);
      const { containerId, sandbox, unsandboxed } = await dtma.ready(spec);
      assert.deepEqual([sandbox, unsandboxed], [null, null]);

      const again = async () => {
        await dtma.reconciler.close();
        dtma = await Dtma.start(toolbox, images);
      };
      await setRuntimes(runtimes);
      await again();
      dtma.reconciler.apply([spec]);
      const kept = await dtma.ready(spec);
      assert.deepEqual([kept.containerId, kept.sandbox], [containerId, null]);
      assert.match(kept.unsandboxed!, /started before the toolbox had gVisor .*a restart moves it/);

      const restarted = { ...spec, generation: 2, restart: 1 };
      dtma.reconciler.apply([restarted]);
      const moved = await dtma.ready(restarted);
      assert.notEqual(moved.containerId, containerId);
      assert.equal(moved.sandbox?.runtime, "runsc");

      await setRuntimes({});
      await again();
      const untrusted: ServerSpec = { ...restarted, generation: 3, tier: "untrusted" };
      dtma.reconciler.apply([untrusted]);
      const stays = await dtma.ready(untrusted);
      assert.deepEqual([stays.containerId, stays.sandbox], [moved.containerId, moved.sandbox]);
      await dtma.call(spec.serverId, "read", { path: "/proc/version" });

      // A change needs a new container, which is refused; the one of before serves.
      const changed = { ...untrusted, generation: 4, environment: { A: "1" } };
      dtma.reconciler.apply([changed]);
      const refused = await dtma.until(changed, ({ gaveUp }) => gaveUp);
      assert.match(
        refused.layers.container.detail,
        /the server is untrusted, and the Docker Engine/,
      );
      assert.match(refused.layers.container.nextStep!, /Install gVisor/);
      assert.equal(refused.servingGeneration, 3);
      await dtma.call(spec.serverId, "read", { path: "/proc/version" });
      await setRuntimes(runtimes);
      await remove(dtma, changed);
    },
  );

  await t.step(
    "one that does not work keeps standard servers from nothing, and says so",
    async () => {
      await setRuntimes({ runsc: { path: "/usr/bin/false" } });
      const dtma = await Dtma.start(toolbox, images);
      const standard = fixtureSpec("kernel");
      const untrusted = fixtureSpec("kernel", { tier: "untrusted" });
      dtma.reconciler.apply([standard, untrusted]);
      const seen = await dtma.ready(standard);
      assert.equal(seen.sandbox, null);
      assert.match(seen.unsandboxed!, /gVisor \(runsc\) is registered .* starts no container/);
      const failed = await dtma.until(untrusted, ({ gaveUp }) => gaveUp);
      assert.match(failed.layers.container.detail, /untrusted, and gVisor \(runsc\) is registered/);
      assert.equal(failed.containerId, null);
      const sandboxes = new Sandboxes(docker, { standard: true });
      await sandboxes.find();
      const { engine } = await hostFacts(docker, { reach: "tunnel", address: null }, sandboxes);
      assert(engine.state === "ready");
      assert.equal(engine.sandbox, null);
      assert.match(engine.warnings![0], /gVisor \(runsc\) is registered .* starts no container/);
      const trials = (await docker.listContainers([])).filter(({ Names }) =>
        /trial/.test(Names[0])
      );
      assert.deepEqual(trials, []);
      await remove(dtma, standard, untrusted);
    },
  );
});

async function remove(dtma: Dtma, ...specs: ServerSpec[]): Promise<void> {
  dtma.reconciler.apply([]);
  await eventually(() => specs.every(({ serverId }) => dtma.removed.includes(serverId)));
  await dtma.reconciler.close();
}
