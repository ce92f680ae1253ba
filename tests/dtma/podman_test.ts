/** DTMA on podman's Docker-compatible socket: what docs/podman.md says of it. */
import assert from "node:assert/strict";
import { Docker } from "../../dtma/docker.ts";
import { openEgress } from "../../dtma/egress.ts";
import { hostFacts } from "../../dtma/host_facts.ts";
import {
  assertHeld,
  assertShut,
  podmanBody,
  podmanBuild,
  type PodmanContainer,
} from "../../dtma/podman.ts";
import { Sandboxes } from "../../dtma/sandboxes.ts";
import { adapterName, containerConfig, Label } from "../../dtma/policy.ts";
import { type Denial, HostFacts } from "../../dtma/protocol.ts";
import { writeTar } from "../../dtma/tar.ts";
import { openInside } from "./egress_inside.ts";
import { BASE, FixtureImages, fixtureSpec, leftovers, type Toolbox } from "./engine.ts";
import { Dtma, eventually } from "./observed.ts";
import { absent, OUTSIDE, Podman } from "./podman.ts";

const asked = containerConfig(fixtureSpec("echo"), {
  toolboxId: crypto.randomUUID(),
  image: { id: "sha256:0", command: ["node"], hasLauncher: true, workingDirectory: null },
  specHash: "none",
  instance: null,
  route: null,
  sandbox: null,
});

Deno.test("podmanBody asks for the same policy in podman's words", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const body = await podmanBody(asked, directory);
    const { SecurityOpt, Tmpfs, Ulimits, ...rest } = body.HostConfig!;
    const { SecurityOpt: inline, Tmpfs: _, Ulimits: __, ...before } = asked.HostConfig;
    assert.deepEqual(rest, before);
    const path = /^seccomp=(\/.*)$/.exec(SecurityOpt![1])![1];
    assert.equal(`seccomp=${await Deno.readTextFile(path)}`, inline[1]);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    assert.deepEqual(Object.keys(Tmpfs!).sort(), ["/run", "/tmp", "/var/tmp", "/work"]);
    for (const options of Object.values(Tmpfs!)) assert.match(options, /noexec,nosuid,nodev,size=/);
    assert.deepEqual(Ulimits!.map(({ Name }) => Name), ["nofile", "core", "nproc"]);
    // One that someone wrote over is written anew.
    await Deno.writeTextFile(path, "{}");
    await podmanBody(asked, directory);
    assert.equal(`seccomp=${await Deno.readTextFile(path)}`, inline[1]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("podmanBuild keeps a build's steps off the host's network", () => {
  const ulimits = JSON.stringify([{ Name: "core", Soft: 0, Hard: 0 }]);
  const query = podmanBuild({ t: "a", networkmode: "default", ulimits });
  assert.deepEqual(JSON.parse(query.ulimits), [
    "core=0:0",
    "nofile=16384:16384",
    "nproc=16384:16384",
  ]);
  assert.deepEqual(JSON.parse(query.nsoptions), [{ Name: "network", Host: false, Path: "" }]);
});

Deno.test("assertShut refuses a network on which the host has an address", () => {
  const made = { id: "n", internal: true, dns_enabled: false };
  assertShut({ ...made, subnets: [{}] });
  for (
    const open of [{ internal: false }, { dns_enabled: true }, {
      subnets: [{ gateway: "10.0.0.1" }],
    }]
  ) {
    assert.throws(() => assertShut({ ...made, ...open }), /gives the host an address/);
  }
});

Deno.test("assertHeld refuses a container that podman holds to less", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const body = await podmanBody(asked, directory);
    const { Memory, MemorySwap, NanoCpus, PidsLimit, SecurityOpt, Tmpfs } = body.HostConfig!;
    const held = {
      EffectiveCaps: null,
      BoundingCaps: null,
      HostConfig: {
        ...{ Memory, MemorySwap, NanoCpus, PidsLimit, SecurityOpt, Tmpfs },
        ReadonlyRootfs: true,
        Privileged: false,
        NetworkMode: "none",
      },
    } as PodmanContainer;
    assertHeld(body, held);
    const less = (changes: Partial<PodmanContainer["HostConfig"]>, caps: object = {}) => () =>
      assertHeld(body, { ...held, ...caps, HostConfig: { ...held.HostConfig, ...changes } });
    assert.throws(less({ Memory: 0 }), /Memory/);
    assert.throws(less({ PidsLimit: 0 }), /PidsLimit/);
    assert.throws(less({ ReadonlyRootfs: false }), /ReadonlyRootfs/);
    assert.throws(less({ NetworkMode: "bridge" }), /NetworkMode/);
    const beside = { HostConfig: { ...body.HostConfig, NetworkMode: "container:a" } };
    assert.throws(() => assertHeld(beside, held), /NetworkMode/);
    assert.throws(less({ Privileged: true }), /Privileged/);
    assert.throws(less({ SecurityOpt: SecurityOpt!.slice(0, 1) }), /seccomp/);
    assert.throws(less({ SecurityOpt: [] }), /no-new-privileges, seccomp/);
    assert.throws(less({ Tmpfs: { ...Tmpfs, "/run": "rw,nosuid" } }), /noexec of \/run/);
    assert.throws(less({}, { EffectiveCaps: ["CAP_CHOWN"] }), /CapDrop/);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test({
  name: absent ? `DTMA on podman (skipped: ${absent})` : "DTMA on podman",
  ignore: absent !== null,
  async fn(t) {
    await using podman = await Podman.start();
    const dataDir = `${podman.folder}/toolbox`;
    await Deno.mkdir(dataDir);
    const docker = new Docker(podman.host, `${dataDir}/profiles`);
    const toolbox: Toolbox = { docker, id: crypto.randomUUID(), dataDir };
    const images = new FixtureImages(toolbox);
    try {
      await t.step("its facts name podman, and what differs", async () => {
        const facts = HostFacts.parse(
          await hostFacts(
            docker,
            { reach: "tunnel", address: null },
            new Sandboxes(docker, { standard: true }),
          ),
        );
        assert.ok(facts.engine.state === "ready" && facts.engine.product === "podman");
        const warnings = facts.engine.warnings!.join("\n");
        assert.match(warnings, /servers start anew when DTMA does/);
        const { CgroupVersion } = await docker.info();
        assert.equal(/version 1 of cgroups/.test(warnings), CgroupVersion === "1");
      });
      await t.step("a server is held to the policy", () => heldToPolicy(toolbox, images));
      await t.step(
        "a build's steps are not on the host's network",
        () => offTheHost(toolbox, podman),
      );
      await t.step(
        "a server reaches what it declared, and not the host",
        () => wayOut(toolbox, podman),
      );
      await t.step("a server over HTTP is reached by its adapter", () => overHttp(toolbox, images));
      await t.step("a server starts anew with its DTMA", async () => {
        const [before, after] = await takenOver(toolbox, images);
        assert.notEqual(before, after);
      });
      await t.step("a server outlives its DTMA where conmon leaves its input open", async () => {
        await podman.serve({ leavesStdinOpen: true });
        const [before, after] = await takenOver(toolbox, images);
        assert.equal(before, after);
      });
    } finally {
      docker.close();
    }
  },
});

/** Deploys, calls, looks at what is set, and removes. */
async function heldToPolicy(toolbox: Toolbox, images: FixtureImages): Promise<void> {
  const { docker } = toolbox;
  const dtma = await Dtma.start(toolbox, images);
  try {
    const spec = fixtureSpec("echo", {
      secrets: { SAY: "a-secret-value" },
      secretFiles: { "key.pem": "a-secret-value" },
      volumes: [{ name: "memory", path: "/data" }],
      memoryMiB: 300,
    });
    dtma.reconciler.apply([spec]);
    const up = await dtma.ready(spec);
    assert.deepEqual(up.tools!.map(({ name }) => name), ["echo", "environment"]);
    assert.equal(await dtma.call(spec.serverId, "echo", { text: "hello" }), "hello");
    assert.equal(JSON.parse(await dtma.call(spec.serverId, "environment")).uid, 65532);

    const details = await docker.inspectContainer(up.containerId!);
    const { Pid } = details.State as unknown as { Pid: number };
    const { HostConfig, Config } = details;
    const { Memory, MemorySwap, NanoCpus, PidsLimit, ReadonlyRootfs } = HostConfig;
    assert.deepEqual({ Memory, MemorySwap, NanoCpus, PidsLimit, ReadonlyRootfs }, {
      Memory: 300 * 1024 ** 2,
      MemorySwap: 300 * 1024 ** 2,
      NanoCpus: 1e9,
      PidsLimit: 128,
      ReadonlyRootfs: true,
    });
    assert.equal(Config.User, "65532:65532");
    assert.equal(HostConfig.Privileged, false);
    for (const field of ["CapAdd", "Devices", "GroupAdd", "ExtraHosts"]) {
      assert.ok(!(HostConfig[field] as unknown[] | null)?.length, field);
    }
    assert.ok(!JSON.stringify(details).includes("a-secret-value"));

    // The kernel's word for it, of the server and not of its init.
    const [server] = (await Deno.readTextFile(`/proc/${Pid}/task/${Pid}/children`)).split(" ");
    const status = await Deno.readTextFile(`/proc/${server}/status`);
    for (const [field, wanted] of Object.entries(HELD)) {
      assert.match(status, new RegExp(`^${field}:\\s*${wanted}$`, "m"), field);
    }
    const limits = await Deno.readTextFile(`/proc/${server}/limits`);
    assert.match(limits, /Max open files\s+1024\s+1024/);
    assert.match(limits, /Max core file size\s+0\s+0/);
    const { CgroupVersion } = await docker.info();
    for (const name of ["net", "ipc", "pid", "mnt", "uts", "cgroup"]) {
      // Of which the toolbox's facts warn.
      if (name === "cgroup" && CgroupVersion === "1") continue;
      const [ours, theirs] = await Promise.all(
        ["self", server].map((process) => Deno.readLink(`/proc/${process}/ns/${name}`)),
      );
      assert.notEqual(ours, theirs, `its own ${name} namespace`);
    }
    const mounts = (await Deno.readTextFile(`/proc/${server}/mounts`)).trim().split("\n")
      .map((line) => line.split(" "));
    assert.match(mounts.find(([, path]) => path === "/")![3], /^ro,/);
    const writable = mounts.filter(([, , type, options]) =>
      type === "tmpfs" && options.startsWith("rw")
    );
    for (const [, path, , options] of writable) {
      if (path !== "/dev") assert.match(options, /noexec/, path);
    }
    assert.deepEqual(
      (await Deno.readTextFile(`/proc/${server}/net/dev`)).match(/^\s*\w+(?=:)/gm)!
        .map((name) => name.trim()),
      ["lo"],
    );
    const stats = await docker.stats(up.containerId!);
    assert.ok(stats.memory_stats!.usage! > 0 && stats.cpu_stats!.cpu_usage!.total_usage! > 0);

    dtma.reconciler.apply([], [{ serverId: spec.serverId, deleteVolumes: true }]);
    await eventually(() => dtma.removed.includes(spec.serverId));
    const nothing = { containers: [], networks: [], images: [] };
    assert.deepEqual(await leftovers(docker, toolbox.id), nothing);
    assert.deepEqual(await docker.listVolumes([`${Label.toolbox}=${toolbox.id}`]), []);
  } finally {
    await dtma.reconciler.close();
  }
}

/** Lines of /proc/PID/status. */
const HELD = {
  Uid: "65532\\s+65532\\s+65532\\s+65532",
  CapInh: "0+",
  CapPrm: "0+",
  CapEff: "0+",
  CapBnd: "0+",
  NoNewPrivs: "1",
  Seccomp: "2",
};

async function offTheHost({ docker }: Toolbox, podman: Podman): Promise<void> {
  const lines: string[] = [];
  const dockerfile = `FROM ${BASE}\nRUN ["node", "-e", ` +
    `"console.log(fs.readlinkSync('/proc/self/ns/net'))"]\n`;
  await docker.buildImage(writeTar({ Dockerfile: dockerfile }), {
    tag: "mooring-test/network",
    buildArguments: {},
    labels: {},
    limits: { memoryBytes: 1024 ** 3, cpus: 1, fileBytes: 1024 ** 2, network: true },
    onLine: (line) => lines.push(line),
  });
  const said = lines.find((line) => line.startsWith("net:["));
  assert.ok(said, lines.join("\n"));
  // The service's own network namespace is what is the host's to it.
  const info = await Deno.stat(`/var/run/netns/${podman.namespace}`);
  assert.ok(!said.includes(`net:[${info.ino}]`), "not the service's own");
}

async function wayOut({ docker, id }: Toolbox, podman: Podman): Promise<void> {
  const denials: Denial[] = [];
  const egress = openEgress({
    docker,
    toolboxId: id,
    onDenied: (denial) => denials.push(denial),
    log: () => {},
    privateNetworks: [`${OUTSIDE}/32`],
    addresses: { "api.example.test": [OUTSIDE] },
  });
  await using _ = await podman.listen(8080);
  const server = await openInside(docker, id, egress, ["api.example.test:8080"]);
  try {
    // The bridge of the proxy's way out has an address, the server's network has none.
    const prefix = server.address.split(".").slice(0, 3).join(".");
    const addresses = await podman.hostAddresses();
    assert.ok(!addresses.some((address) => address.startsWith(`${prefix}.`)), String(addresses));
    assert.ok(addresses.length > 1, "its loopback's and the way out's");
    for (const address of addresses) {
      assert.match(await server.run("return await connect(8080, input)", address), /^E/, address);
    }
    const get =
      "return await get({ host: 'api.example.test', port: 8080, headers: { host: 'api.example.test:8080' } })";
    assert.equal(await server.run(get), "200 hello");
    assert.deepEqual(await server.run("return dns.getServers()"), [
      server.proxyAddress,
    ]);
    await server.run("return await get({ host: 'other.example.test', port: 8080 })");
    await eventually(() => denials.length > 0);
    assert.equal(denials[0].serverId, server.serverId);
  } finally {
    server.close();
    await docker.removeContainer(server.containerId);
    await egress.close(server.container);
    await egress.detach();
  }
}

/** Deploys, calls, ends the adapter and removes. */
async function overHttp(toolbox: Toolbox, images: FixtureImages): Promise<void> {
  const { docker } = toolbox;
  const dtma = await Dtma.start(toolbox, images);
  try {
    const spec = fixtureSpec("http", {
      environment: { PORT: "3000" },
      secrets: { TOKEN: "a-secret-value" },
      transport: { type: "streamable-http", port: 3000, path: "/deep/mcp" },
    });
    dtma.reconciler.apply([spec]);
    const { containerId } = await dtma.ready(spec);
    const answer = await dtma.call(spec.serverId, "environment");
    assert.match(answer, /"secret":"a-secret-value","sessions":1,"interfaces":\["lo"\]/);
    const adapter = adapterName(`mooring-${spec.serverId}-1`);
    assert.equal(
      (await docker.inspectContainer(adapter)).HostConfig.NetworkMode,
      `container:${containerId}`,
    );
    await docker.killContainer(adapter);
    await eventually(async () =>
      await dtma.call(spec.serverId, "environment").then(() => true, () => false)
    );
    dtma.reconciler.apply([]);
    await eventually(() => dtma.removed.includes(spec.serverId));
    const nothing = { containers: [], networks: [], images: [] };
    assert.deepEqual(await leftovers(docker, toolbox.id), nothing);
  } finally {
    await dtma.reconciler.close();
  }
}

/** The container before a DTMA ends, and the one that the next DTMA has. */
async function takenOver(toolbox: Toolbox, images: FixtureImages): Promise<(string | null)[]> {
  const spec = fixtureSpec("echo");
  const first = await Dtma.start(toolbox, images);
  first.reconciler.apply([spec]);
  const before = await first.ready(spec).finally(() => first.reconciler.close());
  const second = await Dtma.start(toolbox, images);
  try {
    second.reconciler.apply([spec]);
    const after = await second.ready(spec);
    await eventually(async () =>
      await second.call(spec.serverId, "echo", { text: "still" }).catch(() => "") === "still"
    );
    const { containers } = await leftovers(toolbox.docker, toolbox.id);
    assert.equal(containers.length, 1);
    second.reconciler.apply([]);
    await eventually(() => second.removed.includes(spec.serverId));
    return [
      before.containerId,
      second.history.findLast(({ containerId }) => containerId)?.containerId ?? after.containerId,
    ];
  } finally {
    await second.reconciler.close();
  }
}
