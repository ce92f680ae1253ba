import assert from "node:assert/strict";
import { Ceiling } from "../../dtma/ceiling.ts";
import { Docker, DockerError, EngineAbsentError } from "../../dtma/docker.ts";
import { hostFacts } from "../../dtma/host_facts.ts";
import { Label } from "../../dtma/policy.ts";
import { Sandboxes } from "../../dtma/sandboxes.ts";
import { readTar, writeTar } from "../../dtma/tar.ts";
import { absent, BASE, engineTest, type Toolbox } from "./engine.ts";

async function container({ docker, id }: Toolbox, script: string): Promise<string> {
  return await docker.createContainer(`mooring-test-${crypto.randomUUID()}`, {
    Image: BASE,
    Entrypoint: ["node", "-e", script],
    Labels: { [Label.toolbox]: id },
    OpenStdin: true,
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    HostConfig: { NetworkMode: "none", LogConfig: { Type: "none" } },
  });
}

engineTest("Docker.version and info say what the engine is", async ({ docker }) => {
  const version = await docker.version();
  assert.match(version.ApiVersion, /^1\.\d+$/);
  const info = await docker.info();
  assert.ok(info.NCPU > 0 && info.MemTotal > 0 && info.Architecture);
});

engineTest(
  "Docker.attachContainer passes bytes both ways and keeps the streams apart",
  async (toolbox) => {
    const { docker } = toolbox;
    const id = await container(
      toolbox,
      `process.stdin.on("data", (d) => { process.stdout.write(d); process.stderr.write("<" + d.length + ">"); })`,
    );
    const attachment = await docker.attachContainer(id);
    await docker.startContainer(id);
    const writer = attachment.stdin.getWriter();
    const sent = crypto.getRandomValues(new Uint8Array(60_000));
    const reader = attachment.stdout.getReader();
    await writer.write(sent);
    const received: number[] = [];
    while (received.length < sent.length) received.push(...(await reader.read()).value!);
    assert.deepEqual(Uint8Array.from(received), sent);
    // Before the end: what the engine has not passed on by a kill is lost.
    const errors = attachment.stderr.getReader();
    assert.match(new TextDecoder().decode((await errors.read()).value), /<\d+>/);
    await docker.killContainer(id);
    assert.equal((await reader.read()).done, true);
    await attachment.closed;
    assert.equal(await docker.waitContainer(id), 137);
    assert.equal((await docker.inspectContainer(id)).State.Running, false);
  },
);

engineTest(
  "Docker.attachContainer holds a container back whose stdout is not read",
  async (toolbox) => {
    const { docker } = toolbox;
    const id = await container(
      toolbox,
      `const chunk = Buffer.alloc(65536, 120); let written = 0;
     (function next() { while (written < 64e6) { written += chunk.length; if (!process.stdout.write(chunk)) return process.stdout.once("drain", next); } })();`,
    );
    const attachment = await docker.attachContainer(id);
    await docker.startContainer(id);
    await new Promise((resolve) => setTimeout(resolve, 700));
    assert.equal(
      (await docker.inspectContainer(id)).State.Running,
      true,
      "it waits for its reader",
    );
    let bytes = 0;
    for await (const chunk of attachment.stdout) bytes += chunk.length;
    assert.equal(bytes, Math.ceil(64e6 / 65536) * 65536);
  },
);

engineTest("Docker.attachContainer does not wait for a reader of stderr", async (toolbox) => {
  const { docker } = toolbox;
  const id = await container(
    toolbox,
    `const line = "x".repeat(65535) + "\\n"; let n = 0;
     (function next() { if (n++ < 500) process.stderr.write(line, next); else process.stdout.write("done"); })();
     process.stdin.destroy();`,
  );
  const attachment = await docker.attachContainer(id);
  await docker.startContainer(id);
  assert.equal(await new Response(attachment.stdout).text(), "done");
  attachment.close();
});

engineTest("Docker.attachContainer again goes on with the same process", async (toolbox) => {
  const { docker } = toolbox;
  const id = await container(toolbox, `process.stdin.on("data", (d) => process.stdout.write(d))`);
  const first = await docker.attachContainer(id);
  await docker.startContainer(id);
  await first.stdin.close();
  first.close();
  await first.closed;
  const second = await docker.attachContainer(id);
  await second.stdin.getWriter().write(new TextEncoder().encode("again"));
  const { value } = await second.stdout.getReader().read();
  assert.equal(new TextDecoder().decode(value), "again");
  second.close();
});

engineTest("Docker waits without end for no container whose runtime hangs", async (toolbox) => {
  const impatient = new Docker(undefined, null, { answerMs: 2000 });
  const { docker } = toolbox;
  const id = await container(toolbox, `setInterval(() => {}, 1000)`);
  await docker.startContainer(id);
  const shims = await new Deno.Command("pgrep", { args: ["-f", `containerd-shim.*${id}`] })
    .output();
  const shim = Number(new TextDecoder().decode(shims.stdout).trim());
  assert.ok(shim > 1, "the container has a process that stands between it and the engine");
  Deno.kill(shim, "SIGSTOP");
  try {
    const late = { name: "DockerError", status: 504 };
    await assert.rejects(impatient.stats(id), late);
    await assert.rejects(impatient.stopContainer(id, 0), late);
    await assert.rejects(impatient.removeContainer(id), late);
    await assert.rejects(impatient.inspectContainer(id), late);
  } finally {
    Deno.kill(shim, "SIGCONT");
    impatient.close();
  }
  await docker.removeContainer(id);
  await assert.rejects(docker.inspectContainer(id), { status: 404 });
});

engineTest("Docker throws the engine's own words with its status", async ({ docker }) => {
  const refused = (status: number, words: RegExp) => (error: unknown) =>
    error instanceof DockerError && error.status === status && words.test(error.message);
  await assert.rejects(docker.inspectContainer("no-such"), refused(404, /No such container/));
  await assert.rejects(docker.attachContainer("no-such"), refused(404, /No such container/));
  await assert.rejects(
    docker.createContainer("mooring-test", { Image: "mooring/no-such" }),
    refused(404, /No such image/),
  );
  assert.equal(await docker.inspectImage("mooring/no-such"), null);
  await docker.removeContainer("no-such");
});

engineTest(
  "Docker.buildImage streams its lines, gives the id, and says why it failed",
  async (toolbox) => {
    const { docker } = toolbox;
    const build = (run: string, signal?: AbortSignal, onLine: (line: string) => void = () => {}) =>
      docker.buildImage(
        writeTar({
          Dockerfile: `FROM ${BASE}\nLABEL ${Label.toolbox}=${toolbox.id}\n` +
            `COPY file.txt /file.txt\nRUN ["node","-e",${JSON.stringify(run)}]\n`,
          "file.txt": "content",
        }),
        { tag: `mooring-test/build:${toolbox.id}`, buildArguments: {}, labels: {}, signal, onLine },
      );
    const lines: string[] = [];
    const id = await build(
      `console.log("said in the build")`,
      undefined,
      (line) => lines.push(line),
    );
    assert.match(id, /^sha256:[0-9a-f]{64}$/);
    assert.ok(lines.includes("said in the build"));
    const created = await docker.createContainer(`mooring-test-${crypto.randomUUID()}`, {
      Image: id,
      Entrypoint: ["node"],
      Labels: { [Label.toolbox]: toolbox.id },
    });
    assert.equal(new TextDecoder().decode(await docker.readFile(created, "/file.txt")), "content");
    assert.equal(await docker.removeImage(id), false, "a container uses it");
    await assert.rejects(build("process.exit(9)"), /returned a non-zero code: 9/);

    const abort = new AbortController();
    const startedMs = performance.now(), lastsMs = 900_000;
    await assert.rejects(
      build(`console.log("waits"); setTimeout(() => {}, ${lastsMs})`, abort.signal, (line) => {
        if (line === "waits") {
          abort.abort();
        }
      }),
      { name: "AbortError" },
    );
    assert.ok(performance.now() - startedMs < lastsMs, "its end is not waited for");
  },
);

Deno.test("Docker says why no engine answers, and what to do", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const missing = new Docker(`unix://${folder}/none.sock`);
    await assert.rejects(
      missing.info(),
      (error) =>
        error instanceof EngineAbsentError && /no Docker socket at/.test(error.reason) &&
        /Install Docker Engine/.test(error.advice),
    );
    missing.close();

    // A socket that nobody listens to any more, as a dead dockerd leaves it.
    const path = `${folder}/dead.sock`;
    const dead = new Deno.Command("node", {
      args: [
        "-e",
        `net.createServer().listen(${
          JSON.stringify(path)
        }, () => process.kill(process.pid, "SIGKILL"))`,
      ],
    });
    await dead.output();
    const refused = new Docker(`unix://${path}`);
    await assert.rejects(
      refused.info(),
      (error) => error instanceof EngineAbsentError && /Nothing listens/.test(error.reason),
    );
    refused.close();
    assert.throws(() => new Docker("tcp://127.0.0.1:2375"), EngineAbsentError);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("Docker.attachContainer says that the engine went away while it was asked", async () => {
  // No engine can be had that ends in just that moment: one that says its version and does.
  const folder = await Deno.makeTempDir();
  const path = `${folder}/engine.sock`;
  const listener = Deno.listen({ transport: "unix", path });
  const serving = (async () => {
    for await (const connection of listener) {
      const buffer = new Uint8Array(4096);
      const asked = new TextDecoder().decode(
        buffer.subarray(0, await connection.read(buffer) ?? 0),
      );
      if (/^GET \S*\/version /.test(asked)) {
        const version = JSON.stringify({
          Version: "28",
          ApiVersion: "1.51",
          MinAPIVersion: "1.24",
        });
        const head =
          `HTTP/1.1 200 OK\r\nContent-Length: ${version.length}\r\nConnection: close\r\n\r\n`;
        await connection.write(new TextEncoder().encode(head + version));
      }
      connection.close();
    }
  })();
  const docker = new Docker(`unix://${path}`);
  await assert.rejects(docker.attachContainer("any"), EngineAbsentError);
  docker.close();
  listener.close();
  await serving;
  await Deno.remove(folder, { recursive: true });
});

Deno.test("Docker leaves nothing open at an engine that takes requests and answers none", async () => {
  // An engine that hangs is not had at will: a socket at which nobody answers.
  const folder = await Deno.makeTempDir();
  const path = `${folder}/engine.sock`;
  const listener = Deno.listen({ transport: "unix", path });
  let open = 0;
  const serving = (async () => {
    for await (const connection of listener) {
      open++;
      void connection.readable.pipeTo(new WritableStream()).catch(() => {}).then(() => open--);
    }
  })();
  const docker = new Docker(`unix://${path}`, null, { answerMs: 200 });
  const sandboxes = new Sandboxes(docker, Ceiling.read(null).sandbox);
  const { engine } = await hostFacts(docker, { reach: "tunnel", address: null }, sandboxes);
  assert.ok(engine.state === "absent" && /does not answer|did not answer/.test(engine.reason));
  for (let tries = 0; open > 0 && tries < 50; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal(open, 0);
  await assert.rejects(docker.listContainers([]), EngineAbsentError);
  docker.close();
  listener.close();
  await serving;
  await Deno.remove(folder, { recursive: true });
});

Deno.test("writeTar and readTar agree with each other and with tar(1)", async () => {
  const big = crypto.getRandomValues(new Uint8Array(10_000));
  const tar = writeTar({ "a.txt": "text é", "empty": "", "big.bin": big });
  assert.equal(tar.length % 512, 0);
  const entries = readTar(tar);
  assert.deepEqual(entries.map(({ name }) => name), ["a.txt", "empty", "big.bin"]);
  assert.equal(new TextDecoder().decode(entries[0].content), "text é");
  assert.deepEqual(entries[2].content, big);
  assert.throws(() => readTar(tar.subarray(0, 4000)), RangeError);
  assert.throws(() => writeTar({ ["x".repeat(101)]: "" }), RangeError);

  const child = new Deno.Command("tar", { args: ["-tvf", "-"], stdin: "piped", stdout: "piped" })
    .spawn();
  const writer = child.stdin.getWriter();
  await writer.write(tar);
  await writer.close();
  const listed = new TextDecoder().decode((await child.output()).stdout);
  assert.match(listed, /-rw-r--r-- 0\/0\s+10000 1970-01-01 .*big\.bin/);
});

if (absent === null) {
  Deno.test("DOCKER_HOST is where a Docker looks by itself", () => {
    const docker = new Docker();
    assert.match(docker.socketPath, /^\//);
    docker.close();
  });
}
