import assert from "node:assert/strict";
import {
  adapterConfig,
  adapterName,
  containerConfig,
  type ContainerContext,
  containerName,
  Label,
  loadSpecKey,
  specHash,
  volumeName,
} from "../../dtma/policy.ts";
import { assertIsHeld } from "./held.ts";
import { BASE, engineTest, fixtureSpec, type Toolbox } from "./engine.ts";

engineTest(
  "containerConfig is what the engine holds a container to, field by field",
  async (toolbox) => {
    const { docker, id: toolboxId } = toolbox;
    const spec = fixtureSpec("echo", {
      arguments: ["--flag", "$(id); `id`"],
      environment: { GREETING: "hello=there" },
      secrets: { TOKEN: "s3cret-value" },
      secretFiles: { "key.pem": "s3cret-value" },
      volumes: [{ name: "memory", path: "/data" }],
      memoryMiB: 300,
    });
    const config = containerConfig(spec, await contextOf(toolbox, { hasLauncher: true }));
    await docker.createVolume(volumeName(spec.serverId, "memory"), { [Label.toolbox]: toolboxId });
    const id = await docker.createContainer(containerName(spec), config);
    const details = await docker.inspectContainer(id);
    assertIsHeld(details, config);
    assert.ok(!(details.HostConfig.ExtraHosts as unknown[] | null)?.length);
    assert.equal(details.HostConfig.Runtime, "runc");
    // Whoever may inspect containers on the host learns no secret.
    assert.ok(!JSON.stringify(await docker.inspectContainer(id)).includes("s3cret-value"));
    await docker.removeContainer(id);
    await docker.removeVolume(volumeName(spec.serverId, "memory"));
  },
);

engineTest("adapterConfig is the same policy in the network of the server", async (toolbox) => {
  const { docker, id: toolboxId } = toolbox;
  const spec = fixtureSpec("echo", { environment: { A: "1" }, secretFiles: { "key.pem": "x" } });
  const context = await contextOf(toolbox);
  const name = containerName(spec);
  const config = { ...containerConfig(spec, context), Entrypoint: ["sleep", "60"], Cmd: [] };
  const id = await docker.createContainer(name, config);
  await docker.startContainer(id);
  const transport = { type: "sse", port: 3000, path: "/sse" } as const;
  const adapter = adapterConfig({ id, name, serverId: spec.serverId }, {
    toolboxId,
    image: context.image,
    transport,
  });
  const { Memory, MemorySwap, NetworkMode, Tmpfs, ...same } = adapter.HostConfig;
  assert.deepEqual({ ...config.HostConfig, ...same }, config.HostConfig);
  assert.equal(NetworkMode, `container:${id}`);
  assert.deepEqual(Object.keys(Tmpfs), ["/tmp", "/work"], "and none of the server's secrets");
  assert.deepEqual([Memory, MemorySwap], [128 * 1024 ** 2, 128 * 1024 ** 2]);
  assert.ok(!adapter.Env.includes("A=1"));
  const beside = await docker.createContainer(adapterName(name), adapter);
  assertIsHeld(await docker.inspectContainer(beside), adapter);
  await docker.removeContainer(beside);
  await docker.removeContainer(id);
});

engineTest(
  "a container under the policy is refused what a server does not need",
  async (toolbox) => {
    const probes = await inside(
      toolbox,
      `
    const fs = require("fs"), cp = require("child_process"), os = require("os");
    const attempt = (f) => { try { const r = f(); return "done: " + r } catch (e) { return e.code ?? e.message } };
    const status = fs.readFileSync("/proc/self/status", "utf8");
    const field = (name) => new RegExp("^" + name + ":\\\\s*(.*)$", "m").exec(status)[1];
    fs.writeFileSync("/work/run.sh", "#!/bin/sh\\necho ran\\n", { mode: 0o755 });
    console.log(JSON.stringify({
      uid: process.getuid(), gid: process.getgid(), home: process.env.HOME, cwd: process.cwd(),
      root: attempt(() => fs.writeFileSync("/x", "")),
      app: attempt(() => fs.writeFileSync("/app/x", "")),
      passwd: attempt(() => fs.appendFileSync("/etc/passwd", "x")),
      tmp: attempt(() => fs.writeFileSync("/tmp/x", "x")),
      tmpSize: attempt(() => fs.writeFileSync("/tmp/big", Buffer.alloc(65 * 1024 * 1024))),
      execFromTmp: attempt(() => cp.execFileSync("/work/run.sh")),
      setuid: attempt(() => process.setuid(0)),
      capabilities: field("CapEff"), bounding: field("CapBnd"), noNewPrivileges: field("NoNewPrivs"), seccomp: field("Seccomp"),
      interfaces: Object.keys(os.networkInterfaces()),
      sysctl: attempt(() => fs.writeFileSync("/proc/sys/kernel/core_pattern", "x")),
      dockerSocket: attempt(() => fs.statSync("/var/run/docker.sock")),
      devices: fs.readdirSync("/dev").filter((d) => /^(sd|vd|nvme|kmsg|mem)/.test(d)),
      init: fs.readFileSync("/proc/1/cmdline", "utf8").split("\\0")[0],
    }));`,
    );
    assert.deepEqual({ ...probes, init: null }, {
      uid: 65532,
      gid: 65532,
      home: "/tmp",
      cwd: "/work",
      root: "EROFS",
      app: "EROFS",
      passwd: "EACCES",
      tmp: "done: undefined",
      tmpSize: "ENOSPC",
      execFromTmp: "EACCES",
      setuid: "EPERM",
      capabilities: "0000000000000000",
      bounding: "0000000000000000",
      noNewPrivileges: "1",
      seccomp: "2",
      interfaces: ["lo"],
      sysctl: "EROFS",
      dockerSocket: "ENOENT",
      devices: [],
      init: null,
    });
    assert.match(probes.init as string, /docker-init/);
  },
);

engineTest("limits of processes and memory hold", async (toolbox) => {
  const probes = await inside(
    toolbox,
    `
    const cp = require("child_process");
    let started = 0, refused = null;
    for (let i = 0; i < 200; i++) {
      const child = cp.spawn("/usr/local/bin/node", ["-e", "setTimeout(() => {}, 5000)"], { stdio: "ignore" });
      child.on("error", (e) => { refused ??= e.code });
      if (child.pid) started++;
    }
    setTimeout(() => { console.log(JSON.stringify({ started, refused })); process.exit(0) }, 300);`,
  );
  assert.equal(probes.refused, "EAGAIN");
  assert.ok(Number(probes.started) < 128, `${probes.started} processes started`);
});

Deno.test("containerConfig turns .NET's diagnostics off, whatever image a server comes in", () => {
  const image = { id: "sha256:0", command: ["/app"], hasLauncher: false, workingDirectory: null };
  const context = {
    toolboxId: "",
    image,
    specHash: "",
    instance: null,
    route: null,
    sandbox: null,
  };
  const { Env } = containerConfig(fixtureSpec("echo"), context);
  for (const name of ["DOTNET", "COMPlus"]) {
    assert.ok(Env.includes(`${name}_EnableDiagnostics=0`), name);
  }
  // The person who configures a server has the last word, once.
  const environment = { DOTNET_EnableDiagnostics: "1" };
  const own = containerConfig(fixtureSpec("echo", { environment }), context).Env;
  assert.deepEqual(own.filter((each) => each.startsWith("DOTNET_")), [
    "DOTNET_EnableDiagnostics=1",
  ]);
});

Deno.test("specHash changes with what the container is made from, and with the key", async () => {
  const [one, two] = [await Deno.makeTempDir(), await Deno.makeTempDir()];
  try {
    const key = await loadSpecKey(one);
    const spec = fixtureSpec("echo", { secrets: { TOKEN: "a" } });
    const hash = await specHash(spec, key);
    assert.match(hash, /^[0-9a-f]{64}$/);
    assert.equal(await specHash(structuredClone(spec), await loadSpecKey(one)), hash);
    assert.equal((await Deno.stat(`${one}/spec.key`)).mode! & 0o777, 0o600);
    const changes = [
      { secrets: { TOKEN: "b" } },
      { environment: { A: "1" } },
      { arguments: ["x"] },
      { network: { hosts: ["a.example:443"] } },
      { package: { ...spec.package, version: "1.0.1" } },
      { secretFiles: { TOKEN: "a" } },
      { volumes: [{ name: "data", path: "/data" }] },
      { memoryMiB: 100 },
      { instances: "agent" as const },
      { restart: 1 },
      { transport: { type: "sse" as const, port: 3000, path: "/sse" } },
    ];
    assert.equal(await specHash({ ...spec, generation: 2 }, key), hash);
    // Of the tier only what came of it.
    assert.equal(await specHash({ ...spec, tier: "untrusted" }, key), hash);
    const gvisor = { runtime: "runsc", kind: "gvisor" } as const;
    assert.notEqual(await specHash(spec, key, gvisor), hash);
    const [atA, atB] = await Promise.all(
      [["a.example:443"], ["b.example:443"]].map((hosts) =>
        specHash({ ...spec, network: { hosts } }, key, gvisor)
      ),
    );
    assert.notEqual(atA, atB);
    const [some, others] = [["a.example:443"], ["b.example:443", "*:80"]].map((hosts) =>
      specHash({ ...spec, network: { hosts } }, key)
    );
    assert.equal(await some, await others);
    for (const change of changes) {
      assert.notEqual(await specHash({ ...spec, ...change }, key), hash, JSON.stringify(change));
    }
    const hashes = await Promise.all(
      [
        { type: "sse" as const, port: 3000, path: "/sse" },
        { type: "streamable-http" as const, port: 3000, path: "/sse" },
        { type: "sse" as const, port: 3001, path: "/sse" },
        { type: "sse" as const, port: 3000, path: "/" },
      ].map((transport) => specHash({ ...spec, transport }, key)),
    );
    assert.equal(new Set(hashes).size, hashes.length, "of a transport all of it counts");
    assert.notEqual(await specHash(spec, await loadSpecKey(two)), hash);
  } finally {
    await Deno.remove(one, { recursive: true });
    await Deno.remove(two, { recursive: true });
  }
});

Deno.test("loadSpecKey makes another key in place of one that a power cut left empty", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/spec.key`, "");
    const spec = fixtureSpec("echo");
    const hash = await specHash(spec, await loadSpecKey(directory));
    assert.equal(await specHash(spec, await loadSpecKey(directory)), hash);
    const names = (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name);
    assert.deepEqual(names, ["spec.key"]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

async function contextOf(
  { docker, id: toolboxId }: Toolbox,
  { hasLauncher = false } = {},
): Promise<ContainerContext> {
  const { Id: id } = (await docker.inspectImage(BASE))!;
  return {
    toolboxId,
    image: { id, command: ["node", "/app/server"], hasLauncher, workingDirectory: null },
    specHash: "abc",
    instance: null,
    route: null,
    sandbox: null,
  };
}

/** Runs a script with node in a container under the policy; gives the JSON it prints. */
async function inside(toolbox: Toolbox, script: string): Promise<Record<string, unknown>> {
  const { docker } = toolbox;
  const spec = fixtureSpec("echo");
  const config = containerConfig(spec, await contextOf(toolbox));
  const id = await docker.createContainer(containerName(spec), {
    ...config,
    Entrypoint: ["node", "-e", script],
  });
  const attachment = await docker.attachContainer(id);
  await docker.startContainer(id);
  const [stdout, stderr] = await Promise.all([
    new Response(attachment.stdout).text(),
    new Response(attachment.stderr).text(),
  ]);
  await attachment.stdin.abort();
  assert.ok(stdout.startsWith("{"), `${stdout}\n${stderr}`);
  return JSON.parse(stdout);
}
