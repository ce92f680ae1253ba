/** Where a secret may not be found: a server that gives its own away, and a search of all that tells. */
import assert from "node:assert/strict";
import type { Docker } from "../../dtma/docker.ts";
import { Label } from "../../dtma/policy.ts";
import { engineTest, FixtureImages, fixtureSpec } from "./engine.ts";
import { Dtma, eventually } from "./observed.ts";

const TOKEN = "Tok3n-0f-the-Audit";
const KEY = "-----BEGIN KEY-----\nk3y-0f-the-audit/+=\n-----END KEY-----\n";

/** What a secret is known by, in any form that is searched for. */
const TRACES = [
  TOKEN,
  TOKEN.toLowerCase(),
  btoa(TOKEN),
  "k3y-0f-the-audit",
  btoa(KEY),
  encodeURIComponent("k3y-0f-the-audit/+="),
];

engineTest("a secret reaches its server and nothing that can be looked at", async (toolbox) => {
  const { docker, id } = toolbox;
  const told: Record<string, string> = {};
  await using engineEvents = await listen(docker);
  const logged: string[] = [];
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox), {
    log: (level, message) => logged.push(`${level} ${message}`),
  });
  const spec = fixtureSpec("tells-secrets", {
    secrets: { TOKEN },
    secretFiles: { "key.pem": KEY },
    network: { hosts: ["allowed.example:443"] },
    volumes: [{ name: "data", path: "/data" }],
  });
  try {
    dtma.reconciler.apply([spec]);
    const { containerId } = await dtma.ready(spec);
    // It has them: the name that it looks up is refused, and that is told.
    assert.notEqual(await dtma.call(spec.serverId, "look_up"), "found");
    await eventually(() => dtma.denials.some(({ host }) => host.endsWith(".example.com")));
    await dtma.until(
      spec,
      ({ logTail }) => logTail.filter((line) => /••••/.test(line)).length >= 6,
    );

    const label = [`${Label.toolbox}=${id}`];
    told.containers = JSON.stringify([
      await docker.listContainers(label),
      ...await Promise.all(
        (await docker.listContainers(label)).map(({ Id }) => docker.inspectContainer(Id)),
      ),
    ]);
    told.processes = await ask(docker, `/containers/${containerId}/top`);
    told.images = JSON.stringify(
      await Promise.all(
        (await docker.listImages(label)).map(async ({ Id }) => [
          await docker.inspectImage(Id),
          await ask(docker, `/images/${Id}/history`),
        ]),
      ),
    );
    told.networks = JSON.stringify(
      await Promise.all(
        (await docker.listNetworks(label)).map(({ Name }) => ask(docker, `/networks/${Name}`)),
      ),
    );
    told.volumes = JSON.stringify(await docker.listVolumes(label));

    await assert.rejects(dtma.call(spec.serverId, "dies"), (error) => {
      told.callError = String(error);
      return true;
    });
    await dtma.until(spec, ({ layers }) => layers.container.state === "failed");
    // A change whose secret is another one, and that cannot be had: the old one is still masked.
    const next = { ...spec, generation: 2, secrets: { TOKEN: "another-value" }, volumes: [] };
    dtma.reconciler.apply([next]);
    await dtma.ready(next);
    dtma.reconciler.apply([{ ...next, generation: 3, running: false }]);
    await dtma.until({ ...next, generation: 3 }, ({ layers }) => layers.tools.state === "stopped");
    const route = await dtma.reconciler.reach(spec.serverId);
    told.unavailable = JSON.stringify(route);
    told.wholeLog = (await dtma.reconciler.log(spec.serverId))!;
    assert.match(told.wholeLog, /plain ••••/);
    assert.match(told.wholeLog, /fatal: ••••/);
  } finally {
    await dtma.reconciler.close();
  }
  told.observations = JSON.stringify(dtma.history.map((each) => ({ ...each, serverInfo: null })));
  told.events = JSON.stringify(dtma.events);
  told.denials = JSON.stringify(dtma.denials);
  told.log = logged.join("\n");
  told.engineEvents = engineEvents.text;
  Object.assign(told, await filesBelow(toolbox.dataDir));
  assert.ok(told.engineEvents.includes(spec.serverId), "the engine's events were heard");
  assert.ok(Object.keys(told).length > 12);
  for (const [where, text] of Object.entries(told)) {
    for (const trace of TRACES) {
      assert.ok(!text.includes(trace), `${trace} is in ${where}:\n${text}`);
    }
  }
});

async function ask(docker: Docker, path: string): Promise<string> {
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path: docker.socketPath } });
  return await (await fetch(`http://localhost${path}`, { client })).text();
}

/** All that the engine tells of containers, images, networks and volumes while the test runs. */
async function listen(docker: Docker) {
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path: docker.socketPath } });
  const end = new AbortController();
  const response = await fetch("http://localhost/events", { client, signal: end.signal });
  const heard = {
    text: "",
    async [Symbol.asyncDispose]() {
      end.abort();
      await reading;
      client.close();
    },
  };
  const reading = (async () => {
    for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
      heard.text += text;
    }
  })().catch(() => {});
  return heard;
}

async function filesBelow(directory: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for await (const { name, isDirectory, isFile } of Deno.readDir(directory)) {
    const path = `${directory}/${name}`;
    if (isDirectory) Object.assign(files, await filesBelow(path));
    else if (isFile) files[path] = await Deno.readTextFile(path);
  }
  return files;
}
