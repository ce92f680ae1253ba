/** The Docker Engine here is none: a real one does not refuse to list its containers at will. */
import assert from "node:assert/strict";
import { DataDirectory } from "../../dtma/data_directory.ts";
import { DockerError } from "../../dtma/docker.ts";
import { Takeover } from "../../dtma/takeover.ts";

Deno.test("Takeover waits for an engine that refuses to list its containers", async () => {
  const path = await Deno.makeTempDir();
  const directory = await DataDirectory.open(path);
  const status = () => Deno.readTextFile(`${path}/status`).catch(() => "");
  const takeover = new Takeover(directory, "trial.1");
  const ending = new AbortController();
  let refusals = 2;
  const docker = {
    listContainers: () =>
      refusals-- > 0
        ? Promise.reject(new DockerError(500, "failed to list containers"))
        : Promise.resolve([]),
  };
  try {
    await takeover.turn(null);
    const watching = takeover.watch(
      { docker, toolboxId: "t", reconciler: { firstDown: () => null } },
      ending.signal,
    );
    const seen: string[] = [];
    while (!seen.at(-1)?.startsWith("ok ")) {
      const line = await Promise.race([watching.then(() => "over"), status()]);
      assert.notEqual(line, "over");
      if (line !== seen.at(-1)) seen.push(line);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.ok(seen.some((line) => /^waiting .*failed to list containers/.test(line)), seen.join());
    ending.abort();
    await watching;
  } finally {
    ending.abort();
    directory.close();
    await Deno.remove(path, { recursive: true });
  }
});
