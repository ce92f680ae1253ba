/** The Python base with the official MCP SDK, as Debian's unstable release packages it. */
import assert from "node:assert/strict";
import { writeTar } from "../../dtma/tar.ts";
import { readRecipe } from "../../images/base.ts";
import { assembleDebian } from "../../images/debian.ts";
import { converse } from "../dtma/converse.ts";
import { engineTest } from "../dtma/engine.ts";

const SDK = "mooring-test/python-mcp:sid";

engineTest("a server of the official Python SDK answers on the Python base", async (toolbox) => {
  const { docker, id } = toolbox;
  if (!await docker.inspectImage(SDK)) {
    // Made once and kept.
    const wanted = { name: SDK, release: "sid", packages: ["python3-mcp"] };
    const failure = await assembleDebian(docker, wanted, () => {}).then(() => null, String);
    if (failure) return console.log(`SKIPPED: Debian's python3-mcp cannot be had: ${failure}`);
  }
  const { context } = await readRecipe({ folder: "python", files: ["install.py"] });
  const base = `mooring-test/python:${id}`;
  const quiet = { labels: {}, onLine: () => {} };
  await docker.buildImage(context, { tag: base, buildArguments: { BASE: SDK }, ...quiet });
  const script = new URL("../fixtures/python/sdk_server.py", import.meta.url);
  try {
    const image = await docker.buildImage(
      writeTar({
        Dockerfile:
          `FROM ${base}\nLABEL dev.mooring.toolbox=${id}\nUSER 0\nCOPY server /app/server\n` +
          'RUN ["python3","-m","compileall","-q","--invalidation-mode","unchecked-hash",' +
          '"/usr/lib/python3/dist-packages"]\nUSER 65532:65532\n',
        server: await Deno.readTextFile(script),
      }),
      { tag: `mooring-test/python-server:${id}`, buildArguments: {}, ...quiet },
    );
    const startedMs = Date.now();
    const params = {
      protocolVersion: "2025-06-18",
      capabilities: {},
      clientInfo: { name: "test", version: "1" },
    };
    const built = {
      id: image,
      command: ["python3", "/app/server"],
      hasLauncher: true,
      workingDirectory: null,
    };
    const [initialized] = await converse(toolbox, built, [{ method: "initialize", params }]);
    console.log(`create to initialize: ${Date.now() - startedMs} ms`);
    assert.equal((initialized.result.serverInfo as { name: string }).name, "sdk-server");
  } finally {
    await docker.removeImage(`mooring-test/python-server:${id}`);
    await docker.removeImage(base);
  }
});
