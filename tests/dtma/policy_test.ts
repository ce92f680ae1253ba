import assert from "node:assert/strict";
import type { Docker } from "../../dtma/docker.ts";
import {
  containerConfig,
  containerName,
  loadSpecKey,
  networkConfig,
  specHash,
} from "../../dtma/policy.ts";
import { BASE, engineTest, fixtureSpec, type Toolbox } from "./engine.ts";

engineTest(
  "containerConfig is what the engine holds a container to, field by field",
  async (toolbox) => {
    const { docker, id: toolboxId } = toolbox;
    const spec = fixtureSpec("echo", {
      arguments: ["--flag", "$(id); `id`"],
      environment: { GREETING: "hello=there" },
      secrets: { TOKEN: "s3cret-value" },
    });
    const config = containerConfig(spec, {
      toolboxId,
      image: await baseId(docker),
      command: ["node", "/app/server"],
      specHash: "abc",
    });
    const id = await docker.createContainer(containerName(spec.serverId), config);
    const { Config, HostConfig, Image } = await docker.inspectContainer(id);
    assert.equal(Image, config.Image);
    for (const [field, wanted] of Object.entries(config)) {
      if (field === "HostConfig") continue;
      // A container has its image's labels too.
      if (field === "Labels") {
        assert.deepEqual({ ...Config.Labels, ...(wanted as object) }, Config.Labels);
        continue;
      }
      if (field === "Env") {
        for (const each of wanted as string[]) assert.ok((Config.Env as string[]).includes(each));
      } else assert.deepEqual(Config[field], wanted, field);
    }
    for (const [field, wanted] of Object.entries(config.HostConfig)) {
      const held = HostConfig[field];
      if (field === "LogConfig") assert.equal((held as { Type: string }).Type, "none");
      else if (field === "RestartPolicy") assert.equal((held as { Name: string }).Name, "no");
      else assert.deepEqual(held, wanted, field);
    }
    for (const field of ["Binds", "Devices", "CapAdd", "GroupAdd", "VolumesFrom", "ExtraHosts"]) {
      assert.ok(!(HostConfig[field] as unknown[] | null)?.length, field);
    }
    for (const field of ["PidMode", "UTSMode", "UsernsMode"]) assert.equal(HostConfig[field], "");
    assert.deepEqual(HostConfig.PortBindings ?? {}, {});
    assert.ok(!JSON.stringify(Config.Labels).includes("s3cret-value"));
  },
);

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

engineTest(
  "networkConfig is null without declared hosts, and icc is off with them",
  async (toolbox) => {
    const spec = fixtureSpec("echo");
    assert.equal(networkConfig(spec, toolbox.id), null);
    const networked = { ...spec, network: { hosts: ["api.example.com:443"] } };
    const config = networkConfig(networked, toolbox.id)!;
    await toolbox.docker.createNetwork(config);
    const made = containerConfig(networked, {
      toolboxId: toolbox.id,
      image: await baseId(toolbox.docker),
      command: ["node", "/app/server"],
      specHash: "abc",
    });
    const id = await toolbox.docker.createContainer(containerName(spec.serverId), made);
    const { NetworkSettings } = await toolbox.docker.inspectContainer(id);
    assert.deepEqual(Object.keys(NetworkSettings.Networks), [config.Name]);
  },
);

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
      { generation: 2 },
    ];
    for (const change of changes) {
      assert.notEqual(await specHash({ ...spec, ...change }, key), hash, JSON.stringify(change));
    }
    assert.notEqual(await specHash(spec, await loadSpecKey(two)), hash);
  } finally {
    await Deno.remove(one, { recursive: true });
    await Deno.remove(two, { recursive: true });
  }
});

async function baseId(docker: Docker): Promise<string> {
  return (await docker.inspectImage(BASE))!.Id;
}

/** Runs a script with node in a container under the policy; gives the JSON it prints. */
async function inside(toolbox: Toolbox, script: string): Promise<Record<string, unknown>> {
  const { docker, id: toolboxId } = toolbox;
  const spec = fixtureSpec("echo");
  const image = await baseId(docker);
  const config = containerConfig(spec, { toolboxId, image, command: [], specHash: "abc" });
  const id = await docker.createContainer(containerName(spec.serverId), {
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
