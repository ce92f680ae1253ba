import assert from "node:assert/strict";
import { ensureEngine } from "../engine.ts";

const options = {
  install: false,
  log: (line: string) => assert.fail(`nothing is done to the machine, but: ${line}`),
  logDirectory: "/nonexistent",
};

const local = await Deno.stat("/var/run/docker.sock").then(() => true, () => false);
const reason = local || Deno.env.get("DOCKER_HOST") ? null : "no Docker Engine on this machine";
if (reason) console.log(`SKIPPED, ensureEngine with an engine: ${reason}`);

Deno.test({
  name: "ensureEngine finds an engine that runs",
  ignore: reason !== null,
  async fn() {
    const status = await ensureEngine(options);
    assert.ok(status.state === "ready", JSON.stringify(status));
    assert.match(status.version, /^\d+\.\d+/);
    assert.match(status.apiVersion, /^1\.\d+$/);
  },
});

for (
  const [host, reason] of [
    ["unix:///nonexistent/docker.sock", /no Docker socket at \/nonexistent\/docker.sock/],
    ["tcp://127.0.0.1:2375", /only unix:\/\/ sockets/],
  ] as const
) {
  Deno.test(`ensureEngine gives advice and touches nothing with DOCKER_HOST=${host}`, async () => {
    await withDockerHost(host, async () => {
      const status = await ensureEngine({ ...options, install: true });
      assert.ok(status.state === "absent", JSON.stringify(status));
      assert.match(status.reason, reason);
      assert.match(status.advice, /DOCKER_HOST/);
    });
  });
}

Deno.test("ensureEngine tells an engine that nothing listens for from one that hangs", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/docker.sock`;
  const listener = Deno.listen({ transport: "unix", path });
  try {
    const connections: Deno.Conn[] = [];
    const accepting = (async () => {
      for await (const connection of listener) connections.push(connection);
    })();
    await withDockerHost(`unix://${path}`, async () => {
      const status = await ensureEngine(options);
      assert.ok(status.state === "absent", JSON.stringify(status));
      assert.match(status.reason, /did not answer within/);
    });
    listener.close();
    await accepting;
    for (const connection of connections) connection.close();
    await withDockerHost(`unix://${path}`, async () => {
      const status = await ensureEngine(options);
      assert.ok(status.state === "absent", JSON.stringify(status));
      assert.doesNotMatch(status.reason, /did not answer within/);
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

async function withDockerHost(host: string, run: () => Promise<void>): Promise<void> {
  const before = Deno.env.get("DOCKER_HOST");
  Deno.env.set("DOCKER_HOST", host);
  try {
    await run();
  } finally {
    if (before === undefined) Deno.env.delete("DOCKER_HOST");
    else Deno.env.set("DOCKER_HOST", before);
  }
}
