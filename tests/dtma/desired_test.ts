/** What this DTMA refuses of a desired set by itself, whatever the app says. */
import assert from "node:assert/strict";
import { readDesired } from "../../dtma/desired.ts";
import type { ServerSpec } from "../../dtma/protocol.ts";
import { engineTest, FixtureImages, fixtureSpec, leftovers } from "./engine.ts";
import { Dtma } from "./observed.ts";

const answer = (servers: unknown[]) => ({
  version: "1",
  appPublicKey: "A".repeat(43),
  servers,
});

/** Specs as a control plane that was taken over would send them, and what is said of each. */
const EVIL: [what: Record<string, unknown>, refusal: RegExp][] = [
  [{ privileged: true }, /^it asks for privileged, which no server may have$/],
  [{ privileged: false }, /privileged/],
  [{ Privileged: true }, /Privileged/],
  [{ binds: ["/:/host"] }, /binds/],
  [{ mounts: [{ type: "bind", source: "/", target: "/host" }] }, /mounts/],
  [{ devices: ["/dev/sda"] }, /devices/],
  [{ cap_add: ["SYS_ADMIN"] }, /cap_add/],
  [{ hostConfig: { Privileged: true } }, /hostConfig, Privileged/],
  [{ HostConfig: { Binds: ["/:/host"], PidMode: "host" } }, /HostConfig, Binds, PidMode/],
  [{ network: { hosts: [], networkMode: "host" } }, /networkMode/],
  [{ volumes: [{ name: "data", path: "/data", source: "/etc" }] }, /source/],
  [
    { volumes: [{ name: "/etc", path: "/data" }] },
    /^its spec does not hold: volumes\.0\.name: /,
  ],
  [{ volumes: [{ name: "data", path: "/etc" }] }, /volumes\.0\.path/],
  [{ volumes: [{ name: "data", path: "/data/../etc" }] }, /volumes\.0\.path: must not go up/],
  [{ volumes: [{ name: "docker", path: "/var/run/docker.sock" }] }, /volumes\.0\.path/],
  [{ package: { registry: "npm", name: "../../x", version: "1.0.0" } }, /package\.name/],
  [{ package: { registry: "oci", image: "docker.io/x/y", digest: "latest" } }, /package\.digest/],
  [{ network: { hosts: ["*"] } }, /network\.hosts\.0/],
  [{ memoryMiB: 1e9 }, /memoryMiB/],
  [{ secrets: { "A=B\nC": "x" } }, /secrets/],
  [{ transport: { type: "sse", port: 0, path: "/sse" } }, /transport\.port/],
  [{ transport: { type: "sse", port: 65_536, path: "/sse" } }, /transport\.port/],
  [{ transport: { type: "sse", port: 80.5, path: "/sse" } }, /transport\.port/],
  [{ transport: { type: "sse", port: "80", path: "/sse" } }, /transport\.port/],
  [{ transport: { type: "sse", port: 80 } }, /transport\.path/],
  [{ transport: { type: "streamable-http", port: 80, path: "mcp" } }, /transport\.path/],
  [{ transport: { type: "streamable-http", port: 80, path: "/mcp?key=1" } }, /transport\.path/],
  [{ transport: { type: "streamable-http", port: 80, path: "/a b\n" } }, /transport\.path/],
  [{ transport: { type: "host" } }, /transport\.type/],
];

Deno.test("readDesired refuses what asks for the host, by name, and takes the others", () => {
  const good = fixtureSpec("echo");
  const bad = EVIL.map(([what]) => ({ ...fixtureSpec("echo"), ...what }));
  const { servers, version } = readDesired(answer([good, ...bad]));
  assert.equal(version, "1");
  assert.deepEqual(servers[0], good);
  for (const [index, [what, refusal]] of EVIL.entries()) {
    const read = servers[index + 1];
    assert.equal(read.serverId, bad[index].serverId, "it is still a server of this toolbox");
    assert.match(read.refusal ?? "", refusal, JSON.stringify(what));
  }
});

Deno.test("readDesired takes what a later app may add, and any name in an environment", () => {
  const spec = { ...fixtureSpec("echo"), environment: { USER: "ann", PORTS: "1", DEVICES: "x" } };
  const { servers } = readDesired(answer([{ ...spec, something: { new: true } }]));
  assert.deepEqual(servers, [spec]);
});

Deno.test("readDesired follows nothing of an answer that is none", () => {
  const good = fixtureSpec("echo");
  for (
    const none of [
      null,
      {},
      { ...answer([]), version: 1 },
      { ...answer([]), servers: "x" },
      answer([good, null]),
      answer([good, { ...good, serverId: "x" }]),
      answer([good, { ...good, generation: 0 }]),
    ]
  ) assert.throws(() => readDesired(none), { name: /ZodError/ }, JSON.stringify(none));
});

engineTest("A spec that asks for the host is refused by the toolbox itself", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  try {
    const good = fixtureSpec("echo");
    const evil = EVIL.map(([what]) => ({ ...fixtureSpec("echo"), ...what }));
    dtma.reconciler.apply(readDesired(answer([good, ...evil])).servers);
    await dtma.ready(good);
    for (const [index, [, refusal]] of EVIL.entries()) {
      const seen = await dtma.until(evil[index] as ServerSpec, ({ gaveUp }) => gaveUp);
      assert.equal(seen.layers.container.state, "failed");
      const reason = seen.layers.container.detail;
      assert.match(reason, /^This toolbox refuses it: /);
      assert.match(reason.replace("This toolbox refuses it: ", ""), refusal);
      assert.match(seen.layers.container.nextStep!, /Mooring itself never asks for this/);
    }
    // One that runs goes on as it was when its next generation asks for the host.
    const worse = { ...good, generation: 2, privileged: true };
    dtma.reconciler.apply(readDesired(answer([worse])).servers);
    const refused = await dtma.until(worse, ({ gaveUp }) => gaveUp);
    assert.equal(refused.servingGeneration, 1);
    assert.equal(await dtma.call(good.serverId, "echo", { text: "still" }), "still");
    const { containers } = await leftovers(toolbox.docker, toolbox.id);
    assert.equal(containers.length, 1);
    const { HostConfig } = await toolbox.docker.inspectContainer(containers[0]);
    assert.equal(HostConfig.Privileged, false);
  } finally {
    await dtma.reconciler.close();
  }
});
