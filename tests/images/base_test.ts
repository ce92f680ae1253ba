import assert from "node:assert/strict";
import { Docker, DockerError, EngineAbsentError } from "../../dtma/docker.ts";
import { BASES } from "../../dtma/image_recipes.ts";
import { writeTar } from "../../dtma/tar.ts";
import { RECIPE_LABEL, removeReplaced } from "../../images/base.ts";

const NAME = "mooring/node:24";
const BASE_PROGRAM = new URL("../../images/base.ts", import.meta.url).pathname;

/** Signed no registry's certificate: made for this test, its key thrown away. */
const UNRELATED_CA = `-----BEGIN CERTIFICATE-----
MIIBrjCCAVOgAwIBAgIUEwOwOS5Zj40u9tdeMihcsRhwyXYwCgYIKoZIzj0EAwIw
KzEpMCcGA1UEAwwgTW9vcmluZyB0ZXN0cywgdHJ1c3RlZCBieSBub2JvZHkwIBcN
MjYxMTIzMTY0NDUwWhgPMjEyNjEwMzAxNjQ0NTBaMCsxKTAnBgNVBAMMIE1vb3Jp
bmcgdGVzdHMsIHRydXN0ZWQgYnkgbm9ib2R5MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAE8rDG9uFT+zGPLDC5zE4kUex7rYnkGHyp8gPWlyKhVOUmQU+WcTePGztN
Amj/A0zI9LhCtcsAp2SWWZlWeyQp7aNTMFEwHQYDVR0OBBYEFMLKTf0+sG8e03Az
8n5gywdP1McgMB8GA1UdIwQYMBaAFMLKTf0+sG8e03Az8n5gywdP1McgMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAME8goVbuphRMOhI60pJYkEF
hikkNoI9oyEK6EKZTsiOAiEA2kx+c083VCPzwSIi4B7GDfg5T20K8VEkZUckoU5D
U2o=
-----END CERTIFICATE-----
`;

const absent: string | null = await (async () => {
  const docker = new Docker();
  try {
    await docker.info();
    return null;
  } catch (error) {
    if (error instanceof EngineAbsentError) return error.reason;
    throw error;
  } finally {
    docker.close();
  }
})();
if (absent) console.log(`SKIPPED, all tests of the base image: ${absent}`);

function engineTest(name: string, run: (docker: Docker) => Promise<void>) {
  Deno.test({
    name: absent ? `${name} (skipped: ${absent})` : name,
    ignore: absent !== null,
    async fn() {
      const docker = new Docker();
      try {
        await run(docker);
      } finally {
        docker.close();
      }
    },
  });
}

async function makeBase(environment: Record<string, string> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", BASE_PROGRAM],
    env: environment,
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, lines: text(stdout).trim().split("\n"), errors: text(stderr).trim() };
}

engineTest("images/base.ts makes the base once, and finds it on the second run", async (docker) => {
  const first = await makeBase();
  assert.equal(first.code, 0, first.errors);
  assert.equal(first.lines.at(-1), `${NAME} is ready`);
  const image = await docker.inspectImage(NAME);
  assert.match(image?.Config.Labels?.[RECIPE_LABEL] ?? "", /^[0-9a-f]{64}$/);
  const startedMs = Date.now();
  assert.deepEqual(await makeBase(), { code: 0, lines: [`${NAME} is ready`], errors: "" });
  console.log(`second run: ${Date.now() - startedMs} ms`);
  assert.equal((await docker.inspectImage(NAME))?.Id, image?.Id);
});

for (
  const [base, family] of [[BASES.node, "node"], [BASES.python, "python"], [BASES.dotnet, "dotnet"]]
) {
  engineTest(`${base} says what it is, and keeps the health contract`, async (docker) => {
    const image = await docker.inspectImage(base);
    if (!image) return console.log(`SKIPPED: ${base} is missing, deno task base makes it`);
    const { Labels, User, Healthcheck, Env, Volumes, ExposedPorts } = image.Config as
      & typeof image.Config
      & Record<"User" | "Healthcheck" | "Env" | "Volumes" | "ExposedPorts", unknown>;
    assert.match(Labels![RECIPE_LABEL], /^[0-9a-f]{64}$/);
    assert.equal(Labels!["dev.mooring.base.family"], family);
    // How a server on it is asked whether it lives: not by processes of the engine's.
    assert.equal(Labels!["dev.mooring.health"], "stdio: MCP ping");
    assert.equal(Healthcheck ?? null, null);
    for (const name of ["title", "description"]) {
      assert.ok(Labels![`org.opencontainers.image.${name}`].length > 10, name);
    }
    assert.equal(User, "65532:65532");
    assert.deepEqual([Volumes ?? null, ExposedPorts ?? null], [null, null]);
    const certificates = (Env as string[]).filter((each) => each.startsWith("NODE_EXTRA_CA_CERTS"));
    assert.deepEqual(certificates, []);
  });
}

engineTest(
  "images/base.ts removes what a rebuilt base replaces, and nothing else",
  async (docker) => {
    const id = crypto.randomUUID();
    const build = async (lines: string[]) => {
      const dockerfile = ["FROM scratch", `LABEL ${RECIPE_LABEL}=old test=${id}`, ...lines, ""];
      const tag = `mooring-test/replaced:${id}`;
      const options = { buildArguments: {}, labels: {}, onLine: () => {} };
      const context = writeTar({ Dockerfile: dockerfile.join("\n"), a: "" });
      return await docker.buildImage(context, { tag, ...options });
    };
    const old = await build(["COPY a /old"]);
    const used = await build(["COPY a /used"]);
    const servers = await build(["LABEL dev.mooring.toolbox=of-a-server", "COPY a /server"]);
    const present = await build(["COPY a /present"]);
    const container = await docker.createContainer(`mooring-test-${id}`, {
      Image: used,
      Entrypoint: ["never-started"],
    });
    try {
      await removeReplaced(docker);
      assert.notEqual(await docker.inspectImage(old), null, "a build may be at it");
      await removeReplaced(docker, 0);
      const there = await Promise.all(
        [old, used, servers, present].map((each) => docker.inspectImage(each)),
      );
      assert.deepEqual(there.map((each) => each !== null), [false, true, true, true]);
    } finally {
      await docker.removeContainer(container);
      for (const each of [used, servers, present]) await docker.removeImage(each);
    }
  },
);

Deno.test("images/base.ts says in one line what it cannot make", async () => {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", BASE_PROGRAM, "ruby"],
  }).output();
  assert.equal(code, 1);
  const said = new TextDecoder().decode(stderr).trim();
  assert.equal(said, "There is no base image ruby: name some of deno, node, python, dotnet");
});

Deno.test("images/base.ts says in one line that no engine answers", async () => {
  const { code, errors } = await makeBase({ DOCKER_HOST: "unix:///nonexistent/docker.sock" });
  assert.equal(code, 1);
  assert.match(errors, /^There is no Docker socket at \/nonexistent.*DOCKER_HOST.*$/);
});

engineTest(
  "mooring/node:24 runs as a user with a name, and trusts no private CA",
  async (docker) => {
    const { stdout } = await runOnce(docker, NAME, [
      "node",
      "-e",
      `console.log(JSON.stringify([os.userInfo(), process.cwd(), process.version,
      fs.readFileSync("/etc/ssl/certs/ca-certificates.crt", "utf8")]))`,
    ]);
    const [user, directory, version, certificates] = JSON.parse(stdout);
    assert.deepEqual([user.uid, user.gid, user.username], [65532, 65532, "mooring"]);
    assert.equal(directory, "/app");
    assert.match(version, /^v24\./);
    assert.ok(certificates.includes("BEGIN CERTIFICATE"));
    const trusted = pems(certificates);
    const local = await Array.fromAsync(localAuthorities());
    console.log(
      `certificates: ${trusted.length} in the base, ${local.length} private on this host`,
    );
    for (const pem of local) assert.ok(!trusted.includes(pem));
  },
);

engineTest(
  "install.mjs makes an image whose server answers initialize on stdin",
  async (docker) => {
    const startedMs = Date.now();
    const image = await installed(docker, "@modelcontextprotocol/server-everything", "2026.8.31");
    console.log(`build: ${Date.now() - startedMs} ms`);
    try {
      const readMs = Date.now();
      const { stdout } = await runOnce(docker, image, ["node", "/app/server"], {
        message: {
          jsonrpc: "2.0",
          id: 1,
          method: "initialize",
          params: {
            protocolVersion: "2025-06-18",
            capabilities: {},
            clientInfo: { name: "test", version: "1" },
          },
        },
      });
      console.log(`create to initialize: ${Date.now() - readMs} ms`);
      const { id, result } = JSON.parse(stdout);
      assert.equal(id, 1);
      assert.ok(result.serverInfo.name.length > 0);
      assert.ok(result.capabilities.tools);
    } finally {
      await docker.removeImage(image);
    }
  },
);

engineTest("install.mjs takes the lock file, and npm's cache is gone", async (docker) => {
  const image = await installed(docker, "semver", "7.7.2", {
    "package-lock.json": JSON.stringify({
      lockfileVersion: 3,
      packages: {
        "": { dependencies: { semver: "7.7.2" } },
        "node_modules/semver": {
          version: "7.7.2",
          resolved: "https://registry.npmjs.org/semver/-/semver-7.7.2.tgz",
          integrity:
            "sha512-RF0Fw+rO5AMf9MAyaRXI4AV0Ulj5lMHqVxxdSgiVbixSCXoEmmX/jk0CuJw4+3SqroYO9VoUh+HcuJivvtJemA==",
          bin: { semver: "bin/semver.js" },
        },
      },
    }),
  });
  try {
    const { stdout } = await runOnce(docker, image, ["node", "/app/server", "1.2.3", "-i"]);
    assert.equal(stdout.trim(), "1.2.4");
    const left = await runOnce(docker, image, [
      "node",
      "-e",
      `console.log(JSON.stringify([fs.readdirSync("/tmp"), fs.existsSync("/root/.npm")]))`,
    ]);
    assert.deepEqual(JSON.parse(left.stdout), [["extra-ca.pem"], false]);
  } finally {
    await docker.removeImage(image);
  }
});

for (
  const [name, version, line] of [
    ["@mooring-none/no-such-package-at-all", "1.0.0", /^mooring-install: package-not-found: .*/m],
    ["left-pad", "999.0.0", /^mooring-install: version-not-found: .*left-pad@999\.0\.0$/m],
    ["left-pad", "1.3.0", /^mooring-install: no-bin: left-pad@1\.3\.0 has no bin/m],
  ] as const
) {
  const code = /: ([a-z-]+):/.exec(line.source)![1];
  engineTest(`install.mjs ends with ${code} for ${name}@${version}`, async (docker) => {
    const output: string[] = [];
    const build = installed(docker, name, version, {}, output);
    await assert.rejects(build, (error) => error instanceof DockerError);
    assert.match(output.map(plain).join("\n"), line);
  });
}

engineTest("install.mjs ends with untrusted-certificate for a CA it lacks", async (docker) => {
  const output: string[] = [];
  // npm takes this file in place of every other authority, so any registry is a stranger's.
  const files = { ".npmrc": "cafile=/app/other.pem\n", "other.pem": UNRELATED_CA };
  const build = installed(docker, "left-pad", "1.3.0", files, output);
  await assert.rejects(build, (error) => error instanceof DockerError);
  const line = /^mooring-install: untrusted-certificate: .*NODE_EXTRA_CA_CERTS/m;
  assert.match(output.map(plain).join("\n"), line);
});

/** Runs the installer in a container without a network; packages are folders, made by `setUp`. */
async function installOffline(
  docker: Docker,
  setUp: string,
  name: string,
  version: string,
  bin = "",
) {
  const { stdout } = await runOnce(docker, NAME, [
    "sh",
    "-c",
    `export MOORING_BIN='${bin}'; ${setUp}; node /usr/local/lib/mooring/install.mjs "$1" "$2" 2>&1; readlink /app/server`,
    "sh",
    name,
    version,
  ], { user: "0", readOnly: false });
  return stdout.trim().split("\n").at(-1)!;
}

engineTest("install.mjs ends with network where there is none", async (docker) => {
  const line = await installOffline(docker, "true", "left-pad", "1.3.0");
  assert.match(line, /^mooring-install: network: /);
});

engineTest("install.mjs picks the command, and only a JavaScript one", async (docker) => {
  const folder = (bin: unknown, first: string) =>
    `mkdir /p; cd /p; echo '${JSON.stringify({ name: "@x/p", version: "1.0.0", bin })}' ` +
    `> package.json; for f in a b; do printf '${first}\\n' > $f; done`;
  const pick = (bin: unknown, first: string, wanted?: string) =>
    installOffline(docker, folder(bin, first), "@x/p", "file:/p", wanted);
  const node = "#!/usr/bin/env node";
  const [single, named, first, shell, gone, wanted, unknown, outside, link] = await Promise.all([
    pick("a", node),
    pick({ other: "a", p: "b" }, node),
    pick({ one: "b", two: "a" }, node),
    pick("a", "#!/bin/sh"),
    pick("dist/none.js", node),
    pick({ other: "a", p: "b" }, node, "other"),
    pick({ other: "a", p: "b" }, node, "none"),
    pick("../../../usr/local/lib/mooring/install.mjs", node),
    installOffline(
      docker,
      `${folder("way-out.js", node)}; ln -s /usr/local/lib/mooring/install.mjs way-out.js`,
      "@x/p",
      "file:/p",
    ),
  ]);
  for (const line of [outside, link]) assert.match(line, /^mooring-install: no-bin: /);
  assert.equal(single, "node_modules/@x/p/a");
  assert.equal(named, "node_modules/@x/p/b");
  assert.equal(first, "node_modules/@x/p/b");
  assert.match(shell, /^mooring-install: bin-not-javascript: /);
  assert.match(gone, /^mooring-install: no-bin: /);
  assert.equal(wanted, "node_modules/@x/p/a");
  assert.match(unknown, /^mooring-install: no-bin: .* no bin none, .*; it has other, p$/);
});

/** The builder colours what a step writes on stderr. */
function plain(line: string): string {
  // deno-lint-ignore no-control-regex
  return line.replaceAll(/\x1b\[\d*m/g, "");
}

/** The certificates that this host's administrator added. */
async function* localAuthorities(): AsyncGenerator<string> {
  const directory = "/usr/local/share/ca-certificates";
  if (!await Deno.stat(directory).then(() => true, () => false)) return;
  for await (const { name } of Deno.readDir(directory)) {
    if (name.endsWith(".crt")) yield* pems(await Deno.readTextFile(`${directory}/${name}`));
  }
}

function pems(text: string): string[] {
  return text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
}

/** An image with the package installed; this host's extra CA certificates help npm alone. */
async function installed(
  docker: Docker,
  name: string,
  version: string,
  files: Record<string, string> = {},
  output: string[] = [],
): Promise<string> {
  const extra = Deno.env.get("NODE_EXTRA_CA_CERTS");
  const dockerfile = [
    `FROM ${NAME}`,
    "USER 0",
    "COPY extra-ca.pem /tmp/extra-ca.pem",
    "ENV NODE_EXTRA_CA_CERTS=/tmp/extra-ca.pem",
    ...Object.keys(files).map((file) => `COPY ${file} /app/${file}`),
    `RUN ${JSON.stringify(["node", "/usr/local/lib/mooring/install.mjs", name, version])}`,
    "USER 65532:65532",
  ].join("\n");
  const id = crypto.randomUUID();
  const tag = `mooring-test/base:${id}`;
  try {
    await docker.buildImage(
      writeTar({
        Dockerfile: dockerfile.replace("\n", `\nLABEL dev.mooring.test=${id}\n`),
        "extra-ca.pem": extra ? await Deno.readTextFile(extra) : "",
        ...files,
      }),
      { tag, buildArguments: {}, labels: {}, onLine: (line) => output.push(line) },
    );
    return tag;
  } catch (error) {
    for (const { Id } of await docker.listImages([`dev.mooring.test=${id}`], true)) {
      await docker.removeImage(Id);
    }
    throw error;
  }
}

/** Runs a container to its end, or to its first line of output when a message is sent to it. */
async function runOnce(
  docker: Docker,
  image: string,
  command: string[],
  { message, user, readOnly = true }: { message?: unknown; user?: string; readOnly?: boolean } = {},
) {
  const container = await docker.createContainer(`mooring-test-${crypto.randomUUID()}`, {
    Image: image,
    Entrypoint: command,
    User: user,
    OpenStdin: message !== undefined,
    HostConfig: { NetworkMode: "none", ReadonlyRootfs: readOnly },
  });
  try {
    const attachment = await docker.attachContainer(container);
    await docker.startContainer(container);
    if (message === undefined) return { stdout: await new Response(attachment.stdout).text() };
    const writer = attachment.stdin.getWriter();
    await writer.write(new TextEncoder().encode(JSON.stringify(message) + "\n"));
    let stdout = "";
    const decoder = new TextDecoder();
    for await (const bytes of attachment.stdout) {
      stdout += decoder.decode(bytes, { stream: true });
      if (stdout.includes("\n")) break;
    }
    attachment.close();
    await attachment.closed;
    return { stdout: stdout.split("\n", 1)[0] };
  } finally {
    await docker.removeContainer(container);
  }
}
